"""A network that fits its samples has no gradients to judge by; targets of others give them."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from reducible_train import _keras, factorize
from reducible_train._keras import data as data_room
from reducible_train.datasets import load

L = keras.layers


def compiled(model, loss="mse"):
    model.compile("sgd", loss)
    return model


def two_layers():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((6,)), L.Dense(8, activation="tanh", name="first"), L.Dense(3)]
    )


def two_heads():
    inputs = keras.Input((6,))
    x = L.Dense(8, activation="tanh", name="first")(inputs)
    return keras.Model(inputs, [L.Dense(3)(x), L.Dense(2)(x)])


def batch_of(model, samples=10):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(samples, *model.inputs[0].shape[1:])).astype("float32")
    y = [rng.normal(size=(samples, *o.shape[1:])).astype("float32") for o in model.outputs]
    return x, y[0] if len(y) == 1 else y, None


def gradients(model, batch, **options):
    layers = [layer for layer in model.layers if layer.name.startswith("first")]
    found = _keras.output_gradients(model, layers, batch, **options)
    return [_keras.host_float(each.gradient) for each in found]


def exchanged(batch, ignored=()):
    return data_room._exchanged(batch, ignored)


@pytest.mark.parametrize("made", [two_layers, two_heads])
def test_both_losses_add_up(made):
    model = compiled(made())
    batch = batch_of(model)
    (own,), (other,) = gradients(model, batch), gradients(model, exchanged(batch))
    (both,) = gradients(model, batch, others=0.3)
    np.testing.assert_allclose(both, own + 0.3 * other, rtol=1e-4, atol=1e-6)


def test_a_sample_by_itself_has_its_own_target():
    model = compiled(two_layers())
    batch = batch_of(model, samples=1)
    (own,), (both,) = gradients(model, batch), gradients(model, batch, others=0.3)
    np.testing.assert_allclose(both, 1.3 * own, rtol=1e-5)


def test_a_loss_that_the_model_adds_itself_has_no_targets():
    class Adds(keras.layers.Layer):
        def call(self, x):
            self.add_loss(keras.ops.mean(keras.ops.square(x)))
            return x

    model = two_layers()
    model.add(Adds())
    model.compile("sgd")
    x, _, _ = batch_of(model)
    (own,), (both,) = (gradients(model, (x, None, None), others=o) for o in (0.0, 0.3))
    assert own.any()
    np.testing.assert_array_equal(both, own)


def test_a_target_that_only_its_own_sample_can_have_is_not_exchanged():
    """As a CTC loss is infinite where a word is longer than the sound."""

    def loss(y, predicted):
        return keras.ops.square(predicted - y) / keras.ops.cast(y[0, 0] == first, "float32")

    model = compiled(two_layers(), loss)
    batch = batch_of(model)
    first = batch[1][0, 0]
    (own,), (both,) = (gradients(model, batch, others=o) for o in (0.0, 0.3))
    assert np.isfinite(own).all()
    np.testing.assert_array_equal(both, own)


def test_a_loss_that_refuses_the_target_of_another_is_asked_for_its_own_only():
    class Strict(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            if np.asarray(y)[0, 0] != first:
                raise ValueError("label longer than input")
            return keras.ops.mean(keras.ops.square(y_pred - y))

    model = compiled(Strict(two_layers().layers))
    model.build((None, 6))
    batch = batch_of(two_layers())
    first = batch[1][0, 0]
    (own,), (both,) = (gradients(model, batch, others=o) for o in (0.0, 0.3))
    np.testing.assert_array_equal(both, own)


@pytest.mark.parametrize("count", [2, 3, 128, 512])
def test_targets_in_a_regular_order_are_exchanged_too(count):
    y = np.arange(count)
    _, other, _ = exchanged((np.zeros((count, 1)), y, None))
    other = np.asarray(other)
    assert sorted(other) == list(y)
    assert (other != y).all()
    if count > 100:
        assert 0.3 < (other % 2 != y % 2).mean() < 0.7


def test_what_a_loss_ignores_stays_where_it_is():
    """Positions without a label are those of the sample; no other becomes one."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4, 6)), L.Dense(5, name="first")])
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 4, 6)).astype("float32"), rng.integers(5, size=(8, 4))
    y[rng.random(y.shape) < 0.4] = -1
    (both,) = gradients(compiled(model, loss), (x, y, None), others=0.3)
    assert not both[y == -1].any()
    assert both[y >= 0].any(axis=-1).all()


def test_a_network_that_fits_its_samples_is_judged_by_what_others_would_change(monkeypatch):
    """On digits it never saw, right after one cut."""
    data = load("digits")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), *(L.Dense(64, "relu") for _ in range(3))])
    model.add(L.Dense(10))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"], run_eagerly=False)
    model.fit(data.x_train, data.y_train, batch_size=32, epochs=25, verbose=0)
    assert model.evaluate(data.x_train, data.y_train, verbose=0)[1] == 1.0
    trained = model.get_weights()

    def lost(others):
        monkeypatch.setattr("reducible_train.selection.statistics._OTHERS", others)
        cut = keras.models.clone_model(model)
        cut.set_weights(trained)
        cut.compile("sgd", loss, metrics=["accuracy"])
        factorize(cut, 0.2, criterion="fisher", calibration=(data.x_train, data.y_train))
        return cut.evaluate(data.x_test, data.y_test, verbose=0)[0]

    assert lost(0.1) < 0.9 * lost(0.0)
