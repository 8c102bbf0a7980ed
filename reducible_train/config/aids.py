"""What aids look like in YAML: a key for each kind, with its arguments below.

The sections are made from the aids themselves (fields, types, docstrings), so a new aid
can be written in YAML, completed and checked the day its file exists.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, ClassVar, cast, get_type_hints

from pydantic import Field, create_model

from reducible_train.config.schedules import Section, argument_docs
from reducible_train.errors import ArgumentError, ArgumentTypeError
from reducible_train.settings.aids import Aid, aid_kinds

KINDS = aid_kinds()


class AidSection(Section):
    """One aid as it is written in YAML; `build` makes the real one."""

    made: ClassVar[type[Aid]]

    def build(self) -> Aid:
        """The aid itself."""
        return self.made(**dict(self))


def _section(made: type[Aid]) -> type[AidSection]:
    hints, docs = get_type_hints(made), argument_docs(made)
    content: dict[str, Any] = {}
    for item in fields(cast(Any, made)):  # every aid is a dataclass
        default = ... if item.default is MISSING else item.default
        content[item.name] = (hints[item.name], Field(default, description=docs[item.name]))
    section = create_model(
        f"{made.__name__}Section", __base__=AidSection, __doc__=summary_of(made), **content
    )
    section.made = made
    return section


def summary_of(made: type[Aid]) -> str:
    """The first sentence of an aid's docstring."""
    return (inspect.getdoc(made) or made.kind).split("\n\n")[0].replace("\n", " ")


if TYPE_CHECKING:

    class AidsSection(Section):
        """What helps the training while ranks fall."""
else:
    AidsSection = create_model(
        "AidsSection",
        __base__=Section,
        __doc__="What helps the training while ranks fall. {} takes an aid as it is.",
        **{
            kind: (_section(made) | None, Field(None, description=summary_of(made)))
            for kind, made in KINDS.items()
        },
    )


def build_aids(section: AidsSection | None) -> tuple[Aid, ...]:
    """The aids of a file."""
    sections = () if section is None else (value for _, value in section if value is not None)
    return tuple(each.build() for each in sections)


def aid_faults(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the arguments of each aid have against each other: its kind and a sentence.

    Nothing of those with unknown keys or values of the wrong type: that is told elsewhere.
    """
    for kind, arguments in values.items():
        if kind in KINDS and arguments is None:
            yield kind, f"{kind} says nothing. Write '{kind}: {{}}' to take it as it is."
        if kind not in KINDS or not isinstance(arguments, Mapping):
            continue
        if not set(arguments) <= {item.name for item in fields(cast(Any, KINDS[kind]))}:
            continue
        try:
            KINDS[kind](**arguments)
        except ArgumentTypeError:
            continue
        except ArgumentError as error:
            yield kind, str(error)
