"""Several budgets at once: one rank for each kernel, and every budget met."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from reducible_train.errors import ArgumentError, RankError
from reducible_train.selection.allocation.base import (
    Allocation,
    Allocator,
    Questions,
    Ranks,
    allocation_of,
    checked_answer,
    checked_capacity,
    named_allocator,
    total_cost,
    total_loss,
)
from reducible_train.selection.allocation.candidates import Candidate, grouped

Solver = Callable[[Questions], tuple[Ranks, float]]

_SOLVERS: dict[str, Solver] = {}
_HALVINGS = 40


def of_several(name: str) -> Callable[[Solver], Solver]:
    """Make a function known as the way in which an allocator meets several budgets.

    The function receives, for each measure, the groups and a capacity that the smallest of them
    fit into; all but costs is the same in each. An allocator that has no such function is asked
    for each budget alone.
    """

    def register(function: Solver) -> Solver:
        _SOLVERS[name] = function
        return function

    return register


def allocate_several(
    candidates: Sequence[Iterable[Candidate]], capacities: Sequence[float], method: str = "knapsack"
) -> Allocation:
    """Choose a rank for every candidate, so that no measure's capacity is exceeded.

    Where the answer to one of the budgets alone meets all others too, it is the answer: what is
    best under fewer limits is best under more. So all but the tightest budget often cost nothing.

    Args:
        candidates: For each measure the kernels with their costs by it; their order, spectra,
            limits and groups are the same in all.
        capacities: What they may cost together, by each measure.
        method: As `allocate` has it.

    Returns:
        The answer: its `cost` is that by the first measure, its `others` are the rest.

    Raises:
        ArgumentError: As `allocate` raises it; or not one capacity for each measure.
        RankError: Even the smallest ranks cost more than a capacity.

    Example:
        >>> small = [Candidate("a", [2.0, 1.0], 3, 9, 1, 2), Candidate("b", [1.0, 1.0], 3, 9, 1, 2)]
        >>> fast = [Candidate("a", [2.0, 1.0], 8, 30, 1, 2), Candidate("b", [1.0, 1.0], 2, 5, 1, 2)]
        >>> found = allocate_several([small, fast], [12, 15])
        >>> found.ranks, found.cost, found.others
        ({'a': 1, 'b': 2}, 9.0, (12.0,))
    """
    if len(candidates) != len(capacities) or not candidates:
        raise ArgumentError(
            "There must be one capacity for each measure, and one measure at least. Received: "
            f"{len(capacities)} for {len(candidates)}. Give the costs of each with its capacity."
        )
    solve = _checking(method)
    by_measure = [grouped(each) for each in candidates]
    questions = [
        (groups, checked_capacity(groups, capacity))
        for groups, capacity in zip(by_measure, capacities, strict=True)
    ]
    _check_smallest(questions)
    answer = _solved(solve, questions, _SOLVERS.get(method))
    ranks, bound = checked_answer(method, questions, answer)
    return allocation_of(by_measure, ranks, bound, method)


def _checking(method: str) -> Allocator:
    """The allocator of a name, whose answers are looked at."""
    solve = named_allocator(method)
    return lambda groups, capacity: checked_answer(
        method, [(groups, capacity)], solve(groups, capacity)
    )


def smallest(questions: Questions) -> Ranks:
    """The smallest ranks; dense where that costs no more by any measure."""
    found = []
    for same in zip(*(groups for groups, _ in questions), strict=True):
        ranks = {group.within_limits(group.min_rank) for group in same}
        found.append(None if ranks == {None} else same[0].min_rank)
    return found


def _check_smallest(questions: Questions) -> None:
    """Refuse capacities that each could be met alone, and that the smallest ranks do not meet."""
    ranks = smallest(questions)
    for place, (groups, capacity) in enumerate(questions):
        least = total_cost(groups, ranks)
        if least > capacity:
            raise RankError(
                f"`capacities[{place}]` must be at least {least:.17g}, the cost of the smallest "
                f"ranks, beside the others. Received: {capacity:.17g}. Raise it, or lower "
                "`min_rank`."
            )


def fits(questions: Questions, ranks: Ranks) -> bool:
    """True if no capacity is exceeded at these ranks."""
    return all(total_cost(groups, ranks) <= capacity for groups, capacity in questions)


def _solved(solve: Allocator, questions: Questions, together: Solver | None) -> tuple[Ranks, float]:
    """Ranks that meet all budgets, and the highest of the bounds that each of them proves."""
    alone = [solve(groups, capacity) for groups, capacity in questions]
    bound = max(proven for _, proven in alone)
    good = [ranks for ranks, _ in alone if fits(questions, ranks)]
    if good:
        groups, _ = questions[0]
        return min(good, key=lambda ranks: total_loss(groups, ranks)), bound
    if together is None:
        return _tightened(solve, questions), bound
    ranks, proven = together(questions)
    return ranks, max(bound, proven)


def _tightened(solve: Allocator, questions: Questions) -> Ranks:
    """The answer to the first budget alone, made so tight that the others are met as well."""
    groups, high = questions[0]
    found = smallest(questions)
    low = total_cost(groups, found)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        ranks = solve(groups, middle)[0]
        if fits(questions, ranks):
            found, low = ranks, middle
        else:
            high = middle
    return found
