"""What every measure is: what a budget counts, by name, with its options.

A measure is one new file in this package: a frozen dataclass with its `name`. A `CountedMeasure`
says what one number weighs, and is whole. A `TabulatedMeasure` has no such law: a module of its
name in `selection/costs` makes the tables of its costs. Both are found without further ado.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar

from reducible_train.errors import ArgumentError, ArgumentTypeError
from reducible_train.settings.base import Settings
from reducible_train.settings.checks import as_float, register, unfinished
from reducible_train.settings.fields import Kind
from reducible_train.settings.measures.shapes import InputShape, checked_input_shape

_KINDS: dict[str, type[Measure]] = {}


@dataclass(frozen=True)
class Measure(Settings, ABC):
    """What a budget counts.

    Attributes:
        name: Its name.
        unit: What it counts, in words.
        needs_shapes: True if costs hang on the shapes of the model's inputs.
        wavers: True if the same model costs now more, now less, as by a clock.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    needs_shapes: ClassVar[bool] = False
    wavers: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            register(_KINDS, cls, "measure", "name")
            return
        named = next((each for each in cls.__mro__ if "name" in vars(each)), cls)
        if getattr(cls, "weight", None) is not getattr(named, "weight", None):
            raise ArgumentTypeError(
                "A measure with a `weight` of its own must have a `name` of its own. Received: "
                f"{cls.__name__}, with that of {named.__name__}, {cls.name!r}. Write name: "
                "ClassVar[str] = 'a_name' in it."
            )

    def __str__(self) -> str:
        return self.name if self.is_default else repr(self)

    @property
    def is_default(self) -> bool:
        """True if its name says all of it."""
        compared = (each for each in fields(self) if each.compare)
        return all(getattr(self, each.name) == each.default for each in compared)

    @property
    def input_shape(self) -> InputShape | None:
        """The shape of one sample, as it was told; a field where it can be."""
        return None


@dataclass(frozen=True)
class CountedMeasure(Measure):
    """A measure by which each number of a kernel weighs the same, at whatever rank.

    Attributes:
        weighs_uses: True if a number weighs as often as one sample uses it.
    """

    weighs_uses: ClassVar[bool] = False

    @abstractmethod
    def weight(self, itemsize: int, uses: int) -> int:
        """What one number weighs.

        Args:
            itemsize: Its bytes in memory.
            uses: How often one sample uses it.
        """


@dataclass(frozen=True)
class TabulatedMeasure(Measure):
    """A measure whose costs follow no law, so that a table of each kernel tells them."""

    @abstractmethod
    def words(self, dense: float, now: float) -> str:
        """What a report says of the dense model and of the model as it is."""


class ShapedMeasure(Measure):
    """A measure whose costs hang on the shapes of the model's inputs; it has a field for them."""

    needs_shapes: ClassVar[bool] = True


@dataclass(frozen=True)
class ShapeKind(Kind):
    """The shape of one sample."""

    def checked(self, name: str, value: Any, owner: str) -> Any:
        return checked_input_shape(value)


SHAPE_HELP = (
    "Shape of one sample, for a model that leaves lengths open: [128], or a list or mapping of "
    "shapes. Left out: the mean of the calibration set, else that of the data."
)


def measure_kinds() -> dict[str, type[Measure]]:
    """Every measure, by name.

    >>> list(measure_kinds())
    ['bytes', 'file', 'flops', 'latency', 'parameters']
    """
    return dict(sorted(_KINDS.items()))


def counted_measure(name: str) -> CountedMeasure:
    """The measure of a name, one by which numbers are counted.

    Raises:
        ArgumentError: There is none of that name.

    Example:
        >>> counted_measure("bytes").weight(itemsize=4, uses=9)
        4
    """
    kind = _KINDS.get(name)
    if kind is None or not issubclass(kind, CountedMeasure):
        counted = [n for n, each in measure_kinds().items() if issubclass(each, CountedMeasure)]
        raise ArgumentError(
            f"`measure` must be one of {', '.join(map(repr, counted))}. "
            f"Received: measure={name!r}. To count numbers, write 'parameters'."
        )
    made: CountedMeasure = _without_options(kind)
    return made


@functools.cache
def _without_options(kind: type[Measure]) -> Any:
    """The measure of a kind; asked for each weight of a model, many times a cut."""
    needed = needed_options(kind)
    if needed is not None:
        raise ArgumentTypeError(needed)
    return kind()


def needed_options(kind: type[Measure]) -> str | None:
    """That a measure has options which must be given, so that its name says too little."""
    lacking = [each.name for each in fields(kind) if each.default is MISSING]
    if not lacking:
        return None
    options = ", ".join(f"{name}=..." for name in lacking)
    told = " and ".join(f"`{name}`" for name in lacking)
    return (
        "A measure named alone must have a default for each option. Received: "
        f"measure={kind.name!r}, whose {told} must be given. Write measure={kind.__name__}"
        f"({options}), in a file a mapping of its name and options."
    )


def checked_measure(measure: Any) -> Measure:
    """The measure that a name, or an object with options, asks for.

    Raises:
        ArgumentError: Neither a measure nor the name of one.
        ArgumentTypeError: The class of that name is not finished, or its weights are no numbers.

    Example:
        >>> checked_measure("flops")
        Flops(input_shape=None)
    """
    if isinstance(measure, Measure):
        _check_weight(measure)
        return measure
    if not isinstance(measure, str) or measure not in _KINDS:
        raise ArgumentError(
            f"`measure` must be one of {', '.join(map(repr, measure_kinds()))}. "
            f"Received: measure={measure!r}. If unsure, leave it out."
        )
    lacking = unfinished(_KINDS[measure], "measure")
    if lacking is not None:
        raise ArgumentTypeError(lacking)
    made: Measure = _without_options(_KINDS[measure])
    _check_weight(made)
    return made


def _check_weight(measure: Measure) -> None:
    """Refuse a counted measure by which a number weighs what is none."""
    if not isinstance(measure, CountedMeasure):
        return
    weight = measure.weight(4, 1)
    if not 0 <= as_float(weight) < math.inf:
        raise ArgumentTypeError(
            f"`weight` of {type(measure).__name__} must return a finite number, at least 0. "
            f"Received: {weight!r} for itemsize=4, uses=1. Return what one number weighs."
        )
