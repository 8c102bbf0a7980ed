"""What aids look like in YAML: a key for each kind, with its options below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, create_model

from reducible_train.config.sections import Section, section_of
from reducible_train.settings.aids import Aid, aid_kinds

KINDS = aid_kinds()


class _Chosen(Section):
    def build(self) -> tuple[Aid, ...]:
        """The aids that are asked for."""
        return tuple(section.build() for _, section in self if section is not None)


if TYPE_CHECKING:
    AidsSection = _Chosen
else:
    AidsSection = create_model(
        "AidsSection",
        __base__=_Chosen,
        **{
            kind: (section_of(made) | None, Field(None, description=made.help))
            for kind, made in KINDS.items()
        },
    )
    AidsSection.help = "What helps the training while ranks fall. {} takes an aid as it is."
