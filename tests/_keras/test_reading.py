"""Steps and losses are read for what they take by place, and none of them runs."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from reducible_train import factorize
from reducible_train._keras import read_places

L, ops = keras.layers, keras.ops


def made(cls=keras.Model):
    x = keras.Input((4,))
    first, second = L.Dense(4, name="first"), L.Dense(4, name="second")
    model = cls(x, L.Dense(2, name="output")(second(first(x))))
    model.first, model.blocks = first, [second]
    return model


def told_of(model):
    """Layers whose kernels the model's code is read to take by place."""
    told = set()
    read_places(model, told.add)
    return {layer.name for layer in model.layers[1:] if id(layer.kernel) in told}


def local(self, data):
    layer = self.first
    return layer.weights[0]


def loop(self, data):
    found = 0.0
    for layer in self.layers[1:2]:
        found += layer.weights[0]
    return found


def unpacked(self, data):
    kernel, _ = self.first.get_weights()
    return kernel


def nested(self, data):
    def inner():
        return self.first.weights[0]

    return inner()


def reassigned(self, data):
    layer = self.first
    layer = data
    return layer.weights[0]


def stored(self, data):
    self.data = self.first
    return data.weights[0]


FIRST = {
    "attribute": lambda self, data: self.first.weights[0],
    "local": local,
    "listed": lambda self, data: self.layers[1].weights[0],
    "asked for": lambda self, data: self.get_layer("first").trainable_variables[0],
    "values": lambda self, data: self.first.get_weights()[0],
    "method": lambda self, data: self.more(data),
    "property": lambda self, data: self.again.weights[0],
    "slice": lambda self, data: self.first.weights[:1],
    "popped": lambda self, data: self.first.weights.pop(0),
    "handed out": lambda self, data: max(*self.first.weights),
    "loop": loop,
    "comprehension": lambda self, data: [layer.weights[0] for layer in self.layers[:2]],
    "unpacked": unpacked,
    "nested": nested,
}
NONE = {
    "type": lambda self, data: self.first.weights[0].dtype,
    "all": lambda self, data: [ops.sum(each) for each in self.weights],
    "arguments": lambda self, data: data.weights[0],
    "reassigned": reassigned,
    "stored": stored,
    "absent": lambda self, data: self.absent.weights[0],
    "name": lambda self, data: self.first.kernel,
}


def with_step(step, name="train_step"):
    class Own(keras.Model):
        def more(self, data):
            return self.first.weights[0] if data is None else 0.0

        @property
        def again(self):
            assert isinstance(self, list), "nobody's property is asked for"
            return self.first

    setattr(Own, name, step)
    return Own


@pytest.mark.parametrize("how", FIRST)
def test_what_a_step_takes_by_place_is_read(how):
    assert told_of(made(with_step(FIRST[how]))) == {"first"}


@pytest.mark.parametrize("name", ["compute_loss", "test_step"])
def test_losses_and_other_steps_are_read(name):
    assert told_of(made(with_step(FIRST["attribute"], name))) == {"first"}


@pytest.mark.parametrize("how", NONE)
def test_a_step_that_takes_nothing_by_place_tells_nothing(how):
    assert told_of(made(with_step(NONE[how]))) == set()


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_base_is_read_if_the_step_goes_on_to_it(goes_on):
    class Own(with_step(FIRST["attribute"])):
        if goes_on:

            def train_step(self, data):
                return super().train_step(data)
        else:

            def train_step(self, data):
                return {}

    assert told_of(made(Own)) == ({"first"} if goes_on else set())


class OfLayer(keras.losses.Loss):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, y_true, y_pred):
        return self.layer.weights[0]


def by_closure(first):
    return lambda y, p: ops.mean(y - p) + ops.sum(first.weights[0])


def by_default(layer):
    return lambda y, p, first=layer: ops.sum(first.weights[0])


def by_function(first):
    def penalty():
        return ops.sum(first.weights[0])

    return lambda y, p: ops.mean(y - p) + penalty()


LOSSES = {
    "closure": by_closure,
    "default": by_default,
    "function": by_function,
    "object": OfLayer,
    "method": lambda layer: OfLayer(layer).call,
}


@pytest.mark.parametrize("how", LOSSES)
def test_what_a_loss_takes_by_place_is_read(how):
    model = made()
    model.compile("sgd", LOSSES[how](model.first))
    assert told_of(model) == {"first"}


class Keeping(keras.losses.Loss):
    """Keeps what it computed."""

    def __init__(self):
        super().__init__()
        self.kept = None

    def call(self, y_true, y_pred):
        self.kept = ops.mean(ops.square(y_true - y_pred), -1)
        return self.kept


def test_no_loss_runs_before_the_training():
    class Own(keras.Model):
        kept = None

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            self.kept = super().compute_loss(x, y, y_pred, sample_weight, training)
            return self.kept

    model, loss = made(Own), Keeping()
    model.compile("sgd", loss)
    factorize(model, rank=2, calibration=np.ones((4, 4), "float32"))
    assert model.kept is None
    assert loss.kept is None


def test_what_a_loss_calls_is_no_part_of_a_prediction():
    class Twice(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return ops.mean(ops.square(self(x) - y_pred)) + ops.sum(self.blocks[0](x))

    flops = []
    for cls in (keras.Model, Twice):
        model = made(cls)
        model.compile("sgd", "mse")
        flops.append(factorize(model, rank=2).flops)
    assert flops[0] == flops[1]
