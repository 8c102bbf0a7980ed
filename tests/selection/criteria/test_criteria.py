"""Laws of criteria, on matrices and statistics made to order."""

from __future__ import annotations

import numpy as np
import pytest

from reducible_train.errors import ArgumentError, ReducibleError
from reducible_train.linalg.metric import Metric, ridged
from reducible_train.linalg.moments import Moments, Variances
from reducible_train.linalg.roots import Thin
from reducible_train.linalg.separation import Separated
from reducible_train.linalg.svd import decompose, decompose_product, energy_at, relative_error
from reducible_train.linalg.weighted_svd import WeightedStack, weigh, weigh_stack
from reducible_train.selection.criteria import (
    Statistics,
    base,
    criterion,
    criterion_named,
    criterion_names,
)

M, N = 9, 6
DATA_AWARE = [name for name in criterion_names() if criterion_named(name).needs]


def rows(rng, count, k, mean=0.0, spread=None):
    """Vectors whose directions have very different sizes."""
    spread = np.geomspace(10.0, 0.1, k) if spread is None else spread
    turn = np.linalg.qr(rng.standard_normal((k, k)))[0]
    return rng.standard_normal((count, k)) * spread @ turn.T + mean


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def statistics(rng):
    return Statistics(
        inputs=Moments.of(rows(rng, 300, M, mean=2.0)), gradients=Moments.of(rows(rng, 300, N))
    )


@pytest.fixture(params=["dense", "factors"])
def matrices(request, rng):
    if request.param == "dense":
        return [rng.standard_normal((M, N))]
    return [rng.standard_normal((M, 4)), rng.standard_normal((4, N))]


def product(matrices):
    return matrices[0] if len(matrices) == 1 else matrices[0] @ matrices[1]


def error_of(found, rank):
    return WeightedStack((found,)).relative_error(rank)


def energy_of(found, rank):
    return energy_at(error_of(found, rank))


@pytest.mark.parametrize("name", criterion_names())
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_the_weighted_spectrum_says_what_is_lost(name, rank, matrices, statistics):
    metric = criterion_named(name).metric(statistics)
    found = weigh(matrices, metric)
    u, v = found.factors(rank)
    lost = metric.squared(product(matrices) - u @ v)
    assert lost == pytest.approx((found.values[rank:] ** 2).sum(), rel=1e-9, abs=1e-9)
    assert metric.squared(product(matrices)) == pytest.approx((found.values**2).sum())


@pytest.mark.parametrize("name", criterion_names())
def test_factors_are_balanced_and_no_competitor_is_better(name, matrices, statistics, rng):
    metric = criterion_named(name).metric(statistics)
    kernel = product(matrices)
    u, v = weigh(matrices, metric).factors(2)
    np.testing.assert_allclose(u.T @ u, v @ v.T, atol=1e-10)
    best = metric.squared(kernel - u @ v)
    plain = np.matmul(*decompose(kernel).factors(2))
    assert best <= metric.squared(kernel - plain) * (1 + 1e-12)
    for scale in (1e-4, 1e-2, 1.0):
        for _ in range(20):
            near = (u + scale * rng.standard_normal(u.shape)) @ (
                v + scale * rng.standard_normal(v.shape)
            )
            assert best <= metric.squared(kernel - near)


@pytest.mark.parametrize("name", DATA_AWARE)
def test_data_makes_a_difference(name, matrices, statistics):
    """So that the law above is no tautology: the plain truncation is clearly worse."""
    metric = criterion_named(name).metric(statistics)
    kernel = product(matrices)
    weighted = np.matmul(*weigh(matrices, metric).factors(2))
    plain = np.matmul(*decompose(kernel).factors(2))
    assert metric.squared(kernel - weighted) < 0.8 * metric.squared(kernel - plain)


@pytest.mark.parametrize("name", criterion_names())
def test_statistics_of_white_data_give_the_plain_decomposition(name, matrices, rng):
    white = Statistics(
        inputs=Moments(2, np.zeros(M), 2 * np.eye(M)), gradients=Moments(2, np.zeros(N), np.eye(N))
    )
    found = weigh(matrices, criterion_named(name).metric(white))
    plain = decompose(product(matrices))
    shared = len(found.values)
    np.testing.assert_allclose(
        found.values / found.values[0], plain.values[:shared] / plain.values[0], atol=1e-10
    )
    np.testing.assert_allclose(
        np.matmul(*found.factors(3)), np.matmul(*plain.factors(3)), atol=1e-10
    )


def test_without_a_metric_the_numbers_are_those_of_the_plain_decomposition(rng):
    u, v = rng.standard_normal((M, 4)), rng.standard_normal((4, N))
    plain, found = decompose_product(u, v), weigh([u, v])
    for ours, theirs in (
        (found.factors(2), plain.factors(2)),
        (found.rotations(2), plain.rotations(2)),
    ):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)
    assert error_of(found, 2) == pytest.approx(relative_error(plain.values, 2), rel=1e-9)


@pytest.mark.parametrize("name", criterion_names())
@pytest.mark.parametrize("rank", [1, 3, 4])
def test_rotations_lead_from_the_old_factors_to_the_new(name, rank, statistics, rng):
    u, v = rng.standard_normal((M, 4)), rng.standard_normal((4, N))
    found = weigh([u, v], criterion_named(name).metric(statistics))
    right, left = found.rotations(rank)
    new_u, new_v = found.factors(rank)
    np.testing.assert_allclose(u @ right, new_u, atol=1e-9)
    np.testing.assert_allclose(left @ v, new_v, atol=1e-9)


@pytest.mark.parametrize("name", criterion_names())
def test_a_gauge_of_the_factors_changes_nothing(name, statistics, rng):
    u, v = rng.standard_normal((M, 4)), rng.standard_normal((4, N))
    gauge = rng.standard_normal((4, 4))
    metric = criterion_named(name).metric(statistics)
    one, other = weigh([u, v], metric), weigh([u @ gauge, np.linalg.solve(gauge, v)], metric)
    np.testing.assert_allclose(one.values, other.values, rtol=1e-9)
    for ours, theirs in zip(one.factors(2), other.factors(2), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("name", criterion_names())
def test_the_plain_error_is_that_of_the_kernel_matrix(name, matrices, statistics):
    found = weigh(matrices, criterion_named(name).metric(statistics))
    kernel = product(matrices)
    error = np.linalg.norm(kernel - np.matmul(*found.factors(2))) / np.linalg.norm(kernel)
    assert error_of(found, 2) == pytest.approx(error, rel=1e-9)
    assert energy_of(found, 2) == pytest.approx(1 - error**2, rel=1e-9)
    assert error_of(found, 2) >= relative_error(decompose(kernel).values, 2) - 1e-12


@pytest.mark.parametrize("name", criterion_names())
def test_nothing_is_lost_at_full_rank(name, matrices, statistics):
    found = weigh(matrices, criterion_named(name).metric(statistics))
    assert error_of(found, len(found.values)) < 1e-10
    assert energy_of(found, len(found.values)) == pytest.approx(1)


@pytest.mark.parametrize("name", DATA_AWARE)
@pytest.mark.parametrize("seen", [1, 3], ids=["one vector", "three vectors"])
def test_statistics_of_deficient_rank_are_usable(name, seen, matrices, rng):
    """Fewer vectors than inputs, as for a small calibration set; dead inputs and outputs."""
    x, g = rows(rng, seen, M, mean=1.0), rows(rng, seen, N)
    x[:, 0] = g[:, 0] = 0
    metric = criterion_named(name).metric(Statistics(Moments.of(x), Moments.of(g)))
    found = weigh(matrices, metric)
    u, v = found.factors(3)
    assert np.isfinite(u).all()
    assert np.isfinite(v).all()
    lost = metric.squared(product(matrices) - u @ v)
    assert lost == pytest.approx((found.values[3:] ** 2).sum(), rel=1e-6, abs=1e-9)


def test_data_that_says_nothing_weighs_nothing():
    silent = Statistics(Moments.of(np.ones((5, M))), Moments.of(np.zeros((5, N))))
    for name in DATA_AWARE:
        assert criterion_named(name).metric(silent).plain


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("name", DATA_AWARE)
def test_the_scale_of_the_data_does_not_matter(name, scale, matrices, rng):
    x, g = rows(rng, 50, M), rows(rng, 50, N)
    one, other = (
        weigh(
            matrices,
            criterion_named(name).metric(Statistics(Moments.of(x * f), Moments.of(g * f))),
        )
        for f in (1.0, scale)
    )
    for ours, theirs in zip(one.factors(2), other.factors(2), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-8)


def test_the_ridge_is_relative_to_the_trace(rng):
    x = rows(rng, 3, M)
    moment = Moments.of(x).covariance
    raised = ridged(moment, 0.01)
    smallest = np.linalg.eigvalsh(raised)[0]
    assert smallest == pytest.approx(0.01 * np.trace(moment) / M)


def test_only_the_spread_of_the_inputs_counts_where_a_bias_folds_the_mean(matrices, rng):
    """A huge mean takes a direction of its own, unless it is centred away."""
    x = rows(rng, 200, M, spread=np.ones(M))
    shifted = x + 1000.0
    for name in DATA_AWARE:
        metric = criterion_named(name).metric
        g = Moments.of(rows(rng, 50, N))
        near = weigh(matrices, metric(Statistics(Moments.of(x), g)))
        far = weigh(matrices, metric(Statistics(Moments.of(shifted), g)))
        np.testing.assert_allclose(near.values, far.values, rtol=1e-6)
        kept = weigh(matrices, metric(Statistics(Moments.of(shifted), g, absorbs_mean=False)))
        assert kept.values[0] > 50 * near.values[0]


@pytest.mark.parametrize("name", criterion_names())
def test_the_mean_folded_into_the_bias_moves_no_mean_output(name, matrices, statistics, rng):
    x = rows(rng, 300, M, mean=2.0)
    moments = Moments.of(x)
    metric = criterion_named(name).metric(Statistics(moments, statistics.gradients))
    found = weigh(matrices, metric)
    u, v = found.factors(1)
    before, after = (x @ product(matrices)).mean(0), (x @ u @ v).mean(0)
    assert np.abs(before - after).max() > 1e-3
    shift = found.output_shift(1, moments.mean)
    np.testing.assert_allclose(after + shift, before, atol=1e-10)


def test_activation_minimises_the_change_of_the_output_bias_included(rng):
    """Against every competitor with the best bias it can have."""
    x = rows(rng, 500, M, mean=3.0)
    kernel = rng.standard_normal((M, N))
    moments = Moments.of(x)
    found = weigh([kernel], criterion_named("activation").metric(Statistics(moments)))

    def changed(u, v):
        off = x @ (kernel - u @ v)
        return ((off - off.mean(0)) ** 2).sum(1).mean()

    u, v = found.factors(2)
    best = changed(u, v)
    shift = found.output_shift(2, moments.mean)
    assert ((x @ (kernel - u @ v) - shift) ** 2).sum(1).mean() == pytest.approx(best)
    # The ridge asks for a little less than the very best on this data.
    assert best <= (found.values[2:] ** 2).sum() * (1 + 1e-9)
    assert best < 0.5 * changed(*decompose(kernel).factors(2))
    for _ in range(50):
        assert best <= changed(
            u + 0.1 * rng.standard_normal(u.shape), v + 0.1 * rng.standard_normal(v.shape)
        )


def test_fisher_of_a_linear_model_is_the_rise_of_its_loss(rng):
    """Squared loss, gradients independent of inputs: the Hessian, and a floor for every output."""
    x, g = rows(rng, 4000, M), rows(rng, 4000, N)
    metric = criterion_named("fisher").metric(Statistics(Moments.of(x), Moments.of(g)))
    error = rng.standard_normal((M, N))
    # E (g . x D)^2 for g independent of x is tr(A D G D^T).
    measured = (((x @ error) @ g.T) ** 2).mean()
    floor = 0.3 * (g**2).mean() * ((x @ error) ** 2).sum(axis=1).mean()
    assert metric.squared(error) == pytest.approx(measured + floor, rel=0.02)


def pieces(rng, count, mean=0.0):
    """Inputs `(3, M)` whose pieces are alike but for their size, as rows of `(M, 3)`."""
    strength = rows(rng, count, 3, spread=np.array([2.0, 1.0, 0.3]))
    seen = strength[:, :, None] * rows(rng, count, M)[:, None, :]
    return np.moveaxis(seen, 1, 2).reshape(count, -1) + mean


@pytest.mark.parametrize("name", DATA_AWARE)
def test_pieces_that_differ_in_size_alone_are_weighed_exactly(name, rng):
    """The metric of `(M, 3 N)` is that of `(M 3, N)`, in which an input is one row."""
    x, g = pieces(rng, 60_000), Moments.of(rows(rng, 300, N))
    rule = criterion_named(name)
    whole = rule.metric(Statistics(Moments.of(x), g))
    parted = rule.metric_of(Statistics(Separated(Moments.of(x), (M, 3), (1,)), g))
    for _ in range(5):
        error = rng.standard_normal((M, 3, N))
        expected = whole.squared(error.reshape(3 * M, N))
        assert parted.squared(error.reshape(M, 3 * N)) == pytest.approx(expected, rel=0.05)
    exact = weigh([error.reshape(M, 3 * N)], parted)
    assert parted.squared(error.reshape(M, 3 * N)) == pytest.approx((exact.values**2).sum())


@pytest.mark.parametrize("name", DATA_AWARE)
def test_variances_weigh_as_moments_of_which_nothing_is_known_beside_the_diagonal(name, rng):
    """Of one piece, and of several, whose numbers vary alike but for their size."""
    x, g = pieces(rng, 60_000), rows(rng, 300, N)
    rule, diagonal = criterion_named(name), Variances.of(x)
    for gradients in (Moments.of(g), Variances.of(g)):
        whole = rule.metric_of(Statistics(diagonal, gradients))
        parted = rule.metric_of(Statistics(Separated(diagonal, (M, 3), (1,)), gradients))
        assert parted.refit is None
        inputs = np.diag(ridged(np.diag(Moments.of(x).covariance)))
        outputs = np.eye(N) if whole.outputs is None else whole.outputs
        outputs = np.diag(outputs) if outputs.ndim == 1 else outputs
        error = rng.standard_normal((M, 3, N))
        one, other = error.reshape(3 * M, N), error.reshape(M, 3 * N)
        assert whole.squared(one) == pytest.approx(np.trace(one.T @ inputs @ one @ outputs))
        assert parted.squared(other) == pytest.approx(whole.squared(one), rel=0.05)
        for matrix, metric in ((one, whole), (other, parted)):
            found = weigh([matrix], metric)
            lost = metric.squared(matrix - np.matmul(*found.factors(2)))
            assert lost == pytest.approx((found.values[2:] ** 2).sum())


def test_the_bias_takes_up_the_means_of_all_pieces(rng):
    """An output is the sum over the pieces, each times its own block of columns."""
    x = pieces(rng, 500, mean=rng.standard_normal(3 * M))
    kernel = rng.standard_normal((M, 3, N))
    statistics = Statistics(Separated(Moments.of(x), (M, 3), (1,)))
    metric = criterion_named("activation").metric_of(statistics)
    found = weigh([kernel.reshape(M, 3 * N)], metric)
    cut = np.matmul(*found.factors(2)).reshape(3 * M, N)
    change = (x @ (kernel.reshape(3 * M, N) - cut)).mean(0)
    assert np.abs(change).max() > 1e-3
    np.testing.assert_allclose(found.output_shift(2, statistics.mean), change, atol=1e-10)


def test_without_a_bias_the_pieces_keep_their_mean(rng):
    x = pieces(rng, 500, mean=3.0)
    seen = Separated(Moments.of(x), (M, 3), (1,))
    folded, kept = Statistics(seen), Statistics(seen, absorbs_mean=False)
    assert kept.mean is None
    assert np.trace(kept.input_moment) == pytest.approx((x**2).sum() / 500 / 3)
    assert np.trace(folded.input_moment) == pytest.approx(x.var(0).sum() / 3)
    assert np.trace(kept.block_gram) == pytest.approx(3)
    assert kept.block_gram[0, 2] > folded.block_gram[0, 2]


def test_pieces_that_never_change_weigh_nothing():
    still = Statistics(Separated(Moments.of(np.ones((5, 3 * M))), (M, 3), (1,)))
    metric = criterion_named("activation").metric_of(still)
    error = np.ones((M, 3 * N))
    assert metric.squared(error) == pytest.approx((error**2).sum(), rel=0.05)


def test_a_criterion_needs_its_statistics_and_a_name_of_its_own():
    with pytest.raises(ArgumentError, match="statistics of the gradients"):
        criterion_named("fisher").metric(Statistics(Moments.of(np.eye(3))))
    with pytest.raises(ArgumentError, match="statistics of the inputs"):
        criterion_named("activation").metric(Statistics())
    with pytest.raises(ArgumentError, match=r"'frobenius'.*Received: criterion='best'"):
        criterion_named("best")
    with pytest.raises(ArgumentError, match="taken by frobenius"):
        criterion("frobenius")(lambda statistics: Metric())
    with pytest.raises(ArgumentError, match="needs=\\('targets',\\)"):
        criterion("new", needs=("targets",))


@pytest.mark.parametrize("name", [5, "", None, "auto", "measured"])
def test_a_name_that_would_never_be_asked_for_is_refused(name):
    with pytest.raises(ReducibleError, match=f"A criterion must have a name.* Received: {name!r}"):
        criterion(name)


RETURNED = {
    "nothing": (None, "Received: None"),
    "an array": (np.eye(M), "Received: a ndarray"),
    "zero": (Metric(inputs=np.zeros((M, M))), "`inputs` whose diagonal is from 0 to 0"),
    "negative": (Metric(outputs=-np.eye(N)), "`outputs` whose diagonal is from -1 to -1"),
    "nan": (Metric(inputs=np.full((M, M), np.nan)), "`inputs` with 81 of 81 numbers NaN"),
    "a zero of a diagonal": (Metric(inputs=np.arange(M)), "`inputs` whose least number is 0"),
    "a thin one": (Metric(inputs=Thin(np.zeros((2, M)))), "`inputs` whose diagonal is from 0"),
    "a list": (Metric(inputs=[1.0] * M), "`inputs` that is a list"),
    "words": (Metric(inputs=np.array(["a"] * M)), "`inputs` that is a ndarray, of <U1"),
    "one number": (Metric(inputs=np.float64(1)), "`inputs` that is a float64"),
}


@pytest.mark.parametrize("name", RETURNED)
def test_what_a_criterion_of_ones_own_returns_is_looked_at(name, statistics):
    metric, words = RETURNED[name]
    mine = base.Criterion("mine", ("inputs",), lambda known: metric)
    with pytest.raises(ArgumentError, match=f"'mine' must return a Metric.*{words}"):
        mine.metric_of(statistics)


def test_a_weight_that_is_singular_is_a_weight(statistics):
    weight = np.diag([0.0] + [1.0] * (M - 1))
    for metric in (Metric(), Metric(inputs=weight), Metric(inputs=np.ones(M, "float32"))):
        assert base.Criterion("mine", (), lambda known, m=metric: m).metric_of(statistics) is metric


def test_a_criterion_defined_again_takes_the_place_of_its_predecessor(monkeypatch):
    monkeypatch.setattr(base, "_CRITERIA", dict(base._CRITERIA))

    def cell(needs):
        @criterion("new", needs=needs)
        def new(statistics):
            return Metric()

        return new

    for needs in ((), ("inputs",)):
        made = cell(needs)
        assert (criterion_named("new").metric, criterion_named("new").needs) == (made, needs)


def test_what_does_not_fit_is_refused(rng):
    with pytest.raises(ArgumentError, match=r"\(9, 9\). Received: shape \(3, 3\)"):
        weigh([np.ones((9, 6))], Metric(inputs=np.eye(3)))
    with pytest.raises(ArgumentError, match=r"outputs must fit the kernel: shape \(6, 6\)"):
        weigh([np.ones((9, 2)), np.ones((2, 6))], Metric(outputs=np.eye(2)))
    with pytest.raises(ArgumentError, match="a dense kernel"):
        weigh([np.ones((9, 6))]).rotations(1)
    with pytest.raises(ArgumentError, match=r"rank=7"):
        weigh([np.ones((9, 6))], Metric(inputs=np.eye(9))).factors(7)


def test_a_zero_kernel_loses_nothing():
    found = weigh([np.zeros((M, N))], Metric(inputs=np.diag(np.arange(1.0, M + 1))))
    assert error_of(found, 1) == 0
    assert not found.values.any()


@pytest.mark.parametrize("name", criterion_names())
def test_a_stack_is_weighed_matrix_by_matrix_and_counts_together(name, rng):
    """As for a grouped convolution: data of its own for every group, one rank for all."""
    kernels = rng.standard_normal((3, M, N))
    factors = [rng.standard_normal((3, M, 4)), rng.standard_normal((3, 4, N))]
    means = rng.standard_normal((3, M))
    metrics = [
        criterion_named(name).metric(
            Statistics(Moments.of(rows(rng, 50, M)), Moments.of(rows(rng, 50, N)))
        )
        for _ in range(3)
    ]
    for matrices, whole in (([kernels], kernels), (factors, factors[0] @ factors[1])):
        stack = weigh_stack(matrices, metrics)
        u, v = stack.factors(2)
        assert (u.shape, v.shape) == ((3, M, 2), (3, 2, N))
        lost = sum(
            metric.squared(error) for metric, error in zip(metrics, whole - u @ v, strict=True)
        )
        assert lost == pytest.approx((stack.values[2:] ** 2).sum(), rel=1e-9)
        error = np.linalg.norm(whole - u @ v) / np.linalg.norm(whole)
        assert stack.relative_error(2) == pytest.approx(error, rel=1e-9)
        shift = stack.output_shift(2, means)
        np.testing.assert_allclose(shift, np.einsum("gm,gmn->gn", means, whole - u @ v), atol=1e-9)
    right, left = stack.rotations(2)
    np.testing.assert_allclose(factors[0] @ right, u, atol=1e-9)
    np.testing.assert_allclose(left @ factors[1], v, atol=1e-9)
