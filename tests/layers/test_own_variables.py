"""Layers that do something of their own with their variables stay dense, with the reason."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
import zoo

from reducible_train import factorize

L = keras.layers


class OwnCall(L.Dense):
    def call(self, inputs, training=None):
        return keras.ops.matmul(inputs, keras.ops.tanh(self.kernel)) + self.bias


class OwnKernel(L.Dense):
    @property
    def kernel(self):
        return self._kernel * 2.0


class Around(L.Layer):
    """A layer around a Dense."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = L.Dense(24)

    def build(self, shape):
        self.inner.build(shape)


class Decaying(Around):
    """Makes the kernel smaller in each training step."""

    def call(self, x, training=False):
        if training:
            self.inner.kernel.assign(self.inner.kernel * 0.5)
        return self.inner(x)


class Normalized(Around):
    """Puts a normalized tensor in the kernel's place for each call."""

    def build(self, shape):
        super().build(shape)
        self.stored = [[self.inner.kernel]]

    def call(self, x):
        ((kernel,),) = self.stored
        self.inner.__dict__["_kernel"] = kernel / keras.ops.norm(kernel)
        try:
            return self.inner(x)
        finally:
            self.inner.__dict__["_kernel"] = kernel


def with_first(layer, change=None):
    model = keras.Sequential(
        [keras.Input((24,)), layer, L.Dense(24, name="plain"), L.Dense(5, name="output")]
    )
    if change is not None:
        layer._tracker.unlock()
        change(layer)
        layer._tracker.lock()
    return zoo.compiled(model)


def dense(change):
    return lambda: with_first(L.Dense(24, name="first"), change)


def new_kernel(layer):
    layer._kernel = keras.Variable(np.ones((24, 24), "float32"))


def no_variable(layer):
    layer.__dict__["_kernel"] = keras.ops.ones((24, 24))


def new_call(layer):
    kind = type(layer)
    layer.call = lambda x, training=None: kind.call(layer, keras.ops.tanh(x))


OWN = {
    "spectral": (
        lambda: with_first(L.SpectralNormalization(L.Dense(24), name="first")),
        "first/layer/kernel",
        r"'first' \(SpectralNormalization\) uses this very variable",
    ),
    "call": (lambda: with_first(OwnCall(24, name="first")), "first/kernel", "a subclass of Dense"),
    "property": (
        lambda: with_first(OwnKernel(24, name="first")),
        "first/kernel",
        "a subclass of Dense",
    ),
    "assigned": (
        lambda: with_first(Decaying(name="first")),
        "first/inner/kernel",
        "own code assigns values to it in a training step",
    ),
    "held": (
        lambda: with_first(Normalized(name="first")),
        "first/inner/kernel",
        r"'first' \(Normalized\) uses this very variable",
    ),
    "new": (dense(new_kernel), "first/kernel", "not the variable it was built with"),
    "tensor": (dense(no_variable), "first/kernel", "not the variable it was built with"),
    "patched": (dense(new_call), "first/kernel", "`call` was replaced"),
    "lora": (dense(lambda layer: layer.enable_lora(2)), "first/kernel", "LoRA is enabled"),
    "quantized": (dense(lambda layer: layer.quantize("int8")), "first/kernel", "quantized to int8"),
}


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # of a kernel out of use
@pytest.mark.parametrize("case", OWN)
def test_it_is_left_and_the_rest_is_cut(case):
    make, path, reason = OWN[case]
    model = make()
    x, y = zoo.data(model)
    first = model.get_layer("first")
    before = [(id(v), zoo.as_array(v)) for v in first.variables]
    attributes = set(vars(first))
    records = {record.path: record for record in factorize(model, rank=4).kernels}
    assert records[path].rank is None
    assert re.search(reason, records[path].reason)
    assert records["plain/kernel"].rank == 4
    for (key, value), variable in zip(before, first.variables, strict=True):
        assert key == id(variable)
        np.testing.assert_array_equal(value, zoo.as_array(variable))
    assert set(vars(first)) == attributes
    assert np.isfinite(zoo.outputs(model, x)).all()
    if case != "quantized":  # which is for inference
        assert np.isfinite(zoo.step(model, x, y)).all()


def test_a_kernel_that_two_known_layers_use_is_left_in_both():
    inputs = keras.Input((24,))
    first, second = L.Dense(24, name="first"), L.Dense(24, name="second")
    plain = L.Dense(24, name="plain")
    outputs = L.Dense(5, name="output")(plain(second(first(inputs))))
    second._tracker.unlock()
    second._kernel = first._kernel
    second._tracker.lock()
    model = keras.Model(inputs, outputs)
    x, _ = zoo.data(model)
    records = {record.path: record for record in factorize(model, rank=4).kernels}
    assert records["first/kernel"].reason == "'second' (Dense) uses this very variable"
    assert records["second/kernel"].rank is None
    assert records["plain/kernel"].rank == 4
    assert zoo.outputs(model, x).shape == (64, 5)
