"""Schedules one after the other."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import ClassVar

from reducible_train.settings.base import together
from reducible_train.settings.checks import increase_fault
from reducible_train.settings.faults import Fault, Path
from reducible_train.settings.fields import Items, Time, option
from reducible_train.settings.schedules.base import Schedule, ScheduleKind


@dataclass(frozen=True)
class Join(Schedule, help="Schedules one after the other, each from its boundary on."):
    """`schedules[0]` up to `boundaries[0]`, then `schedules[1]` up to `boundaries[1]`, and so on.

    Each later schedule counts its epochs from the boundary where it begins: at epoch `e` it is
    asked for `e - boundary`. For a second ramp after a hold, say.

    Raises:
        ArgumentError: The lengths do not match, or a boundary is out of range.
        ArgumentTypeError: One of them is no list of schedules or of numbers.

    Example:
        >>> from reducible_train.settings.schedules import Constant, PiecewiseConstant
        >>> halving = PiecewiseConstant(values=[0.5, 0.25], start_epochs=[0, 2])
        >>> joined = Join([Constant(1.0), halving], boundaries=[3])
        >>> [joined(epoch) for epoch in (0, 2.9, 3, 4.9, 5)]
        [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    kind: ClassVar[str] = "join"
    schedules: tuple[Schedule, ...] = option(
        Items(ScheduleKind()), help="Schedules or numbers, in order."
    )
    boundaries: tuple[float, ...] = option(
        Items(Time()),
        help="Where each but the first begins, in epochs; greater than 0 and increasing.",
    )

    @together("schedules", "boundaries")
    def _one_boundary_fewer(self) -> Fault | None:
        if len(self.boundaries) == len(self.schedules) - 1:
            return None
        return Fault(
            ("boundaries",),
            "`boundaries` must be one fewer than `schedules`. "
            f"Received: {len(self.schedules)} schedules and {len(self.boundaries)} boundaries. "
            "The first schedule begins at 0 and needs none.",
        )

    @together("boundaries")
    def _first_is_asked(self) -> Fault | None:
        if self.boundaries[0] > 0:
            return None
        return Fault(
            ("boundaries", 0),
            "`boundaries[0]` must be greater than 0. Received: boundaries[0]=0. "
            "Drop `schedules[0]`, which would never be asked, and this boundary.",
        )

    @together("boundaries")
    def _in_order(self) -> Fault | None:
        return increase_fault("boundaries", self.boundaries)

    def __call__(self, epoch: float) -> float:
        i = bisect_right(self.boundaries, epoch)
        return self.schedules[i](epoch - (self.boundaries[i - 1] if i else 0))

    def course(self, until: float = math.inf) -> tuple[float, ...]:
        starts, ends = (0.0, *self.boundaries), (*self.boundaries, math.inf)
        return tuple(
            value
            for schedule, start, end in zip(self.schedules, starts, ends, strict=True)
            if start < until
            for value in schedule.course(min(end, until) - start)
        )

    @property
    def end_epoch(self) -> float:
        return float(self.boundaries[-1] + self.schedules[-1].end_epoch)

    @property
    def end_at(self) -> Path:
        last = self.schedules[-1]
        if last.end_epoch and last.end_at:
            return ("schedules", len(self.schedules) - 1, *last.end_at)
        return ("boundaries", len(self.boundaries) - 1)

    @property
    def values(self) -> tuple[float, ...]:
        return tuple(value for schedule in self.schedules for value in schedule.values)
