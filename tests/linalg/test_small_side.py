"""Laws of decompositions that keep one side of the vectors alone."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from reducible_train.errors import ArgumentError, SpectrumError
from reducible_train.linalg.metric import Metric
from reducible_train.linalg.small_side import small_side, times
from reducible_train.linalg.svd import decompose, relative_error
from reducible_train.linalg.weighted_svd import weigh, weigh_stack
from reducible_train.selection.decomposition_cache import DecompositionCache

SHAPES = [(9, 6), (6, 9), (7, 7), (40, 3), (300, 290), (290, 300), (700, 260), (1, 5), (5, 1)]


def falling(rng, shape, dtype=np.float64):
    """A matrix whose singular values fall over four orders of magnitude."""
    left, _, right = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
    return (left * np.geomspace(1.0, 1e-4, min(shape)) @ right).astype(dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_and_vectors_are_those_of_the_whole_decomposition(shape, dtype, rng):
    matrix = falling(rng, shape, dtype)
    values, vectors = small_side(matrix)
    whole = decompose(matrix)
    np.testing.assert_allclose(values, whole.values, atol=1e-12)
    theirs = whole.right.T if shape[0] >= shape[1] else whole.left
    size = min(shape)
    assert vectors.shape == (size, size)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(size), atol=1e-12)
    turned = np.abs((vectors * theirs).sum(axis=0))[: size // 2 + 1]
    np.testing.assert_allclose(turned, 1.0, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("dtype", "close"), [(np.float32, 3e-7), (np.float64, 1e-12)])
def test_factors_are_the_best_and_balanced(shape, dtype, close, rng):
    matrix, rank = falling(rng, shape, dtype), (min(shape) + 1) // 2
    found, whole = weigh([matrix], most=rank), decompose(matrix)
    u, v = found.factors(rank)
    assert u.dtype == v.dtype == dtype
    u, v = u.astype(float), v.astype(float)
    np.testing.assert_allclose(u @ v, np.matmul(*whole.factors(rank)), atol=close)
    np.testing.assert_allclose(u.T @ u, v @ v.T, atol=2 * close)
    assert (u[np.abs(u).argmax(axis=0), np.arange(rank)] > 0).all()
    assert found.error(rank) == pytest.approx(
        relative_error(whole.values, rank) * np.linalg.norm(matrix), rel=1e-5
    )


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
def test_no_square_overflows_or_vanishes(scale, rng):
    matrix = falling(rng, (300, 280))
    np.testing.assert_allclose(
        small_side(matrix * scale)[0] / scale, small_side(matrix)[0], rtol=1e-7
    )


def test_directions_that_hold_nothing_are_zero_in_the_spectrum(rng):
    matrix = rng.standard_normal((300, 3)) @ rng.standard_normal((3, 280))
    assert (small_side(matrix.astype(np.float32))[0][3:] == 0).mean() > 0.9
    assert not small_side(np.zeros((300, 280)))[0].any()
    u, v = weigh([np.zeros((300, 280))]).factors(2)
    assert not u.any()
    assert not v.any()


def test_a_matrix_of_single_precision_is_never_copied_as_a_whole(rng):
    """Not while it is decomposed, nor while factors of it are made."""
    matrix = rng.standard_normal((60_000, 270), dtype=np.float32)  # 62 MiB
    tracemalloc.start()
    try:
        found = weigh([matrix], most=20)
        held, peak = tracemalloc.get_traced_memory()
        found.factors(20)
        _, at_factors = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 0.02 * matrix.nbytes
    assert max(peak, at_factors) < 0.6 * matrix.nbytes


def test_more_than_was_kept_cannot_be_asked_for(rng):
    with pytest.raises(ArgumentError, match=r"`rank` must be in \[1, 2\]"):
        weigh([falling(rng, (9, 6))], most=2).factors(3)


def test_what_has_no_singular_values_is_refused(rng):
    matrix = falling(rng, (300, 280), np.float32)
    matrix[3, 4], matrix[5, 6] = np.nan, np.inf
    with pytest.raises(SpectrumError, match="Received: 2 of 84000 entries NaN or infinite"):
        small_side(matrix)
    assert np.isfinite(small_side(np.array([[1e308, 0.0], [0.0, -1e308]]))[0]).all()


def test_products_are_summed_in_double_precision(rng):
    matrix, right = (rng.standard_normal(s).astype(np.float32) for s in ((70_000, 33), (33, 5)))
    exact = (matrix.astype(np.float64) @ right.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(times(matrix, right), exact)


def decomposed(cache, stack, metrics=None, most=None):
    def read():
        return [stack]

    def make():
        return weigh_stack([stack], metrics, most=most, read=read)

    return cache.get(("kernel", ""), read, metrics, most, make)


def test_a_cache_knows_equal_numbers_in_another_array_and_reads_that_one(rng):
    cache, stack = DecompositionCache(), falling(rng, (9, 6))[None]
    first = decomposed(cache, stack)
    again = decomposed(cache, stack.copy())
    assert (cache.hits, cache.misses) == (1, 1)
    for one, other in zip(first.factors(3), again.factors(3), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("change", ["number", "metric", "other metric", "most"])
def test_a_cache_makes_anew_what_is_not_the_same(change, rng):
    cache, stack = DecompositionCache(), falling(rng, (9, 6))[None]
    metric = [Metric(inputs=np.arange(1.0, 10.0))]
    decomposed(cache, stack, metric if change == "other metric" else None, 2)
    other = stack.copy()
    if change == "number":
        other[0, 0, 0] = np.nextafter(other[0, 0, 0], 9.0)
    if change == "other metric":
        metric = [Metric(inputs=np.arange(2.0, 11.0))]
    found = decomposed(
        cache, other, metric if "metric" in change else None, 3 if change == "most" else 2
    )
    assert (cache.hits, cache.misses) == (0, 2)
    assert found.keeps(2)
    cache.clear()
    decomposed(cache, other)
    assert cache.misses == 3
