"""The command `tune`: trials, going on, the best file; a chief and its workers."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from importlib import import_module
from types import SimpleNamespace
from typing import ClassVar

import keras
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from reducible_train import RankHyperModel, SearchSpace, SizeAtQuality, load_model, save_model
from reducible_train.cli import _workers, app
from reducible_train.cli._data import read_arrays
from reducible_train.cli._goal import goal
from reducible_train.cli._interrupts import noticed_interrupts
from reducible_train.cli._trials import Ended, Progress, ended
from reducible_train.cli._tuning import Tuning
from reducible_train.config import load_config
from reducible_train.errors import ArgumentError, ArgumentTypeError, FileAccessError

tune_module = import_module("reducible_train.cli.tune")
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


def test_the_best_does_not_go_where_the_trials_are(place):
    files = [place / "model.keras", place / "data.npz", "-c", place / "search.yaml"]
    found = run(*files, "-o", place / "both", "--folder", place / "both")
    assert found.exit_code == 1
    assert "--out must be another file" in found.output
    assert not (place / "both").exists()


def asked(place, *more):
    files = [place / "model.keras", place / "data.npz", "-c", place / "search.yaml"]
    return [*files, "-o", place / "best.reducible", "--folder", place / "trials", *more]


@pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The training of model")
def test_trials_are_told_kept_and_gone_on_with(place):
    free = ("--max-drop", 0.9, "--tuner", "random")
    note = np.array([{}], object)  # of no use here, so it may be anything
    with np.load(place / "data.npz") as file:
        data = dict(file)
    np.savez(place / "data.npz", **data, note=note)
    first = run(*asked(place, "--trials", 1, *free))
    assert first.exit_code == 0, first.output
    assert f"not used of {place / 'data.npz'}: note" in first.output
    assert "trial 0 (1 of 1 done)  val_accuracy 0." in first.output
    assert f"saved   {place / 'best.reducible'}" in first.output
    small = load_model(place / "best.reducible")
    assert small.count_params() < keras.models.load_model(place / "model.keras").count_params()
    again = run(*asked(place, "--trials", 2, *free))
    assert "done before: 1 of 2 trials" in again.output
    assert "trial 1 (2 of 2 done)" in again.output
    assert "trial 0 (" not in again.output
    done = run(*asked(place, "--trials", 2, *free))
    assert "done before: 2 of 2 trials" in done.output
    assert "trial 1 (" not in done.output
    for path in (place / "trials" / "trials").glob("trial_*/model.reducible"):
        path.unlink()  # its checkpoint will do
    shutil.copytree(
        place / "trials" / "trials" / "trial_1", place / "trials" / "trials" / "trial_1.before"
    )
    (place / "best.reducible").unlink()
    more = run(*asked(place, "--trials", 1, *free))
    assert "done before: 2 of 1 trials, more than are asked for" in more.output
    assert load_model(place / "best.reducible").count_params() == small.count_params()
    (place / "search.yaml").write_text(SEARCH.replace("0.8", "0.7"))
    other = run(*asked(place, "--trials", 2, *free))
    assert other.exit_code == 1
    assert "that of a search with another space" in other.output
    assert "choose another place with --folder" in other.output
    (place / "search.yaml").write_text(SEARCH.replace("seed: 1", "seed: 2"))
    assert "another seed (1, now 2)" in run(*asked(place, "--trials", 2, *free)).output
    (place / "search.yaml").write_text(SEARCH)
    grown = run(*asked(place, "--trials", 2, *free, "--epochs", 2))
    assert "other training settings (epochs 1, now 2)" in grown.output
    np.savez(place / "data.npz", **{**data, "x_train": data["x_train"] + 1})
    assert "a search with other data" in run(*asked(place, "--trials", 2, *free)).output
    np.savez(place / "data.npz", **data)
    bayesian = run(*asked(place, "--trials", 2, "--max-drop", 0.9))
    assert "another tuner (RandomSearch, now BayesianOptimization)" in bayesian.output
    assert load_model(place / "best.reducible").count_params() > 0, "the file is as it was"


@pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The training of model")
def test_a_grid_goes_on_until_nothing_is_left(place):
    (place / "search.yaml").write_text(SEARCH.replace("[0.3, 0.8]", "[0.4, 0.6, 0.8]"))
    asks = ("--max-drop", 0.9, "--tuner", "grid")
    assert "trial 0 (1 of 1 done)" in run(*asked(place, "--trials", 1, *asks)).output
    found = run(*asked(place, "--trials", 9, *asks)).output
    assert "done before: 1 of 9 trials" in found
    assert "trial 2 (3 of 9 done)" in found
    assert "3 of 9 trials: the tuner finds nothing else to try" in found
    project = place / "trials" / "trials"
    (project / "trial_1").rename(project / "trial_1.old")
    assert sorted(ended(project)) == ["0", "2"]


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
    assert "budget from 30.0% to " in found.output
    assert " can win by the analysis" in found.output
    told = json.loads((place / "trials" / "trials" / "trial_0" / "trial.json").read_text())
    space = SearchSpace(budget=(0.3, 0.8))
    asked_for = SizeAtQuality("val_accuracy", max_drop=0.05)
    model = keras.models.load_model(place / "model.keras")
    analysis = place / "accuracy.json"
    foresight = RankHyperModel(model, space, objective=asked_for, analysis=analysis).foresight
    assert told["hyperparameters"]["values"] == foresight.first
    plain = run(*asked(place, "--trials", 1, "--max-drop", 0.05, "--folder", place / "plain"))
    assert plain.exit_code in (0, 3), plain.output
    told = json.loads((place / "plain" / "trials" / "trial_0" / "trial.json").read_text())
    first = RankHyperModel(model, space, objective=asked_for).foresight.first
    assert told["hyperparameters"]["values"] == first, "that of Bayesian optimisation is drawn"


def test_a_line_tells_the_quality_and_the_size_of_the_best_whatever_its_score(tmp_path):
    shown = "val_loss", "params_fraction"
    rows = {"0": (1285.0, 0.45, 10.88), "1": (1447.0, 0.4, 10.89)}
    done = {
        name: Ended(dict(zip((*shown, "score"), row, strict=True))) for name, row in rows.items()
    }
    progress = Progress(Console(), tmp_path, 2, "min", shown)
    progress._told = set(done)
    line = progress._line(done, "1")
    assert line.startswith("val_loss 1447.0000  params fraction 40.0%  best 1285.0000 at 45.0%")


def test_what_is_wrong_with_the_goal_is_said_of_its_options():
    with pytest.raises(ArgumentTypeError, match=r"^--monitor must .* Received: --monitor ''\."):
        goal("", None, None)
    with pytest.raises(ArgumentError, match=r"^--max-size must .* Received: --max-size 2\."):
        goal("val_loss", None, 2.0)


def test_it_says_why_trials_are_not_steered(place):
    loaded, arrays = load_config(place / "search.yaml"), read_arrays(place / "data.npz")
    network = keras.models.load_model(place / "model.keras")

    def said(tuner, budget, max_size=None):
        space, asks = SearchSpace(budget=budget), goal("val_accuracy", None, max_size)
        console = Console(file=io.StringIO(), width=200)
        Tuning(loaded, space, network, arrays, place / "t", tuner, 1, asks).progress(console)
        return console.file.getvalue()

    start = "nothing is foreseen of"
    assert f"{start} the best quality within a size" in said("bayesian", (0.3, 0.8), max_size=0.5)
    assert f"{start} budgets to choose from" in said("bayesian", (0.3, 0.5, 0.8))
    assert f"{start} a budget of flops" in said("bayesian", {"flops": (0.3, 0.8)})
    assert start not in said("bayesian", (0.3, 0.8))
    assert start not in said("random", (0.3, 0.8), max_size=0.5), "it chooses alone anyway"


@pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The training of model")
@pytest.mark.filterwarnings("ignore:No trial is asked to be small enough")
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
    falls = "epochs: 1, learning_rate_schedule: cosine"
    config.write_text(
        SEARCH.replace("0.8]", "0.8], learning_rate: [0.001, 0.01]").replace("epochs: 1", falls)
    )
    rates = run(*asked(place)).output
    assert "$.training.learning_rate_schedule" in rates
    assert "Remove it, or learning_rate of search_space" in rates
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


def refused(place, monkeypatch, *more, **env):
    """What is said before TensorFlow is loaded."""

    def load():
        raise AssertionError("TensorFlow is loaded first")

    monkeypatch.setattr(tune_module, "load_keras", load)
    found = run(*asked(place, *more), **env)
    assert found.exit_code == 1, found.output
    assert "TensorFlow" not in found.output
    return found.output


def test_bounds_are_told_by_their_own_flags(place, monkeypatch):
    size = refused(place, monkeypatch, "--max-size", 2)
    assert "--max-size must be" in size
    assert "limit" not in size
    assert "--max-drop must be" in refused(place, monkeypatch, "--max-drop", 5)
    both = refused(place, monkeypatch, "--max-drop", 0.1, "--max-size", 0.2)
    assert "Only one of --max-drop and --max-size" in both
    assert not (place / "trials").exists()


def test_names_and_addresses_are_told_apart(place, monkeypatch):
    where = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": "8000"}
    asks = lambda **env: refused(place, monkeypatch, **env)  # noqa: E731
    assert "Received: 'chief-2'" in asks(**where, KERASTUNER_TUNER_ID="chief-2")
    assert "must come with KERASTUNER_TUNER_ID" in asks(**where)
    for port in ("0", "99999", "http"):
        given = {**where, "KERASTUNER_ORACLE_PORT": port, "KERASTUNER_TUNER_ID": "chief"}
        assert f"from 1 to 65535. Received: '{port}'" in asks(**given)
    chief = {**where, "KERASTUNER_TUNER_ID": "chief"}
    for elsewhere in ("192.0.2.1", "no.such.host.invalid"):
        found = asks(**{**chief, "KERASTUNER_ORACLE_IP": elsewhere})
        assert "an address of the machine it runs on" in found
        assert "Another chief" not in found
    monkeypatch.setattr(_workers.os, "name", "nt")
    windows = pytest.raises(ArgumentError, match="--workers needs Linux or macOS")
    with windows:
        _workers.check_workers(2)


def test_a_second_search_in_a_folder_waits_for_nobody(place, monkeypatch):
    code = (
        "import sys, time; from pathlib import Path; "
        "from reducible_train.tuner.folder_lock import holding\n"
        "with holding(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(place / "trials" / "trials")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "held\n"
            found = refused(place, monkeypatch)
        finally:
            other.kill()
    assert f"while process {other.pid} on" in found
    assert "choose another folder" in found


@pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The training of model")
@pytest.mark.filterwarnings("ignore:The smallest budgets of the search space")
def test_failed_trials_have_their_lines(place):
    floors = "search_space: {budget: [0.45, 0.46, 0.9], min_rank: {hidden: [1, 9, 10]}}"
    config = SEARCH.replace("search_space: {budget: [0.3, 0.8]}", floors)
    (place / "search.yaml").write_text(config)
    found = run(*asked(place, "--trials", 5, "--max-drop", 0.9, "--tuner", "random"))
    assert found.exit_code == 0, found.output
    lines = [line for line in found.output.splitlines() if line.startswith("trial")]
    failed = [line for line in lines if "failed: RankError: `budget` cannot be met" in line]
    assert len(failed) in range(1, 5)
    assert "not used: compression.budget (a search takes" in found.output
    assert "UserWarning" not in found.output


@pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning")
def test_a_search_of_failed_trials_quotes_the_first(place, monkeypatch):
    def breaks(*_, **__):
        raise OSError("the disk is gone. And more")

    monkeypatch.setattr("reducible_train.tuner.hypermodel.run_trial", breaks)
    found = run(*asked(place, "--trials", 4, "--max-size", 0.9))
    assert found.exit_code == 1, found.output
    assert found.output.count("failed: OSError: the disk is gone") == 4
    assert "4 trials that all failed, the first with: OSError: the disk is gone." in found.output
    assert "Traceback" not in found.output
    assert not (place / "best.reducible").exists()


@pytest.fixture
def usual_interrupts():
    """A worker of the tests may ignore them, and its processes with it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_that_python_has_dropped_is_noticed(usual_interrupts):
    with noticed_interrupts() as check:
        check()
        with contextlib.suppress(KeyboardInterrupt):  # as the callback of a weak reference does
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is usual_interrupts


class Interrupts:
    """Has an interrupt come where Python drops what it raises."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("usual_interrupts")
def test_an_interrupt_that_python_drops_is_raised_soon_after_without_a_word(capsys):
    def drop(seconds):
        Interrupts()
        time.sleep(seconds)

    hook, begun = sys.unraisablehook, time.monotonic()
    sys.unraisablehook = sys.__unraisablehook__
    try:
        with pytest.raises(KeyboardInterrupt), noticed_interrupts():
            drop(20)
        assert time.monotonic() - begun < 10  # it has not slept to its end
        with noticed_interrupts():
            drop(0)
        time.sleep(0.2)  # it is over
        assert capsys.readouterr().err == ""
        assert sys.unraisablehook is sys.__unraisablehook__
    finally:
        sys.unraisablehook = hook


@pytest.mark.usefixtures("usual_interrupts")
def test_an_interrupt_that_has_been_noticed_is_not_raised_once_more():
    times = 0
    with noticed_interrupts() as check:
        Interrupts()
        for work in (check, lambda: time.sleep(0.2)):  # the second keeps what there is
            try:
                work()
            except KeyboardInterrupt:
                times += 1
    assert times == 1


@pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The training of model")
@pytest.mark.parametrize("full", [OSError(28, "No space left on device"), FileAccessError("Full")])
def test_a_full_disk_ends_the_search_and_fails_no_trial(place, monkeypatch, full):
    full.__cause__ = OSError(28, "No space left on device")

    def breaks(*_, **__):
        raise full

    asks = asked(place, "--trials", 1, "--max-size", 0.9, "--tuner", "random")
    with monkeypatch.context() as patched:
        patched.setattr("reducible_train.tuner.hypermodel.run_trial", breaks)
        found = run(*asks)
    assert found.exit_code == 1
    assert "Make room there. Finished trials are kept" in found.output
    assert "trial 0 (1 of 1 done)" in run(*asks).output


def test_a_file_that_cannot_be_written_is_no_lost_trial(tmp_path, monkeypatch):
    """There may be no checkpoint any more; to remove the trial's folder would cost the trial."""
    good, out = tmp_path / "model.reducible", tmp_path / "folder"
    out.mkdir()
    save_model(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), good)
    tuning = object.__new__(Tuning)
    lost = ["there is no checkpoint"]
    tuning._tuner = SimpleNamespace(load_model=lost.index, get_trial_dir=lambda _: "trial_0")
    trial = SimpleNamespace(trial_id="0")
    with pytest.raises(FileAccessError, match="folder"):
        tuning._save(trial, good, out)
    tuning._save(trial, good, tmp_path / "best.reducible")
    assert load_model(tmp_path / "best.reducible").count_params() == 8
    good.write_bytes(b"damaged")
    with pytest.raises(ArgumentError, match="neither that can be read in trial_0"):
        tuning._save(trial, good, out)


class Process:
    """One that ends with each of some codes in turn, as often as it is begun."""

    codes: ClassVar[list[int]] = []

    def __init__(self, *_, **__):
        self._code = Process.codes.pop(0) if Process.codes else 0

    def poll(self):
        return self._code

    def wait(self):
        return self._code


def test_deaths_count_from_the_last_finished_trial(tmp_path, monkeypatch):
    monkeypatch.setattr(_workers, "_LOOK", 0.0)
    monkeypatch.setattr(_workers.subprocess, "Popen", Process)
    told = Console(quiet=True)
    Process.codes = [-9, 0] * 8  # the chief dies eight times, its worker is idle
    _workers.Workers(1, tmp_path).run(told, lambda: 1)
    Process.codes = [-9, 0] * 8
    monkeypatch.setattr(_workers.Workers, "_is_done", lambda self: False)
    with pytest.raises(ArgumentError, match="have finished no trial"):
        _workers.Workers(1, tmp_path).run(told, lambda: 0)


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
    free = ("--max-drop", 0.9, "--tuner", "random")  # which does not end before
    command += [*map(str, asked(place, "--trials", 6, "--workers", 2, *free))]
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


def test_what_is_refused_leaves_the_folder_to_the_next(place):
    first = run(*asked(place, "--trials", 1, "--monitor", "val_acc", "--max-drop", 0.9))
    assert first.exit_code == 1
    assert "val_acc" in first.output
    assert "Name it in training.metrics, or compile the model with it." in first.output
    counts = SEARCH.replace("seed: 1", "seed: 1, metrics: [TruePositives]")
    (place / "search.yaml").write_text(counts)
    first = run(*asked(place, "--trials", 1, "--monitor", "val_TruePositives"))
    assert first.exit_code == 1
    assert "Choose one of which Keras knows it" in first.output
    assert "mode='max'" not in first.output
    (place / "search.yaml").write_text(SEARCH)
    again = run(*asked(place, "--trials", 1, "--max-drop", 0.9, "--tuner", "random"))
    assert again.exit_code == 0, again.output
