"""Factors of a kernel split in space, fitted to the moments of its inputs themselves."""

from __future__ import annotations

import numpy as np
import pytest

from reducible_train.linalg.metric import Metric
from reducible_train.linalg.moments import Moments
from reducible_train.linalg.refit import Refit
from reducible_train.linalg.separation import Separated
from reducible_train.linalg.weighted_svd import weigh, weigh_stack

P, M, N, R = 3, 5, 4, 2  # pieces, numbers in each, outputs, rank


def inputs_of(rng, count=400, mean=0.0):
    """Images in which neighbours are alike, so that pieces have much in common."""
    noise = rng.standard_normal((count, M, P + 1))
    return (noise[..., 1:] + noise[..., :-1] + mean).reshape(count, M * P)  # pieces come last


def seen(x):
    return Separated(Moments.of(x), (M, P), (1,))


def answers(x, matrix):
    """What a kernel, or its error, makes of inputs."""
    pieces = x.reshape(len(x), M, P).transpose(0, 2, 1).reshape(len(x), P * M)
    return pieces @ matrix.reshape(M, P, N).transpose(1, 0, 2).reshape(P * M, N)


def truncated(matrix):
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    return left[:, :R] * values[:R], right[:R]


@pytest.mark.parametrize("weighs", [False, True], ids=["alike", "outputs that weigh"])
def test_no_small_step_away_from_what_is_fitted_loses_less(rng, weighs):
    x, kernel = inputs_of(rng), rng.standard_normal((M, P * N))
    outputs = np.diag([9.0, 1.0, 0.5, 0.1]) + 0.05 if weighs else None
    refit = Refit(seen(x), centred=False, outputs=outputs)

    def lost(u, v):
        gone = answers(x, kernel - u @ v)
        return float(np.einsum("ij,jk,ik->", gone, np.eye(N) if outputs is None else outputs, gone))

    first = truncated(kernel)
    u, v = refit(*first, kernel)
    middle = lost(u, first[1])
    assert lost(u, v) < middle < 0.99 * lost(*first)
    for step in 1e-4 * rng.standard_normal((20, R, P * N)):
        assert lost(u, v) <= lost(u, v + step)
    for step in 1e-3 * rng.standard_normal((20, M, R)):
        assert middle <= lost(u + step, first[1]) * (1 + 1e-9)


def test_only_the_spread_counts_where_the_mean_is_made_up_for(rng):
    x, kernel = inputs_of(rng, mean=5.0), rng.standard_normal((M, P * N))
    u, v = Refit(seen(x), centred=True)(*truncated(kernel), kernel)
    spread = np.square(answers(x - x.mean(0), kernel - u @ v)).sum()
    u, v = Refit(seen(x), centred=False)(*truncated(kernel), kernel)
    assert spread < np.square(answers(x - x.mean(0), kernel - u @ v)).sum()


def test_what_loses_nothing_is_left(rng):
    x, u, v = inputs_of(rng), rng.standard_normal((M, R)), rng.standard_normal((R, P * N))
    found = Refit(seen(x), ridge=1e-2)(u, v, u @ v)
    np.testing.assert_allclose(found[0] @ found[1], u @ v, atol=1e-9)


def test_inputs_that_never_change_and_directions_of_nothing_leave_factors_as_they_are(rng):
    kernel = rng.standard_normal((M, P * N))
    first = truncated(kernel)
    still = Refit(seen(np.ones((7, M * P))), ridge=1e-2)
    assert all(a is b for a, b in zip(still(*first, kernel), first, strict=True))
    nothing = np.zeros((M, R)), np.zeros((R, P * N))
    found = Refit(seen(inputs_of(rng)))(*nothing, kernel)
    assert all(np.isfinite(each).all() for each in found)


def test_a_decomposition_is_fitted_balanced_and_of_the_kernel_s_dtype(rng):
    x, kernel = inputs_of(rng), rng.standard_normal((M, P * N)).astype("float32")
    inputs = seen(x)
    weights = {"inputs": inputs.weight(centred=True), "block_gram": inputs.block_gram(centred=True)}
    plain, fitted = (
        weigh([kernel], Metric(**weights, refit=refit)) for refit in (None, Refit(inputs))
    )
    before, (u, v) = plain.factors(R), fitted.factors(R)
    lost = [np.square(answers(x, kernel - a @ b)).sum() for a, b in (before, (u, v))]
    assert lost[1] < 0.99 * lost[0]
    assert u.dtype == v.dtype == np.float32
    np.testing.assert_allclose(u.T @ u, v @ v.T, atol=1e-4)
    assert fitted.error(R) == pytest.approx(np.linalg.norm(kernel - u @ v), rel=1e-4)
    assert [fitted.factors(rank)[0].shape for rank in (3, R)] == [(M, 3), (M, R)]


def test_factors_that_have_learned_keep_it(rng):
    x = inputs_of(rng)
    u, v = rng.standard_normal((M, 3)), rng.standard_normal((3, P * N))
    inputs = seen(x)
    metric = Metric(inputs.weight(centred=True), None, inputs.block_gram(centred=True))
    fitted = Metric(metric.inputs, None, metric.block_gram, Refit(inputs))
    for factor, other in zip(
        weigh([u, v], metric).factors(R), weigh([u, v], fitted).factors(R), strict=True
    ):
        np.testing.assert_array_equal(factor, other)


def test_what_is_kept_holds_no_inputs_and_is_fitted_to_those_of_the_next_look(rng):
    inputs, kernel = seen(inputs_of(rng)), rng.standard_normal((1, M, P * N))
    metrics = [Metric(refit=Refit(inputs))]
    found = weigh_stack([kernel], metrics)
    kept = found.reading(lambda: [kernel])
    assert all(part.refit is None for part in kept.parts)
    again = kept.reading(lambda: [kernel], metrics)
    for factor, other in zip(again.factors(R), found.factors(R), strict=True):
        np.testing.assert_array_equal(factor, other)


def test_factors_that_are_handed_out_may_be_changed(rng):
    found = weigh([rng.standard_normal((M, P * N))], Metric(refit=Refit(seen(inputs_of(rng)))))
    first = [each.copy() for each in found.factors(R)]
    for factor in found.factors(R):
        factor *= 0
    for factor, other in zip(found.factors(R), first, strict=True):
        np.testing.assert_array_equal(factor, other)


def test_a_few_steps_come_as_near_as_many(rng):
    """Of moments as uneven as those of images, hundreds of times their smallest direction."""
    scales = np.geomspace(30.0, 0.1, M)[:, None]
    x = (inputs_of(rng, 2000).reshape(-1, M, P) * scales).reshape(-1, M * P)
    kernel = rng.standard_normal((M, P * N))

    def lost(u, v):
        return np.square(answers(x, kernel - u @ v)).sum()

    inputs = seen(x)
    weights = Metric(inputs.weight(centred=False), None, inputs.block_gram(centred=False))
    u, v = weigh([kernel], weights).factors(R)
    once = Refit(inputs, centred=False)(u, v, kernel)
    best = u, v
    for _ in range(30):
        best = Refit(inputs, centred=False)(best[0], v, kernel)  # `U` for the same `V`, on and on
    assert lost(once[0], v) <= 1.001 * lost(best[0], v)
    assert lost(*once) < 0.999 * lost(u, v)
