"""The gradients of the loss by what kernels give, of every kind of cell, step by step."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from reducible_train import _keras, factorize, merge

pytestmark = pytest.mark.filterwarnings("ignore:Layer 'flatten'.*mask")  # as it should

L = keras.layers
SAMPLES, STEPS, INPUTS = 5, 4, 3


def model_of(layer, *, masked=False, stateful=False):
    """A sequence in, a number out; steps of 0 are masked."""
    shape = {"batch_shape": (SAMPLES, STEPS, INPUTS)} if stateful else {"shape": (STEPS, INPUTS)}
    keras.utils.set_random_seed(3)
    masking = [L.Masking()] if masked else []
    model = keras.Sequential([keras.Input(**shape), *masking, layer, L.Flatten(), L.Dense(1)])
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape) / 2)
    model.compile("sgd", "mse")
    return model


def sequences(*, masked=False):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, STEPS, INPUTS)).astype("float32")
    if masked:
        x[0, 2:] = x[1, :1] = x[2, 1] = 0.0
    return x, rng.normal(size=(SAMPLES, 1)).astype("float32")


def cells_of(model):
    kinds = (L.SimpleRNNCell, L.LSTMCell, L.GRUCell)
    return [layer for _, layer in _keras.walk(model) if isinstance(layer, kinds)]


def kernel_gradients(model, cell, batch):
    """Those of a cell's kernels, as the sums over samples and steps of `x^T g` and `h^T g`."""
    found = {"kernel": 0.0, "recurrent_kernel": 0.0}
    for each in _keras.output_gradients(model, [cell], (*batch, None)):
        if each.gradient is None:
            continue
        g = _keras.host_float(each.gradient)
        h = each.given[1][0] if isinstance(each.given[1], (list, tuple)) else each.given[1]
        found["kernel"] += _keras.host_float(each.given[0]).T @ g[:, 0]
        found["recurrent_kernel"] += _keras.host_float(h).T @ g[:, -1]
    return found


KINDS = {
    "LSTM": lambda **o: L.LSTM(4, **o),
    "GRU": lambda **o: L.GRU(4, **o),
    "GRU, reset before": lambda **o: L.GRU(4, reset_after=False, **o),
    "SimpleRNN": lambda **o: L.SimpleRNN(4, **o),
    "RNN of a cell": lambda **o: L.RNN(L.LSTMCell(4), **o),
    "stacked cells": lambda **o: L.RNN([L.GRUCell(4), L.LSTMCell(2)], **o),
    "both ways": lambda **o: L.Bidirectional(L.LSTM(4, **o)),
}
WAYS = {
    "as it is": {},
    "sequences": {"return_sequences": True},
    "backwards": {"go_backwards": True, "return_sequences": True},
    "unrolled": {"unroll": True},
}
CELLS = {
    "implementation 1": lambda: L.LSTM(4, implementation=1),
    "GRU, implementation 1": lambda: L.GRU(4, implementation=1),
    "no bias": lambda: L.LSTM(4, use_bias=False),
    "GRU without bias": lambda: L.GRU(4, use_bias=False),
    "SimpleRNN without bias": lambda: L.SimpleRNN(4, use_bias=False),
    "dropout": lambda: L.LSTM(4, dropout=0.5, recurrent_dropout=0.5),
    "another activation": lambda: L.GRU(4, activation="relu", recurrent_activation="tanh"),
}


def check(model, batch):
    """What the cells tell adds up to the gradient of each kernel, which is had without them."""
    cells = cells_of(model)
    assert cells
    for cell in cells:
        before = {name: vars(cell).get(name) for name in ("bias", "use_bias", "implementation")}
        found = kernel_gradients(model, cell, batch)
        assert all(vars(cell).get(name) is value for name, value in before.items())
        for name in ("kernel", "recurrent_kernel"):
            if name == "recurrent_kernel" and getattr(cell, "reset_after", True) is False:
                continue  # its last gate's inputs are not the state
            (wanted,) = _keras.loss_gradients(model, [getattr(cell, name)], (*batch, None))
            assert np.abs(wanted).max() > 1e-3
            np.testing.assert_allclose(found[name], wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("kind", "way"),
    [*((kind, "as it is") for kind in KINDS), *(("LSTM", way) for way in WAYS if WAYS[way])],
)
def test_they_add_up_to_the_gradient_of_each_kernel(kind, way):
    check(model_of(KINDS[kind](**WAYS[way]), masked=True), sequences(masked=True))


@pytest.mark.parametrize("name", CELLS)
def test_they_do_so_however_a_cell_computes(name):
    check(model_of(CELLS[name]()), sequences())


def test_they_do_so_from_a_state_that_outlives_the_batch():
    model = model_of(L.LSTM(4, stateful=True), stateful=True)
    batch = sequences()
    model(batch[0])
    kept = [_keras.host_value(each) for each in model.layers[0].states]
    assert all(np.abs(each).max() > 0.01 for each in kept)
    check(model, batch)
    for state, before in zip(model.layers[0].states, kept, strict=True):
        np.testing.assert_array_equal(_keras.host_value(state), before)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "GRU, reset before", "SimpleRNN"])
def test_factorised_cells_tell_those_of_their_products(kind):
    """A dense model of the same function has the same ones."""
    batch = sequences()
    model = model_of(KINDS[kind]())
    factorize(model, rank=1)
    (cell,) = cells_of(model)
    assert "LowRank" in type(cell).__name__
    dense = model_of(KINDS[kind]())
    whole = keras.models.clone_model(model)
    whole.set_weights(model.get_weights())
    merge(whole)
    dense.set_weights(whole.get_weights())
    for ours, theirs in zip(
        _keras.output_gradients(model, [cell], (*batch, None)),
        _keras.output_gradients(dense, cells_of(dense), (*batch, None)),
        strict=True,
    ):
        wanted = _keras.host_float(theirs.gradient)
        assert np.abs(wanted).max() > 1e-5
        np.testing.assert_allclose(_keras.host_float(ours.gradient), wanted, atol=1e-5)


def lstm_loss(model, batch, added):
    """The summed loss of an LSTM and a dense layer, in numpy, with `added` to its gates."""
    w, r, b, v, c = (np.asarray(each, np.float64) for each in model.get_weights())
    x, y = batch
    h = s = np.zeros((len(x), r.shape[0]))
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ w + h @ r + b + added[:, t], 4, axis=1)
        i, f, o = (1 / (1 + np.exp(-each)) for each in (i, f, o))
        s = f * s + i * np.tanh(g)
        h = o * np.tanh(s)
    return ((h @ v + c - y) ** 2).sum()


def test_each_step_and_gate_has_the_difference_quotient_of_the_loss():
    model, batch = model_of(L.LSTM(4)), sequences()
    told = _keras.output_gradients(model, cells_of(model), (*batch, None))
    found = np.stack([_keras.host_float(each.gradient)[:, 0] for each in told], axis=1)
    assert found.shape == (SAMPLES, STEPS, 16)
    wanted = np.zeros(found.shape)
    for place in np.ndindex(*found.shape):
        step = np.zeros(found.shape)
        step[place] = 1e-5
        wanted[place] = lstm_loss(model, batch, step) - lstm_loss(model, batch, -step)
    np.testing.assert_allclose(found, wanted / 2e-5, atol=1e-4 * np.abs(found).max())


def test_hidden_steps_are_left_out():
    batch = sequences(masked=True)
    model = model_of(L.LSTM(4), masked=True)
    told = _keras.output_gradients(model, cells_of(model), (*batch, None))
    present = (batch[0] != 0).any(-1)
    assert [len(each.gradient) for each in told] == [*present.sum(0)]


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN", "both ways", "stacked cells"])
def test_fisher_judges_recurrent_kernels(kind):
    x, y = sequences()
    report = factorize(model_of(KINDS[kind]()), rank=1, criterion="fisher", calibration=(x, y))
    assert {each.criterion for each in report.cuts[0].kernels} == {"fisher"}
