"""What the folder of a search says about it, so that another search does not go on in it."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from reducible_train.container.files import read_whole, replacing_by
from reducible_train.settings.fields import fields_of
from reducible_train.settings.objectives import SIZES, SearchObjective
from reducible_train.settings.search_space import SearchSpace
from reducible_train.tuner.errors import MendedWarning, SearchError
from reducible_train.tuner.evaluation import COMPACT, TrialPlan

FILE = "reducible_search.json"
OPTIONAL = "optional"  # what it says of its mappings: names that the same search may lack
_OTHER = {  # what it says -> what is wrong where it says something else
    "analysis": "another analysis",
    "space": "another space",
    "start": "another trained model",
    "objective": "another objective",
    "rules": "other rules",
    "tuner": "another tuner",
    "goal": "another objective of its tuner",
    "oracle": "other settings of its tuner",
    "seed": "another seed",
    "arrays": "other data",
    "training": "other training settings",
}
_SHORT = 60  # characters; more tell a person nothing


class Project:
    """The file in the folder of a search: what it searches, the quality of the dense start.

    Args:
        folder: The folder.
        searched: What makes it this search, in plain values: see `Folder`. What is not known yet
            is left out, and so is what an older version did not write.
    """

    def __init__(self, folder: Path, searched: Mapping[str, Any]):
        self.folder = folder
        self._searched: dict[str, Any] = json.loads(json.dumps(searched))  # as it is read again
        self._path = folder / FILE

    def check(self) -> None:
        """Refuse the folder of another search; one that says nothing is nobody's yet.

        Raises:
            SearchError: It is that of another search.
        """
        found = self._found()
        if found is None:
            return
        for name in _OTHER:
            if name not in found or name not in self._searched:
                continue
            before, now = _compared(name, found, self._searched)
            if name == "start" and not (before and now):
                continue  # a function that builds another one at each call
            if before != now:
                raise another_search(self.folder, name, before, now)

    def begin(self) -> None:
        """Say whose folder it is, if it does not yet."""
        self.check()
        found = self._found()
        if found is None:
            self._warn_of_trials()
        if found is None or not self._searched.keys() <= found.keys():
            self._write(self.dense)

    @property
    def dense(self) -> Mapping[str, float]:
        """Metric -> value of the dense start, as far as it was measured."""
        found = self._found()
        return {} if found is None else found.get("dense", {})

    def keep(self, monitor: str, value: float) -> None:
        """Keep the value of a metric of the dense start."""
        self._write({**self.dense, monitor: value})

    def _found(self) -> dict[str, Any] | None:
        if not self._path.is_file():
            return None
        try:
            found = json.loads(read_whole(self._path))
        except ValueError:  # cut short by whoever was killed while an older version wrote it
            return None
        return found if _is_good(found) else None

    def _warn_of_trials(self) -> None:
        """Tell that finished trials are taken for those of this search, where nothing says so."""
        done = list(self.folder.glob(f"trial_*/{COMPACT}"))
        if done:
            warnings.warn(
                f"{self.folder} holds {len(done)} trials, and its {FILE}, which tells of what "
                "search they are, is not there or cannot be read: they are taken for those of this "
                "one. If they are not, give another project_name, or overwrite=True to begin anew.",
                MendedWarning,
                stacklevel=2,
            )

    def _write(self, dense: Mapping[str, float]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_by(self._path) as beside:
            told = merged(self._found() or {}, self._searched) | {"dense": dense}
            beside.write_text(json.dumps(told, indent=1), "utf-8")


def _is_good(found: Any) -> bool:
    if not isinstance(found, dict):
        return False
    optional, dense = (found.get(name, {}) for name in (OPTIONAL, "dense"))
    return (
        isinstance(optional, dict)
        and isinstance(dense, dict)
        and all(isinstance(each, list) for each in optional.values())
        and all(isinstance(each, int | float) for each in dense.values())
    )


def another_search(folder: Path, name: str, before: Any, now: Any) -> SearchError:
    """What is said of a folder that is another search's.

    Args:
        folder: The folder.
        name: What differs: a name in what a folder says, such as `"oracle"`.
        before: What the folder says of it.
        now: What this search says of it.
    """
    return SearchError(
        f"{folder} must be the folder of this search. Received: that of a search with "
        f"{_OTHER[name]}{_difference(before, now)}. Give another project_name, or "
        "overwrite=True to begin anew."
    )


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """All that two parts of what a search is say; the second has the last word."""
    optional = {**first.get(OPTIONAL, {}), **second.get(OPTIONAL, {})}
    return {**first, **second, OPTIONAL: optional}


def _compared(name: str, *told: Mapping[str, Any]) -> list[Any]:
    """What two searches say of something, without what one of them alone says and may."""
    values = [each[name] for each in told]
    mappings = [isinstance(each, Mapping) for each in values]
    if not any(mappings):
        return values
    if not all(mappings):  # as an older version wrote it, in a form of its own
        return [None, None]
    lacking = [each.get(OPTIONAL, {}).get(name, []) for each in told]
    return [
        {key: value for key, value in own.items() if key in other or key not in optional}
        for own, other, optional in zip(values, reversed(values), lacking, strict=True)
    ]


def _difference(before: Any, now: Any) -> str:
    """What differs, where it can be said in a few words."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        names = [each for each in {**before, **now} if before.get(each) != now.get(each)]
        told = ", ".join(_changed(each, before.get(each), now.get(each)) for each in names)
        return f" ({told})"
    if isinstance(before, str | int) and len(f"{before}{now}") < _SHORT:
        return f" ({before}, now {now})"
    return ""


def _changed(name: str, before: Any, now: Any) -> str:
    """One thing that differs; by its name alone where its values are long."""
    values = ["none" if each is None else f"{each}" for each in (before, now)]
    is_told = max(map(len, values)) < _SHORT
    return f"{name} {values[0]}, now {values[1]}" if is_told else name


class Folder:
    """What makes a search this one, to be compared with what its folder says.

    Args:
        plan: What all trials have in common.
        start: Fingerprint of the weights it begins from; empty if each trial has others.
    """

    def __init__(self, plan: TrialPlan, start: str):
        usual = SearchSpace()
        space = {name: getattr(plan.space, name) for name in fields_of(SearchSpace)}
        table = None if plan.analysis is None else plan.analysis.analysis.to_json()
        self._searched: dict[str, Any] = {
            "analysis": "" if table is None else hashlib.sha256(table.encode()).hexdigest(),
            "space": space,
            "start": start,
            "objective": {} if plan.objective is None else _told(plan.objective),
            "rules": {str(i): _settings(rule) for i, rule in enumerate(plan.rules)},
            OPTIONAL: {"space": [name for name in space if space[name] == getattr(usual, name)]},
        }

    def check(self, folder: Path, training: Mapping[str, Any] | None = None) -> None:
        """Refuse the folder of another search.

        Args:
            folder: The folder.
            training: What its trials are trained on and how, as far as it is known yet.

        Raises:
            SearchError: It is one.
        """
        Project(folder, merged(self._searched, training or {})).check()

    def opened(self, folder: Path, training: Mapping[str, Any] | None = None) -> Project:
        """The file of the folder, which belongs to this search from now on.

        Args:
            folder: The folder.
            training: What its trials are trained on and how.

        Raises:
            SearchError: It is that of another search.
        """
        project = Project(folder, merged(self._searched, training or {}))
        project.begin()
        return project


def _told(objective: SearchObjective) -> dict[str, Any]:
    """An objective, and of what its sizes are fractions, where older versions had another."""
    told = _settings(objective)
    counts_file = objective.size_name == SIZES["file"]
    return told | {"fraction of": "the dense file"} if counts_file else told


def _settings(made: Any) -> dict[str, Any]:
    """A settings object by its kind and all that it does not have by itself."""
    told: dict[str, Any] = {"kind": type(made).__name__}
    for name, item in fields_of(type(made)).items():
        value = getattr(made, name)
        if item.default is MISSING or value != item.default:
            told[name] = value if isinstance(value, bool | int | float | str) else repr(value)
    return told
