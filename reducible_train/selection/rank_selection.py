"""From a target to a rank for each kernel: what shall be cut, before anything is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import floor, inf
from typing import Any

from reducible_train.linalg.svd import relative_errors
from reducible_train.selection.compressible import CompressibleKernel
from reducible_train.selection.factorizations import Factorization
from reducible_train.selection.feasibility import largest_rank, none_cuts
from reducible_train.selection.measured import MeasuredLosses
from reducible_train.selection.own_targets import OwnTargetSelector
from reducible_train.selection.rank_choice import (
    ForeseenRank,
    RankChoice,
    RankSelection,
    Stage,
    is_blank,
)
from reducible_train.selection.scoring import DirectionScorer
from reducible_train.selection.shared_budget import SharedBudget
from reducible_train.selection.survey import Survey
from reducible_train.settings.targets import (
    LossTarget,
    RankTarget,
    SharedTarget,
    SharedTargets,
    Target,
)


@dataclass(frozen=True, eq=False)
class RankSelector:
    """Chooses ranks for the kernels of one model, as it is.

    Args:
        survey: The kernels, and what the model costs.
        target: What the model shall be brought to; rules may give single layers their own.
        scorer: What the directions of a kernel are worth.
        measure: What a budget counts, where it does not say so itself.
        allocation: How a budget is shared among the kernels.
        measured: What each rank of each kernel loses by measurement, where that shall decide.
        least: The ranks that each of them keeps, if there is room.
        trains: True if training goes on after a cut.
        apart: The budgets that are asked of the kernels that may change only, as a fraction of
            theirs.
        own_ranks: The ranks that the target `StableRank` means, by path; those of kernels
            that have not settled are left out.
        effective_ranks: What kernels that have factors had before their first cut, by path.
    """

    survey: Survey
    target: Target | SharedTargets
    scorer: DirectionScorer
    measure: str = "parameters"
    allocation: str = "knapsack"
    measured: MeasuredLosses | None = None
    least: int = 1
    trains: bool = True
    apart: Collection[Target] = ()
    own_ranks: Mapping[str, float] = field(default_factory=dict)
    effective_ranks: Mapping[str, float] = field(default_factory=dict)

    def select(
        self,
        values: Mapping[Target, float],
        ends: Mapping[SharedTarget, float],
        time: float,
        kept: Mapping[str, float],
    ) -> RankSelection:
        """The kernels that shall change, how a budget was shared, and why others stay.

        Kernels with a target of their own come first; what they save, or will have saved at its
        end, is taken off what the others have to.

        Args:
            values: The value of each target, now.
            ends: That of each budget in the end.
            time: When now is, for messages.
            kept: Energy kept so far by path of the kernel, as the criterion weighs it.
        """
        own, remarks, shared = self._by_own_targets(values, kept)
        budgets = {part: values[part] for part in self._budgets}
        if shared and budgets:
            now, end = Stage(own, budgets), Stage(self._at_their_ends(own, values, kept), ends)
            rest = self._budget(list(budgets)).share(shared, now, end, time)
        else:
            rest = RankSelection(hindrances=() if own else self._unmet_at_its_end(values))
        choices = [
            replace(
                each,
                means=self.scorer.means(each.compressible, each.factorization),
                statistics=self.scorer.statistics(each.compressible),
            )
            for each in (*own, *rest.choices)
        ]
        return replace(
            rest,
            choices=choices,
            remarks=self._of_dense({**remarks, **rest.remarks}),
            notes=(*self.scorer.notes, *rest.notes),
            seconds=self.scorer.seconds,
        )

    def _by_own_targets(
        self, values: Mapping[Target, float], kept: Mapping[str, float]
    ) -> tuple[list[RankChoice], dict[str, str], list[CompressibleKernel]]:
        """Choices and remarks for kernels that share no budget, and the kernels that do."""
        choices, remarks, shared = [], {}, []
        for compressible in self.survey.compressible:
            goal = (compressible.rule.target if compressible.rule else None) or self.target
            if isinstance(goal, SharedTarget | SharedTargets):
                shared.append(compressible)
                continue
            choice, remark = self._own.select(compressible, goal, values[goal], kept)
            if choice is not None:
                choices.append(choice)
            if remark is not None:
                remarks[compressible.kernel.path] = remark
        return choices, remarks, shared

    def _at_their_ends(
        self, own: Sequence[RankChoice], values: Mapping[Target, float], kept: Mapping[str, float]
    ) -> list[ForeseenRank]:
        """What kernels with a target of their own will be when it has come to its end.

        Args:
            own: What they will be for now.
            values: The value of each target, now.
            kept: Energy kept so far by path of the kernel, as the criterion weighs it.
        """
        ends = []
        chosen = {choice.compressible.kernel.path: choice for choice in own}
        for compressible in self.survey.compressible:
            goal = None if compressible.rule is None else compressible.rule.target
            now: ForeseenRank | None = chosen.get(compressible.kernel.path)
            end = now
            if goal is not None and not goal.reaches(values[goal], goal.lowest):
                forms = compressible.forms if now is None else (now.factorization,)
                later = replace(compressible, forms=forms)
                end = self._own.foreseen(later, goal, goal.lowest, kept) or now
            if end is not None:
                ends.append(replace(end, compressible=compressible))
        return ends

    @property
    def _own(self) -> OwnTargetSelector:
        """What chooses ranks for kernels with a target of their own."""
        return OwnTargetSelector(
            self.scorer,
            measure=self.measure,
            trains=self.trains,
            own_ranks=self.own_ranks,
            effective_ranks=self.effective_ranks,
        )

    @property
    def _budgets(self) -> list[SharedTarget]:
        """What all kernels share: nothing, one budget, or several."""
        return [part for part in self.target.parts if isinstance(part, SharedTarget)]

    def _budget(self, targets: Sequence[SharedTarget]) -> SharedBudget:
        return SharedBudget(
            self.survey,
            targets,
            self.scorer,
            measure=self.measure,
            allocation=self.allocation,
            trains=self.trains,
            apart=self.apart,
            measured=self.measured,
            least=self.least,
        )

    def _of_dense(self, remarks: Mapping[str, str]) -> dict[str, str]:
        """What is said of kernels that are dense; the others need no excuse."""
        dense = {m.kernel.path for m in self.survey.compressible if m.kernel.rank is None}
        return {path: remark for path, remark in remarks.items() if path in dense}

    def _unmet_at_its_end(self, values: Mapping[Target, float]) -> tuple[str, ...]:
        """Where a target asks for no cut at all, even at its end: what would."""
        goal, compressible = self.target, self.survey.compressible
        mine = [m for m in compressible if m.rule is None or m.rule.target is None]
        early = any(values[part] != part(inf) for part in goal.parts)
        if early or any(m.kernel.rank is not None for m in compressible):
            return ()
        if not mine or isinstance(goal, SharedTarget | SharedTargets):
            asked = " and ".join(f"{part.name}={part(inf):g}" for part in goal.parts)
            return (
                f"{asked} has no kernel to ask: rules give each a target of "
                "its own, at which it stays dense. Lower these, or leave kernels without one.",
            )
        if isinstance(goal, LossTarget):
            return (_nearest(goal, self._errors(mine), min, goal.nearest),)
        if isinstance(goal, RankTarget) and goal.foreseeable:
            most, path = largest_rank(self.survey.lattice, mine)
            if not most:
                return (f"{_leaves_dense(goal)} {none_cuts(self.survey)}",)
            is_rank = goal.misfit(most) is None and goal.rank(most, None) == most
            name = goal.quantity if is_rank else "rank"
            return (_nearest(goal, {path: most}, max, lambda rank: f"{name}={rank}"),)
        if isinstance(goal, RankTarget) and goal.scaled_by == "effective_rank":
            named = f"{goal.quantity}={{:.4f}}".format
            return (_nearest(goal, self._factors(mine), max, named),)
        return ("No kernel would be smaller at its stable rank, so all stay dense. Give a budget.",)

    def _errors(self, mine: Sequence[CompressibleKernel]) -> dict[str, float]:
        """The relative error of kernels at the largest rank that each may get, by path."""
        errors = dict[str, float]()
        for each, form in _cuttable(mine):
            parts = self.scorer.parts(each, form)
            if not self.trains or not is_blank(each, parts):
                lost, path = relative_errors(parts.values), each.kernel.path
                error = float(lost[min(form.limit, len(lost) - 1)])
                errors[path] = min(error, errors.get(path, error))
        return errors

    def _factors(self, mine: Sequence[CompressibleKernel]) -> dict[str, float]:
        """The largest multiple of its effective rank that cuts a kernel, by path."""
        owns = {
            each.kernel.path: (form.limit, self.scorer.effective_rank(each))
            for each, form in _cuttable(mine)
            if form is each.factorization
        }
        return {
            path: floor(1e4 * limit / max(own, 1.0)) / 1e4
            for path, (limit, own) in owns.items()
            if own or not self.trains
        }


def _cuttable(
    mine: Sequence[CompressibleKernel],
) -> Iterator[tuple[CompressibleKernel, Factorization]]:
    """Kernels, and their forms of which some rank that they may have saves enough."""
    for each in mine:
        for form in each.options:
            if min(form.min_rank, *form.shape) <= form.limit:
                yield each, form


def _nearest(
    goal: Target,
    found: Mapping[str, float],
    best: Callable[..., str],
    told: Callable[[Any], str],
) -> str:
    """That a target leaves every kernel dense, and the nearest value of some that does not.

    Args:
        goal: The target.
        found: What each kernel, by path, must be asked for to be cut.
        best: Which of them is asked for least.
        told: What is found of one, as an argument.
    """
    if not found:
        zeros = "each holds only zeros, which say nothing of its rank"
        return f"{_leaves_dense(goal, zeros)} Ask for a rank or a budget."
    path = best(found, key=found.__getitem__)
    value = told(found[path])
    return f"{_leaves_dense(goal)} The nearest value at which one is cut is {value} ({path})."


def _leaves_dense(goal: Target, why: str = "no factors that are smaller meet it") -> str:
    value = goal(inf)
    why = "nothing is cut at it" if value == goal.idle else why
    return f"{goal.quantity}={value:g} leaves every kernel dense: {why}."
