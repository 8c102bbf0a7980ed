"""Samples taken from a running `fit`, as they pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from reducible_train import _keras
from reducible_train.errors import ArgumentError
from reducible_train.selection.samples import (
    Samples,
    count_of,
    counting_samples,
    joined,
    map_arrays,
)


class SampleCollector:
    """The first samples of a running `fit`, seen over the shoulder of its training step.

    Args:
        model: The model in training.
        enough: Samples to take.

    Raises:
        ArgumentError: It cannot be done with this backend or distribution strategy.
    """

    def __init__(self, model: Any, enough: int):
        self.enough = enough
        self.count = 0
        self._batches: list[tuple[Any, Any, Any]] = []
        self.stop: Callable[[], None] = lambda: None
        self.go_on(model)

    def go_on(self, model: Any) -> None:
        """Watch again, after the training step was made anew; what was seen is kept."""
        self.stop()
        stop = _keras.sample_batches(model, self._take)
        if stop is None:
            raise ArgumentError(
                "The batches of this fit cannot be watched: that takes TensorFlow on one device. "
                "Received: a criterion or an aid that needs data, and no calibration set. Give it "
                "samples: calibration=x_train[:2048], or (x, y)."
            )
        self.stop = stop

    @property
    def done(self) -> bool:
        """True once there are enough."""
        return self.count >= self.enough

    def samples(self) -> Samples:
        """What was seen so far."""
        return joined(self._batches)

    def _take(self, batch: Any) -> bool:
        x, y, weight = (
            map_arrays(_keras.host_value, part)
            for part in keras.utils.unpack_x_y_sample_weight(batch)
        )
        self._batches.append(counting_samples((x, y, weight)))
        self.count += count_of(self._batches[-1][0])
        return not self.done
