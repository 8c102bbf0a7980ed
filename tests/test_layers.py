"""What single kinds of layers do beside the law that all of them obey (`test_law.py`)."""

from __future__ import annotations

import keras
import law
import numpy as np
import pytest
import zoo
from kinds import IMAGE, KINDS

from reducible_train import factorize
from reducible_train.layers import find_kernels
from reducible_train.layers.base import dense_classes
from reducible_train.layers.einsum_dense import Equation
from reducible_train.surgery import change_kernels, cut, decomposition

L = keras.layers


def run(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return zoo.as_array(model(x, training=False))


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not kind.variant])
def test_training_goes_on_in_compiled_functions(name):
    model, x = law.make(name, "sequential", "float32"), KINDS[name].inputs(8)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    y = np.random.default_rng(1).normal(size=(8, law.OUTPUTS)).astype("float32")
    model.fit(x, y, epochs=1, verbose=0)
    kernels = law.kernels_of(model)
    change_kernels(model, [cut(kernel, 2, decomposition(kernel)) for kernel in kernels])
    history = model.fit(x, y, epochs=12, verbose=0).history["loss"]
    assert history[-1] < history[0]
    np.testing.assert_allclose(model.predict(x, verbose=0), run(model, x), atol=1e-5)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_the_uses_of_a_convolution_are_those_of_its_outputs(data_format):
    """FLOPs of the two convolutions, counted by their output shapes."""
    shape = (20, 18, 4) if data_format == "channels_last" else (4, 20, 18)
    layer = L.Conv2D(6, (3, 2), strides=(2, 3), data_format=data_format)
    layer.build((None, *shape))
    kind = dense_classes()[L.Conv2D]
    out = layer.compute_output_shape((1, *shape))
    h, w = out[1:3] if data_format == "channels_last" else out[2:]
    assert kind.uses(layer, "kernel", "channel", (1, *shape)).u == h * w
    spatial = kind.uses(layer, "kernel", "spatial", (1, *shape))
    assert (spatial.u, spatial.v) == (h * 18, h * w)


def test_masks_pass_through_an_embedding():
    for make in (L.Embedding, L.ReversibleEmbedding):
        model = keras.Sequential(
            [keras.Input((7,), dtype="int32"), make(20, 8, mask_zero=True, name="e"), L.LSTM(4)]
        )
        x = np.array([[1, 2, 3, 0, 0, 0, 0]], "int32")
        dense = run(model, x)
        kernel = next(k for k in find_kernels(model) if k.path == "e/embeddings")
        change_kernels(model, [cut(kernel, 8, decomposition(kernel))])
        np.testing.assert_allclose(run(model, x), dense, atol=1e-5)
        longer = np.array([[1, 2, 3, 0, 0, 0, 5]], "int32")
        assert np.abs(run(model, longer) - dense).max() > 1e-4


@pytest.mark.parametrize("tied", [True, False])
def test_tied_embeddings_run_in_reverse(tied):
    inputs = keras.Input((7,), dtype="int32")
    table = L.ReversibleEmbedding(30, 12, tie_weights=tied, logit_soft_cap=5.0, name="table")
    x = L.Dense(12, name="middle")(table(inputs))
    model = keras.Model(inputs, table(x, reverse=True))
    x = np.arange(14).reshape(2, 7)
    dense = run(model, x)
    kernel = next(k for k in find_kernels(model) if k.path == "table/embeddings")
    change_kernels(model, [cut(kernel, 12, decomposition(kernel))])
    np.testing.assert_allclose(run(model, x), dense, atol=1e-5)


@pytest.mark.parametrize(
    ("equation", "fault"),
    [
        ("ab,bc->ac", None),
        ("...x,xy->...y", None),
        ("abc,cde->abde", None),
        ("ab,b->ab", "does not separate"),
        ("ab,bcd->ac", "sums the kernel"),
        ("abx,bc->ac", "sums the inputs"),
    ],
)
def test_equations_that_do_not_separate_are_refused(equation, fault):
    assert (Equation.of(equation).fault is None) == (fault is None)
    if fault:
        assert fault in Equation.of(equation).fault


def test_what_does_not_separate_is_left_dense_with_the_reason():
    model = keras.Sequential(
        [
            keras.Input((12,)),
            L.EinsumDense("ab,b->ab", 12, name="scale"),
            L.Dense(12, name="hidden"),
            L.Dense(3, name="output"),
        ]
    )
    report = factorize(model, rank=2)
    assert report.ranks == {"hidden/kernel": 2}
    records = {k.path: k.reason for k in report.kernels}
    assert "output layer" in records["output/kernel"]


def test_depthwise_kernels_are_left_with_the_reason():
    model = keras.Sequential(
        [
            keras.Input(IMAGE),
            L.DepthwiseConv2D(3, name="depth"),
            L.Conv2D(32, 3, name="conv"),
            L.Flatten(),
            L.Dense(3, name="output"),
        ]
    )
    reasons = {k.path: k.reason for k in factorize(model, rank=2).kernels}
    assert "depthwise" in reasons["depth/kernel"]
