"""Laws of kernels whose energies are told in one unit."""

from __future__ import annotations

import numpy as np
import pytest

from reducible_train.errors import ArgumentError
from reducible_train.selection.allocation import Candidate, allocate, weighted


def kernel(path, scale, size=8, **limits):
    """One of a geometric spectrum, whose energy grows with the square of its scale."""
    spectrum = scale * np.geomspace(1.0, 0.1, size)
    return Candidate(
        path, spectrum, 2 * size, size * size, **{"min_rank": 1, "max_rank": 3} | limits
    )


def test_of_kernels_alike_in_shape_the_one_of_more_energy_keeps_more():
    alike = [kernel("weak", 1.0), kernel("strong", 100.0)]
    capacity = 4 * 16.0
    even = allocate(alike, capacity).ranks
    found = allocate(weighted(alike), capacity).ranks
    assert even["weak"] == even["strong"] == 2
    assert (found["weak"], found["strong"]) == (1, 3)


def test_weights_are_the_roots_of_energies_and_no_unit_matters():
    mine = weighted([kernel("a", 1.0), kernel("b", 4.0)])
    assert [each.weight for each in mine] == pytest.approx([0.25, 1.0])
    scaled = weighted([kernel("a", 1e-9), kernel("b", 4e-9)])
    assert [each.weight for each in scaled] == pytest.approx([0.25, 1.0])


def test_kernels_without_energy_have_the_least_weight_that_can_be_told():
    zero = Candidate("zero", np.zeros(8), 16, 64, 1, 3)
    assert all(each.weight > 0 for each in weighted([zero, kernel("a", 1.0)]))
    assert weighted([zero]) == [zero]


def test_what_is_told_in_another_unit_counts_as_the_middle_one():
    mine = [kernel("a", 1.0), kernel("b", 4.0), kernel("c", 64.0)]
    for scale in (1e-9, 1.0, 1e9):
        found = weighted([*mine, kernel("unknown", scale)], {"unknown"})
        assert [each.weight for each in found] == pytest.approx([1 / 64, 1 / 16, 1.0, 1 / 16])
    alone = [kernel("unknown", 1.0), kernel("other", 4.0)]
    assert weighted(alone, {"unknown", "other"}) == alone


@pytest.mark.parametrize("weight", [0.0, -1.0, 1.5, float("nan")])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ArgumentError, match=r"a: `weight` must be greater than 0, and 1 at most"):
        kernel("a", 1.0, weight=weight)
