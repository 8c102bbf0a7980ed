"""What a kill leaves in the folder of a search is set right, and no finished trial is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings

import keras
import pytest
from searches import hypermodel, network, search, trials_of

from reducible_train.errors import ArgumentError
from reducible_train.tuner.errors import SearchError
from reducible_train.tuner.folder_lock import holding
from reducible_train.tuner.kept_files import mend

FIT = {"epochs": 1}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A start, the folder of two finished trials, and what all three are told undisturbed."""
    model, folder = network(), tmp_path_factory.mktemp("begun")
    search(folder / "two", hypermodel(model), trials=2, fit=FIT)
    whole = search(folder / "three", hypermodel(model), trials=3, fit=FIT)
    return model, folder / "two" / "s", told(whole)


def told(tuner):
    return [each.hyperparameters.values for each in trials_of(tuner)]


def read(path):
    return json.loads(path.read_text())


def change(path, **values):
    path.write_text(json.dumps({**read(path), **values}))


def cut(path, share=0.0):
    text = path.read_text()
    path.write_text(text[: int(share * len(text))])


def running(project, trial):
    """A kill has left a trial that runs."""
    change(project / trial / "trial.json", status="RUNNING", score=None)
    oracle = read(project / "oracle.json")
    ended = [each for each in oracle["end_order"] if not trial.endswith(each)]
    change(project / "oracle.json", end_order=ended)


def ended_but_not_told(project):
    change(project / "oracle.json", end_order=["0"], ongoing_trials={"tuner0": "1"})


def begun_but_not_told(project):
    """The third trial was chosen, its file written, the oracle's not."""
    (project / "trial_2").mkdir()
    shutil.copy(project / "trial_1" / "trial.json", project / "trial_2")
    empty = {"status": "RUNNING", "score": None, "metrics": {"metrics": {}}}
    change(project / "trial_2" / "trial.json", trial_id="2", **empty)


LEFT = {
    "the oracle, empty": lambda project: cut(project / "oracle.json"),
    "the oracle, half": lambda project: cut(project / "oracle.json", 0.5),
    "no oracle": lambda project: (project / "oracle.json").unlink(),
    "the tuner": lambda project: (project / "tuner0.json").write_text(""),
    "a trial": lambda project: cut(project / "trial_1" / "trial.json", 0.9),
    "a running trial": lambda project: running(project, "trial_1"),
    "ended, not told": ended_but_not_told,
    "begun, not told": begun_but_not_told,
}


@pytest.mark.parametrize("left", LEFT)
def test_a_search_goes_on_from_whatever_a_kill_has_left(left, begun, tmp_path):
    model, folder, whole = begun
    project = tmp_path / "s"
    shutil.copytree(folder, project)
    before = {name: (project / f"trial_{name}/trial.json").read_text() for name in "01"}
    LEFT[left](project)
    with warnings.catch_warnings(record=True) as lines:
        warnings.simplefilter("always")
        tuner = search(tmp_path, hypermodel(model), trials=3, fit=FIT)
    assert told(tuner) == whole
    assert len(read(project / "oracle.json")["end_order"]) == 3
    after = {name: (project / f"trial_{name}/trial.json").read_text() for name in "01"}
    assert after["0"] == before["0"]
    if left in ("a trial", "a running trial"):  # once more, and the same
        assert read(project / "trial_1" / "trial.json") == json.loads(before["1"])
    else:
        assert after["1"] == before["1"]
    aside = list(project.glob("**/*.cut"))
    told_of = [str(each.message) for each in lines if "was cut by a kill" in str(each.message)]
    assert (
        len(aside)
        == len(told_of)
        == (left in ("the oracle, empty", "the oracle, half", "a trial", "the tuner"))
    )


def test_a_trial_of_which_nothing_can_be_read_is_drawn_again(begun, tmp_path):
    model, folder, whole = begun
    project = tmp_path / "s"
    shutil.copytree(folder, project)
    cut(project / "trial_0" / "trial.json")
    with pytest.warns(UserWarning, match="its trial runs again"):
        tuner = search(tmp_path, hypermodel(model), trials=2, fit=FIT)
    assert told(tuner)[1:] == whole[1:2]
    assert told(tuner)[0].keys() == whole[0].keys()


def test_a_file_is_replaced_in_one_step(begun, tmp_path, monkeypatch):
    model, folder, _ = begun
    shutil.copytree(folder, tmp_path / "s")
    tuner = search(tmp_path, hypermodel(model), trials=2, fit=FIT)
    before = (tmp_path / "s" / "oracle.json").read_text()
    tuner.oracle.start_order.append("2")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        tuner.oracle.save()
    assert (tmp_path / "s" / "oracle.json").read_text() == before


def test_the_file_of_an_engine_that_keeps_more_is_not_guessed(begun, tmp_path):
    shutil.copytree(begun[1], tmp_path / "s")
    cut(tmp_path / "s" / "oracle.json", 0.5)
    with pytest.raises(SearchError, match="what it held is not in those of its trials"):
        mend(tmp_path / "s", {"brackets": []})
    assert (tmp_path / "s" / "oracle.json").exists()


def test_an_undisturbed_folder_stays_as_it_is(begun):
    project = begun[1]
    files = {path: path.read_bytes() for path in project.glob("**/*.json")}
    assert mend(project, {}) == []
    assert {path: path.read_bytes() for path in project.glob("**/*.json")} == files


def test_another_process_in_the_folder_ends_a_search(begun, tmp_path):
    code = (
        "import sys, time; from pathlib import Path; "
        "from reducible_train.tuner.folder_lock import holding\n"
        "with holding(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "s")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "held\n"
            with pytest.raises(SearchError, match=f"process {other.pid} on .* searches in it"):
                search(tmp_path, hypermodel(begun[0]), trials=1, fit=FIT)
        finally:
            other.kill()
    with holding(tmp_path / "s"), holding(tmp_path / "s"):  # of a dead process, and again
        pass
    search(tmp_path, hypermodel(begun[0]), trials=1, fit=FIT)


def test_a_file_of_somebody_else_stays(begun, tmp_path):
    project = shutil.copytree(begun[1], tmp_path / "s")
    mine = project / "front.json"
    mine.write_text("[1, 2]")
    assert mend(project, {}) == []
    assert mine.read_text() == "[1, 2]"
    mine.write_text("[1,")
    assert "front.json.cut" in " ".join(mend(project, {}))
    assert (project / "front.json.cut").read_text() == "[1,"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes are forked")
def test_a_forked_process_holds_no_lock_and_keeps_none(tmp_path):
    with holding(tmp_path):
        pid = os.fork()
        if pid == 0:
            try:
                with holding(tmp_path):
                    os._exit(1)
            except ArgumentError:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0, "the lock is its parent's"
        ends, waits = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(waits)
            os.read(ends, 1)
            os._exit(0)
    with holding(tmp_path):
        pass
    os.close(waits)
    os.close(ends)
    os.waitpid(pid, 0)


def test_a_builder_with_hyperparameters_of_its_own_goes_on(tmp_path):
    def build(hp):
        model = network()
        rate = hp.Float("rate", 1e-4, 1e-2, sampling="log")
        model.compile(keras.optimizers.Adam(rate), model.loss, metrics=["accuracy"])
        return model

    for trials in (1, 2):
        done = search(tmp_path, hypermodel(build), trials=trials, fit={"epochs": 1})
    assert len(trials_of(done)) == 2
