"""What a kernel may become: its ranks and limits, their costs, and what each of them discards."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import numpy as np
import numpy.typing as npt

from reducible_train.errors import ArgumentError
from reducible_train.linalg.multiples import rounded_up

Array = npt.NDArray[np.float64]

_EXACT = 2**53  # whole numbers up to here are exact in float64


@dataclass(frozen=True, eq=False)
class Candidate:
    """A kernel that shares a budget.

    Args:
        path: Its name in the answer.
        spectrum: Singular values `(k,)`, non-increasing, as the criterion weighs them. Ranks
            above `k` discard nothing.
        rank_cost: Cost of one rank, greater than 0, in whatever unit the capacity has. Where it
            is not the same for every rank, what each rank 0 ... `max_rank` costs, greater than
            0 from rank 1 on, never falling.
        dense_cost: Cost of staying dense; `None` if it is already factorised, and cannot return.
        min_rank: Smallest rank it may get, at least 1.
        max_rank: Largest rank it may get, inclusive.
        group: Candidates of one group get equal ranks, or all stay dense; `None` for no group.
        weight: What its relative discarded energy counts among those of others.
        losses: What each rank 0 ... `max_rank` loses, where that was measured: it takes the place
            of the discarded energy. In [0, 1], never rising.
        multiple: What its rank is a multiple of. One that is already factorised may also stay at
            `max_rank`, the rank it has.

    Raises:
        ArgumentError: One of them cannot be used.
    """

    path: str
    spectrum: npt.ArrayLike
    rank_cost: npt.ArrayLike
    dense_cost: float | None
    min_rank: int
    max_rank: int
    group: str | None = None
    weight: float = 1.0
    losses: npt.ArrayLike | None = None
    multiple: int = 1

    def __post_init__(self) -> None:
        fault = _spectrum_fault(self.spectrum) or self._rank_fault() or self._cost_fault()
        fault = fault or self._loss_fault()
        if fault is not None:
            raise ArgumentError(f"{self.path}: {fault}")

    def _cost_fault(self) -> str | None:
        if not 0 < self.weight <= 1:
            return (
                f"`weight` must be greater than 0, and 1 at most. Received: weight={self.weight}. "
                "Divide all weights by the largest."
            )
        costs = np.asarray(self.rank_cost, dtype=np.float64)
        if costs.ndim and costs.shape != (int(self.max_rank) + 1,):
            return (
                "`rank_cost` must be a number, or a cost for each rank 0 ... max_rank. Received: "
                f"shape {costs.shape} for max_rank={self.max_rank}. Cut or complete the table."
            )
        if costs.ndim and (np.diff(costs) < 0).any():
            rank = int(np.argmax(np.diff(costs) < 0))
            return (
                f"`rank_cost` must not fall. Received: {costs[rank]:g} for rank {rank}, then "
                f"{costs[rank + 1]:g}. A larger rank can do what a smaller does: lower the former."
            )
        low, high = (costs[1], costs.max()) if costs.ndim else (costs, costs)
        for name, cost in (
            ("rank_cost", low),
            ("rank_cost", high),
            ("dense_cost", self.dense_cost),
        ):
            if cost is not None and not 0 < cost < math.inf:
                return (
                    f"`{name}` must be a finite number greater than 0. Received: {name}={cost}. "
                    "Leave out of the allocation what costs nothing."
                )
        return None

    def _loss_fault(self) -> str | None:
        if self.losses is None:
            return None
        losses = np.asarray(self.losses, dtype=np.float64)
        falls = losses.shape == (int(self.max_rank) + 1,) and (np.diff(losses) <= 0).all()
        if falls and losses[-1] >= 0 and losses[0] <= 1:
            return None
        return (
            "`losses` must be of each rank 0 ... max_rank, in [0, 1], never rising. Received: "
            f"{losses[:4]} of shape {losses.shape} for max_rank={self.max_rank}. Divide all "
            "by the largest, and smooth what rises."
        )

    @property
    def costs(self) -> Array:
        """What each rank 0 ... `max_rank` costs."""
        costs = np.asarray(self.rank_cost, dtype=np.float64)
        return costs if costs.ndim else costs * np.arange(int(self.max_rank) + 1)

    def _rank_fault(self) -> str | None:
        low, high, multiple = self.min_rank, self.max_rank, self.multiple
        if not (low >= 1 and low % 1 == 0 and high % 1 == 0 and low <= high):
            return (
                "`min_rank` and `max_rank` must be whole numbers, 1 <= min_rank <= max_rank. "
                f"Received: min_rank={low}, max_rank={high}. Lower the one or raise the other."
            )
        if not (multiple >= 1 and multiple % 1 == 0):
            return (
                "`multiple` must be a whole number, at least 1. "
                f"Received: multiple={multiple}. Write 1 for any rank."
            )
        if not len(self.ranks):
            return (
                "A multiple of `multiple` must lie from `min_rank` to `max_rank`. Received: "
                f"min_rank={low}, max_rank={high}, multiple={multiple}. Leave out of the "
                "allocation what can only stay dense."
            )
        return None

    @property
    def ranks(self) -> npt.NDArray[np.int64]:
        """The ranks it may get, rising.

        >>> Candidate("w", [1.0], 7, 120, 3, 20, multiple=8).ranks
        array([ 8, 16])
        >>> Candidate("w", [1.0], 7, None, 3, 20, multiple=8).ranks  # it has rank 20
        array([ 8, 16, 20])
        """
        low, high = rounded_up(self.min_rank, self.multiple), int(self.max_rank)
        ranks = np.arange(low, high + 1, int(self.multiple))
        kept = [high] if self.dense_cost is None else []
        return np.union1d(ranks, kept).astype(np.int64)

    def discarded(self, max_rank: int) -> Array:
        """Relative discarded energy `sum(s[r:]**2) / sum(s**2)` for r = 0 ... `max_rank`.

        0 everywhere for a zero matrix. Where losses were measured, these.

        Example:
            >>> Candidate("w", [2.0, 1.0, 1.0], 7, 12, 1, 2).discarded(3).round(3)
            array([1.   , 0.333, 0.167, 0.   ])
        """
        if self.losses is not None:
            return np.asarray(self.losses, dtype=np.float64)[: max_rank + 1]
        values = np.asarray(self.spectrum, dtype=np.float64)
        squares = (values / (values[0] or 1.0)) ** 2  # scaled first, so that none overflows
        tails = np.cumsum(squares[::-1])[::-1]
        lost = np.zeros(max_rank + 1)
        known = min(len(tails), max_rank + 1)
        lost[:known] = tails[:known] / (tails[0] or 1.0)
        return lost


def weighted(candidates: Sequence[Candidate], unknown: Container[str] = ()) -> list[Candidate]:
    """Candidates whose energies are told in one unit, such as a rise of the loss.

    Each relative loss counts by the root of the kernel's energy, so that the knapsack sums the
    geometric means of what is lost relative to the kernel and of what is lost at all. The first
    alone spares kernels that do not matter. The second is a quadratic that holds for small errors;
    where much is cut, it takes all from kernels of little energy, without which nothing works.

    Args:
        candidates: The candidates.
        unknown: Paths of those whose energies are in another unit: each counts as much as the
            middle one of the others, and not as much as its numbers are large.
    """
    energies = {
        each.path: float(np.sum(np.square(np.asarray(each.spectrum, dtype=np.float64))))
        for each in candidates
    }
    least = np.finfo(np.float64).tiny
    known = [max(energy, least) for path, energy in energies.items() if path not in unknown]
    if not known or max(known) == least:
        return list(candidates)
    most, middle = max(known), float(np.exp(np.median(np.log(known))))
    weights = (middle if each.path in unknown else energies[each.path] for each in candidates)
    return [
        replace(each, weight=math.sqrt(max(weight / most, least)))
        for each, weight in zip(candidates, weights, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class Group:
    """Candidates with one rank in common; a candidate without a group is one of its own.

    A rank of `None` means that all of them stay dense.

    Args:
        members: The candidates, at least one.
        ranks: `(ranks,)`, those that all of them may get, rising, at least one.
        costs: `(max_rank + 1,)`, cost of each rank of all members, in whole units.
        dense_cost: Cost of all members dense, in whole units; `None` if any of them cannot be.
        cost_unit: The unit, the same for all groups of an allocation.
    """

    members: tuple[Candidate, ...]
    ranks: npt.NDArray[np.int64]
    costs: Array
    dense_cost: float | None
    cost_unit: float = 1.0

    @classmethod
    def of(cls, members: Sequence[Candidate], cost_unit: float = 1.0) -> Group:
        """The group of these members, their costs rounded to whole units.

        Raises:
            ArgumentError: No rank lies within the limits of all of them.
        """
        ranks = reduce(np.intersect1d, [m.ranks for m in members])
        high = min(int(m.max_rank) for m in members)
        if not len(ranks):
            raise ArgumentError(
                f"The members of group {members[0].group!r} must have a rank in common. Received: "
                + ", ".join(f"{m.path} in {_told(m)}" for m in members)
                + f". Lower `min_rank` to {high}, or take a member out of the group."
            )
        high = int(ranks[-1])
        dense = [m.dense_cost for m in members if m.dense_cost is not None]
        can_be_dense = len(dense) == len(members)
        return cls(
            members=tuple(members),
            ranks=ranks,
            costs=_rounded(np.sum([m.costs[: high + 1] for m in members], axis=0), cost_unit),
            dense_cost=float(_rounded(math.fsum(dense), cost_unit)) if can_be_dense else None,
            cost_unit=cost_unit,
        )

    @property
    def min_rank(self) -> int:
        """The smallest rank that all members may get."""
        return int(self.ranks[0])

    @property
    def max_rank(self) -> int:
        """The largest rank that all members may get."""
        return int(self.ranks[-1])

    @cached_property
    def losses(self) -> Array:
        """Weighted relative discarded energy, summed over the members, for r = 0 ... `max_rank`."""
        weighted = [m.weight * m.discarded(self.max_rank) for m in self.members]
        losses: Array = np.sum(weighted, axis=0)
        return losses

    @cached_property
    def worst(self) -> Array:
        """Relative discarded energy of the member that loses most, for r = 0 ... `max_rank`."""
        losses: Array = np.max([m.discarded(self.max_rank) for m in self.members], axis=0)
        return losses

    def cost(self, rank: int | None) -> float:
        """What all members cost at `rank`."""
        return float(self.costs[rank] if rank is not None else self.dense_cost or 0.0)

    def loss(self, rank: int | None) -> float:
        """What they discard at `rank`; nothing while they are dense."""
        return float(self.losses[rank]) if rank is not None else 0.0

    @property
    def largest(self) -> int | None:
        """Nothing cut: dense, or the largest rank of what is already factorised."""
        return self.max_rank if self.dense_cost is None else None

    def within_limits(self, rank: int) -> int | None:
        """The largest rank allowed up to this one, or else the smallest; dense if not dearer."""
        place = max(int(np.searchsorted(self.ranks, rank, side="right")) - 1, 0)
        found = int(self.ranks[place])
        if self.dense_cost is not None and self.dense_cost <= self.cost(found):
            return None
        return found

    def at_least(self, rank: int) -> int | None:
        """The smallest rank allowed from this one on, or what is uncut; dense if not dearer."""
        place = int(np.searchsorted(self.ranks, rank))
        return self.largest if place == len(self.ranks) else self.within_limits(self.ranks[place])


def grouped(candidates: Iterable[Candidate]) -> tuple[Group, ...]:
    """The groups, in the order of their first members.

    Whole costs stay as they are. Others are rounded to about 1e-15 of their total, so that every
    sum of costs is exact, in whatever order: what fits in one allocator fits in all of them.

    Raises:
        ArgumentError: A path occurs twice, or a group has no rank in common.
    """
    groups: dict[tuple[bool, str], list[Candidate]] = {}
    seen: set[str] = set()
    for candidate in candidates:
        if candidate.path in seen:
            raise ArgumentError(
                "Every candidate must have a path of its own. "
                f"Received: {candidate.path!r} twice. Give each kernel once."
            )
        seen.add(candidate.path)
        alone = candidate.group is None
        name = candidate.path if candidate.group is None else candidate.group
        groups.setdefault((alone, name), []).append(candidate)
    unit = _cost_unit([m for members in groups.values() for m in members])
    return tuple(Group.of(members, unit) for members in groups.values())


def _cost_unit(candidates: Sequence[Candidate]) -> float:
    """1 if all costs are whole, else a power of two."""
    costs = [np.append(c.costs, c.dense_cost or 0.0) for c in candidates]
    total = math.fsum(float(each.max()) for each in costs)
    if total < _EXACT and all((each == np.rint(each)).all() for each in costs):
        return 1.0
    return float(2.0 ** math.ceil(math.log2(2 * total / _EXACT)))


def _told(member: Candidate) -> str:
    """Its limits, for a message."""
    words = f"[{member.min_rank}, {member.max_rank}]"
    return words if member.multiple == 1 else f"{words} in multiples of {member.multiple}"


def _rounded(cost: npt.ArrayLike, unit: float) -> Array:
    rounded: Array = np.maximum(1, np.rint(np.asarray(cost) / unit)) * unit
    return rounded


def _spectrum_fault(spectrum: npt.ArrayLike) -> str | None:
    values = np.asarray(spectrum, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        found = f"an array of shape {values.shape}"
    elif not np.isfinite(values).all():
        found = f"{int((~np.isfinite(values)).sum())} of {values.size} values NaN or infinite"
    elif values[-1] < 0 or (np.diff(values) > 0).any():
        at = int(np.argmax(np.append(np.diff(values) > 0, True)))
        found = f"{values[at]:g} at place {at}" + (
            f", then {values[at + 1]:g}" if at + 1 < values.size else ""
        )
    else:
        return None
    return (
        "`spectrum` must be singular values, finite, not negative, in non-increasing order. "
        f"Received: {found}. Sort it in descending order, or look for NaN in the kernel."
    )
