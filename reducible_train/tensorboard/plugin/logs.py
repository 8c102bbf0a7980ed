"""The logs as a data provider of TensorBoard has them, whichever loader it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tensorboard.data.provider import RunTagFilter

from reducible_train.errors import FormatError
from reducible_train.tensorboard import tags as form

SCALARS = "scalars"
_MOST = 1000  # points of a series


@dataclass(frozen=True)
class Series:
    """One scalar over the steps.

    Args:
        values: Value by step, in order; `None` for NaN and infinity.
        times: Wall time by step.
    """

    values: Mapping[int, float | None]
    times: Mapping[int, float]

    def at(self, steps: Sequence[int]) -> list[float | None]:
        """Its values at some steps; `None` where it has none."""
        return [self.values.get(step) for step in steps]

    def held(self, steps: Sequence[int]) -> list[float | None]:
        """The same, where a value stays until the next one comes."""
        found, last = [], None
        for step in steps:
            last = self.values.get(step, last)
            found.append(last)
        return found

    @property
    def last(self) -> float | None:
        """Its last value."""
        return next(reversed(list(self.values.values())), None)


@dataclass(frozen=True, eq=False)
class Logs:
    """What one request may read.

    Args:
        provider: A data provider of TensorBoard.
        context: Of the request.
        experiment: Its id.
    """

    provider: Any
    context: Any
    experiment: str

    def scalar_tags(self) -> dict[str, list[str]]:
        """Our scalar tags by run."""
        listed = self._listed(self.provider.list_scalars, SCALARS)
        ours = {run: [tag for tag in tags if is_ours(tag)] for run, tags in listed.items()}
        return {run: tags for run, tags in ours.items() if tags}

    def tensor_tags(self) -> dict[str, list[str]]:
        """Tags of this plugin's tensors by run."""
        return {
            run: list(tags)
            for run, tags in self._listed(self.provider.list_tensors, form.PLUGIN_NAME).items()
        }

    def _listed(self, listing: Any, plugin: str) -> Mapping[str, Mapping[str, Any]]:
        found: Mapping[str, Mapping[str, Any]] = listing(
            self.context, experiment_id=self.experiment, plugin_name=plugin
        )
        return found

    def scalars(
        self, runs: Iterable[str], tags: Iterable[str], most: int = _MOST
    ) -> dict[str, dict[str, Series]]:
        """Series by run and tag."""
        read = self.provider.read_scalars
        return {
            run: {tag: _series(points) for tag, points in found.items()}
            for run, found in self._read(read, SCALARS, runs, tags, most).items()
        }

    def tensors(
        self, runs: Iterable[str], tags: Iterable[str], most: int = _MOST
    ) -> dict[str, dict[str, list[tuple[int, Any]]]]:
        """Steps and arrays, in order, by run and tag."""
        read = self.provider.read_tensors
        return {
            run: {tag: [(int(p.step), p.numpy) for p in points] for tag, points in found.items()}
            for run, found in self._read(read, form.PLUGIN_NAME, runs, tags, most).items()
        }

    def _read(
        self, read: Any, plugin: str, runs: Iterable[str], tags: Iterable[str], most: int
    ) -> Mapping[str, Mapping[str, Any]]:
        wanted = RunTagFilter(runs=list(runs), tags=list(tags))
        found: Mapping[str, Mapping[str, Any]] = read(
            self.context,
            experiment_id=self.experiment,
            plugin_name=plugin,
            downsample=most,
            run_tag_filter=wanted,
        )
        return found


def is_ours(tag: str) -> bool:
    """True for a scalar tag under one of our names."""
    group = tag.partition("/")[0]
    return group == form.PLUGIN_NAME or group.startswith(f"{form.PLUGIN_NAME}_")


def _series(points: Iterable[Any]) -> Series:
    ordered = sorted(points, key=lambda point: point.step)  # of one step the last one counts
    values = {int(p.step): float(p.value) if math.isfinite(p.value) else None for p in ordered}
    return Series(values, {int(p.step): float(p.wall_time) for p in ordered})


def json_of(array: Any) -> dict[str, Any]:
    """What a JSON tensor says.

    Raises:
        FormatError: It is none of ours.
    """
    text = array.item() if getattr(array, "size", 0) == 1 else None
    if not isinstance(text, str | bytes):
        raise FormatError(
            "A JSON tensor of this package is one text. Received: "
            f"shape {getattr(array, 'shape', None)}. It was not written by it; leave it out."
        )
    return form.from_json(text)
