"""Whatever a kernel is cut to, its factors can learn what the kernel could."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from kinds import KINDS

from reducible_train import Adaptive, Cadence, LayerRule, RankScheduler, factorize
from reducible_train.layers import as_variables, find_kernels
from reducible_train.selection.scoring import decomposition
from reducible_train.surgery.change import change_kernels, cut

pytestmark = pytest.mark.filterwarnings("ignore::reducible_train.errors.ShortfallWarning")

L = keras.layers


def built(name: str) -> tuple[keras.Model, np.ndarray, list[Any]]:
    """One layer of a kind, what goes in, and its kernels."""
    kind = KINDS[name]
    x = kind.inputs(3)
    layer = kind.make()
    model = keras.Sequential([keras.Input(kind.shape, dtype=x.dtype.name), layer])
    return model, x, [k for k in find_kernels(model) if k.refusal is None]


def gradients(model: keras.Model, x: np.ndarray, variables: list[Any]) -> list[np.ndarray]:
    with tf.GradientTape() as tape:
        y = model(x, training=False)
        loss = tf.reduce_sum(y * np.random.default_rng(1).normal(size=y.shape).astype("float32"))
    found = tape.gradient(loss, [v.value for v in variables], unconnected_gradients="zero")
    return [np.asarray(tf.convert_to_tensor(g)) for g in found]


def fill(kernel: Any, split: str, stripe: bool) -> None:
    """All zeros; or rank 1, of a stack in its first matrix alone."""
    ((matrices),) = kernel.matrices(split)
    rank_1 = np.zeros_like(matrices)
    if stripe:
        rng = np.random.default_rng(0)
        _, m, n = matrices.shape
        rank_1[0] = np.outer(rng.normal(size=m), rng.normal(size=n)) / np.sqrt(m)
    (value,) = as_variables(kernel, split)([rank_1])
    kernel.variables[0].assign(value)


# Of a kernel of zeros and of rank 1; grouped, a stripe leaves a whole group at zero.
CASES = [(n, s) for n, kind in KINDS.items() if not kind.variant for s in (False, True)]
CASES.append(("conv2d groups", True))


@pytest.mark.parametrize(("name", "stripe"), CASES)
def test_zero_directions_learn_in_every_kind(name, stripe):
    model, x, kernels = built(name)
    split = KINDS[name].split
    for kernel in kernels:
        fill(kernel, split or kernel.splits[0], stripe)
    before = [kernel.matrices(split)[0] for kernel in kernels]
    alive = [bool(np.any(gradients(model, x, kernel.variables)[0])) for kernel in kernels]
    for _ in range(2):  # dense to factors, then factors to thinner factors
        for kernel in kernels:
            ranks = kernel.rank or min(kernel.shape_in(split)) + 1
            change_kernels(
                model, [cut(kernel, max(1, ranks - 1), decomposition(kernel, split), split)]
            )
        for kernel, old, learns in zip(kernels, before, alive, strict=True):
            u, v = kernel.matrices()
            np.testing.assert_allclose(u @ v, old, atol=2e-6 * max(1.0, np.abs(old).max()))
            directions = u.any(axis=-2) | v.any(axis=-1)
            assert directions.all(), "no direction is zero in both factors"
            found = gradients(model, x, kernel.variables)
            assert all(np.isfinite(g).all() for g in found)
            assert any(g.any() for g in found) or not learns


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "adafactor": lambda: keras.optimizers.Adafactor(0.01),
    "centred": lambda: keras.optimizers.RMSprop(0.01, centered=True, momentum=0.9),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_go_on_from_a_zero_kernel(name):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((12,)), L.Dense(16, kernel_initializer="zeros", name="zero"), L.Dense(3)]
    )
    model.compile(OPTIMIZERS[name](), "mse", run_eagerly=True)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 12)), rng.normal(size=(64, 3))
    model.fit(x, y, verbose=0)  # the optimizer has learned, of another kernel
    kernel = find_kernels(model)[0]
    kernel.variables[0].assign(np.zeros((12, 16)))
    for rank in (6, 3):
        change_kernels(model, [cut(kernel, rank, decomposition(kernel))])
        start = np.asarray(kernel.layer.kernel)
        model.fit(x, y, verbose=0)
        end = np.asarray(kernel.layer.kernel)
        assert np.isfinite(end).all()
        assert 0 < np.abs(end - start).max() < 0.5


def residual() -> keras.Model:
    """A block that begins as the identity, as residual networks and adapters often do."""
    inputs = keras.Input((24,))
    x = L.Dense(40, "relu", name="up")(inputs)
    x = L.Dense(24, kernel_initializer="zeros", use_bias=False, name="down")(x)
    model = keras.Model(inputs, L.Dense(4, name="output")(L.Add()([inputs, x])))
    model.compile(keras.optimizers.Adam(1e-2), "mse", run_eagerly=True)
    return model


def fit(model: keras.Model, epochs: int = 2, **target: Any) -> RankScheduler:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 24)), rng.normal(size=(64, 4))
    scheduler = RankScheduler(**target)
    model.fit(x, y, epochs=epochs, verbose=0, callbacks=[scheduler])
    return scheduler


@pytest.mark.parametrize(
    "target", [{"energy": 0.5}, {"cadence": Cadence(start=Adaptive(end_epoch=1))}]
)
def test_zeros_are_not_judged_by_their_energy(target):
    report = fit(residual(), epochs=3, **target).report
    down = next(kernel for kernel in report.kernels if kernel.path == "down/kernel")
    assert down.rank is None
    assert ("zeros" in down.remark) == ("energy" in target)


@pytest.mark.parametrize("allocation", ["equal_energy", "knapsack", "uniform"])
def test_a_budget_does_not_starve_a_kernel_that_has_not_learned(allocation):
    model = residual()
    rules = [LayerRule("*", keep_dense=None)]
    ranks = fit(model, epochs=1, budget=0.6, allocation=allocation, rules=rules).report.ranks
    assert ranks.get("down/kernel", 24) > 4
    assert np.any(model.get_layer("down").kernel)


def test_without_training_zeros_cost_nothing():
    report = factorize(residual(), energy=0.9)
    assert report.ranks["down/kernel"] == 1
