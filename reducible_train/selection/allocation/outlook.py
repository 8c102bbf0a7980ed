"""What the groups still to come can do at best with the room that is left.

The losses of a group, as a function of cost, are bounded from below by their lower convex hull.
The least sum of hulls within a given cost takes their segments in the order of their slopes,
steepest first (Sinha & Zoltners, The multiple-choice knapsack problem, 1979): a convex, piecewise
linear function of the room, which bounds thousands of partial solutions at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reducible_train.selection.allocation.options import Integers


class HullBound:
    """Hulls of some groups, of which the first one left can be taken away, again and again.

    Args:
        curves: For each group its options' costs and losses, cost rising; whatever they count
            from, the room counts from it too.
    """

    def __init__(self, curves: Sequence[tuple[Integers, Integers]]):
        hulls = [_hull(costs, losses) for costs, losses in curves]
        self._firsts = np.array([hull[0] for hull in hulls], dtype=np.int64).reshape(-1, 2)
        none = np.zeros((0, 2), dtype=np.int64)
        steps = np.concatenate([none, *(np.diff(hull, axis=0) for hull in hulls)])
        owners = np.repeat(np.arange(len(hulls)), [len(hull) - 1 for hull in hulls])
        order = np.argsort(steps[:, 1] / steps[:, 0], kind="stable")
        self._steps, self._owners, self._taken = steps[order], owners[order], 0
        self._measure()

    @property
    def size(self) -> int:
        """Number of segments left."""
        return len(self._steps)

    def take(self) -> None:
        """Take the first group away."""
        left = self._owners != self._taken
        self._steps, self._owners = self._steps[left], self._owners[left]
        self._taken += 1
        self._measure()

    def bounds(self, room: Integers) -> npt.NDArray[np.float64]:
        """Least loss of all groups left, for each room `(n,)`.

        Infinity where even their cheapest options do not fit.
        """
        losses: npt.NDArray[np.float64] = np.interp(room, self._costs, self._losses, left=np.inf)
        return losses

    def _measure(self) -> None:
        """Corners of the curve: exact sums, the cheapest options first, then step by step."""
        first_cost, first_loss = self._firsts[self._taken :].sum(axis=0)
        costs, losses = self._steps[:, 0], self._steps[:, 1]
        self._costs = first_cost + np.append(0, np.cumsum(costs))
        self._losses = first_loss + np.append(0, np.cumsum(losses))


def widest_step(costs: Integers, losses: Integers) -> int:
    """Cost of the longest segment of the hull: how far from convex the options may be."""
    return int(np.diff([cost for cost, _ in _hull(costs, losses)]).max(initial=0))


def _hull(costs: Integers, losses: Integers) -> list[tuple[int, int]]:
    """Corners of the lower convex hull (Andrew's monotone chain), in exact integers."""
    corners: list[tuple[int, int]] = []
    for x, y in zip(costs.tolist(), losses.tolist(), strict=True):
        while len(corners) > 1:
            (x0, y0), (x1, y1) = corners[-2:]
            # The last corner stays if slopes rise there; compared without dividing.
            if (y1 - y0) * (x - x1) < (y - y1) * (x1 - x0):
                break
            corners.pop()
        corners.append((x, y))
    return corners
