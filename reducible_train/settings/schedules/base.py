"""What every schedule is: a value that maps epochs to targets.

A kind of schedule is one new file in this package: a frozen dataclass, subclass of `Schedule`,
with its name in `kind`. It is found, and can be used in configurations, without further ado.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Self

from reducible_train.errors import ArgumentError, ArgumentTypeError
from reducible_train.settings.checks import checked_number, is_number, register, settle

_KINDS: dict[str, type[Schedule]] = {}
_LOOKS = 240  # at a schedule that does not say itself where it turns


class Schedule(ABC):
    """A pure function of the epoch: how much, not when to act.

    Subclasses are frozen dataclasses: printable, comparable, and
    `from_config(get_config())` gives an equal one. The values are finite and not negative;
    whether they are budgets, energies, errors or ranks only the user of the schedule knows.

    Attributes:
        kind: Name in configurations.
        end_epoch: Epoch from which the schedule is constant.
        values: All the values it is made of; it never leaves their range.
    """

    kind: ClassVar[str]

    if TYPE_CHECKING:  # a field or a property; at run time it would be taken for a field's default

        @property
        def end_epoch(self) -> float: ...

        @property
        def values(self) -> tuple[float, ...]: ...

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        register(_KINDS, cls, "schedule")

    @abstractmethod
    def __call__(self, epoch: float) -> float:
        """The target at `epoch`, counted from 0; fractions lie within an epoch."""

    def course(self, until: float = math.inf) -> tuple[float, ...]:
        """The values it goes through, in order: between each and the next it never turns.

        A kind that can turn in other places than between `_LOOKS` equally spaced times says so
        by a `course` of its own.

        Args:
            until: Only what it is before that time, in epochs.
        """
        end = min(until, self.end_epoch)
        values = [self(end * i / _LOOKS) for i in range(_LOOKS)]
        return (*values, self(math.nextafter(end, 0.0) if end == until else end))

    def preview(self, epochs: int, per_epoch: int = 1) -> list[tuple[float, float]]:
        """The pairs (epoch, target) that a training of `epochs` epochs would see.

        Args:
            epochs: Length of the training.
            per_epoch: Looks at the schedule in each epoch, equally spaced, the first at its begin.

        Raises:
            ArgumentError: One of them is not a whole number, at least 1.
        """
        for name, count in (("epochs", epochs), ("per_epoch", per_epoch)):
            if not is_number(count) or not (count >= 1 and count % 1 == 0):
                raise ArgumentError(
                    f"`{name}` must be a whole number, at least 1. Received: {name}={count!r}. "
                    "Give the `epochs` of the fit; `per_epoch` may stay away."
                )
        often = int(per_epoch)
        times = [i / often for i in range(int(epochs) * often)]
        return [(time, self(time)) for time in times]

    def get_config(self) -> dict[str, Any]:
        """Plain values for JSON or YAML, with the name of the kind."""
        names = self._arguments()
        return {"kind": self.kind} | {name: _plain(getattr(self, name)) for name in names}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The schedule that `get_config` described.

        Raises:
            ArgumentError: An argument is unknown or missing, or its value cannot be used.
        """
        arguments = {name: value for name, value in config.items() if name != "kind"}
        known = cls._arguments()
        unknown = [name for name in arguments if name not in known]
        missing = [name for name, needed in known.items() if needed and name not in arguments]
        if unknown or missing:
            raise ArgumentError(
                f"A schedule of kind {cls.kind!r} takes {_listed(known)}. "
                f"Received: {_listed(arguments)}."
                + (f" Remove {_listed(unknown)}." if unknown else "")
                + (f" Add {_listed(missing)}." if missing else "")
            )
        return cls(**arguments)

    @classmethod
    def _arguments(cls) -> dict[str, bool]:
        """Names of the arguments, and whether each must be given."""
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # every subclass is a dataclass
        return {field.name: field.default is dataclasses.MISSING for field in fields}

    def _normalize(self, name: str, value: object) -> None:
        settle(self, **{name: value})


def schedule_kinds() -> dict[str, type[Schedule]]:
    """The known kinds of schedule, by name."""
    return dict(sorted(_KINDS.items()))


def schedule_from_config(config: Mapping[str, Any] | float | Schedule) -> Schedule:
    """The schedule that a mapping with its `kind`, or a plain number (a constant), describes.

    A schedule is given back as it is.

    Raises:
        ArgumentError: The kind is unknown, or an argument cannot be used.
        ArgumentTypeError: Neither a mapping nor a number.

    Example:
        >>> schedule_from_config(0.5)
        Constant(value=0.5)
        >>> stairs = {"kind": "piecewise_constant", "values": [1, 0.5], "start_epochs": [0, 3]}
        >>> schedule_from_config(stairs)
        PiecewiseConstant(values=(1, 0.5), start_epochs=(0, 3))
    """
    if isinstance(config, Schedule):
        return config
    if not isinstance(config, Mapping):
        return _KINDS["constant"].from_config({"value": config})
    kind = config.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ArgumentError(
            f"`kind` of a schedule must be one of {_listed(schedule_kinds())}. "
            f"Received: {'nothing' if kind is None else repr(kind)}. Name one of them."
        )
    return _KINDS[kind].from_config(config)


def checked_value(name: str, value: object) -> float:
    """A target: a plain number, finite and not negative."""
    number = checked_number(name, value)
    if number < 0:
        raise ArgumentError(
            f"`{name}` must not be negative. Received: {name}={number}. "
            "Give a fraction such as 0.25, or a rank of at least 1."
        )
    return number


def checked_epoch(name: str, value: object) -> float:
    """A time: a plain number of epochs, finite and not negative."""
    number = checked_number(name, value)
    if number < 0:
        raise ArgumentError(
            f"`{name}` must not be negative. Received: {name}={number}. "
            "Epochs count from 0, the begin of the training."
        )
    return number


def checked_sequence(name: str, value: object) -> Sequence[Any]:
    """A list or tuple with at least one element."""
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
        raise ArgumentTypeError(
            f"`{name}` must be a list. Received: {name}={value!r}. For one element write [element]."
        )
    elements = list(value)
    if not elements:
        raise ArgumentError(
            f"`{name}` must have at least one element. Received: {name}={value!r}. Add one."
        )
    return elements


def check_increasing(name: str, times: Sequence[float]) -> None:
    """Raise unless every time is later than the one before it."""
    for i, (before, after) in enumerate(pairwise(times), start=1):
        if after <= before:
            raise ArgumentError(
                f"`{name}` must increase. Received: {name}[{i}]={after} after {before}. "
                "Sort them, and drop what happens twice."
            )


def _plain(value: Any) -> Any:
    if isinstance(value, Schedule):
        return value.get_config()
    return [_plain(element) for element in value] if isinstance(value, tuple) else value


def _listed(names: Mapping[str, Any] | Sequence[str]) -> str:
    return ", ".join(repr(str(name)) for name in names) or "nothing"
