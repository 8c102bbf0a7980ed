"""The Lagrangian relaxation of the knapsack: a price on cost, and the bound it proves.

For every price `p >= 0`

    L(p) = sum over groups of min over options of (loss + p * cost)  -  p * capacity

is at most the objective of any allocation within the capacity (Fisher, The Lagrangian relaxation
method for solving integer programming problems, 1981). Each group chooses for itself, so thousands
of them take milliseconds. The best price makes the bound as high as that of the linear relaxation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reducible_train.selection.allocation.candidates import Group
from reducible_train.selection.allocation.options import Integers, Options, tabulate


@dataclass(frozen=True, eq=False)
class Relaxation:
    """The best price and what the groups choose at it.

    Args:
        price: Units of loss for one unit of cost.
        chosen: `(groups,)` places in the table, an allocation within the capacity; each one is
            among the best of its group at this price.
        bound: Objective that no allocation can beat, in units of loss.
    """

    price: float
    chosen: Integers
    bound: float


def lower_bound(groups: Sequence[Group], capacity: float) -> float:
    """A proven lower bound of the objective.

    Example:
        >>> from reducible_train.selection.allocation import Candidate
        >>> group = Group.of([Candidate("w", [1.0, 1.0, 1.0, 1.0], 1, None, 1, 4)])
        >>> round(lower_bound([group], 2.5), 9)
        0.5
    """
    if not groups:
        return 0.0
    options = tabulate(groups, capacity)
    return relax(options).bound * options.loss_unit


def relax(options: Options) -> Relaxation:
    """The best price, by the secant method: the dual is piecewise linear and concave.

    `low` is what the groups choose at a price that is too high, and fits; `high` at one that is
    too low, and does not. The price at which both are equally good lies between. Either some third
    choice is better there, and replaces one of the two, or that price is the best.
    """
    # The cheapest options fit, and the dearest lose least: the two ends of the dual function.
    low, high = options.starts[:-1], options.starts[1:] - 1
    if _cost(options, high) <= options.capacity:
        return Relaxation(0.0, high, float(_loss(options, high)))
    while True:
        saved = _loss(options, low) - _loss(options, high)
        paid = _cost(options, high) - _cost(options, low)
        price = saved / paid
        middle = _choice(options, price)
        less_loss = _loss(options, low) - _loss(options, middle)
        more_cost = _cost(options, middle) - _cost(options, low)
        # In integers: whether `middle` is on the line from `low` to `high`, or above it. Then no
        # choice is better at this price than those two, and the price is the best.
        if less_loss * paid <= saved * more_cost:
            break
        if _cost(options, middle) <= options.capacity:
            low = middle
        else:
            high = middle
    room = options.capacity - _cost(options, low)
    bound = _loss(options, low) - price * room
    round_off = 64 + len(low)  # float64 in the choice, and rounding of each loss to its unit
    return Relaxation(price, _filled(options, low, high, room), max(0.0, bound - round_off))


def _choice(options: Options, price: float) -> Integers:
    """The option of least `loss + price * cost` in each group, the cheapest of equals."""
    values = options.losses + price * options.costs
    least = np.minimum.reduceat(values, options.starts[:-1])
    places = np.flatnonzero(values == np.repeat(least, np.diff(options.starts)))
    return places[np.searchsorted(places, options.starts[:-1])]


def _filled(options: Options, low: Integers, high: Integers, room: int) -> Integers:
    """`low`, with as many of the equally good choices in `high` as there is room for."""
    chosen = low.copy()
    more = options.costs[high] - options.costs[low]
    for group in np.argsort(-more, kind="stable"):
        if 0 < more[group] <= room:
            chosen[group] = high[group]
            room -= int(more[group])
    return chosen


def _cost(options: Options, chosen: Integers) -> int:
    return int(options.costs[chosen].sum())


def _loss(options: Options, chosen: Integers) -> int:
    return int(options.losses[chosen].sum())
