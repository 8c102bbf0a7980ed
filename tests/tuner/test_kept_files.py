"""What a kill leaves in the folder of a search is set right, and no finished trial is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import keras
import keras_tuner
import pytest
from keras_tuner.src.distribute import oracle_chief
from searches import FIT as ONCE
from searches import X, Y, hypermodel, network, random_search, search, trials_of

from reducible_train import SearchSpace
from reducible_train.container import holding as container_holding
from reducible_train.errors import ArgumentError, FormatError
from reducible_train.tuner import folder_lock, pareto
from reducible_train.tuner.errors import SearchError
from reducible_train.tuner.folder_lock import holding
from reducible_train.tuner.kept_files import mend
from reducible_train.tuner.project import Project

DATA = X, Y
FIT = {"epochs": 1}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A start, the folder of two finished trials, and what all three are told undisturbed."""
    model, folder = network(), tmp_path_factory.mktemp("begun")
    search(folder / "two", hypermodel(model), trials=2, fit=FIT)
    whole = search(folder / "three", hypermodel(model), trials=3, fit=FIT)
    tried = sorted(whole.oracle._tried_so_far), dict(whole.oracle._id_to_hash)
    return model, folder / "two" / "s", told(whole), tried


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


def a_copy_beside(project):
    """Of a trial as it once was, which nobody may take for the trial."""
    copy = project / "trial_1.before" / "trial.json"
    shutil.copytree(project / "trial_1", copy.parent)
    change(copy, score=-1.0)
    return copy


LEFT = {
    "the oracle, empty": lambda project: cut(project / "oracle.json"),
    "the oracle, half": lambda project: cut(project / "oracle.json", 0.5),
    "no oracle": lambda project: (project / "oracle.json").unlink(),
    "the tuner": lambda project: (project / "tuner0.json").write_text(""),
    "a trial": lambda project: cut(project / "trial_1" / "trial.json", 0.9),
    "a running trial": lambda project: running(project, "trial_1"),
    "ended, not told": ended_but_not_told,
    "begun, not told": begun_but_not_told,
    "the oracle, of another form": lambda project: (project / "oracle.json").write_text("{}"),
    "a trial, of another form": lambda project: change(
        project / "trial_1" / "trial.json", metrics=None, status="RUNNING"
    ),
    "a done trial without its score": lambda project: change(
        project / "trial_1" / "trial.json", score=None
    ),
    "a done trial without metrics": lambda project: change(
        project / "trial_1" / "trial.json", metrics={"metrics": {}}
    ),
    "trials that nobody knows": lambda project: change(
        project / "oracle.json",
        retry_queue=["99"],
        end_order=["5", "0", "1"],
        ongoing_trials={"tuner0": "7"},
    ),
    "a trial that there never was": lambda project: change(
        project / "oracle.json", start_order=["0", "1", "7"]
    ),
    "the oracle, a part of another kind": lambda project: change(
        project / "oracle.json", tried_so_far=None
    ),
    "a copy of a trial": a_copy_beside,
    "a copy that was cut": lambda project: cut(a_copy_beside(project), 0.5),
}
BROKEN = (
    "a trial, of another form",
    "a done trial without its score",
    "a done trial without metrics",
)
AGAIN = ("a trial", "a running trial", *BROKEN)
ASIDE = (
    "the oracle, empty",
    "the oracle, half",
    "the oracle, of another form",
    "the oracle, a part of another kind",
    "a trial",
    "the tuner",
    "a copy that was cut",
    *BROKEN,
)


@pytest.mark.parametrize("left", LEFT)
def test_a_search_goes_on_from_whatever_a_kill_has_left(left, begun, tmp_path):
    model, folder, whole, tried = begun
    project = tmp_path / "s"
    shutil.copytree(folder, project)
    before = {name: (project / f"trial_{name}/trial.json").read_text() for name in "01"}
    LEFT[left](project)
    with warnings.catch_warnings(record=True) as lines:
        warnings.simplefilter("always")
        tuner = search(tmp_path, hypermodel(model), trials=3, fit=FIT)
    assert told(tuner) == whole
    oracle = read(project / "oracle.json")
    assert len(oracle["end_order"]) == 3
    assert (sorted(oracle["tried_so_far"]), oracle["id_to_hash"]) == tried
    assert min(each.score for each in trials_of(tuner)) >= 0
    after = {name: (project / f"trial_{name}/trial.json").read_text() for name in "01"}
    assert after["0"] == before["0"]
    if left in AGAIN:  # once more, and the same
        assert read(project / "trial_1" / "trial.json") == json.loads(before["1"])
    else:
        assert after["1"] == before["1"]
    aside = list(project.glob("**/*.cut"))
    words = ("was cut by a kill", "is not what keras-tuner has written")
    told_of = [each for each in lines if any(word in str(each.message) for word in words)]
    assert len(aside) == len(told_of) == (left in ASIDE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"start_order": [0, 1]},
        {"ongoing_trials": {"tuner0": {}}},
        {"hyperparameters": {}},
        {"run_times": {"0": "a"}},
        {"seed_state": "x"},
    ],
)
def test_an_oracle_of_another_form_is_made_again(wrong, begun, tmp_path):
    project = shutil.copytree(begun[1], tmp_path / "s")
    fresh = random_search(tmp_path / "new", hypermodel(begun[0])).oracle.get_state()
    kept = read(project / "oracle.json")
    change(project / "oracle.json", **wrong)
    (line,) = mend(project, fresh)
    assert "is not what keras-tuner has written" in line
    found = read(project / "oracle.json")
    assert found.keys() == kept.keys()
    assert found["end_order"] == kept["end_order"]


@pytest.mark.parametrize("wrong", [{"dense": {"val_loss": None}}, {"optional": {"space": 3}}])
def test_what_a_folder_says_in_another_form_is_said_anew(wrong, tmp_path):
    told = {"space": {"budget": 0.5}, "optional": {"space": []}}
    Project(tmp_path, told).keep("val_loss", 0.5)
    assert Project(tmp_path, told).dense == {"val_loss": 0.5}
    change(tmp_path / "reducible_search.json", **wrong)
    project = Project(tmp_path, told)
    project.begin()
    assert project.dense == {}
    project.keep("val_loss", 0.25)
    assert read(tmp_path / "reducible_search.json") == told | {"dense": {"val_loss": 0.25}}


def test_a_trial_of_which_nothing_can_be_read_is_drawn_again(begun, tmp_path):
    model, folder, whole, tried = begun
    project = tmp_path / "s"
    shutil.copytree(folder, project)
    cut(project / "trial_0" / "trial.json")
    with pytest.warns(UserWarning, match="other values are tried in its place"):
        tuner = search(tmp_path, hypermodel(model), trials=2, fit=FIT)
    assert told(tuner)[1:] == whole[1:2]
    assert told(tuner)[0].keys() == whole[0].keys()
    assert len(set(tried[0])) == 3


def test_a_file_of_another_trial_is_left_alone_or_set_aside_as_it_is_told(begun, tmp_path):
    """Where a trial is missed its name has to be one, or the next takes the name of another."""
    project = shutil.copytree(begun[1], tmp_path / "s")
    ours, copy = (project / f"trial_{name}" / "trial.json" for name in "07")
    shutil.copytree(ours.parent, copy.parent)
    kept = copy.read_bytes()
    ours.write_bytes((project / "trial_1" / "trial.json").read_bytes())
    others = ours.read_bytes()
    aside, alone = mend(project, {})
    assert aside == (
        f"{ours} says that it is trial 1 and is now trial.json.cut; "
        "other values are tried in its place"
    )
    assert ours.with_name("trial.json.cut").read_bytes() == others
    assert (
        read(ours)["hyperparameters"]["values"] != json.loads(others)["hyperparameters"]["values"]
    )
    assert alone == f"{copy} says that it is trial 0; it is left alone"
    assert copy.read_bytes() == kept


def test_a_trial_between_others_that_is_gone_is_run_again(begun, tmp_path):
    """The next one is called by how many there are: it would take the place of another."""
    project = tmp_path / "s"
    shutil.copytree(begun[1], project)
    shutil.rmtree(project / "trial_0")
    (project / "oracle.json").unlink()
    kept = (project / "trial_1" / "trial.json").read_text()
    with warnings.catch_warnings(record=True) as lines:
        warnings.simplefilter("always")
        tuner = search(tmp_path, hypermodel(begun[0]), trials=3, fit=FIT)
    assert "trial.json is not there; other values are tried in its place" in " ".join(
        str(each.message) for each in lines
    )
    assert [each.trial_id for each in trials_of(tuner)] == ["0", "1", "2"]
    assert (project / "trial_1" / "trial.json").read_text() == kept


def test_a_tuner_that_was_made_before_another_went_on_takes_up_its_trials(begun, tmp_path):
    model, folder, *_ = begun
    shutil.copytree(folder, tmp_path / "s")
    early = random_search(tmp_path, hypermodel(model), trials=4)
    search(tmp_path, hypermodel(model), trials=3, fit=FIT)
    third = tmp_path / "s" / "trial_2" / "trial.json"
    kept = third.stat().st_mtime_ns  # a trial that ran again would be the same
    early.search(*DATA, **(ONCE | FIT))
    assert third.stat().st_mtime_ns == kept
    assert len(trials_of(early)) == 4


MOVES = []  # keras-tuner copies callbacks: a folder, and where it goes in the second trial


def move(*_):
    folder, to = MOVES
    return (folder / "trial_1").exists() and folder.rename(to)


class Mover(keras.callbacks.Callback):
    """Moves the folder of a search while it runs, before keras-tuner saves or after it."""

    def __init__(self, when):
        super().__init__()
        setattr(self, when, move)


@pytest.mark.parametrize("when", ["on_train_begin", "on_train_end", "building"])
def test_a_folder_that_is_moved_while_it_is_searched_in_ends_the_search(when, begun, tmp_path):
    MOVES[:] = tmp_path / "s", tmp_path / "moved"
    hyper = hypermodel(begun[0])
    new = hyper.start.new_model

    def new_model(hp=None):
        if when == "building" and move():
            raise FileNotFoundError("a file in it")
        return new(hp)

    hyper.start.new_model = new_model
    with pytest.raises(SearchError, match="must stay where it is while its search runs"):
        search(tmp_path, hyper, trials=4, fit=FIT | {"callbacks": [Mover(when)]})
    assert not (tmp_path / "s").exists(), "nothing is made anew"
    states = [read(tmp_path / "moved" / f"trial_{i}" / "trial.json")["status"] for i in range(2)]
    assert states == ["COMPLETED", "RUNNING"]
    tuner = search(tmp_path, hypermodel(begun[0]), trials=3, fit=FIT, project_name="moved")
    assert told(tuner) == begun[2]


def test_a_lock_that_was_removed_is_taken_anew(tmp_path):
    with folder_lock.searching(tmp_path):
        (tmp_path / folder_lock.SEARCH).unlink()
        assert elsewhere(tmp_path, folder_lock.SEARCH) == ["free"]
        with folder_lock.searching(tmp_path):
            pass
        assert "one search at a time" in elsewhere(tmp_path, folder_lock.SEARCH)[0]
    assert elsewhere(tmp_path, folder_lock.SEARCH) == ["free"]


def test_a_folder_of_another_name_of_the_process_is_gone_on_with(begun, tmp_path):
    """As a search of one process goes on with that of a chief: keras-tuner would begin anew."""
    project = shutil.copytree(begun[1], tmp_path / "s")
    (project / "tuner0.json").rename(project / "chief.json")
    assert len(pareto(random_search(tmp_path, hypermodel(begun[0]))).trials) == 2, "one may look"
    kept = {path: path.stat().st_mtime_ns for path in project.glob("trial_*/*.json")}
    tuner = search(tmp_path, hypermodel(begun[0]), trials=3, fit=FIT)
    assert told(tuner) == begun[2]
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())


@pytest.mark.filterwarnings("ignore:.*made again from the trials")
@pytest.mark.parametrize("left", ["a running trial", "no oracle"])
def test_a_grid_goes_on(left, begun, tmp_path):
    space = SearchSpace(budget=(0.45, 0.6, 0.8), shape=("linear", "cubic"))

    def grid(trials):
        tuner = keras_tuner.GridSearch(hypermodel(begun[0], space), "val_loss", max_trials=trials,
                                       directory=tmp_path, project_name="s")  # fmt: skip
        tuner.search(*DATA, **(ONCE | FIT))
        return tuner

    grid(3)
    if left == "a running trial":
        running(tmp_path / "s", "trial_2")
    else:
        LEFT[left](tmp_path / "s")
    values = [tuple(each.values()) for each in told(grid(5))]
    every = [(budget, shape) for budget in (0.45, 0.6, 0.8) for shape in ("linear", "cubic")]
    assert values == every[:5]


def test_a_file_is_replaced_in_one_step(begun, tmp_path, monkeypatch):
    model, folder, *_ = begun
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


def test_another_tuner_mends_nothing(begun, tmp_path):
    """It would make the brackets of `Hyperband` again without any."""
    project = shutil.copytree(begun[1], tmp_path / "s")
    change(project / "reducible_search.json", tuner="Hyperband")
    random_search(tmp_path, hypermodel(begun[0]))  # one may look, and is refused when it searches
    cut(project / "oracle.json", 0.5)
    files = {path: path.read_bytes() for path in project.glob("**/*.json*")}
    words = r"a search with another tuner \(Hyperband, now RandomSearch\)"
    with pytest.raises(SearchError, match=words):
        random_search(tmp_path, hypermodel(begun[0]))
    assert {path: path.read_bytes() for path in project.glob("**/*.json*")} == files
    change(project / "reducible_search.json", tuner="RandomSearch")
    with pytest.warns(UserWarning, match="made again from the trials"):
        random_search(tmp_path, hypermodel(begun[0]))


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
            assert not list((tmp_path / "s").glob("trial_*")), "it has written nothing"
            with pytest.raises(SearchError, match="overwrite=True would remove its trials"):
                random_search(tmp_path, hypermodel(begun[0]), overwrite=True)
            assert (tmp_path / "s").exists()
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


def elsewhere(project, *names):
    """What another process is told that wants these locks of a folder."""
    code = (
        "import sys; from pathlib import Path; from reducible_train.tuner import folder_lock\n"
        "for name in sys.argv[2:]:\n"
        "    try:\n"
        "        with folder_lock.holding(Path(sys.argv[1]), name): print('free')\n"
        "    except ValueError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(project), *names]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_a_chief_and_each_worker_hold_what_no_second_one_may(begun, tmp_path, monkeypatch):
    told_of = []
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "8000")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    names = (folder_lock.SEARCH, folder_lock.CHIEF, "reducible_worker-1.worker.lock")

    def serve(oracle):
        told_of.extend(elsewhere(oracle._project_dir, *names))

    monkeypatch.setattr(oracle_chief, "start_server", serve)
    search(tmp_path, hypermodel(begun[0]), trials=1, fit=FIT)
    assert ["one search at a time" in each for each in told_of] == [True, True, False]
    assert elsewhere(tmp_path / "s", *names) == ["free"] * 3
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker-1")
    with folder_lock.searching(tmp_path / "s"):
        told_of = elsewhere(tmp_path / "s", *names)
    assert told_of[:2] == ["free", "free"]
    assert "Each worker must have a name of its own. Received: KERASTUNER_TUNER_ID" in told_of[2]
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    monkeypatch.setenv("REDUCIBLE_TUNE_PARENT", "1")
    with folder_lock.searching(tmp_path / "s"):
        told_of = elsewhere(tmp_path / "s", *names[:2])
    assert told_of[0] == "free", "its parent holds it"
    assert told_of[1] != "free"


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes are forked")
def test_an_error_in_a_forked_process_comes_out_as_it_is(tmp_path):
    pid = None
    try:
        with holding(tmp_path), holding(tmp_path):
            pid = os.fork()
            if pid == 0:
                raise InterruptedError
    except BaseException as error:
        if pid == 0:
            os._exit(0 if type(error) is InterruptedError else 1)
        raise
    assert os.waitpid(pid, 0)[1] == 0


def test_a_disk_that_numbers_files_anew_each_time_keeps_nobody_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(container_holding, "_GLANCE", 0.3)
    monkeypatch.setattr(os.path, "samestat", lambda *_: False)
    begun = time.monotonic()
    with holding(tmp_path, patience=60), holding(tmp_path):
        assert "one search at a time" in elsewhere(tmp_path, folder_lock.SEARCH)[0]
    assert time.monotonic() - begun < 50
    monkeypatch.undo()
    assert elsewhere(tmp_path, folder_lock.SEARCH) == ["free"]


def test_a_builder_with_hyperparameters_of_its_own_goes_on(tmp_path):
    def build(hp):
        model = network()
        rate = hp.Float("rate", 1e-4, 1e-2, sampling="log")
        model.compile(keras.optimizers.Adam(rate), model.loss, metrics=["accuracy"])
        return model

    for trials in (1, 2):
        done = search(tmp_path, hypermodel(build), trials=trials, fit={"epochs": 1})
    assert len(trials_of(done)) == 2


def test_of_a_damaged_checkpoint_the_compact_file_is_named(tmp_path):
    hyper = hypermodel()
    tuner = search(tmp_path, hyper, trials=1)
    folder = Path(tuner.get_trial_dir(trials_of(tuner)[0].trial_id))
    (folder / "checkpoint.weights.h5").write_bytes(b"cut")
    with pytest.raises(FormatError, match=r"model.reducible holds the same weights: load_model"):
        tuner.get_best_models(1)
