"""What all settings are: frozen values, checked when they are made, whose faults can be asked for.

A constructor raises the first fault. Whoever reads a file asks for all of them, with their places,
before there is an object: `Guard.faults_of({"patience": 0})`.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, replace
from typing import Any, ClassVar, Protocol, Self, TypeVar, cast

from reducible_train.errors import ArgumentTypeError
from reducible_train.settings.checks import settle
from reducible_train.settings.faults import Fault, Path, raise_first
from reducible_train.settings.fields import Kind, fields_of, help_of, kind_of


class Together(Protocol):
    """A rule about several options of a settings class."""

    together: tuple[str, ...]

    def __call__(self, settings: Any, /) -> Fault | None: ...


_IN = "    "
R = TypeVar("R", bound=Callable[[Any], Fault | None])


def together(*names: str) -> Callable[[R], R]:
    """Mark a method of a settings class that says what these options have against each other.

    It is asked where each of them is good by itself.
    """

    def mark(rule: R) -> R:
        cast(Any, rule).together = names
        return rule

    return mark


@dataclass(frozen=True)
class OneOf:
    """Options of which exactly one is given.

    Args:
        names: Which.
        advice: What to write, for example.
    """

    names: tuple[str, ...]
    advice: str = ""

    def fault(self, settings: Settings) -> Fault | None:
        """What is wrong where none of them is given, or more than one."""
        given = [name for name in self.names if getattr(settings, name) is not None]
        if len(given) == 1:
            return None
        *head, last = (f"`{name}`" for name in self.names)
        owner = settings.owner or type(settings).__name__
        return Fault(
            (),
            f"{owner[0].upper()}{owner[1:]} takes exactly one of {', '.join(head)} or {last}, "
            f"either of them alone. Received: {' and '.join(given) or 'neither'}. "
            f"{self.advice}".rstrip(),
        )


class Settings:
    """What a user asks for; subclasses are frozen dataclasses, each option an `option(...)`.

    ```python
    @dataclass(frozen=True)
    class Search(Settings, owner="a search", help="Steps the budget down."):
        factor: float = option(Number(PART), 0.7, help="What a step multiplies the budget by.")
    ```

    Attributes:
        owner: What an option is of, for messages.
        help: What it does, in a sentence: of a section in YAML.
        one_of: Options that stand for each other.
    """

    owner: ClassVar[str] = ""
    help: ClassVar[str] = ""
    one_of: ClassVar[OneOf | None] = None

    def __init_subclass__(
        cls, owner: str = "", help: str = "", one_of: OneOf | None = None, **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        cls.owner, cls.one_of = owner or cls.owner, one_of or cls.one_of
        cls.help = help or (cls.__doc__ or cls.__name__).split("\n\n")[0].replace("\n    ", " ")
        cls.__doc__ = with_arguments(cls.__doc__, vars(cls))

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in fields_of(type(self))}
        draft, found = self._read(values)
        raise_first(found)
        settle(self, **{name: getattr(draft, name) for name in values})

    @classmethod
    def whose(cls, values: Mapping[str, Any]) -> str:
        """What an option of these values is of, for messages."""
        return cls.owner

    @classmethod
    def completed(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The same values with those that follow from others."""
        return values

    @classmethod
    def faults_of(cls, values: Mapping[str, Any]) -> list[Fault]:
        """All that is wrong with what a constructor would be given, whatever it is.

        Args:
            values: By option; one that does not exist is passed over.
        """
        return cls._read(values)[1]

    def faults(self) -> list[Fault]:
        """What the constructor would find now: nothing, unless a folder has become a file."""
        return self.faults_of({name: getattr(self, name) for name in fields_of(type(self))})

    @classmethod
    def draft_of(cls, values: Mapping[str, Any]) -> Self | None:
        """What such values come to as far as time goes; `None` where they say nothing of that.

        For what else is wrong in a file: only its times are good, its other options are as they
        came.
        """
        draft, found = cls._read(values)
        alone = {fault.argument[0] for fault in found if fault.alone}
        for name, item in fields_of(cls).items():
            if not hasattr(draft, name):
                return None
            if name in alone and not kind_of(item).tells_time(getattr(draft, name)):
                return None
        return draft if all(fault.alone for fault in found) else None

    @classmethod
    def _read(cls, values: Mapping[str, Any]) -> tuple[Self, list[Fault]]:
        """An object with what is kept of each value, for this class alone; and what is wrong."""
        values = cls.completed(values)
        draft, found, owner = object.__new__(cls), list[Fault](), cls.whose(values)
        for name, item in fields_of(cls).items():
            given = values.get(name, item.default)
            if given is MISSING:
                found.append(Fault((name,), f"`{name}` must be given. {help_of(item)}"))
            elif given is None and item.default is None:
                settle(draft, **{name: None})
            else:
                settle(draft, **{name: kind_of(item).read((name,), given, owner, found)})
        bad = {fault.argument[0] for fault in found}
        against = [rule(draft) for rule in cls._rules() if bad.isdisjoint(rule.together)]
        against += [] if cls.one_of is None else [cls.one_of.fault(draft)]
        return draft, found + [replace(fault, alone=False) for fault in against if fault]

    @classmethod
    def _rules(cls) -> Iterator[Together]:
        """What some options have against each other, those of base classes first."""
        for base in reversed(cls.__mro__):
            yield from (each for each in vars(base).values() if hasattr(each, "together"))


@dataclass(frozen=True)
class Nested(Kind):
    """Settings within settings, as such or as a mapping of their options.

    Args:
        made: Their class.
        example: What to write for one.
    """

    made: type[Settings]
    example: str

    def read(self, path: Path, value: Any, owner: str, found: list[Fault]) -> Any:
        if isinstance(value, self.made):
            return value
        if not isinstance(value, Mapping):
            return super().read(path, value, owner, found)
        known = fields_of(self.made)
        faults = [
            Fault((name,), f"`{name}` is unknown. Known here: {', '.join(known)}.")
            for name in map(str, value)
            if name not in known
        ]
        faults += self.made.faults_of(value)
        found += [replace(fault.within(*path), alone=True) for fault in faults]
        return self.made.draft_of(value) if faults else self.made(**value)

    def checked(self, name: str, value: Any, owner: str) -> Any:
        article = "an" if self.made.__name__[0] in "AEIOU" else "a"
        raise ArgumentTypeError(
            f"`{name}` must be {article} {self.made.__name__}. Received: {value!r}. "
            f"Write for example {name}={self.example}."
        )

    def tells_time(self, kept: Any) -> bool:
        return isinstance(kept, self.made)


def span_fault(settings: Any) -> Fault | None:
    """Epochs between which nothing can happen."""
    if settings.end_epoch is None or settings.end_epoch >= settings.start_epoch:
        return None
    return Fault(
        ("end_epoch",),
        "`end_epoch` must not be before `start_epoch`. Received: "
        f"start_epoch={settings.start_epoch}, end_epoch={settings.end_epoch}.",
    )


def with_arguments(told: str | None, members: Mapping[str, Any]) -> str | None:
    """A docstring with the options of a class as its `Args:`, said once, where they are declared.

    >>> from reducible_train.settings.fields import Kind, option
    >>> print(with_arguments("Undoes cuts.", {"tries": option(Kind(), 3, help="How often.")}))
    Undoes cuts.
    <BLANKLINE>
    Args:
        tries: How often.
    """
    declared = {name: item for name, item in members.items() if isinstance(item, Field)}
    options = {name: item for name, item in declared.items() if item.metadata}
    if not told or not options:
        return told
    entries = [
        textwrap.fill(f"{name}: {help_of(item)}", 96, initial_indent=_IN, subsequent_indent=2 * _IN)
        for name, item in options.items()
    ]
    words = inspect.cleandoc(told)
    after = re.search(r"^(Raises|Example|Reference):", words, re.MULTILINE)
    place = after.start() if after else len(words)
    parts = [words[:place].rstrip(), "\n".join(["Args:", *entries]), words[place:]]
    return "\n\n".join(filter(None, parts))
