"""Laws of Keras's weights files of factorised models: they bring their ranks with them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import zoo

from reducible_train import (
    FileAccessError,
    FormatError,
    LayerRule,
    factorize,
    load_weights_into,
    merge,
)
from reducible_train.layers import find_kernels
from reducible_train.selection.scoring import decomposition
from reducible_train.surgery.change import apply_plan, change_kernels, cut
from reducible_train.surgery.plans import plan_of

L = keras.layers


def convolutions():
    return keras.Sequential(
        [
            keras.Input((8, 8, 6)),
            L.Conv2D(16, 3, activation="relu", name="plain"),
            L.SeparableConv2D(24, 3, name="separable"),
            L.Conv2D(20, (3, 1), groups=2, padding="same", name="groups"),
            L.Conv2DTranspose(12, 2, name="transpose"),
            L.GlobalAveragePooling2D(),
            L.Dense(5, name="output"),
        ],
        name="convolutions",
    )


def recurrent():
    return keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            L.Embedding(30, 16, name="words"),
            L.Bidirectional(L.LSTM(12, return_sequences=True), name="both"),
            L.GRU(14, name="one"),
            L.Dense(5, name="output"),
        ],
        name="recurrent",
    )


MODELS = {**zoo.MODELS, "convolutions": convolutions, "recurrent": recurrent}


def data(model):
    rng = np.random.default_rng(0)
    if model.name == "convolutions":
        return rng.normal(size=(4, 8, 8, 6)).astype("float32"), rng.integers(5, size=4)
    if model.name == "recurrent":
        return rng.integers(30, size=(4, 3)), rng.integers(5, size=4)
    return zoo.data(model, 4)


def trained(name, rank=None):
    model = zoo.as_trained(zoo.compiled(MODELS[name]()))
    return model if rank is None else cut_to(model, rank)


def cut_to(model, rank):
    """All but the output layer, with no look at the model, which takes longer than the files."""
    kernels = [k for k in find_kernels(model) if k.refusal is None and k.shape[1] != 5]
    change_kernels(model, [cut(k, min(rank, *k.shape), decomposition(k)) for k in kernels])
    return model


def values(model):
    return [zoo.as_array(v) for v in (*model.weights, *model.optimizer.variables)]


def assert_same(model, other):
    assert plan_of(model) == plan_of(other)
    for one, two in zip(values(model), values(other), strict=True):
        np.testing.assert_array_equal(one, two)
    x, _ = data(model)
    np.testing.assert_array_equal(zoo.outputs(model, x), zoo.outputs(other, x))


@pytest.mark.parametrize("name", MODELS)
def test_weights_and_optimizer_go_into_dense_smaller_and_larger_models(name, tmp_path):
    model = trained(name, rank=4)
    model.save_weights(tmp_path / "last.weights.h5")
    other = trained(name)
    for rank in (None, 2, 9):
        if rank is not None:
            merge(other)
            cut_to(other, rank)
        assert load_weights_into(other, tmp_path / "last.weights.h5") is other
        assert_same(model, other)
    assert np.isfinite(zoo.step(other, *data(other))).all()
    model.load_weights(tmp_path / "last.weights.h5")  # stock, where the ranks agree


@pytest.mark.parametrize("name", ["sequential", "subclassed", "convolutions", "recurrent"])
def test_weights_of_a_dense_model_make_a_model_dense(name, tmp_path):
    model = trained(name)
    model.save_weights(tmp_path / "dense.weights.h5")
    other = trained(name, rank=3)
    load_weights_into(other, tmp_path / "dense.weights.h5")
    assert_same(model, other)


@pytest.mark.parametrize("name", ["nested", "subclassed", "recurrent"])
def test_a_file_of_a_whole_model_serves_too(name, tmp_path):
    model = trained(name, rank=4)
    model.save(tmp_path / "model.keras")
    other = trained(name)
    load_weights_into(other, tmp_path / "model.keras")
    assert_same(model, other)


def test_a_merged_model_has_the_weights_file_of_its_stock_layers(tmp_path):
    model = trained("convolutions", rank=4)
    merge(model)
    model.save_weights(tmp_path / "merged.weights.h5")
    fresh = convolutions()
    fresh.load_weights(tmp_path / "merged.weights.h5")
    x, _ = data(fresh)
    np.testing.assert_array_equal(zoo.outputs(fresh, x), zoo.outputs(model, x))


# --- which layers were factorised ---------------------------------------------------------


class Stacks(keras.Model):
    """Many layers of one shape, in lists in which some were saved before."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.alone = L.Dense(24)
        self.blocks = [L.Dense(24), L.Activation("tanh"), L.Dense(24), L.Dense(24)]
        self.more = {"a": self.blocks[2], "b": L.Dense(24), "c": [L.Dense(24), L.Dense(24)]}
        self.zeros = [self.alone, L.Dense(24), self.blocks[0], L.Dense(24)]

    def call(self, x):
        layers = [self.alone, *self.blocks, self.more["b"], *self.more["c"]]
        for layer in (*layers, *self.zeros[1::2]):
            x = layer(x)
        return x


def stacks():
    model = Stacks(name="stacks")
    model(np.zeros((1, 24), "float32"))
    return model


@pytest.mark.parametrize("seed", range(6))
def test_any_choice_of_layers_of_one_shape_is_told(seed, tmp_path):
    model, other = stacks(), stacks()
    rng = np.random.default_rng(seed)
    paths = [kernel.layer_path for kernel in find_kernels(model)]
    assert len(paths) == 9
    for one, count in ((model, 4), (other, 5)):
        apply_plan(one, {f"{p}/kernel": 3 for p in rng.choice(paths, count, replace=False)})
        assert len(plan_of(one)) == count
    model.save_weights(tmp_path / "stacks.weights.h5")
    load_weights_into(other, tmp_path / "stacks.weights.h5")
    assert plan_of(other) == plan_of(model)
    x, _ = zoo.data(model)
    np.testing.assert_array_equal(zoo.outputs(other, x), zoo.outputs(model, x))


@pytest.mark.parametrize("name", ["subclassed", "recurrent"])
def test_weights_in_several_files(name, tmp_path):
    model, other = trained(name, rank=4), trained(name)
    largest = max(v.nbytes for v in values(model))
    file = tmp_path / "all.weights.json"
    model.save_weights(file, max_shard_size=1.01 * largest / 1024**3)
    assert len(list(tmp_path.iterdir())) > 4
    load_weights_into(other, file)
    assert_same(model, other)
    model.load_weights(file)  # stock, where the ranks agree


def test_among_layers_of_one_shape_in_several_files_too(tmp_path):
    model, other = stacks(), stacks()
    paths = [kernel.layer_path for kernel in find_kernels(model)]
    apply_plan(model, {f"{paths[i]}/kernel": 3 for i in (1, 3, 4, 8)})
    model.save_weights(tmp_path / "stacks.weights.json", max_shard_size=3000 / 1024**3)
    load_weights_into(other, tmp_path / "stacks.weights.json")
    assert plan_of(other) == plan_of(model)
    x, _ = zoo.data(model)
    np.testing.assert_array_equal(zoo.outputs(other, x), zoo.outputs(model, x))


def test_several_files_of_which_one_is_missing_or_elsewhere_are_refused(tmp_path):
    model = wide()
    file = tmp_path / "all.weights.json"
    model.save_weights(file, max_shard_size=4000 / 1024**3)
    text = file.read_text()
    before = model.get_weights()
    for bad in ("{", "[]", text.replace("all_00001", "../all_00001"), text.replace("0001", "9")):
        file.write_text(bad)
        with pytest.raises(FormatError, match=r"all\.weights\.json is no weights file"):
            load_weights_into(model, file)
    for one, two in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)


def test_one_kernel_of_a_cell_alone(tmp_path):
    model = trained("recurrent")
    recurrent_kernels = [k for k in find_kernels(model) if k.name == "recurrent_kernel"]
    change_kernels(model, [cut(k, 4, decomposition(k)) for k in recurrent_kernels])
    assert len(plan_of(model)) == 3
    model.save_weights(tmp_path / "last.weights.h5")
    other = trained("recurrent", rank=2)
    load_weights_into(other, tmp_path / "last.weights.h5")
    assert_same(model, other)


@pytest.mark.parametrize("split", ["channel", "spatial"])
def test_the_split_of_a_convolution_is_told(split, tmp_path):
    model = trained("convolutions")
    factorize(model, rank=3, rules=[LayerRule("plain", split=split)])
    assert plan_of(model)["plain/kernel"] == {"rank": 3, "split": split}
    model.save_weights(tmp_path / "last.weights.h5")
    other = trained("convolutions")
    load_weights_into(other, tmp_path / "last.weights.h5")
    assert_same(model, other)


def unnamed():
    layers = [L.Dense(24, activation="relu") for _ in range(5)]
    return keras.Sequential([keras.Input((24,)), *layers, L.Dense(5)])


THERE = """
import sys
import keras
import numpy as np
from reducible_train import load_weights_into
for _ in range(3):
    keras.layers.Dense(2)  # so that automatic names differ
layers = [keras.layers.Dense(24, activation="relu") for _ in range(5)]
model = keras.Sequential([keras.Input((24,)), *layers, keras.layers.Dense(5)])
folder = sys.argv[1]
load_weights_into(model, f"{folder}/last.weights.h5")
np.save(f"{folder}/y.npy", model.predict(np.load(f"{folder}/x.npy"), verbose=0))
print(*(type(layer).__name__ for layer in model.layers))
"""


def test_another_process_with_other_layer_names_loads_a_checkpoint(elsewhere, tmp_path):
    model = zoo.compiled(unnamed())
    x, y = zoo.data(model)
    dense = [LayerRule(model.layers[i].name, keep_dense=True) for i in (0, 3)]
    factorize(model, rank=4, rules=dense)
    checkpoint = keras.callbacks.ModelCheckpoint(
        tmp_path / "last.weights.h5", save_weights_only=True
    )
    model.fit(x, y, verbose=0, callbacks=[checkpoint])
    np.save(tmp_path / "x.npy", x)
    here = [type(layer).__name__ for layer in model.layers]
    assert elsewhere.run(THERE, tmp_path).split() == here
    there = np.load(tmp_path / "y.npy")
    np.testing.assert_allclose(there, zoo.outputs(model, x), atol=1e-6)


# --- optimizers ---------------------------------------------------------------------------


def test_an_optimizer_keeps_its_state_where_that_of_the_file_does_not_fit(tmp_path):
    model = trained("sequential", rank=4)
    model.save_weights(tmp_path / "adam.weights.h5")
    other = zoo.compiled(zoo.sequential(), keras.optimizers.SGD(momentum=0.9))
    zoo.as_trained(other)
    before = int(other.optimizer.iterations)
    with pytest.warns(UserWarning, match=r"optimizer .*'stack', which keeps its own"):
        load_weights_into(other, tmp_path / "adam.weights.h5")
    for one, two in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(zoo.as_array(one), zoo.as_array(two))
    assert int(other.optimizer.iterations) == before
    zoo.step(other, *data(other))


def test_the_state_of_an_optimizer_under_any_name_is_no_part_of_the_model(tmp_path):
    def held(built):
        model = zoo.subclassed()
        model.beside = keras.optimizers.SGD(0.1, momentum=0.9)
        if built:
            model.beside.build(model.trainable_variables)
        return model

    model = held(built=True)
    factorize(model, rank=4)
    for variable in model.beside.variables[2:]:
        variable.assign(keras.ops.ones_like(variable))
    model.save_weights(tmp_path / "own.weights.h5")
    same = load_weights_into(held(built=True), tmp_path / "own.weights.h5")
    for one, two in zip(model.beside.variables, same.beside.variables, strict=True):
        np.testing.assert_array_equal(zoo.as_array(one), zoo.as_array(two))
    with pytest.warns(UserWarning, match="which keeps its own"):
        other = load_weights_into(held(built=False), tmp_path / "own.weights.h5")
    for each in (same, other):
        assert plan_of(each) == plan_of(model) != {}
        for one, two in zip(model.weights, each.weights, strict=True):
            np.testing.assert_array_equal(zoo.as_array(one), zoo.as_array(two))


def test_weights_without_an_optimizer_need_none_and_bring_none(tmp_path):
    plain = zoo.sequential()
    factorize(plain, rank=4)
    plain.save_weights(tmp_path / "plain.weights.h5")
    other = trained("sequential")
    load_weights_into(other, tmp_path / "plain.weights.h5")
    assert plan_of(other) == plan_of(plain)
    other.save_weights(tmp_path / "compiled.weights.h5")
    third = zoo.sequential()
    load_weights_into(third, tmp_path / "compiled.weights.h5")
    assert plan_of(third) == plan_of(plain)


# --- what does not fit --------------------------------------------------------------------


def wide(units=28, layers=1, **output):
    more = [L.Dense(units, name=f"more_{i}") for i in range(layers)]
    return keras.Sequential(
        [keras.Input((24,)), L.Dense(32, name="first"), *more, L.Dense(5, name="output", **output)],
        name="wide",
    )


@pytest.mark.parametrize("factorised_too", [False, True])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            lambda: wide(units=30),
            r"'layers/low_rank_dense_1'.*\(32, 4\).*\(4, 28\).*'more_0/kernel'",
        ),
        (lambda: wide(layers=2), r"lacks 'layers/dense_1/vars/0'"),
        (lambda: wide(use_bias=False), r"has 'layers/dense/vars/1', unknown to the model"),
        (lambda: wide(layers=0), r"\(32, 4\).*'output/kernel' of shape \(32, 5\)"),
        (convolutions, r"\(24, 4\).*'output/kernel' of shape \(12, 5\)"),
    ],
    ids=["shape", "more", "no bias", "fewer", "other"],
)
def test_a_model_that_does_not_fit_stays_as_it_was(other, message, factorised_too, tmp_path):
    model = wide()
    factorize(model, rank=4)
    model.save_weights(tmp_path / "wide.weights.h5")
    model = zoo.as_trained(zoo.compiled(other()))
    if factorised_too:
        cut_to(model, 2)
    plan, before = plan_of(model), values(model)
    with pytest.raises(FormatError, match=message) as caught:
        load_weights_into(model, tmp_path / "wide.weights.h5")
    assert "Use a model of the architecture it was saved from" in str(caught.value)
    assert plan_of(model) == plan
    for one, two in zip(values(model), before, strict=True):
        np.testing.assert_array_equal(one, two)


def test_what_is_no_weights_file_is_refused(tmp_path):
    model = wide()
    for name in ("bad.weights.h5", "bad.keras"):
        with pytest.raises(FileAccessError, match=name):
            load_weights_into(model, tmp_path / name)
        (tmp_path / name).write_bytes(b"no such file")
        with pytest.raises(FormatError, match=rf"{name} is no .*damaged"):
            load_weights_into(model, tmp_path / name)
    with zipfile.ZipFile(tmp_path / "bad.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(FormatError, match=r"bad\.keras is no .*damaged"):
        load_weights_into(model, tmp_path / "bad.keras")
    model.save_weights(tmp_path / "good.weights.h5")
    data = (tmp_path / "good.weights.h5").read_bytes()
    Path(tmp_path / "bad.weights.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(FormatError, match="damaged"):
        load_weights_into(model, tmp_path / "bad.weights.h5")
