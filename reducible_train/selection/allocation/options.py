"""The table behind the knapsack: every sensible option of every group, in whole numbers.

Costs and losses are counted in small units, as integers. So sums are exact in any order, ties are
ties, and equal questions get equal answers on every machine. Losses are rounded to 2**-50 (coarser
for more than two thousand kernels): below the accuracy of a spectrum in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from reducible_train.selection.allocation.candidates import Group

Integers = npt.NDArray[np.int64]

DENSE = 0


@dataclass(frozen=True, eq=False)
class Options:
    """All options of all groups, one group after the other.

    Within a group costs rise and losses fall, both strictly: what costs more without losing less
    has been left out, of equals the cheaper one stays.

    Args:
        ranks: `(options,)`, `DENSE` for staying dense.
        costs: `(options,)` in units.
        losses: `(options,)` in units.
        starts: `(groups + 1,)`, where each group begins, and the end.
        capacity: What one option of each group may cost together, in units.
        loss_unit: Objective of one unit of loss.
    """

    ranks: Integers
    costs: Integers
    losses: Integers
    starts: Integers
    capacity: int
    loss_unit: float

    @cached_property
    def owners(self) -> Integers:
        """`(options,)`, the group each option belongs to."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def ranks_of(self, chosen: Integers) -> list[int | None]:
        """The rank of each group; `chosen (groups,)` are places in this table."""
        return [None if rank == DENSE else int(rank) for rank in self.ranks[chosen]]


def loss_unit_of(groups: Sequence[Group]) -> float:
    """What losses are counted in: so fine that all of them together stay exact."""
    members = sum(len(g.members) for g in groups)
    return 2.0 ** -min(50, 61 - members.bit_length())


def tabulate(groups: Sequence[Group], capacity: float) -> Options:
    """The table of these groups; the cheapest options fit into the capacity."""
    cost_unit = groups[0].cost_unit
    loss_unit = loss_unit_of(groups)
    rows = [_rows(g, loss_unit) for g in groups]
    ranks, costs, losses = (np.concatenate(column) for column in zip(*rows, strict=True))
    starts = np.cumsum([0, *(len(row[0]) for row in rows)])
    return Options(
        ranks=ranks,
        costs=costs,
        losses=losses,
        starts=starts,
        capacity=_reachable(costs, starts, capacity / cost_unit),
        loss_unit=loss_unit,
    )


def _rows(group: Group, loss_unit: float) -> tuple[Integers, Integers, Integers]:
    """Ranks, costs and losses of one group."""
    ranks = group.ranks
    costs, losses = group.costs[ranks], group.losses[ranks]
    if group.dense_cost is not None:
        ranks = np.append(ranks, DENSE)
        costs, losses = np.append(costs, group.dense_cost), np.append(losses, 0.0)
    whole_costs = np.rint(costs / group.cost_unit).astype(np.int64)
    whole_losses = np.rint(losses / loss_unit).astype(np.int64)
    kept = undominated(whole_costs, whole_losses)
    return ranks[kept], whole_costs[kept], whole_losses[kept]


def undominated(costs: Integers, losses: Integers) -> Integers:
    """Places of the options worth having, by rising cost: each loses less than all before it."""
    order = np.lexsort((losses, costs))
    ordered = losses[order]
    better = np.ones(len(order), dtype=bool)
    better[1:] = ordered[1:] < np.minimum.accumulate(ordered)[:-1]
    return order[better]


def _reachable(costs: Integers, starts: Integers, capacity: float) -> int:
    """The largest sum of costs up to the capacity that may exist at all.

    All sums differ from the least one by a multiple of the costs' common divisor.
    """
    first, last = costs[starts[:-1]], costs[starts[1:] - 1]
    least, most = int(first.sum()), int(last.sum())
    if capacity >= most:
        return most
    divisor = int(np.gcd.reduce(costs - np.repeat(first, np.diff(starts))))
    return least + (math.floor(capacity) - least) // max(1, divisor) * divisor
