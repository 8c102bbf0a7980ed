"""Laws of whole models: what any ordinary Keras model does when its ranks fall."""

from __future__ import annotations

from importlib import import_module

import keras
import numpy as np
import pytest
from models import CATALOGUE, CLASSES, LENGTH, OWN_CLASSES, TOKENS, WIDTH, chosen

from reducible_train import (
    PiecewiseConstant,
    RankScheduler,
    _keras,
    factorize,
    load_model,
    load_weights_into,
    merge,
    save_model,
)
from reducible_train.layers import LowRank
from reducible_train.surgery.plans import plan_of

LAYER_SCALE = import_module("keras.src.applications.convnext").LayerScale


# --- measures -----------------------------------------------------------------------------


def called_on(model, x):
    return joined(model(x, training=False))


def predicted(model, x):
    return joined(model.predict(x, verbose=0))


def joined(outputs):
    """All outputs, one after the other."""
    parts = [keras.ops.convert_to_numpy(each) for each in keras.tree.flatten(outputs)]
    return np.concatenate([each.reshape(len(each), -1) for each in parts], axis=1)


def agree(ours, theirs, rtol=1e-5):
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=rtol * np.abs(ours).max())


# --- laws ---------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", chosen())
def test_a_cut_meets_the_budget_and_merge_ends_it(entry):
    model, (x, _) = entry.make(), entry.data()
    layers = [layer for _, layer in _keras.walk(model)]
    kinds = [type(layer) for layer in layers]
    shapes = [tuple(v.shape) for v in model.weights]
    dense = model.count_params()
    before = called_on(model, x)
    kind, value = entry.target
    report = factorize(model, **{kind: value})
    assert report.dense_parameters == dense
    assert report.parameters == model.count_params()
    assert report.parameters <= (value * dense if kind == "budget" else dense - 1)
    assert any(isinstance(layer, LowRank) for layer in layers)
    assert report.ranks == {path: _rank(entry) for path, entry in plan_of(model).items()}
    every_kernel_is_in(report, model)
    after = called_on(model, x)
    assert np.abs(after - before).max() > 0
    in_a_graph = entry.fit == "traced"
    if in_a_graph:
        agree(after, predicted(model, x))
    merge(model)
    assert [type(layer) for layer in layers] == kinds
    assert sorted(tuple(v.shape) for v in model.weights) == sorted(shapes)
    agree(after, called_on(model, x), 1e-4)
    if in_a_graph:
        agree(after, predicted(model, x), 1e-4)


def _rank(entry):
    return entry if isinstance(entry, int) else entry["rank"]


def every_kernel_is_in(report, model):
    paths = {record.path for record in report.kernels}
    for path, layer in _keras.walk(model):
        for variable in _keras.own_variables(layer):
            name = variable.name.removesuffix("_u").removesuffix("_v")
            assert len(variable.shape) < 2 or name == "bias" or f"{path}/{name}" in paths


@pytest.mark.parametrize(
    "entry", chosen(lambda e: e.fit != "no", slow=lambda e: e.slow or e.fit == "slow")
)
def test_a_fit_with_two_cuts_then_its_files(entry, tmp_path):
    model, (x, y) = entry.compiled(run_eagerly=entry.fit != "traced"), entry.data()
    kind, value = entry.target
    first = (1 + value) / 2 if kind == "budget" else value + 1
    falling = PiecewiseConstant(values=(first, value), start_epochs=(0, 1))
    scheduler = RankScheduler(
        **{kind: falling}, **({"allocation": "uniform"} if kind == "budget" else {})
    )
    history = model.fit(
        x, y, epochs=2, validation_data=(x, y), batch_size=16, verbose=0, callbacks=[scheduler]
    ).history
    # A rank that saves nothing asks for no cut.
    assert len(scheduler.report.cuts) in ((2,) if kind == "budget" else (1, 2))
    assert all(np.isfinite(history["loss"]))
    if kind == "budget":
        assert model.count_params() <= value * scheduler.report.dense_parameters
    now = np.ravel(model.evaluate(x, y, batch_size=16, verbose=0))[0]
    np.testing.assert_allclose(history["val_loss"][-1], now, rtol=1e-5)
    now = predicted(model, x)
    agree(called_on(model, x), now)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert plan_of(loaded) == plan_of(model)
    agree(now, predicted(loaded, x), 4e-7)

    save_model(model, tmp_path / "model.reducible", scheduler.report)
    keras.utils.clear_session(free_memory=False)  # automatic names count from the start again
    fresh = load_weights_into(entry.make(), tmp_path / "model.reducible")
    assert plan_of(fresh) == plan_of(model)
    agree(now, called_on(fresh, x))
    again = load_model(tmp_path / "model.reducible", OWN_CLASSES)
    for one, other in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    agree(now, called_on(again, x), 1e-5)


# --- what is left -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "path", "reason"),
    [
        ("mobile blocks", "expanded_conv_1_depthwise/kernel", "depthwise"),
        ("decoder", "positions/table", "no low-rank form of Positions is known"),
        ("decoder of its own", "positions/table", "no low-rank form of Positions is known"),
        ("encoder", "output/kernel", "output layer"),
    ],
)
def test_what_is_left_is_named_with_the_reason(model, path, reason):
    report = factorize(CATALOGUE[model].make(), budget=0.9)
    (record,) = [each for each in report.kernels if each.path == path]
    assert record.rank is None
    assert reason in record.reason
    assert path in str(report)


def scaled():
    """A scale for each channel, as ConvNeXt has it, of a class that Keras does not name."""
    return keras.Sequential(
        [
            keras.Input((WIDTH,)),
            keras.layers.Dense(2 * WIDTH, activation="relu"),
            LAYER_SCALE(0.5, 2 * WIDTH),
            keras.layers.Dense(CLASSES),
        ]
    )


def test_a_variable_without_a_name_is_found_again_in_a_file(tmp_path):
    model = scaled()
    factorize(model, rank=6)
    x = np.ones((2, WIDTH), "float32")
    save_model(model, tmp_path / "model.reducible")
    keras.Variable(0.0)  # automatic names count on
    loaded = load_model(tmp_path / "model.reducible")
    assert model.layers[1].weights[0].name != loaded.layers[1].weights[0].name
    np.testing.assert_array_equal(called_on(loaded, x), called_on(model, x))


class Reuse(keras.layers.Layer):
    """Multiplies by the very variable of another layer, transposed."""

    def __init__(self, dense, **kwargs):
        super().__init__(**kwargs)
        self.dense = dense

    def build(self, input_shape):
        self.borrowed = self.dense._kernel

    def call(self, x):
        return keras.ops.matmul(x, keras.ops.transpose(self.borrowed))


def borrowing():
    first = keras.layers.Dense(2 * WIDTH, activation="relu", name="first")
    inputs = keras.Input((WIDTH,))
    x = Reuse(first, name="reuse")(first(inputs))
    return keras.Model(inputs, keras.layers.Dense(CLASSES, name="output")(_middle(x)))


def normalized():
    first = keras.layers.Dense(2 * WIDTH, activation="relu", name="first")
    inputs = keras.Input((WIDTH,))
    x = keras.layers.SpectralNormalization(first, name="normalized")(inputs)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, name="output")(_middle(x)))


def _middle(x):
    return keras.layers.Dense(WIDTH, activation="relu", name="middle")(x)


@pytest.mark.parametrize(
    ("make", "path", "holder"),
    [(borrowing, "first/kernel", "reuse"), (normalized, "normalized/layer/kernel", "normalized")],
)
def test_a_variable_that_two_layers_hold_is_left(make, path, holder):
    model = make()
    report = factorize(model, rank=4)
    reasons = {record.path: record.reason for record in report.kernels}
    assert reasons[path].startswith(f"'{holder}' (")
    assert list(report.ranks) == ["middle/kernel"]
    model(np.ones((2, WIDTH), "float32"), training=True)  # normalisation writes the variable


def test_what_a_layer_holds_beside_its_kernels_is_named():
    ids = keras.Input((LENGTH,), dtype="int32")
    table = keras.layers.ReversibleEmbedding(TOKENS, WIDTH, tie_weights=False, name="table")
    x = keras.layers.SeparableConv1D(WIDTH, 3, name="separable")(table(ids))
    model = keras.Model(ids, table(x, reverse=True))
    reasons = {record.path: record.reason for record in factorize(model, rank=4).kernels}
    assert reasons["table/reverse_embeddings"].startswith("output layer")
    assert reasons["table/embeddings"] is None
    assert "depthwise" in reasons["separable/depthwise_kernel"]
    assert reasons["separable/pointwise_kernel"] is None
