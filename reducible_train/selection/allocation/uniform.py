"""The same fraction of its largest rank for every kernel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reducible_train.linalg.multiples import whole_rank
from reducible_train.selection.allocation.base import Ranks, allocator, last_that_fits, total_cost
from reducible_train.selection.allocation.candidates import Group
from reducible_train.selection.allocation.relaxation import lower_bound


@allocator("uniform")
def uniform(groups: Sequence[Group], capacity: float) -> tuple[Ranks, float]:
    """The largest fraction f that fits, `floor(f * max_rank)` or the next rank allowed below.

    Nothing is cut if everything fits uncut; short of that every kernel is factorised, except
    where dense costs no more than its rank would. What is left of the capacity stays unused.

    Returns:
        A rank for each group, and the bound of the relaxation.
    """
    uncut: Ranks = [g.largest for g in groups]
    if total_cost(groups, uncut) <= capacity:
        return uncut, 0.0

    def ranks_at(fraction: float) -> Ranks:
        return [g.within_limits(whole_rank(fraction * g.max_rank)) for g in groups]

    largest = {g.max_rank for g in groups}
    fractions = np.unique(np.concatenate([np.arange(rank + 1) / rank for rank in largest]))
    return last_that_fits(fractions, ranks_at, groups, capacity), lower_bound(groups, capacity)
