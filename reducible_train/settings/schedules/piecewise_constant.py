"""A staircase of targets."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import ClassVar

from reducible_train.errors import ArgumentError
from reducible_train.settings.schedules.base import (
    Schedule,
    check_increasing,
    checked_epoch,
    checked_sequence,
    checked_value,
)


@dataclass(frozen=True)
class PiecewiseConstant(Schedule):
    """`values[i]` from `start_epochs[i]` on, until the next one starts.

    For targets known beforehand, with time to recover on each.

    Args:
        values: The targets, none of them negative.
        start_epochs: When each starts, in epochs; the first is 0, and they increase.

    Raises:
        ArgumentError: The lengths differ, or a value or a time is out of range.
        ArgumentTypeError: One of them is no list of numbers.

    Example:
        >>> staircase = PiecewiseConstant(values=[1.0, 0.5, 0.25], start_epochs=[0, 2, 6])
        >>> [staircase(epoch) for epoch in (0, 1.9, 2, 6, 9)]
        [1.0, 1.0, 0.5, 0.25, 0.25]
    """

    kind: ClassVar[str] = "piecewise_constant"
    values: tuple[float, ...]
    start_epochs: tuple[float, ...]

    def __post_init__(self) -> None:
        values, times = (checked_sequence(n, getattr(self, n)) for n in ("values", "start_epochs"))
        if len(values) != len(times):
            raise ArgumentError(
                "`values` and `start_epochs` must be equally long. "
                f"Received: {len(values)} values and {len(times)} start epochs. "
                "Give each value the epoch it starts at; the first starts at 0."
            )
        values = [checked_value(f"values[{i}]", value) for i, value in enumerate(values)]
        times = [checked_epoch(f"start_epochs[{i}]", time) for i, time in enumerate(times)]
        if times[0] != 0:
            raise ArgumentError(
                "`start_epochs[0]` must be 0, so that every epoch has a value. "
                f"Received: start_epochs[0]={times[0]}. Put a 0 first, and its value."
            )
        check_increasing("start_epochs", times)
        self._normalize("values", tuple(values))
        self._normalize("start_epochs", tuple(times))

    def __call__(self, epoch: float) -> float:
        return float(self.values[max(bisect_right(self.start_epochs, epoch) - 1, 0)])

    def course(self, until: float = math.inf) -> tuple[float, ...]:
        return self.values[: bisect_left(self.start_epochs, until)]

    @property
    def end_epoch(self) -> float:
        return float(self.start_epochs[-1])
