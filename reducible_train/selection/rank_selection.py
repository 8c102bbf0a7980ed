"""From a target to a rank for each kernel: what shall be cut, before anything is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, sqrt
from typing import Any

import numpy as np

from reducible_train.linalg.svd import cumulative_energy, relative_errors
from reducible_train.linalg.truncation import choose_rank
from reducible_train.selection.allocation import Allocation, Candidate, allocate
from reducible_train.selection.scoring import Decomposition, DirectionScorer
from reducible_train.selection.survey import CompressibleKernel, Factorization, Survey
from reducible_train.settings.targets import LossTarget, RankTarget, SharedTarget, Target

Aim = Callable[[Target], float]  # the value of a target, now


@dataclass(frozen=True, eq=False)
class RankChoice:
    """The rank one kernel shall get, and what decided it."""

    compressible: CompressibleKernel
    factorization: Factorization
    rank: int
    binding: str
    parts: Decomposition

    def saves(self, measure: str) -> float:
        """What the change takes off the cost."""
        return self.compressible.cost(measure) - self.factorization.cost(self.rank, measure)


class RankSelector:
    """Chooses ranks for the kernels of one model.

    Args:
        survey: The kernels.
        target: What the model shall be brought to; rules may give single layers their own.
        judge: What the directions of a kernel are worth.
        measure: What a budget counts.
        allocation: How a budget is shared among the kernels.
        notes: Where it adds sentences that the reader of a report should see.
        remarks: Where it says why a kernel that may change is dense, by path, as of the last
            decision.
        trains: True if training goes on after a cut.
        apart: True if a budget is asked of the kernels that may change only, as a fraction of
            theirs.
    """

    def __init__(
        self,
        survey: Survey,
        target: Target,
        judge: DirectionScorer,
        *,
        measure: str,
        allocation: str,
        notes: list[str],
        remarks: dict[str, str],
        trains: bool = True,
        apart: bool = False,
    ):
        self._survey = survey
        self._target = target
        self._scorer = judge
        self._measure = measure
        self._allocation = allocation
        self._notes = notes
        self._trains = trains
        self._apart = apart
        self._remarks = remarks
        self.own_ranks: Mapping[str, float] = {}  # by path, for the target `StableRank`
        self.hindrance: str | None = None  # why the last decision falls short

    def decide(
        self, aim: Aim, time: float, kept: Mapping[str, float]
    ) -> tuple[list[RankChoice], Allocation | None]:
        """The kernels that shall change, and how a budget was shared if there was one.

        Args:
            aim: The value of a target, now.
            time: When that is, for messages.
            kept: Energy kept so far by path of the kernel, as the criterion weighs it.
        """
        self._scorer.begin()
        self.hindrance = None
        self._remarks.clear()
        decisions, shared = [], []
        for compressible in self._survey.compressible:
            own = compressible.rule.target if compressible.rule else None
            goal = own or self._target
            if isinstance(goal, SharedTarget):
                shared.append(compressible)
                continue
            decision = self._alone(compressible, goal, aim(goal), kept)
            if decision is not None:
                decisions.append(decision)
        if not shared:
            if not decisions:
                self._tell_nearest(aim)
            return decisions, None
        more, allocation = self._share(shared, decisions, aim(self._target), time)
        return [*decisions, *more], allocation

    def _tell_nearest(self, aim: Aim) -> None:
        """Where a target asks for no cut at all, even at its end: what would."""
        goal = self._target
        last = aim(goal) == goal(inf)
        if not last or any(
            compressible.kernel.rank is not None for compressible in self._survey.compressible
        ):
            return
        if isinstance(goal, LossTarget):
            errors = {}
            for m in self._survey.compressible:
                lost = relative_errors(self._scorer.parts(m, m.factorization).values)
                errors[m.kernel.path] = float(lost[min(m.factorization.limit, len(lost) - 1)])
            path = min(errors, key=lambda path: errors[path])
            note = _nearest(goal, goal.nearest(errors[path]), path)
        elif goal.foreseeable:
            ranks = {m.kernel.path: m.factorization.max_rank for m in self._survey.compressible}
            path = max(ranks, key=lambda path: ranks[path])
            note = _nearest(goal, f"{goal.quantity}={ranks[path]}", path)
        else:
            note = (
                "No kernel would be smaller at its stable rank, so all stay dense. Give a budget."
            )
        self._hinder(note)

    def _hinder(self, note: str) -> None:
        """Tell why a decision falls short, once in the notes."""
        self.hindrance = note
        if note not in self._notes:
            self._notes.append(note)

    # --- one kernel by itself ---------------------------------------------------------

    def _alone(
        self,
        compressible: CompressibleKernel,
        goal: Target,
        value: float,
        kept: Mapping[str, float],
    ) -> RankChoice | None:
        """What a rank, an energy or an error asks of one kernel; `None` for no change."""
        path, found = compressible.kernel.path, []
        if isinstance(goal, RankTarget):
            own = self.own_ranks.get(path)
            if own is None and not goal.foreseeable:
                self._say(compressible, "its stable rank has not settled yet")
            rank = goal.rank(value, own)
            found = [self._by_rank(compressible, form, rank) for form in compressible.options]
        elif isinstance(goal, LossTarget):
            limit = goal.limit(value, kept.get(path, 1.0))
            asked = f"{goal.quantity} {value:g}"
            found = [
                self._by_spectrum(compressible, form, limit, asked) for form in compressible.options
            ]
        possible = [decision for decision in found if decision is not None]
        return max(possible, key=lambda d: d.saves(self._measure), default=None)

    def _by_rank(
        self, compressible: CompressibleKernel, form: Factorization, value: float
    ) -> RankChoice | None:
        """The decision for a rank; of several forms only the usual one."""
        current = compressible.kernel.rank
        rank = as_rank(value, compressible, form)
        if rank is None:
            over = f"rank {value:g} saves nothing: only up to {form.max_rank} would"
            self._say(compressible, "no rank is asked for so far" if value == inf else over)
        if (
            form is not compressible.factorization
            or rank is None
            or (current is not None and rank >= current)
        ):
            return None
        parts = self._scorer.parts(compressible, form)
        return RankChoice(compressible, form, rank, _rank_binding(value, rank), parts)

    def _by_spectrum(
        self,
        compressible: CompressibleKernel,
        form: Factorization,
        limit: Mapping[str, Any] | None,
        asked: str,
    ) -> RankChoice | None:
        """The decision for what this cut must keep; `None` for a limit of nothing to lose."""
        if limit is None:
            self._say(compressible, f"nothing may be lost at {asked}")
            return None
        parts = self._scorer.parts(compressible, form)
        if self._is_blank(compressible, parts):
            self._say(compressible, f"holds only zeros, so {asked} says nothing about its rank")
            return None
        least = min(form.min_rank, *form.shape)
        choice = choose_rank(parts.values, **limit, min_rank=least)
        current = compressible.kernel.rank
        if choice.rank > (current - 1 if current is not None else form.limit):
            own = f"{choice.binding} {choice.rank}" if choice.binding == "min_rank" else asked
            self._say(
                compressible, f"{own} takes rank {choice.rank}: only up to {form.limit} would save"
            )
            return None
        if choice.rank > form.max_rank:
            choice = choose_rank(parts.values, **limit, max_rank=form.max_rank)
        return RankChoice(compressible, form, choice.rank, choice.binding, parts)

    def _say(self, compressible: CompressibleKernel, remark: str | None) -> None:
        """Why a kernel is dense, if it is; of several forms, what was said of the first."""
        if remark is not None and compressible.kernel.rank is None:
            self._remarks.setdefault(compressible.kernel.path, remark)

    def _is_blank(self, compressible: CompressibleKernel, parts: Decomposition) -> bool:
        """True for a kernel that has not learned yet, so that its spectrum tells nothing."""
        return self._trains and compressible.kernel.rank is None and not parts.values.any()

    # --- those that share a budget ----------------------------------------------------

    def _share(
        self,
        shared: Sequence[CompressibleKernel],
        decided: Sequence[RankChoice],
        aimed: float,
        time: float,
    ) -> tuple[list[RankChoice], Allocation | None]:
        """What a budget asks of the kernels that share it."""
        measure = self._measure
        if self._apart:
            self._hinder(
                "Frozen layers stay dense, so what was asked of the model was asked of its other "
                "kernels alone, as a fraction of theirs."
            )
        total = self._survey.total(measure)
        total -= sum(decision.saves(measure) for decision in decided)
        budget = self._cost_of(aimed)
        if total <= budget:
            for compressible in shared:
                self._say(compressible, f"{self._target.quantity} {aimed:.4g} is met without it")
            return [], None
        present = sum(m.cost(measure) for m in shared)
        capacity = present - (total - budget)
        smallest = sum(m.smallest_cost(measure) for m in shared)
        if capacity < smallest:
            note = (
                f"At epoch {time:g} the rules for single layers left less than the others need; "
                f"the {self._target.quantity} {aimed:g} was exceeded."
            )
            self._hinder(note)
            capacity = smallest
        fraction = min(1.0, capacity / sum(m.dense_cost(measure) for m in shared))
        forms = {m.kernel.path: self._form(m, fraction) for m in shared}
        last = self._cost_of(min(aimed, self._target.lowest))
        self._leave_room(shared, forms, capacity - (budget - last))
        least = sum(m.smallest_cost(measure, forms[m.kernel.path][0]) for m in shared)
        capacity = max(capacity, least)
        level = _level([parts.values for _, parts in forms.values()])
        candidates = [self._candidate(m, *forms[m.kernel.path], level) for m in shared]
        allocation = allocate(candidates, capacity, self._allocation)
        decisions = []
        for compressible in shared:
            path = compressible.kernel.path
            rank = allocation.ranks[path]
            form, parts = forms[path]
            if rank is None:
                kept = float(cumulative_energy(parts.values)[min(form.max_rank, len(parts.values))])
                self._say(
                    compressible,
                    f"the others meet the {self._target.quantity}; at rank {form.max_rank}, the "
                    f"largest that saves, it would keep {kept:.3f} of its energy",
                )
            elif rank != compressible.kernel.rank:
                decisions.append(RankChoice(compressible, form, rank, "budget", parts))
        return decisions, allocation

    def _form(
        self, compressible: CompressibleKernel, fraction: float
    ) -> tuple[Factorization, Decomposition]:
        """The form that loses least at the cost of a fraction of the dense kernel."""
        measure = self._measure

        def lost(found: tuple[Factorization, Decomposition]) -> float:
            form, parts = found
            rank = form.largest_within(fraction * form.dense_cost(measure), measure)
            kept = cumulative_energy(parts.values)
            return 1.0 - float(kept[min(max(rank, form.least), form.max_rank, len(kept) - 1)])

        options = [(form, self._scorer.parts(compressible, form)) for form in compressible.options]
        return options[0] if len(options) == 1 else min(options, key=lost)

    def _cost_of(self, value: float) -> float:
        """What a value of the target lets the whole model cost."""
        dense = self._survey.dense_total(self._measure)
        cost = value
        if isinstance(self._target, SharedTarget):
            cost = self._target.allowed(value, dense)
        if not self._apart:
            return cost
        mine = self._survey.compressible
        rest = self._survey.total(self._measure) - sum(m.cost(self._measure) for m in mine)
        return rest + cost / dense * sum(m.dense_cost(self._measure) for m in mine)

    def _leave_room(
        self,
        shared: Sequence[CompressibleKernel],
        forms: dict[str, tuple[Factorization, Decomposition]],
        capacity: float,
    ) -> None:
        """Change forms so that their smallest costs meet the last budget, if any forms do.

        A kernel once split stays split so, and its least ranks may cost more in one form.
        """
        measure = self._measure
        least = {m.kernel.path: m.smallest_cost(measure, forms[m.kernel.path][0]) for m in shared}
        saved = {m.kernel.path: least[m.kernel.path] - m.smallest_cost(measure) for m in shared}
        excess = sum(least.values()) - capacity
        for compressible in sorted(shared, key=lambda m: -saved[m.kernel.path]):
            path = compressible.kernel.path
            if excess <= 0 or saved[path] <= 0:
                return
            form = min(compressible.options, key=partial(compressible.smallest_cost, measure))
            forms[path] = form, self._scorer.parts(compressible, form)
            excess -= saved[path]

    def _candidate(
        self,
        compressible: CompressibleKernel,
        form: Factorization,
        parts: Decomposition,
        level: float,
    ) -> Candidate:
        """A kernel as the allocation sees it; one that has not learned yet as all of one level."""
        blank = self._is_blank(compressible, parts)
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


def as_rank(value: float, compressible: CompressibleKernel, form: Factorization) -> int | None:
    """The rank a target value means for a kernel; `None` if it stays as it is."""
    if value == inf:
        return None
    rank = max(round(value), form.min_rank)
    current = compressible.kernel.rank
    limit = current if current is not None else form.max_rank
    own_limit = compressible.rule.max_rank if compressible.rule else None
    if own_limit is not None:
        rank = min(rank, own_limit)
    return None if rank > limit else rank


def _level(spectra: Sequence[np.ndarray]) -> float:
    """The mean size of a singular value of kernels that are not zero; 1 if all are."""
    means = [float(np.mean(values**2)) for values in spectra if values.any()]
    return sqrt(sum(means) / len(means)) if means else 1.0


def _nearest(goal: Target, value: str, path: str) -> str:
    return (
        f"{goal.quantity}={goal(inf):g} leaves every kernel dense: no factors that are smaller "
        f"meet it. The nearest value at which one is cut is {value} ({path})."
    )


def _rank_binding(value: float, rank: int) -> str:
    if rank == round(value):
        return "rank"
    return "min_rank" if rank > round(value) else "max_rank"
