"""The command `tune`: trials, going on, the best file; a chief and its workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from reducible_train import RankHyperModel, SearchSpace, SizeAtQuality, load_model
from reducible_train.cli import _workers, app

SEARCH = """\
compression: {budget: 0.5}
search_space: {budget: [0.3, 0.8]}
training: {epochs: 1, batch_size: 32, seed: 1}
"""


def run(*arguments, **env):
    given = {"COLUMNS": "200", **env}
    return CliRunner().invoke(app, ["tune", *map(str, arguments)], env=given)


@pytest.fixture
def place(tmp_path):
    """A trained model, its data and a configuration."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((16,)),
            keras.layers.Dense(32, activation="relu", name="hidden"),
            keras.layers.Dense(3, activation="softmax", name="output"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 16)).astype("float32")
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    model.fit(x, y, epochs=3, verbose=0)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_val=x, y_val=y)
    (tmp_path / "search.yaml").write_text(SEARCH)
    return tmp_path


def asked(place, *more):
    files = [place / "model.keras", place / "data.npz", "-c", place / "search.yaml"]
    return [*files, "-o", place / "best.reducible", "--folder", place / "trials", *more]


@pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The training of model")
def test_trials_are_told_kept_and_gone_on_with(place):
    free = ("--max-drop", 0.9, "--tuner", "random")
    first = run(*asked(place, "--trials", 1, *free))
    assert first.exit_code == 0, first.output
    assert "trial 1 of 1  val_accuracy 0." in first.output
    assert f"saved   {place / 'best.reducible'}" in first.output
    small = load_model(place / "best.reducible")
    assert small.count_params() < keras.models.load_model(place / "model.keras").count_params()
    again = run(*asked(place, "--trials", 2, *free))
    assert "done before: 1 of 2 trials" in again.output
    assert "trial 2 of 2" in again.output
    assert "trial 1 of" not in again.output
    done = run(*asked(place, "--trials", 2, *free))
    assert "done before: 2 of 2 trials" in done.output
    assert "trial 2 of" not in done.output
    (place / "search.yaml").write_text(SEARCH.replace("0.8", "0.7"))
    other = run(*asked(place, "--trials", 2, *free))
    assert other.exit_code == 1
    assert "that of a search with another space" in other.output
    assert "choose another place with --folder" in other.output
    (place / "search.yaml").write_text(SEARCH)
    grid = run(*asked(place, "--trials", 3, "--max-drop", 0.9, "--tuner", "grid"))
    assert grid.exit_code == 1
    assert "grid cannot go on" in grid.output
    assert load_model(place / "best.reducible").count_params() > 0, "the file is as it was"


@pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The training of model")
def test_an_analysis_begins_the_search_and_another_is_refused(place):
    files = [str(place / "model.keras"), str(place / "data.npz")]
    for metric in ("accuracy", "loss"):
        file = str(place / f"{metric}.json")
        found = CliRunner().invoke(app, ["analyze", *files, "--metric", metric, "--file", file])
        assert found.exit_code == 0, found.output
    asks = asked(place, "--trials", 1, "--max-drop", 0.05, "--tuner", "random")
    other = run(*asks, "--analysis", place / "loss.json")
    assert other.exit_code == 1
    assert "must be of the metric that the search holds: 'accuracy'" in other.output
    missing = run(*asks, "--analysis", place / "nowhere.json")
    assert missing.exit_code == 1
    assert "nowhere.json" in missing.output
    assert not finished(place)
    found = run(*asks, "--analysis", place / "accuracy.json")
    assert found.exit_code in (0, 3), found.output
    told = json.loads((place / "trials" / "trials" / "trial_0" / "trial.json").read_text())
    space = SearchSpace(budget=(0.3, 0.8))
    goal = SizeAtQuality("val_accuracy", max_drop=0.05)
    model = keras.models.load_model(place / "model.keras")
    analysis = place / "accuracy.json"
    foresight = RankHyperModel(model, space, objective=goal, analysis=analysis).foresight
    assert told["hyperparameters"]["values"] == foresight.proposals[0]


@pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The training of model")
def test_the_exit_code_tells_that_none_was_good_enough(place):
    found = run(*asked(place, "--trials", 1, "--max-size", 0.01, "--tuner", "random"))
    assert found.exit_code == 3, found.output
    assert "No trial kept to what was asked" in found.output
    assert (place / "best.reducible").exists()


def test_what_cannot_work_is_told_before_training(place):
    config = place / "search.yaml"
    config.write_text("compression: {budget: 0.5}\n")
    found = run(*asked(place))
    assert found.exit_code == 1
    assert "$.training.epochs" in found.output
    assert "search_space says what is searched" in found.output
    config.write_text(SEARCH.replace("[0.3, 0.8]", "[0.8, 0.3]"))
    assert "$.search_space.budget" in run(*asked(place)).output
    config.write_text(SEARCH.replace("0.8]", "0.8], criterion: measured"))
    measured = run(*asked(place)).output
    assert "$.search_space.criterion" in measured
    assert "'fisher' in its place" in measured
    config.write_text(SEARCH)
    data = place / "data.npz"
    held = dict(np.load(data))
    np.savez(data, x=held["x_train"], y=held["y_train"])
    assert "needs validation data" in run(*asked(place)).output
    assert not (place / "trials").exists()


def test_a_worker_needs_its_chief_and_a_chief_its_port(place, monkeypatch):
    alone = run(*asked(place), KERASTUNER_TUNER_ID="worker-1")
    assert alone.exit_code == 1
    assert "without KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT" in alone.output
    monkeypatch.setattr(_workers, "_PATIENCE", 0.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        where = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": port}
        nobody = run(*asked(place), KERASTUNER_TUNER_ID="worker-1", **where)
        assert "nobody at 127.0.0.1" in nobody.output
        taken.listen()
        second = run(*asked(place), KERASTUNER_TUNER_ID="chief", **where)
        assert "Another chief may be running there" in second.output
    many = run(*asked(place, "--workers", 2), KERASTUNER_TUNER_ID="chief", **where)
    assert "--workers must be 1" in many.output


def finished(place):
    found = {}
    for path in (place / "trials" / "trials").glob("trial_*/trial.json"):
        trial = json.loads(path.read_text())
        if trial["status"] == "COMPLETED":
            found[trial["trial_id"]] = trial["score"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["chief", "worker-1", "all"])
def test_whatever_is_killed_no_finished_trial_is_lost(place, victim):
    command = [sys.executable, "-m", "reducible_train", "tune"]
    command += [*map(str, asked(place, "--trials", 6, "--workers", 2, "--max-drop", 0.9))]
    search = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    until = time.monotonic() + 300
    while not finished(place):
        assert search.poll() is None
        assert time.monotonic() < until
        time.sleep(0.2)
    kept = finished(place)
    if victim == "all":
        search.kill()
        search.wait()
        time.sleep(3)  # its processes follow it
    else:
        pids = subprocess.run(["pgrep", "-P", str(search.pid)], capture_output=True, text=True)
        for pid in pids.stdout.split():
            with open(f"/proc/{pid}/environ", encoding="utf-8") as told:
                if f"KERASTUNER_TUNER_ID={victim}\0" in told.read():
                    os.kill(int(pid), signal.SIGKILL)
        assert search.wait(timeout=500) == 0
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    found = finished(place)
    assert len(found) == 6
    assert {name: found[name] for name in kept} == kept
