"""Allocation among ranks that are multiples: against brute force, for every way and measure."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reducible_train.errors import ArgumentError
from reducible_train.selection.allocation import Candidate, allocate, allocate_several

METHODS = ("uniform", "equal_energy", "knapsack")
COSTS = st.integers(1, 50)
ROUND_OFF = 1e-12


@st.composite
def candidates(draw, most=4):
    """A few small kernels in multiples, dense or with factors of any rank, some in a group."""
    made = []
    for i in range(draw(st.integers(1, most))):
        values = draw(st.lists(st.integers(0, 6) | st.floats(0, 9), min_size=1, max_size=12))
        multiple = draw(st.sampled_from([1, 2, 3, 4]))
        dense = draw(st.none() | COSTS.map(lambda cost: 6 * cost))
        made.append(
            Candidate(
                path=f"k{i}",
                spectrum=np.sort(np.array(values, dtype=float))[::-1],
                rank_cost=draw(COSTS),
                dense_cost=dense,
                min_rank=draw(st.integers(1, 4)),
                max_rank=draw(st.integers(12, 14)),
                group="g" if dense is not None and draw(st.booleans()) else None,
                multiple=multiple,
            )
        )
    return made


def allowed(candidate):
    """Every rank it may get, from the definition."""
    ranks = range(candidate.min_rank, candidate.max_rank + 1)
    found = [rank for rank in ranks if rank % candidate.multiple == 0]
    if candidate.dense_cost is not None:
        return [*found, None]
    return sorted({*found, candidate.max_rank})  # what it has, it may keep


def cost_of(candidate, rank):
    return candidate.dense_cost if rank is None else candidate.rank_cost * rank


def loss_of(candidate, rank):
    values = np.asarray(candidate.spectrum)
    if rank is None or not values.any():
        return 0.0
    squares = (values / values.max()) ** 2  # scaled first, so that none vanishes
    return squares[rank:].sum() / squares.sum()


def every_allocation(made):
    """Ranks, cost and objective of all there are; those of a group have one rank."""
    for ranks in itertools.product(*map(allowed, made)):
        together = {rank for m, rank in zip(made, ranks, strict=True) if m.group}
        if len(together) < 2:
            pairs = list(zip(made, ranks, strict=True))
            yield (
                ranks,
                math.fsum(cost_of(*p) for p in pairs),
                math.fsum(loss_of(*p) for p in pairs),
            )


@settings(max_examples=60, deadline=None)
@given(candidates(), st.floats(0, 1), st.sampled_from(METHODS))
def test_every_way_stays_on_the_lattice_and_the_knapsack_is_the_best_there(made, share, method):
    everything = list(every_allocation(made))
    costs = [cost for _, cost, _ in everything]
    capacity = min(costs) + share * (max(costs) - min(costs))
    least = min(loss for _, cost, loss in everything if cost <= capacity)
    found = allocate(made, capacity, method)
    assert tuple(found.ranks[m.path] for m in made) in {ranks for ranks, _, _ in everything}
    assert found.cost <= capacity
    assert found.bound <= least + ROUND_OFF
    assert found.objective >= least - ROUND_OFF
    if method == "knapsack":
        assert found.objective == pytest.approx(least, abs=ROUND_OFF)
        assert found.gap == 0.0


@settings(max_examples=40, deadline=None)
@given(candidates(3), COSTS, st.floats(0.3, 1), st.floats(0.3, 1), st.sampled_from(METHODS))
def test_several_budgets_are_met_on_the_lattice(made, price, one, other, method):
    by_two = [
        made,
        [
            Candidate(
                m.path,
                m.spectrum,
                price + place,
                None if m.dense_cost is None else 6 * price,
                m.min_rank,
                m.max_rank,
                m.group,
                multiple=m.multiple,
            )
            for place, m in enumerate(made)
        ],
    ]
    rows = [
        (ranks, *(math.fsum(map(cost_of, each, ranks)) for each in by_two), loss)
        for ranks, _, loss in every_allocation(made)
    ]
    limits = []
    for place, share in ((1, one), (2, other)):
        low, high = (pick(row[place] for row in rows) for pick in (min, max))
        limits.append(low + share * (high - low))
    possible = [row for row in rows if row[1] <= limits[0] and row[2] <= limits[1]]
    smallest = min(rows, key=lambda row: [rank or math.inf for rank in row[0]])
    if not possible or smallest not in possible:
        return
    found = allocate_several(by_two, limits, method)
    assert tuple(found.ranks[m.path] for m in made) in {row[0] for row in possible}
    assert found.bound <= min(row[3] for row in possible) + ROUND_OFF


def test_a_group_of_two_multiples_gets_their_common_ones():
    made = [
        Candidate(f"k{m}", np.arange(30, 0, -1.0), 3, 90, 1, 29, "g", multiple=m) for m in (4, 6)
    ]
    found = allocate(made, 2 * 3 * 23)
    assert set(found.ranks.values()) == {12}


def test_what_has_no_multiple_is_refused_by_name():
    with pytest.raises(ArgumentError, match=r"w: A multiple .* min_rank=3, max_rank=7, multiple=8"):
        Candidate("w", [1.0], 1, 9, 3, 7, multiple=8)
    with pytest.raises(ArgumentError, match="`multiple` must be a whole number"):
        Candidate("w", [1.0], 1, 9, 1, 7, multiple=0)
    made = [Candidate(f"k{m}", [1.0], 1, 9, 1, 10, "g", multiple=m) for m in (4, 6)]
    with pytest.raises(ArgumentError, match=r"in multiples of 4, k6 in .* in multiples of 6"):
        allocate(made, 9)


@pytest.mark.parametrize("method", METHODS)
def test_what_has_factors_keeps_its_rank_while_there_is_room(method):
    made = [Candidate("w", np.arange(20, 0, -1.0), 1, None, 3, 13, multiple=8)]
    assert allocate(made, 13, method).ranks == {"w": 13}
    assert allocate(made, 12, method).ranks == {"w": 8}
