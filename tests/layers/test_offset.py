"""What takes up the mean of what a cut loses: a bias, or a BatchNormalization without one."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import zoo

from reducible_train import LayerRule, RankScheduler, factorize
from reducible_train.layers import find_kernels, patches
from reducible_train.selection import statistics
from reducible_train.selection.scoring import decomposition
from reducible_train.surgery.change import change_kernels, cut

L = keras.layers
IMAGE = (8, 8, 6)


class OwnNormalization(L.BatchNormalization):
    """May compute otherwise."""


def conv(**settings: Any) -> keras.Layer:
    return L.Conv2D(12, 3, **{"use_bias": False, "name": "conv", **settings})


def chain(*layers: keras.Layer, shape: tuple[int, ...] = IMAGE) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *layers])


def grown_one_by_one(*layers: keras.Layer, shape: tuple[int, ...] = IMAGE) -> keras.Model:
    model = keras.Sequential([keras.Input(shape)])
    for layer in layers:
        model.add(layer)
    return model


def nested() -> keras.Model:
    inputs = keras.Input(IMAGE)
    return keras.Model(inputs, L.ReLU()(chain(conv(), L.BatchNormalization(name="norm"))(inputs)))


def shared_by_two_calls() -> keras.Model:
    first, second = keras.Input(IMAGE), keras.Input(IMAGE)
    layer, norm = conv(), L.BatchNormalization(name="norm")
    return keras.Model([first, second], L.Add()([norm(layer(first)), norm(layer(second))]))


WITH = {
    "conv": lambda: chain(conv(), L.BatchNormalization(name="norm"), L.ReLU()),
    "grown": lambda: grown_one_by_one(conv(), L.BatchNormalization(name="norm"), L.ReLU()),
    "nested": nested,
    "shared": shared_by_two_calls,
    "grouped": lambda: chain(conv(groups=2), L.BatchNormalization(name="norm")),
    "separable": lambda: chain(
        L.SeparableConv2D(12, 3, use_bias=False, name="conv"), L.BatchNormalization(name="norm")
    ),
    "dense": lambda: chain(
        L.Dense(9, use_bias=False, name="conv"), L.BatchNormalization(name="norm"), shape=(7,)
    ),
    "frozen": lambda: chain(conv(), L.BatchNormalization(trainable=False, name="norm")),
}


def two_ways() -> keras.Model:
    inputs = keras.Input(IMAGE)
    x = conv()(inputs)
    return keras.Model(inputs, L.Add()([L.BatchNormalization()(x), x]))


def two_normalizations() -> keras.Model:
    inputs = keras.Input(IMAGE)
    x = conv()(inputs)
    return keras.Model(inputs, L.Add()([L.BatchNormalization()(x), L.BatchNormalization()(x)]))


def given_out() -> keras.Model:
    inputs = keras.Input(IMAGE)
    x = conv()(inputs)
    return keras.Model(inputs, [L.BatchNormalization()(x), x])


def given_out_by_a_part() -> keras.Model:
    inputs, within = keras.Input(IMAGE), keras.Input(IMAGE)
    x = conv()(within)
    part = keras.Model(within, [L.BatchNormalization()(x), x])
    return keras.Model(inputs, L.Concatenate()(part(inputs)))


def normalization_of_two() -> keras.Model:
    inputs = keras.Input(IMAGE)
    norm = L.BatchNormalization()
    return keras.Model(inputs, L.Add()([norm(conv()(inputs)), norm(conv(name="other")(inputs))]))


class Borrows(keras.Model):
    """Calls by code a layer that a normalization follows in another model, or in a part of it."""

    def __init__(self, layer: keras.Layer, part: keras.Model | None = None):
        super().__init__()
        self.borrowed, self.part = layer, part

    def call(self, inputs: Any) -> Any:
        outputs = self.borrowed(inputs)
        return outputs if self.part is None else self.part(inputs) + outputs


def borrowed(*, from_a_part: bool) -> keras.Model:
    part = chain(conv(), L.BatchNormalization())
    model = Borrows(part.layers[0], part if from_a_part else None)
    model(np.zeros((1, *IMAGE), "float32"))
    return model


def wrapped_too() -> keras.Model:
    inputs = keras.Input(IMAGE)
    layer = conv()
    x = L.BatchNormalization()(layer(inputs))
    y = L.TimeDistributed(layer)(L.Reshape((1, *IMAGE))(inputs))
    return keras.Model(inputs, L.Add()([x, L.Reshape(x.shape[1:])(y)]))


WITHOUT = {
    "of_another_model": lambda: borrowed(from_a_part=False),
    "called_by_code": lambda: borrowed(from_a_part=True),
    "wrapped_too": wrapped_too,
    "two_ways": two_ways,
    "two_normalizations": two_normalizations,
    "given_out": given_out,
    "given_out_by_a_part": given_out_by_a_part,
    "normalization_of_two": normalization_of_two,
    "activation": lambda: chain(conv(activation="relu"), L.BatchNormalization()),
    "own": lambda: chain(conv(), OwnNormalization()),
    "other_axis": lambda: chain(conv(), L.BatchNormalization(axis=1)),
    "nothing": lambda: chain(conv(), L.ReLU()),
    "last": lambda: chain(conv()),
    "pooled": lambda: chain(conv(), L.MaxPooling2D(), L.BatchNormalization()),
    "transposed": lambda: chain(
        L.Conv2DTranspose(12, 3, use_bias=False, name="conv"), L.BatchNormalization()
    ),
}


@pytest.mark.parametrize("make", WITH.values(), ids=WITH)
def test_a_batch_normalization_takes_the_mean_off(make):
    model = make()
    (kernel,) = find_kernels(model)
    norms = [each for each in model._flatten_layers() if each.name == "norm"]
    assert kernel.offset.variable is norms[0].moving_mean
    assert kernel.offset.sign == -1


@pytest.mark.parametrize("make", WITHOUT.values(), ids=WITHOUT)
def test_nothing_takes_the_mean_of_what_is_needed_elsewhere(make):
    assert find_kernels(make())[0].offset is None


def test_what_other_models_do_with_a_layer_does_not_matter():
    model = WITH["conv"]()
    keras.Model(model.inputs, L.ReLU()(model.layers[0].output))
    assert find_kernels(model)[0].offset is not None


@pytest.mark.parametrize("normalized", [True, False])
def test_a_bias_goes_before(normalized):
    model = chain(conv(use_bias=True), *[L.BatchNormalization()] * normalized)
    (kernel,) = find_kernels(model)
    assert (kernel.offset.variable, kernel.offset.sign) == (kernel.layer.bias, 1)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="builds on the CPU there")
def test_the_channels_may_come_first():
    axes = {
        axis: find_kernels(
            chain(conv(data_format="channels_first"), L.BatchNormalization(axis=axis))
        )[0].offset
        for axis in (1, -1)
    }
    assert axes[1] is not None
    assert axes[-1] is None


def normalized(rng: np.random.Generator) -> tuple[keras.Model, np.ndarray]:
    """A network whose inputs have a mean, after a step or two."""
    inputs = keras.Input(IMAGE)
    outputs = L.ReLU()(L.BatchNormalization(name="norm")(conv()(inputs)))
    outputs = L.Dense(4, name="head")(L.GlobalAveragePooling2D()(outputs))
    model = keras.Model(inputs, outputs)
    model.compile("adam", "mse")
    x = (rng.normal(size=(96, *IMAGE)) + rng.normal(2, 1, size=IMAGE[-1])).astype("float32")
    model.fit(x, rng.normal(size=(96, 4)).astype("float32"), verbose=0, epochs=2)
    return model, x


def channels(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """What the normalisation makes of each position."""
    norm = keras.Model(model.input, model.get_layer("norm").output)
    return zoo.as_array(norm(x, training=False)).reshape(-1, 12)


@pytest.mark.parametrize("criterion", ["activation", "fisher"])
def test_the_mean_of_every_channel_stays(rng, criterion, monkeypatch):
    for module in (patches, statistics):  # which look at some of the positions, otherwise
        monkeypatch.setattr(module, "_ROWS", 10_000)
    model, x = normalized(rng)
    y = np.zeros((len(x), 4), "float32")
    before = channels(model, x)
    factorize(model, budget=0.5, calibration=(x, y), criterion=criterion, allocation="uniform")
    after = channels(model, x)
    assert model.get_layer("conv").ranks
    assert np.abs(after - before).max() > 0.1
    np.testing.assert_allclose(after.mean(axis=0), before.mean(axis=0), atol=1e-4)


def test_it_loses_less_than_where_nothing_takes_the_mean(rng):
    model, x = normalized(rng)
    lost = {}
    for way in ("as it is", "needed elsewhere"):
        one = keras.models.clone_model(model)
        one.set_weights(model.get_weights())
        if way == "needed elsewhere":
            one = keras.Model(one.input, [one.output, L.ReLU()(one.get_layer("conv").output)])
        rule = LayerRule("conv", keep_dense=False, rank=9)
        factorize(one, budget=1.0, calibration=x, criterion="activation", rules=[rule])
        lost[way] = np.square(channels(one, x) - channels(model, x)).mean()
    assert lost["as it is"] < 0.95 * lost["needed elsewhere"]


def test_a_cut_in_a_fit_moves_the_mean_that_training_goes_on_with(rng):
    model, x = normalized(rng)
    model.get_layer("norm").trainable = False  # then only the cut moves it
    model.compile("adam", "mse")
    y = rng.normal(size=(96, 4)).astype("float32")
    known = {"criterion": "activation", "calibration": (x, y)}
    cut_once = keras.models.clone_model(model)
    cut_once.set_weights(model.get_weights())
    factorize(cut_once, budget=0.4, **known)
    before = zoo.as_array(model.get_layer("norm").moving_mean)
    model.fit(x, y, epochs=2, verbose=0, callbacks=[RankScheduler(0.4, **known)])
    after = zoo.as_array(model.get_layer("norm").moving_mean)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(
        after, zoo.as_array(cut_once.get_layer("norm").moving_mean), rtol=1e-4
    )


def test_what_fails_gives_the_mean_back(rng, monkeypatch):
    model, _ = normalized(rng)
    norm = model.get_layer("norm")
    before = zoo.as_array(norm.moving_mean).copy()
    kernel, other = find_kernels(model)
    changes = [
        cut(each, 2, decomposition(each), means=[np.ones(each.shape[0])])
        for each in (kernel, other)
    ]
    assigned = type(other.offset.variable).assign

    def fails(variable, value):
        if variable is other.offset.variable:
            raise RuntimeError("no room")
        return assigned(variable, value)

    monkeypatch.setattr(type(other.offset.variable), "assign", fails)
    with pytest.raises(Exception, match="no room"):
        change_kernels(model, changes)
    np.testing.assert_array_equal(zoo.as_array(norm.moving_mean), before)
