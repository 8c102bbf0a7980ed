"""Laws of the allocation, against brute force where problems are small."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reducible_train.errors import ArgumentError, RankError, ReducibleError
from reducible_train.selection.allocation import (
    Candidate,
    allocate,
    allocator,
    allocator_names,
    base,
)
from reducible_train.selection.allocation.candidates import grouped
from reducible_train.selection.allocation.knapsack import knapsack
from reducible_train.selection.allocation.outlook import HullBound
from reducible_train.selection.allocation.relaxation import lower_bound

METHODS = ("uniform", "equal_energy", "knapsack")
ROUND_OFF = 1e-12


WHOLE = st.integers(1, 50)
EXACT = WHOLE | st.integers(1, 3000).map(lambda count: count / 64)  # sums without round-off
ANY = WHOLE | st.floats(0.1, 50)


@st.composite
def candidates(draw, most=4, costs=EXACT):
    """A few small kernels: dense or factorised, alone or in groups, ties and zeros among them."""
    made = []
    for i in range(draw(st.integers(1, most))):
        values = draw(st.lists(st.integers(0, 6) | st.floats(0, 9), min_size=1, max_size=6))
        low = draw(st.integers(1, 2))
        most = draw(st.integers(max(low, 2), 6))
        steps = draw(st.none() | st.lists(st.just(0) | costs, min_size=most, max_size=most))
        table = None if steps is None else np.cumsum([draw(costs), *steps])  # not a law
        made.append(
            Candidate(
                path=f"k{i}",
                spectrum=np.sort(np.array(values, dtype=float))[::-1],
                rank_cost=draw(costs) if table is None else table,
                dense_cost=draw(st.none() | costs.map(lambda cost: 4 * cost)),
                min_rank=low,
                max_rank=most,
                group=draw(st.sampled_from([None, None, "g", "h"])),
            )
        )
    return made


def options(group):
    ranks = [*range(group.min_rank, group.max_rank + 1)]
    return [*ranks, None] if group.dense_cost is not None else ranks


def loss_of(candidate, rank):
    """The objective as its definition says it, one candidate at a time."""
    values = np.asarray(candidate.spectrum, dtype=float)
    if rank is None or not values.any():
        return 0.0
    squares = (values / values.max()) ** 2
    return squares[rank:].sum() / squares.sum()


def cost_of(candidate, rank):
    if rank is None:
        return candidate.dense_cost
    table = np.ndim(candidate.rank_cost) == 1
    return candidate.rank_cost[rank] if table else candidate.rank_cost * rank


def every_allocation(made):
    """All choices there are: cost, objective."""
    for ranks in itertools.product(*(options(group) for group in grouped(made))):
        pairs = [(m, r) for g, r in zip(grouped(made), ranks, strict=True) for m in g.members]
        yield math.fsum(cost_of(*p) for p in pairs), math.fsum(loss_of(*p) for p in pairs)


def network(count, seed=0):
    """Dense kernels of odd sizes with decaying spectra."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        m, n = (int(size) for size in rng.choice([40, 67, 100, 128, 150, 211], 2))
        decay = np.arange(1, min(m, n) + 1) ** -rng.uniform(0.1, 1.2)
        spectrum = np.sort(decay * np.exp(0.05 * rng.standard_normal(min(m, n))))[::-1]
        made.append(Candidate(f"k{i}", spectrum, m + n, m * n, 1, (m * n - 1) // (m + n)))
    return made


def dense_cost(made):
    return sum(m.dense_cost for m in made)


@settings(max_examples=120, deadline=None)
@given(candidates(), st.floats(0, 1))
def test_knapsack_finds_what_brute_force_finds(made, fraction):
    everything = sorted(every_allocation(made))
    capacity = everything[0][0] + fraction * (everything[-1][0] - everything[0][0])
    found = allocate(made, capacity)
    least = min(loss for cost, loss in everything if cost <= capacity)
    assert found.objective == pytest.approx(least, rel=ROUND_OFF, abs=ROUND_OFF)
    assert found.gap == 0.0


@settings(max_examples=120, deadline=None)
@given(candidates(most=6, costs=ANY), st.floats(0, 1.1), st.sampled_from(METHODS))
def test_what_every_method_promises(made, fraction, method):
    groups = grouped(made)
    least = math.fsum(min(g.cost(r) for r in options(g)) for g in groups)
    most = math.fsum(max(g.cost(r) for r in options(g)) for g in groups)
    capacity = least + fraction * (most - least)
    found = allocate(made, capacity, method)
    pairs = [(m, found.ranks[m.path]) for m in made]
    assert found.cost == pytest.approx(sum(cost_of(*p) for p in pairs), rel=ROUND_OFF)
    assert found.cost <= capacity
    assert found.objective == pytest.approx(sum(loss_of(*p) for p in pairs), abs=ROUND_OFF)
    assert 0 <= found.bound <= found.objective
    assert found.gap == found.objective - found.bound
    assert found.method == method
    for m, rank in pairs:
        assert m.dense_cost is not None if rank is None else m.min_rank <= rank <= m.max_rank
    for group in groups:
        assert len({found.ranks[m.path] for m in group.members}) == 1
    assert allocate(made, capacity, method) == found
    best = allocate(made, capacity)
    assert best.objective <= found.objective + ROUND_OFF
    assert best.objective >= found.bound - ROUND_OFF
    assert allocate(made, found.cost).objective <= found.objective + ROUND_OFF


@settings(max_examples=60, deadline=None)
@given(candidates(), st.floats(0, 1), st.floats(0, 1), st.sampled_from(METHODS))
def test_more_capacity_never_costs_energy(made, one, other, method):
    costs = sorted(cost for cost, _ in every_allocation(made))
    small, large = (costs[0] + f * (costs[-1] - costs[0]) for f in sorted([one, other]))
    less, more = allocate(made, small, method), allocate(made, large, method)
    assert more.objective <= less.objective + ROUND_OFF
    assert more.bound <= less.objective + ROUND_OFF


@pytest.mark.parametrize("count", [3, 30, 100])
@pytest.mark.parametrize("fraction", [0.15, 0.4, 0.8])
def test_networks_are_solved_exactly(count, fraction):
    made = network(count)
    capacity = fraction * dense_cost(made)
    found = allocate(made, capacity)
    assert found.gap == 0.0
    bound = lower_bound(grouped(made), capacity)
    assert 0 < bound <= found.objective
    for method in METHODS[:2]:
        other = allocate(made, capacity, method)
        assert other.bound == bound
        assert other.objective > found.objective


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_dynamic_programming_over_all_costs(seed):
    """The textbook recursion, one entry for each whole cost, where enumeration is too long."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(12):
        m, n = (int(size) for size in rng.integers(8, 40, 2))
        spectrum = np.sort(rng.random(min(m, n)))[::-1]
        made.append(Candidate(f"k{i}", spectrum, m + n, m * n, 1, (m * n - 1) // (m + n)))
    capacity = dense_cost(made) * (seed + 3) // 18
    least = np.zeros(capacity + 1)
    for m in made:
        after = np.full(capacity + 1, np.inf)
        for rank in [*range(m.min_rank, m.max_rank + 1), None]:
            cost = cost_of(m, rank)
            if cost <= capacity:
                moved = least[: capacity + 1 - cost] + loss_of(m, rank)
                after[cost:] = np.minimum(after[cost:], moved)
        least = after
    assert allocate(made, capacity).objective == pytest.approx(least.min(), rel=ROUND_OFF)


def test_without_effort_the_gap_is_told():
    made = network(40)
    groups, capacity = grouped(made), 0.3 * dense_cost(made)
    best = allocate(made, capacity)
    for effort in (0, 10, 1_000, 30_000):
        ranks, bound = knapsack(groups, capacity, effort)
        objective = sum(loss_of(m, r) for m, r in zip(made, ranks, strict=True))
        assert sum(cost_of(m, r) for m, r in zip(made, ranks, strict=True)) <= capacity
        assert bound <= best.objective <= objective + ROUND_OFF
        assert objective - bound < 1  # less than one kernel, whatever the rest


@pytest.mark.parametrize("seed", range(6))
def test_no_effort_claims_too_much(seed):
    made = network(12, seed)
    groups, capacity = grouped(made), 0.3 * dense_cost(made)
    best = allocate(made, capacity).objective
    for effort in np.geomspace(100, 1_000_000, 25).astype(int):
        ranks, bound = knapsack(groups, capacity, int(effort))
        assert bound <= best + ROUND_OFF
    assert sum(loss_of(m, r) for m, r in zip(made, ranks, strict=True)) == pytest.approx(best)


@settings(max_examples=60, deadline=None)
@given(candidates(), st.floats(0, 1))
def test_the_relaxation_never_beats_nor_passes_the_best(made, fraction):
    everything = sorted(every_allocation(made))
    capacity = everything[0][0] + fraction * (everything[-1][0] - everything[0][0])
    least = min(loss for cost, loss in everything if cost <= capacity)
    assert lower_bound(grouped(made), capacity) <= least + ROUND_OFF


def test_capacity_that_no_sum_can_use_does_not_lower_the_bound():
    made = [Candidate(f"k{i}", np.arange(9, 0, -1), 4, None, 1, 8) for i in range(3)]
    groups = grouped(made)
    assert lower_bound(groups, 43.9) == lower_bound(groups, 40) > lower_bound(groups, 44)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=3))
def test_the_outlook_is_below_every_choice_that_fits(steps):
    curves = [(np.cumsum(each), -np.cumsum(sorted(each)[::-1])) for each in steps]
    outlook = HullBound(curves)
    for left in range(len(curves), -1, -1):
        rest = curves[len(curves) - left :]
        choices = list(itertools.product(*(zip(*curve, strict=True) for curve in rest)))
        totals = [(sum(c for c, _ in each), sum(x for _, x in each)) for each in choices]
        cheapest = min(cost for cost, _ in totals)
        room = np.arange(cheapest - 2, 120)
        bounds = outlook.bounds(room)
        assert np.isinf(bounds[:2]).all()
        assert (np.diff(bounds[2:]) <= 0).all()
        for cost, loss in totals:
            assert (bounds[room >= cost] <= loss + ROUND_OFF).all()
        assert bounds[-1] == min(loss for _, loss in totals)
        if left:
            outlook.take()


def test_identical_kernels_are_shared_out_in_a_proven_way():
    spectrum = np.arange(1, 65) ** -0.5
    made = [Candidate(f"k{i}", spectrum, 128, 4096, 1, 31) for i in range(200)]
    found = allocate(made, 0.3 * dense_cost(made))
    assert found.gap <= 0.002 * found.objective


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1, 2, 4]), WHOLE, WHOLE), min_size=1, max_size=4), WHOLE)
def test_of_equals_a_cheapest(kernels, spare):
    made = [
        Candidate(f"k{i}", np.ones(size), cost, 4 * dense, 1, 4)  # losses: exact quarters
        for i, (size, cost, dense) in enumerate(kernels)
    ]
    everything = sorted(every_allocation(made))
    capacity = everything[0][0] + spare
    best = min((loss, cost) for cost, loss in everything if cost <= capacity)
    found = allocate(made, capacity)
    assert (found.objective, found.cost) == best


def test_of_equals_the_cheaper_one():
    dear, cheap = (
        Candidate(name, [1.0, 1.0], cost, None, 1, 2)
        for name, cost in (("dear", 20.0), ("cheap", 10.0))
    )
    assert allocate([dear, cheap], 50).ranks == {"dear": 1, "cheap": 2}
    assert allocate([dear, cheap], 59).cost == 50 - 10
    rank_one = Candidate("w", [3.0, 0.0, 0.0], 6, 9, 1, 1)
    assert allocate([rank_one], 100).ranks == {"w": 1}


def test_zero_matrices_cost_nothing_in_the_objective():
    zero = Candidate("zero", np.zeros(4), 8, 16, 1, 1)
    other = Candidate("other", [2.0, 1.0, 1.0, 0.5], 8, 16, 1, 1)
    for method in METHODS:
        found = allocate([zero, other], 24, method)
        assert found.ranks["zero"] == 1
        assert found.objective == loss_of(other, found.ranks["other"])


@pytest.mark.parametrize("method", METHODS)
def test_dense_where_everything_fits(method):
    made = network(5)
    found = allocate(made, dense_cost(made), method)
    assert set(found.ranks.values()) == {None}
    assert (found.objective, found.bound, found.gap) == (0.0, 0.0, 0.0)
    assert allocate(made, math.inf, method).objective == 0.0


@pytest.mark.parametrize("method", METHODS)
def test_what_is_factorised_stays_so(method):
    made = [Candidate(f"k{i}", [2.0, 1.0, 1.0], 3, None, 1, 3) for i in range(3)]
    assert allocate(made, 1e9, method).ranks == {f"k{i}": 3 for i in range(3)}
    assert allocate(made, 9, method).ranks == {f"k{i}": 1 for i in range(3)}


def test_uniform_is_the_largest_common_fraction():
    wide = Candidate("wide", np.ones(100), 10, 600, 1, 50)
    thin = Candidate("thin", np.ones(100), 10, 500, 1, 20)
    firm = Candidate("firm", np.ones(100), 10, 500, 15, 20)
    found = allocate([wide, thin], 10 * (25 + 10), "uniform")
    assert found.ranks == {"wide": 25, "thin": 10}
    assert allocate([wide, thin], 10 * (25 + 10) - 1, "uniform").ranks == {"wide": 24, "thin": 9}
    assert allocate([wide, thin, firm], 500, "uniform").ranks == {
        "wide": 25,
        "thin": 10,
        "firm": 15,
    }
    assert allocate([wide, thin], 1099, "uniform").ranks == {"wide": 50, "thin": 20}


def test_energy_is_the_largest_threshold_for_all():
    made = network(20)
    capacity = 0.3 * dense_cost(made)
    found = allocate(made, capacity, "equal_energy")

    def rank_below(m, lost):
        """The smallest rank that discards less than `lost`, or dense."""
        ranks = range(m.min_rank, m.max_rank + 1)
        return next((rank for rank in ranks if loss_of(m, rank) < lost), None)

    lost = max(loss_of(m, found.ranks[m.path]) for m in made)
    assert found.ranks == {m.path: rank_below(m, lost + ROUND_OFF) for m in made}
    assert sum(cost_of(m, rank_below(m, lost - ROUND_OFF)) for m in made) > capacity


def test_every_member_of_a_group_keeps_the_energy():
    flat = Candidate("flat", np.ones(10), 1, None, 1, 10, group="pair")
    steep = Candidate("steep", 0.1 ** np.arange(10), 1, None, 1, 10, group="pair")
    alone = Candidate("alone", np.ones(10), 1, None, 1, 10)
    for capacity in range(3, 31):
        ranks = allocate([flat, steep, alone], capacity, "equal_energy").ranks
        assert set(ranks.values()) == {capacity // 3}


@pytest.mark.parametrize("method", METHODS)
def test_a_dense_kernel_is_not_factorised_into_more(method):
    small = Candidate("small", [2.0, 1.0], 5, 4, 1, 1)
    found = allocate([small], 4, method)
    assert (found.ranks, found.cost) == ({"small": None}, 4.0)


def test_the_unit_of_costs_does_not_matter():
    made = network(12)
    capacity = 0.37 * dense_cost(made)
    scaled = [
        Candidate(m.path, m.spectrum, m.rank_cost / 7, m.dense_cost / 7, 1, m.max_rank)
        for m in made
    ]
    assert allocate(scaled, capacity / 7).ranks == allocate(made, capacity).ranks


def test_the_scale_of_a_spectrum_does_not_matter():
    made = network(6)
    scaled = [
        Candidate(m.path, m.spectrum * 10.0 ** (60 * i - 150), m.rank_cost, m.dense_cost, 1, 10)
        for i, m in enumerate(made)
    ]
    plain = [Candidate(m.path, m.spectrum, m.rank_cost, m.dense_cost, 1, 10) for m in made]
    capacity = 0.3 * dense_cost(made)
    assert allocate(scaled, capacity).ranks == allocate(plain, capacity).ranks


def test_nothing_to_share():
    for method in METHODS:
        found = allocate([], 10, method)
        assert (found.ranks, found.cost, found.objective, found.gap) == ({}, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("method", METHODS)
def test_too_little_capacity_names_the_least_that_does(method):
    made = [
        Candidate("one", [1.0, 1.0, 1.0], 7, 30, 2, 3),
        Candidate("two", [1.0, 1.0, 1.0], 5, None, 1, 3),
    ]
    with pytest.raises(RankError, match=r"at least 19, .*Received: capacity=18\.5\. Raise"):
        allocate(made, 18.5, method)
    assert allocate(made, 19, method).ranks == {"one": 2, "two": 1}


def test_the_least_capacity_is_enough_whatever_the_order_of_the_sum():
    costs = [0.1, 0.7, 1e-9, 3.3, 0.2]
    made = [Candidate(f"k{i}", [1.0, 1.0], c, None, 1, 2) for i, c in enumerate(costs)]
    for order in itertools.permutations(costs):
        assert set(allocate(made, sum(order)).ranks.values()) <= {1, 2}


@pytest.mark.parametrize("unit", [0.1, 0.7, 1 / 3, 1e-9])
def test_exactly_enough_is_enough(unit):
    made = [Candidate(f"k{i}", np.ones(8), (i + 1) * unit, None, 1, 8) for i in range(3)]
    for capacity in np.arange(6, 48) * unit:
        for method in METHODS[:2]:
            found = allocate(made, capacity, method)
            assert allocate(made, found.cost, method).ranks == found.ranks
            assert allocate(made, found.cost).objective <= found.objective


def test_just_too_little_is_too_little():
    made = [Candidate(f"k{i}", [3.0, 2.0, 1.0], c, None, 1, 3) for i, c in enumerate([0.1, 0.7])]
    for cost, _ in sorted(every_allocation(made))[1:]:
        for method in METHODS:
            below = math.nextafter(cost, 0)
            assert allocate(made, below, method).cost <= below


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"spectrum": []}, r"shape \(0,\)"),
        ({"spectrum": [[1.0]]}, r"shape \(1, 1\)"),
        ({"spectrum": [1.0, 2.0]}, "1 at place 0, then 2"),
        ({"spectrum": [1.0, math.nan]}, "1 of 2 values NaN"),
        ({"spectrum": [math.inf, 1.0]}, "1 of 2 values NaN or infinite"),
        ({"spectrum": [1.0, -1.0]}, "-1 at place 1"),
        ({"min_rank": 3}, "min_rank=3, max_rank=2"),
        ({"min_rank": 0}, "min_rank=0"),
        ({"max_rank": 1.5}, "max_rank=1.5"),
        ({"rank_cost": 0}, "rank_cost=0"),
        ({"rank_cost": math.nan}, "rank_cost=nan"),
        ({"rank_cost": [0, 1]}, r"shape \(2,\) for max_rank=2"),
        ({"rank_cost": [1, 3, 2]}, "must not fall.*3 for rank 1, then 2"),
        ({"rank_cost": [0, 0, 2]}, "rank_cost=0"),
        ({"rank_cost": [0, 1, math.nan]}, "finite"),
        ({"dense_cost": -1}, "dense_cost=-1"),
    ],
)
def test_malformed_candidates_are_refused_by_name(wrong, match):
    right = {
        "path": "d1/kernel",
        "spectrum": [2.0, 1.0],
        "rank_cost": 3,
        "dense_cost": 9,
        "min_rank": 1,
        "max_rank": 2,
    }
    Candidate(**right)
    with pytest.raises(ArgumentError, match=rf"^d1/kernel: .*{match}"):
        Candidate(**right | wrong)


def test_contradictions_between_candidates_are_refused():
    low = Candidate("low", [1.0, 1.0], 3, None, 1, 2, group="heads")
    high = Candidate("high", np.ones(9), 3, None, 5, 8, group="heads")
    with pytest.raises(ArgumentError, match=r"'heads'.*low in \[1, 2\], high in \[5, 8\]"):
        allocate([low, high], 100)
    with pytest.raises(ArgumentError, match="'low' twice"):
        allocate([low, low], 100)
    with pytest.raises(ArgumentError, match="capacity=nan"):
        allocate([low], math.nan)


def test_unknown_methods_are_refused_with_the_known_ones():
    assert set(METHODS) <= set(allocator_names())
    with pytest.raises(
        ArgumentError, match=r"'equal_energy', 'knapsack', 'uniform'.*method='best'"
    ):
        allocate([], 1, "best")
    with pytest.raises(ArgumentError, match="'knapsack', taken by knapsack"):
        allocator("knapsack")(lambda groups, capacity: ([], 0.0))


@pytest.mark.parametrize("name", [5, "", "auto"])
def test_a_name_that_would_never_be_asked_for_is_refused(name):
    with pytest.raises(ReducibleError, match=f"An allocator must have a name.* Received: {name!r}"):
        allocator(name)


def test_an_allocator_defined_again_takes_the_place_of_its_predecessor(monkeypatch):
    monkeypatch.setattr(base, "_ALLOCATORS", dict(base._ALLOCATORS))

    def cell():
        @allocator("new")
        def new(groups, capacity):
            return [], 0.0

        return new

    for _ in range(2):
        made = cell()
        assert base.named_allocator("new") is made


ANSWERS = {
    "nothing": (None, "return a rank for each group.* Received: None for 2 groups"),
    "a list": ([2, 2], "return a rank for each group"),
    "short": (([2], 0.0), r"return a rank for each group.* Received: \(\[2\], 0.0\)"),
    "no bound": (([2, 2], None), "a lower bound"),
    "over": (([6, 6], 0.0), "no more than the capacity, 30. Received: ranks of cost 48"),
    "dense": (([None, 2], 0.0), "no more than the capacity"),
    "never dense": (([2, None], 0.0), "give tight one of its ranks.*from 2 to 6. Received: None"),
    "below": (([2, 1], 0.0), "give tight one of its ranks, .*from 2 to 6. Received: 1"),
    "above": (([7, 2], 0.0), "give free one of .* from 1 to 6, or None for dense. Received: 7"),
    "fractions": (([2.0, 2], 0.0), "give free one of its ranks"),
    "lists": (([[1, 2], 2], 0.0), "give free one of its ranks"),
    "words": ((["2", 2], 0.0), "give free one of its ranks"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_an_allocator_of_ones_own_returns_is_looked_at(name, monkeypatch):
    monkeypatch.setattr(base, "_ALLOCATORS", dict(base._ALLOCATORS))
    answer, words = ANSWERS[name]
    allocator("mine")(lambda groups, capacity: answer)
    made = [Candidate("free", [1.0] * 6, 4, 90, 1, 6), Candidate("tight", [1.0], 4, None, 2, 6)]
    with pytest.raises(ArgumentError, match=f"The allocation 'mine' must .*{words}"):
        allocate(made, 30, "mine")


@pytest.mark.parametrize("nothing", [-math.inf, math.nan, np.float32(0)])
def test_numbers_of_numpy_are_ranks_and_a_bound_may_say_nothing(nothing, monkeypatch):
    monkeypatch.setattr(base, "_ALLOCATORS", dict(base._ALLOCATORS))
    allocator("mine")(lambda groups, capacity: (np.array([2, 3]), nothing))
    made = [Candidate(name, [1.0] * 6, 4, 90, 1, 6) for name in "ab"]
    found = allocate(made, 30, "mine")
    assert (found.ranks, found.bound) == ({"a": 2, "b": 3}, 0.0)
    assert all(type(rank) is int for rank in found.ranks.values())
