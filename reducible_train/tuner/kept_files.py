"""The files in which keras-tuner keeps a search: written whole, and mended after a kill.

keras-tuner writes each of them in place, so that a kill leaves a cut one and the folder cannot be
gone on with; and a kill between two of them leaves a finished trial that runs again, or one that
is never run. Both are set right here, for every tuner of keras-tuner over a `RankHyperModel`.
"""

from __future__ import annotations

import functools
import json
import os
import random
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial
from keras_tuner.oracles import GridSearchOracle

from reducible_train.container.files import read_whole, write_text
from reducible_train.errors import ArgumentError, FileAccessError
from reducible_train.tuner.errors import MendedWarning, SearchError
from reducible_train.tuner.folder_lock import searching
from reducible_train.tuner.grid_order import put_in_order
from reducible_train.tuner.keras_tuner_side import setting_names
from reducible_train.tuner.project import FILE, Project

ORACLE, TRIAL = "oracle.json", "trial.json"
_TOLD = "hyperparameters"
TUNER = "_reducible_tuner"  # attribute of an oracle: the name of its tuner's class
_CUT = ".cut"  # added to the name of a file that cannot be read
_NO_JSON = object()
_ENDED = ("COMPLETED", "FAILED")


def keep_whole() -> None:
    """Have keras-tuner replace its files in one step, and mend a folder of ours when it goes on.

    It changes two methods of keras-tuner in this process, once: how a search is kept, and how it is
    read again. What is written is the same.
    """
    stateful = next(kind for kind in keras_tuner.Oracle.__mro__[1:] if "save" in vars(kind))
    oracle: Any = keras_tuner.Oracle
    if hasattr(stateful.save, "in_place"):
        return
    stateful.save = _saves_whole(stateful.save)
    oracle.reload = _reloads_mended(oracle.reload)


def _saves_whole(in_place: Any) -> Any:
    @functools.wraps(in_place)
    def save(self: Any, fname: Any) -> str:
        if "://" in str(fname):  # of a store that has no files to replace
            return str(in_place(self, fname))
        text = json.dumps(self.get_state())
        write_text(fname, text)
        return text

    save.in_place = in_place  # type: ignore[attr-defined]
    return save


def _reloads_mended(reads: Any) -> Any:
    @functools.wraps(reads)
    def reload(self: Any) -> None:
        project = Path(self._project_dir)
        if not (project / FILE).is_file():
            reads(self)
            return
        refusal = _refusal(self, project)
        if refusal is None:
            for line in _mended_alone(project, self.get_state()):
                warnings.warn(line, MendedWarning, stacklevel=4)
        try:
            reads(self)
            _leave_copies(self, project)
            _know_trials(self)
        except Exception as error:
            if refusal is None:
                raise
            raise refusal from error

    return reload


def _refusal(oracle: Any, project: Path) -> SearchError | None:
    """Why an oracle mends nothing in a folder: it is that of another tuner, which may keep more."""
    tuner = getattr(oracle, TUNER, None)
    try:
        Project(project, {} if tuner is None else {"tuner": tuner}).check()
    except SearchError as error:
        return error
    return None


def _mended_alone(project: Path, fresh: Mapping[str, Any]) -> list[str]:
    """Mend a folder in which nobody else searches, and in which one may write."""
    with ExitStack() as stack:
        try:
            stack.enter_context(searching(project, patience=0.0))
        except (ArgumentError, FileAccessError):
            return []
        return mend(project, fresh)


def _leave_copies(oracle: Any, project: Path) -> None:
    """Have an oracle read each trial in the trial's own folder, and in no copy beside it."""
    for path in project.glob(f"trial_*/{TRIAL}"):
        trial = Trial.load(str(path))
        own = _file(project, trial.trial_id)
        if path == own:
            continue
        oracle.trials.pop(trial.trial_id, None)
        if own.exists():
            oracle.trials[trial.trial_id] = Trial.load(str(own))


def _know_trials(oracle: Any) -> None:
    """Have an oracle know what its trials were told, whatever its own file says of them."""
    for trial in oracle.trials.values():
        oracle._record_values(trial)
    if isinstance(oracle, GridSearchOracle):
        put_in_order(oracle)


def mend(project: Path, fresh: Mapping[str, Any]) -> list[str]:
    """Set right what a kill has left in the folder of a search; finished trials stay.

    Args:
        project: The folder.
        fresh: The state of an oracle that has done nothing yet, for where its file is cut.

    Returns:
        A line for each file that was set aside.

    Raises:
        SearchError: The file of an oracle that keeps more than its trials cannot be read.
    """
    lines: list[str] = []
    for path in project.glob("*.json"):
        if path.name not in (ORACLE, FILE) and _parsed(path) is _NO_JSON:
            lines.append(_set_aside(path, "a tuner keeps nothing in its own"))
            write_text(path, "{}")
    trials, strangers = {}, {}
    for path in sorted(project.glob(f"trial_*/{TRIAL}")):
        name, found = path.parent.name.removeprefix("trial_"), _read(path, _is_trial)
        if found is not None and found["trial_id"] != name:
            strangers[name] = f"says that it is trial {found['trial_id']}"
        elif found is None and not name.isdecimal():
            lines.append(_set_aside(path, "it is no trial of this search"))
        else:
            trials[name] = found
    oracle = _read(project / ORACLE, functools.partial(_is_oracle, fresh))
    before = json.dumps(oracle)
    if oracle is None:
        if not (project / ORACLE).exists() and not trials:
            return lines + _left_alone(project, strangers)
        oracle = _rebuilt(project, fresh, trials)
        lines.append(_set_aside(project / ORACLE, "it is made again from the trials"))
    oracle["start_order"] = _begun(oracle["start_order"], trials)
    for name in dict.fromkeys([*trials, *oracle["start_order"], *_gaps(trials)]):
        if trials.get(name) is None:
            told = None if name in strangers else _told_in(_file(project, name))
            trials[name] = _drawn_again(name, told, oracle)
            _requeue(oracle, name)
            again = "its trial runs again" if told else "other values are tried in its place"
            lines.append(_set_aside(_file(project, name), again, strangers.pop(name, "")))
            write_text(_file(project, name), json.dumps(trials[name]))
    lines += _left_alone(project, strangers)
    for order in ("retry_queue", "end_order"):
        oracle[order] = [name for name in oracle[order] if name in trials]
    running = oracle["ongoing_trials"]
    oracle["ongoing_trials"] = {key: name for key, name in running.items() if name in trials}
    for name, trial in trials.items():
        _follow(project, oracle, name, trial or {}, last=len(trials) - 1)
    if json.dumps(oracle) != before:
        write_text(project / ORACLE, json.dumps(oracle))
    return lines


def _follow(project: Path, oracle: Any, name: str, trial: Any, last: int) -> None:
    """Have the oracle know of a trial what its own file says, which is written first."""
    begun = name in oracle["start_order"]
    waits = name in oracle["retry_queue"] or name in oracle["ongoing_trials"].values()
    if trial["status"] in _ENDED:
        if name not in oracle["end_order"]:
            _forget(oracle, name)
            oracle["end_order"].append(name)
            oracle["run_times"][name] = 1
        oracle["start_order"] += [] if begun else [name]
    elif not begun and not waits and name.lstrip("0") == str(last or ""):
        _file(project, name).unlink()  # killed as it began; the oracle will choose it again
    elif not waits:
        oracle["start_order"] += [] if begun else [name]
        _requeue(oracle, name)
    if trial["status"] == "RUNNING" and trial["metrics"].get("metrics"):
        trial["metrics"] = {"metrics": {}}  # reported, but not ended: it reports them again
        write_text(_file(project, name), json.dumps(trial))


def _forget(oracle: Any, name: str) -> None:
    """A trial neither runs nor waits nor has ended."""
    running = oracle["ongoing_trials"]
    oracle["ongoing_trials"] = {key: each for key, each in running.items() if each != name}
    for order in ("retry_queue", "end_order"):
        oracle[order] = [each for each in oracle[order] if each != name]
    oracle["run_times"].pop(name, None)


def _gaps(trials: Iterable[str]) -> list[str]:
    """Names that lack between others: the next trial is called by how many there are."""
    numbers = {int(name): name for name in trials if name.isdecimal()}
    width = max(map(len, numbers.values()), default=0)
    return [f"{i:0{width}}" for i in range(max(numbers, default=0)) if i not in numbers]


def _begun(order: Sequence[str], trials: Mapping[str, Any]) -> list[str]:
    """The trials that have begun; a number beyond their count was never given to one."""
    count = len({*order, *trials})
    return [name for name in order if name in trials or (name.isdecimal() and int(name) < count)]


def _requeue(oracle: Any, name: str) -> None:
    _forget(oracle, name)
    oracle["retry_queue"].append(name)


def _rebuilt(project: Path, fresh: Mapping[str, Any], trials: Mapping[str, Any]) -> dict[str, Any]:
    """The state of an oracle as far as its trials tell it."""
    whole = {name: each for name, each in trials.items() if each is not None}
    if "brackets" in fresh or not whole:
        raise SearchError(
            f"{project / ORACLE} must be what keras-tuner has written. Received: a file that "
            "cannot be read, and what it held is not in those of its trials. Choose another "
            "folder, or begin anew with overwrite=True."
        )
    space = next(iter(whole.values()))["hyperparameters"]
    drawn = len(trials) * len(space["space"])
    plain: dict[str, Any] = json.loads(json.dumps(dict(fresh)))
    return plain | {
        "hyperparameters": space,
        "start_order": list(trials),
        "seed_state": fresh["seed"] + drawn,  # each value that was drawn has taken one
    }


def _drawn_again(name: str, told: Any, oracle: Mapping[str, Any]) -> dict[str, Any]:
    """A trial whose file is lost: what it was told, if that could be read, or something else."""
    if told is None:
        space = keras_tuner.HyperParameters.from_config(oracle["hyperparameters"])
        draw = random.Random(name)
        values = {each.name: draw.choice(list(each.values)) for each in space.space}  # of a grid's
        told = {**oracle["hyperparameters"], "values": values}
    return {
        "trial_id": name,
        "hyperparameters": told,
        "metrics": {"metrics": {}},
        "score": None,
        "best_step": 0,
        "status": "RUNNING",
        "message": None,
    }


def _told_in(path: Path) -> Any:
    """The settings in a file that was cut after them."""
    try:
        text = read_whole(path, most=None).decode("utf-8", "replace")
        told, _ = json.JSONDecoder().raw_decode(text.partition('"hyperparameters": ')[2])
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) and "values" in told else None


def _left_alone(project: Path, strangers: Mapping[str, str]) -> list[str]:
    return [f"{_file(project, name)} {was}; it is left alone" for name, was in strangers.items()]


def _set_aside(path: Path, what: str, was: str = "") -> str:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        return f"{path} is not there; {what}"
    if not was:
        cut = _parsed(path) is _NO_JSON
        was = "was cut by a kill" if cut else "is not what keras-tuner has written"
    aside = path.with_name(path.name + _CUT)
    os.replace(path, aside)
    return f"{path} {was} and is now {aside.name}; {what}"


def _file(project: Path, name: str) -> Path:
    return project / f"trial_{name}" / TRIAL


def _read(path: Path, is_good: Callable[[Any], bool]) -> Any:
    """What a file of keras-tuner holds; `None` where it cannot be read, or is of another form."""
    found = _parsed(path) if path.exists() else _NO_JSON
    try:
        return found if is_good(found) else None
    except (TypeError, KeyError, AttributeError):
        return None


def read_trial(path: Path) -> dict[str, Any] | None:
    """The state of a trial in its file; `None` while that is being written, or holds none."""
    found: dict[str, Any] | None = _read(path, _is_trial)
    return found


def _parsed(path: Path) -> Any:
    """The value in a file; `_NO_JSON` where it holds none."""
    text = read_whole(path, most=None).decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return _NO_JSON


def _is_oracle(fresh: Mapping[str, Any], found: Any) -> bool:
    """Whether it holds what is mended here, and all that it holds is of the kind of a fresh one."""
    lists = [found[each] for each in ("start_order", "end_order", "retry_queue")]
    running, times, told = (found[each] for each in ("ongoing_trials", "run_times", _TOLD))
    kept = fresh.keys() & found.keys() - setting_names()  # which are compared as what was asked for
    return (
        all(_is_like(found[name], fresh[name]) for name in kept)
        and all(isinstance(each, list) for each in lists)
        and all(map(_is_mapping, (running, times, told, told["values"])))
        and isinstance(told["space"], list)
        and all(isinstance(name, str) for each in (*lists, running.values()) for name in each)
        and all(isinstance(each, int | float) for each in times.values())
    )


def _is_like(found: Any, fresh: Any) -> bool:
    """Whether a value of a file is of the kind of another: a mapping, a list, a number, a text."""
    for kind in (dict, list, int | float, str):
        if isinstance(fresh, kind):
            return isinstance(found, kind)
    return True


def _is_trial(found: Any) -> bool:
    """Whether a trial can be gone on with; one that is done has its score."""
    told, score = found["hyperparameters"], found["score"]
    maps = (told, told["values"], found["metrics"], found["metrics"]["metrics"])
    done = found["status"] == "COMPLETED"
    return (
        all(map(_is_mapping, maps))
        and isinstance(told["space"], list)
        and found["status"] in ("RUNNING", "INVALID", *_ENDED)
        and (not done or (isinstance(score, float | int) and len(found["metrics"]["metrics"]) > 0))
        and isinstance(found["trial_id"], str)
        and "best_step" in found
    )


def _is_mapping(found: Any) -> bool:
    return isinstance(found, dict)
