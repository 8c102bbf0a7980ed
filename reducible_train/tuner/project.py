"""What the folder of a search says about it, so that another search does not go on in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reducible_train.container.files import accessing, replacing_by
from reducible_train.settings.fields import fields_of
from reducible_train.settings.search_space import SearchSpace
from reducible_train.tuner.errors import SearchError
from reducible_train.tuner.evaluation import TrialPlan

FILE = "reducible_search.json"
_OTHER = {  # what it says -> what is wrong where it says something else
    "space": "another space",
    "start": "another trained model",
    "objective": "another objective",
    "rules": "other rules",
    "tuner": "another tuner",
    "seed": "another seed",
    "data": "other data",
    "training": "other training settings",
}


_SHORT = 60  # characters; a fingerprint tells a person nothing


class Project:
    """The file in the folder of a search: what it searches, the quality of the dense start.

    Args:
        folder: The folder.
        searched: What makes it this search, in plain values: see `Folder`. What is not known yet
            is left out, and so is what an older version did not write.
    """

    def __init__(self, folder: Path, searched: Mapping[str, Any]):
        self.folder, self._searched = folder, searched
        self._path = folder / FILE

    def check(self) -> None:
        """Refuse the folder of another search; one that says nothing is nobody's yet.

        Raises:
            SearchError: It is that of another search.
        """
        found = self._found()
        if found is None:
            return
        for name, what in _OTHER.items():
            if name not in found or name not in self._searched:
                continue
            before, now = found[name], self._searched[name]
            if before != now:
                raise SearchError(
                    f"{self.folder} must be the folder of this search. Received: that of a search "
                    f"with {what}{_difference(before, now)}. Give another project_name, or "
                    "overwrite=True to begin anew."
                )

    def begin(self) -> None:
        """Say whose folder it is, if it does not yet."""
        self.check()
        found = self._found()
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
            with accessing(self._path, "read"):
                found = json.loads(self._path.read_text("utf-8"))
        except ValueError:  # cut short by whoever was killed while an older version wrote it
            return None
        return found if isinstance(found, dict) else None

    def _write(self, dense: Mapping[str, float]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with accessing(self._path, "write"), replacing_by(self._path) as beside:
            told = {**(self._found() or {}), **self._searched, "dense": dense}
            beside.write_text(json.dumps(told, indent=1), "utf-8")


def _difference(before: Any, now: Any) -> str:
    """What differs, where it can be said in a few words."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        names = [each for each in {**before, **now} if before.get(each) != now.get(each)]
        told = ", ".join(f"{each} {before.get(each)}, now {now.get(each)}" for each in names)
    elif isinstance(before, str | int) and len(f"{before}{now}") < _SHORT:
        told = f"{before}, now {now}"
    else:
        return ""
    return f" ({told})" if len(told) < 4 * _SHORT else ""


class Folder:
    """What makes a search this one, to be compared with what its folder says.

    Args:
        plan: What all trials have in common.
        start: Fingerprint of the weights it begins from; empty where a function builds them.
    """

    def __init__(self, plan: TrialPlan, start: str):
        space = {name: getattr(plan.space, name) for name in fields_of(SearchSpace)}
        told = {
            "space": space,
            "start": start,
            "objective": repr(plan.objective),
            "rules": [repr(rule) for rule in plan.rules],
        }
        self._searched = json.loads(json.dumps(told))  # as it is read again

    def check(self, folder: Path, training: Mapping[str, Any] | None = None) -> None:
        """Refuse the folder of another search.

        Args:
            folder: The folder.
            training: What its trials are trained on and how, as far as it is known yet.

        Raises:
            SearchError: It is one.
        """
        Project(folder, {**self._searched, **(training or {})}).check()

    def opened(self, folder: Path, training: Mapping[str, Any] | None = None) -> Project:
        """The file of the folder, which belongs to this search from now on.

        Args:
            folder: The folder.
            training: What its trials are trained on and how.

        Raises:
            SearchError: It is that of another search.
        """
        project = Project(folder, {**self._searched, **(training or {})})
        project.begin()
        return project
