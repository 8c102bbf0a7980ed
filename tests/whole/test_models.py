"""Laws of whole models: what any ordinary Keras model does when its ranks fall."""

from __future__ import annotations

from importlib import import_module

import keras
import numpy as np
import pytest

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

TOKENS, LENGTH, WIDTH, CLASSES = 60, 8, 24, 5


# --- models -------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("models")
class Positions(keras.layers.Layer):
    """Adds a vector for each position: a table that is a weight of its own."""

    def build(self, input_shape):
        self.table = self.add_weight(shape=input_shape[1:], name="table")

    def call(self, x):
        return x + self.table


@keras.saving.register_keras_serializable("models")
class Block(keras.layers.Layer):
    """Attention and a feed-forward part, each beside a residual."""

    def __init__(self, causal=False, **kwargs):
        super().__init__(**kwargs)
        self.causal = causal
        self.attention = keras.layers.MultiHeadAttention(2, WIDTH // 2)
        self.norms = [keras.layers.LayerNormalization() for _ in range(2)]
        self.feed = keras.Sequential(
            [keras.layers.Dense(2 * WIDTH, activation="gelu"), keras.layers.Dense(WIDTH)]
        )
        self.supports_masking = True

    def build(self, input_shape):
        self.attention.build(input_shape, input_shape)
        for norm in self.norms:
            norm.build(input_shape)
        self.feed.build(input_shape)

    def call(self, x):
        x = self.norms[0](x + self.attention(x, x, use_causal_mask=self.causal))
        return self.norms[1](x + self.feed(x))

    def get_config(self):
        return {**super().get_config(), "causal": self.causal}


@keras.saving.register_keras_serializable("models")
class Encoder(keras.Model):
    """A small encoder with a class for each sequence."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.tokens = keras.layers.Embedding(TOKENS, WIDTH, mask_zero=True)
        self.positions = keras.layers.Embedding(LENGTH, WIDTH)
        self.blocks = [Block() for _ in range(2)]
        self.head = {
            "pool": keras.layers.GlobalAveragePooling1D(),
            "output": keras.layers.Dense(CLASSES),
        }

    def call(self, ids):
        x = self.tokens(ids) + self.positions(keras.ops.arange(LENGTH))
        for block in self.blocks:
            x = block(x)
        return self.head["output"](self.head["pool"](x))


@keras.saving.register_keras_serializable("models")
class Decoder(keras.Model):
    """A small decoder whose output is its table of tokens, read in reverse."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.tokens = keras.layers.ReversibleEmbedding(TOKENS, WIDTH)
        self.positions = Positions()
        self.blocks = [Block(causal=True) for _ in range(2)]

    def call(self, ids):
        x = self.positions(self.tokens(ids))
        for block in self.blocks:
            x = block(x)
        return self.tokens(x, reverse=True)


def attended(x, **kwargs):
    """A block of stock layers in the graph of the model itself."""
    attention = keras.layers.MultiHeadAttention(2, WIDTH // 2)(x, x, **kwargs)
    x = keras.layers.LayerNormalization()(keras.layers.Add()([x, attention]))
    y = keras.layers.Dense(2 * WIDTH, activation="gelu")(x)
    y = keras.layers.Dense(WIDTH)(y)
    return keras.layers.LayerNormalization()(keras.layers.Add()([x, y]))


def encoder():
    ids, places = keras.Input((LENGTH,), dtype="int32"), keras.Input((LENGTH,), dtype="int32")
    x = keras.layers.Embedding(TOKENS, WIDTH, mask_zero=True, name="tokens")(ids)
    x = keras.layers.Add()([x, keras.layers.Embedding(LENGTH, WIDTH, name="positions")(places)])
    for _ in range(2):
        x = attended(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model([ids, places], keras.layers.Dense(CLASSES, name="output")(x))


def decoder():
    ids = keras.Input((LENGTH,), dtype="int32")
    tokens = keras.layers.ReversibleEmbedding(TOKENS, WIDTH, name="tokens")
    x = Positions(name="positions")(tokens(ids))
    for _ in range(2):
        x = attended(x, use_causal_mask=True)
    return keras.Model(ids, tokens(x, reverse=True))


def called(model):
    model(np.ones((1, LENGTH), "int32"))
    return model


def mobile_net():
    return keras.applications.MobileNetV3Small(
        (32, 32, 3), weights=None, classes=CLASSES, classifier_activation=None, alpha=0.75
    )


def first_mobile_net():
    return keras.applications.MobileNet(
        (32, 32, 3), weights=None, classes=CLASSES, classifier_activation=None, alpha=0.25
    )


@keras.saving.register_keras_serializable("models")
class Tower(keras.Model):
    """A Functional model with recurrent layers in a Sequential, one layer frozen."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        ids = keras.Input((LENGTH,), dtype="int32")
        recurrent = keras.Sequential(
            [
                keras.layers.Embedding(TOKENS, WIDTH, mask_zero=True, name="words"),
                keras.layers.Bidirectional(keras.layers.GRU(WIDTH, return_sequences=True)),
                keras.layers.LSTM(WIDTH),
            ]
        )
        frozen = keras.layers.Dense(2 * WIDTH, activation="relu", trainable=False, name="frozen")
        self.graph = keras.Model(ids, frozen(recurrent(ids)))
        self.output_dense = keras.layers.Dense(CLASSES)

    def call(self, ids):
        return self.output_dense(self.graph(ids))


# Name -> how it is made, and the part of its parameters that is asked for.
MODELS = {
    "encoder": (encoder, 0.6),
    "encoder_subclassed": (lambda: called(Encoder()), 0.6),
    "decoder": (decoder, 0.6),
    "decoder_subclassed": (lambda: called(Decoder()), 0.6),
    "tower": (lambda: called(Tower()), 0.6),
    "mobile_net": (mobile_net, 0.6),
    "first_mobile_net": (first_mobile_net, 0.6),
}
IMAGES = ("mobile_net", "first_mobile_net")
# Each has a sibling here that meets the same code: the other way to write it, a later network.
SIBLINGS = ("decoder_subclassed", "first_mobile_net")
# Of each pair that computes the same one is enough to trace, which takes seconds.
EAGER = ("encoder_subclassed", "decoder", "mobile_net")
LAYER_SCALE = import_module("keras.src.applications.convnext").LayerScale
OWN = {
    keras.saving.get_registered_name(kind): kind
    for kind in (Positions, Block, Encoder, Decoder, Tower)
}


# --- data and measures --------------------------------------------------------------------


def data(name, samples=16):
    rng = np.random.default_rng(0)
    if name in IMAGES:
        x = rng.uniform(0, 255, (samples, 32, 32, 3)).astype("float32")
    else:
        x = rng.integers(1, TOKENS, (samples, LENGTH)).astype("int32")
        x[: samples // 2, -2:] = 0
    if name.startswith("decoder"):
        return x, np.roll(x, -1, axis=1)
    y = rng.integers(CLASSES, size=samples)
    places = np.tile(np.arange(LENGTH, dtype="int32"), (samples, 1))
    return ([x, places], y) if name == "encoder" else (x, y)


def compiled(model, **kwargs):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, **kwargs)


def called_on(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def agree(ours, theirs, rtol=1e-5):
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=rtol * np.abs(ours).max())


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow if name in SIBLINGS else ()) for name in MODELS
    ]
)
def name(request):
    return request.param


# --- laws ---------------------------------------------------------------------------------


def test_a_cut_meets_the_budget_and_merge_ends_it(name):
    make, budget = MODELS[name]
    model, (x, _) = make(), data(name)
    layers = [layer for _, layer in _keras.walk(model)]
    kinds = [type(layer) for layer in layers]
    shapes = [tuple(v.shape) for v in model.weights]
    dense = model.count_params()
    before = called_on(model, x)
    report = factorize(model, budget=budget)
    assert report.dense_parameters == dense
    assert report.parameters == model.count_params() <= budget * dense
    assert sum(isinstance(layer, LowRank) for layer in layers) >= 4
    assert report.ranks == {path: _rank(entry) for path, entry in plan_of(model).items()}
    after = called_on(model, x)
    assert np.abs(after - before).max() > 0
    agree(after, model.predict(x, verbose=0))
    merge(model)
    assert [type(layer) for layer in layers] == kinds
    assert sorted(tuple(v.shape) for v in model.weights) == sorted(shapes)
    agree(after, called_on(model, x), 1e-4)
    agree(after, model.predict(x, verbose=0), 1e-4)


def _rank(entry):
    return entry if isinstance(entry, int) else entry["rank"]


def test_a_fit_with_two_cuts_then_its_files(name, tmp_path):
    make, budget = MODELS[name]
    model, (x, y) = make(), data(name)
    compiled(model, run_eagerly=name in EAGER)
    middle = (1 + budget) / 2
    scheduler = RankScheduler(
        budget=PiecewiseConstant(values=(middle, budget), start_epochs=(0, 1)), allocation="uniform"
    )
    history = model.fit(
        x, y, epochs=2, validation_data=(x, y), batch_size=8, verbose=0, callbacks=[scheduler]
    ).history
    assert len(scheduler.report.cuts) == 2
    assert all(np.isfinite(history["loss"]))
    assert model.count_params() <= budget * scheduler.report.dense_parameters
    now = model.evaluate(x, y, batch_size=8, verbose=0)
    np.testing.assert_allclose(history["val_loss"][-1], now, rtol=1e-5)
    predicted = model.predict(x, verbose=0)
    agree(called_on(model, x), predicted)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert plan_of(loaded) == plan_of(model)
    agree(predicted, loaded.predict(x, verbose=0), 4e-7)

    save_model(model, tmp_path / "model.reducible", scheduler.report)
    keras.utils.clear_session(free_memory=False)  # automatic names count from the start again
    fresh = load_weights_into(make(), tmp_path / "model.reducible")
    assert plan_of(fresh) == plan_of(model)
    agree(predicted, called_on(fresh, x))
    again = load_model(tmp_path / "model.reducible", OWN)
    for one, other in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    agree(predicted, again.predict(x, verbose=0), 1e-5)  # one of the two may run eagerly


# --- what is left -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "path", "reason"),
    [
        ("mobile_net", "expanded_conv_1_depthwise/kernel", "depthwise"),
        ("decoder", "positions/table", "no low-rank form of Positions is known"),
        ("decoder_subclassed", "positions/table", "no low-rank form of Positions is known"),
        ("encoder", "output/kernel", "output layer"),
    ],
)
def test_what_is_left_is_named_with_the_reason(model, path, reason):
    report = factorize(MODELS[model][0](), budget=0.9)
    (record,) = [each for each in report.kernels if each.path == path]
    assert record.rank is None
    assert reason in record.reason
    assert path in str(report)


def test_every_kernel_of_a_model_is_in_the_report(name):
    model = MODELS[name][0]()
    report = factorize(model, budget=0.9)
    paths = {record.path for record in report.kernels}
    for path, layer in _keras.walk(model):
        for variable in _keras.own_variables(layer):
            name = variable.name.removesuffix("_u").removesuffix("_v")
            assert len(variable.shape) < 2 or name == "bias" or f"{path}/{name}" in paths


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
