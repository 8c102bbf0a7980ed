"""Checks of arguments that several settings have in common."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from decimal import Decimal
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, TypeGuard, TypeVar

import numpy as np

from reducible_train.errors import ArgumentError, ArgumentTypeError, NumberError
from reducible_train.settings.faults import Fault

T = TypeVar("T")


def plain(value: Any) -> Any:
    """A number of any kind as Python's own `int` or `float`; anything else as it came.

    A number of numpy, an array without axes, a fraction or a decimal is as good as a number as
    one of Python. Kept as such, it would show in `repr`, and be in the way in JSON and YAML.

    >>> plain(np.int64(8)), plain(np.array(0.5, "float32")), plain(Decimal("0.25")), plain("8")
    (8, 0.5, 0.25, '8')
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if not isinstance(value, Real | Decimal):
        return value
    try:
        return float(value)
    except (OverflowError, ValueError):  # a fraction beyond all floats, a signalling NaN
        return math.nan


def takes(function: Callable[..., Any], *arguments: Any) -> bool:
    """Whether a function can be called with these arguments; true of one whose own nobody knows.

    >>> takes(len, "words"), takes(lambda x: x), takes(lambda x, y=0: x, 1)
    (True, False, True)
    """
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # no signature to be known
        return True
    return True


def is_number(value: Any) -> TypeGuard[float]:
    """True for a finite number; a truth value is none.

    >>> is_number(0.5), is_number(float("nan")), is_number(10**400), is_number(True)
    (True, False, False, False)
    """
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, int | float):
        return False
    return abs(number) <= sys.float_info.max  # NaN compares false


def as_float(value: Any) -> float:
    """A number of any kind, a tensor without axes too, as a float; NaN of what is none.

    >>> as_float(np.float32(0.5)), as_float("0.5"), as_float(np.array([0.5])), as_float(None)
    (0.5, nan, nan, nan)
    """
    if isinstance(value, str | bytes) or len(getattr(value, "shape", ())):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):  # a whole number beyond all floats
        return math.nan


def is_count(value: Any, least: int = 1) -> TypeGuard[int]:
    """True for a whole number that is not too small, nor larger than all that one computes with.

    >>> is_count(1), is_count(0), is_count(0, least=0), is_count(True), is_count(1.0)
    (True, False, True, False, False)
    >>> is_count(10**400)
    False
    """
    count = plain(value)
    return isinstance(count, int) and is_number(count) and count >= least


@dataclass(frozen=True)
class Range:
    """The numbers that an argument may have.

    Args:
        least: The smallest, or what all must be above.
        most: The largest, or what all must be below.
        above: True if `least` is none of them.
        below: True if `most` is none of them.

    >>> str(Range(0, 1, above=True)), 25 in Range(0, 1), Range(0, 1, above=True).percent(25)
    ('in (0, 1]', False, ' For 25 % write 0.25.')
    """

    least: float = -math.inf
    most: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        low = value > self.least if self.above else value >= self.least
        return low and (value < self.most if self.below else value <= self.most)

    def __str__(self) -> str:
        if math.isinf(self.most):
            return f"greater than {self.least:g}" if self.above else f"at least {self.least:g}"
        ends = "(" if self.above else "[", ")" if self.below else "]"
        return f"in {ends[0]}{self.least:g}, {self.most:g}{ends[1]}"

    def percent(self, value: float) -> str:
        """What to write instead of a fraction in per cent; nothing for what cannot be one."""
        return percent_advice(value) if self.most == 1 < value else ""


FRACTION = Range(0, 1, above=True)  # of a whole that is kept: (0, 1]
PART = Range(0, 1, above=True, below=True)  # neither nothing nor all: (0, 1)
SHARE = Range(0, 1, below=True)  # of a whole that may go: [0, 1)
POSITIVE = Range(0, above=True)
AMOUNT = Range(0)
ANY = Range()


def percent_advice(value: float) -> str:
    """The same number as a fraction, in a sentence, where it looks like per cent.

    >>> percent_advice(5), percent_advice(0.5), percent_advice(300)
    (' For 5 % write 0.05.', '', '')
    """
    return f" For {value:g} % write {value / 100:g}." if 1 <= value <= 100 else ""


def checked_number(
    name: str, value: Any, within: Range = ANY, owner: str = "", advice: str = ""
) -> float:
    """A finite number of a range, as Python's own.

    Args:
        name: The argument.
        value: What came.
        within: What it may be.
        owner: What the argument is of, for the message: `"a search"`.
        advice: What to do, where the range alone does not say it.

    Raises:
        NumberError: No number.
        ArgumentError: Not finite, or out of the range.
    """
    number, whose = plain(value), f"`{name}` of {owner}" if owner else f"`{name}`"
    if isinstance(number, bool) or not isinstance(number, int | float):
        span = "" if within == ANY else f" {within}"
        raise NumberError(
            f"{whose} must be a number{span}. Received: {name}={value!r}, "
            f"a {type(value).__name__}. {_instead_of(value)}"
        )
    if not is_number(number):
        raise ArgumentError(
            f"{whose} must be finite. Received: {name}={number}. Give an ordinary number."
        )
    if number not in within:
        told = f" {advice}" if advice else within.percent(number)
        raise ArgumentError(f"{whose} must be {within}. Received: {name}={number!r}.{told}")
    return number


def checked_count(name: str, value: Any, owner: str, least: int = 1) -> int:
    """A whole number that is not too small, as Python's own.

    Raises:
        ArgumentError: It is none, or too small.
    """
    if not is_count(value, least):
        error = ArgumentError if is_number(value) and value % 1 == 0 else NumberError
        whose = f"`{name}` of {owner}" if owner else f"`{name}`"
        raise error(
            f"{whose} must be a whole number, at least {least}. Received: {name}={value!r}."
        )
    return int(value)


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


def has_elements(value: object) -> TypeGuard[Iterable[Any]]:
    """True for what can be gone through; an array without axes cannot.

    >>> has_elements([]), has_elements({1}), has_elements(np.array(0.5)), has_elements(None)
    (True, True, False, False)
    """
    return isinstance(value, Iterable) and getattr(value, "shape", None) != ()


def has_no_order(value: object) -> bool:
    """True for a set of several, which comes in whatever order.

    >>> has_no_order({1.0, 0.5}), has_no_order({1.0}), has_no_order([1.0, 0.5])
    (True, False, False)
    """
    return isinstance(value, set | frozenset) and len(value) > 1


def checked_sequence(name: str, value: object) -> Sequence[Any]:
    """A list or tuple with at least one element."""
    is_one = isinstance(value, str | bytes | bytearray | Mapping)
    if is_one or not has_elements(value):
        raise ArgumentTypeError(
            f"`{name}` must be a list. Received: {name}={value!r}. For one element write [element]."
        )
    if has_no_order(value):
        raise ArgumentTypeError(
            f"`{name}` must be a list. Received: {name}={value!r}, a set, which has no order. "
            "Write its elements in square brackets."
        )
    elements = list(value)
    if not elements:
        raise ArgumentError(
            f"`{name}` must have at least one element. Received: {name}={value!r}. Add one."
        )
    return elements


def increase_fault(name: str, times: Sequence[float]) -> Fault | None:
    """A time that is not later than the one before it."""
    for i, (before, after) in enumerate(pairwise(times), start=1):
        if after <= before:
            return Fault(
                (name, i),
                f"`{name}` must increase. Received: {name}[{i}]={after} after {before}. "
                "Sort them, and drop what happens twice.",
            )
    return None


def settle(record: Any, **values: Any) -> None:
    """Put checked values in place of those that a frozen dataclass was given."""
    for name, value in values.items():
        object.__setattr__(record, name, value)  # nobody has seen it yet


def _instead_of(value: object) -> str:
    """What to write in place of what is no number."""
    text = str(value).strip()
    number = text.removesuffix("%").strip()
    try:
        fraction = float(number)
    except ValueError:
        return "Give a number or, for what falls, a schedule of reducible_train such as Ramp."
    if text.endswith("%"):
        return f"For {fraction:g} % write {fraction / 100:g}."
    return f"Write {fraction:g}, without quotes."


def checked(name: str, value: Any, kind: type[T], example: str) -> T | None:
    """A value that is of a kind, or `None` where there is none.

    Args:
        name: The argument.
        value: What came.
        kind: The class it must be of.
        example: What to write instead.

    Raises:
        ArgumentTypeError: It is of another.
    """
    if value is None or isinstance(value, kind):
        return value
    article = "an" if kind.__name__[0] in "AEIOU" else "a"
    raise ArgumentTypeError(
        f"`{name}` must be {article} {kind.__name__}. Received: {value!r}. "
        f"Write for example {example}."
    )


def checked_all(
    wanted: str, values: Any, kind: type[T], example: str, *, in_order: bool = True
) -> tuple[T, ...]:
    """Values that are all of a kind.

    Args:
        wanted: What must be, the argument named.
        values: What came.
        kind: The class each must be of.
        example: What to write instead.
        in_order: True if their order has a meaning.

    Raises:
        ArgumentTypeError: One is of another, or they are no values in a row.
    """
    if isinstance(values, kind):
        raise ArgumentTypeError(
            f"{wanted}, in a list. Received: one alone, {values!r}. Write for example {example}."
        )
    row = has_elements(values) and not isinstance(values, str | bytes | Mapping)
    if in_order and has_no_order(values):
        raise ArgumentTypeError(
            f"{wanted}, in a list. Received: {values!r}, a set, which has no order. Write for "
            f"example {example}."
        )
    given = tuple(values) if row else None
    for value in (values,) if given is None else given:
        if given is None or not isinstance(value, kind):
            raise ArgumentTypeError(f"{wanted}. Received: {value!r}. Write for example {example}.")
    return given or ()


def register(kinds: dict[str, type[T]], cls: type[T], what: str, name: str = "kind") -> None:
    """Enter a class under the name in its `kind`, or in another attribute.

    It takes the place of the one that it is another version of.

    Raises:
        ArgumentTypeError: It has no name.
        ArgumentError: Another has that name.
    """
    kind = getattr(cls, name, None)
    if not isinstance(kind, str):
        received = "which has none" if kind is None else f"in which it is {kind!r}"
        raise ArgumentTypeError(
            f"`{name}` must be the name of every {what}, as text. Received: {cls.__name__}, "
            f"{received}. Write {name}: ClassVar[str] = 'a_name' in it."
        )
    taken = kinds.get(kind, cls)
    if not is_version(cls, taken):
        raise ArgumentError(
            f"`{name}` must be a name of its own for every {what}. "
            f"Received: {name}={kind!r} in {cls.__name__}, taken by {taken.__name__}. "
            "Choose another."
        )
    kinds[kind] = cls


def check_name(name: object, what: str, *kept: str) -> None:
    """Refuse a name under which a function of one's own would never be found.

    Args:
        name: The name.
        what: What is called so, with its article.
        kept: Names that mean something else.

    Raises:
        ArgumentTypeError: It is no text, or empty.
        ArgumentError: It means something else.
    """
    if not isinstance(name, str) or not name:
        raise ArgumentTypeError(
            f"{what} must have a name, as text. Received: {name!r}. Write it in brackets behind "
            "the decorator, such as 'a_name'."
        )
    if name in kept:
        raise ArgumentError(
            f"{what} must have a name of its own. Received: {name!r}, which leaves the choice to "
            "the package. Choose another."
        )


def is_version(new: Any, old: Any) -> bool:
    """True of what is defined where the old one was, as by a cell of a notebook run again.

    Also of a dataclass with slots, which is a second class with the fields of the first.
    """
    declared = [getattr(each, "__dict__", {}).get("__dataclass_fields__") for each in (new, old)]
    if declared[0] is not None and declared[0] is declared[1]:
        return True
    places = [
        [getattr(each, name, each) for name in ("__module__", "__qualname__")]
        for each in (new, old)
    ]
    return places[0] == places[1]


def unfinished(made: type, what: str, *needed: str) -> str | None:
    """What the class of a kind lacks to be used, as one of a plug-in may; `None` for nothing.

    Args:
        made: The class, after its decorators or before.
        what: What it is a kind of.
        needed: Attributes that it must have.
    """
    lacking = [*sorted(getattr(made, "__abstractmethods__", ()))]
    lacking += [name for name in needed if not hasattr(made, name)]
    remedy = f"Write {'it' if len(lacking) == 1 else 'them'} in the class."
    received = received_unfinished(made, lacking, remedy)
    article = "An" if what[0] in "aeiou" else "A"
    wanted = f"{article} {what} must be a frozen dataclass with all that every {what} has"
    return None if received is None else f"{wanted}. {received}"


def received_unfinished(made: type, lacking: Sequence[str], remedy: str) -> str | None:
    """That a class is no dataclass, or what it lacks, and what to do; `None` for neither.

    Args:
        made: The class.
        lacking: Attributes that it should have and has not.
        remedy: What to do about these, in a sentence.
    """
    if not is_dataclass(made):
        wrong, remedy = "is no dataclass", "Write @dataclass(frozen=True) above it."
    elif lacking:
        wrong = f"has no {' and no '.join(f'`{each}`' for each in lacking)}"
    else:
        return None
    return f"Received: {made.__name__}, which {wrong}. {remedy}"
