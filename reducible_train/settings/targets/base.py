"""What every target is: a quantity that a model is brought to, now or on a schedule.

A kind of target is one new file in this package: a frozen dataclass with the name of its quantity,
subclass of `SharedTarget` (all kernels share what it allows), `LossTarget` (what each may lose) or
`RankTarget` (the rank of each). It is found, and can be asked for by its name, without further ado.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple, Protocol

from reducible_train.errors import ArgumentError, ArgumentTypeError
from reducible_train.settings.checks import FRACTION, Range, as_float, is_number, register, settle
from reducible_train.settings.faults import Fault, Path, argument_text, raise_first
from reducible_train.settings.fields import Value
from reducible_train.settings.schedules import Constant, Schedule, schedule_from_config
from reducible_train.settings.schedules.base import schedule_faults, valued

_KINDS: dict[str, type[Target]] = {}
_INSTANT, _DIGITS = 1e-12, 6  # of an epoch, and of all until it


class ModelNumbers(Protocol):
    """All that a target may ask of a model as it is."""

    @property
    def cost(self) -> float:
        """What it costs, by the measure of its budget."""

    @property
    def dense_cost(self) -> float:
        """What it would cost if every kernel were dense."""

    @property
    def largest_rank(self) -> float:
        """The largest rank of a kernel that may change, or that its factors could have."""

    @property
    def stable_rank_factor(self) -> float:
        """The least multiple of their stable ranks at which no kernel is cut."""

    @property
    def effective_rank_factor(self) -> float:
        """The least multiple of their effective ranks at which no kernel is cut."""


class Misfit(NamedTuple):
    """What a value should have been, as in "must be ...", and what to do."""

    wanted: str
    advice: str = ""


@dataclass(frozen=True)
class Target(ABC):
    """A quantity and the schedule by which it falls, or rises if it is an error.

    Args:
        schedule: Epoch -> value; a number means a constant.

    Attributes:
        quantity: Its name: what is asked for, in Python, in files and in reports.
        help: What it means, in a sentence: of its key in YAML.
        within: The values it may have.
        rises: True if it grows as ranks fall.
        idle: A value at which nothing is cut.
        foreseeable: True if it asks for the same whatever the kernels become, so that the sizes and
            ranks of a model show whether it is met.
        for_layers: True if a rule for single layers may have it.
        public: False for one that no argument asks for.

    Raises:
        ArgumentError: A value of the schedule is out of range, or it asks for ranks to rise again.
        ArgumentTypeError: Neither a schedule nor a number.
    """

    quantity: ClassVar[str]
    help: ClassVar[str] = ""
    within: ClassVar[Range] = FRACTION
    rises: ClassVar[bool] = False
    idle: ClassVar[float] = math.inf
    foreseeable: ClassVar[bool] = True
    for_layers: ClassVar[bool] = False
    public: ClassVar[bool] = True

    schedule: Schedule

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "quantity" in cls.__dict__:
            register(_KINDS, cls, "target", "quantity")

    def __post_init__(self) -> None:
        raise_first(each.within(self.quantity) for each in self.faults_of(self.schedule))
        settle(self, schedule=schedule_from_config(self.schedule))

    def __call__(self, epoch: float) -> float:
        return self.schedule(epoch)

    def __str__(self) -> str:
        return f"{self.name} = {self.schedule}"

    @property
    def name(self) -> str:
        """What it is called in messages: its quantity, and of several also its measure."""
        return self.quantity

    @property
    def given_as(self) -> str:
        """What it was given as, for those who refuse it."""
        return self.name

    def multiple_fault(self, multiple: int, place: str = "") -> str | None:
        """What it has against ranks that are multiples of a number; `None` if nothing.

        Args:
            multiple: The number.
            place: Where it was given, for messages.
        """
        return None

    @property
    def parts(self) -> tuple[Target, ...]:
        """What falls by a schedule of its own: itself, or each of several."""
        return (self,)

    @property
    def argument(self) -> Any:
        """What was asked for, as the argument of its quantity takes it."""
        return self.number_or_schedule

    @property
    def number_or_schedule(self) -> float | Schedule:
        """What was asked for, a number where it stays the same."""
        constant = isinstance(self.schedule, Constant)
        return self.schedule.values[0] if constant else self.schedule

    @property
    def lowest(self) -> float:
        """The value at which it asks for most: the smallest, or the largest of one that rises."""
        values = self.schedule.course()
        return max(values) if self.rises else min(values)

    def reaches(self, value: float, wanted: float) -> bool:
        """True if a value asks for no less than another."""
        return value >= wanted if self.rises else value <= wanted

    @property
    def idle_until(self) -> float | None:
        """The epoch from which it may ask for a cut; `None` if it never does.

        That of the schedule, which never turns back, where it leaves the value at which nothing is
        cut; the first where no number is such a value for every model, as of ranks.
        """
        early, late = 0.0, float(self.schedule.end_epoch)
        if self.leaves_dense(self(late)):
            return None
        if not self.leaves_dense(self(early)):
            return early
        while late - early > _INSTANT * max(1.0, late):  # no floats lie closer where it is late
            middle = (early + late) / 2
            dense = self.leaves_dense(self(middle))
            early, late = (middle, late) if dense else (early, middle)
        return round(late, _DIGITS)

    def leaves_dense(self, value: float) -> bool:
        """True for a value at which no dense model is cut."""
        return value == self.idle

    @abstractmethod
    def present(self, model: ModelNumbers) -> float:
        """The value of it that a model meets as it is."""

    @classmethod
    def misfit(cls, value: float) -> Misfit | None:
        """What is wrong with a value, or `None`."""
        if value in cls.within:
            return None
        wanted = f"a fraction {cls.within}" if cls.within.most == 1 else str(cls.within)
        advice = cls.within.percent(value)
        if not advice and cls.within == FRACTION:
            advice = " Write for example 0.25 for a quarter."
        return Misfit(wanted, advice)

    @classmethod
    def faults_of(cls, value: Any, place: Path = ()) -> list[Fault]:
        """All that is wrong with what it shall fall to, whatever it is.

        Args:
            value: A number, a schedule, or what `schedule_from_config` takes for one.
            place: Where it was given, for messages; left out, as the argument of its quantity.
        """
        found, called = list[Fault](), argument_text(place or (cls.quantity,))
        if isinstance(value, Schedule | Mapping):
            found = schedule_faults(value)
            if found and isinstance(value, Schedule):
                return found
        elif not is_number(value):
            Value().read(place or (cls.quantity,), value, "", found)
            return [replace(fault, argument=()) for fault in found]
        told = {fault.argument for fault in found}
        for path, number in valued(value):
            wrong = None if path in told else cls.misfit(number)
            if wrong is not None:
                name = argument_text((*(place or (cls.quantity,)), *path))
                words = f"`{name}` must be {wrong.wanted}. Received: {number!r}.{wrong.advice}"
                found.append(Fault(path, words))
        if found:
            return found
        try:
            schedule = schedule_from_config(value)
        except ArgumentError:  # an option that it does not have: said where it is made
            return []
        if isinstance(value, Mapping):  # a kind may have values that none of its options tells
            try:
                return cls.faults_of(schedule, place)
            except Exception as error:  # of the code of its class: a file shows no traceback
                failed = f"{type(error).__name__}: {error}"
                words = f"`{called}` must be a number at each epoch. Received: {schedule}, {failed}"
                return [Fault((), f"{words}. Correct its values, or its class.")]
        course = schedule.course()
        against = cls._course_fault(schedule, course) or cls.retreat_fault(course)
        words = f"`{called}` {against} Received: {schedule}."
        return [] if against is None else [Fault((), words)]

    @classmethod
    def _course_fault(cls, schedule: Schedule, course: Sequence[Any]) -> str | None:
        """What is wrong with a value on the way, or `None`: beyond those it is said to be of."""
        declared = [*map(float, schedule.values)]
        low, high = min(declared, default=math.inf), max(declared, default=-math.inf)
        slack = 1e-9 * max(abs(low), abs(high))  # of rounding
        for value in course:
            number = as_float(value)
            if math.isnan(number):
                told = "NaN" if isinstance(value, float) else repr(value)
                return f"must be a number at each epoch, and it is {told} at one."
            if low - slack <= number <= high + slack or number == cls.idle:
                continue
            wrong = cls.misfit(number)
            near = (math.floor(number), math.ceil(number)) if math.isfinite(number) else ()
            if wrong is not None and not (near and all(map(cls._fits, near))):  # between two ranks
                return f"must be {wrong.wanted} at each epoch, and it is {number:g} at one."
        return None

    @classmethod
    def _fits(cls, value: float) -> bool:
        return cls.misfit(value) is None

    @classmethod
    def retreat_fault(cls, values: Sequence[float]) -> str | None:
        """What is wrong with values of which one asks for a rank to rise again, or `None`."""
        for before, after in pairwise(values):
            low, high = (after, before) if cls.rises else (before, after)
            if high > low * (1 + 1e-9):
                verb, wrong = ("fall", "falls") if cls.rises else ("rise", "rises")
                return (
                    f"must not {verb}, for ranks never rise; it {wrong} from {before:g} to "
                    f"{after:g}. Exchange its values."
                )
        return None


@dataclass(frozen=True)
class SharedTarget(Target):
    """What all kernels of a model may cost together: they share it, as the allocation says.

    Args:
        schedule: As every target has it.
        measure: Name of what it counts, of several; `None` where the model has one only.
    """

    measure: str | None = field(default=None, kw_only=True)

    @property
    def name(self) -> str:
        return self.quantity if self.measure is None else f"{self.quantity}.{self.measure}"

    def counts(self, measure: str) -> str:
        """Name of what it counts, if that of the model's one budget is `measure`."""
        return self.measure or measure

    @abstractmethod
    def allowed(self, value: float, dense: float) -> float:
        """What a value lets a model cost.

        Args:
            value: The value.
            dense: What the model costs if every kernel is dense.
        """

    @abstractmethod
    def of_cost(self, cost: float, dense: float) -> float:
        """The value that stands for a cost; `allowed` the other way round."""

    @abstractmethod
    def words(self, unit: str) -> str:
        """What it is, in words, of a measure that counts in a unit."""

    def asks_nothing(self, value: float, measure: str) -> bool:
        """True for a value that any model meets, whatever a look at it measures."""
        return False

    def present(self, model: ModelNumbers) -> float:
        return self.of_cost(model.cost, model.dense_cost)


class LossTarget(Target):
    """What each kernel may lose: how far it is cut hangs on its singular values."""

    foreseeable: ClassVar[bool] = False
    for_layers: ClassVar[bool] = True

    @abstractmethod
    def limit(self, value: float, kept: float) -> dict[str, float] | None:
        """The limit on one cut, if a kernel has kept `kept` of its energy so far.

        As `choose_rank` takes it; `None` if there is nothing left to lose. Energies multiply from
        cut to cut.
        """

    def told_limit(self, value: float, kept: float) -> dict[str, float] | None:
        """The same.

        Raises:
            ArgumentTypeError: It is no limit.
        """
        limit = self.limit(value, kept)
        if limit is not None and not isinstance(limit, Mapping):
            raise ArgumentTypeError(
                f"`limit` of {type(self).__name__} must return a limit by name, or None. Received: "
                f"{limit!r} for {self.quantity}={value:g}. Return for example {{'rtol': 0.1}}."
            )
        return limit

    @abstractmethod
    def nearest(self, error: float) -> str:
        """The mildest value, as an argument, that allows a relative error."""

    def present(self, model: ModelNumbers) -> float:
        return self.idle


class RankTarget(Target):
    """The rank of each kernel.

    Attributes:
        rounds_up: True if ranks in multiples must not be smaller than what a value means.
        scaled_by: What number of each kernel a value is a multiple of: `"stable_rank"` or
            `"effective_rank"`; empty where it is a rank.
    """

    rounds_up: ClassVar[bool] = False
    scaled_by: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.scaled_by:
            cls.foreseeable = False  # such numbers are found in training

    @abstractmethod
    def rank(self, value: float, own: float | None) -> float:
        """The rank that a value means for one kernel; infinity where it stays as it is.

        Args:
            value: The value.
            own: The number of the kernel that it is a multiple of; `None` where not known.
        """

    def told_rank(self, value: float, own: float | None) -> float:
        """The same.

        Raises:
            ArgumentTypeError: It is no number.
        """
        rank = self.rank(value, own)
        if math.isnan(as_float(rank)):
            raise ArgumentTypeError(
                f"`rank` of {type(self).__name__} must return a number, infinity where a kernel "
                f"stays as it is. Received: {rank!r} for {self.quantity}={value:g}. Return one."
            )
        return rank


def target_kinds() -> dict[str, type[Target]]:
    """Every kind of target that can be asked for, by quantity.

    >>> list(target_kinds())
    ['budget', 'cost', 'effective_rank', 'energy', 'rank', 'rtol']
    """
    return {name: kind for name, kind in sorted(_KINDS.items()) if kind.public}
