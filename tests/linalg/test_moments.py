"""Laws of streaming moments, on data made to order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reducible_train.errors import ArgumentError, SpectrumError
from reducible_train.linalg.moments import Moments, Variances


def data(seed, rows=60, k=5, mean=0.0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, k)) @ rng.standard_normal((k, k)) + mean


def assert_same(one, other, tolerance=1e-12):
    assert one.count == other.count
    np.testing.assert_allclose(one.mean, other.mean, rtol=tolerance)
    size = np.abs(other.scatter).max()
    np.testing.assert_allclose(one.scatter, other.scatter, atol=tolerance * size)


def test_they_are_those_of_numpy():
    x = data(0)
    found = Moments.of(x)
    np.testing.assert_allclose(found.mean, x.mean(0))
    np.testing.assert_allclose(found.covariance, np.cov(x.T, bias=True), atol=1e-12)
    np.testing.assert_allclose(found.second_moment, x.T @ x / len(x), atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 59), min_size=1, max_size=6, unique=True), st.integers(0, 99))
def test_batches_merge_into_the_whole_whatever_their_sizes(cuts, seed):
    x = data(seed, mean=3.0)
    parts = [Moments.of(part) for part in np.split(x, sorted(cuts))]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merged(part)
    assert_same(merged, Moments.of(x))


def test_merging_commutes_and_associates():
    a, b, c = (Moments.of(data(seed, rows=seed + 2, mean=seed)) for seed in (1, 2, 3))
    assert_same(a.merged(b), b.merged(a))
    assert_same(a.merged(b).merged(c), a.merged(b.merged(c)))


def test_a_large_mean_eats_no_digits_of_a_small_spread():
    x = data(4)
    far = [part + 1e8 for part in np.split(x, 6)]
    merged = Moments.of(far[0])
    for part in far[1:]:
        merged = merged.merged(Moments.of(part))
    # Adding 1e8 itself rounds each entry to about 1e-8.
    np.testing.assert_allclose(merged.covariance, Moments.of(x).covariance, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_variances_are_the_diagonal_of_moments_however_they_came_together(weighted):
    x, shares = data(5, mean=3.0), np.random.default_rng(6).random(60) + 0.1
    pieces = [slice(0, 7), slice(7, 8), slice(8, 60)]
    given = [(x[each], shares[each] if weighted else None) for each in pieces]
    first, second, third = (Variances.of(*each) for each in given)
    found, whole = first.merged(second).merged(third), Moments.of(x, shares if weighted else None)
    assert found.count == pytest.approx(whole.count)
    np.testing.assert_allclose(found.mean, whole.mean)
    for centred in (True, False):
        wanted = np.diag(whole.weight(centred=centred))
        np.testing.assert_allclose(found.weight(centred=centred), wanted)
    at_once = Variances.of(x, shares if weighted else None)
    np.testing.assert_allclose(at_once.covariance, found.covariance)
    with pytest.raises(ArgumentError, match="rows of a matrix"):
        Variances.of(np.ones(3))
    with pytest.raises(SpectrumError, match="1 of"):
        Variances.of([[0.0], [np.nan]])
    still = Variances.of(np.ones((3, 2)))
    assert still.is_zero(centred=True)
    assert not still.is_zero(centred=False)
    with pytest.raises(ArgumentError, match="lengths 5 and 2"):
        found.merged(still)


def test_a_single_vector_has_a_mean_and_no_spread():
    found = Moments.of([[1.0, 2.0]])
    assert found.count == 1
    assert not found.scatter.any()
    np.testing.assert_array_equal(found.second_moment, [[1.0, 2.0], [2.0, 4.0]])


def test_low_precision_is_summed_in_double():
    x = data(5, mean=100.0).astype(np.float16)
    assert_same(Moments.of(x), Moments.of(x.astype(np.float64)))


def test_bad_numbers_are_refused():
    with pytest.raises(SpectrumError, match="1 of 4 numbers NaN or infinite"):
        Moments.of([[1.0, np.nan], [0.0, 1.0]])
    with pytest.raises(ArgumentError, match=r"shape=\(3,\)"):
        Moments.of([1.0, 2.0, 3.0])
    with pytest.raises(ArgumentError, match=r"shape=\(0, 3\)"):
        Moments.of(np.zeros((0, 3)))
    with pytest.raises(ArgumentError, match="lengths 2 and 3"):
        Moments.of(np.ones((1, 2))).merged(Moments.of(np.ones((1, 3))))
