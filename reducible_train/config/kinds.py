"""Which kinds a file may name: those of which a form can be made. What the others lack.

A class is registered as soon as Python has it, which may be before its decorator has run, or with
an annotation that nobody knows. It harms no file that does not name it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

from reducible_train.config.sections import TARGET, section_of
from reducible_train.settings.aids import Aid, aid_kinds
from reducible_train.settings.base import Settings
from reducible_train.settings.checks import unfinished
from reducible_train.settings.fields import fields_of
from reducible_train.settings.measures import Measure, measure_kinds
from reducible_train.settings.schedules import Schedule, schedule_kinds

S = TypeVar("S", bound=Settings)

_REGISTERED: Mapping[str, Callable[[], Mapping[str, type[Any]]]] = {
    "schedule": schedule_kinds,
    "measure": measure_kinds,
    "aid": aid_kinds,
}


def known_schedules() -> dict[str, type[Schedule]]:
    """The kinds of schedule that a file may name."""
    return _whole("schedule", schedule_kinds())


def known_measures() -> dict[str, type[Measure]]:
    """The measures that a file may name."""
    return _whole("measure", measure_kinds())


def known_aids() -> dict[str, type[Aid]]:
    """The kinds of aid that a file may name."""
    return _whole("aid", aid_kinds())


def lacking(what: str, name: Any) -> str | None:
    """What a registered kind lacks that no file may name, in a sentence; `None` of all others.

    Args:
        what: `"schedule"`, `"measure"` or `"aid"`.
        name: What a file names.
    """
    made = _REGISTERED[what]().get(name) if isinstance(name, str) else None
    told = None if made is None else _fault(what, made)
    return None if told is None else told.replace("`", "")


def _whole(what: str, kinds: Mapping[str, type[S]]) -> dict[str, type[S]]:
    return {name: made for name, made in kinds.items() if _fault(what, made) is None}


def _fault(what: str, made: Any) -> str | None:
    told = unfinished(made, what, *(("unit",) if what == "measure" else ()))
    if told is not None:
        return told
    try:
        _try(made)
    except Exception as error:  # whatever typing, pydantic or a kind of option of one's own raises
        reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
        return (
            f"The options of every {what} must be fields that a file can tell. Received: "
            f"{made.__name__}, of which no form can be made ({reason or type(error).__name__}). "
            "Correct its fields and their annotations."
        )
    return None


@cache  # of what is good; what raises is tried again, as it may be finished by then
def _try(made: Any) -> None:
    """Make a form of a class that nothing else hangs on, and see that options can be given."""
    section_of(made).model_rebuild(_types_namespace={TARGET: Any})
    inspect.signature(made).bind(**dict.fromkeys(fields_of(made)))
