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
}


class Project:
    """The file in the folder of a search: what it searches, the quality of the dense start.

    Args:
        folder: The folder.
        searched: What makes it this search, in plain values: see `Folder`.
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
            if found.get(name) != self._searched[name]:
                raise SearchError(
                    f"{self.folder} must be the folder of this search. Received: that of a search "
                    f"with {what}. Give another project_name, or overwrite=True to begin anew."
                )

    def begin(self) -> None:
        """Say whose folder it is, if it does not yet."""
        self.check()
        if self._found() is None:
            self._write({})

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
            beside.write_text(json.dumps({**self._searched, "dense": dense}, indent=1), "utf-8")


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

    def check(self, folder: Path) -> None:
        """Refuse the folder of another search.

        Raises:
            SearchError: It is one.
        """
        Project(folder, self._searched).check()

    def opened(self, folder: Path) -> Project:
        """The file of the folder, which belongs to this search from now on.

        Raises:
            SearchError: It is that of another search.
        """
        project = Project(folder, self._searched)
        project.begin()
        return project
