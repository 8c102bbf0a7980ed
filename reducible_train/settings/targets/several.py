"""Several budgets at once: what a model may cost by each of some measures."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any

from reducible_train.settings.checks import settle
from reducible_train.settings.faults import Fault, raise_first
from reducible_train.settings.fields import fields_of
from reducible_train.settings.measures import Measure, measure_kinds
from reducible_train.settings.schedules import Schedule, schedule_kinds
from reducible_train.settings.targets.base import SharedTarget


@dataclass(frozen=True)
class SharedTargets:
    """Several of one kind, each of a measure of its own; a model shall meet all of them.

    They stand in the order of their measures' names, however they were given.

    Args:
        kind: What each is: a budget or a cost.
        parts: Each, with its measure; by name of the measure whatever one takes, if not made yet.

    Raises:
        ArgumentError: No measure, an unknown one, or a value that cannot be used.
        ArgumentTypeError: A value is neither a schedule nor a number.

    Example:
        >>> from reducible_train.settings.targets.budget import Budget
        >>> both = SharedTargets(Budget, {"parameters": 0.25, "flops": 0.5})
        >>> [part.name for part in both.parts], both.argument
        (['budget.flops', 'budget.parameters'], {'flops': 0.5, 'parameters': 0.25})
    """

    kind: type[SharedTarget]
    parts: tuple[SharedTarget, ...]

    public = True

    def __post_init__(self) -> None:
        if isinstance(self.parts, Mapping):
            raise_first(several_faults(self.kind, self.parts))
            made: Any = self.kind
            ordered = sorted(self.parts.items())  # a file tells them in no other order
            parts = (made(value, measure=name) for name, value in ordered)
            settle(self, parts=tuple(parts))

    def __str__(self) -> str:
        return " and ".join(map(str, self.parts))

    @property
    def quantity(self) -> str:
        """What was asked for."""
        return self.kind.quantity

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what is counted."""
        return tuple(str(part.measure) for part in self.parts)

    @property
    def argument(self) -> dict[str, float | Schedule]:
        """What was asked for, as the argument of its quantity takes it."""
        return {str(part.measure): part.number_or_schedule for part in self.parts}


def is_several(value: Any) -> bool:
    """True for a mapping of measures; not for one that shall be a schedule.

    >>> is_several({"flops": 0.5}), is_several({}), is_several({"initial": 1.0, "final": 0.5})
    (True, True, False)
    """
    if not isinstance(value, Mapping):
        return False
    known = {
        "kind",
        "schedule",
        *(each for k in schedule_kinds().values() if is_dataclass(k) for each in fields_of(k)),
    }
    return not any(_close(key, known) for key in value) or bool(
        value.keys() & measure_kinds().keys()
    )


def several_faults(kind: type[SharedTarget], values: Mapping[Any, Any]) -> list[Fault]:
    """All that is wrong with a mapping of measures.

    Args:
        kind: What each of them is.
        values: By measure what it shall fall to.
    """
    name, known = kind.quantity, list(measure_kinds())
    if not values:
        words = (
            f"`{name}` must name a measure at least. Received: {name}={values!r}. Write for "
            f"example {name}={{'parameters': 0.25, 'flops': 0.5}}, or one number."
        )
        return [Fault((), words)]
    found = []
    for key, value in values.items():
        if key in known:
            found += [fault.within(key) for fault in kind.faults_of(value, (name, key))]
        elif isinstance(key, Measure):
            words = f"Write {name}={{{key.name!r}: ...}} and measure={key!r}."
            found.append(Fault((), f"`{name}` must name its measures. Received: {key!r}. {words}"))
        else:
            close = _close(key, known)
            advice = f" Did you mean {close!r}?" if close else ""
            listed = ", ".join(map(repr, known))
            words = f"must be of one of the measures {listed}. Received: {key!r}.{advice}"
            found.append(Fault((str(key),), f"`{name}.{key}` {words}"))
    return found


def _close(key: Any, known: Any) -> str | None:
    """The known word that is meant, if one is close."""
    return next(iter(difflib.get_close_matches(str(key), list(known), n=1, cutoff=0.75)), None)
