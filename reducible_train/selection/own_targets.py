"""What a rank, an energy or an error asks of one kernel, whatever the others do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import Any

from reducible_train.linalg.truncation import choose_rank
from reducible_train.selection.compressible import CompressibleKernel
from reducible_train.selection.factorizations import Factorization
from reducible_train.selection.rank_choice import ForeseenRank, RankChoice, as_rank, is_blank
from reducible_train.selection.scoring import DirectionScorer
from reducible_train.settings.targets import LossTarget, RankTarget, Target

Outcome = tuple[RankChoice | None, str | None]  # what shall change, else why it does not


class OwnTargetSelector:
    """Chooses the rank of kernels one by one.

    Args:
        scorer: What the directions of a kernel are worth.
        measure: What a choice among several forms shall save.
        trains: True if training goes on after a cut.
        own_ranks: The ranks that the target `StableRank` means, by path.
        effective_ranks: What kernels that have factors had before their first cut, by path.
    """

    def __init__(
        self,
        scorer: DirectionScorer,
        *,
        measure: str,
        trains: bool,
        own_ranks: Mapping[str, float],
        effective_ranks: Mapping[str, float],
    ):
        self._scorer = scorer
        self._measure = measure
        self._trains = trains
        self._own_ranks = own_ranks
        self._effective_ranks = effective_ranks

    def select(
        self,
        compressible: CompressibleKernel,
        goal: Target,
        value: float,
        kept: Mapping[str, float],
    ) -> Outcome:
        """What a value of a target asks of one kernel.

        Of several forms, the one that saves most is chosen, and what is said of the first counts.

        Args:
            compressible: The kernel.
            goal: The target; not one that kernels share.
            value: Its value, now.
            kept: Energy kept so far by path of the kernel, as the criterion weighs it.
        """
        path, remark = compressible.kernel.path, None
        outcomes: list[Outcome] = []
        if isinstance(goal, RankTarget):
            if goal.scaled_by == "effective_rank":
                return self._by_effective_rank(compressible, goal, value)
            own = self._multiplied(compressible, goal)
            if own is None and goal.scaled_by:
                remark = "its stable rank has not settled yet"
            rank = goal.told_rank(value, own)
            outcomes = [
                self._by_rank(compressible, form, rank, goal.rounds_up)
                for form in compressible.options
            ]
        elif isinstance(goal, LossTarget):
            limit = goal.told_limit(value, kept.get(path, 1.0))
            asked = f"{goal.quantity} {value:g}"
            outcomes = [
                self._by_spectrum(compressible, form, limit, asked) for form in compressible.options
            ]
        choices = [choice for choice, _ in outcomes if choice is not None]
        remarks = filter(None, [remark, *(said for _, said in outcomes)])
        most = max(choices, key=lambda choice: choice.saves(self._measure), default=None)
        return most, next(remarks, None)

    def foreseen(
        self,
        compressible: CompressibleKernel,
        goal: Target,
        value: float,
        kept: Mapping[str, float],
    ) -> ForeseenRank | None:
        """What a later value of a target will make of a kernel, as far as its numbers tell by now.

        The least that it may be where they tell nothing; `None` if it stays as it is. Arguments as
        for `select`.
        """
        form = compressible.factorization
        if isinstance(goal, RankTarget):
            own = self._multiplied(compressible, goal)
            rank = as_rank(goal.told_rank(value, own), compressible, form, up=goal.rounds_up)
            return None if rank is None else ForeseenRank(compressible, form, rank)
        if self._trains and is_blank(compressible, self._scorer.parts(compressible, form)):
            return ForeseenRank(compressible, form, form.least)
        choice, _ = self.select(compressible, goal, value, kept)
        return choice

    def _multiplied(self, compressible: CompressibleKernel, goal: RankTarget) -> float | None:
        """The number of a kernel that values of a target are multiples of; `None` if unknown."""
        path = compressible.kernel.path
        if goal.scaled_by != "effective_rank":
            return self._own_ranks.get(path)
        own = self._effective_ranks.get(path) if compressible.kernel.rank is not None else None
        return self._scorer.effective_rank(compressible) if own is None else own

    def _by_rank(
        self, compressible: CompressibleKernel, form: Factorization, value: float, up: bool
    ) -> Outcome:
        """What a rank asks for; of several forms only the usual one is chosen."""
        current = compressible.kernel.rank
        rank = as_rank(value, compressible, form, up=up)
        if rank is None:
            over = f"rank {value:g} saves nothing: only up to {form.max_rank} would"
            return None, "no rank is asked for so far" if value == inf else over
        if form is not compressible.factorization or (current is not None and rank >= current):
            return None, None
        parts = self._scorer.parts(compressible, form, rank)
        return RankChoice(compressible, form, rank, _rank_binding(value, rank, form), parts), None

    def _by_effective_rank(
        self, compressible: CompressibleKernel, goal: RankTarget, value: float
    ) -> Outcome:
        """What a multiple of the effective rank asks for: of the kernel as it was when dense."""
        kernel, form = compressible.kernel, compressible.factorization
        if value == inf:
            return self._by_rank(compressible, form, inf, goal.rounds_up)
        own = self._multiplied(compressible, goal)
        if self._trains and kernel.rank is None and not own:
            return None, f"holds only zeros, so {goal.quantity} {value:g} says nothing of its rank"
        choice, remark = self._by_rank(
            compressible, form, goal.told_rank(value, own), goal.rounds_up
        )
        if choice is not None:
            return replace(choice, effective_rank=own), None
        return None, remark and f"{remark}; its effective rank is {own:.1f}"

    def _by_spectrum(
        self,
        compressible: CompressibleKernel,
        form: Factorization,
        limit: Mapping[str, Any] | None,
        asked: str,
    ) -> Outcome:
        """What the limit on this cut asks for; `None` is a limit of nothing to lose."""
        if limit is None:
            return None, f"nothing may be lost at {asked}"
        parts = self._scorer.parts(compressible, form)
        if self._trains and is_blank(compressible, parts):
            return None, f"holds only zeros, so {asked} says nothing about its rank"
        least = min(form.min_rank, *form.shape)
        found = choose_rank(parts.values, **limit, min_rank=least, multiple=form.multiple)
        current = compressible.kernel.rank
        if found.rank > (current - 1 if current is not None else form.limit):
            own = f"{found.binding} {found.rank}" if found.binding == "min_rank" else asked
            told = f", a multiple of {form.multiple}" if found.rank % form.multiple == 0 else ""
            told = told if form.multiple > 1 else ""
            return None, f"{own} takes rank {found.rank}{told}: only up to {form.limit} would save"
        if found.rank > form.max_rank:
            found = choose_rank(
                parts.values, **limit, max_rank=form.max_rank, multiple=form.multiple
            )
        return RankChoice(compressible, form, found.rank, found.binding, parts), None


def _rank_binding(value: float, rank: int, form: Factorization) -> str:
    if abs(rank - round(value)) < form.multiple:
        return "rank"
    return "min_rank" if rank > round(value) else "max_rank"
