"""Laws of the cost of a kernel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reducible_train.errors import ArgumentError
from reducible_train.layers.uses import Uses
from reducible_train.selection.costs import CostTable, break_even_rank, dense_cost, rank_cost
from reducible_train.settings.measures import CountedMeasure, measure_kinds

SIZE = st.integers(1, 5000)


@settings(max_examples=100, deadline=None)
@given(SIZE, SIZE)
def test_factors_are_smaller_up_to_break_even_and_not_beyond(m, n):
    rank = break_even_rank((m, n))
    assert 0 <= rank < min(m, n)
    assert rank == break_even_rank((n, m))
    for measure, kind in measure_kinds().items():
        if not issubclass(kind, CountedMeasure):
            continue
        dense, one = (cost((m, n), measure, 2, Uses.alike(9)) for cost in (dense_cost, rank_cost))
        assert rank * one < dense <= (rank + 1) * one


@settings(max_examples=50, deadline=None)
@given(SIZE, SIZE, st.integers(1, 64))
def test_costs_count_the_numbers_of_real_arrays(m, n, rank):
    u, v = np.empty((m, rank), np.float16), np.empty((rank, n), np.float16)
    assert rank * rank_cost((m, n)) == u.size + v.size
    assert rank * rank_cost((m, n), "bytes", itemsize=2) == u.nbytes + v.nbytes
    assert rank * rank_cost((m, n), "flops", uses=Uses.alike(5)) == 5 * 2 * (u.size + v.size)


def test_each_measure_weighs_only_by_its_own():
    assert dense_cost((3, 5)) == dense_cost((3, 5), "parameters", 8, Uses.alike(49)) == 15
    assert dense_cost((3, 5), "bytes", 8, Uses.alike(49)) == 120
    assert dense_cost((3, 5), "flops", 8, Uses.alike(49)) == 2 * 15 * 49


@pytest.mark.parametrize("cost", [dense_cost, rank_cost])
def test_bad_arguments_are_named(cost):
    with pytest.raises(ArgumentError, match=r"'bytes', 'flops', 'parameters'.*measure='size'"):
        cost((3, 5), "size")
    with pytest.raises(ArgumentError, match=r"shape=\(3, 3, 5\)"):
        cost((3, 3, 5))
    with pytest.raises(ArgumentError, match="n=0"):
        cost((3, 0))
    with pytest.raises(ArgumentError, match="itemsize=0"):
        cost((3, 5), "bytes", itemsize=0)


@pytest.mark.parametrize("m", [0, -3, 2.5, float("nan")])
def test_a_shape_that_is_none_has_no_break_even_rank(m):
    with pytest.raises(ArgumentError, match="m="):
        break_even_rank((m, 4))


def test_factors_may_be_used_less_often_than_the_kernel():
    uses = Uses(dense=9, u=3, v=9)
    assert rank_cost((4, 6), "flops", uses=uses, count=2) == 2 * 2 * (4 * 3 + 6 * 9)
    assert dense_cost((4, 6), "flops", uses=uses, count=2) == 2 * 2 * 24 * 9
    rank = break_even_rank((4, 6), "flops", uses)
    assert rank * rank_cost((4, 6), "flops", uses=uses) < dense_cost((4, 6), "flops", uses=uses)


@settings(max_examples=50, deadline=None)
@given(SIZE, SIZE, st.floats(0.0, 0.99))
def test_a_gain_that_is_asked_for_is_reached(m, n, gain):
    rank = break_even_rank((m, n), min_gain=gain)
    assert rank * (m + n) <= (1 - gain) * m * n * (1 + 1e-12)


@pytest.mark.parametrize(("min_gain", "rank"), [(0.0, 3), (0.2, 2), (0.4, 2), (0.5, 1), (0.9, 0)])
def test_a_table_breaks_even_where_its_costs_say(min_gain, rank):
    table = CostTable(10.0, np.array([0.0, 4.0, 5.9, 9.9, 10.0, 12.0]))
    assert table.break_even_rank(min_gain) == rank
