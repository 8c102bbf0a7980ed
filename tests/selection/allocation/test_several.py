"""Laws of several budgets at once, against brute force where problems are small."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reducible_train.errors import ArgumentError, RankError
from reducible_train.selection.allocation import (
    Candidate,
    allocate,
    allocate_several,
    allocator,
    base,
    several,
    several_knapsack,
)
from reducible_train.selection.allocation.candidates import grouped

METHODS = ("uniform", "equal_energy", "knapsack")
ROUND_OFF = 1e-12


WHOLE = st.integers(1, 50)


@st.composite
def kernels(draw, costs=WHOLE):
    """Small kernels as two or three measures count them: by laws, by tables, alone, in groups."""
    by_measure = [[] for _ in range(draw(st.integers(2, 3)))]
    for i in range(draw(st.integers(1, 4))):
        values = draw(st.lists(st.integers(0, 6) | st.floats(0, 9), min_size=1, max_size=6))
        low = draw(st.integers(1, 2))
        most = draw(st.integers(max(low, 2), 6))
        can_be_dense, group = draw(st.booleans()), draw(st.sampled_from([None, None, "g"]))
        for made in by_measure:
            steps = draw(st.lists(st.just(0) | costs, min_size=most, max_size=most))
            table = np.cumsum([draw(costs), *steps])
            lawful = draw(st.booleans())
            made.append(
                Candidate(
                    path=f"k{i}",
                    spectrum=np.sort(np.array(values, dtype=float))[::-1],
                    rank_cost=draw(costs) if lawful else table,
                    dense_cost=4 * draw(costs) if can_be_dense else None,
                    min_rank=low,
                    max_rank=most,
                    group=group,
                )
            )
    return by_measure


def every_allocation(by_measure):
    """All choices there are: costs by each measure, objective."""
    grouped_by = [grouped(made) for made in by_measure]
    choices = [
        [*range(g.min_rank, g.max_rank + 1)] + ([] if g.dense_cost is None else [None])
        for g in grouped_by[0]
    ]
    for ranks in itertools.product(*choices):
        costs = [
            math.fsum(g.cost(r) for g, r in zip(groups, ranks, strict=True))
            for groups in grouped_by
        ]
        yield costs, math.fsum(g.loss(r) for g, r in zip(grouped_by[0], ranks, strict=True))


def capacities_of(by_measure, fractions):
    """What the smallest ranks cost, and a fraction of what there is above that."""
    found = []
    for made, fraction in zip(by_measure, fractions, strict=False):
        groups = grouped(made)
        least = math.fsum(g.cost(g.min_rank) for g in groups)
        most = math.fsum(max(g.cost(g.max_rank), g.dense_cost or 0.0) for g in groups)
        found.append(least + fraction * (most - least))
    return found


FRACTIONS = st.tuples(*[st.floats(0, 1)] * 3)


@settings(max_examples=150, deadline=None)
@given(kernels(WHOLE | st.floats(0.1, 50)), FRACTIONS, st.sampled_from(METHODS))
def test_every_budget_is_met_and_no_better_answer_beats_the_bound(by_measure, fractions, method):
    capacities = capacities_of(by_measure, fractions)
    found = allocate_several(by_measure, capacities, method)
    spent = [found.cost, *found.others]
    assert all(cost <= capacity for cost, capacity in zip(spent, capacities, strict=True))
    fitting = [
        (loss, costs)
        for costs, loss in every_allocation(by_measure)
        if all(cost <= most for cost, most in zip(costs, capacities, strict=True))
    ]
    least = min(loss for loss, _ in fitting)
    assert 0 <= found.bound <= least + ROUND_OFF
    assert found.objective >= least - ROUND_OFF
    assert found.gap == found.objective - found.bound
    assert any(
        costs == spent and loss == pytest.approx(found.objective, abs=ROUND_OFF)
        for loss, costs in fitting
    )
    assert allocate_several(by_measure, capacities, method) == found
    if method == "knapsack":  # so small that all of it is looked through
        assert found.objective == pytest.approx(least, abs=ROUND_OFF)
        assert found.gap <= ROUND_OFF


def where_no_choice_is_left():
    """Kernels of which, once the second has been met, nothing better than the best known fits."""
    flat = np.ones(7, dtype=int)
    costs = (
        (5, 3 * flat[:3], flat[:3]),
        (flat, 5, flat),
        (flat[:3],) * 3,
        (flat[:3],) * 2 + (7 * flat[:3],),
    )
    kinds = (([0.0], 4, 2, 2), ([0.0], 4, 1, 6), ([0.0], None, 1, 2), ([1.0, 1.0], 4, 1, 2))
    return [
        [
            Candidate(f"k{i}", np.array(values), costs[i][measure], dense, low, most)
            for i, (values, dense, low, most) in enumerate(kinds)
        ]
        for measure in range(3)
    ]


@settings(max_examples=150, deadline=None)
@example(where_no_choice_is_left(), (0.0, 0.0, 0.0), 1)
@given(kernels(), FRACTIONS, st.integers(1, 6))
def test_what_a_short_search_proves_is_true(by_measure, fractions, effort):
    capacities = capacities_of(by_measure, fractions)
    least = min(
        loss
        for costs, loss in every_allocation(by_measure)
        if all(cost <= most for cost, most in zip(costs, capacities, strict=True))
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(several_knapsack, "_STATES", effort)
        patched.setattr(several_knapsack, "EFFORT", effort)
        patched.setattr(several_knapsack, "_EXCHANGES", 0)
        patched.setattr(several_knapsack, "_SEARCHES", effort % 2)
        questions = [
            (grouped(made), capacity) for made, capacity in zip(by_measure, capacities, strict=True)
        ]
        ranks, bound = several_knapsack.knapsack_of_several(questions)
    assert several.fits(questions, ranks)
    assert bound <= least + ROUND_OFF


@settings(max_examples=60, deadline=None)
@given(kernels(), st.floats(0, 1), st.sampled_from(METHODS))
def test_one_measure_asked_twice_is_one_budget(by_measure, fraction, method):
    made = by_measure[0]
    (capacity,) = capacities_of([made], [fraction])
    one, two = (
        allocate(made, capacity, method),
        allocate_several([made] * 2, [capacity] * 2, method),
    )
    assert (two.ranks, two.objective, two.bound) == (one.ranks, one.objective, one.bound)
    assert two.others == (one.cost,)


def network(count, seed=0):
    """Dense kernels of odd sizes with decaying spectra: their numbers, and their work."""
    rng = np.random.default_rng(seed)
    small, fast = [], []
    for i in range(count):
        m, n = (int(size) for size in rng.choice([40, 67, 100, 128, 150, 211, 400], 2))
        decay = np.arange(1, min(m, n) + 1) ** -rng.uniform(0.1, 1.2)
        spectrum = np.sort(decay * np.exp(0.05 * rng.standard_normal(min(m, n))))[::-1]
        uses, most = int(rng.choice([1, 4, 49, 196, 784])), (m * n - 1) // (m + n)
        for made, weight in ((small, 1), (fast, 2 * uses)):
            made.append(Candidate(f"k{i}", spectrum, weight * (m + n), weight * m * n, 1, most))
    return small, fast


def shares(by_measure, fractions):
    return [
        fraction * sum(m.dense_cost for m in made)
        for made, fraction in zip(by_measure, fractions, strict=True)
    ]


@pytest.mark.parametrize("count", [3, 8, 30])
@pytest.mark.parametrize("fractions", [(0.3, 0.3), (0.5, 0.2), (0.2, 0.5), (0.7, 0.6)])
def test_networks_come_close_to_what_is_proven(count, fractions):
    by_measure = network(count)
    capacities = shares(by_measure, fractions)
    found = allocate_several(by_measure, capacities)
    assert found.gap <= 0.025 * found.objective
    alone = [
        allocate(made, capacity) for made, capacity in zip(by_measure, capacities, strict=True)
    ]
    assert found.objective >= max(each.objective for each in alone) - ROUND_OFF
    for method in ("uniform", "equal_energy"):
        other = allocate_several(by_measure, capacities, method)
        assert found.objective <= other.objective + ROUND_OFF
        assert other.bound <= found.objective + ROUND_OFF


def test_what_meets_the_others_too_is_the_answer():
    small, fast = network(8)
    capacities = shares((small, fast), (0.2, 1.0))
    found, alone = allocate_several([small, fast], capacities), allocate(small, capacities[0])
    assert (found.ranks, found.gap) == (alone.ranks, alone.gap == 0.0 and 0.0)


def test_the_level_of_a_simple_method_is_the_lowest_of_the_budgets():
    by_measure = network(8)
    capacities = shares(by_measure, (0.3, 0.3))
    for method in ("uniform", "equal_energy"):
        found = allocate_several(by_measure, capacities, method)
        alone = [
            allocate(made, capacity, method).ranks
            for made, capacity in zip(by_measure, capacities, strict=True)
        ]
        size = [sum(math.inf if r is None else r for r in ranks.values()) for ranks in alone]
        assert found.ranks == alone[int(np.argmin(size))]


def test_a_method_that_knows_one_budget_only_is_tightened(monkeypatch):
    monkeypatch.setattr(base, "_ALLOCATORS", dict(base._ALLOCATORS))

    @allocator("first_pays")
    def first_pays(groups, capacity):
        """The first kernels fall to their smallest ranks, until the rest fits."""
        ranks = [group.largest for group in groups]
        for i, group in enumerate(groups):
            if base.total_cost(groups, ranks) > capacity:
                ranks[i] = group.within_limits(group.min_rank)
        return ranks, 0.0

    small = [Candidate(f"k{i}", [1.0] * 4, cost, 9 * cost, 1, 4) for i, cost in enumerate((9, 1))]
    fast = [Candidate(f"k{i}", [1.0] * 4, cost, 9 * cost, 1, 4) for i, cost in enumerate((1, 9))]
    other = [Candidate(f"k{i}", [1.0] * 4, cost, 9 * cost, 1, 4) for i, cost in enumerate((9, 9))]
    found = allocate_several([other, small, fast], [100, 30, 30], "first_pays")
    assert found.ranks == {"k0": 1, "k1": 1}
    assert (found.cost, found.others) == (18.0, (10.0, 10.0))


def test_what_a_method_of_ones_own_returns_is_looked_at(monkeypatch):
    monkeypatch.setattr(base, "_ALLOCATORS", dict(base._ALLOCATORS))
    base.allocator("mine")(lambda groups, capacity: ([3] * len(groups), 0.0))
    made = [Candidate("a", [2.0, 1.0], 3, 9, 1, 2), Candidate("b", [1.0, 1.0], 3, 9, 1, 2)]
    with pytest.raises(ArgumentError, match="'mine' must give a one of its ranks"):
        allocate_several([made, made], [12, 12], "mine")


def test_what_cannot_be_met_is_refused():
    small, fast = network(3)
    with pytest.raises(RankError, match="`capacity` must be at least"):
        allocate_several([small, fast], [1, 1e9])
    with pytest.raises(ArgumentError, match="one capacity for each measure"):
        allocate_several([small, fast], [1e9])
    with pytest.raises(ArgumentError, match="`method` must be one of"):
        allocate_several([small], [1e9], "best")
    one = [Candidate("k", [1.0, 1.0], 5, 4, 1, 2)]  # dense is the smallest here
    two = [Candidate("k", [1.0, 1.0], 5, 9, 1, 2)]
    with pytest.raises(RankError, match=r"`capacities\[0\]` must be at least 5"):
        allocate_several([one, two], [4.5, 5.5])
