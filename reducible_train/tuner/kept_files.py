"""The files in which keras-tuner keeps a search: written whole, and mended after a kill.

keras-tuner writes each of them in place, so that a kill leaves a cut one and the folder cannot be
gone on with; and a kill between two of them leaves a finished trial that runs again, or one that
is never run. Both are set right here, for every tuner of keras-tuner over a `RankHyperModel`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import keras_tuner

from reducible_train.container.files import accessing, write_text
from reducible_train.errors import ArgumentError, FileAccessError
from reducible_train.tuner.errors import SearchError
from reducible_train.tuner.folder_lock import CHIEF, SEARCH, holding
from reducible_train.tuner.project import FILE

ORACLE, TRIAL = "oracle.json", "trial.json"
_CUT = ".cut"  # added to the name of a file that cannot be read
_NO_JSON = object()
_ENDED = ("COMPLETED", "FAILED")


class MendedWarning(UserWarning):
    """A file of a search was set aside, and its trial runs again."""


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
        is_chief = "chief" in os.environ.get("KERASTUNER_TUNER_ID", "")
        locks = (CHIEF,) if is_chief else (SEARCH, CHIEF)
        if (project / FILE).is_file():
            for line in _mended_alone(project, locks, self.get_state()):
                warnings.warn(line, MendedWarning, stacklevel=4)
        reads(self)

    return reload


def _mended_alone(project: Path, locks: Sequence[str], fresh: Mapping[str, Any]) -> list[str]:
    """Mend a folder in which nobody else searches, and in which one may write."""
    with ExitStack() as stack:
        try:
            for name in locks:
                if name == SEARCH or (project / name).exists():
                    stack.enter_context(holding(project, name))
        except (ArgumentError, FileAccessError):
            return []
        return mend(project, fresh)


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
    trials = {path.parent.name.removeprefix("trial_"): _read(path)
              for path in sorted(project.glob(f"trial_*/{TRIAL}"))}  # fmt: skip
    oracle = _read(project / ORACLE)
    before = json.dumps(oracle)
    if oracle is None:
        if not (project / ORACLE).exists() and not trials:
            return lines
        oracle = _rebuilt(project, fresh, trials)
        lines.append(_set_aside(project / ORACLE, "it is made again from the trials"))
    for name in dict.fromkeys([*trials, *oracle["start_order"]]):
        if trials.get(name) is None:
            trials[name] = _drawn_again(project, name, oracle)
            _requeue(oracle, name)
            lines.append(_set_aside(_file(project, name), "its trial runs again"))
            write_text(_file(project, name), json.dumps(trials[name]))
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


def _drawn_again(project: Path, name: str, oracle: Mapping[str, Any]) -> dict[str, Any]:
    """A trial whose file is lost: what it was told, if that can be read, or something else."""
    told = _told_in(_file(project, name))
    if told is None:
        space = keras_tuner.HyperParameters.from_config(oracle["hyperparameters"])
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        values = {each.name: each.random_sample(seed + i) for i, each in enumerate(space.space)}
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
        text = path.read_text("utf-8", errors="replace")
        told, _ = json.JSONDecoder().raw_decode(text.partition('"hyperparameters": ')[2])
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) and "values" in told else None


def _set_aside(path: Path, what: str) -> str:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        return f"{path} is not there; {what}"
    aside = path.with_name(path.name + _CUT)
    os.replace(path, aside)
    return f"{path} was cut by a kill and is now {aside.name}; {what}"


def _file(project: Path, name: str) -> Path:
    return project / f"trial_{name}" / TRIAL


def _read(path: Path) -> Any:
    """What a file of keras-tuner holds; `None` where it cannot be read."""
    found = _parsed(path) if path.exists() else None
    return found if isinstance(found, dict) else None


def _parsed(path: Path) -> Any:
    """The value in a file; `_NO_JSON` where it holds none."""
    with accessing(path, "read"):
        text = path.read_text("utf-8", errors="replace")
    try:
        return json.loads(text)
    except ValueError:
        return _NO_JSON
