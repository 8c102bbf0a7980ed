"""What a model can be brought to at all: asked before anything is cut."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from typing import TypeGuard

import numpy as np

from reducible_train import _keras
from reducible_train.errors import ArgumentError, RankError, ShortfallWarning, SpectrumError
from reducible_train.linalg.multiples import rounded_down
from reducible_train.report.records import Report
from reducible_train.selection.allocation import allocator_names
from reducible_train.selection.compressible import CompressibleKernel, smallest_costs
from reducible_train.selection.criteria import criterion_named
from reducible_train.selection.input_shapes import no_shapes
from reducible_train.selection.lattice import Lattice
from reducible_train.selection.rank_choice import rank_meant
from reducible_train.selection.splits import nearest_splits
from reducible_train.selection.survey import Survey, instead
from reducible_train.settings.compression import AUTO, MEASURED
from reducible_train.settings.measures import measure_kinds
from reducible_train.settings.rules import LayerRule
from reducible_train.settings.targets import RankTarget, SharedTarget, SharedTargets, Target

_THAW = "To cut frozen layers as well, give a rule: LayerRule(match=..., keep_dense=False)."


def check_choices(allocation: str, criterion: str) -> None:
    """Refuse names that nobody knows.

    Raises:
        ArgumentError: An unknown allocation or criterion.
    """
    if criterion not in (AUTO, MEASURED):
        criterion_named(criterion)
    if allocation not in (AUTO, *allocator_names()):
        raise ArgumentError(
            f"`allocation` must be one of {', '.join(map(repr, (AUTO, *allocator_names())))}. "
            f"Received: allocation={allocation!r}. If unsure, leave it out."
        )


def check_target(
    survey: Survey, target: Target, rules: Sequence[LayerRule], measure: str, report: Report
) -> bool:
    """Refuse a target that this model cannot be brought to.

    Args:
        survey: The kernels of the model.
        target: What shall be reached.
        rules: The rules for single layers.
        measure: What a budget counts that does not say so itself.
        report: The model as it is, for the message.

    A budget that only frozen kernels keep from being met is no mistake: it is told.

    Returns:
        True if the budget can be asked of the kernels that may change only, not of the model.

    Raises:
        ArgumentError: A group without a budget, a budget of FLOPs for a model whose input shapes
            are not known.
        RankError: A budget that no ranks meet.
    """
    name = survey.model.name
    if not isinstance(target, SharedTarget):
        for rule in rules:
            if rule.group is not None:
                raise ArgumentError(
                    "A group shares what a budget gives it. Received: "
                    f"group={rule.group!r} in the rule for {rule.match!r}, with the target "
                    f"{target}. Give a budget, or remove the group."
                )
        return False
    measure = target.counts(measure)
    if measure_kinds()[measure].needs_shapes and not survey.uses:
        raise no_shapes(measure, survey.model)
    least, dense = smallest_cost(survey, measure), survey.dense_total(measure)
    if dense <= 0:
        raise RankError(
            f"`{target.given_as}` must count something of a model. Received: measure={measure!r}, "
            f"by which every number of model '{name}' weighs 0. Correct the `weight` of that "
            "measure, or ask for another, such as 'parameters'."
        )
    nearest = target.of_cost(least, dense)
    what, said = target.words(measure_kinds()[measure].unit), _said(target, nearest, measure)
    what = f"{'largest' if target.rises else 'smallest'} possible {what}"
    if target.reaches(nearest, target.lowest) or target.asks_nothing(target.lowest, measure):
        return False
    thawed = max(least - _held_by_frozen(survey, measure), 0.0)
    if target.reaches(target.of_cost(thawed, dense), target.lowest):
        paths = ", ".join(m.kernel.path for m in survey.frozen)
        warnings.warn(
            f"`{target.given_as}` will not be met while layers of model '{name}' are frozen, which "
            f"stay dense, since they could not recover from a cut: {paths}. Received: a "
            f"{target.given_as} of {target.lowest:g}; the {what} is {said}. "
            f"It is asked of the other kernels alone, as a fraction of theirs. {_THAW}",
            ShortfallWarning,
            stacklevel=2,
        )
        return True
    under = " under its rules" if rules else ""
    ways = [f"lower `{name}`" for name in _limits_of(survey)]
    if survey.hindered:
        paths = ", ".join(dict.fromkeys(path for held in survey.hindered.values() for path in held))
        ways.append(f"{instead(survey.hindered)}, of which factors of {paths} would save nothing")
    if survey.skipped:
        ways.append("let more layers be factorised")
    limit = target.within.least if target.rises else target.within.most
    if nearest != limit and target.reaches(limit, nearest):
        first = (
            f"No {target.given_as} is {'small' if target.rises else 'large'} enough, for the "
            "factors that the model has cost more than dense kernels: make it dense with `merge`"
        )
        ways.insert(
            0, f"ask for a cost of {_rounded(least, whole=not measure_kinds()[measure].wavers)}"
        )
    else:
        first = "Lower it" if target.rises else "Raise it"
    raise RankError(
        f"`{target.given_as}` cannot be met: the {what} of model '{name}' "
        f"is {said}{under} ({_what_is_left(survey, measure)}). Received: a "
        f"{target.given_as} of {target.lowest:g}. {_either(first, ways)}.\n{report}"
    )


def _what_is_left(survey: Survey, measure: str) -> str:
    """Where the least is that a model can cost: what the most of it is, first."""
    kept = survey.total(measure) - sum(m.cost(measure) for m in survey.compressible)
    dense = bool(survey.skipped or survey.fixed)
    if dense and kept >= smallest_cost(survey, measure) - kept:
        return "the rest is in layers that stay dense"
    also = " and in layers that stay dense" if dense else "; no layer stays dense"
    wavers = measure_kinds()[measure].wavers
    smallest = "calls of factors at" if wavers else "factors of"
    return f"the rest is in {smallest} their smallest ranks{also}"


def _limits_of(survey: Survey) -> list[str]:
    """What of the ranks that there are could be given up."""
    lattice = survey.lattice
    given = [("min_share", lattice.min_share > 0), ("multiple", lattice.multiple > 1)]
    return [name for name, limits in given if limits]


def _either(first: str, others: Sequence[str]) -> str:
    """Ways out, as a sentence."""
    *middle, last = [first, *others]
    return f"{', '.join(middle)}, or {last}" if middle else last


def check_together(
    survey: Survey, target: Target | SharedTargets, apart: Collection[Target]
) -> None:
    """Refuse budgets of which each could be met, and not all at once.

    A kernel is split in one way, and the way that costs least by one measure may cost more by
    another.

    Args:
        survey: The kernels of the model.
        target: What shall be reached.
        apart: The budgets that will not be met in any case.

    Raises:
        RankError: No splits were found whose smallest ranks meet all of them.
    """
    if not isinstance(target, SharedTargets):
        return
    parts = [
        part
        for part in target.parts
        if part not in apart and not part.asks_nothing(part.lowest, str(part.measure))
    ]
    if len(parts) < 2:
        return
    measures = [str(part.measure) for part in parts]
    dense = [survey.dense_total(measure) for measure in measures]
    allowed = [part.allowed(part.lowest, d) for part, d in zip(parts, dense, strict=True)]
    options = [_least_costs(each, measures) for each in survey.compressible]
    fixed = [
        survey.total(measure) - sum(m.cost(measure) for m in survey.compressible)
        for measure in measures
    ]
    least = nearest_splits(options, np.array(allowed) - fixed) + fixed
    if (least <= np.array(allowed) * (1 + 1e-12)).all():
        return
    asked = " and ".join(f"{part.name}={part.lowest:g}" for part in parts)
    nearest = " and ".join(
        f"{part.name}={_said(part, part.of_cost(cost, d), measure)}"
        for part, measure, cost, d in zip(parts, measures, least, dense, strict=True)
    )
    raise RankError(
        f"`{target.quantity}` cannot be met by all measures at once, though by each alone: the "
        f"kernels of model '{survey.model.name}' that are split to save one cost more of the other."
        f" Received: {asked}. The nearest that was found is {nearest}. "
        f"{'Lower' if target.parts[0].rises else 'Raise'} one of them, or let "
        "more layers be factorised."
    )


def check_rank(survey: Survey, target: Target | SharedTargets) -> None:
    """Refuse a rank at which every kernel would stay dense.

    Raises:
        RankError: The factors of no kernel that the target is for would be smaller at it.
    """
    mine = [m for m in survey.compressible if m.rule is None or m.rule.target is None]
    dense = all(m.kernel.rank is None for m in mine)
    if not _fixes_ranks(target) or not mine or not dense:
        return
    asked = target.lowest
    if any(rank_meant(target, asked, m, form) is not None for m in mine for form in m.options):
        return
    most, path = largest_rank(survey.lattice, mine)
    advice = f"The largest rank at which one is cut is {most} ({path}). Ask for that or less."
    raise RankError(
        f"`{target.quantity}` would leave every kernel of model '{survey.model.name}' dense: no "
        f"factors of that rank are smaller. Received: {target.quantity}={asked:g}. "
        f"{advice if most else none_cuts(survey)}"
    )


def largest_rank(lattice: Lattice, kernels: Sequence[CompressibleKernel]) -> tuple[int, str]:
    """The largest rank that can be asked for and cuts one of some dense kernels, and its path.

    A rule may round it further, to multiples of its own. 0 if there is no such rank.
    """
    return max(
        (rounded_down(form.max_rank + form.multiple - 1, lattice.multiple), each.kernel.path)
        for each in kernels
        for form in each.options
    )


def none_cuts(survey: Survey) -> str:
    """What to do where `largest_rank` finds none."""
    multiple = survey.lattice.multiple
    return f"No multiple of {multiple} is small enough to cut one: lower `multiple`."


def _fixes_ranks(target: Target | SharedTargets | None) -> TypeGuard[RankTarget]:
    """True for a target that asks for ranks which are known before training."""
    return isinstance(target, RankTarget) and target.foreseeable


def _held_by_frozen(survey: Survey, measure: str) -> float:
    """By how much less the model could cost if frozen kernels were cut.

    By a measure that only tables tell, of which there are none for them: all of it.
    """
    if measure in survey.cost_models:
        return np.inf if survey.frozen else 0.0
    return sum(m.cost(measure) - m.smallest_cost(measure) for m in survey.frozen)


def smallest_fraction(survey: Survey, measure: str) -> float:
    """The least of the dense model's cost that its kernels and rules allow."""
    return smallest_cost(survey, measure) / survey.dense_total(measure)


def smallest_cost(survey: Survey, measure: str) -> float:
    """The least that the model can cost under its rules."""
    fixed = survey.total(measure) - sum(m.cost(measure) for m in survey.compressible)
    return fixed + sum(_least(compressible, measure) for compressible in survey.compressible)


def check_finite(survey: Survey) -> None:
    """Refuse kernels that have no singular values, and weights that spoil what is learned of them.

    Raises:
        SpectrumError: One of them holds NaN or infinity.
    """
    for compressible in survey.compressible:
        for matrix in compressible.kernel.matrices():
            bad = int(matrix.size - np.isfinite(matrix).sum())
            if bad:
                raise SpectrumError(
                    f"{compressible.kernel.path}: {bad} of {matrix.size} numbers are NaN or "
                    "infinite, so it has no singular values. Load good weights, or find out "
                    "where training diverged."
                )
    lost = _keras.lost_numbers(survey.model.weights)
    if lost is not None:
        path, bad, size = lost
        raise SpectrumError(
            f"{path}: {bad} of {size} numbers are NaN or infinite, so no data can judge the "
            "kernels of the model. Load good weights, or find out where training diverged."
        )


def _least(compressible: CompressibleKernel, measure: str) -> float:
    """The least a kernel can cost, its own target considered."""
    own = compressible.rule.target if compressible.rule else None
    if own is None or not _fixes_ranks(own):
        return compressible.smallest_cost(measure)
    costs = [
        form.cost(rank, measure)
        for form in compressible.options
        if (rank := rank_meant(own, own.lowest, compressible, form)) is not None
    ]
    return min(costs, default=compressible.cost(measure))


def _least_costs(compressible: CompressibleKernel, measures: Sequence[str]) -> np.ndarray:
    """`(forms, measures)`, the same by several measures, in each form it can have."""
    own = compressible.rule.target if compressible.rule else None
    if own is None or not _fixes_ranks(own):
        return smallest_costs(compressible, measures)
    return np.array([[_least(compressible, measure) for measure in measures]])


def _said(target: SharedTarget, value: float, measure: str) -> str:
    """A value of a budget as it can be asked for: a cost in bytes is whole, as in parameters."""
    fraction, wavers = np.isfinite(target.within.most), measure_kinds()[measure].wavers
    return _rounded(value, whole=not fraction and not wavers, up=not target.rises)


def _rounded(value: float, *, whole: bool = False, up: bool = True) -> str:
    """Rounded, so that what is said can be asked for: to four digits or five, if not whole."""
    rounded = np.ceil if up else np.floor
    if whole or (value > 1 and float(value).is_integer()):
        return f"{rounded(value):.0f}"
    size = int(np.floor(np.log10(value))) if value > 0 else -1
    digits = max(4, 3 - size) if value <= 1 else max(0, 4 - size)
    return f"{rounded(value * 10**digits) / 10**digits:.{digits}f}"
