"""Laws of leading directions: nearly the best truncation, and a spectrum that adds up."""

from __future__ import annotations

import numpy as np
import pytest

from reducible_train.errors import SpectrumError
from reducible_train.linalg.leading import leading_side, pays
from reducible_train.linalg.metric import Metric
from reducible_train.linalg.small_side import small_side
from reducible_train.linalg.svd import relative_errors
from reducible_train.linalg.weighted_svd import weigh

SHAPES = [(600, 520), (520, 600), (1500, 512)]
FALLS = ["noise", "slow", "fast", "spikes"]


def matrix(rng, shape, fall, dtype=np.float32):
    noise = rng.standard_normal(shape)
    if fall == "spikes":
        noise[:, :9] *= 20
    if fall in ("slow", "fast"):
        noise = noise * (1 + np.arange(shape[1])) ** {"slow": -0.5, "fast": -2.0}[fall]
    return noise.astype(dtype)


def distance(matrix, vectors):
    exact = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    exact = exact.astype(np.float64)
    return np.linalg.norm(exact - exact @ vectors @ vectors.T)


@pytest.mark.parametrize("fall", FALLS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_truncation_is_half_a_percent_from_the_best(shape, fall, rng):
    given = matrix(rng, shape, fall)
    exact, _ = small_side(given)
    for rank in (4, 50):  # by passes through the matrix, and through its Gram matrix
        values, vectors = leading_side(given, rank)
        best = np.sqrt((exact[rank:] ** 2).sum())
        assert best * (1 - 1e-9) <= distance(given, vectors) <= 1.005 * best
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(rank), atol=1e-12)
        assert len(values) == min(shape)
        assert (values[:rank] <= exact[:rank] * (1 + 1e-9)).all()
        np.testing.assert_allclose((values**2).sum(), (exact**2).sum(), rtol=1e-9)
        told = relative_errors(values)[rank] * np.linalg.norm(given.astype(float))
        np.testing.assert_allclose(told, distance(given, vectors), rtol=1e-6)
        assert np.ptp(values[rank:]) == 0


@pytest.mark.parametrize("rise", [0.1, 0.19, 0.2, 0.6])
def test_two_levels_are_found_or_left_to_others(rise, rng):
    u, v = (np.linalg.qr(rng.standard_normal(shape))[0] for shape in ((600, 512), (512, 512)))
    values = np.sqrt(1 + rise * (np.arange(512) < 51))
    given = u * values @ v.T
    found = leading_side(given, 51)
    assert rise < 0.5 or found is not None
    if found is not None:
        assert distance(given, found[1]) <= 1.005 * np.sqrt((values[51:] ** 2).sum())
        np.testing.assert_allclose((found[0] ** 2).sum(), (values**2).sum(), rtol=1e-9)


def test_it_is_the_same_each_time(rng):
    given = matrix(rng, (600, 520), "slow")
    state = np.random.get_state()[1].copy()
    for one, other in zip(leading_side(given, 8), leading_side(given, 8), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_no_square_overflows_or_vanishes(scale, rng):
    given = matrix(rng, (600, 520), "slow", np.float64)
    values = leading_side(given * scale, 8)[0] / scale
    np.testing.assert_allclose(values, leading_side(given, 8)[0], rtol=1e-7)


def test_matrices_of_lower_rank_and_of_zeros_have_values_of_zero(rng):
    low = (rng.standard_normal((600, 3)) @ rng.standard_normal((3, 520))).astype(np.float32)
    values, vectors = leading_side(low, 8)
    assert (values > 0).sum() == 3
    assert distance(low, vectors) < 1e-5 * np.linalg.norm(low)
    assert not leading_side(np.zeros((600, 520)), 8)[0].any()
    with pytest.raises(SpectrumError):
        leading_side(np.full((600, 520), np.nan), 8)


METRICS = {
    "plain": lambda m, n: Metric(),
    "inputs": lambda m, n: Metric(inputs=np.linspace(1.0, 3.0, m)),
    "both": lambda m, n: Metric(np.linspace(1.0, 3.0, m), np.diag(1.0 + np.arange(n))),
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", SHAPES[:2], ids=str)
def test_factors_are_balanced_and_nearly_the_best_by_any_metric(shape, metric, rng):
    given, by = matrix(rng, shape, "fast"), METRICS[metric](*shape)
    found = weigh([given], by, most=20, leading=True)
    exact = weigh([given], by, most=20)
    assert found.right.shape == exact.right.shape
    assert np.abs(found.values - exact.values).max() > 0, "another way"
    u, v = (each.astype(float) for each in found.factors(20))
    best = np.sqrt((exact.values[20:] ** 2).sum())
    off = np.sqrt(by.squared(given - u @ v))
    assert best * (1 - 1e-6) <= off <= 1.005 * best
    np.testing.assert_allclose(off, np.sqrt((found.values[20:] ** 2).sum()), rtol=1e-4)
    np.testing.assert_allclose(u.T @ u, v @ v.T, atol=1e-4 * (u**2).sum())
    assert found.error(20) == pytest.approx(np.linalg.norm(given - u @ v), rel=1e-4)


@pytest.mark.parametrize("shape", [(300, 290), (600, 520)], ids=str)
def test_where_it_does_not_pay_the_answer_is_the_exact_one(shape, rng):
    given, rank = matrix(rng, shape, "slow"), 8 if shape[1] < 500 else 200
    assert not pays(shape, rank)
    found, exact = (weigh([given], most=rank, leading=leading) for leading in (True, False))
    np.testing.assert_array_equal(found.values, exact.values)
    np.testing.assert_array_equal(found.right, exact.right)


def test_what_does_not_settle_is_decomposed_as_a_whole(rng, monkeypatch):
    given = matrix(rng, (600, 520), "noise")
    monkeypatch.setattr("reducible_train.linalg.leading._TURNS", 2)
    assert leading_side(given, 8) is None
    found, exact = weigh([given], most=8, leading=True), weigh([given], most=8)
    np.testing.assert_array_equal(found.values, exact.values)
