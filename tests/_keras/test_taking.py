"""Who takes variables out of lists of layers by place, and for whom another one would be there."""

from __future__ import annotations

import keras
import pytest

from reducible_train._keras.taking import places_told

L = keras.layers


def unpack_first(model):
    kernel, *_ = model.layers[0].weights
    return kernel


def unpack_last(model):
    *_, bias = model.weights
    return bias


def hand_out(model):
    return print(*model.layers[1].weights)


TOLD = {
    "first": (lambda model: model.weights[0], "a"),
    "last": (lambda model: model.trainable_variables[-1], "c"),
    "from the front": (lambda model: model.weights[3], "ab"),
    "from the end": (lambda model: model.weights[-3], "bc"),
    "all but the first layer": (lambda model: model.weights[2:], "a"),
    "all but the last layer": (lambda model: model.weights[:-2], "c"),
    "within a layer": (lambda model: model.weights[:-1], "c"),
    "one layer": (lambda model: model.weights[2:4], "ab"),
    "kernels": (lambda model: model.weights[::2], "abc"),
    "of a layer": (lambda model: model.layers[1].weights[1], "b"),
    "popped": (lambda model: model.weights.pop(0), "a"),
    "unpacked": (unpack_first, "a"),
    "unpacked at the end": (unpack_last, "c"),
    "handed out": (hand_out, "b"),
    "copy": (lambda model: model.weights[:], ""),
    "turned round": (lambda model: model.weights[::-1], ""),
    "more than all": (lambda model: model.weights[:100], ""),
    "dtype": (lambda model: model.weights[0].dtype, ""),
    "shape": (lambda model: model.weights[-1].shape[0], ""),
    "loop": (lambda model: [each.dtype for each in model.weights], ""),
}


@pytest.fixture(scope="module")
def model():
    return keras.Sequential([keras.Input((2,)), *(L.Dense(2, name=name) for name in "abc")])


@pytest.mark.parametrize("how", TOLD)
def test_kernels_that_a_place_needs_are_told(model, how):
    take, expected = TOLD[how]
    told = set()
    with places_told(told.add):
        take(model)
    assert {layer.name for layer in model.layers if id(layer.kernel) in told} == set(expected)
