"""The ranks that were chosen, and what decided them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np

from reducible_train.linalg.multiples import rounded_down, rounded_up
from reducible_train.selection.allocation import Allocation
from reducible_train.selection.compressible import CompressibleKernel
from reducible_train.selection.criteria import Statistics
from reducible_train.selection.factorizations import Factorization
from reducible_train.selection.scoring import Decomposition
from reducible_train.settings.targets import RankTarget, SharedTarget


@dataclass(frozen=True, eq=False)
class ForeseenRank:
    """The rank that one kernel will have.

    Args:
        compressible: The kernel.
        factorization: Its form.
        rank: Its rank.
    """

    compressible: CompressibleKernel
    factorization: Factorization
    rank: int

    def saves(self, measure: str) -> float:
        """What the change takes off the cost."""
        return self.compressible.cost(measure) - self.factorization.cost(self.rank, measure)


@dataclass(frozen=True, eq=False)
class Stage:
    """What holds at a time, beside the kernels that share budgets.

    Args:
        others: Those of the other kernels that change until then.
        values: The value of each budget.
    """

    others: Sequence[ForeseenRank]
    values: Mapping[SharedTarget, float]


@dataclass(frozen=True, eq=False)
class RankChoice(ForeseenRank):
    """The rank one kernel shall get, and what decided it.

    Args:
        compressible: The kernel.
        factorization: The form it shall have.
        rank: Its new rank.
        binding: What decided it.
        parts: The kernel's decomposition in that form.
        means: The means of its inputs that its offset shall make up for, if they are known.
        statistics: What is known of the data of each of its matrices, in the usual split; `None`
            if nothing is.
        effective_rank: That of the kernel before its first cut, where that decides.
    """

    binding: str
    parts: Decomposition
    means: Sequence[np.ndarray] | None = None
    statistics: Sequence[Statistics] | None = None
    effective_rank: float | None = None


@dataclass(frozen=True, eq=False)
class RankSelection:
    """What one look at a model has decided, and what a reader of its report should know.

    Args:
        choices: The ranks of the kernels that shall change.
        allocation: How a budget was shared, if there was one to share.
        remarks: Why kernels that may change stay dense, by path.
        hindrances: Why this falls short of what was asked, in sentences.
        notes: Other sentences for the report.
        seconds: What the decompositions took, the look at the data included.
    """

    choices: Sequence[RankChoice] = ()
    allocation: Allocation | None = None
    remarks: Mapping[str, str] = field(default_factory=dict)
    hindrances: Sequence[str] = ()
    notes: Sequence[str] = ()
    seconds: float = 0.0

    @property
    def hindrance(self) -> str | None:
        """The hindrance that counts, the last; `None` if there is none."""
        return self.hindrances[-1] if self.hindrances else None


def as_rank(
    value: float, compressible: CompressibleKernel, form: Factorization, *, up: bool = False
) -> int | None:
    """The rank a target value means for a kernel; `None` if it stays as it is.

    Args:
        value: The value.
        compressible: The kernel.
        form: The form it shall have.
        up: True to round to the next multiple above, where the value is what a kernel needs.
    """
    if value == inf:
        return None
    rounded = rounded_up if up else rounded_down
    rank = max(rounded(round(value), form.multiple), form.min_rank)
    current = compressible.kernel.rank
    limit = current if current is not None else form.max_rank
    own_limit = compressible.rule.max_rank if compressible.rule else None
    if own_limit is not None:
        rank = min(rank, rounded_down(own_limit, form.multiple))
    return None if rank > limit else rank


def rank_meant(
    goal: RankTarget, value: float, compressible: CompressibleKernel, form: Factorization
) -> int | None:
    """The same, of a target whose ranks are known before training."""
    return as_rank(goal.told_rank(value, None), compressible, form, up=goal.rounds_up)


def is_blank(compressible: CompressibleKernel, parts: Decomposition) -> bool:
    """True for a dense kernel of zeros, whose spectrum tells nothing of its rank."""
    return compressible.kernel.rank is None and not parts.values.any()
