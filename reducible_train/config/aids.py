"""What aids look like in YAML: a key for each kind, with its options below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, create_model

from reducible_train.config.sections import Section, section_of
from reducible_train.settings.aids import Aid, aid_kinds

KINDS = aid_kinds()

if TYPE_CHECKING:

    class AidsSection(Section):
        """What helps the training while ranks fall."""
else:
    AidsSection = create_model(
        "AidsSection",
        __base__=Section,
        **{
            kind: (section_of(made) | None, Field(None, description=made.help))
            for kind, made in KINDS.items()
        },
    )
    AidsSection.help = "What helps the training while ranks fall. {} takes an aid as it is."


def build_aids(section: AidsSection | None) -> tuple[Aid, ...]:
    """The aids of a file."""
    sections = () if section is None else (value for _, value in section if value is not None)
    return tuple(each.build() for each in sections)
