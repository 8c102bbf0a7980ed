"""From the arguments of a call to what is asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from reducible_train.errors import ArgumentTypeError
from reducible_train.settings.checks import unfinished
from reducible_train.settings.faults import Fault, raise_first
from reducible_train.settings.schedules import Schedule
from reducible_train.settings.targets.base import SharedTarget, Target, target_kinds
from reducible_train.settings.targets.several import SharedTargets, is_several, several_faults


def target(quantity: str, value: float | Schedule) -> Target:
    """A checked target; a number means a constant.

    Raises:
        ArgumentError: A value of the schedule is out of the quantity's range.
        ArgumentTypeError: Neither a schedule nor a number.

    Example:
        >>> target("budget", 0.25)(3)
        0.25
    """
    return _kind(quantity)(value)  # type: ignore[arg-type]  # which it makes a schedule of


def goal(
    quantity: str, value: float | Schedule | Mapping[str, float | Schedule]
) -> Target | SharedTargets:
    """The same; of a mapping by measures, one for each.

    Example:
        >>> str(goal("budget", {"parameters": 0.25, "flops": 0.5}))
        'budget.flops = Constant(value=0.5) and budget.parameters = Constant(value=0.25)'
    """
    kind = _kind(quantity)
    if issubclass(kind, SharedTarget) and isinstance(value, Mapping) and is_several(value):
        return SharedTargets(kind, value)  # type: ignore[arg-type]  # which it makes parts of
    return target(quantity, value)  # type: ignore[arg-type]  # a schedule in plain values


def goal_faults(quantity: str, value: Any) -> list[Fault]:
    """All that is wrong with what `goal` would be given."""
    kind = target_kinds()[quantity]
    lacking = unfinished(kind, "target")
    if lacking is not None:
        return [Fault((), lacking, ArgumentTypeError)]
    if issubclass(kind, SharedTarget) and is_several(value):
        return several_faults(kind, value)
    return kind.faults_of(value)


def _kind(quantity: str) -> type[Target]:
    """The class of a target, which lacks nothing."""
    kind = target_kinds()[quantity]
    lacking = unfinished(kind, "target")
    if lacking is not None:
        raise ArgumentTypeError(lacking)
    return kind


def one_target(**named: Any) -> Target | SharedTargets:
    """The one target that was given.

    Args:
        **named: By quantity, what was given for each; `None` for nothing.

    Raises:
        ArgumentError: None was given, or more than one.
    """
    given = {name: value for name, value in named.items() if value is not None}
    raise_first(choice_faults(given, tuple(target_kinds())))
    ((quantity, value),) = given.items()
    return goal(quantity, value)


def choice_faults(given: Collection[str], choices: Sequence[str]) -> list[Fault]:
    """What is wrong where not exactly one of the things is given that say how far to go.

    Args:
        given: Names of those that are.
        choices: Names of all that could be.

    >>> print(choice_faults(["budget", "rank"], ["budget", "energy", "rank"])[0].message)
    Exactly one of `budget`, `energy` or `rank` must be given. Received: budget and rank. Keep one.
    """
    if len(given) == 1:
        return []
    *first, last = (f"`{name}`" for name in choices)
    advice = "Keep one." if given else "Add one, such as a budget of 0.5."
    return [
        Fault(
            (),
            f"Exactly one of {', '.join(first)} or {last} must be given. "
            f"Received: {' and '.join(given) or 'none of them'}. {advice}",
        )
    ]
