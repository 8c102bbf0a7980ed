"""How many samples a model is asked at a time: more where it computes little of each."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from reducible_train import _keras
from reducible_train.selection.samples import Samples, batches_for

L = keras.layers


def functional():
    """Nested, its Dense called twice: each layer counts once, by the largest that it gives."""
    inner_in = keras.Input((8,))
    shared = L.Dense(8)
    inner = keras.Model(inner_in, shared(shared(inner_in)))
    inputs = keras.Input((8,))
    return keras.Model(inputs, L.Dense(2)(inner(inputs)))


@keras.saving.register_keras_serializable("batch_sizes")
class Score(L.Layer):
    """A number of each sequence; whatever comes before its loop nobody knows."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.wide, self.loop = L.Dense(64), L.LSTM(3)

    def build(self, shape):
        self.wide.build(shape)
        self.loop.build((*shape[:-1], 64))

    def call(self, inputs):
        return self.loop(self.wide(inputs))[:, 0]

    def compute_output_shape(self, shape):
        return shape[:1]


MODELS = {
    "sequential": (lambda: keras.Sequential([keras.Input((4, 4, 3)), L.Conv2D(5, 3), L.Flatten()]),
                   2 * 2 * 5 + 20),
    "nested": (functional, 8 + 8 + 8 + 2),
    "open length": (lambda: keras.Sequential([keras.Input((None, 3)), L.Conv1D(4, 2)]), None),
    "layers of layers": (
        lambda: keras.Sequential([keras.Input((5, 3)), L.TimeDistributed(L.Dense(4))]), None),
    "a loop in a layer of one's own": (
        lambda: keras.Sequential([keras.Input((5, 3)), Score()]), None),
    "a loop at each step": (
        lambda: keras.Sequential([keras.Input((4, 5, 3)), L.TimeDistributed(L.LSTM(2))]), None),
    "loops": (
        lambda: keras.Sequential([
            keras.Input((5, 3)),
            L.LSTM(4, return_sequences=True),
            L.Bidirectional(L.GRU(6, return_state=False)),
            L.Dense(7),
        ]),
        5 * 4 + 5 * 12 + 7),
    "a loop over as many images as they are high": (
        lambda: keras.Sequential([keras.Input((4, 4, 4, 1)), L.ConvLSTM2D(3, 1)]), 4 * 4 * 4 * 3),
    "loops of open length": (lambda: keras.Sequential([keras.Input((None, 3)), L.GRU(4)]), None),
    "no graph": (lambda: type("Own", (keras.Model,), {})(), None),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_graph_tells_what_its_layers_give(name):
    make, expected = MODELS[name]
    assert _keras.numbers_of_sample(make()) == expected


@pytest.mark.parametrize(("units", "size"), [(8, 1024), (2**13, 512), (2**20, 128)])
def test_batches_are_larger_the_less_is_computed(units, size):
    model = keras.Sequential([keras.Input((2,)), L.Dense(units)])
    found = [len(x) for x, _, _ in batches_for(model, Samples(np.zeros((1500, 2))))]
    assert len(found) == -(-1500 // size)
    assert max(found) - min(found) <= 1
    assert sum(found) == 1500
