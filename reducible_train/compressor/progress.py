"""How far a model has come to its targets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reducible_train.compressor.target_values import targets_of
from reducible_train.layers import Kernel
from reducible_train.selection.compressible import CompressibleKernel
from reducible_train.selection.rank_choice import rank_meant
from reducible_train.selection.survey import Survey
from reducible_train.selection.survey_numbers import SurveyNumbers
from reducible_train.settings.targets import RankTarget, SharedTarget, SharedTargets, Target


@dataclass(frozen=True, eq=False)
class Progress:
    """What a model meets as it is, and what its last look has brought it to.

    Args:
        survey: Its kernels.
        target: What it shall be brought to.
        measure: What a budget counts that does not say so itself.
        reached: The values of `targets_of` at the last look; `None` before one.
        own_ranks: The ranks that the target `StableRank` means, by path.
    """

    survey: Survey
    target: Target | SharedTargets
    measure: str
    reached: Sequence[float] | None
    own_ranks: Mapping[str, float]

    def present(self, goal: Target) -> float:
        """The value of a target that the model meets as it is."""
        measure = goal.counts(self.measure) if isinstance(goal, SharedTarget) else self.measure
        mine = self._kernels_of(goal) or self.survey.compressible
        return goal.present(SurveyNumbers(self.survey, measure, self.own_ranks, mine))

    def unmet(self) -> Target | None:
        """The first of the targets that the model has not been brought to, if there is one."""
        return next(iter(self.all_unmet()), None)

    def all_unmet(self, epoch: float = math.inf) -> list[Target]:
        """The targets that the model has not been brought to, as an epoch asks for them."""
        targets = targets_of(self.survey, self.target)
        return [goal for goal in targets if not self._is_met(goal, goal(epoch))]

    def left_at(self, goal: Target) -> float:
        """The value of a target that the last cut, or look, has left the model at."""
        last = self._looked_at(goal)
        missed = self._missed(goal)
        if missed:
            return float(max(kernel.rank or min(kernel.shape) for kernel in missed))
        if goal.foreseeable or last is None:
            return self.present(goal)
        return last

    def _is_met(self, goal: Target, wanted: float) -> bool:
        if wanted == goal.idle:
            return True
        if isinstance(goal, SharedTarget):
            idle = goal.asks_nothing(wanted, goal.counts(self.measure))
            nearly = wanted * (1 - 1e-9 if goal.rises else 1 + 1e-9)
            return idle or goal.reaches(self.present(goal), nearly)
        mine = self._kernels_of(goal)
        if goal == self.target and mine and all(m.kernel.rank is None for m in mine):
            return False
        if isinstance(goal, RankTarget) and goal.foreseeable:
            return not self._missed(goal)
        return self._looked_at(goal) == wanted

    def rules_of(self, goal: Target) -> list[str]:
        """The patterns of the rules that a target is of; none if it is the model's."""
        rules = [m.rule for m in self._kernels_of(goal) if m.rule is not None]
        return [] if goal in self.target.parts else list(dict.fromkeys(r.match for r in rules))

    def _missed(self, goal: Target) -> list[Kernel]:
        """The kernels that have not the ranks which a target asks of them in the end, if known."""
        if not isinstance(goal, RankTarget) or not goal.foreseeable:
            return []
        ranks = (
            (m.kernel, rank_meant(goal, goal(math.inf), m, m.factorization))
            for m in self._kernels_of(goal)
        )
        return [kernel for kernel, asked in ranks if asked not in (None, kernel.rank)]

    def _kernels_of(self, goal: Target) -> list[CompressibleKernel]:
        """The kernels that a target is for, unless they share it."""
        return [m for m in self.survey.compressible if self._target_of(m) == goal]

    def _target_of(self, compressible: CompressibleKernel) -> Target | SharedTargets:
        """The target of one kernel: its rule's, or the model's."""
        own = None if compressible.rule is None else compressible.rule.target
        return self.target if own is None else own

    def _looked_at(self, goal: Target) -> float | None:
        """The value of a target at the last look."""
        if self.reached is None:
            return None
        targets = targets_of(self.survey, self.target)
        return next(v for t, v in zip(targets, self.reached, strict=True) if t == goal)
