"""What aids look like in YAML: a key for each kind, with its options below."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

from pydantic import Field, create_model

from reducible_train.config.sections import Section, section_of
from reducible_train.settings.aids import Aid


class _Chosen(Section):
    def build(self) -> tuple[Aid, ...]:
        """The aids that are asked for."""
        return tuple(section.build() for _, section in self if section is not None)


@lru_cache(maxsize=1)
def aids_section(kinds: tuple[tuple[str, type[Aid]], ...]) -> Any:
    """The section of all kinds of aid, by name."""
    section = cast(Any, create_model)(
        "AidsSection",
        __base__=_Chosen,
        **{
            kind: (section_of(made) | None, Field(None, description=made.help))
            for kind, made in kinds
        },
    )
    section.help = "What helps the training while ranks fall. {} takes an aid as it is."
    return section
