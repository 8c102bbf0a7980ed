"""The least loss within several capacities: a multiple-choice knapsack of several dimensions.

For every row of prices `p >= 0`, one for each measure,

    L(p) = sum over groups of min over options of (loss + p . costs)  -  p . capacities

is at most the objective of any allocation within all capacities (Fisher, The Lagrangian relaxation
method for solving integer programming problems, 1981). It is concave, in as many variables as there
are measures: a handful, so the ellipsoid method finds the best prices (Shor; see Bland, Goldfarb
and Todd, The ellipsoid method: a survey, 1981). At these prices all costs together make one cost,
and all capacities one capacity: the knapsack of one measure that results asks for less than all of
them do, so its optimum is a bound as well, and a higher one (Glover, Surrogate constraints, 1968).
What it finds is close to an answer. It is brought within all capacities, and exchanges between two
groups make it better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from reducible_train.selection.allocation.base import Questions, Ranks
from reducible_train.selection.allocation.candidates import Group
from reducible_train.selection.allocation.knapsack import search
from reducible_train.selection.allocation.options import (
    DENSE,
    Integers,
    Options,
    loss_unit_of,
    undominated,
)
from reducible_train.selection.allocation.several import of_several, smallest

Array = npt.NDArray[np.float64]

EFFORT = 250_000  # states of one search for the least loss at some prices
_CUTS = 60  # of the ellipsoid, for each measure
_SEARCHES = 8
_STEP = 0.02  # by which a price rises for each hundredth that its capacity is exceeded
_FINE = 2**30  # parts of a capacity in which the costs of all measures together are counted
_PAIRS = 64  # options from which an exchange may begin
_EXCHANGES = 200
_STATES = 100_000  # partial allocations of the last look, times the options of a group


@of_several("knapsack")
def knapsack_of_several(questions: Questions) -> tuple[Ranks, float]:
    """A very good allocation within all capacities, and a proven lower bound of its loss.

    Returns:
        A rank for each group, and the bound.
    """
    table = _Table.of(questions)
    joint = _JointSearch(table, table.places(smallest(questions)))
    joint.run()
    return table.ranks_of(joint.chosen), joint.bound * table.loss_unit


@dataclass(frozen=True, eq=False)
class _Table:
    """Every sensible option of every group, one group after the other.

    Args:
        ranks: `(options,)`, `DENSE` for staying dense.
        costs: `(options, measures)`, fractions of the capacities.
        losses: `(options,)` in units.
        starts: `(groups + 1,)`, where each group begins, and the end.
        loss_unit: Objective of one unit of loss.
        whole: `(options, measures)` the costs in whole units of each measure.
        capacities: `(measures,)` in these units.
    """

    ranks: Integers
    costs: Array
    losses: Integers
    starts: Integers
    loss_unit: float
    whole: Integers
    capacities: Integers

    @classmethod
    def of(cls, questions: Questions) -> _Table:
        """The table of these groups."""
        first = questions[0][0]
        loss_unit = loss_unit_of(first)
        same = zip(*(groups for groups, _ in questions), strict=True)
        rows = [_rows(groups, loss_unit) for groups in same]
        ranks, whole, losses = (np.concatenate(column) for column in zip(*rows, strict=True))
        capacities = [int(capacity // groups[0].cost_unit) for groups, capacity in questions]
        limits = np.array(capacities, dtype=np.int64)
        return cls(
            ranks=ranks,
            costs=whole / limits,
            losses=losses,
            starts=np.cumsum([0, *(len(row[0]) for row in rows)]),
            loss_unit=loss_unit,
            whole=whole,
            capacities=limits,
        )

    @cached_property
    def owners(self) -> Integers:
        """`(options,)`, the group each option belongs to."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def room(self, chosen: Integers) -> Integers:
        """`(measures,)`, what an allocation leaves of each capacity; negative where it is over."""
        left: Integers = self.capacities - self.whole[chosen].sum(axis=0)
        return left

    def loss(self, chosen: Integers) -> int:
        """What an allocation loses."""
        return int(self.losses[chosen].sum())

    def best_at(self, values: Array) -> Integers:
        """The place of the least value in each group, the first of equals."""
        least = np.minimum.reduceat(values, self.starts[:-1])
        places = np.flatnonzero(values == least[self.owners])
        return places[np.searchsorted(places, self.starts[:-1])]

    def places(self, ranks: Ranks) -> Integers:
        """Where the ranks of an allocation stand."""
        wanted = np.array([DENSE if rank is None else rank for rank in ranks])
        return self.best_at((self.ranks != wanted[self.owners]).astype(float))

    def ranks_of(self, chosen: Integers) -> Ranks:
        """The ranks of an allocation."""
        return [None if rank == DENSE else int(rank) for rank in self.ranks[chosen]]

    def at(self, prices: Array) -> tuple[Options, Integers]:
        """The knapsack of one measure that these prices make, and where its options stand here.

        Costs are rounded down, and the capacity is raised by a part for each group, so that
        whatever fits here fits there.
        """
        total = float(prices.sum())
        costs = np.floor(self.costs @ prices / total * _FINE).astype(np.int64)
        rows = [
            start + undominated(costs[start:end], self.losses[start:end])
            for start, end in zip(self.starts[:-1], self.starts[1:], strict=True)
        ]
        places = np.concatenate(rows)
        options = Options(
            ranks=self.ranks[places],
            costs=costs[places],
            losses=self.losses[places],
            starts=np.cumsum([0, *map(len, rows)]),
            capacity=_FINE + len(rows),
            loss_unit=self.loss_unit,
        )
        return options, places


def _rows(same: tuple[Group, ...], loss_unit: float) -> tuple[Integers, Integers, Integers]:
    """Ranks, costs and losses of one group, as each measure counts it.

    Left out is what loses no less than a smaller rank, and what costs no less than dense.
    """
    group = same[0]
    ranks = group.ranks
    costs = np.stack([_whole(each.costs[ranks], each) for each in same], axis=1)
    losses = np.rint(group.losses[ranks] / loss_unit).astype(np.int64)
    kept = np.append(True, np.diff(losses) < 0)
    if group.dense_cost is not None:
        dense = np.array([_whole(each.dense_cost, each) for each in same])
        kept &= (costs < dense).any(axis=1)
        ranks, costs = np.append(ranks, DENSE), np.vstack([costs, dense])
        losses, kept = np.append(losses, 0), np.append(kept, True)
    return ranks[kept], costs[kept], losses[kept]


def _whole(costs: npt.ArrayLike | None, group: Group) -> Integers:
    return np.rint(np.asarray(costs, dtype=float) / group.cost_unit).astype(np.int64)


class _JointSearch:
    """From prices to answers, and from the measures that they exceed to better prices.

    Attributes:
        chosen: `(groups,)` places in the table, the best allocation so far.
        bound: Loss, in units, that none can beat.
    """

    def __init__(self, table: _Table, chosen: Integers):
        self.chosen = chosen
        self.bound = 0.0
        self._table = table
        self._loss = table.loss(chosen)

    def run(self) -> None:
        """The best prices, what they find, then whatever can still be better."""
        prices = best = self._best_prices()
        for _ in range(_SEARCHES):
            if not prices.any() or self.bound >= self._loss:
                break
            over = self._search_at(prices)
            prices = prices * np.exp(np.clip(_STEP * 100 * over, -0.5, 0.5))
        if self.bound < self._loss:
            self._look_through(best)

    # --- prices -----------------------------------------------------------------------

    def _best_prices(self) -> Array:
        """The prices of the highest bound, by the ellipsoid method."""
        table = self._table
        count = len(table.capacities)
        most = float(table.losses.max()) * len(table.starts)
        centre, shape = np.full(count, most / 2), np.eye(count) * count * (most / 2) ** 2
        best = np.zeros(count)
        for _ in range(_CUTS * count):
            if (centre < 0).any():
                cut = np.where(centre == centre.min(), -1.0, 0.0)
            else:
                bound, over = self._bound_at(centre)
                if bound > self.bound or not best.any():
                    best = centre
                self.bound = max(self.bound, bound)
                cut = -over
            width = math.sqrt(max(float(cut @ shape @ cut), 0.0))  # round-off makes it less than 0
            if not width > 0:
                break
            way = shape @ cut / width
            centre = centre - way / (count + 1)
            shape = (shape - np.outer(way, way) * 2 / (count + 1)) * count**2 / (count**2 - 1)
        return best

    def _bound_at(self, prices: Array) -> tuple[float, Array]:
        """What these prices prove, and by how much the choice at them exceeds each capacity."""
        table = self._table
        values = table.losses + table.costs @ prices
        chosen = table.best_at(values)
        gained, paid = float(values[chosen].sum()), float(prices.sum())
        round_off = 64 + len(chosen) + 1e-14 * (gained + paid)
        return gained - paid - round_off, table.costs[chosen].sum(axis=0) - 1.0

    def _search_at(self, prices: Array) -> Array:
        """Take what the knapsack of these prices finds; by how much it exceeds each capacity."""
        options, places = self._table.at(prices)
        found = search(options, EFFORT)
        self.bound = max(self.bound, found.bound)
        chosen = places[found.chosen]
        over: Array = -self._table.room(chosen) / self._table.capacities
        self._take(self._exchanged(self._within(chosen, prices), prices))
        return over

    def _take(self, chosen: Integers) -> None:
        """Keep an allocation if it fits, and is better than the best so far."""
        table = self._table
        if table.loss(chosen) < self._loss and (table.room(chosen) >= 0).all():
            self.chosen, self._loss = chosen, table.loss(chosen)

    # --- one group or two -------------------------------------------------------------

    def _within(self, chosen: Integers, prices: Array) -> Integers:
        """The same brought within the capacities, with the least loss for what it saves."""
        table, chosen = self._table, chosen.copy()
        while True:
            over = np.maximum(-table.room(chosen), 0) / table.capacities
            base = chosen[table.owners]
            left = np.maximum(table.costs - table.costs[base] + over, 0).sum(axis=1)
            saved = over.sum() - left
            places = np.flatnonzero(saved > 0)
            if not len(places):
                return chosen
            lost = np.maximum(table.losses - table.losses[base], 0) + 1e-9 * prices.mean()
            best = places[np.argmin(lost[places] / saved[places])]
            chosen[table.owners[best]] = best

    def _exchanged(self, chosen: Integers, prices: Array) -> Integers:
        """The same made better for as long as one group can give what another takes."""
        for _ in range(_EXCHANGES):
            change = self._exchange(chosen, prices)
            if change is None:
                break
            chosen = chosen.copy()
            chosen[self._table.owners[change]] = change
        return chosen

    def _exchange(self, chosen: Integers, prices: Array) -> Integers | None:
        """The two options of two groups that together lose least, if that is less than now."""
        table, base, room = self._table, chosen[self._table.owners], self._table.room(chosen)
        more, lost = table.whole - table.whole[base], table.losses - table.losses[base]
        price = lost + (table.costs - table.costs[base]) @ prices
        better = np.flatnonzero(lost < 0)
        best, change = 0, None
        for one in better[np.argsort(price[better], kind="stable")[:_PAIRS]]:
            fits = (more <= room - more[one]).all(axis=1)
            fits &= (table.owners != table.owners[one]) | (base == np.arange(len(base)))
            others = np.flatnonzero(fits & (lost[one] + lost < best))
            if len(others):
                other = others[np.argmin(lost[others])]
                best, change = int(lost[one] + lost[other]), np.array([other, one])
        return change

    # --- all that is left -------------------------------------------------------------

    def _look_through(self, prices: Array) -> None:
        """Look at all that can still be better, or at the most promising of it.

        At the best prices every option costs its group so much more than the best one, and an
        allocation loses at least the bound of these prices and what its options cost more. So
        whatever costs more than lies between the bound and the best allocation is left out.
        """
        table, (start, _) = self._table, self._bound_at(prices)
        values = table.losses + table.costs @ prices
        dearer = values - np.minimum.reduceat(values, table.starts[:-1])[table.owners]
        tempting = np.flatnonzero(dearer <= self._loss - start)
        groups = np.split(tempting, np.flatnonzero(np.diff(table.owners[tempting])) + 1)
        groups.sort(key=len)
        least = np.array([table.whole[mine].min(axis=0) for mine in groups])
        state = _Partial.none(len(table.capacities))
        for place, mine in enumerate(groups):
            state = state.narrowed(max(_STATES // len(mine), 1))
            room = table.capacities - least[place + 1 :].sum(axis=0)
            state = state.after(mine, dearer, table, self._loss - start, room)
        if len(state.losses):
            found = state.chosen[np.argmin(state.losses)]
            self._take(found[np.argsort(table.owners[found])])
        self.bound = max(self.bound, min(start + state.missed, float(self._loss)))


@dataclass(frozen=True, eq=False)
class _Partial:
    """Choices of some groups.

    Args:
        dearer: `(states,)`, what their options cost more than the best ones, in units of loss.
        spent: `(states, measures)`, what they cost, in whole units.
        losses: `(states,)`.
        chosen: `(states, groups)`, places in the table, of the groups so far.
        missed: The least that what was given up costs more.
    """

    dearer: Array
    spent: Integers
    losses: Integers
    chosen: Integers
    missed: float = np.inf

    @classmethod
    def none(cls, measures: int) -> _Partial:
        """Nothing chosen."""
        whole = np.zeros((1, measures), dtype=np.int64)
        return cls(np.zeros(1), whole, whole[:, 0], np.zeros((1, 0), dtype=np.int64))

    def narrowed(self, width: int) -> _Partial:
        """The most promising of them, at most `width`."""
        if len(self.dearer) <= width:
            return self
        order = np.argsort(self.dearer, kind="stable")
        kept, missed = order[:width], float(self.dearer[order[width]])
        return _Partial(
            self.dearer[kept],
            self.spent[kept],
            self.losses[kept],
            self.chosen[kept],
            min(self.missed, missed),
        )

    def after(
        self, mine: Integers, dearer: Array, table: _Table, most: float, room: Integers
    ) -> _Partial:
        """With one more group.

        Args:
            mine: Its options.
            dearer: What every option of the table costs more.
            table: The table.
            most: What they may cost more together.
            room: What they may cost together, by each measure.
        """
        sums = (self.dearer[:, None] + dearer[mine]).ravel()
        spent = (self.spent[:, None] + table.whole[mine]).reshape(len(sums), len(room))
        at = np.flatnonzero((sums <= most) & (spent <= room).all(axis=1))
        parents, options = at // len(mine), mine[at % len(mine)]
        return _Partial(
            sums[at],
            spent[at],
            self.losses[parents] + table.losses[options],
            np.column_stack([self.chosen[parents], options]),
            self.missed,
        )
