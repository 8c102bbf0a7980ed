"""Laws of what a budget gives to kernels that may be split in two ways, and to idle ones."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from reducible_train import factorize
from reducible_train.selection import shared_budget


def gratings(samples=400, size=12):
    """Images of stripes in noise, and which of four ways they run."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]
    classes = rng.integers(0, 4, samples)
    angle, phase = (
        each[:, None, None] for each in (np.pi * classes / 4, 6.28 * rng.random(samples))
    )
    x = np.sin(1.3 * (np.cos(angle) * rows + np.sin(angle) * columns) + phase)
    x += rng.normal(size=x.shape)
    return x[..., None].astype("float32"), classes


def test_a_convolution_has_the_form_that_loses_least_at_what_it_is_given(monkeypatch):
    """Not at what it would be given if all were cut alike, nor relative to each form's energy."""
    x, y = gratings()
    keras.utils.set_random_seed(4)
    strided = {"strides": 2, "padding": "same", "activation": "relu"}
    model = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            keras.layers.Conv2D(8, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(16, 3, **strided),
            keras.layers.Conv2D(24, 3, **strided),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(5e-3), loss)
    model.fit(x, y, epochs=3, batch_size=40, verbose=0)
    start = keras.models.clone_model(model)
    start.set_weights(model.get_weights())
    found, always = {}, shared_budget._LOOKS
    for looks in (0, always):
        monkeypatch.setattr(shared_budget, "_LOOKS", looks)
        for budget in (0.4, 0.3):
            cut = keras.models.clone_model(start)
            cut.set_weights(start.get_weights())
            cut.compile("sgd", loss)
            factorize(cut, budget, measure="flops", calibration=(x, y))
            found[looks, budget] = cut.evaluate(x, y, verbose=0)
    for budget in (0.4, 0.3):
        assert found[always, budget] < 0.9 * found[0, budget]


@pytest.mark.parametrize("criterion", ["auto", "activation"])
def test_a_kernel_whose_inputs_stay_the_same_takes_nothing_from_the_others(criterion):
    """In whatever unit they are; for no cut of it loses anything on the samples."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 16)).astype("float32")
    ranks = []
    for size in (1.0, 1000.0):
        keras.utils.set_random_seed(0)
        side = keras.Input((24,))
        given = keras.Input((16,))
        h = keras.layers.Dense(32, "relu", name="first")(given)
        h = h + keras.layers.Dense(32, name="of_side")(side)
        h = keras.layers.Dense(32, "relu", name="second")(h)
        model = keras.Model([given, side], keras.layers.Dense(4)(h))
        layer = model.get_layer("of_side")
        layer.kernel.assign(layer.kernel / size)
        model.compile("sgd", "mse")
        samples = [x, np.full((64, 24), size, "float32")], np.tanh(x[:, :4])
        report = factorize(model, 0.5, calibration=samples, criterion=criterion, allocation="auto")
        ranks.append(report.ranks)
        told = "In the budget, least, for no cut of them changes anything on the samples: of_side"
        assert told in str(report)
    assert ranks[0] == ranks[1]
    assert ranks[0]["of_side/kernel"] == 4
