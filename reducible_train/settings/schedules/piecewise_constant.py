"""A staircase of targets."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import ClassVar

from reducible_train.settings.base import together
from reducible_train.settings.checks import increase_fault
from reducible_train.settings.faults import Fault
from reducible_train.settings.fields import Items, Time, Value, option
from reducible_train.settings.schedules.base import Schedule


@dataclass(frozen=True)
class PiecewiseConstant(
    Schedule, help="`values[i]` from `start_epochs[i]` on, until the next one starts."
):
    """`values[i]` from `start_epochs[i]` on, until the next one starts.

    For targets known beforehand, with time to recover on each.

    Raises:
        ArgumentError: The lengths differ, or a value or a time is out of range.
        ArgumentTypeError: One of them is no list of numbers.

    Example:
        >>> staircase = PiecewiseConstant(values=[1.0, 0.5, 0.25], start_epochs=[0, 2, 6])
        >>> [staircase(epoch) for epoch in (0, 1.9, 2, 6, 9)]
        [1.0, 1.0, 0.5, 0.25, 0.25]
    """

    kind: ClassVar[str] = "piecewise_constant"
    values: tuple[float, ...] = option(Items(Value()), help="The targets, none of them negative.")
    start_epochs: tuple[float, ...] = option(
        Items(Time()), help="When each starts, in epochs; the first is 0, and they increase."
    )

    @together("values", "start_epochs")
    def _equally_long(self) -> Fault | None:
        if len(self.values) == len(self.start_epochs):
            return None
        return Fault(
            ("values",),
            "`values` and `start_epochs` must be equally long. "
            f"Received: {len(self.values)} values and {len(self.start_epochs)} start epochs. "
            "Give each value the epoch it starts at; the first starts at 0.",
        )

    @together("start_epochs")
    def _from_the_first_epoch(self) -> Fault | None:
        if self.start_epochs[0] == 0:
            return None
        return Fault(
            ("start_epochs", 0),
            "`start_epochs[0]` must be 0, so that every epoch has a value. "
            f"Received: start_epochs[0]={self.start_epochs[0]}. Put a 0 first, and its value.",
        )

    @together("start_epochs")
    def _in_order(self) -> Fault | None:
        return increase_fault("start_epochs", self.start_epochs)

    def __call__(self, epoch: float) -> float:
        return float(self.values[max(bisect_right(self.start_epochs, epoch) - 1, 0)])

    def course(self, until: float = math.inf) -> tuple[float, ...]:
        return self.values[: bisect_left(self.start_epochs, until)]

    @property
    def end_epoch(self) -> float:
        return float(self.start_epochs[-1])
