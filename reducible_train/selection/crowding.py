"""Output layers that leave too little of a budget to the layers before them."""

from __future__ import annotations

from collections.abc import Sequence

from reducible_train.selection.compressible import CompressibleKernel
from reducible_train.selection.feasibility import smallest_cost
from reducible_train.selection.survey import Survey
from reducible_train.settings.measures import CountedMeasure, measure_kinds
from reducible_train.settings.targets import SharedTarget, SharedTargets, Target

# LeNet-5 with 3 or 2.2 % left, of which its output layer is 39 or 53 %, loses less with that cut;
# so do wider outputs at budgets of 0.3 to 0.8, by `benchmarks/outputs.py`. By it, too, a table that
# is read both ways had better stay dense up to half of what is left, and had not above two thirds.
_MOST = 1 / 3
_MOST_OF_A_TABLE = 2 / 3


def crowding_outputs(
    survey: Survey, target: Target | SharedTargets, measure: str
) -> dict[str, str]:
    """Kernels of output layers that a budget had better not leave dense.

    They are cut without a rule where they would be more than a third of what the smallest budget
    leaves, tables that are read both ways where they would be more than two thirds: the layers
    before them would have to become too narrow. A budget that cannot be met
    beside them is left to who asked for it, and where only a table tells what kernels cost there
    are none.

    Args:
        survey: What was found in the model.
        target: What it shall be brought to.
        measure: What a budget counts that does not say so itself.

    Returns:
        By path of the kernel, a sentence for the reader of a report.
    """
    free = [] if survey.cost_models else list(filter(_is_free, survey.outputs))
    tables = list(filter(_does_more, free))
    others = [each for each in free if each not in tables]
    found: dict[str, str] = {}
    for budget in _countable(survey, target, measure) if free else ():
        counts = budget.counts(measure)
        limit = budget.allowed(budget.lowest, survey.dense_total(counts))
        if smallest_cost(survey, counts) > limit:
            return {}
        crowding = _largest(tables, counts, _MOST_OF_A_TABLE * limit)
        for output in (*crowding, *_largest(others, counts, _MOST * limit)):
            path, share = output.kernel.path, output.cost(counts) / limit
            found[path] = (
                f"{path} is cut as well, though it makes outputs: dense it would be "
                f"{100 * share:.0f} % of the {counts} that the budget leaves. A rule with "
                "keep_dense=True keeps it."
            )
    return found


def _is_free(output: CompressibleKernel) -> bool:
    """True for one of whose ranks no rule says anything."""
    rule = output.rule
    return rule is None or (rule.group is None and rule.target is None)


def _does_more(output: CompressibleKernel) -> bool:
    """True for one by which its layer does all that it does, outputs too, as by a tied table."""
    kind, layer = output.kernel.kind, output.kernel.layer
    gives = kind.gives_output
    return gives is not None and all(gives(layer, each) for each in kind.kernel_attributes)


def _countable(survey: Survey, target: Target | SharedTargets, measure: str) -> list[SharedTarget]:
    """The budgets of measures that have a law, and whose costs are known."""
    found = []
    for part in target.parts:
        if isinstance(part, SharedTarget):
            kind = measure_kinds()[part.counts(measure)]
            known = bool(survey.uses) or not kind.needs_shapes
            if issubclass(kind, CountedMeasure) and known:
                found.append(part)
    return found


def _largest(
    outputs: Sequence[CompressibleKernel], measure: str, most: float
) -> list[CompressibleKernel]:
    """As many of them, from the largest on, that the rest costs no more than this together."""
    found = []
    left = sum(output.cost(measure) for output in outputs)
    for output in sorted(outputs, key=lambda output: -output.cost(measure)):
        if left <= most:
            break
        found.append(output)
        left -= output.cost(measure)
    return found
