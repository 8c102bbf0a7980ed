"""Laws of the choice of one rank."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reducible_train.errors import ArgumentError, SpectrumError
from reducible_train.linalg.svd import decompose, relative_error
from reducible_train.linalg.truncation import Truncation, choose_rank

SPECTRUM = st.lists(st.floats(0, 1e6), min_size=1, max_size=20).map(
    lambda values: np.sort(np.array(values))[::-1]
)
RANK = st.none() | st.integers(1, 25)
FRACTION = st.none() | st.floats(0.001, 0.999)


@settings(max_examples=150, deadline=None)
@given(SPECTRUM, RANK, RANK, FRACTION, FRACTION)
def test_the_rank_is_the_smallest_that_keeps_what_is_asked(s, max_rank, min_rank, energy, rtol):
    if min_rank and max_rank and min_rank > max_rank:
        min_rank, max_rank = max_rank, min_rank
    limits = {"max_rank": max_rank, "min_rank": min_rank, "energy": energy, "rtol": rtol}
    chosen = choose_rank(s, **limits)
    full = len(s)

    def keeps_enough(rank):
        if rank < min(min_rank or 1, full):
            return False
        if energy is None and rtol is None:
            return rank == full
        at = choose_rank(s, max_rank=rank)
        return (energy is None or at.energy >= energy) and (
            rtol is None or at.relative_error <= rtol
        )

    wanted = next(rank for rank in range(1, full + 1) if keeps_enough(rank))
    assert chosen.rank == min(wanted, max_rank or full)
    assert chosen.relative_error == relative_error(s, chosen.rank)
    assert chosen.binding in {"full_rank", "max_rank", "min_rank", "energy", "rtol"}


@settings(max_examples=100, deadline=None)
@given(SPECTRUM, RANK, FRACTION, FRACTION)
def test_only_the_binding_limit_matters(s, max_rank, energy, rtol):
    limits = {"max_rank": max_rank, "energy": energy, "rtol": rtol}
    chosen = choose_rank(s, **limits)
    if chosen.binding != "full_rank":
        alone = choose_rank(s, **{chosen.binding: limits[chosen.binding]})
        assert alone.rank == chosen.rank


@settings(max_examples=60, deadline=None)
@given(SPECTRUM, st.floats(0.01, 1), st.floats(0.01, 1))
def test_more_energy_never_needs_a_lower_rank(s, one, other):
    low, high = sorted([one, other])
    assert choose_rank(s, energy=low).rank <= choose_rank(s, energy=high).rank


def test_the_reported_error_is_the_measured_one():
    matrix = np.random.default_rng(0).standard_normal((30, 20))
    svd = decompose(matrix)
    chosen = choose_rank(svd.values, rtol=0.3)
    u, v = svd.factors(chosen.rank)
    measured = np.linalg.norm(matrix - u @ v) / np.linalg.norm(matrix)
    assert measured == pytest.approx(chosen.relative_error, rel=1e-12)
    assert measured <= 0.3


S = [4.0, 2.0, 2.0, 1.0]  # energies 16, 20, 24, 25 of 25


@pytest.mark.parametrize(
    ("limits", "rank", "binding"),
    [
        ({}, 4, "full_rank"),
        ({"max_rank": 9}, 4, "full_rank"),
        ({"max_rank": 3}, 3, "max_rank"),
        ({"min_rank": 2}, 4, "full_rank"),
        ({"min_rank": 9}, 4, "full_rank"),
        ({"energy": 0.8}, 2, "energy"),
        ({"energy": 1.0}, 4, "energy"),
        ({"energy": 0.8, "min_rank": 3}, 3, "min_rank"),
        ({"energy": 0.8, "min_rank": 2}, 2, "energy"),
        ({"energy": 0.8, "max_rank": 2}, 2, "energy"),
        ({"energy": 0.81, "max_rank": 2}, 2, "max_rank"),
        ({"energy": 0.5, "min_rank": 9}, 4, "full_rank"),
        ({"rtol": 0.21}, 3, "rtol"),
        ({"rtol": 0.0}, 4, "rtol"),
        ({"rtol": 0.21, "energy": 0.9}, 3, "energy"),
        ({"rtol": 0.19, "energy": 0.9}, 4, "rtol"),
        ({"min_rank": 2, "max_rank": 2}, 2, "max_rank"),
        ({"energy": 0.1, "min_rank": 2, "max_rank": 2}, 2, "min_rank"),
    ],
)
def test_the_limit_that_decides_is_named(limits, rank, binding):
    chosen = choose_rank(S, **limits)
    assert (chosen.rank, chosen.binding) == (rank, binding)


def test_a_zero_matrix_keeps_one_direction_and_loses_nothing():
    assert choose_rank([0.0, 0.0], energy=0.9) == Truncation(1, 1.0, 0.0, "energy")


@pytest.mark.parametrize(
    ("limits", "match"),
    [
        ({"max_rank": 0}, "max_rank=0"),
        ({"max_rank": 2.5}, "max_rank=2.5"),
        ({"min_rank": -1}, "min_rank=-1"),
        ({"min_rank": 3, "max_rank": 2}, "min_rank=3, max_rank=2"),
        ({"energy": 0.0}, "energy=0.0"),
        ({"energy": 95}, "energy=95"),
        ({"energy": float("nan")}, "energy=nan"),
        ({"rtol": 1.0}, "rtol=1.0"),
        ({"rtol": -0.1}, "rtol=-0.1"),
    ],
)
def test_contradictions_are_refused_with_their_values(limits, match):
    with pytest.raises(ArgumentError, match=match):
        choose_rank(S, **limits)


def test_what_is_no_spectrum_is_refused():
    with pytest.raises(SpectrumError):
        choose_rank([1.0, np.nan])


@given(
    st.lists(st.floats(0.01, 9), min_size=1, max_size=20),
    st.floats(0.05, 1),
    st.integers(1, 9),
)
def test_in_multiples_the_smallest_one_is_chosen_that_keeps_what_is_asked(values, energy, multiple):
    spectrum = np.sort(values)[::-1]
    free = choose_rank(spectrum, energy=energy).rank
    found = choose_rank(spectrum, energy=energy, multiple=multiple)
    assert found.rank == min(-(-free // multiple) * multiple, len(spectrum))
    assert found.energy >= energy - 1e-12
    if len(spectrum) > multiple:
        capped = choose_rank(spectrum, energy=1.0, max_rank=len(spectrum) - 1, multiple=multiple)
        assert capped.rank == (len(spectrum) - 1) // multiple * multiple
