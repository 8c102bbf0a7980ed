"""The same energy threshold for every kernel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reducible_train.selection.allocation.base import Ranks, allocator, last_that_fits
from reducible_train.selection.allocation.candidates import Group
from reducible_train.selection.allocation.relaxation import lower_bound


@allocator("equal_energy")
def equal_energy(groups: Sequence[Group], capacity: float) -> tuple[Ranks, float]:
    """The largest energy threshold that fits; each kernel gets the smallest rank that keeps it.

    A kernel whose largest rank does not keep the threshold stays dense, or at its largest rank if
    it is already factorised. In a group every member keeps the threshold. What is left of the
    capacity stays unused.

    Returns:
        A rank for each group, and the bound of the relaxation.
    """

    def ranks_at(lost: float) -> Ranks:
        return [_smallest_rank(g, lost) for g in groups]

    losses = [g.worst[g.ranks] for g in groups]
    thresholds = np.unique(np.concatenate([[0.0, 1.0], *losses]))[::-1]
    return last_that_fits(thresholds, ranks_at, groups, capacity), lower_bound(groups, capacity)


def _smallest_rank(group: Group, lost: float) -> int | None:
    """The smallest rank at which no member discards more than `lost`, a fraction of its energy."""
    rank = int(np.searchsorted(-group.worst, -lost))
    return group.at_least(rank)
