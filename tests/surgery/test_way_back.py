"""Laws of what comes back: whatever is Keras's own, bit for bit; of the rest, by which call."""

from __future__ import annotations

import dataclasses
import inspect
import json
import random
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import zoo

from reducible_train import (
    FormatError,
    Guard,
    LayerRule,
    PiecewiseConstant,
    RankScheduler,
    Report,
    SurgeryError,
    _keras,
    factorize,
    load_model,
    load_weights_into,
    read_report,
    save_model,
    to_stock_layers,
)
from reducible_train.container import read_container, read_header, write_container
from reducible_train.errors import ShortfallWarning
from reducible_train.report.records import (
    Answers,
    Cut,
    KernelCut,
    KernelRecord,
    UndoneCut,
    empty_report,
)
from reducible_train.saving.allow_list import is_block
from reducible_train.saving.checks import check_savable

L = keras.layers
NUMBERS = np.random.default_rng(3).normal(size=(7, 16)).astype("float32")
TOKENS = np.random.default_rng(4).integers(0, 30, (7, 6))
WORDS = np.array(["to be or", "not to be", "ünd  sø\tweiter", "or or"], object)


def stack(*layers, inputs=None):
    return keras.Sequential([keras.Input((16,)) if inputs is None else inputs, *layers])


def dense_stack(change):
    model = stack(L.Dense(24, "relu", name="a"), L.Dense(24, name="b"), L.Dense(4, name="o"))
    change(model.get_layer("a"))
    factorize(model, rank=3)
    return model, NUMBERS


def quantized(mode):
    def make():
        return dense_stack(lambda layer: layer.quantize(mode))

    return make


def with_lora(mode=None):
    def change(layer):
        if mode:
            layer.quantize(mode)
        layer.enable_lora(2)
        for variable in (layer.lora_kernel_a, layer.lora_kernel_b):
            values = np.linspace(-1, 1, np.prod(variable.shape))
            variable.assign(values.reshape(variable.shape))

    return lambda: dense_stack(change)


def lora_then(mode):
    def change(layer):
        layer.enable_lora(2)
        layer.lora_kernel_b.assign(np.linspace(-1, 1, 2 * 24).reshape(2, 24))
        layer.quantize(mode)

    return lambda: dense_stack(change)


def whole_int8():
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            L.Embedding(30, 8, name="table"),
            L.EinsumDense("abc,cd->abd", (6, 5), name="einsum"),
            L.Flatten(),
            L.Dense(4, name="o"),
        ]
    )
    for layer in (model.layers[0], model.layers[1], model.layers[3]):
        layer.quantize("int8")
    return model, TOKENS


def calibrated(mode):
    """As GPTQ or AWQ leave a layer behind, of a pretended calibration."""

    def make():
        model = stack(L.Dense(24, name="a"), L.Dense(24, name="b"), L.Dense(4))
        layer = model.get_layer("a")
        kind = {"gptq": keras.quantizers.GPTQConfig, "awq": keras.quantizers.AWQConfig}[mode]
        layer.quantize(mode, config=kind(dataset=None, tokenizer=None, group_size=-1))
        setattr(layer, f"is_{mode}_calibrated", True)
        rng = np.random.default_rng(0)
        for variable in (layer.quantized_kernel, layer.kernel_scale, layer.kernel_zero):
            variable.assign(rng.integers(0, 3, variable.shape))
        factorize(model, rank=3)
        return model, NUMBERS

    return make


def lora_everywhere():
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            L.Embedding(30, 8, name="table"),
            L.Conv1D(6, 3, name="conv"),
            L.Dense(4, name="o"),
        ]
    )
    for name in ("table", "conv"):
        model.get_layer(name).enable_lora(2)
        for variable in model.get_layer(name).trainable_variables:
            variable.assign(keras.ops.ones(variable.shape) * 0.3)
    return model, TOKENS


def of_words(layer, data=WORDS, inputs=(), dtype="string", **kwargs):
    def make():
        made = layer()
        model = keras.Sequential([keras.Input(inputs, dtype=dtype), made, L.Dense(5, name="o")])
        return model, data

    return make


def adapted(kind, data, **kwargs):
    def make():
        layer = kind(**kwargs)
        layer.adapt(data)
        return layer

    return make


def stateful():
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(7, 4, 4)),
            L.LSTM(6, stateful=True, name="memory"),
            L.SpectralNormalization(L.Dense(5), name="normed"),
        ]
    )
    model(NUMBERS.reshape(7, 4, 4), training=True)
    model.get_layer("memory").reset_states()  # what it remembers is not kept
    return model, NUMBERS.reshape(7, 4, 4)


def odd_names():
    inputs = keras.Input((16,), name="in put é")
    shared = L.Dense(16, name="a.b:c 'q' \\ ☃")
    x = shared(shared(inputs)) * 2.0
    inner = keras.Sequential([keras.Input((16,)), L.Dense(5, name="a.b:c 'q' \\ ☃")], name="in-ner")
    return keras.Model(inputs, inner(x), name="odd näme"), NUMBERS


KEPT = {
    "int8": quantized("int8"),
    "int4": quantized("int4"),
    "float8": quantized("float8"),
    "gptq": calibrated("gptq"),
    "awq": calibrated("awq"),
    "whole int8": whole_int8,
    "lora": with_lora(),
    "int8 and lora": with_lora("int8"),
    "lora, then int4": lora_then("int4"),
    "lora, then int8": lora_then("int8"),
    "lora everywhere": lora_everywhere,
    "words adapted": of_words(
        adapted(L.StringLookup, ["a\nb", "", "to be or", "é"], output_mode="one_hot")
    ),
    "words given": of_words(
        lambda: L.StringLookup(vocabulary=["or or", "x"], num_oov_indices=2, output_mode="one_hot")
    ),
    "words without unknown": of_words(
        lambda: L.StringLookup(vocabulary=[*WORDS], num_oov_indices=0, output_mode="one_hot")
    ),
    "text tf-idf, padded": of_words(
        adapted(
            L.TextVectorization, WORDS, output_mode="tf_idf", max_tokens=20, pad_to_max_tokens=True
        )
    ),
    "text int": of_words(adapted(L.TextVectorization, WORDS, output_sequence_length=4)),
    "text never adapted": of_words(lambda: L.TextVectorization(output_sequence_length=4), None),
    "tf-idf never adapted": of_words(
        lambda: L.StringLookup(output_mode="tf_idf", max_tokens=9, pad_to_max_tokens=True),
        None,
        (1,),
    ),
    "integers": of_words(
        adapted(L.IntegerLookup, TOKENS, output_mode="multi_hot"), TOKENS, (6,), "int64"
    ),
    "bins": of_words(
        adapted(L.Discretization, NUMBERS, num_bins=5, output_mode="multi_hot"),
        NUMBERS,
        (16,),
        "float32",
    ),
    "hashes": of_words(lambda: L.Hashing(9, output_mode="multi_hot", salt=3), WORDS[:, None], (1,)),
    "normal adapted": of_words(adapted(L.Normalization, NUMBERS), NUMBERS, (16,), "float32"),
    "normal never adapted": of_words(lambda: L.Normalization(), NUMBERS, (16,), "float32"),
    "stateful": stateful,
    "odd names": odd_names,
}


def outputs(model, x):
    if x.dtype == object:
        x = keras.ops.convert_to_tensor(x.tolist(), "string")
    return keras.ops.convert_to_numpy(model(x))


def test_layers_without_a_public_name_that_models_of_keras_hold_need_no_custom_objects():
    rooms = [keras.src.layers.preprocessing.feature_space]
    rooms += [each for each in vars(keras.src.applications).values() if inspect.ismodule(each)]
    unnamed = [
        thing
        for room in rooms
        for thing in vars(room).values()
        if isinstance(thing, type)
        and issubclass(thing, keras.Layer)
        and thing.__module__ == room.__name__
        and "_api_export_path" not in vars(thing)
    ]
    assert len(unnamed) > 2
    assert [t for t in unnamed if not is_block(t.__module__, t.__name__)] == []


def test_a_feature_space_comes_back(tmp_path):
    kind = keras.utils.FeatureSpace
    features = {"size": "float_normalized", "word": kind.string_categorical(num_oov_indices=1)}
    space = kind(features, output_mode="concat")
    values = {"size": np.arange(6.0, dtype="float32"), "word": np.array(list("abcabd"))}
    space.adapt(tf.data.Dataset.from_tensor_slices(values))
    outputs = L.Dense(3)(space.get_encoded_features())
    model = keras.Model(list(space.get_inputs().values()), outputs)
    x = [tf.constant(each[:, None]) for each in values.values()]
    save_model(model, tmp_path / "m.reducible")
    again = load_model(tmp_path / "m.reducible")
    np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize("kind", KEPT)
def test_what_is_keras_own_comes_back_bit_for_bit(kind, tmp_path):
    model, x = KEPT[kind]()
    path, again = tmp_path / "model.reducible", tmp_path / "again.reducible"
    saved = save_model(model, path)
    assert saved.loads_with == "load_model(path)"
    loaded = load_model(path)
    save_model(loaded, again)
    assert again.read_bytes() == path.read_bytes()
    if x is not None:  # Keras does not call a table that was never adapted
        np.testing.assert_array_equal(outputs(loaded, x), outputs(model, x))


@pytest.mark.parametrize("kind", KEPT)
def test_what_is_keras_own_leaves_bit_for_bit(kind):
    model, x = KEPT[kind]()
    stock = to_stock_layers(model)
    old = {layer.name: layer for layer in model.layers}
    copied = [each for each in stock.layers if type(each) is type(old.get(each.name))]
    assert copied
    for layer in copied:
        kept, expected = _keras.state_of(layer), _keras.state_of(old[layer.name])
        assert kept.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(kept[name], value)
    if x is not None:
        np.testing.assert_allclose(outputs(stock, x), outputs(model, x), rtol=1e-4, atol=1e-5)


def test_tables_go_into_a_model_with_other_words(tmp_path):
    model, _ = KEPT["text tf-idf, padded"]()
    save_model(model, tmp_path / "model.reducible")
    other, _ = of_words(
        adapted(
            L.TextVectorization,
            np.array(["quite other words"]),
            output_mode="tf_idf",
            max_tokens=20,
            pad_to_max_tokens=True,
        )
    )()
    load_weights_into(other, tmp_path / "model.reducible")
    assert other.layers[0].get_vocabulary() == model.layers[0].get_vocabulary()


def test_a_vocabulary_in_a_file_of_its_own_is_taken_along(tmp_path):
    (tmp_path / "words.txt").write_text("or or\nx\n")
    model = stack(
        L.StringLookup(vocabulary=str(tmp_path / "words.txt"), name="words", output_mode="one_hot"),
        L.Dense(3),
        inputs=keras.Input((), dtype="string"),
    )
    save_model(model, tmp_path / "model.reducible")
    (tmp_path / "words.txt").unlink()
    loaded = load_model(tmp_path / "model.reducible")
    assert loaded.get_layer("words").get_vocabulary() == ["[UNK]", "or or", "x"]
    assert (
        b"words.txt" not in json.dumps(read_header(tmp_path / "model.reducible").content).encode()
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vocabulary", np.array([255, 254, 91], np.uint8)),
        ("vocabulary_ends", np.array([2, 1, 3], np.int64)),
        ("vocabulary_ends", np.array([-1, 3], np.int64)),
        ("vocabulary_ends", np.array([1, 2], np.int64)),
        ("vocabulary_ends", np.array([1.0, 3.0])),
        ("vocabulary", np.array([1, 2, 3], np.int64)),
    ],
)
def test_a_forged_table_is_refused(name, value, tmp_path):
    model = stack(
        L.StringLookup(vocabulary=["a"], num_oov_indices=0, name="words"),
        inputs=keras.Input((), dtype="string"),
    )
    save_model(model, tmp_path / "good.reducible")
    with read_container(tmp_path / "good.reducible") as container:
        tensors = {**dict(container), f"words/{name}": value}
        write_container(tmp_path / "bad.reducible", container.header.content, tensors.items())
    with pytest.raises(FormatError, match="vocabulary"):
        load_model(tmp_path / "bad.reducible")


# --- what is of one's own: the call that brings it back ------------------------------------


class Scaled(L.Layer):
    def __init__(self, by=2.0, **kwargs):
        super().__init__(**kwargs)
        self.by = by

    def call(self, x):
        return self.by * x

    def get_config(self):
        return {**super().get_config(), "by": self.by}


class Around(Scaled):
    """Another layer within; made anew from its configuration."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = L.Dense(16)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


@keras.saving.register_keras_serializable("ways")
class Ones(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        return keras.ops.ones(shape, dtype)


def bent(x):
    return keras.ops.abs(x) - 1


class Forgetful(L.Layer):
    """No word in its configuration on its size."""

    def __init__(self, layer, size=3):
        super().__init__()
        self.layer, self.size = layer, size

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.size))

    def call(self, x):
        return x @ self.kernel


class Sized(Scaled):
    """Comes back smaller than it was."""

    def __init__(self, size=3, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.size))

    def call(self, x):
        return x @ self.kernel


class OneWay(Sized):
    """Does not take what it gives."""

    def load_own_variables(self, store):
        raise KeyError("lost")


class Looking(Scaled):
    """Looks at values while it is built, which need memory then."""

    def build(self, shape):
        self.table = self.add_weight(shape=(3,), initializer=Ones())
        self.first = float(keras.ops.convert_to_numpy(self.table.value)[0])
        self.more = keras.Variable(np.ones(2), name="more")


def own():
    return stack(
        Scaled(3.0, name="s"),
        Around(name="r"),
        Looking(name="l"),
        L.Dense(4, activation=bent, kernel_initializer=Ones(), kernel_regularizer=penalty),
    )


@keras.saving.register_keras_serializable("ways")
def penalty(w):
    return 0.1 * keras.ops.sum(w)


NAMES = {
    "Scaled": Scaled,
    "Around": Around,
    "Looking": Looking,
    "bent": bent,
    "ways>Ones": Ones,
    "ways>penalty": penalty,
}


def test_all_names_that_a_file_needs_are_told_at_once(tmp_path):
    model = own()
    with pytest.warns(UserWarning, match="custom_objects") as told:
        saved = save_model(model, tmp_path / "model.reducible")
    [told] = [each for each in told if each.category is UserWarning]
    assert set(saved.custom_objects) == NAMES.keys()
    assert "'ways>Ones': Ones" in saved.loads_with
    assert saved.loads_with in str(told.message)
    loaded = load_model(tmp_path / "model.reducible", NAMES)
    np.testing.assert_array_equal(outputs(loaded, NUMBERS), outputs(model, NUMBERS))
    with pytest.raises(FormatError, match="not among Keras's own") as refused:
        load_model(tmp_path / "model.reducible")
    assert all(repr(name) in str(refused.value) for name in NAMES)


def lambdas():
    return stack(L.Lambda(bent, name="one"), L.Dense(4), L.Lambda(lambda x: x, name="two"))


WITHOUT = {
    "lambda": (lambdas, r"layer 'one' \(Lambda\).*; layer 'two' \(Lambda\)"),
    "no configuration": (
        lambda: stack(Forgetful(L.Dense(2)), L.Dense(4)),
        r"layer 'forgetful\w*' \(Forgetful\)",
    ),
    "another shape": (lambda: stack(Sized(size=5, name="z")), r"'z/\w+' has shape \(16, 5\)"),
    "a function without a name": (
        lambda: stack(L.Dense(4, activation=lambda x: x, name="d")),
        r"layer 'd' \(Dense\)",
    ),
}


@pytest.mark.parametrize("kind", WITHOUT)
def test_what_cannot_be_built_again_is_told_with_its_reason(kind, tmp_path):
    make, reason = WITHOUT[kind]
    model = make()
    path = tmp_path / "model.reducible"
    with pytest.warns(UserWarning, match=reason):
        saved = save_model(model, path)
    assert saved.loads_with == "load_weights_into(model, path)"
    names = {"Lambda": L.Lambda, "Sized": Sized, "Forgetful": Forgetful}
    with pytest.raises(FormatError, match=rf"{reason}.*load_weights_into"):
        load_model(path, names)
    other = make()
    load_weights_into(other, path)
    np.testing.assert_array_equal(outputs(other, NUMBERS), outputs(model, NUMBERS))


class Filing(Scaled):
    def save_assets(self, folder):
        raise AssertionError("nobody asks it to")

    load_assets = save_assets


class Texts(Scaled):
    def save_own_variables(self, store):
        store["words"] = np.array(["a", "b"])


def test_all_that_no_file_can_hold_is_told_before_training():
    model = stack(Filing(name="f"), Texts(name="t"), L.Dense(4))
    with pytest.raises(FormatError, match=r"(?s)'f' \(Filing\) keeps files.*'t' \(Texts\)") as one:
        check_savable(model)
    with pytest.raises(FormatError) as two:
        save_model(model, "never.reducible")
    assert str(one.value) == str(two.value)
    with pytest.raises(FormatError, match=r"'w' \(OneWay\) does not take back .*lost"):
        check_savable(stack(OneWay(name="w")))
    with pytest.raises(SurgeryError, match="no weights yet"):
        check_savable(zoo.Subclassed())


def with_layers_beside(**beside):
    inputs = keras.Input((16,))
    model = keras.Model(inputs, L.Dense(4, name="o")(L.Dense(24, name="h")(inputs)))
    for name, layer in beside.items():
        setattr(model, name, layer)
    return model


def test_layers_beside_a_graph_are_in_the_file_and_named_if_nothing_makes_them(tmp_path):
    def make():
        model = with_layers_beside(head=L.Dense(9), probes={"a": [L.Dense(5), L.Dropout(0.5)]})
        model.head.build((None, 24))
        model.probes["a"][0].build((None, 24))
        return model

    model, path = make(), tmp_path / "model.reducible"
    factorize(model, rank=2)
    with pytest.warns(UserWarning, match="does not hold 'head', 'probes/a/0', which no graph"):
        saved = save_model(model, path)
    with pytest.raises(FormatError, match=r"does not hold 'head'.*load_weights_into"):
        load_model(path)
    assert saved.weight_bytes == sum(each.nbytes for each in model.get_weights())
    other = load_weights_into(make(), path)
    assert other.head.rank == other.probes["a"][0].rank == 2
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    stock = to_stock_layers(model)
    assert [layer.name for layer in stock.layers[1:]] == ["h_u", "h", "o"]


@keras.saving.register_keras_serializable("way_back")
class Headed(keras.Model):
    """It makes a layer beside its graph itself, and names none of them."""

    def __init__(self, **kwargs):
        inputs = keras.Input((16,))
        super().__init__(inputs, L.Dense(4)(L.Dense(24)(inputs)), **kwargs)
        self.head = stack(L.Dense(9, bias_initializer="ones", name="of_head"))

    def get_config(self):
        return {"name": self.name}


def test_a_file_of_before_it_held_layers_beside_graphs_leaves_them_as_they_are(tmp_path):
    model, path = Headed(name="headed"), tmp_path / "model.reducible"
    factorize(model, rank=2)
    objects = {"way_back>Headed": Headed}
    with pytest.warns(UserWarning, match="custom_objects"):
        save_model(model, path)
    with read_container(path) as container:
        content = container.header.content
        tensors = [(name, value) for name, value in container if not name.startswith("head/")]
    del content["plan"]["head/of_head/kernel"]
    assert 0 < len(tensors) < len(model.weights)
    write_container(path, content, tensors)
    other = Headed()
    factorize(other, rank=3, rules=[LayerRule("dense*", keep_dense=True)])
    head = other.head.get_weights()
    told = r"nothing of 'head', 'head/of_head', which no graph of model '\w+' calls"
    with pytest.warns(UserWarning, match=told):
        load_weights_into(other, path)
    for one, two in zip(other.head.get_weights(), head, strict=True):
        np.testing.assert_array_equal(one, two)
    with pytest.warns(UserWarning, match=told):
        loaded = load_model(path, objects)
    np.testing.assert_array_equal(loaded.head.layers[-1].bias, np.ones(9))
    for each in (other, loaded):
        np.testing.assert_array_equal(outputs(each, NUMBERS), outputs(model, NUMBERS))


class Words(L.Layer):
    """As tokenizers do, it holds no weights, and keeps its words in a file."""

    def save_assets(self, folder):
        raise AssertionError("nobody asks it to")

    load_assets = save_assets


def test_what_has_no_weights_beside_a_graph_keeps_no_model_from_coming_back(tmp_path):
    model = with_layers_beside(twice=L.Rescaling(2.0), words=Words())
    model.features = keras.Model(model.inputs, model.get_layer("h").output)
    with pytest.warns(UserWarning, match=r"load_model\(path\)\. What 'words' keeps in files"):
        save_model(model, tmp_path / "model.reducible")
    loaded = load_model(tmp_path / "model.reducible")
    np.testing.assert_array_equal(outputs(loaded, NUMBERS), outputs(model, NUMBERS))


@keras.saving.register_keras_serializable("way_back")
class Pick:
    """What a layer finds for itself in Keras's registry."""

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls()


@keras.saving.register_keras_serializable("way_back")
class Picking(L.Layer):
    """A layer that makes a helper of its own by a name, as keras-hub's models their samplers."""

    def __init__(self, pick="usual", **kwargs):
        super().__init__(**kwargs)
        self.pick = pick
        name = "way_back>Pick" if pick == "usual" else pick
        keras.saving.deserialize_keras_object(
            {"module": None, "class_name": name, "config": {}, "registered_name": name}
        )

    def call(self, x):
        return x

    def get_config(self):
        return {**super().get_config(), "pick": self.pick}


def test_the_code_of_a_trusted_class_finds_what_it_asks_for_itself(tmp_path):
    model = stack(L.Dense(4, name="o"), Picking())
    path = tmp_path / "model.reducible"
    with pytest.warns(UserWarning, match="custom_objects={'way_back>Picking': Picking}"):
        save_model(model, path)
    again = load_model(path, {"way_back>Picking": Picking})
    np.testing.assert_array_equal(again(NUMBERS), model(NUMBERS))


def test_a_name_in_the_file_is_not_found_through_a_trusted_class(tmp_path):
    path = tmp_path / "model.reducible"
    with pytest.warns(UserWarning, match="load_weights_into"):
        save_model(stack(L.Dense(4, name="o"), Picking("way_back>Pick")), path)
    with pytest.raises(FormatError, match=r"load_weights_into"):
        load_model(path, {"way_back>Picking": Picking})


def test_a_look_ahead_changes_nothing():
    model, hidden = own(), lambdas()
    factorize(model, rank=2)
    before = model.get_weights()
    keras.utils.set_random_seed(5)
    first = L.Dense(2).name
    state, arrays = random.getstate(), np.random.get_state()[1].copy()
    back = check_savable(model)
    assert check_savable(hidden).config is None
    assert back.tried
    assert random.getstate() == state
    np.testing.assert_array_equal(np.random.get_state()[1], arrays)
    assert int(L.Dense(2).name.rpartition("_")[2]) == int(first.rpartition("_")[2] or 0) + 1
    for one, two in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_call_that_was_replaced_is_told_of(tmp_path):
    model = stack(L.Dense(16, name="a"), L.Dense(16, name="b"))
    factorize(model, rank=3)
    layer, x = model.get_layer("a"), np.ones((2, 16), "float32")
    original = layer.call
    layer.call = lambda x: 2 * original(x)
    told = r"use load_model\(path\)\. The function in place of `call` of 'a' is not in it"
    with pytest.warns(UserWarning, match=told):
        save_model(model, tmp_path / "model.reducible")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        del layer.call
        save_model(model, tmp_path / "model.reducible")
    loaded = load_model(tmp_path / "model.reducible")
    np.testing.assert_allclose(zoo.outputs(loaded, x), zoo.outputs(model, x), rtol=1e-6)


def test_a_large_model_is_looked_at_without_memory(monkeypatch):
    model = stack(*[L.Dense(16) for _ in range(3)])
    monkeypatch.setattr(keras.initializers.GlorotUniform, "__call__", None)
    assert check_savable(model).loads_with == "load_model(path)"


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", ["dense", "submodel", "weightless"])
def test_a_sequential_that_holds_a_layer_twice_comes_back_by_its_code(kind, nested, tmp_path):
    def make():
        first = {
            "dense": lambda: L.Dense(16, name="twice"),
            "submodel": lambda: stack(L.Dense(16, name="in")),
            "weightless": lambda: L.ReLU(name="twice"),
        }[kind]()
        model = stack(L.Dense(16, name="a"), first, L.Dense(16, name="b"), first)
        inputs = keras.Input((16,))
        return keras.Model(inputs, model(inputs)) if nested else model

    model = make()
    factorize(model, rank=3, rules=[LayerRule("*", keep_dense=False)])
    with pytest.warns(UserWarning, match=r"holds layer .* more than once"):
        saved = save_model(model, tmp_path / "model.reducible")
    assert saved.loads_with == "load_weights_into(model, path)"
    with pytest.raises(FormatError, match="more than once"):
        load_model(tmp_path / "model.reducible")
    again = load_weights_into(make(), tmp_path / "model.reducible")
    np.testing.assert_array_equal(again(NUMBERS), model(NUMBERS))


# --- the report ----------------------------------------------------------------------------


def a_report():
    spectrum = np.array([2.0, 1.0])
    cut = KernelCut("a/kernel", (4, 3), None, 2, 0.5, 0.7, "budget", spectrum, output_error=0.2)
    measured = (0.3, 0.4, {"loss": 0.5}, {"loss": 0.6})
    return Report(
        100,
        68,
        400,
        160,
        None,
        12,
        (
            KernelRecord("a/kernel", "Dense", (4, 3), 2, 1, 14, energy=0.5, count=2, split="x"),
            KernelRecord("b/kernel", "Dense", (4, 3), None, 1, 12, reason="small"),
        ),
        (Cut(1, 20, "budget", 0.5, (cut,), 100, 40, {"spectra": 0.1}, {"gap": 0.0}, *measured),),
        ("A sentence.",),
        (UndoneCut(2, 3, "budget", 0.3, 40, 30, "loss", 0.1, 0.2, None, "why"),),
        answers=Answers(64, "the validation data", 0.35, {"loss": 0.55}),
    )


def test_a_report_is_read_back_without_keras(tmp_path):
    report = a_report()
    save_model(stack(L.Dense(4, name="a")), tmp_path / "model.reducible", report)
    code = (
        "import sys, reducible_train as r;"
        f"print(r.read_report(r'{tmp_path}/model.reducible'));"
        "assert not {'keras', 'tensorflow'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(report)
    again = read_report(tmp_path / "model.reducible")
    assert again.to_dict() == report.to_dict()
    assert again.cuts[0].kernels[0].spectrum.shape == (0,)
    save_model(stack(L.Dense(4, name="a")), tmp_path / "model.reducible")
    assert read_report(tmp_path / "model.reducible") is None


@pytest.mark.parametrize("allocation", ["equal_energy", "knapsack"])
def test_a_report_is_equal_to_what_is_read_back_of_it(allocation, tmp_path):
    model = zoo.sequential()
    report = factorize(model, budget=0.6, allocation=allocation)
    save_model(model, tmp_path / "model.reducible", report)
    again = read_report(tmp_path / "model.reducible")
    assert again.cuts[0].seconds == {}, "wall times are not kept"
    assert again == report
    assert len({again, report}) == 1
    (cut,) = again.cuts
    (first, *others) = cut.kernels
    other = dataclasses.replace(first, rank=first.rank + 1)
    for different in (
        dataclasses.replace(again, parameters=1),
        dataclasses.replace(again, cuts=()),
        dataclasses.replace(again, cuts=(dataclasses.replace(cut, epoch=3),)),
        dataclasses.replace(again, cuts=(dataclasses.replace(cut, kernels=(other, *others)),)),
    ):
        assert different != report


@pytest.mark.parametrize("mode", ["int8", "float8"])
@pytest.mark.filterwarnings("ignore:Layer InputLayer does not")
def test_a_model_with_some_factors_is_quantized_but_for_these(mode, tmp_path):
    model = stack(L.Dense(24, "relu", name="a"), L.Dense(24, name="b"), L.Dense(4, name="o"))
    factorize(model, rank=3, rules=[LayerRule("a", keep_dense=True)])
    with pytest.warns(UserWarning, match="`quantize` cannot be used on layer 'b'.*merge"):
        model.quantize(mode)
    modes = [getattr(layer, "quantization_mode", None) for layer in model.layers]
    assert modes == [mode, None, mode]
    save_model(model, tmp_path / "model.reducible")
    again = load_model(tmp_path / "model.reducible")
    np.testing.assert_array_equal(
        again.predict(NUMBERS, verbose=0), model.predict(NUMBERS, verbose=0)
    )


@pytest.mark.parametrize("crosses", [None, [("kind", "size")]])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn.t match")  # of dicts
def test_a_feature_space_comes_back_with_the_model_behind_it(crosses, tmp_path):
    tf = pytest.importorskip("tensorflow")
    space = keras.utils.FeatureSpace
    kinds = {
        "size": "integer_categorical",
        "kind": "string_categorical",
        "age": space.float_normalized(),
        "time": space.float_discretized(num_bins=3),
        "plain": "float",
    }
    rng = np.random.default_rng(0)
    rows = {
        "size": rng.integers(0, 5, 24),
        "kind": rng.choice(["a", "ü", ""], 24),
        **{name: rng.random(24).astype("float32") for name in ("age", "time", "plain")},
    }
    features = space(kinds, crosses=crosses, crossing_dim=8)
    features.adapt(tf.data.Dataset.from_tensor_slices(rows).batch(8))
    hidden = L.Dense(24, "relu", name="a")(features.get_encoded_features())
    hidden = L.Dense(24, "relu", name="b")(hidden)
    model = keras.Model(features.get_inputs(), L.Dense(2, name="o")(hidden))
    assert factorize(model, rank=3).ranks
    assert save_model(model, tmp_path / "model.reducible").loads_with == "load_model(path)"
    again = load_model(tmp_path / "model.reducible")
    rows = {name: tf.constant(values) for name, values in rows.items()}
    np.testing.assert_array_equal(again(rows), model(rows))


def with_numbers(record, number):
    """A record whose numbers that need not be whole are all another, at any depth."""
    if not dataclasses.is_dataclass(record):
        return number if isinstance(record, float) else record
    values = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    for name, value in values.items():
        if isinstance(value, tuple):
            values[name] = tuple(with_numbers(each, number) for each in value)
        elif isinstance(value, dict):
            values[name] = dict.fromkeys(value, number)
        else:
            values[name] = with_numbers(value, number)
    return dataclasses.replace(record, **values)


@pytest.mark.parametrize(
    "number", [float("nan"), float("inf"), -float("inf"), np.float32(0.5), np.float64("nan"), 3]
)
def test_a_file_holds_a_report_whatever_its_numbers_are(number, tmp_path):
    report = with_numbers(a_report(), number)
    assert report.undone[0].worst is number
    save_model(stack(L.Dense(4, name="a")), tmp_path / "model.reducible", report)
    assert read_report(tmp_path / "model.reducible").to_dict() == report.to_dict()


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_file_holds_the_report_of_a_cut_undone_for_what_is_no_number(score, tmp_path):
    model = zoo.compiled(zoo.sequential())
    scheduler = RankScheduler(
        budget=PiecewiseConstant((1.0, 0.5), (0, 1)),
        guard=Guard("score", limit=0.1, mode="max", tries=1),
    )
    says = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(score=score if epoch == 1 else 0.9)
    )
    with pytest.warns(ShortfallWarning, match="held it back"):
        model.fit(*zoo.data(model), epochs=3, verbose=0, callbacks=[says, scheduler])
    report = scheduler.report
    assert not np.isfinite(report.undone[0].value)
    save_model(model, tmp_path / "model.reducible", report)
    assert str(read_report(tmp_path / "model.reducible")) == str(report)


def test_a_file_holds_the_report_of_a_training_that_did_nothing(tmp_path):
    model = stack(L.Dense(4, name="a"))
    save_model(model, tmp_path / "model.reducible", empty_report("No step was trained."))
    assert read_report(tmp_path / "model.reducible").notes == ("No step was trained.",)


def test_reports_of_older_and_newer_versions():
    plain = a_report().to_dict()
    old = json.loads(json.dumps(plain))
    del old["undone"], old["kernels"][0]["split"], old["cuts"][0]["certificate"]
    del (
        old["answers"],
        old["cuts"][0]["metrics_before"],
        old["cuts"][0]["kernels"][0]["output_error"],
    )
    old["cuts"][0]["seconds"] = {"spectra": 0.25}
    assert Report.from_dict(old).cuts[0].seconds == {"spectra": 0.25}
    assert Report.from_dict(old).undone == ()
    for wrong, told in [
        ({**plain, "later": 1}, "newer version"),
        ({**plain, "parameters": "many"}, r"parameters must be a whole number. Received: 'many'"),
        ({**plain, "kernels": [3]}, r"kernels\[0\] must be an object"),
        ({**plain, "notes": "one"}, "notes must be a list"),
        ({key: plain[key] for key in list(plain)[1:]}, "must have 'dense_parameters'"),
        ([], "must be an object"),
    ]:
        with pytest.raises(FormatError, match=told):
            Report.from_dict(wrong)


def test_equal_trainings_give_equal_bytes(tmp_path):
    contents = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        model = stack(L.Dense(24, name="a"), L.Dense(24, name="b"), L.Dense(4, name="o"))
        model = keras.Model(model.inputs, model.outputs[0] * 2.0)
        report = factorize(model, budget=0.5)
        assert report.cuts[0].seconds
        save_model(model, tmp_path / "model.reducible", report)
        contents.append((tmp_path / "model.reducible").read_bytes())
    assert contents[0] == contents[1]
