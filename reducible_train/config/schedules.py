"""What a target looks like in YAML: a number, or a schedule named by its kind.

The models are made from the schedules themselves (fields, types, docstrings), so a
new schedule can be written in YAML, completed and checked the day its file exists.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, create_model
from typing_extensions import TypeAliasType

from reducible_train.errors import ArgumentError, ArgumentTypeError
from reducible_train.settings.schedules import Constant, Schedule, schedule_kinds

KINDS = schedule_kinds()


class Section(BaseModel):
    """A mapping of the file: nothing unknown, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    tag: ClassVar[str] = ""


def is_time(name: str) -> bool:
    """True for a schedule's times; its other numbers are values.

    >>> is_time("start_epoch"), is_time("boundaries"), is_time("final")
    (True, True, False)
    """
    return name.endswith(("_epoch", "_epochs")) or name == "boundaries"


def argument_docs(described: type) -> dict[str, str]:
    """The `Args:` of a docstring, one line of text for each name."""
    text = inspect.getdoc(described) or ""
    block = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", text, flags=re.MULTILINE)
    if block is None:
        return {}
    entries = re.findall(r"^    (\w+):((?:.*\n?)(?:^ {5,}.*\n?)*)", block[1], flags=re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in entries}


def kind_of(value: Any) -> str | None:
    """The kind of schedule that a mapping (or a checked section) names, if it is one."""
    kind = value.get("schedule") if isinstance(value, Mapping) else getattr(value, "schedule", None)
    return kind if isinstance(kind, str) and kind in KINDS else None


def tag_of(value: Any) -> str | None:
    """Which form of a target a value has; `None` if none of them."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "<number>"
    kind = kind_of(value)
    return f"<{kind}>" if kind else None


class ScheduleSection(Section):
    """A schedule as it is written in YAML; `build` makes the real one."""

    made: ClassVar[type[Schedule]]

    def build(self) -> Schedule:
        """The schedule itself."""
        arguments = {name: getattr(self, name) for name in type(self).model_fields}
        del arguments["schedule"]
        return self.made(**{name: _built(value) for name, value in arguments.items()})


def build_target(target: Any) -> Any:
    """A number as it is (an int if it is whole), a `ScheduleSection` as its schedule."""
    if isinstance(target, ScheduleSection):
        return target.build()
    return int(target) if isinstance(target, float) and target.is_integer() else target


def _built(value: Any) -> Any:
    if isinstance(value, list):
        items = [item.build() if isinstance(item, ScheduleSection) else item for item in value]
        if any(isinstance(item, Schedule) for item in items):
            items = [item if isinstance(item, Schedule) else Constant(item) for item in items]
        return tuple(items)
    return build_target(value)


def _fields(made: type[Schedule]) -> tuple[Any, ...]:
    return fields(cast(Any, made))  # every schedule is a dataclass


def _yaml_type(hint: Any) -> Any:
    origin: Any = get_origin(hint)
    inner = get_args(hint)
    if inspect.isclass(hint) and issubclass(hint, Schedule):
        return "Target"
    if inspect.isclass(origin) and origin is not Literal and issubclass(origin, tuple | list):
        item = _yaml_type(inner[0])
        return list["Target"] if item == "Target" else list[item]  # type: ignore[valid-type]
    return hint


def _section(kind: str, made: type[Schedule]) -> type[ScheduleSection]:
    hints, docs = get_type_hints(made), argument_docs(made)
    summary = (inspect.getdoc(made) or kind).split("\n\n")[0].replace("\n", " ")
    content: dict[str, Any] = {"schedule": (Literal[kind], Field(description=summary))}
    for item in _fields(made):
        default = ... if item.default is MISSING else item.default
        about = docs.get(item.name, item.name.replace("_", " ").capitalize() + ".")
        form = _yaml_type(hints[item.name])
        if "Target" in str(form):
            about = "Schedules or numbers, in order."
        content[item.name] = (form, Field(default, description=about))
    section = create_model(
        f"{made.__name__}Schedule", __base__=ScheduleSection, __doc__=summary, **content
    )
    section.tag, section.made = f"<{kind}>", made
    return section


SECTIONS = {kind: _section(kind, made) for kind, made in KINDS.items()}

# The lower limit is for editors; `contradictions` knows the limits of each quantity.
_NUMBER = Field(json_schema_extra={"minimum": 0})
_FORMS = [Annotated[float, Tag("<number>"), _NUMBER]]
_FORMS += [Annotated[section, Tag(section.tag)] for section in SECTIONS.values()]
if TYPE_CHECKING:
    Target = float | ScheduleSection
else:
    Target = TypeAliasType(
        "Target",
        Annotated[
            Union[tuple(_FORMS)],  # noqa: UP007 (made from a list)
            Discriminator(tag_of),
            Field(description="A number that holds all the time, or a schedule."),
        ],
    )
for _made in SECTIONS.values():
    _made.model_rebuild(_types_namespace={"Target": Target})


def time_defaults(kind: str) -> dict[str, float]:
    """The times that a kind of schedule has where none are given."""
    return {
        item.name: item.default
        for item in _fields(KINDS[kind])
        if is_time(item.name) and item.default is not MISSING
    }


def timing_fault(values: Mapping[str, Any]) -> str | None:
    """What is wrong with the times of a schedule, whatever its values are.

    Every value is replaced by one half, so that a bad value does not hide a bad time.
    `None` as well where a time is missing or not a number: that is told elsewhere.
    """
    try:
        _neutral(values)
    except (ArgumentError, ArgumentTypeError) as error:
        return str(error)
    except _Unusable:
        return None
    return None


class _Unusable(Exception):  # noqa: N818 (never leaves this file)
    """Not enough of a schedule to judge its times."""


def _neutral(values: Any) -> Schedule:
    kind = kind_of(values)
    if kind is None:
        return Constant(0.5)
    made = KINDS[kind]
    hints = get_type_hints(made)
    arguments: dict[str, Any] = {}
    for item in _fields(made):
        if item.name not in values and item.default is not MISSING:
            continue
        given = values.get(item.name)
        if is_time(item.name):
            arguments[item.name] = _times(given)
        elif "Schedule" in str(hints[item.name]):
            arguments[item.name] = tuple(_neutral(inner) for inner in _items(given))
        elif "tuple" in str(hints[item.name]):
            arguments[item.name] = tuple(0.5 for _ in _items(given))
        elif hints[item.name] is float:
            arguments[item.name] = 0.5
    return made(**arguments)


def _items(given: Any) -> Iterator[Any]:
    if not isinstance(given, list):
        raise _Unusable
    yield from given


def _times(given: Any) -> Any:
    if isinstance(given, list):
        return tuple(_times(item) for item in given)
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise _Unusable
    if not abs(given) <= sys.float_info.max:
        raise _Unusable
    return given
