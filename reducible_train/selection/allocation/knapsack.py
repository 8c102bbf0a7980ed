"""The least loss within the capacity, exactly: a multiple-choice knapsack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reducible_train.selection.allocation.base import Ranks, allocator, total_loss
from reducible_train.selection.allocation.candidates import Group
from reducible_train.selection.allocation.options import Integers, Options, tabulate, undominated
from reducible_train.selection.allocation.outlook import HullBound, widest_step
from reducible_train.selection.allocation.relaxation import Relaxation, relax

EFFORT = 4_000_000
_ALL = 2**31
# States to carry on, and groups to change. Narrow sweeps cost little and find allocations so good
# that most options are no longer tempting when the wide ones come, which prove what is left.
_SWEEPS = (
    (32, 16),
    (64, 64),
    (128, 256),
    (512, _ALL),
    (4096, _ALL),
    (32768, _ALL),
    (EFFORT, _ALL),
)
_ROUND_OFF = 128.0  # units of loss; float64 in the bounds of single states


@allocator("knapsack")
def knapsack(groups: Sequence[Group], capacity: float, effort: int = EFFORT) -> tuple[Ranks, float]:
    """The allocation of least loss, of equals a cheapest, or a very good one with a proven gap.

    The relaxation gives a price, an allocation close to the best, and a bound. An option can be in
    a better allocation only if its reduced cost is less than what is left between the two; few
    are. Over the groups that have such options runs a dynamic program on lists of states (cost,
    loss), cleared of whatever is dominated or, by the outlook of the groups still to come, cannot
    beat the best allocation so far (after Pisinger, A minimal algorithm for the multiple-choice
    knapsack problem, 1995). The first sweeps carry only the most promising states: they find good
    allocations, which leave less for the later ones to look at. A sweep that gives up nothing is
    a proof.

    Args:
        groups: The groups.
        capacity: What they may cost together.
        effort: States to look at, at most; a million take about a tenth of a second. When they
            run out, the best allocation so far is the answer, and the bound says how good it is.
            Counting states instead of seconds makes the answer the same on every machine.

    Returns:
        A rank for each group, and a proven lower bound; the objective itself if proven best.
    """
    if not groups:
        return [], 0.0
    options = tabulate(groups, capacity)
    found = search(options, effort)
    ranks = options.ranks_of(found.chosen)
    if found.proven:
        return ranks, total_loss(groups, ranks)
    return ranks, found.bound * options.loss_unit


@dataclass(frozen=True, eq=False)
class Found:
    """The best allocation that was found.

    Args:
        chosen: `(groups,)` places in the table.
        proven: Whether there is none better.
        bound: Loss, in units, that none can beat.
    """

    chosen: Integers
    proven: bool
    bound: float


def search(options: Options, effort: int) -> Found:
    """The best allocation of a table, or a very good one, with a bound.

    Args:
        options: The table.
        effort: States to look at, at most.
    """
    relaxed = relax(options)
    sweeps = _Search(options, relaxed, effort)
    sweeps.run()
    loss = float(options.losses[sweeps.chosen].sum())
    bound = loss if sweeps.proven else max(relaxed.bound, sweeps.bound)
    return Found(sweeps.chosen, sweeps.proven, bound)


@dataclass(frozen=True, eq=False)
class _States:
    """Partial solutions: what the groups so far changed, counted from the relaxation's choice.

    Args:
        costs: `(states,)`, rising.
        losses: `(states,)`, falling.
        parents: `(states,)`, places among the states before.
        options: `(states,)`, places in the table: what the last group chose.
    """

    costs: Integers
    losses: Integers
    parents: Integers
    options: Integers


class _Search:
    """Sweeps of dynamic programming over the groups, from the relaxation outwards.

    Attributes:
        chosen: `(groups,)` places in the table, the best allocation so far.
        proven: Whether there is none better.
        bound: Loss, in units, that none can beat; says something after a sweep.
    """

    def __init__(self, options: Options, relaxed: Relaxation, effort: int):
        self.chosen = relaxed.chosen
        self.proven = relaxed.price == 0.0
        self.bound = 0.0
        self._options, self._relaxed, self._effort = options, relaxed, effort
        base = relaxed.chosen[options.owners]
        self._more_cost = options.costs - options.costs[base]
        self._more_loss = options.losses - options.losses[base]
        # At this price no option is better than the chosen one: reduced costs are not negative.
        self._reduced = self._more_loss + relaxed.price * self._more_cost
        self._room = options.capacity - int(options.costs[relaxed.chosen].sum())
        self._best = (0, 0)  # more loss, more cost

    def run(self) -> None:
        """Wider and wider sweeps, until one is a proof or the effort is spent."""
        start = int(self._options.losses[self._relaxed.chosen].sum())
        for width, core in _SWEEPS:
            if self.proven or self._effort <= 0:
                return
            missed = self._sweep(width, core) - _ROUND_OFF
            self.proven = missed >= self._best[0]
            self.bound = max(self.bound, start + missed)

    def _sweep(self, width: int, core: int) -> float:
        """One pass over the `core` groups easiest to change, with at most `width` states.

        Groups are taken one after the other; after each, a state is one choice for all groups so
        far, as a difference in cost and loss from the relaxation's. The widest hulls come first:
        what they decide is coarse, and the finer groups after them fill the room that is left.
        Any state is an allocation already, with the relaxation's choice for the groups to come.

        Returns:
            The least change of loss that what it gave up may lead to.
        """
        groups = self._changeable(core)
        curves = [(self._more_cost[mine], self._more_loss[mine]) for mine in groups]
        order = np.argsort([-widest_step(*curve) for curve in curves], kind="stable")
        outlook = HullBound([curves[i] for i in order])
        zero = np.zeros(1, dtype=np.int64)
        stages, best, missed = [_States(zero, zero, zero, zero)], 0, np.inf
        for i in order:
            mine = self._tempting(groups[i])
            parents, lost = self._most_promising(stages[-1], outlook, width, len(mine))
            missed = min(missed, lost)
            outlook.take()
            stages.append(self._step(stages[-1], parents, mine, outlook))
            if self._improves(stages[-1]):
                best = len(stages)
            if not len(stages[-1].costs):
                break
        if best:
            self.chosen = self._trace(stages[:best])
        # With `core` groups there may be more, which were not looked at: then nothing is proven.
        return missed if len(groups) < core else -np.inf

    def _changeable(self, core: int) -> list[Integers]:
        """Tempting options, group by group: the groups easiest to change, at most `core`."""
        places = self._tempting(np.arange(len(self._reduced)))
        cuts = np.flatnonzero(np.diff(self._options.owners[places])) + 1
        groups = [mine for mine in np.split(places, cuts) if len(mine) > 1]
        if len(groups) <= core:
            return groups
        slopes = self._reduced[places] / np.maximum(1, np.abs(self._more_cost[places]))
        slopes[self._more_cost[places] == 0] = np.inf
        least = np.full(len(self.chosen), np.inf)
        np.minimum.at(least, self._options.owners[places], slopes)
        groups.sort(key=lambda mine: float(least[self._options.owners[mine[0]]]))
        return groups[:core]

    def _tempting(self, places: Integers) -> Integers:
        """Those options that can be in an allocation as good as the best, by their reduced cost."""
        # Reduced costs of an allocation add up to its change in loss, plus the price of the room
        # that it takes: at most this much if it is as good as the best. No single one can be more.
        between = self._best[0] + self._relaxed.price * self._room
        within = self._reduced[places] <= between + _ROUND_OFF
        # The relaxation's own choice stays in any case, so that a group can be left as it is.
        kept: Integers = places[within | (self._more_cost[places] == 0)]
        return kept

    def _most_promising(
        self, states: _States, outlook: HullBound, width: int, options: int
    ) -> tuple[Integers, float]:
        """Places of the states to go on with, and the least bound of those given up."""
        parents = np.arange(len(states.costs))
        width = min(width, max(0, self._effort // options))
        if len(parents) <= width:
            return parents, np.inf
        bounds = states.losses + outlook.bounds(self._room - states.costs)
        order = np.argsort(bounds, kind="stable")
        return np.sort(order[:width]), float(bounds[order[width]])

    def _step(
        self, states: _States, parents: Integers, mine: Integers, outlook: HullBound
    ) -> _States:
        """All states after one more group that are worth keeping.

        Every parent with every option; kept is what can still beat the best allocation, if the
        groups to come do as well as their hulls allow, and what no cheaper state equals in loss.
        """
        # Taking a group out of the outlook costs about a quarter of a state for each segment.
        self._effort -= len(parents) * len(mine) + outlook.size // 4
        costs = (states.costs[parents, None] + self._more_cost[mine]).ravel()
        losses = (states.losses[parents, None] + self._more_loss[mine]).ravel()
        bounds = losses + outlook.bounds(self._room - costs)
        kept = np.flatnonzero(bounds <= self._best[0] + _ROUND_OFF)
        kept = kept[undominated(costs[kept], losses[kept])]
        return _States(
            costs[kept], losses[kept], parents[kept // len(mine)], mine[kept % len(mine)]
        )

    def _improves(self, states: _States) -> bool:
        """Whether the best of the states, as it is, beats all before."""
        at = self._last_that_fits(states)
        if at < 0 or (int(states.losses[at]), int(states.costs[at])) >= self._best:
            return False
        self._best = int(states.losses[at]), int(states.costs[at])
        return True

    def _last_that_fits(self, states: _States) -> int:
        """Place of the best state within the room: losses fall as costs rise; -1 if none is."""
        return int(np.searchsorted(states.costs, self._room, side="right")) - 1

    def _trace(self, stages: list[_States]) -> Integers:
        """The allocation that the best of the last states stands for, read back to front."""
        chosen = self._relaxed.chosen.copy()
        at = self._last_that_fits(stages[-1])
        for states in reversed(stages[1:]):
            option = states.options[at]
            chosen[self._options.owners[option]] = option
            at = int(states.parents[at])
        return chosen
