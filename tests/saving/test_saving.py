"""Laws of compact files of models: what is saved is what is loaded, and no code is run."""

from __future__ import annotations

import dataclasses
import json
from contextlib import nullcontext
from functools import partial

import keras
import numpy as np
import pytest
import zoo

from reducible_train import (
    ArgumentError,
    ArgumentTypeError,
    FileAccessError,
    FormatError,
    LayerRule,
    RankScheduler,
    SurgeryError,
    factorize,
    load_config,
    load_model,
    load_weights_into,
    merge,
    read_report,
    save_model,
    to_stock_layers,
)
from reducible_train.container import read_container, read_header, write_container
from reducible_train.layers import find_kernels
from reducible_train.surgery.plans import plan_of

ZOO = {"zoo>Subclassed": zoo.Subclassed, "Block": zoo.Block}


@pytest.fixture(params=zoo.MODELS)
def name(request):
    return request.param


def trained(name, rank=4):
    model = zoo.as_trained(zoo.compiled(zoo.MODELS[name]()))
    x, _ = zoo.data(model)
    report = factorize(model, rank=rank) if rank else None
    return model, x, report


def saved_by_name(model, path, report=None):
    """Save a model; one of classes of its own is told to be loaded by their names."""
    says = r"load_model\(path, custom_objects=\{'zoo>Subclassed': Subclassed\}\)"
    with pytest.warns(UserWarning, match=says) if model.name == "own" else nullcontext():
        return save_model(model, path, report)


def rewrite(source, target, change):
    """Copy a file with another header."""
    with read_container(source) as container:
        content = json.loads(json.dumps(container.header.content))
        change(content)
        write_container(target, content, list(container))


def test_load_gives_the_same_model(name, tmp_path):
    model, x, report = trained(name)
    path = tmp_path / "model.reducible"
    saved = saved_by_name(model, path, report)
    assert saved.bytes == path.stat().st_size
    assert saved.dense_bytes == 4 * report.dense_parameters
    assert saved.weight_bytes == 4 * report.parameters
    loaded = load_model(path, ZOO)
    np.testing.assert_array_equal(zoo.outputs(loaded, x), zoo.outputs(model, x))
    assert {k.path: k.rank for k in find_kernels(loaded)} == {
        k.path: k.rank for k in find_kernels(model)
    }
    again = tmp_path / "again.reducible"
    saved_by_name(loaded, again, report)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("rank", [None, 9, 2])
def test_weights_go_into_a_dense_a_smaller_or_a_larger_model(name, rank, tmp_path):
    model, x, _ = trained(name)
    saved_by_name(model, tmp_path / "model.reducible")
    other = zoo.compiled(zoo.MODELS[name]())
    if rank:
        factorize(other, rank=rank)
    _, y = zoo.data(other)
    zoo.step(other, x, y)
    assert load_weights_into(other, tmp_path / "model.reducible") is other
    np.testing.assert_array_equal(zoo.outputs(other, x), zoo.outputs(model, x))
    zoo.step(other, x, y)


@pytest.mark.traced
def test_what_was_traced_computes_with_the_weights_of_the_file(tmp_path):
    model, x, _ = trained("sequential")
    save_model(model, tmp_path / "model.reducible")
    other = zoo.compiled(zoo.sequential())
    _, y = zoo.data(other)
    other.fit(x, y, verbose=0)
    zoo.predicted(other, x)
    load_weights_into(other, tmp_path / "model.reducible")
    np.testing.assert_allclose(zoo.predicted(other, x), zoo.outputs(model, x), atol=2e-5)
    other.fit(x, y, verbose=0)
    np.testing.assert_allclose(zoo.predicted(other, x), zoo.outputs(other, x), atol=2e-5)


def test_a_dense_model_can_be_saved_too(tmp_path):
    model, x, _ = trained("sequential", rank=None)
    save_model(model, tmp_path / "dense.reducible")
    small = zoo.sequential()
    factorize(small, rank=3)
    load_weights_into(small, tmp_path / "dense.reducible")
    np.testing.assert_array_equal(zoo.outputs(small, x), zoo.outputs(model, x))


def test_a_model_that_is_broken_is_saved_with_a_warning(tmp_path):
    model = zoo.sequential()
    kernel = model.layers[0].kernel
    kernel.assign(np.where(np.arange(kernel.shape[1]) == 3, np.nan, kernel))
    with pytest.warns(
        UserWarning, match=r"24 of 768 numbers of stack/first/kernel are NaN or infinite"
    ):
        save_model(model, tmp_path / "model.reducible")
    loaded = load_model(tmp_path / "model.reducible")
    np.testing.assert_array_equal(loaded.layers[0].kernel, kernel)


THERE = """
import sys
import numpy as np
from reducible_train import load_model
folder = sys.argv[1]
model = load_model(f"{folder}/model.reducible")
np.save(f"{folder}/y.npy", model.predict(np.load(f"{folder}/x.npy"), verbose=0))
"""


def test_another_process_loads_it(elsewhere, tmp_path):
    model, x, report = trained("nested")
    save_model(model, tmp_path / "model.reducible", report)
    np.save(tmp_path / "x.npy", x)
    elsewhere.run(THERE, tmp_path)
    there = np.load(tmp_path / "y.npy")
    np.testing.assert_allclose(there, zoo.outputs(model, x), atol=1e-6)


@pytest.mark.parametrize("rank", [None, 2])
def test_arrays_of_initializers_are_not_in_the_file_twice(rank, elsewhere, tmp_path):
    table = np.random.default_rng(0).normal(size=(300, 16)).astype("float32")
    few, numbers = keras.initializers.Constant([0.5]), keras.initializers.Constant(table[:32].T)
    inputs = keras.Input((4,), dtype="int32")
    x = keras.layers.Embedding(300, 16, keras.initializers.Constant(table), name="table")(inputs)
    x = keras.layers.Dense(32, kernel_initializer=numbers, name="dense")(x)
    model = keras.Model(inputs, keras.layers.Dense(1, bias_initializer=few, name="output")(x))
    if rank:
        factorize(model, rank=rank)
    saved = save_model(model, tmp_path / "model.reducible")
    assert saved.loads_with == "load_model(path)"
    assert saved.bytes < saved.weight_bytes + 10_000
    loaded = load_model(saved.path)
    assert isinstance(loaded.get_layer("table").embeddings_initializer, keras.initializers.Zeros)
    assert isinstance(loaded.get_layer("dense").kernel_initializer, keras.initializers.Zeros)
    assert loaded.get_layer("output").bias_initializer.value == [0.5]
    np.save(tmp_path / "x.npy", np.arange(12).reshape(3, 4))
    elsewhere.run(THERE, tmp_path)
    expected = model.predict(np.load(tmp_path / "x.npy"), verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, atol=1e-6)
    np.testing.assert_array_equal(loaded.predict(np.load(tmp_path / "x.npy"), verbose=0), expected)


class Gloved(keras.layers.Layer):
    """A layer that reads its initializer in every call."""

    def __init__(self, table_initializer, **kwargs):
        super().__init__(**kwargs)
        self.table_initializer = keras.initializers.get(table_initializer)

    def call(self, x):
        return x * self.table_initializer((100,))

    def get_config(self):
        table = keras.initializers.serialize(self.table_initializer)
        return super().get_config() | {"table_initializer": table}


def test_an_array_that_may_be_in_no_variable_stays_in_the_file(tmp_path):
    array = keras.initializers.Constant(np.arange(100.0))
    model = keras.Sequential([keras.Input((100,)), Gloved(array), keras.layers.Dense(2)])
    with pytest.warns(UserWarning, match="custom_objects"):
        save_model(model, tmp_path / "model.reducible")
    loaded, x = load_model(tmp_path / "model.reducible", {"Gloved": Gloved}), np.ones((2, 100))
    np.testing.assert_array_equal(zoo.outputs(loaded, x), zoo.outputs(model, x))


class Pretrained(keras.layers.Layer):
    """A layer that reads its shape from its initializer, an argument named as Keras's are."""

    def __init__(self, embeddings_initializer, inner=None, **kwargs):
        super().__init__(**kwargs)
        self.initial = keras.initializers.get(embeddings_initializer)
        self.inner = keras.saving.deserialize_keras_object(inner) if inner else None
        self.shape_of_table = np.shape(self.initial.value)

    def build(self, shape):
        self.table = self.add_weight(shape=self.shape_of_table, initializer=self.initial)

    def call(self, x):
        return keras.ops.take(self.table, x, axis=0) + (self.inner(x) if self.inner else 0)

    def get_config(self):
        initial = keras.initializers.serialize(self.initial)
        inner = keras.saving.serialize_keras_object(self.inner) if self.inner else None
        return super().get_config() | {"embeddings_initializer": initial, "inner": inner}


@keras.saving.register_keras_serializable("saving")
class OwnDense(keras.layers.Dense):
    """A dense layer that reads its initializer when it is made."""

    def __init__(self, units, **kwargs):
        super().__init__(units, **kwargs)
        self.largest = float(np.max(self.kernel_initializer.value))


def test_arrays_of_layers_of_ones_own_stay_in_the_file_whatever_they_are_called(tmp_path):
    table = np.random.default_rng(0).normal(size=(300, 16)).astype("float32")
    initial, numbers = (keras.initializers.Constant(each) for each in (table, table[:32].T))
    inner = keras.saving.serialize_keras_object(keras.layers.Embedding(300, 16, initial))
    inputs = keras.Input((4,), dtype="int32")
    x = OwnDense(32, kernel_initializer=numbers)(Pretrained(initial, inner, name="own")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    with pytest.warns(UserWarning, match="custom_objects"):
        save_model(model, tmp_path / "model.reducible")
    classes = {"Pretrained": Pretrained, "saving>OwnDense": OwnDense}
    loaded, x = load_model(tmp_path / "model.reducible", classes), np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(zoo.outputs(loaded, x), zoo.outputs(model, x))
    of_keras = loaded.get_layer("own").inner
    assert isinstance(of_keras.embeddings_initializer, keras.initializers.Zeros)


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16", "float16", "float64"])
def test_every_dtype_comes_back_bit_for_bit(policy, tmp_path):
    if policy == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX computes in float64 only when told so before it starts")
    model = keras.Sequential(
        [
            keras.Input((24,)),
            keras.layers.Dense(32, dtype=policy, name="first"),
            keras.layers.Normalization(name="normal"),
            keras.layers.Dense(5, name="output"),
        ]
    )
    model.get_layer("normal").adapt(np.random.default_rng(0).normal(size=(50, 32)))
    factorize(model, rank=4)
    save_model(model, tmp_path / "model.reducible")
    loaded = load_model(tmp_path / "model.reducible")
    x = np.random.default_rng(1).normal(size=(9, 24)).astype("float32")
    np.testing.assert_array_equal(zoo.outputs(loaded, x), zoo.outputs(model, x))
    for ours, theirs in zip(model.weights, loaded.weights, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_the_file_shrinks_at_least_as_much_as_the_parameters(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((200,)),
            keras.layers.Dense(256, name="first"),
            keras.layers.Dense(256, name="second"),
            keras.layers.Dense(10, name="output"),
        ]
    )
    model.save(tmp_path / "dense.keras")  # not compiled: without optimizer state
    dense = (tmp_path / "dense.keras").stat().st_size
    report = factorize(model, budget=0.2)
    saved = save_model(model, tmp_path / "model.reducible", report)
    assert 1 - saved.bytes / dense >= 1 - report.size_fraction


# --- what does not fit, what is not allowed -------------------------------------------


def test_a_file_that_does_not_fit_changes_nothing(tmp_path):
    model, _, _ = trained("sequential")
    save_model(model, tmp_path / "model.reducible")
    other = zoo.nested()
    before = other.get_weights()
    with pytest.raises(FormatError, match=r"does not fit model 'outer'.*'first/kernel'"):
        load_weights_into(other, tmp_path / "model.reducible")
    for a, b in zip(other.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    wider = keras.Sequential(
        [
            keras.Input((24,)),
            keras.layers.Dense(40, name="first"),
            keras.layers.Dense(28, use_bias=False, name="second"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dense(5, name="output"),
        ]
    )
    with pytest.raises(FormatError, match=r"'first/bias' has shape \(32,\), the model needs"):
        load_weights_into(wider, tmp_path / "model.reducible")
    assert [k.rank for k in find_kernels(wider)] == [None, None, None]


def _put(entry):
    def change(content):
        content["keras_config"]["config"]["layers"][1] = entry

    return change


@pytest.mark.parametrize(
    "entry",
    [
        {"module": "keras.layers", "class_name": "Lambda", "config": {}, "registered_name": None},
        {"module": "builtins", "class_name": "__lambda__", "config": {"value": "eJwA"}},
        {"module": "os", "class_name": "system", "config": {}, "registered_name": None},
        {"module": "keras.src.utils.io_utils", "class_name": "set_logging_verbosity", "config": {}},
        {"module": "keras.utils", "class_name": "get_file", "config": {}, "registered_name": None},
        {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/etc"}},
        zoo.EVIL,
        {"module": "builtins", "class_name": "function", "config": "eval"},
        {
            "module": "keras.layers",
            "class_name": "Dense",
            "registered_name": "evil>Evil",
            "config": {},
        },
        {"module": "keras.models.experimental", "class_name": "Dense", "config": {}},
        {"class_name": ["Dense"], "module": "keras.layers", "config": {}},
    ],
    ids=lambda entry: str(entry["class_name"]),
)
def test_nothing_is_built_that_is_not_allowed(entry, tmp_path):
    model, _, _ = trained("sequential")
    save_model(model, tmp_path / "good.reducible")
    rewrite(tmp_path / "good.reducible", tmp_path / "bad.reducible", _put(entry))
    zoo.Evil.made.clear()
    with pytest.raises(FormatError, match="not one of"):
        load_model(tmp_path / "bad.reducible")
    assert not zoo.Evil.made


def test_custom_objects_let_a_class_in(tmp_path):
    inputs = keras.Input((24,))
    x = keras.layers.Dense(32, name="first")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(5, name="output")(zoo.Evil(name="own")(x)))
    with pytest.warns(UserWarning, match=r"custom_objects=\{'evil>Evil': Evil\}"):
        save_model(model, tmp_path / "model.reducible")
    with pytest.raises(FormatError, match=r"custom_objects=\{'evil>Evil'"):
        load_model(tmp_path / "model.reducible")
    for name in ("evil>Evil", "Evil"):
        loaded = load_model(tmp_path / "model.reducible", {name: zoo.Evil})
        assert isinstance(loaded.get_layer("own"), zoo.Evil)


def test_operations_and_activations_of_keras_are_let_in(tmp_path):
    inputs = keras.Input((24,))
    x = keras.layers.Dense(24, activation=keras.activations.gelu, name="first")(inputs)
    x = keras.ops.concatenate([keras.ops.tanh(x) * 2.0, inputs[:, :8]], axis=-1)
    x = keras.layers.Dropout(0.5, seed=3)(x)
    x = keras.layers.Dense(
        5,
        name="output",
        kernel_initializer=keras.initializers.VarianceScaling(2.0, seed=1),
        kernel_regularizer=keras.regularizers.L1L2(0.1, 0.1),
        bias_constraint="max_norm",
    )(x)
    model = keras.Model(inputs, x)
    save_model(model, tmp_path / "model.reducible")
    loaded = load_model(tmp_path / "model.reducible")
    x = np.random.default_rng(0).normal(size=(9, 24)).astype("float32")
    np.testing.assert_array_equal(zoo.outputs(loaded, x), zoo.outputs(model, x))


class Stubborn(keras.Model):
    """A model whose arguments are no plain values."""

    def __init__(self, layer, *, size):
        super().__init__(name="stubborn")
        self.layer, self.size = layer, object()

    def call(self, x):
        return self.layer(x)

    def get_config(self):
        raise NotImplementedError


def test_a_model_without_a_configuration_says_what_to_do(tmp_path):
    def make():
        model = Stubborn(keras.layers.Dense(30, name="wide"), size=3)
        model(np.zeros((1, 24), "float32"))
        return model

    model = make()
    with pytest.warns(UserWarning, match=r"use load_weights_into\(model, path\)"):
        save_model(model, tmp_path / "model.reducible")
    with pytest.raises(FormatError, match=r"'Stubborn'.*load_weights_into"):
        load_model(tmp_path / "model.reducible")
    other = make()
    load_weights_into(other, tmp_path / "model.reducible")
    np.testing.assert_array_equal(other.layer.kernel, model.layer.kernel)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("plan"),
        lambda c: c.update(plan={"first/kernel": 0}),
        lambda c: c.update(plan={"first/kernel": True}),
        lambda c: c.update(plan={"other/kernel": 3}),
        lambda c: c.update(plan={"first/kernel": 10**6}),
        lambda c: c.update(plan={}),
        lambda c: c.update(keras_config=[]),
        lambda c: c.update(keras_config={}),
        lambda c: c.update(
            keras_config={"class_name": "Dense", "module": "keras.layers", "config": {"units": 3}}
        ),
        lambda c: c["keras_config"]["config"].update(layers=[{}]),
        lambda c: c.update(more=1),
    ],
)
def test_a_header_that_is_no_model_is_refused(change, tmp_path):
    model, _, _ = trained("sequential")
    save_model(model, tmp_path / "good.reducible")
    rewrite(tmp_path / "good.reducible", tmp_path / "bad.reducible", change)
    with pytest.raises(FormatError):
        load_model(tmp_path / "bad.reducible")


def test_damage_is_noticed_and_the_model_stays(tmp_path):
    model, x, _ = trained("sequential")
    path = tmp_path / "model.reducible"
    save_model(model, path)
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    other = zoo.sequential()
    before = zoo.outputs(other, x)
    with pytest.raises(FormatError, match=r"sha256|checksum|altered|damaged"):
        load_weights_into(other, path)
    np.testing.assert_array_equal(zoo.outputs(other, x), before)
    with pytest.raises(FileAccessError, match=r"missing\.reducible"):
        load_model(tmp_path / "missing.reducible")


class Filed(keras.layers.Layer):
    """A layer that keeps files of its own."""

    def call(self, x):
        return x

    def save_assets(self, folder):
        """It would write there."""

    def load_assets(self, folder):
        """It would read there."""


def test_a_failed_save_leaves_the_old_file(tmp_path):
    model, _, _ = trained("sequential")
    path = tmp_path / "model.reducible"
    save_model(model, path)
    before = path.read_bytes()
    own = keras.Sequential([keras.Input((4,)), Filed(name="own"), keras.layers.Dense(4)])
    with pytest.raises(FormatError, match=r"'own' \(Filed\) keeps files.*\n.*model\.save"):
        save_model(own, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.reducible"]
    with pytest.raises(SurgeryError, match="no weights yet"):
        save_model(zoo.Subclassed(), path)


def test_a_model_without_weights_has_a_size_too(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.ReLU()])
    saved = save_model(model, tmp_path / "m.reducible")
    assert saved.size_fraction == saved.bytes


def test_a_scheduler_is_no_report(tmp_path):
    model, _, _ = trained("sequential")
    with pytest.raises(ArgumentTypeError, match=r"Received: RankScheduler.*scheduler\.report"):
        save_model(model, tmp_path / "model.reducible", RankScheduler(rank=2))
    assert not list(tmp_path.iterdir())


def test_a_report_of_something_else_stays_out(tmp_path):
    _, _, report = trained("sequential")
    path = tmp_path / "model.reducible"
    other = zoo.sequential()
    factorize(other, rank=3)
    with pytest.warns(UserWarning, match="without its `report`.* parameters, where there are"):
        save_model(other, path, report)
    swapped = zoo.sequential()
    rules = [LayerRule("first", rank=5), LayerRule("second", rank=4)]
    after = factorize(swapped, rank=4, rules=rules)
    same = dataclasses.replace(report, parameters=after.parameters)
    with pytest.warns(UserWarning, match="by which first/kernel has rank 4, where it has rank 5"):
        save_model(swapped, path, same)
    merged, _, before = trained("sequential")
    merge(merged)
    with pytest.warns(UserWarning, match="which is not of the model as it is"):
        save_model(merged, path, before)
    assert read_report(path) is None
    assert load_model(path).count_params() == merged.count_params()


def test_a_report_of_a_part_or_of_factors_in_stock_layers_is_kept(tmp_path):
    part, whole = zoo.sequential(), keras.Sequential([keras.Input((24,)), keras.layers.Dense(24)])
    report = factorize(part, rank=3)
    whole.add(part)
    for model in (whole, to_stock_layers(part)):
        save_model(model, tmp_path / "model.reducible", report)
        assert read_report(tmp_path / "model.reducible") == report


def test_a_report_of_what_held_the_model_is_kept(tmp_path):
    part, whole = zoo.sequential(), keras.Sequential([keras.Input((24,)), keras.layers.Dense(24)])
    whole.add(part)
    report = factorize(whole, rank=3)
    save_model(part, tmp_path / "model.reducible", report)
    assert read_report(tmp_path / "model.reducible") == report


def test_inspection_needs_no_keras(tmp_path):
    model, _, report = trained("sequential")
    save_model(model, tmp_path / "model.reducible", report)
    content = read_header(tmp_path / "model.reducible").content
    assert content["plan"] == {"first/kernel": 4, "second/kernel": 4}
    assert content["report"]["parameters"] == model.count_params()
    assert content["versions"]["keras"] == keras.__version__


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_names_of_keras_files_are_refused(name, tmp_path):
    with pytest.raises(ArgumentError, match=r"model.*\.reducible"):
        save_model(zoo.sequential(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def automatic(units=24, first=None, more=0):
    """A model that Keras names the layers of, but for the first if it is given a name."""
    inputs = keras.Input((24,))
    x = keras.layers.Dense(24, name=first)(inputs)
    inner = keras.Sequential([keras.Input((24,)), keras.layers.Dense(units)])
    x = keras.layers.Add()([inner(x), keras.layers.Dense(units, use_bias=False)(x)])
    x = keras.layers.BatchNormalization()(x)
    for _ in range(more):
        x = keras.layers.Dense(7)(x)
    return keras.Model(inputs, keras.layers.Dense(5)(x))


def test_automatic_names_may_differ_by_their_numbers(tmp_path):
    model, other = automatic(), automatic()
    factorize(model, rank=4)
    assert not set(plan_of(model)) & {k.path for k in find_kernels(other)}
    save_model(model, tmp_path / "model.reducible")
    load_weights_into(other, tmp_path / "model.reducible")
    x, _ = zoo.data(model)
    np.testing.assert_array_equal(zoo.outputs(other, x), zoo.outputs(model, x))
    assert list(plan_of(other).values()) == list(plan_of(model).values())


@pytest.mark.parametrize(
    "options",
    [{"units": 20}, {"first": "chosen"}, {"more": 1}],
    ids=["shape", "name", "more layers"],
)
def test_other_names_and_another_structure_are_refused(options, tmp_path):
    model, other = automatic(), automatic(**{"units": 24} | options)
    factorize(model, rank=4)
    save_model(model, tmp_path / "model.reducible")
    before = other.get_weights()
    with pytest.raises(FormatError, match="does not fit model"):
        load_weights_into(other, tmp_path / "model.reducible")
    assert plan_of(other) == {}
    for one, two in zip(other.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("path", [None, 3, {"compression": {}}])
def test_what_is_no_path_is_refused(path):
    model = zoo.sequential()
    for use in (load_model, load_config, partial(load_weights_into, model)):
        with pytest.raises(ArgumentTypeError, match="`path` must be the name of a"):
            use(path)
    with pytest.raises(ArgumentTypeError, match="`path` must be the name of a file"):
        save_model(model, path)


def test_custom_objects_without_names_are_refused(tmp_path):
    save_model(zoo.sequential(), tmp_path / "model.reducible")
    with pytest.raises(ArgumentTypeError, match=r"mapping from names.*'Block': Block"):
        load_model(tmp_path / "model.reducible", [zoo.Block])


def test_content_of_a_newer_version_is_told_from_no_content(tmp_path):
    model = zoo.sequential()
    save_model(model, tmp_path / "good.reducible")
    bad = tmp_path / "bad.reducible"

    def newer(content):
        content["versions"]["reducible_train"] = "9.8.7"

    for change, told in (
        (lambda c: c.update(quantization={"scheme": "int8"}), r"it holds 'quantization'"),
        (lambda c: c.update(version=2), r"it holds content of version 2"),
        (lambda c: c.update({"x" * 5000: 1}), "it holds 'xxx"),
    ):
        rewrite(tmp_path / "good.reducible", bad, lambda c, f=change: (newer(c), f(c)))
        for use in (load_model, partial(load_weights_into, model)):
            with pytest.raises(
                FormatError, match=rf"newer version.*9\.8\.7.*{told}.*pip install -U"
            ) as caught:
                use(bad)
            assert len(str(caught.value)) < 600
    rewrite(tmp_path / "good.reducible", bad, lambda c: c.update(version=1))
    load_model(bad)
    write_container(bad, {"made_by": "somebody"}, [])
    with pytest.raises(FormatError, match=r"does not hold a model.*no keras_config"):
        load_model(bad)
