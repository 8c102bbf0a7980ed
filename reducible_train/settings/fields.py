"""An option, declared once: its type and range, its default, what it means.

Constructors, YAML, the JSON schema and `help` read the same declaration, so a new option of a
settings class is one field:

```python
patience: int = option(Count(), 2, help="Epochs that a cut has to recover.")
```
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, cast

from reducible_train.errors import ArgumentError, ArgumentTypeError
from reducible_train.settings.checks import (
    ANY,
    Range,
    checked_count,
    checked_epoch,
    checked_number,
    checked_sequence,
    checked_value,
    is_count,
    is_number,
    plain,
)
from reducible_train.settings.faults import Fault, Path, argument_text


class Kind:
    """What an option may be; this one is anything at all."""

    def checked(self, name: str, value: Any, owner: str) -> Any:
        """The value as it is kept.

        Args:
            name: The option, for messages.
            value: What came.
            owner: What the option is of, for messages: `"a guard"`.

        Raises:
            ArgumentError: It cannot be used.
            ArgumentTypeError: It is of no use at all.
        """
        return value

    def tells_time(self, kept: Any) -> bool:
        """False for what should say when something happens, and does not."""
        return True

    def read(self, path: Path, value: Any, owner: str, found: list[Fault]) -> Any:
        """The value as it is kept; what is wrong with it is added to the faults that were found."""
        try:
            return self.checked(argument_text(path), value, owner)
        except (ArgumentError, ArgumentTypeError) as error:
            found.append(Fault(path, str(error), type(error)))
            return value


@dataclass(frozen=True)
class Number(Kind):
    """A finite number of a range; `advice` says what to write where the range does not."""

    within: Range = ANY
    advice: str = ""

    def checked(self, name: str, value: Any, owner: str) -> float:
        return checked_number(name, value, self.within, owner, self.advice)


@dataclass(frozen=True)
class Count(Kind):
    """A whole number that is not too small."""

    least: int = 1

    def checked(self, name: str, value: Any, owner: str) -> int:
        return checked_count(name, value, owner, self.least)


@dataclass(frozen=True)
class EpochNumber(Count):
    """A whole epoch, counted from 0."""

    least: int = 0

    def tells_time(self, kept: Any) -> bool:
        return is_count(kept, self.least)


@dataclass(frozen=True)
class Time(Kind):
    """A time in epochs from 0, fractions allowed."""

    def checked(self, name: str, value: Any, owner: str) -> float:
        return checked_epoch(name, value)

    def tells_time(self, kept: Any) -> bool:
        return is_number(kept) and kept >= 0


@dataclass(frozen=True)
class Value(Kind):
    """A value of what falls, not negative: which are good, its target knows."""

    def checked(self, name: str, value: Any, owner: str) -> float:
        return checked_value(name, value)


@dataclass(frozen=True)
class Text(Kind):
    """Text that is not empty; `wanted` and `example` say in a message what it shall be."""

    wanted: str
    example: str

    def checked(self, name: str, value: Any, owner: str) -> str:
        if isinstance(value, str) and value:
            return value
        whose = f"`{name}` of {owner}" if owner else f"`{name}`"
        raise ArgumentTypeError(
            f"{whose} must be {self.wanted}. Received: {name}={value!r}. "
            f"Write for example {self.example}."
        )


@dataclass(frozen=True)
class PathName(Kind):
    """The name of a file or a folder."""

    def checked(self, name: str, value: Any, owner: str) -> Any:
        if not isinstance(value, str | os.PathLike) or not os.fspath(value):
            raise ArgumentTypeError(
                f"`{name}` must be a path. Received: {name}={value!r}. Give it as text."
            )
        if "\0" in str(value):
            raise ArgumentError(
                f"`{name}` must have no null character. Received: {name}={value!r}. Remove it."
            )
        return value


@dataclass(frozen=True)
class Choice(Kind):
    """One of some words."""

    options: tuple[str, ...]
    advice: str = ""

    def checked(self, name: str, value: Any, owner: str) -> str:
        if isinstance(value, str) and value in self.options:
            return value
        whose = f"`{name}` of {owner}" if owner else f"`{name}`"
        raise ArgumentError(
            f"{whose} must be one of {', '.join(map(repr, self.options))}. "
            f"Received: {name}={value!r}.{self.advice and ' '}{self.advice}"
        )


@dataclass(frozen=True)
class Truth(Kind):
    """True or False."""

    def checked(self, name: str, value: Any, owner: str) -> bool:
        truth = plain(value)
        if isinstance(truth, bool):
            return truth
        whose = f" in {owner}" if owner else ""
        raise ArgumentTypeError(
            f"`{name}` must be True or False. Received: {name}={value!r}{whose}. "
            "Write it without quotes."
        )


@dataclass(frozen=True)
class Items(Kind):
    """At least one of a kind, in order."""

    of: Kind

    def read(self, path: Path, value: Any, owner: str, found: list[Fault]) -> Any:
        try:
            items = checked_sequence(argument_text(path), value)
        except (ArgumentError, ArgumentTypeError) as error:
            found.append(Fault(path, str(error), type(error)))
            return value
        return tuple(self.of.read((*path, i), each, owner, found) for i, each in enumerate(items))

    def tells_time(self, kept: Any) -> bool:
        if isinstance(kept, tuple):
            return all(map(self.of.tells_time, kept))
        return self.of.tells_time(None)


def option(kind: Kind, default: Any = MISSING, *, help: str) -> Any:
    """A field of a settings class.

    Args:
        kind: What it may be; beside it `None`, where that is the default.
        default: What it is where it is left out; it must be given where there is none.
        help: What it means, in a sentence or two.
    """
    return field(default=default, metadata={"kind": kind, "help": help})


def fields_of(settings: type) -> Mapping[str, Field[Any]]:
    """The options of a settings class, by name, in order; what no two are compared by is none."""
    return {item.name: item for item in fields(cast(Any, settings)) if item.compare}


def kind_of(item: Field[Any]) -> Kind:
    """What an option may be."""
    kind: Kind = item.metadata.get("kind", Kind())
    return kind


def help_of(item: Field[Any]) -> str:
    """What an option means; its name where nobody has said it."""
    words: str = item.metadata.get("help") or f"{item.name.replace('_', ' ').capitalize()}."
    return words
