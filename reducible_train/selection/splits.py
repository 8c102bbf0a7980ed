"""One way to split each kernel, so that what the smallest ranks cost meets every budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_BALANCES = 33


def changed_splits(
    options: Sequence[Array], chosen: Sequence[int], capacities: Array
) -> dict[int, int]:
    """The kernels that take another split than they would, until all fits or none helps.

    Those that save most of what is too much change first, as a fraction of the capacities.

    Args:
        options: For each kernel `(splits, measures)`, what its smallest rank costs.
        chosen: The split each would take.
        capacities: `(measures,)`, what they may cost together.

    Returns:
        By place of a kernel the split it takes instead.

    Example:
        >>> wide, thin = np.array([[8.0], [5.0]]), np.array([[4.0], [3.0]])
        >>> changed_splits([wide, thin], [0, 0], np.array([10.0]))
        {0: 1}
    """
    now, scale = list(chosen), np.where(capacities > 0, capacities, 1.0)
    excess = _cost(options, now) - capacities
    changed: dict[int, int] = {}
    while (excess > 0).any():
        best, change = 0.0, None
        for place, costs in enumerate(options):
            saved = costs[now[place]] - costs
            less = np.maximum(excess, 0) - np.maximum(excess - saved, 0)
            helps = (less / scale).sum(axis=1) > 1e-15  # so that none changes to and fro
            gains = helps * (np.where(excess > 0, saved, less) / scale).sum(axis=1)
            split = int(np.argmax(gains))
            if gains[split] > best:
                best, change = float(gains[split]), (place, split)
        if change is None:
            break
        place, split = change
        excess = excess - options[place][now[place]] + options[place][split]
        now[place] = changed[place] = split
    return changed


def nearest_splits(options: Sequence[Array], capacities: Array) -> Array:
    """What the smallest ranks cost in the splits that come nearest to meeting all budgets.

    Each measure alone knows the best split of each kernel; of all together, many balances of them
    are tried.

    Args:
        options: For each kernel `(splits, measures)`, what its smallest rank costs.
        capacities: `(measures,)`, what they may cost together.

    Returns:
        `(measures,)`; within the capacities if a way was found.

    Example:
        >>> one = np.array([[8.0, 1.0], [1.0, 8.0]])
        >>> nearest_splits([one, one], np.array([10.0, 10.0]))
        array([9., 9.])
    """
    scale = np.where(capacities > 0, capacities, 1.0)
    prices, tried = 1.0 / scale, []
    for step in range(_BALANCES):
        chosen = [int(np.argmin(costs @ prices)) for costs in options]
        changed = changed_splits(options, chosen, capacities)
        cost = _cost(options, [changed.get(i, split) for i, split in enumerate(chosen)])
        if (cost <= capacities).all():
            return cost
        tried.append(cost)
        prices = prices * np.exp((_cost(options, chosen) / scale - 1.0) / (1 + step / 4))
    return min(tried, key=lambda cost: float((cost / scale).max()))


def _cost(options: Sequence[Array], chosen: Sequence[int]) -> Array:
    total: Array = np.sum([o[c] for o, c in zip(options, chosen, strict=True)], axis=0)
    return total
