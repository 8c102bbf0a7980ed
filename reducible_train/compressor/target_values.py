"""The targets of a model, and what they shall be at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from reducible_train.selection.survey import Survey
from reducible_train.settings.targets import SharedTarget, SharedTargets, Target

# Target, time in epochs -> the value to go to; at infinity the last, as far as is known by now.
TargetValue = Callable[[Target, float], float]


def on_schedule(goal: Target, time: float) -> float:
    """The value of a target by its own schedule, which nothing holds up."""
    return goal(time)


def targets_of(survey: Survey, target: Target | SharedTargets) -> tuple[Target, ...]:
    """The targets of a model, and those of the rules for its layers, each once."""
    own = (m.rule.target for m in survey.compressible if m.rule)
    return tuple(dict.fromkeys([*target.parts, *(each for each in own if each is not None)]))


def values_at(
    targets: Sequence[Target], time: float, target_value: TargetValue
) -> dict[Target, float]:
    """What each target shall be at a time, in the order in which a history keeps them."""
    return {goal: target_value(goal, time) for goal in targets}


def budgets_at_their_ends(
    targets: Sequence[Target], target_value: TargetValue
) -> dict[SharedTarget, float]:
    """What each budget shall be in the end."""
    budgets = (goal for goal in targets if isinstance(goal, SharedTarget))
    return {budget: target_value(budget, math.inf) for budget in budgets}


def values_by_measure(
    target: Target | SharedTargets, values: Mapping[Target, float]
) -> dict[str, float] | None:
    """The value of each of several budgets, by its measure; `None` where there is one."""
    if not isinstance(target, SharedTargets):
        return None
    return {str(part.measure): values[part] for part in target.parts}
