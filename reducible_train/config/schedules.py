"""What a target looks like in YAML: a number, or a schedule named by its kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, cast

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType

from reducible_train.config.kinds import known_schedules
from reducible_train.config.sections import (
    TARGET,
    Section,
    SeveralSection,
    section_of,
    several_section,
)
from reducible_train.settings.measures import Measure
from reducible_train.settings.schedules import Schedule
from reducible_train.settings.targets.several import is_several

NO_MEASURE = "no_measure"  # pydantic's name of such a mistake


class _Measures(SeveralSection):
    @model_validator(mode="before")
    @classmethod
    def _names_some(cls, value: Any) -> Any:
        if value == {}:
            raise PydanticCustomError(NO_MEASURE, "it names none")
        return value


def kind_of(value: Any) -> str | None:
    """The kind of schedule that a mapping (or a checked section) names, if it is one."""
    kind = value.get("schedule") if isinstance(value, Mapping) else getattr(value, "schedule", None)
    return kind if isinstance(kind, str) and kind in known_schedules() else None


def tag_of(value: Any) -> str | None:
    """Which form of a target a value has; `None` if none of them."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "<number>"
    kind = kind_of(value)
    return f"<{kind}>" if kind else None


def shared_tag_of(value: Any) -> str | None:
    """The same of what may be asked by several measures at once."""
    several = isinstance(value, SeveralSection) or is_several(as_config(value))
    return SeveralSection.tag if several else tag_of(value)


def as_config(target: Any) -> Any:
    """A schedule of a file as `Schedule.get_config` writes it."""
    if isinstance(target, list):
        return [as_config(item) for item in target]
    if not isinstance(target, Mapping):
        return target
    return {"kind" if key == "schedule" else key: as_config(value) for key, value in target.items()}


@dataclass(frozen=True)
class TargetForms:
    """What targets may be, as types for pydantic.

    Args:
        alone: What one kind of kernel is brought to.
        shared: What all may share, by several measures too.
    """

    alone: Any
    shared: Any


# The lower limit is for editors; `goal_faults` knows the limits of each quantity.
_NUMBER = Field(json_schema_extra={"minimum": 0})


def target_forms(
    schedules: Iterable[tuple[str, type[Schedule]]], measures: Iterable[tuple[str, type[Measure]]]
) -> TargetForms:
    """The forms of a target, of all kinds of schedule and of measure, by name."""
    sections = [_section(*each) for each in schedules]
    forms = [Annotated[float, Tag("<number>"), _NUMBER]]
    forms += [Annotated[section, Tag(section.tag)] for section in sections]
    alone: Any = TypeAliasType(
        TARGET,
        Annotated[
            Union[tuple(forms)],  # noqa: UP007 (made from a list)
            Discriminator(tag_of),
            Field(description="A number that holds all the time, or a schedule."),
        ],
    )
    several = several_section(
        "MeasuresSection",
        "A target of its own for each measure; all are met.",
        {name: (alone, f"Of the {measure.unit}.") for name, measure in measures},
        _Measures,
    )
    forms += [Annotated[several, Tag(SeveralSection.tag)]]
    shared = cast(Any, TypeAliasType)(
        "SharedTarget",
        Annotated[
            Union[tuple(forms)],  # noqa: UP007 (made from a list)
            Discriminator(shared_tag_of),
            Field(description="A number, a schedule, or one of these for each of some measures."),
        ],
    )
    for section in sections:
        section.model_rebuild(_types_namespace={TARGET: alone})
    return TargetForms(alone, shared)


def _section(kind: str, made: type[Schedule]) -> type[Section]:
    named = (Literal[kind], Field(description=made.help))
    section: type[Section] = section_of(made, f"{made.__name__}Schedule", schedule=named)
    section.tag = f"<{kind}>"
    return section
