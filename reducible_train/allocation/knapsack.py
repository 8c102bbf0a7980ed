"""The least loss within the capacity, exactly: a multiple-choice knapsack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reducible_train.allocation.base import Ranks, allocator, total_loss
from reducible_train.allocation.candidates import Group
from reducible_train.allocation.options import Integers, Options, tabulate, undominated
from reducible_train.allocation.relaxation import Relaxation, relax

EFFORT = 4_000_000
_ROUND_OFF = 16.0  # units of loss; float64 in bounds of single states


@allocator("knapsack")
def knapsack(groups: Sequence[Group], capacity: float, effort: int = EFFORT) -> tuple[Ranks, float]:
    """The allocation of least loss, of equals a cheapest; the rest of the effort goes into a proof.

    The relaxation gives a price, an allocation close to the best, and a bound. An option can be in
    a better allocation only if its reduced cost is less than what is left between the two; few
    are. Over the groups that have such options runs a dynamic program on lists of states (cost,
    loss), cleared of whatever is dominated or cannot beat the best allocation so far, groups in
    the order in which they tempt to leave the relaxation (Pisinger, A minimal algorithm for the
    multiple-choice knapsack problem, 1995).

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
    relaxed = relax(options)
    search = _Search(options, relaxed, effort)
    ranks = options.ranks_of(search.run())
    if search.missed is None:
        return ranks, total_loss(groups, ranks)
    start = float(options.losses[relaxed.chosen].sum())
    return ranks, max(relaxed.bound, start + search.missed - _ROUND_OFF) * options.loss_unit


@dataclass(frozen=True, eq=False)
class _States:
    """Partial solutions: what the groups so far changed, against the relaxation's choice.

    Args:
        costs: `(states,)`, rising.
        losses: `(states,)`, falling.
        parents: `(states,)`, places in the states before.
        options: `(states,)`, places in the table: what the last group chose.
    """

    costs: Integers
    losses: Integers
    parents: Integers
    options: Integers


class _Search:
    """Dynamic programming over the groups, from the relaxation outwards.

    Args:
        options: The table.
        relaxed: Where to start from.
        effort: States to look at, at most.

    Attributes:
        missed: Lower bound on the change of loss of everything given up for want of effort;
            `None` if nothing was, so that the best found is the best there is.
    """

    def __init__(self, options: Options, relaxed: Relaxation, effort: int):
        self.missed: float | None = None
        self._relaxed = relaxed
        self._effort = effort
        self._owners = options.owners
        base = relaxed.chosen[self._owners]
        self._more_cost = options.costs - options.costs[base]
        self._more_loss = options.losses - options.losses[base]
        self._reduced = np.maximum(0.0, self._more_loss + relaxed.price * self._more_cost)
        self._room = options.capacity - int(options.costs[relaxed.chosen].sum())
        self._best_loss, self._best_cost = 0, 0

    def run(self) -> Integers:
        """Places in the table of the best choice found, one for each group."""
        live = self._tempting(np.flatnonzero(self._more_cost))
        live = live[np.argsort(self._order(live)[self._owners[live]], kind="stable")]
        nothing = np.zeros(1, dtype=np.int64)
        stages = [_States(nothing, nothing, nothing, nothing)]
        best = (0, 0)
        while len(live):
            group = self._owners[live[0]]
            later = int(np.argmax(self._owners[live] != group)) or len(live)
            mine, live = live[:later], live[later:]
            states = self._step(stages[-1], mine, live, int(self._relaxed.chosen[group]))
            stages.append(states)
            if not len(states.costs):
                break
            if self._improve(states):
                best = len(stages) - 1, self._last_that_fits(states)
            live = self._tempting(live)
        return self._trace(stages, *best)

    def _tempting(self, places: Integers) -> Integers:
        """Those options that may still be in a better allocation, by their reduced cost."""
        gap = self._best_loss + self._relaxed.price * self._room
        return places[self._reduced[places] <= gap + _ROUND_OFF]

    def _order(self, live: Integers) -> npt.NDArray[np.float64]:
        """For each group the least reduced cost for one unit of cost, up or down."""
        slopes = self._reduced[live] / np.abs(self._more_cost[live])
        least = np.full(len(self._relaxed.chosen), np.inf)
        np.minimum.at(least, self._owners[live], slopes)
        # Equal slopes must not mix the options of two groups: rank the groups.
        order = np.empty(len(least))
        order[np.argsort(least, kind="stable")] = np.arange(len(least))
        return order

    def _bounds(self, costs: Integers, losses: Integers, live: Integers) -> npt.NDArray[np.float64]:
        """Lower bounds on the change of loss that states can end with.

        Room left can be sold at the price, less what the cheapest way up among the options still
        to come gives away; room that is missing must be bought at the price, plus the same for the
        cheapest way down.
        """
        price, more = self._relaxed.price, self._more_cost[live]
        slopes = self._reduced[live] / np.abs(more)
        up = float(np.min(slopes, where=more > 0, initial=np.inf))
        down = float(np.min(slopes, where=more < 0, initial=np.inf))
        room = (self._room - costs).astype(np.float64)
        with np.errstate(invalid="ignore"):  # infinity for ways that do not exist, times no room
            worth = np.where(room < 0, price + down, max(0.0, price - up)) * room
        return losses - np.where(room == 0, 0.0, worth)

    def _step(self, states: _States, mine: Integers, live: Integers, stay: int) -> _States:
        """All states after one more group, worth keeping."""
        parents = np.arange(len(states.costs))
        width = self._width(len(mine) + 1, live)
        if len(parents) > width:
            whole = np.concatenate([mine, live])
            bounds = self._bounds(states.costs, states.losses, whole)
            order = np.argsort(bounds, kind="stable")
            self._miss(float(bounds[order[width]]))
            parents = np.sort(order[:width])
        self._effort -= len(parents) * (len(mine) + 1)
        chosen = np.append(mine, stay)
        costs = (states.costs[parents, None] + self._more_cost[chosen]).ravel()
        losses = (states.losses[parents, None] + self._more_loss[chosen]).ravel()
        bounds = self._bounds(costs, losses, live)
        kept = np.flatnonzero(bounds <= self._best_loss + _ROUND_OFF)
        kept = kept[undominated(costs[kept], losses[kept])]
        return _States(
            costs[kept], losses[kept], parents[kept // len(chosen)], chosen[kept % len(chosen)]
        )

    def _width(self, options: int, live: Integers) -> int:
        """How many states may be carried on: a fair share of the effort that is left."""
        share = 4 * options / (options + len(live))
        return max(1, int(self._effort * min(1.0, share)) // options)

    def _miss(self, bound: float) -> None:
        self.missed = bound if self.missed is None else min(self.missed, bound)

    def _last_that_fits(self, states: _States) -> int:
        return int(np.searchsorted(states.costs, self._room, side="right")) - 1

    def _improve(self, states: _States) -> bool:
        """Whether one of the states beats the best so far, as it is."""
        at = self._last_that_fits(states)
        if at < 0:
            return False
        found = int(states.losses[at]), int(states.costs[at])
        if found >= (self._best_loss, self._best_cost):
            return False
        self._best_loss, self._best_cost = found
        return True

    def _trace(self, stages: list[_States], stage: int, state: int) -> Integers:
        """The choice that led to a state."""
        chosen = self._relaxed.chosen.copy()
        for states in reversed(stages[1 : stage + 1]):
            option = states.options[state]
            chosen[self._owners[option]] = option
            state = int(states.parents[state])
        return chosen
