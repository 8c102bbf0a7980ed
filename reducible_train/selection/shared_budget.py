"""What a budget asks of the kernels that share it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import sqrt

import numpy as np

from reducible_train.linalg.svd import cumulative_energy
from reducible_train.selection.allocation import Allocation, Candidate, allocate, weighted
from reducible_train.selection.compressible import CompressibleKernel
from reducible_train.selection.factorizations import Factorization
from reducible_train.selection.rank_choice import RankChoice, RankSelection, is_blank
from reducible_train.selection.scoring import Decomposition, DirectionScorer
from reducible_train.selection.survey import Survey
from reducible_train.settings.targets import SharedTarget

Forms = Mapping[str, tuple[Factorization, Decomposition]]  # by path of the kernel

_APART = (
    "Frozen layers stay dense, so what was asked of the model was asked of its other "
    "kernels alone, as a fraction of theirs."
)


class SharedBudget:
    """Shares what a whole model may cost among the kernels that have no target of their own.

    Args:
        survey: The kernels, and what the model costs.
        target: The budget.
        scorer: What the directions of a kernel are worth.
        measure: What the budget counts.
        allocation: How it is shared.
        trains: True if training goes on after a cut.
        apart: True if it is asked of the kernels that may change only, as a fraction of theirs.
    """

    def __init__(
        self,
        survey: Survey,
        target: SharedTarget,
        scorer: DirectionScorer,
        *,
        measure: str,
        allocation: str,
        trains: bool,
        apart: bool,
    ):
        self._survey = survey
        self._target = target
        self._scorer = scorer
        self._measure = measure
        self._allocation = allocation
        self._trains = trains
        self._apart = apart

    def share(
        self,
        shared: Sequence[CompressibleKernel],
        others: Sequence[RankChoice],
        value: float,
        time: float,
    ) -> RankSelection:
        """The ranks at which the model costs no more than the budget.

        The whole model must come down by what it is over the budget, once the other choices are
        made. All of that is taken from these kernels: their capacity is what they cost now, less
        that excess, though never below their smallest ranks. Then each gets a form, those that
        would not leave room for a later, lower budget get another, and the allocation does the
        rest.

        Args:
            shared: The kernels that share it, one at least.
            others: What kernels with targets of their own will be.
            value: The value of the target, now.
            time: When that is, for messages.
        """
        measure, hindrances = self._measure, [_APART] if self._apart else []
        total = self._survey.total(measure) - sum(choice.saves(measure) for choice in others)
        budget = self._cost_of(value)
        if total <= budget:
            met = f"{self._target.quantity} {value:.4g} is met without it"
            remarks = {m.kernel.path: met for m in shared}
            return RankSelection(remarks=remarks, hindrances=hindrances)
        capacity = sum(m.cost(measure) for m in shared) - (total - budget)
        smallest = sum(m.smallest_cost(measure) for m in shared)
        if capacity < smallest:
            hindrances.append(
                f"At epoch {time:g} the rules for single layers left less than the others need; "
                f"the {self._target.quantity} {value:g} was exceeded."
            )
            capacity = smallest
        last = self._cost_of(min(value, self._target.lowest))
        forms = self._forms(shared, capacity, last_capacity=capacity - (budget - last))
        allocation = self._allocated(shared, forms, capacity)
        return RankSelection(
            choices=_choices(shared, forms, allocation),
            allocation=allocation,
            remarks=self._remarks(forms, allocation),
            hindrances=hindrances,
        )

    def _cost_of(self, value: float) -> float:
        """What a value of the target lets the whole model cost."""
        dense = self._survey.dense_total(self._measure)
        cost = self._target.allowed(value, dense)
        if not self._apart:
            return cost
        mine = self._survey.compressible
        rest = self._survey.total(self._measure) - sum(m.cost(self._measure) for m in mine)
        return rest + cost / dense * sum(m.dense_cost(self._measure) for m in mine)

    def _forms(
        self, shared: Sequence[CompressibleKernel], capacity: float, *, last_capacity: float
    ) -> Forms:
        """The form that each kernel shall have, if it gets factors."""
        whole = sum(m.dense_cost(self._measure) for m in shared)
        fraction = min(1.0, capacity / whole)
        forms = {m.kernel.path: self._least_lossy(m, fraction) for m in shared}
        return {**forms, **self._smaller_forms(shared, forms, last_capacity)}

    def _least_lossy(
        self, compressible: CompressibleKernel, fraction: float
    ) -> tuple[Factorization, Decomposition]:
        """The form that loses least at the cost of a fraction of the dense kernel."""
        measure = self._measure

        def lost(option: tuple[Factorization, Decomposition]) -> float:
            form, parts = option
            rank = form.largest_within(fraction * form.dense_cost(measure), measure)
            kept = cumulative_energy(parts.values)
            return 1.0 - float(kept[min(max(rank, form.least), form.max_rank, len(kept) - 1)])

        options = [(form, self._scorer.parts(compressible, form)) for form in compressible.options]
        return options[0] if len(options) == 1 else min(options, key=lost)

    def _smaller_forms(
        self, shared: Sequence[CompressibleKernel], forms: Forms, capacity: float
    ) -> Forms:
        """Other forms, so that the smallest costs meet the last budget, if any forms do.

        A kernel once split stays split so, and its least ranks may cost more in one form. Those
        that would save most by another one change first, until there is room.
        """
        measure = self._measure
        least = {m.kernel.path: m.smallest_cost(measure, forms[m.kernel.path][0]) for m in shared}
        saved = {m.kernel.path: least[m.kernel.path] - m.smallest_cost(measure) for m in shared}
        excess = sum(least.values()) - capacity
        changed = {}
        for compressible in sorted(shared, key=lambda m: -saved[m.kernel.path]):
            path = compressible.kernel.path
            if excess <= 0 or saved[path] <= 0:
                break
            form = min(compressible.options, key=partial(compressible.smallest_cost, measure))
            changed[path] = form, self._scorer.parts(compressible, form)
            excess -= saved[path]
        return changed

    def _allocated(
        self, shared: Sequence[CompressibleKernel], forms: Forms, capacity: float
    ) -> Allocation:
        """A rank for each kernel in its form; no less is asked than these forms can do."""
        smallest = (m.smallest_cost(self._measure, forms[m.kernel.path][0]) for m in shared)
        level = _level([parts.values for _, parts in forms.values()])
        candidates = [self._candidate(m, *forms[m.kernel.path], level) for m in shared]
        if self._scorer.criterion.comparable:
            candidates = weighted(candidates)
        return allocate(candidates, max(capacity, sum(smallest)), self._allocation)

    def _candidate(
        self,
        compressible: CompressibleKernel,
        form: Factorization,
        parts: Decomposition,
        level: float,
    ) -> Candidate:
        """A kernel as the allocation sees it; one that has not learned yet as all of one level."""
        blank = self._trains and is_blank(compressible, parts)
        kernel, measure = compressible.kernel, self._measure
        most = form.max_rank if kernel.rank is None else kernel.rank
        return Candidate(
            path=kernel.path,
            spectrum=np.full_like(parts.values, level) if blank else parts.values,
            rank_cost=form.costs(measure, most),
            dense_cost=form.dense_cost(measure) if kernel.rank is None else None,
            min_rank=form.least if kernel.rank is None else min(form.least, kernel.rank),
            max_rank=most,
            group=compressible.group,
        )

    def _remarks(self, forms: Forms, allocation: Allocation) -> dict[str, str]:
        """What kernels that stay dense would keep, at the largest rank that saves anything."""
        remarks = {}
        for path, (form, parts) in forms.items():
            if allocation.ranks[path] is None:
                kept = float(cumulative_energy(parts.values)[min(form.max_rank, len(parts.values))])
                remarks[path] = (
                    f"the others meet the {self._target.quantity}; at rank {form.max_rank}, the "
                    f"largest that saves, it would keep {kept:.3f} of its energy"
                )
        return remarks


def _choices(
    shared: Sequence[CompressibleKernel], forms: Forms, allocation: Allocation
) -> list[RankChoice]:
    """The kernels whose ranks change by an allocation."""
    choices = []
    for compressible in shared:
        rank = allocation.ranks[compressible.kernel.path]
        form, parts = forms[compressible.kernel.path]
        if rank is not None and rank != compressible.kernel.rank:
            choices.append(RankChoice(compressible, form, rank, "budget", parts))
    return choices


def _level(spectra: Sequence[np.ndarray]) -> float:
    """The mean size of a singular value of kernels that are not zero; 1 if all are."""
    means = [float(np.mean(values**2)) for values in spectra if values.any()]
    return sqrt(sum(means) / len(means)) if means else 1.0
