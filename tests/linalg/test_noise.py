"""Effective rank and noise edge, on matrices whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from reducible_train.linalg.noise import effective_rank, noise_edge


@pytest.mark.parametrize(("values", "rank"), [([3, 3, 3, 0], 3), ([5, 0], 1), ([0, 0], 0)])
def test_equal_values_count_one_each(values, rank):
    assert effective_rank(values) == pytest.approx(rank)


def test_effective_rank_is_that_of_the_paper():
    shares = np.array([0.5, 0.25, 0.25])
    assert effective_rank(8 * shares) == pytest.approx(2**1.5)


@pytest.mark.parametrize("shape", [(400, 300), (300, 80)])
def test_what_was_planted_in_noise_lies_above_the_edge(shape):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=shape)
    left, right = (np.linalg.qr(rng.normal(size=(side, 3)))[0] for side in shape)
    planted = noise + 2 * (np.sqrt(shape[0]) + np.sqrt(shape[1])) * left @ right.T
    for matrix, count in ((planted, 3), (noise, 0)):
        values = np.linalg.svd(matrix, compute_uv=False)
        assert int(np.sum(values > 1.02 * noise_edge(matrix[None]))) == count


def test_values_of_a_stack_count_together():
    stack = np.random.default_rng(0).normal(size=(4, 200, 150))
    values = np.linalg.norm(np.linalg.svd(stack, compute_uv=False), axis=0)
    assert values[0] == pytest.approx(noise_edge(stack), rel=0.05)
