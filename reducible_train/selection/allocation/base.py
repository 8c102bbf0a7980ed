"""One budget, a rank for each kernel: the question, the answer, and the ways to find it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from reducible_train.errors import ArgumentError, RankError, shortened
from reducible_train.selection.allocation.candidates import Candidate, Group, grouped
from reducible_train.settings.checks import check_name, is_count, is_version, plain
from reducible_train.settings.compression import AUTO

Ranks = list[int | None]
Questions = Sequence[tuple[Sequence[Group], float]]  # the groups by a measure, and its capacity
Allocator = Callable[[Sequence[Group], float], tuple[Ranks, float]]

_ALLOCATORS: dict[str, Allocator] = {}
_ROUND_OFF = 1e-12


@dataclass(frozen=True)
class Allocation:
    """The rank of every kernel, what it costs, and how far from the best it can be.

    Args:
        ranks: Rank by path; `None` for a kernel that stays dense.
        cost: What the candidates cost together, at most the capacity.
        objective: Relative discarded energy, weighted, summed over the candidates.
        bound: No allocation within the capacity has a smaller objective (proven).
        gap: `objective - bound`; 0 if the allocation is proven to be the best.
        method: Name of the allocator.
        others: What they cost by the other measures, where several budgets are met at once.
    """

    ranks: dict[str, int | None]
    cost: float
    objective: float
    bound: float
    gap: float
    method: str
    others: tuple[float, ...] = ()


def allocator(name: str) -> Callable[[Allocator], Allocator]:
    """Make a function known as a way to share a budget.

    The function receives the groups and a capacity that the smallest of them fit into. It returns
    a rank for each group (`None` for dense), and a proven lower bound of the objective. It is a
    pure function: equal questions get equal answers.
    """
    check_name(name, "An allocator", AUTO)

    def register(function: Allocator) -> Allocator:
        if not is_version(function, _ALLOCATORS.get(name, function)):
            raise ArgumentError(
                "An allocator must have a name of its own. "
                f"Received: {name!r}, taken by {_ALLOCATORS[name].__name__}. Choose another."
            )
        _ALLOCATORS[name] = function
        return function

    return register


def allocator_names() -> tuple[str, ...]:
    """Names of all allocators, in alphabetical order.

    >>> allocator_names()
    ('equal_energy', 'knapsack', 'uniform')
    """
    return tuple(sorted(_ALLOCATORS))


def allocate(
    candidates: Iterable[Candidate], capacity: float, method: str = "knapsack"
) -> Allocation:
    """Choose a rank for every candidate, so that together they cost at most the capacity.

    The objective is what is lost: the relative discarded energy `sum(s[r:]**2) / sum(s**2)` of
    each candidate, 0 while it is dense, times its weight, summed over all. `"knapsack"` finds the
    least; `"uniform"` and `"equal_energy"` are the usual rules, for comparison. Each of them proves
    a bound.

    Args:
        candidates: The kernels, their limits and costs.
        capacity: What they may cost together.
        method: `"knapsack"`, `"uniform"`, `"equal_energy"` or another name of `allocator_names()`.

    Raises:
        ArgumentError: An unknown method, or one that answers with what cannot be; a path that
            occurs twice, a group without a rank in common, a capacity that is not a number.
        RankError: Even the smallest ranks cost more than the capacity.

    Example:
        >>> flat = Candidate("flat", [1.0, 1.0, 1.0, 1.0], 8, 16, 1, 1)
        >>> steep = Candidate("steep", [1.0, 0.1, 0.0, 0.0], 8, 16, 1, 1)
        >>> found = allocate([flat, steep], 24)
        >>> found.ranks
        {'flat': None, 'steep': 1}
        >>> found.cost, round(found.objective, 4), found.gap
        (24.0, 0.0099, 0.0)
    """
    solve = named_allocator(method)
    groups = grouped(candidates)
    capacity = checked_capacity(groups, capacity)
    ranks, bound = checked_answer(method, [(groups, capacity)], solve(groups, capacity))
    return allocation_of([groups], ranks, bound, method)


def checked_answer(method: str, questions: Questions, answer: Any) -> tuple[Ranks, float]:
    """What an allocator has answered, its numbers as Python's own.

    Args:
        method: Its name.
        questions: The groups by each measure, and what they may cost; one measure at least.
        answer: What came.

    Raises:
        ArgumentError: It is no rank for each group with a bound, or ranks that may not be.
    """
    groups, who = questions[0][0], f"The allocation {method!r}"
    try:
        ranks, bound = answer
        ranks, bound = [plain(rank) for rank in ranks], float(bound)
    except (TypeError, ValueError):
        ranks = None
    if ranks is None or len(ranks) != len(groups):
        raise ArgumentError(
            f"{who} must return a rank for each group, None for dense, and a lower bound of what "
            f"they lose. Received: {shortened(repr(answer))} for {len(groups)} groups. Return "
            "(ranks, 0.0) where nothing is proven."
        )
    for group, rank in zip(groups, ranks, strict=True):
        may_be = is_count(rank) and rank in group.ranks
        if not (may_be or (rank is None and group.dense_cost is not None)):
            dense = "" if group.dense_cost is None else ", or None for dense"
            raise ArgumentError(
                f"{who} must give {group.members[0].path} one of its ranks, group.ranks, from "
                f"{group.min_rank} to {group.max_rank}{dense}. Received: {shortened(repr(rank))}. "
                "Choose with group.within_limits(rank)."
            )
    for same, capacity in questions:
        cost = total_cost(same, ranks)
        if cost > capacity + _ROUND_OFF * abs(capacity):
            raise ArgumentError(
                f"{who} must return ranks that cost no more than the capacity, {capacity:.17g}. "
                f"Received: ranks of cost {cost:.17g}. Lower them, or choose 'knapsack'."
            )
    return ranks, bound


def allocation_of(
    by_measure: Sequence[Sequence[Group]], ranks: Ranks, bound: float, method: str
) -> Allocation:
    """The answer, with its costs and the certificate.

    Args:
        by_measure: The groups as each measure counts them, one measure at least.
        ranks: A rank for each group.
        bound: A proven lower bound of the objective, up to round-off.
        method: Name of the allocator.
    """
    groups = by_measure[0]
    cost, *others = (total_cost(each, ranks) for each in by_measure)
    objective = total_loss(groups, ranks)
    bound = max(0.0, min(bound, objective))
    return Allocation(
        ranks={m.path: rank for g, rank in zip(groups, ranks, strict=True) for m in g.members},
        cost=cost,
        objective=objective,
        bound=bound,
        gap=objective - bound,
        method=method,
        others=tuple(others),
    )


def total_cost(groups: Sequence[Group], ranks: Ranks) -> float:
    """What the groups cost at these ranks."""
    return math.fsum(g.cost(rank) for g, rank in zip(groups, ranks, strict=True))


def total_loss(groups: Sequence[Group], ranks: Ranks) -> float:
    """The objective: what the groups discard at these ranks."""
    return math.fsum(g.loss(rank) for g, rank in zip(groups, ranks, strict=True))


def last_that_fits(
    levels: Sequence[Any] | Any,
    ranks_at: Callable[[float], Ranks],
    groups: Sequence[Group],
    capacity: float,
) -> Ranks:
    """The ranks at the last of the levels whose cost fits, by bisection.

    Args:
        levels: Levels in the order of rising cost; the first one fits.
        ranks_at: Level -> a rank for each group.
        groups: The groups.
        capacity: What they may cost together.
    """
    fits, fails = 0, len(levels)
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if total_cost(groups, ranks_at(float(levels[middle]))) <= capacity:
            fits = middle
        else:
            fails = middle
    return ranks_at(float(levels[fits]))


def named_allocator(method: str) -> Allocator:
    """The allocator of a name.

    Raises:
        ArgumentError: There is none.
    """
    if not isinstance(method, str) or method not in _ALLOCATORS:
        raise ArgumentError(
            f"`method` must be one of {', '.join(map(repr, allocator_names()))}. "
            f"Received: method={method!r}. For the least loss write 'knapsack'."
        )
    return _ALLOCATORS[method]


def checked_capacity(groups: Sequence[Group], capacity: float) -> float:
    """The capacity, raised by round-off where the smallest ranks need that.

    Raises:
        ArgumentError: It is not a number.
        RankError: Even the smallest ranks cost more.
    """
    if math.isnan(capacity):
        raise ArgumentError(
            "`capacity` must be a number. Received: capacity=nan. "
            "Give what the candidates may cost together."
        )
    smallest = total_cost(groups, [g.within_limits(g.min_rank) for g in groups])
    if smallest > capacity + _ROUND_OFF * abs(capacity):
        raise RankError(
            f"`capacity` must be at least {smallest:.17g}, the cost of the smallest ranks allowed. "
            f"Received: capacity={capacity:.17g}. Raise it, or lower `min_rank`."
        )
    return max(float(capacity), smallest)
