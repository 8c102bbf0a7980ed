"""What a model is brought to: a budget, an energy, an error or a rank, now or on a schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from reducible_train.errors import ArgumentError
from reducible_train.settings.checks import FRACTION, POSITIVE, SHARE, checked_value
from reducible_train.settings.schedules import Schedule, schedule_from_config

BUDGETS = ("budget", "cost")  # what the kernels of a model share
QUANTITIES = (*BUDGETS, "energy", "rtol", "rank")
FORESEEABLE = (*BUDGETS, "rank")  # they ask for the same whatever the kernels become
STABLE_RANK = "stable_rank"  # of each kernel, scaled; asked for by `Adaptive` alone
RISING = ("rtol",)  # what is lost; all others fall


@dataclass(frozen=True)
class Target:
    """A quantity and the schedule by which it falls, or rises if it is an error.

    Args:
        quantity: `"budget"` (a fraction of the dense model's cost), `"cost"` (the cost itself,
            in the unit of the measure), `"energy"` (the fraction of each kernel's energy that is
            kept), `"rtol"` (the relative error of each kernel, `sqrt(1 - energy)`) or `"rank"`
            (of every kernel); or `STABLE_RANK`, a multiple of what `Adaptive` has found.
        schedule: Epoch -> value.
    """

    quantity: str
    schedule: Schedule

    def __call__(self, epoch: float) -> float:
        return self.schedule(epoch)

    @property
    def rises(self) -> bool:
        """True for an error, which grows as ranks fall."""
        return self.quantity in RISING

    @property
    def idle(self) -> float:
        """A value at which nothing is cut."""
        return {"energy": 1.0, "rtol": 0.0}.get(self.quantity, math.inf)

    @property
    def lowest(self) -> float:
        """The smallest value the schedule comes to."""
        return min(self.schedule.course())

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
    fault = retreat_fault(quantity, schedule)
    if fault is not None:
        raise ArgumentError(f"`{quantity}` {fault} Received: {schedule}.")
    return Target(quantity, schedule)


def retreat_fault(quantity: str, schedule: Schedule) -> str | None:
    """What is wrong with a schedule that asks for a rank to rise again, or `None`.

    >>> from reducible_train.settings.schedules import Ramp
    >>> retreat_fault("rtol", Ramp(0.2, 0.1))
    'must not fall, for ranks never rise; it falls from 0.2 to 0.1. Exchange its values.'
    """
    rises = quantity in RISING
    for before, after in pairwise(schedule.course()):
        low, high = (after, before) if rises else (before, after)
        if high > low * (1 + 1e-9):
            verb, wrong = ("fall", "falls") if rises else ("rise", "rises")
            return (
                f"must not {verb}, for ranks never rise; it {wrong} from {before:g} to {after:g}. "
                "Exchange its values."
            )
    return None


def misfit(quantity: str, value: float) -> tuple[str, str] | None:
    """What a value of a quantity should have been, and what to do; `None` for a good one.

    >>> misfit("budget", 25)
    ('in (0, 1]', ' For 25 % write 0.25.')
    """
    if quantity == "rank":
        if value >= 1:
            whole = ("a whole number", f" Write {round(value)}.")
            return None if float(value).is_integer() else whole
        share = f" For {100 * value:g} % of the parameters use budget: {value:g}."
        return "at least 1", " Ranks are whole numbers from 1." + (share if value > 0 else "")
    within = {"cost": POSITIVE, "rtol": SHARE}.get(quantity, FRACTION)
    return None if value in within else (str(within), within.percent(value))


def value_fault(quantity: str, value: float) -> str | None:
    """What is wrong with a value of a quantity, or `None`.

    >>> value_fault("budget", 25)
    'must be in (0, 1], a fraction; got 25. For 25 % write 0.25.'
    """
    found = misfit(quantity, value)
    if found is None:
        return None
    noun = {"rank": "", "cost": "", "rtol": ", a relative error"}.get(quantity, ", a fraction")
    return f"must be {found[0]}{noun}; got {value:g}.{found[1]}"


def one_target(**named: float | Schedule | None) -> Target:
    """The one target that was given.

    Args:
        **named: By quantity, what was given for each; `None` for nothing.

    Raises:
        ArgumentError: None was given, or more than one.
    """
    given = {name: value for name, value in named.items() if value is not None}
    if len(given) != 1:
        *first, last = (f"`{name}`" for name in QUANTITIES)
        raise ArgumentError(
            f"Exactly one of {', '.join(first)} and {last} must be given. Received: "
            f"{', '.join(f'{n}={v!r}' for n, v in given.items()) or 'none of them'}. "
            "Give a budget, for example budget=0.25, to choose the size of the model."
        )
    ((quantity, value),) = given.items()
    return target(quantity, value)
