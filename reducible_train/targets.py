"""What a model is brought to: a budget, an energy or a rank, now or on a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reducible_train.errors import ArgumentError
from reducible_train.schedules import Schedule, schedule_from_config
from reducible_train.schedules.base import checked_value

QUANTITIES = ("budget", "energy", "rank")


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
    return Target(quantity, schedule)


def value_fault(quantity: str, value: float) -> str | None:
    """What is wrong with a value of a quantity, or `None`.

    >>> value_fault("budget", 25)
    'must be in (0, 1], a fraction; got 25. For 25 % write 0.25.'
    """
    if quantity == "rank":
        if value >= 1:
            return None
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
