"""Checks of arguments that several settings have in common."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeGuard, TypeVar

from reducible_train.errors import ArgumentError, ArgumentTypeError

T = TypeVar("T")


def is_number(value: Any) -> TypeGuard[float]:
    """True for a plain, finite number.

    >>> is_number(0.5), is_number(float("nan")), is_number(10**400), is_number(True)
    (True, False, False, False)
    """
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and abs(value) <= sys.float_info.max  # NaN compares false


def is_count(value: Any, least: int = 1) -> TypeGuard[int]:
    """True for a whole number that is not too small.

    >>> is_count(1), is_count(0), is_count(0, least=0), is_count(True), is_count(1.0)
    (True, False, True, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_count(name: str, value: Any, owner: str, least: int = 1) -> None:
    """Refuse what is no whole number, or too small.

    Raises:
        ArgumentError: It is.
    """
    if not is_count(value, least):
        raise ArgumentError(
            f"`{name}` of {owner} must be a whole number, at least {least}. "
            f"Received: {name}={value!r}."
        )


def check_span(start_epoch: int, end_epoch: int | None, owner: str) -> None:
    """Refuse epochs between which nothing can happen.

    Raises:
        ArgumentError: One is no whole number from 0 on, or the end is before the start.
    """
    check_count("start_epoch", start_epoch, owner, least=0)
    if end_epoch is None:
        return
    check_count("end_epoch", end_epoch, owner, least=0)
    if end_epoch < start_epoch:
        raise ArgumentError(
            "`end_epoch` must not be before `start_epoch`. Received: "
            f"start_epoch={start_epoch}, end_epoch={end_epoch}."
        )


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


def checked_all(wanted: str, values: Any, kind: type[T], example: str) -> tuple[T, ...]:
    """Values that are all of a kind.

    Args:
        wanted: What must be, the argument named.
        values: What came.
        kind: The class each must be of.
        example: What to write instead.

    Raises:
        ArgumentTypeError: One is of another, or they are no values in a row.
    """
    given = tuple(values) if isinstance(values, Iterable) else None
    for value in (values,) if given is None else given:
        if given is None or not isinstance(value, kind):
            raise ArgumentTypeError(f"{wanted}. Received: {value!r}. Write for example {example}.")
    return given or ()


def register(kinds: dict[str, type[T]], cls: type[T], what: str) -> None:
    """Enter a class under the name in its `kind`.

    Raises:
        ArgumentError: Another has that name.
    """
    kind: str = cls.kind  # type: ignore[attr-defined]
    taken = kinds.setdefault(kind, cls)
    if taken is not cls:
        raise ArgumentError(
            f"`kind` must be a name of its own for every {what}. "
            f"Received: kind={kind!r} in {cls.__name__}, taken by {taken.__name__}. "
            "Choose another."
        )
