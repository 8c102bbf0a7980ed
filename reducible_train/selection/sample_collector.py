"""Samples taken from a running `fit`, before they are trained on."""

from __future__ import annotations

from typing import Any

from reducible_train import _keras
from reducible_train.errors import ArgumentError
from reducible_train.selection.samples import (
    FEW,
    ROOM,
    Samples,
    count_of,
    counting_samples,
    joined,
)


class SampleCollector:
    """The first samples of a running `fit`, fetched before its first step.

    Args:
        model: The model in training.
        enough: Samples to take.
        room: Bytes that they may take, if they are more than a few.

    Attributes:
        ahead: What fetches them.

    Raises:
        ArgumentError: It cannot be done with this backend or distribution strategy.
    """

    def __init__(self, model: Any, enough: int, room: float = float("inf")):
        self.enough = enough
        self.count = 0
        self._model = model
        self._room = room
        self._spare = ROOM  # bytes, for samples of weight 0
        self._own = _keras.has_own_step(model)
        self._batches: list[tuple[Any, Any, Any]] = []
        ahead = _keras.batches_ahead(model, self._take)
        if ahead is None:
            raise ArgumentError(
                "The batches of this fit cannot be watched: that takes model.fit on one "
                "device. Received: a criterion, an aid or a number as `calibration` that asks "
                "for samples of them. Give samples: calibration=x_train[:2048], or (x, y)."
            )
        self.ahead = ahead

    def drop(self) -> None:
        """The fit is over."""
        self.ahead.drop()

    @property
    def done(self) -> bool:
        """True once there are enough, or all."""
        return self._is_enough or (self.ahead.ended and self.count > 0)

    @property
    def _is_enough(self) -> bool:
        return self.count >= self.enough or (self._room <= 0 and self.count >= FEW)

    def samples(self) -> Samples:
        """What was seen so far of a weight above 0."""
        return joined([self._counting(each) for each in self._batches])

    def every(self) -> Samples:
        """What was seen so far, whatever it weighs, if that is not too much to keep."""
        return joined(self._batches)

    def _take(self, batch: Any) -> bool:
        x, y, weight = (
            _keras.map_arrays(_keras.host_value, part)
            for part in _keras.parts_of(batch, own=self._own)
        )
        counting = self._counting((x, y, weight))
        size, counts = (_size(each) for each in ((x, y, weight), counting))
        self.count += count_of(counting[0])
        self._room -= counts
        had_room, self._spare = self._spare >= 0, self._spare - (size - counts)
        if had_room and self._spare < 0:  # all of them or none: Keras divides by their number
            self._batches = [self._counting(each) for each in self._batches]
        self._batches.append((x, y, weight) if self._spare >= 0 else counting)
        return not self._is_enough

    def _counting(self, batch: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        return counting_samples(batch, self._model)


def _size(batch: Any) -> int:
    return sum(each.nbytes for each in _keras.arrays_in(batch))
