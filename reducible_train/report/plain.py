"""Records from plain JSON values, as strictly as their annotations say."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

import numpy as np

from reducible_train.errors import FormatError

Record = TypeVar("Record")


def from_plain(kind: type[Record], plain: Any, where: str) -> Record:
    """Make a record of the values that JSON has of it.

    `None` in place of a number is NaN, since JSON has no word for it. Arrays and mappings
    that were left out are empty.

    Args:
        kind: A dataclass.
        plain: Field name -> value.
        where: What is read, for errors.

    Raises:
        FormatError: A field is missing, unknown, or of another type.
    """
    if not isinstance(plain, Mapping):
        raise refused(where, "an object", plain)
    hints = typing.get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(map(str, set(plain) - known.keys()))
    if unknown:
        raise FormatError(
            f"{where} must have the fields {', '.join(known)}. Received: {', '.join(unknown)[:200]}"
            " too. A newer version of reducible-train wrote it, or it was altered."
        )
    values: dict[str, Any] = {}
    for name, field in known.items():
        if name in plain:
            values[name] = _value(hints[name], plain[name], f"{where}.{name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            values[name] = _value(hints[name], _empty(hints[name], where, name), where)
    return kind(**values)


def _value(kind: Any, value: Any, where: str) -> Any:
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin is types.UnionType:
        some = next(each for each in inner if each is not type(None))
        return None if value is None else _value(some, value, where)
    if is_dataclass(kind):
        return from_plain(kind, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        return _tuple(inner, value, where)
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise refused(where, "an object", value)
        return {str(key): _value(inner[1], each, where) for key, each in value.items()}
    if origin is np.ndarray:
        return np.asarray(_tuple((float, ...), value, where), float)
    return _scalar(kind, value, where)


def _tuple(inner: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    endless = len(inner) == 2 and inner[1] is Ellipsis
    if not isinstance(value, (list, tuple)) or not (endless or len(value) == len(inner)):
        raise refused(where, "a list" if endless else f"a list of {len(inner)}", value)
    kinds = [inner[0]] * len(value) if endless else inner
    return tuple(
        _value(kind, each, f"{where}[{i}]")
        for i, (kind, each) in enumerate(zip(kinds, value, strict=True))
    )


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float and value is None:
        return float("nan")
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        names = {int: "a whole number", float: "a number", str: "a text"}
        raise refused(where, names.get(kind, kind.__name__), value)
    if kind is not float:
        return value
    try:
        return float(value)
    except OverflowError as error:  # a whole number beyond all floats
        raise refused(where, "a number that a float can hold", value) from error


def _empty(kind: Any, where: str, name: str) -> Any:
    origin = typing.get_origin(kind) or kind
    if origin is np.ndarray:
        return []
    if origin is Mapping:
        return {}
    raise FormatError(f"{where} must have {name!r}. Received: nothing. It was altered.")


def refused(where: str, expected: str, value: Any) -> FormatError:
    """The error to raise where a file holds something else."""
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
    return FormatError(f"{where} must be {expected}. Received: {shown}. It was altered.")
