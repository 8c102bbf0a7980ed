"""Laws of the roots of weights: whatever root it is, it measures errors as the weight does."""

from __future__ import annotations

import numpy as np
import pytest

from reducible_train.linalg import roots
from reducible_train.linalg.metric import Metric, ridged
from reducible_train.linalg.moments import Moments
from reducible_train.linalg.roots import Blocks, Thin, root_of
from reducible_train.linalg.weighted_svd import weigh

K = 12
RNG = np.random.default_rng(0)
FEW = RNG.standard_normal((5, K))
MANY = RNG.standard_normal((40, K))

WEIGHTS = {
    "none": None,
    "diagonal": np.linspace(0.5, 3.0, K),
    "whole": MANY.T @ MANY,
    "thin": Thin(FEW, floor=0.3),
    "singular": FEW.T @ FEW,
}


def whole(weight, size=K):
    if weight is None:
        return np.eye(size)
    if isinstance(weight, Thin):
        return weight.whole
    return np.diag(weight) if weight.ndim == 1 else weight


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_root_measures_errors_as_the_weight_does(name):
    weight, error = WEIGHTS[name], RNG.standard_normal((K, 7))
    root = root_of(weight)
    expected = np.trace(error.T @ whole(weight) @ error)
    for each in (root, root.square):
        assert (each.times(error) ** 2).sum() == pytest.approx(expected)
    square = root.square
    np.testing.assert_allclose(
        square.adjoint(square.times(error)), whole(weight) @ error, atol=1e-6
    )
    if name != "singular":
        np.testing.assert_allclose(square.undone(square.times(error)), error, atol=1e-9)


@pytest.mark.parametrize("within", ["none", "whole", "thin"])
def test_a_root_of_blocks_is_one_of_the_kronecker_product(within):
    across, error = np.array([[2.0, 0.5], [0.5, 1.0]]), RNG.standard_normal((2 * K, 3))
    root = Blocks(root_of(across), root_of(WEIGHTS[within]), 2)
    weight = np.kron(across, whole(WEIGHTS[within]))
    assert (root.times(error) ** 2).sum() == pytest.approx(np.trace(error.T @ weight @ error))
    square = root.square
    np.testing.assert_allclose(square.adjoint(square.times(error)), weight @ error, atol=1e-9)
    np.testing.assert_allclose(square.undone(square.times(error)), error, atol=1e-9)


FORMS = {"tall": (K, 6), "square": (K, K), "wide": (6, K)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("factors", [False, True])
def test_few_vectors_cut_a_kernel_as_the_whole_weight_does(form, factors):
    m, n = FORMS[form]
    x, g = RNG.standard_normal((3, m)), RNG.standard_normal((4, n))
    kernel = [RNG.standard_normal((m, n))]
    if factors:
        kernel = [RNG.standard_normal((m, 5)), RNG.standard_normal((5, n))]
    few = Metric(ridged(Thin(x), 0.1), ridged(Thin(g), 0.1))
    all_of_it = Metric(ridged(x.T @ x, 0.1), ridged(g.T @ g, 0.1))
    ours, theirs = weigh(kernel, few), weigh(kernel, all_of_it)
    size = min(len(ours.values), len(theirs.values))
    np.testing.assert_allclose(ours.values[:size], theirs.values[:size], atol=1e-9)
    for rank in (1, 3):
        (u, v), (other_u, other_v) = ours.factors(rank), theirs.factors(rank)
        np.testing.assert_allclose(u @ v, other_u @ other_v, atol=1e-9)


@pytest.mark.parametrize("shape", [(400, 8), (8, 400)])
def test_of_few_samples_nothing_as_large_as_the_longer_side_is_decomposed(shape, monkeypatch):
    m, n = shape
    x, g = RNG.standard_normal((50, m)), RNG.standard_normal((50, n))
    metric = Metric(
        ridged(Moments.of(x).weight(centred=True)), ridged(Moments.of(g).weight(centred=False))
    )
    decomposed, real = [], roots._factor
    monkeypatch.setattr(roots, "_factor", lambda each: decomposed.append(len(each)) or real(each))
    weigh([RNG.standard_normal(shape)], metric).factors(2)
    assert decomposed == [8]


@pytest.mark.parametrize("rows", [3, 40])
def test_moments_weigh_as_their_vectors_do(rows):
    x = RNG.standard_normal((rows, K)) + 2.0
    weights = RNG.uniform(0.5, 2.0, rows)
    error = RNG.standard_normal((K, 4))
    found = Moments.of(x[:2], weights[:2]).merged(Moments.of(x[2:], weights[2:]))
    centred = x - np.average(x, axis=0, weights=weights)
    for vectors, is_centred in ((centred, True), (x, False)):
        expected = np.average(((vectors @ error) ** 2).sum(1), weights=weights)
        assert found.mean_square(error, centred=is_centred) == pytest.approx(expected)
        factors = error @ np.diag([2.0, 1.0, 1.0, 4.0]), np.diag([0.5, 1.0, 1.0, 0.25])
        assert found.mean_square(*factors, centred=is_centred) == pytest.approx(expected)
        weight = found.weight(centred=is_centred)
        assert isinstance(weight, Thin) is (rows < K)
        assert np.trace(error.T @ whole(weight) @ error) == pytest.approx(expected)
