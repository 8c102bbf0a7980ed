"""What a budget, or several at once, asks of the kernels that share it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt

import numpy as np

from reducible_train.linalg.multiples import rounded_down
from reducible_train.linalg.svd import cumulative_energy
from reducible_train.selection.allocation import (
    Allocation,
    Candidate,
    allocate,
    allocate_several,
    weighted,
)
from reducible_train.selection.compressible import CompressibleKernel, smallest_costs
from reducible_train.selection.factorizations import Factorization
from reducible_train.selection.measured import MeasuredLosses
from reducible_train.selection.rank_choice import RankChoice, RankSelection, Stage, is_blank
from reducible_train.selection.scoring import Decomposition, DirectionScorer
from reducible_train.selection.splits import changed_splits
from reducible_train.selection.survey import Survey
from reducible_train.settings.targets import SharedTarget, Target

Forms = Mapping[str, tuple[Factorization, Decomposition]]  # by path of the kernel

_LOOKS = 3  # at an allocation, for forms that serve it better
_SURELY = 1e-6  # of a loss, by which another form must be better

_APART = (
    "Frozen layers stay dense, so what was asked of the model was asked of its other "
    "kernels alone, as a fraction of theirs."
)


@dataclass(frozen=True, eq=False)
class Limit:
    """What one budget lets the kernels that share it cost.

    Args:
        target: The budget.
        measure: What it counts.
        value: Its value, now.
        capacity: What they may cost together.
        for_now: What is left to them now; less where others have still to save so much that more
            is left to them in the end.
        last: What is left to them at the lowest value that it will have.
        whole: What they would cost if all were dense.
        now: What they cost as they are.
        is_met: True if that is little enough.
    """

    target: SharedTarget
    measure: str
    value: float
    capacity: float
    for_now: float
    last: float
    whole: float
    now: float
    is_met: bool

    def __str__(self) -> str:
        return f"{self.target.name} {self.value:g}"


class SharedBudget:
    """Shares what a whole model may cost among the kernels that have no target of their own.

    Args:
        survey: The kernels, and what the model costs.
        targets: The budget, or several that are met at once.
        scorer: What the directions of a kernel are worth.
        measure: What a budget counts that does not say so itself.
        allocation: How it is shared.
        measured: What each rank of each kernel loses by measurement, where that shall decide.
        least: The ranks that each kernel keeps whose rule does not say so, a quarter of its full
            rank at most; fewer where the budget leaves no room for so many.
        trains: True if training goes on after a cut.
        apart: The budgets that are asked of the kernels that may change only, as a fraction of
            theirs.
    """

    def __init__(
        self,
        survey: Survey,
        targets: Sequence[SharedTarget],
        scorer: DirectionScorer,
        *,
        measure: str,
        allocation: str,
        trains: bool,
        apart: Collection[Target],
        measured: MeasuredLosses | None = None,
        least: int = 1,
    ):
        self._survey = survey
        self._targets = targets
        self._scorer = scorer
        self._measure = measure
        self._allocation = allocation
        self._trains = trains
        self._apart = apart
        self._measured = measured
        self._least = least

    def share(
        self, shared: Sequence[CompressibleKernel], now: Stage, end: Stage, time: float
    ) -> RankSelection:
        """The ranks at which the model costs no more than any of the budgets.

        The whole model must come down by what it is over a budget, once the other choices are
        made. All of that is taken from these kernels: their capacity is what they cost now, less
        that excess, though never below their smallest ranks. Nor below what will be left to them
        in the end: what others have still to save is not taken from these, which would not get it
        back, and until it is saved the model may cost more. Then each gets a form, those that
        would not leave room for a later, lower budget get another, and the allocation does the
        rest. A budget that is met already is met by smaller ranks as well, which save by all.

        Args:
            shared: The kernels that share them, one at least.
            now: What kernels with targets of their own will be, and the budgets.
            end: The same when all schedules are at their ends.
            time: When now is, for messages.
        """
        hindrances = [_APART] if self._apart else []
        every = [self._limit(each, shared, now, end) for each in now.values]
        limits = [limit for limit in every if not limit.is_met]
        if not limits:
            for_now = _exceeded_for_now(every, ())
            asked = " and ".join(f"{each.name} {v:.4g}" for each, v in now.values.items())
            met = f"{asked} {'is' if len(every) == 1 else 'are'} met without it"
            met += " once the rules for single layers are at their ends" if for_now else ""
            remarks = {m.kernel.path: met for m in shared}
            return RankSelection(remarks=remarks, hindrances=[*for_now, *hindrances])
        for place, limit in enumerate(limits):
            smallest = sum(m.smallest_cost(limit.measure) for m in shared)
            if limit.capacity < smallest:
                even = ", even at their ends," if limit.for_now < limit.capacity else ""
                hindrances.append(
                    f"At epoch {time:g} the rules for single layers left{even} less than the "
                    f"others need; the {limit} was exceeded."
                )
                limits[place] = replace(
                    limit, capacity=smallest, last=limit.last + smallest - limit.capacity
                )
        later = [limit for limit in every if limit.is_met and limit.last < limit.now]
        forms, allocation, exceeded = self._in_the_best_forms(shared, limits, later)
        if exceeded and len(limits) > 1:
            told = " and ".join(f"the {limit}" for limit in exceeded)
            hindrances.append(
                f"No ways to split the kernels meet all at once; {told} was exceeded."
            )
        choices = _choices(shared, forms, allocation)
        return RankSelection(
            choices=choices,
            allocation=allocation,
            remarks=self._remarks(forms, allocation),
            hindrances=[*_exceeded_for_now(every, choices), *hindrances],
            notes=self._notes(forms),
        )

    def _limit(
        self, target: SharedTarget, shared: Sequence[CompressibleKernel], now: Stage, end: Stage
    ) -> Limit:
        """What a budget leaves to these kernels."""
        measure, value = target.counts(self._measure), now.values[target]
        cost = sum(m.cost(measure) for m in shared)
        lowest = value if target.reaches(value, target.lowest) else target.lowest
        excess = self._excess(target, value, now)
        least = min(excess, self._excess(target, end.values[target], end))
        return Limit(
            target,
            measure,
            value,
            capacity=cost - least,
            for_now=cost - excess,
            last=cost - self._excess(target, lowest, end),
            whole=sum(m.dense_cost(measure) for m in shared),
            now=cost,
            is_met=least <= 0,
        )

    def _excess(self, target: SharedTarget, value: float, stage: Stage) -> float:
        """What the model would cost over a value of a budget, if these kernels stayed."""
        measure = target.counts(self._measure)
        total = self._survey.total(measure) - sum(each.saves(measure) for each in stage.others)
        return total - self._cost_of(target, value)

    def _cost_of(self, target: SharedTarget, value: float) -> float:
        """What a value of a target lets the whole model cost."""
        measure = target.counts(self._measure)
        if target.asks_nothing(value, measure):
            return inf
        dense = self._survey.dense_total(measure)
        cost = target.allowed(value, dense)
        if target not in self._apart:
            return cost
        mine = self._survey.compressible
        rest = self._survey.total(measure) - sum(m.cost(measure) for m in mine)
        return rest + cost / dense * sum(m.dense_cost(measure) for m in mine)

    def _in_the_best_forms(
        self,
        shared: Sequence[CompressibleKernel],
        limits: Sequence[Limit],
        later: Sequence[Limit],
    ) -> tuple[Forms, Allocation, list[Limit]]:
        """Forms, a rank for each kernel in its own, and the limits that these cannot keep.

        What a form is worth depends on the rank, and the rank on what others get: so each
        allocation is looked at again, until every kernel has the form that loses least at what it
        was given, or for a few times.
        """
        forms = self._forms(shared, limits, later)
        allocation, exceeded = self._allocated(shared, forms, limits)
        for _ in range(_LOOKS):
            better = self._better_forms(shared, forms, allocation, limits)
            if not better:
                break
            forms = {**forms, **better}
            forms |= self._smaller_forms(shared, forms, [*limits, *later])
            allocation, exceeded = self._allocated(shared, forms, limits)
        return forms, allocation, exceeded

    def _better_forms(
        self,
        shared: Sequence[CompressibleKernel],
        forms: Forms,
        allocation: Allocation,
        limits: Sequence[Limit],
    ) -> Forms:
        """Forms in which kernels would lose less than in their own, for no more."""
        better = {}
        for each in shared:
            rank = allocation.ranks[each.kernel.path]
            if rank is None or len(each.options) == 1:
                continue
            own, parts = forms[each.kernel.path]
            costs = {limit.measure: own.cost(rank, limit.measure) for limit in limits}
            least = (1 - _SURELY) * _discarded(parts.values, rank)
            for form in each.options:
                most = min(form.largest_within(cost, name) for name, cost in costs.items())
                most = rounded_down(min(most, form.max_rank), form.multiple)
                parts = self._scorer.parts(each, form)
                lost = _discarded(parts.values, most)
                if most >= form.least and lost < least:
                    better[each.kernel.path], least = (form, parts), lost
        return better

    def _forms(
        self,
        shared: Sequence[CompressibleKernel],
        limits: Sequence[Limit],
        later: Sequence[Limit],
    ) -> Forms:
        """The form that each kernel shall have, if it gets factors.

        Args:
            shared: The kernels.
            limits: What they shall meet now.
            later: What they meet now, and will have to later.
        """
        forms = {m.kernel.path: self._least_lossy(m, limits) for m in shared}
        return {**forms, **self._smaller_forms(shared, forms, [*limits, *later])}

    def _least_lossy(
        self, compressible: CompressibleKernel, limits: Sequence[Limit]
    ) -> tuple[Factorization, Decomposition]:
        """The form that loses least at the cost of the same fraction of each dense kernel."""

        def lost(option: tuple[Factorization, Decomposition]) -> float:
            form, parts = option
            ranks = (
                form.largest_within(
                    min(1.0, limit.capacity / limit.whole) * form.dense_cost(limit.measure),
                    limit.measure,
                )
                for limit in limits
            )
            kept = cumulative_energy(parts.values)
            return 1.0 - float(kept[min(max(min(ranks), form.least), form.max_rank, len(kept) - 1)])

        options = [(form, self._scorer.parts(compressible, form)) for form in compressible.options]
        return options[0] if len(options) == 1 else min(options, key=lost)

    def _smaller_forms(
        self, shared: Sequence[CompressibleKernel], forms: Forms, limits: Sequence[Limit]
    ) -> Forms:
        """Other forms, so that the smallest costs meet the last budgets, if any forms do.

        A kernel once split stays split so, and its least ranks may cost more in one form. Those
        that would save most by another one change first, until there is room.
        """
        options = [smallest_costs(each, [limit.measure for limit in limits]) for each in shared]
        first = [each.options.index(forms[each.kernel.path][0]) for each in shared]
        last = np.array([limit.last for limit in limits])
        changed = {}
        for place, split in changed_splits(options, first, last).items():
            compressible = shared[place]
            form = compressible.options[split]
            changed[compressible.kernel.path] = form, self._scorer.parts(compressible, form)
        return changed

    def _allocated(
        self, shared: Sequence[CompressibleKernel], forms: Forms, limits: Sequence[Limit]
    ) -> tuple[Allocation, list[Limit]]:
        """A rank for each kernel in its form; no less is asked than these forms can do.

        Returns:
            The ranks, and the limits that these forms cannot keep.
        """
        unknown = [*self._unknown(forms), *self._idle(forms)]
        known = [parts.values for path, (_, parts) in forms.items() if path not in unknown]
        level = _level(known or [parts.values for _, parts in forms.values()])
        floors = self._floors(shared, forms, limits)
        candidates, capacities, exceeded = [], [], []
        for limit in limits:
            costs = (m.smallest_cost(limit.measure, forms[m.kernel.path][0]) for m in shared)
            smallest = sum(costs)
            if smallest > limit.capacity * (1 + 1e-12):
                exceeded.append(limit)
            capacities.append(max(limit.capacity, smallest))
            mine = [
                self._candidate(m, *forms[m.kernel.path], level, floor, limit)
                for m, floor in zip(shared, floors, strict=True)
            ]
            candidates.append(weighted(mine, unknown) if self._is_in_one_unit else mine)
        if len(limits) == 1:
            return allocate(candidates[0], capacities[0], self._allocation), exceeded
        return allocate_several(candidates, capacities, self._allocation), exceeded

    @property
    def _is_in_one_unit(self) -> bool:
        """True if what the kernels lose can be compared, as rises of the loss can."""
        return self._scorer.criterion.comparable and self._measured is None

    def _unknown(self, forms: Forms) -> Collection[str]:
        """Kernels whose losses are in another unit than the criterion's."""
        if not self._is_in_one_unit:
            return []
        scorer = self._scorer
        return [path for path in forms if path in scorer.silent and path not in scorer.idle]

    def _floors(
        self, shared: Sequence[CompressibleKernel], forms: Forms, limits: Sequence[Limit]
    ) -> list[int]:
        """The smallest rank of each kernel: as many as all limits leave room for."""
        split = [forms[each.kernel.path][0] for each in shared]
        room = _room_for_few(shared, split)
        least = [
            min(form.least, each.kernel.rank or form.least)
            for form, each in zip(split, shared, strict=True)
        ]
        for few in range(self._least, 1, -1):
            floors = [
                max(rank, rounded_down(min(few, most), form.multiple))
                for rank, most, form in zip(least, room, split, strict=True)
            ]
            costs = [
                sum(f.cost(r, limit.measure) for f, r in zip(split, floors, strict=True))
                for limit in limits
            ]
            if all(c <= limit.capacity for c, limit in zip(costs, limits, strict=True)):
                return floors
        return least

    def _candidate(
        self,
        compressible: CompressibleKernel,
        form: Factorization,
        parts: Decomposition,
        level: float,
        floor: int,
        limit: Limit,
    ) -> Candidate:
        """A kernel as the allocation sees it; one that has not learned yet as all of one level."""
        blank = self._trains and is_blank(compressible, parts)
        kernel, measure = compressible.kernel, limit.measure
        most = form.max_rank if kernel.rank is None else kernel.rank
        known = None if blank else self._measured
        losses = None if known is None else known.losses(kernel.path, parts.values, most)
        if known is None and not blank and self._idle([kernel.path]):
            losses = np.zeros(most + 1)
        return Candidate(
            path=kernel.path,
            spectrum=np.full_like(parts.values, level) if blank else parts.values,
            rank_cost=form.costs(measure, most),
            dense_cost=form.dense_cost(measure) if kernel.rank is None else None,
            min_rank=floor,
            max_rank=most,
            group=compressible.group,
            losses=losses,
            multiple=form.multiple,
        )

    def _notes(self, forms: Forms) -> tuple[str, ...]:
        """How what is not known was compared with what is."""
        unknown, idle = self._unknown(forms), self._idle(forms)
        if self._allocation != "knapsack" or len(unknown) + len(idle) == len(forms):
            return ()
        told = (
            ("as much as the middle one of the others", unknown),
            ("least, for no cut of them changes anything on the samples", idle),
        )
        return tuple(f"In the budget, {what}: {', '.join(paths)}." for what, paths in told if paths)

    def _idle(self, paths: Iterable[str]) -> Collection[str]:
        """Kernels of which no cut loses anything on the samples, where that is what is shared."""
        is_heard = self._allocation == "knapsack" and self._measured is None
        return [path for path in paths if is_heard and path in self._scorer.idle]

    def _remarks(self, forms: Forms, allocation: Allocation) -> dict[str, str]:
        """What kernels that stay dense would keep, at the largest rank that they may get."""
        remarks = {}
        for path, (form, parts) in forms.items():
            if allocation.ranks[path] is None:
                kept = float(cumulative_energy(parts.values)[min(form.max_rank, len(parts.values))])
                bound = "that saves" if form.max_rank == form.limit else "its rule allows"
                remarks[path] = (
                    f"the others meet the {self._targets[0].quantity}; at rank {form.max_rank}, "
                    f"the largest {bound}, it would keep {kept:.3f} of its energy"
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


def _exceeded_for_now(limits: Sequence[Limit], choices: Sequence[RankChoice]) -> list[str]:
    """That budgets are exceeded by what other kernels have still to save, if some are."""
    names = []
    for limit in limits:
        cost = limit.now - sum(choice.saves(limit.measure) for choice in choices)
        if limit.for_now < min(cost, limit.capacity):
            names.append(f"`{limit.target.name}`")
    if not names:
        return []
    return [
        f"{' and '.join(names)} {'was' if len(names) == 1 else 'were'} exceeded on the way by "
        "layers that rules let fall later; the others were cut no further than the end asks."
    ]


def _discarded(values: np.ndarray, rank: int) -> float:
    """The energy beyond a rank."""
    return float((np.asarray(values[rank:], dtype=np.float64) ** 2).sum())


def _room_for_few(
    shared: Sequence[CompressibleKernel], forms: Sequence[Factorization]
) -> list[int]:
    """How many ranks each kernel keeps at most, where a few of all are kept.

    A quarter of its full rank, and no more than it may have; 0 where its rule says how many.
    Kernels of a group keep as many as each of them can.
    """
    own, least = list[int](), dict[str | None, int]()
    for each, form in zip(shared, forms, strict=True):
        few = min(form.max_rank, each.kernel.rank or form.max_rank, min(form.shape) // 4)
        own.append(0 if each.rule is not None and each.rule.has_floor else few)
        least[each.group] = min(own[-1], least.get(each.group, own[-1]))
    return [
        few if each.group is None else least[each.group]
        for each, few in zip(shared, own, strict=True)
    ]


def _level(spectra: Sequence[np.ndarray]) -> float:
    """The mean size of a singular value of kernels that are not zero; 1 if all are."""
    means = [float(np.mean(values**2)) for values in spectra if values.any()]
    return sqrt(sum(means) / len(means)) if means else 1.0
