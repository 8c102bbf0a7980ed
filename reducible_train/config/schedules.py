"""What a target looks like in YAML: a number, or a schedule named by its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Discriminator, Field, Tag, create_model
from typing_extensions import TypeAliasType

from reducible_train.config.sections import Section, SeveralSection, section_of
from reducible_train.settings.measures import measure_kinds
from reducible_train.settings.schedules import schedule_kinds
from reducible_train.settings.targets.several import is_several

KINDS = schedule_kinds()


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


def _section(kind: str) -> type[Section]:
    made = KINDS[kind]
    named = (Literal[kind], Field(description=made.help))
    section: type[Section] = section_of(made, f"{made.__name__}Schedule", schedule=named)
    section.tag = f"<{kind}>"
    return section


SECTIONS = {kind: _section(kind) for kind in KINDS}

# The lower limit is for editors; `goal_faults` knows the limits of each quantity.
_NUMBER = Field(json_schema_extra={"minimum": 0})
_FORMS = [Annotated[float, Tag("<number>"), _NUMBER]]
_FORMS += [Annotated[section, Tag(section.tag)] for section in SECTIONS.values()]
if TYPE_CHECKING:
    Target = float | Section
else:
    Target = TypeAliasType(
        "Target",
        Annotated[
            Union[tuple(_FORMS)],  # noqa: UP007 (made from a list)
            Discriminator(tag_of),
            Field(description="A number that holds all the time, or a schedule."),
        ],
    )


if TYPE_CHECKING:
    SharedTarget = float | Section
else:
    MeasuresSection = create_model(
        "MeasuresSection",
        __base__=SeveralSection,
        __cls_kwargs__={"help": "A target of its own for each measure; all are met."},
        **{
            name: (Target | None, Field(None, description=f"Of the {measure.unit}."))
            for name, measure in measure_kinds().items()
        },
    )
    _SHARED = [*_FORMS, Annotated[MeasuresSection, Tag(SeveralSection.tag)]]
    SharedTarget = TypeAliasType(
        "SharedTarget",
        Annotated[
            Union[tuple(_SHARED)],  # noqa: UP007 (made from a list)
            Discriminator(shared_tag_of),
            Field(description="A number, a schedule, or one of these for each of some measures."),
        ],
    )
for _made in SECTIONS.values():
    _made.model_rebuild(_types_namespace={"Target": Target})
