"""What a model is brought to: a budget, an energy or a rank, now or on a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from reducible_train.errors import ArgumentError
from reducible_train.schedules import Schedule, schedule_from_config
from reducible_train.schedules.base import checked_value

QUANTITIES = ("budget", "energy", "rank")
_LOOKS = 240  # at a schedule, to see whether it rises


@dataclass(frozen=True)
class Target:
    """A quantity and the schedule by which it falls.

    Args:
        quantity: `"budget"` (a fraction of the dense model), `"energy"` (the fraction of
            each kernel's energy that is kept) or `"rank"` (of every kernel).
        schedule: Epoch -> value.
    """

    quantity: str
    schedule: Schedule

    def __call__(self, epoch: float) -> float:
        return self.schedule(epoch)

    @property
    def lowest(self) -> float:
        """The smallest value the schedule is made of."""
        return min(self.schedule.values)

    def __str__(self) -> str:
        return f"{self.quantity} = {self.schedule}"


def target(quantity: str, value: float | Schedule) -> Target:
    """A checked target; a number means a constant.

    Raises:
        ArgumentError: A value of the schedule is out of the quantity's range.
        ArgumentTypeError: Neither a schedule nor a number.

    Example:
        >>> target("budget", 0.25)(3)
        0.25
    """
    if not isinstance(value, Schedule | Mapping):
        checked_value(quantity, value)  # so that an error names what was given
    schedule = schedule_from_config(value)
    for each in schedule.values:
        fault = value_fault(quantity, each)
        if fault is not None:
            raise ArgumentError(f"`{quantity}` {fault} Received: {value!r}.")
    rise = first_rise(schedule)
    if rise is not None:
        raise ArgumentError(
            f"`{quantity}` must not rise, for ranks never do. Received: {schedule}, which rises "
            f"from {rise[0]:g} to {rise[1]:g}. Exchange its values, or end it where it is lowest."
        )
    return Target(quantity, schedule)


def first_rise(schedule: Schedule) -> tuple[float, float] | None:
    """Two neighbouring values of which the later is greater, if there are any."""
    times = [schedule.end_epoch * i / _LOOKS for i in range(_LOOKS + 1)]
    values = [schedule(time) for time in times]
    rises = (pair for pair in pairwise(values) if pair[1] > pair[0] * (1 + 1e-9))
    return next(rises, None)


def value_fault(quantity: str, value: float) -> str | None:
    """What is wrong with a value of a quantity, or `None`.

    >>> value_fault("budget", 25)
    'must be in (0, 1], a fraction; got 25. For 25 % write 0.25.'
    """
    if quantity == "rank":
        if value >= 1:
            whole = f"must be a whole number; got {value:g}. Write {round(value)}."
            return None if float(value).is_integer() else whole
        return f"must be at least 1; got {value:g}. Ranks are whole numbers from 1."
    if 0 < value <= 1:
        return None
    remedy = f" For {value:g} % write {value / 100:g}." if 1 < value <= 100 else ""
    return f"must be in (0, 1], a fraction; got {value:g}.{remedy}"


def one_target(
    budget: float | Schedule | None,
    energy: float | Schedule | None,
    rank: float | Schedule | None,
) -> Target:
    """The one target that was given.

    Raises:
        ArgumentError: None was given, or more than one.
    """
    named = (("budget", budget), ("energy", energy), ("rank", rank))
    given = {name: value for name, value in named if value is not None}
    if len(given) != 1:
        raise ArgumentError(
            "Exactly one of `budget`, `energy` and `rank` must be given. Received: "
            f"{', '.join(f'{n}={v!r}' for n, v in given.items()) or 'none of them'}. "
            "Give a budget, for example budget=0.25, to choose the size of the model."
        )
    ((quantity, value),) = given.items()
    return target(quantity, value)
