"""What every schedule is: a value that maps epochs to targets.

A kind of schedule is one new file in this package: a frozen dataclass, subclass of `Schedule`,
with its name in `kind`. It is found, and can be used in configurations, without further ado.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from reducible_train.errors import ArgumentError, ArgumentTypeError
from reducible_train.settings.base import Settings
from reducible_train.settings.checks import (
    as_float,
    has_elements,
    is_number,
    received_unfinished,
    register,
    unfinished,
)
from reducible_train.settings.drawing import draw, html_of, length_of
from reducible_train.settings.faults import Fault, Path, raise_first
from reducible_train.settings.fields import Items, Kind, Time, Value, fields_of, kind_of

_KINDS: dict[str, type[Schedule]] = {}
_LOOKS = 240  # at a schedule that does not say itself where it turns


class Schedule(Settings, ABC):
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

    def plot(self, epochs: int | None = None, *, ax: Any = None) -> Any:
        """Draw the target over the epochs; a dot is what the first step of an epoch sees.

        Args:
            epochs: Length of the training; a few epochs beyond its end, if not given.
            ax: Axes of matplotlib to draw on, in place of a figure of its own.

        Returns:
            The figure of matplotlib.

        Raises:
            ArgumentError: `epochs` is not a whole number, at least 1; or matplotlib is not
                installed.
        """
        return draw(self, length_of(epochs, self.end_epoch), repr(self), ax)

    def _repr_html_(self) -> str:
        """What a notebook shows: its arguments and a small picture."""
        return html_of(self, length_of(None, self.end_epoch), repr(self))

    @property
    def end_at(self) -> Path:
        """The way to the time at which it ends; empty where none of its options is a time."""
        times = [(path, time) for path, time, kind in leaves(self) if isinstance(kind, Time)]
        return max(times, key=lambda each: each[1])[0] if times else ()

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
        return {name: item.default is MISSING for name, item in fields_of(cls).items()}


@dataclass(frozen=True)
class ScheduleKind(Kind):
    """A schedule, or what `schedule_from_config` takes for one."""

    def read(self, path: Path, value: Any, owner: str, found: list[Fault]) -> Any:
        if not isinstance(value, Schedule | Mapping) and not is_number(value):
            found.append(
                Fault(
                    path,
                    f"`{path[0]}[{path[-1]}]` must be a schedule. Received: {value!r}. "
                    "Give a schedule, a number, or a mapping with its `kind`.",
                    ArgumentTypeError,
                )
            )
            return value
        faults = schedule_faults(value)
        found += [replace(fault.within(*path), alone=True) for fault in faults]
        return schedule_draft(value) if faults else schedule_from_config(value)

    def tells_time(self, kept: Any) -> bool:
        return isinstance(kept, Schedule)


def valued(config: Any) -> list[tuple[Path, float]]:
    """Every value of a schedule, or of what shall become one, with the way to it."""
    found = [(path, number) for path, number, kind in leaves(config) if isinstance(kind, Value)]
    if found or not isinstance(config, Schedule):
        return found
    return [((), number) for number in config.values]  # of a kind that declares none


def leaves(config: Any) -> Iterator[tuple[Path, float, Kind]]:
    """Every number of a schedule, or of what shall become one: the way to it, itself, its kind."""
    if is_number(config):
        yield (), config, Value()
    elif isinstance(config, Schedule):
        for name, item in fields_of(type(config)).items():
            yield from _leaves((name,), getattr(config, name), kind_of(item))
    elif isinstance(config, Mapping) and not _kind_faults(config):
        for name, item in fields_of(_KINDS[config["kind"]]).items():
            yield from _leaves((name,), config.get(name, item.default), kind_of(item))


def _leaves(path: Path, given: Any, kind: Kind) -> Iterator[tuple[Path, float, Kind]]:
    if isinstance(kind, ScheduleKind):
        yield from (((*path, *inner), number, of) for inner, number, of in leaves(given))
    elif isinstance(kind, Items) and isinstance(given, list | tuple):
        for index, each in enumerate(given):
            yield from _leaves((*path, index), each, kind.of)
    elif is_number(given):
        yield path, given, kind


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
    raise_first(_kind_faults(config))
    if not isinstance(config, Mapping):
        return _KINDS["constant"].from_config({"value": config})
    return _KINDS[config["kind"]].from_config(config)


def schedule_faults(config: Any) -> list[Fault]:
    """All that is wrong with what `schedule_from_config` would be given.

    >>> [fault.argument for fault in schedule_faults({"kind": "ramp", "initial": "1", "final": -1})]
    [('initial',), ('final',)]
    """
    if isinstance(config, Schedule):
        return _unfinished(config) or _untold(config)
    if not isinstance(config, Mapping):
        return [
            replace(each, argument=()) for each in _KINDS["constant"].faults_of({"value": config})
        ]
    return _kind_faults(config) or _KINDS[config["kind"]].faults_of(config) or _made_faults(config)


def _made_faults(config: Mapping[str, Any]) -> list[Fault]:
    """What a schedule lacks once it is made; nothing where it cannot be, which is said then."""
    try:
        return schedule_faults(schedule_from_config(config))
    except (ArgumentError, ArgumentTypeError):
        return []
    except Exception as error:  # of the code of its class: a file shows no traceback
        words = f"A schedule of kind {config['kind']!r} must be made of values that its class takes"
        failed = f"{type(error).__name__}: {error}"
        return [Fault((), f"{words}. Received: {dict(config)}, {failed}. Correct one of them.")]


def _unfinished(schedule: Schedule) -> list[Fault]:
    """What the class of a schedule lacks, as one of a plug-in may."""
    lacking = [name for name in ("end_epoch", "values") if not hasattr(schedule, name)]
    remedy = "Give it fields or properties of these names."
    received = received_unfinished(type(schedule), lacking, remedy)
    wanted = "A schedule must be a frozen dataclass that says when it ends and of which values it"
    words = f"{wanted} is, in `end_epoch` and `values`. {received}"
    return [] if received is None else [Fault((), words, ArgumentTypeError)]


def _untold(schedule: Schedule) -> list[Fault]:
    """What is no number of what a schedule says of itself."""
    owner, end, values = type(schedule).__name__, schedule.end_epoch, schedule.values
    if not _tells_end(schedule):
        words = f"`end_epoch` of {owner} must be a finite number, the epoch from which it stays"
        return [Fault((), f"{words}. Received: {end!r}. Give one.", ArgumentTypeError)]
    listed = has_elements(values) and not isinstance(values, str)
    wrong = [each for each in values if not math.isfinite(as_float(each))] if listed else [values]
    if not wrong:
        return []
    words = f"`values` of {owner} must be finite numbers, in a tuple. Received: {wrong[0]!r}"
    return [Fault((), f"{words}. Give numbers.", ArgumentTypeError)]


def _tells_end(schedule: Schedule) -> bool:
    return math.isfinite(as_float(schedule.end_epoch))


def schedule_draft(config: Any) -> Schedule | None:
    """When such a schedule ends and which values it has, whatever else is wrong with it.

    `None` where it does not say when: see `Settings.draft_of`.
    """
    if isinstance(config, Schedule) or not isinstance(config, Mapping):
        return None if schedule_faults(config) else schedule_from_config(config)
    draft = None if _kind_faults(config) else _KINDS[config["kind"]].draft_of(config)
    told = draft is not None and not _unfinished(draft) and _tells_end(draft)
    return draft if told else None


def _kind_faults(config: Any) -> list[Fault]:
    """A mapping that names no kind of schedule, or one whose class lacks something."""
    kind = config.get("kind") if isinstance(config, Mapping) else "constant"
    if isinstance(kind, str) and kind in _KINDS:
        lacking = unfinished(_KINDS[kind], "schedule")
        return [] if lacking is None else [Fault(("kind",), lacking, ArgumentTypeError)]
    return [
        Fault(
            ("kind",),
            f"`kind` of a schedule must be one of {_listed(schedule_kinds())}. "
            f"Received: {'nothing' if kind is None else repr(kind)}. Name one of them.",
        )
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, Schedule):
        return value.get_config()
    return [_plain(element) for element in value] if isinstance(value, tuple) else value


def _listed(names: Mapping[str, Any] | Sequence[str]) -> str:
    return ", ".join(repr(str(name)) for name in names) or "nothing"
