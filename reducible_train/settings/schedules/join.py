"""Schedules one after the other."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from reducible_train.errors import ArgumentError, ArgumentTypeError
from reducible_train.settings.checks import is_number
from reducible_train.settings.schedules.base import (
    Schedule,
    check_increasing,
    checked_epoch,
    checked_sequence,
    schedule_from_config,
)


@dataclass(frozen=True)
class Join(Schedule):
    """`schedules[0]` up to `boundaries[0]`, then `schedules[1]` up to `boundaries[1]`, and so on.

    Each later schedule counts its epochs from the boundary where it begins: at epoch `e` it is
    asked for `e - boundary`. For a second ramp after a hold, say.

    Args:
        schedules: Schedules, or what `schedule_from_config` takes for one.
        boundaries: Where each but the first begins, in epochs; greater than 0 and increasing.

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
    schedules: tuple[Schedule, ...]
    boundaries: tuple[float, ...]

    def __post_init__(self) -> None:
        schedules = checked_sequence("schedules", self.schedules)
        for i, schedule in enumerate(schedules):
            if not isinstance(schedule, Schedule | Mapping) and not is_number(schedule):
                raise ArgumentTypeError(
                    f"`schedules[{i}]` must be a schedule. Received: {schedule!r}. "
                    "Give a schedule, a number, or a mapping with its `kind`."
                )
        boundaries = checked_sequence("boundaries", self.boundaries)
        if len(boundaries) != len(schedules) - 1:
            raise ArgumentError(
                "`boundaries` must be one fewer than `schedules`. "
                f"Received: {len(schedules)} schedules and {len(boundaries)} boundaries. "
                "The first schedule begins at 0 and needs none."
            )
        times = [checked_epoch(f"boundaries[{i}]", time) for i, time in enumerate(boundaries)]
        if times[0] == 0:
            raise ArgumentError(
                "`boundaries[0]` must be greater than 0. Received: boundaries[0]=0. "
                "Drop `schedules[0]`, which would never be asked, and this boundary."
            )
        check_increasing("boundaries", times)
        self._normalize("schedules", tuple(map(schedule_from_config, schedules)))
        self._normalize("boundaries", tuple(times))

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
    def values(self) -> tuple[float, ...]:
        return tuple(value for schedule in self.schedules for value in schedule.values)
