"""Output layers that leave too little of a tight budget to the layers before them."""

from __future__ import annotations

from collections.abc import Sequence

from reducible_train.selection.feasibility import smallest_cost
from reducible_train.selection.survey import Survey
from reducible_train.settings.measures import CountedMeasure, measure_kinds
from reducible_train.settings.targets import SharedTarget, SharedTargets, Target

# Of LeNet-5 with 3 or 2.2 % left the output layer is 39 or 53 %, and it loses less with that cut.
_MOST = 1 / 3


def crowding_outputs(
    survey: Survey, target: Target | SharedTargets, measure: str
) -> dict[str, str]:
    """Kernels of output layers that a budget had better not leave dense.

    They are cut without a rule where they would be more than a third of what the smallest budget
    leaves. A budget that cannot be met beside them is left to who asked for it, and one by a
    measure that only tables tell has none of them.

    Args:
        survey: What was found in the model.
        target: What it shall be brought to.
        measure: What a budget counts that does not say so itself.

    Returns:
        By path of the kernel, a sentence for the reader of a report.
    """
    found: dict[str, str] = {}
    for budget in _counted(target, measure) if survey.outputs else ():
        counts = budget.counts(measure)
        limit = budget.allowed(budget.lowest, survey.dense_total(counts))
        if smallest_cost(survey, counts) > limit:
            return {}
        for output in survey.outputs:
            share = output.cost(counts) / limit
            if share > _MOST:
                found[output.kernel.path] = (
                    f"{output.kernel.path} is cut as well, though it makes outputs: dense it would "
                    f"be {100 * share:.0f} % of the {counts} that the budget leaves. A rule with "
                    "keep_dense=True keeps it."
                )
    return found


def _counted(target: Target | SharedTargets, measure: str) -> Sequence[SharedTarget]:
    """The budgets of measures that have a law."""
    budgets = [part for part in target.parts if isinstance(part, SharedTarget)]
    kinds = [measure_kinds()[budget.counts(measure)] for budget in budgets]
    counted = [issubclass(kind, CountedMeasure) for kind in kinds]
    return [budget for budget, one in zip(budgets, counted, strict=True) if one]
