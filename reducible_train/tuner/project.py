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

FILE = "reducible_search.json"


class Project:
    """The file in the folder of a search: its space, its start, the quality of the dense start.

    Args:
        folder: The folder.
        space: What this search chooses from.
        start: Fingerprint of the weights it begins from; empty where a function builds them.

    Raises:
        SearchError: The folder is that of another search.
    """

    def __init__(self, folder: Path, space: SearchSpace, start: str):
        self._path = folder / FILE
        told = {name: getattr(space, name) for name in fields_of(SearchSpace)}
        self._content: dict[str, Any] = json.loads(json.dumps({"space": told, "start": start}))
        self._content["dense"] = {}
        found = self._found()
        if found is None:
            self._write()
            return
        for name, what in (("space", "another space"), ("start", "another trained model")):
            if found.get(name) != self._content[name]:
                raise SearchError(
                    f"{folder} must be the folder of this search. Received: that of a search with "
                    f"{what}. Give another project_name, or overwrite=True to begin anew."
                )
        self._content["dense"] = found.get("dense", {})

    @property
    def dense(self) -> Mapping[str, float]:
        """Metric -> value of the dense start, as far as it was measured."""
        found = self._found()
        return {} if found is None else found.get("dense", {})

    def keep(self, monitor: str, value: float) -> None:
        """Keep the value of a metric of the dense start."""
        self._content["dense"] = {**self.dense, monitor: value}
        self._write()

    def _found(self) -> dict[str, Any] | None:
        if not self._path.is_file():
            return None
        try:
            with accessing(self._path, "read"):
                found = json.loads(self._path.read_text("utf-8"))
        except ValueError:  # cut short by whoever was killed while an older version wrote it
            return None
        return found if isinstance(found, dict) else None

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with accessing(self._path, "write"), replacing_by(self._path) as beside:
            beside.write_text(json.dumps(self._content, indent=1), "utf-8")
