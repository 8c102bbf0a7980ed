"""Laws of leaving: stock layers, SavedModel, LiteRT and ONNX compute what the model computes."""

from __future__ import annotations

import functools
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import zoo
from kinds import KINDS

from reducible_train import LayerRule, SurgeryError, factorize, to_stock_layers
from reducible_train.layers import LowRank, dense_classes

ROUND_OFF = 2e-5
GRAPHS = sorted(zoo.MODELS.keys() - {"subclassed"})

# Keras 3.15 asks numpy for `np.object` on behalf of tf2onnx.
NUMPY_OBJECT = "ignore:In the future `np.object`:FutureWarning"
# TensorFlow 2.21 announces that LiteRT will have a package of its own.
TF_LITE = "ignore:\\s*Warning. tf.lite.Interpreter is deprecated:UserWarning"


def trained(name):
    """A zoo model whose every variable has moved, cut to rank 3."""
    model = zoo.compiled(zoo.MODELS[name](), run_eagerly=True)
    x, y = zoo.data(model)
    zoo.step(model, x, y)
    factorize(model, rank=3)
    return model, x


def all_layers(model):
    return [model, *model._flatten_layers(include_self=False)]


def stack(*layers, shape=(24,), dtype=None):
    """A Sequential model between an input and an output layer, its kernels cut to rank 4."""
    model = keras.Sequential(
        [keras.Input(shape, dtype=dtype), *layers, keras.layers.Dense(3, name="output")]
    )
    factorize(model, rank=4)
    return model


# --- to_stock_layers ----------------------------------------------------------------------


@pytest.mark.parametrize("name", GRAPHS)
def test_computes_the_same_at_the_same_size_in_stock_layers(name):
    model, x = trained(name)
    before = zoo.outputs(model, x)
    stock = to_stock_layers(model)
    assert type(stock) is type(model)
    assert not any(isinstance(layer, LowRank) for layer in all_layers(stock))
    assert all(type(layer).__module__.startswith("keras.") for layer in all_layers(stock))
    np.testing.assert_allclose(zoo.outputs(stock, x), before, atol=ROUND_OFF)
    assert stock.count_params() == model.count_params()
    assert stock.input_shape == model.input_shape
    assert stock.output_shape == model.output_shape


@pytest.mark.parametrize("name", GRAPHS)
def test_the_two_models_share_nothing(name):
    model, x = trained(name)
    before = zoo.outputs(model, x)
    config, names = model.get_config(), [layer.name for layer in all_layers(model)]
    stock = to_stock_layers(model)
    for variable in stock.variables:
        variable.assign(variable * 0)
    np.testing.assert_array_equal(zoo.outputs(model, x), before)
    assert model.get_config() == config
    assert [layer.name for layer in all_layers(model)] == names
    assert any(isinstance(layer, LowRank) for layer in all_layers(model))


def test_names_are_those_of_the_layers():
    stock = to_stock_layers(trained("sequential")[0])
    assert [layer.name for layer in stock.layers] == [
        "first_u",
        "first",
        "second_u",
        "second",
        "norm",
        "output",
    ]
    assert not stock.get_layer("first_u").use_bias
    assert stock.get_layer("first_u").activation is keras.activations.linear
    assert stock.get_layer("first").activation is keras.activations.relu
    assert not stock.get_layer("second").use_bias
    timed = to_stock_layers(trained("wrapped")[0])
    assert timed.get_layer("timed_u").layer.name == "inside_u"
    assert timed.get_layer("timed").layer.name == "inside"


def test_what_left_can_be_factorized_and_leave_again():
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, name="a"),
                              keras.layers.Dense(3, name="output")])  # fmt: skip
    factorize(model, rank=16)
    again = to_stock_layers(model)
    assert factorize(again, rank=4).ranks == {"a_u/kernel": 4, "a/kernel": 4}
    twice = to_stock_layers(again)
    assert [layer.name for layer in twice.layers] == ["a_u_u", "a_u", "a_u_1", "a", "output"]
    x = np.random.default_rng(0).normal(size=(5, 64)).astype("float32")
    np.testing.assert_allclose(zoo.outputs(twice, x), zoo.outputs(again, x), atol=ROUND_OFF)


def test_a_layer_shared_inside_and_outside_of_a_nested_model_stays_shared():
    shared = keras.layers.Dense(24, activation="tanh", name="shared")
    inner_in = keras.Input((24,))
    inner = keras.Model(inner_in, shared(inner_in), name="inner")
    tower = keras.Sequential([keras.Input((24,)), inner, shared], name="tower")
    inputs = keras.Input((24,))
    x = shared(inputs) + inner(inputs) * 2.0
    model = keras.Model(inputs, keras.layers.Dense(3)(tower(x)[:, ::2]))
    factorize(model, rank=4)
    stock = to_stock_layers(model)
    assert stock.count_params() == model.count_params() == 24 * 4 * 2 + 24 + 12 * 3 + 3
    x = np.random.default_rng(0).normal(size=(5, 24)).astype("float32")
    np.testing.assert_allclose(zoo.outputs(stock, x), zoo.outputs(model, x), atol=ROUND_OFF)


def test_structures_and_ways_of_calling_stay():
    left, right = keras.Input((24,), name="left"), keras.Input((6, 24), name="right")
    one = keras.layers.Dense(24, name="one")(inputs=left, training=False)
    inside = keras.Sequential([keras.Input((24,)), keras.layers.Dense(24, name="in")], name="block")
    two = keras.layers.TimeDistributed(inside, name="timed")(right)
    two = keras.layers.MultiHeadAttention(1, 2, name="attention")(two, value=right, key=two)
    model = keras.Model(
        {"left": left, "right": right}, {"one": one, "two": (two, keras.ops.mean(two))}
    )
    rules = [LayerRule(path, keep_dense=False) for path in ("one", "timed/layer/in")]
    factorize(model, rank=4, rules=rules)
    stock = to_stock_layers(model)
    rng = np.random.default_rng(0)
    x = {"left": rng.normal(size=(5, 24)), "right": rng.normal(size=(5, 6, 24))}
    got, expected = stock(x), model(x)
    keras.tree.assert_same_structure(got, expected)
    for a, b in zip(keras.tree.flatten(got), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=ROUND_OFF)
    assert [tensor.name for tensor in stock.inputs] == ["left", "right"]
    assert stock.get_layer("timed").layer.layers[0].name == "in_u"


def test_all_other_state_comes_along():
    import tensorflow as tf

    words = keras.layers.StringLookup(name="words")
    words.adapt(["one", "two", "two"])
    scale = keras.layers.Normalization(name="scale")
    scale.adapt(np.random.default_rng(0).normal(3, 2, size=(50, 24)))
    text, numbers = keras.Input((3,), dtype="string"), keras.Input((24,))
    x = keras.layers.Embedding(4, 8, mask_zero=True, name="embed")(words(text))
    x = keras.layers.LSTM(2, name="lstm")(x)
    y = keras.layers.Dropout(0.5, seed=3, name="drop")(scale(numbers))
    y = keras.layers.Dense(24, name="wide")(y)
    y = keras.layers.BatchNormalization(name="norm")(y)
    outputs = keras.layers.Dense(2, name="output")(keras.layers.Concatenate()([x, y]))
    model = keras.Model([text, numbers], outputs)
    factorize(model, rank=4)
    data = [
        tf.constant([["one", "two", "?"], ["two", "?", "one"]]),
        tf.constant(np.random.default_rng(1).normal(3, 2, size=(2, 24)), "float32"),
    ]
    model(data, training=True)  # moves the statistics and the state of the dropout
    stock = to_stock_layers(model)
    np.testing.assert_allclose(stock(data), model(data), atol=ROUND_OFF)
    np.testing.assert_allclose(stock(data, training=True), model(data, training=True), atol=1e-4)
    np.testing.assert_allclose(stock(data), model(data), atol=1e-4)


def test_a_mask_goes_through_both_layers():
    model = stack(
        keras.layers.Embedding(11, 24, mask_zero=True),
        keras.layers.Dense(24, name="wide"),
        keras.layers.TimeDistributed(keras.layers.Dense(24), name="timed"),
        keras.layers.GlobalAveragePooling1D(),
        shape=(7,),
        dtype="int32",
    )
    stock = to_stock_layers(model)
    x = np.random.default_rng(0).integers(0, 11, size=(5, 7)) * (np.arange(7) < 4)
    np.testing.assert_allclose(stock(x), model(x), atol=ROUND_OFF)
    longer = np.pad(x[:, :4], ((0, 0), (0, 1)))
    assert np.abs(stock(longer) - stock(x)).max() < ROUND_OFF, "the padding is masked"


@pytest.mark.parametrize("policy", ["float64", "mixed_float16", "bfloat16"])
def test_dtypes_stay(policy):
    model = stack(keras.layers.Dense(24, dtype=policy, name="wide"), shape=(24,))
    stock = to_stock_layers(model)
    kept = [stock.get_layer(name).dtype_policy.name for name in ("wide_u", "wide")]
    assert kept == [policy, policy]
    x = np.random.default_rng(0).normal(size=(5, 24)).astype("float32")
    np.testing.assert_array_equal(zoo.outputs(stock, x), zoo.outputs(model, x))


def test_frozen_layers_stay_frozen():
    model = stack(keras.layers.Dense(24, name="a"), keras.layers.Dense(24, name="b"))
    model.get_layer("a").trainable = False
    stock = to_stock_layers(model)
    frozen = [layer.name for layer in stock.layers if not layer.trainable]
    assert frozen == ["a_u", "a"]
    model.trainable = False
    assert not to_stock_layers(model).trainable_variables
    inputs = keras.Input((24,))
    outer = keras.Model(inputs, model(inputs))
    model.trainable = True
    outer.trainable = False
    outer = to_stock_layers(outer)
    assert not outer.trainable
    assert not outer.trainable_variables


def test_a_kernel_regularizer_stays_behind_and_others_do_not():
    model = stack(
        keras.layers.Dense(24, kernel_regularizer="l2", bias_regularizer="l2", name="wide")
    )
    model.get_layer("wide").bias.assign(np.ones(24))
    assert len(model.losses) == 2
    stock = to_stock_layers(model)
    assert [float(loss) for loss in stock.losses] == pytest.approx([0.24])


def test_refused_where_no_two_layers_can_stand():
    model, x = trained("subclassed")
    before = zoo.outputs(model, x)
    with pytest.raises(SurgeryError) as caught:
        to_stock_layers(model)
    for part in ("'blocks/0'", "'hidden/inner_dense'", "Subclassed", "merge(model)"):
        assert part in str(caught.value)
    np.testing.assert_array_equal(zoo.outputs(model, x), before)

    nested = keras.Sequential([keras.Input((24,)), zoo.Block(24, name="block")])
    nested.add(keras.layers.Dense(3, name="output"))
    factorize(nested, rank=4)
    with pytest.raises(SurgeryError, match="'block/inner_dense' is called by the code of Block"):
        to_stock_layers(nested)


def test_a_graph_model_with_a_call_of_its_own_is_refused():
    class Doubled(keras.Model):
        def call(self, x, training=None, mask=None):
            return 2 * super().call(x, training, mask)

    inputs = keras.Input((24,))
    x = keras.layers.Dense(24, name="wide")(inputs)
    model = Doubled(inputs, keras.layers.Dense(3, name="output")(x))
    factorize(model, rank=4)
    with pytest.raises(SurgeryError, match="'wide' is called by the code of Doubled"):
        to_stock_layers(model)


@pytest.mark.parametrize("name", ["predict", "predict_step"])
@pytest.mark.parametrize("kind", [keras.Model, keras.Sequential])
def test_a_model_with_predictions_of_its_own_is_refused(kind, name):
    def doubled(self, x):
        return 2 * getattr(kind, name)(self, x)

    inputs, layers = keras.Input((24,)), [keras.layers.Dense(24), keras.layers.Dense(3)]
    own = type("Doubled", (kind,), {name: doubled})
    if kind is keras.Sequential:
        model = own([inputs, *layers])
    else:
        model = own(inputs, layers[1](layers[0](inputs)))
    factorize(model, rank=4)
    with pytest.raises(SurgeryError, match="a Doubled with a predict or predict_step") as caught:
        to_stock_layers(model)
    x = np.random.default_rng(0).normal(size=(5, 24)).astype("float32")
    (advice,) = re.findall(r"to_stock_layers\(.*\)\)", str(caught.value))
    stock = eval(advice)
    np.testing.assert_allclose(zoo.outputs(stock, x), zoo.outputs(model, x), atol=ROUND_OFF)


@pytest.mark.parametrize("name", ["wide", "whole"])
def test_a_model_of_which_a_call_was_replaced_is_refused(name):
    model = keras.Sequential(
        [keras.Input((24,)), keras.layers.Dense(24, name="wide"), keras.layers.Dense(3)],
        name="whole",
    )
    factorize(model, rank=4)
    layer = model if name == "whole" else model.get_layer(name)
    original = layer.call
    layer.call = lambda *given, **named: 2 * original(*given, **named)
    with pytest.raises(SurgeryError, match=f"Received: '{name}' with another function"):
        to_stock_layers(model)
    del layer.call
    assert to_stock_layers(model).count_params() == model.count_params()


def test_a_call_that_is_only_compiled_is_its_own():
    model = keras.Sequential([keras.Input((24,)), keras.layers.Dense(24), keras.layers.Dense(3)])
    factorize(model, rank=4)
    stock, original = to_stock_layers(model), model.call
    compiled = tf.function(original)
    model.call = compiled
    assert to_stock_layers(model).count_params() == stock.count_params()
    model.call = functools.wraps(original)(lambda x: 2 * original(x))
    with pytest.raises(SurgeryError, match="with another function"):
        to_stock_layers(model)
    model.call = functools.wraps(compiled)(lambda x: 2 * compiled(x))
    with pytest.raises(SurgeryError, match="with another function"):
        to_stock_layers(model)


def test_a_step_of_training_of_its_own_stays_behind():
    class Stepping(keras.Model):
        def train_step(self, data):
            return super().train_step(data)

    inputs = keras.Input((24,))
    x = keras.layers.Dense(24, name="wide")(inputs)
    model = Stepping(inputs, keras.layers.Dense(3, name="output")(x))
    factorize(model, rank=4)
    assert to_stock_layers(model).get_layer("wide_u").units == 4


def test_a_layer_that_cannot_be_copied_is_named():
    class Scale(keras.layers.Layer):
        def __init__(self, factor):
            super().__init__(name="scale")
            self.factor = factor

        def call(self, x):
            return x * self.factor

    model = stack(keras.layers.Dense(24), Scale(np.float32(2)))
    with pytest.raises(SurgeryError, match=r"Layer 'scale' \(Scale\) cannot be copied"):
        to_stock_layers(model)


def test_a_model_without_weights_is_refused():
    with pytest.raises(SurgeryError, match="has no weights yet"):
        to_stock_layers(keras.Sequential([keras.layers.Dense(3)]))


# Dense class of a layer -> the stock layers that take its place.
STOCK = {
    "Dense": ["Dense", "Dense"],
    "EinsumDense": ["EinsumDense", "EinsumDense"],
    "Conv1D": ["Conv1D", "Conv1D"],
    "Conv2D": ["Conv2D", "Conv2D"],
    "Conv3D": ["Conv3D", "Conv3D"],
    "Conv1DTranspose": ["Conv1D", "Conv1DTranspose"],
    "Conv2DTranspose": ["Conv2D", "Conv2DTranspose"],
    "Conv3DTranspose": ["Conv3D", "Conv3DTranspose"],
    "SeparableConv1D": ["SeparableConv1D", "Conv1D"],
    "SeparableConv2D": ["SeparableConv2D", "Conv2D"],
    "Embedding": ["Embedding", "Dense"],
}
# TensorFlow has no 1x1 convolution with the channels first for CPUs.
NOT_ON_A_CPU = {"separable1d first", "separable2d first"}
LEAVING = [name for name, kind in KINDS.items() if type(kind.make()).__name__ in STOCK]


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        pytest.param(name, policy, marks=pytest.mark.slow if rare else ())
        for name in LEAVING
        for policy in ("float32", "mixed_bfloat16")
        for rare in [KINDS[name].variant and policy != "float32"]
    ],
)
def test_every_kind_becomes_two_layers_that_do_the_same(name, policy):
    kind = KINDS[name]
    layer = kind.make(policy)
    dense, called = type(layer).__name__, layer.name
    x = kind.inputs()
    model = keras.Sequential([keras.Input(kind.shape, dtype=x.dtype.name), layer])
    for variable in model.variables:
        variable.assign(np.random.default_rng(2).normal(size=variable.shape))
    rules = [LayerRule(called, keep_dense=False, **({"split": kind.split} if kind.split else {}))]
    factorize(model, rank=3, rules=rules)
    (layer,) = model.layers
    assert isinstance(layer, LowRank)
    if kind.split:
        assert layer.split_of("kernel") == kind.split
    stock = to_stock_layers(model)
    assert [type(each).__name__ for each in stock.layers] == STOCK[dense]
    assert [each.name for each in stock.layers] == [f"{called}_u", called]
    assert stock.count_params() == model.count_params()
    assert stock.output_shape == model.output_shape
    again = type(stock).from_config(stock.get_config())
    again.set_weights(stock.get_weights())
    if name in NOT_ON_A_CPU:
        return
    got, wanted = zoo.outputs(stock, x), zoo.outputs(model, x)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
    np.testing.assert_array_equal(zoo.outputs(again, x), got)


def test_no_kind_is_forgotten():
    shown = {type(KINDS[name].make()) for name in LEAVING}
    without = {kind for kind, low in dense_classes().items() if low.kernel_kind.stock is None}
    assert shown | without == set(dense_classes())
    assert not shown & without


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_recurrent_cells_and_projections_of_attention_are_refused(kind):
    sequence = keras.Input((6, 24))
    x = keras.layers.MultiHeadAttention(2, 12, name="attention")(sequence, sequence)
    x = keras.layers.Bidirectional(getattr(keras.layers, kind)(24, name="cells"), name="both")(x)
    model = keras.Model(sequence, keras.layers.Dense(3, name="output")(x))
    factorize(model, rank=3)
    with pytest.raises(SurgeryError) as caught:
        to_stock_layers(model)
    for part in ("'attention/query_dense'", "MultiHeadAttention", "'both/", "Bidirectional"):
        assert part in str(caught.value)


# --- other processes and runtimes -----------------------------------------------------

# Neither this package nor, for what is exported, the classes of the model.
ELSEWHERE = """
import sys
sys.modules["reducible_train"] = None  # an import would fail
import keras, numpy as np, tensorflow as tf
folder = sys.argv[1]
x = np.load(folder + "/x.npy")
results = {"keras": keras.saving.load_model(folder + "/stock.keras")(x)}
for name in ("exported", "exported_stock"):
    loaded = tf.saved_model.load(folder + "/" + name)
    results[name] = loaded.serve(x)
np.savez(folder + "/results.npz", **{k: np.asarray(v) for k, v in results.items()})
try:
    keras.saving.load_model(folder + "/factorised.keras")
except Exception as error:
    print(error)
"""


def mlp():
    """Three kernels, two of them at rank 16; the sizes tell them apart."""
    model = keras.Sequential(
        [
            keras.Input((200,), name="pixels"),
            keras.layers.Dense(160, activation="relu", name="first"),
            keras.layers.Dense(120, activation="tanh", name="second"),
            keras.layers.Dense(10, activation="softmax", name="output"),
        ],
        name="mlp",
    )
    rng = np.random.default_rng(5)
    for variable in model.variables:
        variable.assign(rng.normal(scale=0.1, size=variable.shape))
    return model


DENSE = {(200, 160), (160, 120)}
FACTORS = {(200, 16), (16, 160), (160, 16), (16, 120)}
OUTPUT = {(120, 10)}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The dense, the factorised and the stock model in every format there is."""
    folder = tmp_path_factory.mktemp("exported")
    dense, model = mlp(), mlp()
    factorize(model, rank=16)
    stock = to_stock_layers(model)
    x = np.random.default_rng(6).normal(size=(7, 200)).astype("float32")
    np.save(folder / "x.npy", x)
    for name, each in {"dense": dense, "factorised": model, "stock": stock}.items():
        each.export(folder / f"{name}.tflite", format="litert", verbose=False)
        each.save(folder / f"{name}.keras")
    model.export(folder / "exported", verbose=False)
    stock.export(folder / "exported_stock", verbose=False)
    return folder, {"dense": dense, "factorised": model, "stock": stock}, x


def test_a_process_without_this_package_computes_the_same(exported):
    folder, models, x = exported
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    expected = zoo.outputs(models["factorised"], x)
    with np.load(folder / "results.npz") as results:
        for name in ("keras", "exported", "exported_stock"):
            np.testing.assert_allclose(results[name], expected, atol=ROUND_OFF, err_msg=name)
    assert "LowRankDense" in done.stdout, "Keras names the class it does not find"


def test_a_saved_model_multiplies_factor_by_factor(exported):
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    folder, _, _ = exported
    variables = tf.train.list_variables(str(folder / "exported/variables/variables"))
    saved = {tuple(shape) for _, shape in variables}
    assert saved >= FACTORS | OUTPUT
    assert not saved & DENSE
    proto = saved_model_pb2.SavedModel.FromString((folder / "exported/saved_model.pb").read_bytes())
    functions = proto.meta_graphs[0].graph_def.library.function
    shapes = [
        [size.size for size in node.attr["_output_shapes"].list.shape[0].dim]
        for function in functions
        for node in function.node_def
        if node.op == "MatMul"
    ]
    assert shapes
    assert {first for first, _ in shapes} == {-1}, "each has the batch on its left side"


def convolutions():
    return keras.Sequential(
        [
            keras.Input((12, 12, 8)),
            keras.layers.Conv2D(24, 3, padding="same", activation="relu", name="channel"),
            keras.layers.Conv2D(24, 3, strides=(2, 2), name="spatial"),
            keras.layers.SeparableConv2D(32, 3, name="separable"),
            keras.layers.Conv2DTranspose(16, 3, name="transposed"),
            keras.layers.GlobalAveragePooling2D(name="mean"),
            keras.layers.Dense(3, name="output"),
        ]
    )


def attention():
    words = keras.Input((10,), dtype="int32")
    x = keras.layers.Embedding(50, 32, name="embedding")(words)
    x = keras.layers.Add()([x, keras.layers.MultiHeadAttention(2, 16, name="attention")(x, x)])
    x = keras.layers.LayerNormalization(name="norm")(x)
    x = keras.layers.Dense(64, activation="relu", name="wide")(x)
    x = keras.layers.GlobalAveragePooling1D(name="mean")(x)
    return keras.Model(words, keras.layers.Dense(3, name="output")(x))


def volumes():
    volume, mean = keras.Input((6, 6, 6, 4)), keras.layers.GlobalAveragePooling3D(name="mean")
    x = keras.layers.Conv3D(24, 3, padding="same", name="volume")(volume)
    return keras.Model(volume, keras.layers.Dense(3, name="output")(mean(x)))


def groups():
    image, mean = keras.Input((9, 9, 8)), keras.layers.GlobalAveragePooling2D(name="mean")
    x = keras.layers.Conv2D(32, 3, groups=2, padding="same", name="grouped")(image)
    return keras.Model(image, keras.layers.Dense(3, name="output")(mean(x)))


@pytest.mark.filterwarnings(NUMPY_OBJECT)
@pytest.mark.filterwarnings(TF_LITE)
@pytest.mark.parametrize(
    ("make", "count"), [(convolutions, 4), (attention, 6), (volumes, 1), (groups, 1)]
)
def test_convolutions_and_attention_are_exported_too(make, count, tmp_path):
    import tensorflow as tf

    rng = np.random.default_rng(3)
    model = make()
    for variable in model.variables:
        variable.assign(rng.normal(scale=0.3, size=variable.shape))
    rules = [LayerRule(f"{split}*", split=split) for split in ("channel", "spatial")]
    report = factorize(model, rank=4, rules=rules if make is convolutions else ())
    assert len(report.ranks) == count
    shape = (5, *model.input_shape[1:])
    words = model.inputs[0].dtype == "int32"
    x = (rng.integers(50, size=shape) if words else rng.normal(size=shape)).astype(
        model.inputs[0].dtype
    )
    expected = zoo.outputs(model, x)
    tolerance = 1e-5 * np.abs(expected).max()

    model.export(tmp_path / "saved", verbose=False)
    saved = tf.saved_model.load(tmp_path / "saved")
    np.testing.assert_allclose(saved.serve(x), expected, atol=tolerance)

    model.export(tmp_path / "model.tflite", format="litert", verbose=False)
    interpreter = tf.lite.Interpreter(str(tmp_path / "model.tflite"))
    np.testing.assert_allclose(run_litert(interpreter, x), expected, atol=tolerance)

    if make is groups:  # onnxruntime cannot read what Keras makes of the dense one either
        return
    pytest.importorskip("tf2onnx", reason="tf2onnx is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (got,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(got, expected, atol=tolerance)


def run_litert(interpreter, x):
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place, x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


LITERT = {
    "tf.lite": pytest.param("tensorflow.lite", marks=pytest.mark.filterwarnings(TF_LITE)),
    "ai_edge_litert": "ai_edge_litert.interpreter",
}


@pytest.mark.parametrize("runtime", LITERT.values(), ids=LITERT)
@pytest.mark.parametrize("name", ["factorised", "stock"])
def test_litert_runs_two_thin_products(exported, name, runtime):
    if runtime == "tensorflow.lite":
        from tensorflow import lite
    else:
        lite = pytest.importorskip(runtime, reason="ai-edge-litert is not installed")
    folder, models, x = exported
    interpreter = lite.Interpreter(str(folder / f"{name}.tflite"))
    got = run_litert(interpreter, x)
    np.testing.assert_allclose(got, zoo.outputs(models[name], x), atol=ROUND_OFF)
    shapes = {tuple(each["shape"])[::-1] for each in interpreter.get_tensor_details()}
    assert shapes >= FACTORS | OUTPUT
    assert not shapes & DENSE


@pytest.mark.filterwarnings(NUMPY_OBJECT)
@pytest.mark.parametrize("name", ["factorised", "stock"])
def test_onnx_runs_two_thin_products(exported, name):
    for package in ("tf2onnx", "onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    import onnx
    import onnxruntime

    folder, models, x = exported
    path = folder / f"{name}.onnx"
    models[name].export(path, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path)
    (got,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(got, zoo.outputs(models[name], x), atol=ROUND_OFF)
    graph = onnx.load(path).graph
    shapes = {tuple(each.dims) for each in graph.initializer}
    assert shapes >= FACTORS | OUTPUT
    assert not shapes & DENSE
    assert [node.op_type for node in graph.node].count("MatMul") == 5
    assert path.stat().st_size < 4 * models[name].count_params() + 3000


def test_exported_files_are_as_small_as_the_parameter_count_promises(exported):
    folder, models, _ = exported
    dense, factorised = models["dense"].count_params(), models["factorised"].count_params()
    for name, parameters in {"dense": dense, "factorised": factorised, "stock": factorised}.items():
        size = (folder / f"{name}.tflite").stat().st_size
        assert 4 * parameters <= size < 4 * parameters + 5000, name
