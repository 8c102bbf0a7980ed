"""The numbers of a model that a target may ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reducible_train.selection.compressible import CompressibleKernel
from reducible_train.selection.scoring import effective_rank_of
from reducible_train.selection.survey import Survey


@dataclass(frozen=True, eq=False)
class SurveyNumbers:
    """What the targets of `settings` know of a model, as `ModelNumbers` has it.

    Args:
        survey: What was found in the model.
        measure: What a budget counts.
        stable_ranks: The stable ranks that `Adaptive` has found, scaled, by path.
        kernels: Those that the target is for.
    """

    survey: Survey
    measure: str
    stable_ranks: Mapping[str, float]
    kernels: Sequence[CompressibleKernel]

    @property
    def cost(self) -> float:
        return self.survey.total(self.measure)

    @property
    def dense_cost(self) -> float:
        return self.survey.dense_total(self.measure)

    @property
    def largest_rank(self) -> float:
        return float(
            max(m.kernel.rank or max(form.max_rank for form in m.options) for m in self.kernels)
        )

    @property
    def stable_rank_factor(self) -> float:
        factors = [
            m.factorization.max_rank / self.stable_ranks[m.kernel.path]
            for m in self.kernels
            if m.kernel.path in self.stable_ranks
        ]
        return max(factors, default=math.inf)

    @property
    def effective_rank_factor(self) -> float:
        factors = [
            (m.kernel.rank or m.factorization.max_rank) / max(own, 1.0)
            for m in self.kernels
            for own in [effective_rank_of(m.kernel, m.factorization.split)]
        ]
        return max(factors)
