"""Laws of singular spectra, on matrices made to order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reducible_train.errors import ArgumentError, ArgumentTypeError, SpectrumError
from reducible_train.linalg import svd as spectra
from reducible_train.linalg.svd import (
    cumulative_energy,
    decompose,
    decompose_product,
    energy,
    relative_error,
    relative_errors,
    singular_spectrum,
    stable_rank,
)

EPS = float(np.finfo(np.float64).eps)


def orthonormal(rng, rows, columns):
    return np.linalg.qr(rng.standard_normal((rows, columns)))[0]


def made_to_order(rng, m, n, values):
    """A matrix `(m, n)` with exactly these singular values."""
    k = len(values)
    return orthonormal(rng, m, k) * values @ orthonormal(rng, n, k).T


@pytest.fixture(params=["lapack", "gram"])
def route(request, monkeypatch):
    monkeypatch.setattr(spectra, "GRAM_ABOVE", 0 if request.param == "gram" else 10**9)
    return request.param


SHAPES = [(1, 1), (1, 7), (7, 1), (40, 23), (23, 40), (30, 30)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_the_spectrum_made_to_order_comes_back(route, shape, scale):
    values = np.geomspace(1.0, 1e-3, min(shape))
    matrix = made_to_order(np.random.default_rng(0), *shape, values) * scale
    np.testing.assert_allclose(singular_spectrum(matrix) / scale, values, rtol=1e-9)
    np.testing.assert_allclose(decompose(matrix).values / scale, values, rtol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_decomposition_is_orthonormal_and_multiplies_back(route, shape):
    matrix = np.random.default_rng(1).standard_normal(shape)
    svd = decompose(matrix)
    k = min(shape)
    assert svd.left.shape == (shape[0], k)
    assert svd.right.shape == (k, shape[1])
    np.testing.assert_allclose(svd.left.T @ svd.left, np.eye(k), atol=1e-12)
    np.testing.assert_allclose(svd.right @ svd.right.T, np.eye(k), atol=1e-12)
    np.testing.assert_allclose(svd.left * svd.values @ svd.right, matrix, atol=1e-11)
    assert (np.diff(svd.values) <= 0).all()


def test_both_routes_give_the_same_decomposition(monkeypatch):
    matrix = np.random.default_rng(2).standard_normal((300, 270))
    by_gram = decompose(matrix)
    values_by_gram = singular_spectrum(matrix)
    monkeypatch.setattr(spectra, "GRAM_ABOVE", 1000)
    by_lapack = decompose(matrix)
    np.testing.assert_allclose(values_by_gram, singular_spectrum(matrix), rtol=1e-9)
    np.testing.assert_allclose(by_gram.values, by_lapack.values, rtol=1e-9)
    np.testing.assert_allclose(by_gram.left[:, :100], by_lapack.left[:, :100], atol=1e-8)
    np.testing.assert_allclose(by_gram.right[:100], by_lapack.right[:100], atol=1e-8)


def test_deficient_rank_leaves_the_vectors_orthonormal(route):
    rng = np.random.default_rng(3)
    svd = decompose(made_to_order(rng, 40, 30, np.array([3.0, 2.0, 1.0])))
    np.testing.assert_allclose(svd.left.T @ svd.left, np.eye(30), atol=1e-12)
    np.testing.assert_allclose(svd.values[:3], [3, 2, 1])
    assert (svd.values[3:] < 1e-7).all()


def test_a_zero_matrix_has_a_zero_spectrum(route):
    svd = decompose(np.zeros((6, 4)))
    assert not svd.values.any()
    assert not any(factor.any() for factor in svd.factors(2))
    assert not singular_spectrum(np.zeros((6, 4))).any()


@pytest.mark.parametrize("rank", [1, 5, 12])
def test_factors_are_balanced_and_reach_the_promised_error(route, rank):
    matrix = np.random.default_rng(4).standard_normal((20, 12))
    svd = decompose(matrix)
    u, v = svd.factors(rank)
    np.testing.assert_allclose(u.T @ u, v @ v.T, atol=1e-11)
    measured = np.linalg.norm(matrix - u @ v) / np.linalg.norm(matrix)
    assert measured == pytest.approx(relative_error(svd.values, rank), abs=1e-12)


def test_signs_do_not_depend_on_the_route_or_the_sign_of_anything(route):
    svd = decompose(np.random.default_rng(5).standard_normal((15, 9)))
    largest = np.abs(svd.left).argmax(axis=0)
    assert (svd.left[largest, np.arange(9)] > 0).all()


def test_low_precision_input_is_worked_on_in_float64():
    matrix = np.random.default_rng(6).standard_normal((8, 5)).astype(np.float16)
    assert singular_spectrum(matrix).dtype == np.float64
    assert decompose(matrix).factors(2)[0].dtype == np.float64


# Products of thin factors


def product(rng, m, r, n):
    return rng.standard_normal((m, r)), rng.standard_normal((r, n))


@pytest.mark.parametrize(
    ("m", "r", "n"), [(30, 6, 20), (20, 6, 30), (4, 6, 9), (9, 6, 4), (5, 1, 5)]
)
def test_a_product_decomposes_as_the_matrix_it_is(m, r, n):
    u, v = product(np.random.default_rng(7), m, r, n)
    thin, full = decompose_product(u, v), decompose(u @ v)
    k = min(m, r, n)
    assert thin.values.shape == (k,)
    np.testing.assert_allclose(thin.values, full.values[:k], rtol=1e-9)
    np.testing.assert_allclose(thin.left, full.left[:, :k], atol=1e-9)
    np.testing.assert_allclose(thin.right, full.right[:k], atol=1e-9)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_rotations_carry_the_old_factors_into_the_new(rank):
    u, v = product(np.random.default_rng(8), 30, 6, 20)
    svd = decompose_product(u, v)
    rotate_u, rotate_v = svd.rotations(rank)
    assert rotate_u.shape == (6, rank)
    assert rotate_v.shape == (rank, 6)
    new_u, new_v = svd.factors(rank)
    np.testing.assert_allclose(u @ rotate_u, new_u, atol=1e-11)
    np.testing.assert_allclose(rotate_v @ v, new_v, atol=1e-11)
    np.testing.assert_allclose(rotate_v @ rotate_u, np.eye(rank), atol=1e-11)


def test_balanced_factors_are_only_rotated():
    u, v = decompose(np.random.default_rng(9).standard_normal((12, 10))).factors(5)
    mixing = orthonormal(np.random.default_rng(10), 5, 5)
    rotate_u, rotate_v = decompose_product(u @ mixing, mixing.T @ v).rotations(5)
    np.testing.assert_allclose(rotate_u.T @ rotate_u, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(rotate_v, rotate_u.T, atol=1e-12)


def test_a_gauge_change_moves_nothing():
    rng = np.random.default_rng(11)
    u, v = product(rng, 30, 6, 20)
    gauge = rng.standard_normal((6, 6)) + 3 * np.eye(6)
    one, other = decompose_product(u, v), decompose_product(u @ gauge, np.linalg.solve(gauge, v))
    np.testing.assert_allclose(one.values, other.values, rtol=1e-9)
    for a, b in zip(one.factors(4), other.factors(4), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("which", ["repeated", "zero", "lopsided", "all zero", "tiny column"])
def test_deficient_factors_give_finite_moderate_rotations(which):
    u, v = product(np.random.default_rng(12), 30, 6, 20)
    if which == "repeated":
        u[:, 1] = u[:, 0]
    elif which == "zero":
        u[:, 2] = 0
    elif which == "lopsided":
        u[:, 3], v[4] = 0, v[5]
    elif which == "all zero":
        u[:] = 0
    else:
        u[:, 2] *= 1e-30
    svd = decompose_product(u, v)
    rotations = svd.rotations(6)
    assert all(np.isfinite(r).all() and np.abs(r).max(initial=0) < 100 for r in rotations)
    new_u, new_v = svd.factors(6)
    np.testing.assert_allclose(u @ rotations[0], new_u, atol=1e-10)
    np.testing.assert_allclose(rotations[1] @ v, new_v, atol=1e-10)
    np.testing.assert_allclose(new_u @ new_v, u @ v, atol=1e-10)


def test_cutting_twice_is_cutting_once_to_the_smaller_rank():
    svd = decompose(np.random.default_rng(13).standard_normal((25, 18)))
    twice = decompose_product(*svd.factors(10)).factors(4)
    for a, b in zip(twice, svd.factors(4), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


# What a rank keeps

SPECTRUM = st.lists(st.floats(0, 1e300), min_size=1, max_size=30).map(
    lambda values: np.sort(np.array(values))[::-1]
)


@settings(max_examples=60, deadline=None)
@given(SPECTRUM)
def test_energy_never_falls_and_the_error_is_its_complement(s):
    kept, lost = cumulative_energy(s), relative_errors(s)
    assert kept.shape == lost.shape == (len(s) + 1,)
    assert (np.diff(kept) >= 0).all()
    assert (np.diff(lost) <= 0).all()
    assert kept[-1] == 1
    assert lost[-1] == 0
    assert kept[0] == (0 if s[0] else 1)
    np.testing.assert_allclose(lost**2, 1 - kept, atol=4 * EPS * len(s))
    assert energy(s, len(s)) == 1
    assert (0 if not s[0] else 1) <= stable_rank(s) <= len(s) * (1 + EPS)


def test_a_small_error_keeps_its_digits():
    assert relative_error([1.0, 1e-12], 1) == pytest.approx(1e-12, rel=1e-12, abs=0)


def test_stable_rank_counts_equal_values_and_no_others():
    assert stable_rank(np.ones(7)) == 7
    assert stable_rank([5.0, 0.0]) == 1
    assert stable_rank([0.0, 0.0]) == 0


# Bad input


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_entry_that_is_not_finite_is_counted(value):
    matrix = np.ones((4, 5))
    matrix[1, 2] = matrix[3, 3] = value
    for function in (singular_spectrum, decompose, lambda w: decompose_product(w, w.T)):
        with pytest.raises(SpectrumError, match=r"2 of 20 entries .* shape \(4, 5\)"):
            function(matrix)


@pytest.mark.parametrize("matrix", [np.ones(3), np.ones((2, 2, 2)), np.ones((0, 3))])
def test_what_is_no_matrix_is_refused(matrix):
    with pytest.raises(ArgumentError, match="Received: shape"):
        singular_spectrum(matrix)


def test_complex_matrices_are_refused():
    with pytest.raises(ArgumentTypeError, match="complex"):
        singular_spectrum(np.ones((2, 2), dtype=complex))


def test_factors_that_cannot_be_multiplied_are_refused():
    with pytest.raises(ArgumentError, match="inner length"):
        decompose_product(np.ones((4, 2)), np.ones((3, 4)))


@pytest.mark.parametrize("rank", [0, 4, -1])
def test_a_rank_outside_its_range_is_refused(rank):
    with pytest.raises(ArgumentError, match=f"rank={rank}"):
        decompose(np.eye(3)).factors(rank)


@pytest.mark.parametrize("s", [[1.0, 2.0], [1.0, -1.0], [np.nan], [], [[1.0]]])
def test_what_is_no_spectrum_is_refused(s):
    with pytest.raises(SpectrumError):
        cumulative_energy(s)


def test_lapack_giving_up_is_told_with_the_shape(monkeypatch):
    def give_up(*args, **kwargs):
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(np.linalg, "svd", give_up)
    for function in (singular_spectrum, decompose, lambda w: decompose_product(w, w)):
        with pytest.raises(SpectrumError, match=r"\(3, 3\)"):
            function(np.eye(3))
