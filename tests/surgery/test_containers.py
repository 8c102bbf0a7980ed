"""Laws of containers: ranks travel with parents that rebuild their own sublayers."""

from __future__ import annotations

import copy
import json
import pickle
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
import zoo

from reducible_train import (
    FormatError,
    SurgeryError,
    _keras,
    factorize,
    load_model,
    merge,
    save_model,
)
from reducible_train.container import read_container, write_container
from reducible_train.layers import find_kernels
from reducible_train.selection.scoring import decomposition
from reducible_train.surgery.change import change_kernels, cut
from reducible_train.surgery.plans import plan_of
from reducible_train.surgery.rebuild import PlanCarrier

# What Keras says when it loads a layer without `build`, dense or not.
pytestmark = pytest.mark.filterwarnings("ignore:.build\\(\\). was called on layer 'lazy'")


@keras.saving.register_keras_serializable("zoo")
class Lazy(keras.layers.Layer):
    """A layer without `build`, whose sublayers are built by its first call."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.stack = keras.Sequential(
            [keras.layers.Dense(units, activation="relu"), keras.layers.Dense(units)]
        )

    def call(self, x):
        return self.stack(x)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("zoo")
class OwnGraph(keras.Model):
    """A Functional model that builds its graph in its own `__init__`."""

    def __init__(self, width, **kwargs):
        inputs = keras.Input((24,))
        x = keras.layers.Dense(width, activation="relu")(inputs)
        super().__init__(inputs, keras.layers.Dense(5)(x), **kwargs)
        self.width = width

    def get_config(self):
        return {"width": self.width, "name": self.name}


@keras.saving.register_keras_serializable("zoo")
class Beside(keras.Model):
    """A Functional model that calls layers beside its graph, which it makes anew."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.before = [keras.layers.Dense(32, activation="relu"), keras.layers.Dense(24)]
        self.before[0].build((None, 24))
        self.before[1].build((None, 32))

    def call(self, x, training=None):
        return super().call(self.before[1](self.before[0](x)), training=training)


@keras.saving.register_keras_serializable("zoo")
class Outer(keras.Model):
    """A subclassed model of a Sequential one, of a subclassed one and of attention."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.encoder = keras.Sequential([keras.layers.Dense(width), zoo.Block(24)])
        self.inner = zoo.Subclassed()

    def call(self, x):
        return self.inner(self.encoder(x))

    def get_config(self):
        return {"width": self.width, "name": self.name}


def within():
    """Layers that rebuild their sublayers, in a functional model in a functional model."""
    inner_in = keras.Input((24,), name="inner_in")
    x = Lazy(24, name="lazy")(inner_in)
    inner = keras.Model(inner_in, zoo.Block(24, name="block")(x), name="inner")
    inputs = keras.Input((24,))
    x = keras.layers.Dense(24, name="before")(inputs)
    return keras.Model(inputs, keras.layers.Dense(5, name="output")(inner(x)), name="within")


def own_graph():
    return OwnGraph(32, name="own_graph")


def beside():
    inputs = keras.Input((24,))
    hidden = keras.layers.Dense(24, activation="relu", name="hidden")(inputs)
    return Beside(inputs, keras.layers.Dense(5, name="output")(hidden), name="beside")


def outer():
    model = Outer(24, name="outer_own")
    model(np.zeros((1, 24), "float32"))
    return model


MODELS = {**zoo.MODELS, "within": within, "own_graph": own_graph, "beside": beside, "outer": outer}


def hidden(model):
    return [kernel for kernel in find_kernels(model) if kernel.shape[1] != 5]


def cut_to(model, rank):
    kernels = hidden(model)
    change_kernels(model, [cut(k, rank, decomposition(k)) for k in kernels])


def trained(name):
    """Fitted and cut twice, eagerly: what is saved is the same, and no step need be traced."""
    model = zoo.compiled(MODELS[name](), run_eagerly=True)
    x, y = zoo.data(model)
    zoo.step(model, x, y)
    for rank in (8, 4):
        cut_to(model, rank)
        zoo.step(model, x, y)
    return model, x, y


@cache
def shared(name):
    """The same, for who changes nothing but weights."""
    return trained(name)


def agree(ours, theirs, scale=1.0):
    np.testing.assert_allclose(theirs, ours, rtol=4e-7, atol=4e-7 * scale * np.abs(ours).max())


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


def test_a_keras_file_brings_ranks_and_optimizer_back(name, tmp_path):
    model, x, y = shared(name)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert plan_of(loaded) == plan_of(model)
    assert type(loaded).__name__ == type(model).__name__
    agree(zoo.outputs(model, x), zoo.outputs(loaded, x))
    assert len(loaded.optimizer.variables) == len(model.optimizer.variables)
    for a, b in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    losses = [zoo.step(each, x, y) for each in (model, loaded)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


THERE = """
import json, sys
import numpy as np
sys.path.append(sys.argv[2])
import keras
import test_containers as t
from reducible_train.surgery.plans import plan_of
for name in t.MODELS:
    [keras.layers.Dense(1) for _ in range(3)]  # automatic names count on
    model = keras.models.load_model(f"{sys.argv[1]}/{name}.keras")
    x, y = t.zoo.data(model)
    state = [np.array(v) for v in model.optimizer.variables]
    np.savez(f"{sys.argv[1]}/{name}.npz", t.zoo.outputs(model, x), *state)
    loss = t.zoo.step(model, x, y)
    with open(f"{sys.argv[1]}/{name}.json", "w") as file:
        json.dump([plan_of(model), loss], file)
"""


def test_another_process_goes_on_where_this_one_stopped(elsewhere, tmp_path):
    models = {name: shared(name) for name in MODELS}
    for name, (model, _, _) in models.items():
        model.save(tmp_path / f"{name}.keras")
    elsewhere.run(THERE, tmp_path, Path(__file__).parent)
    for name, (model, x, y) in models.items():
        with np.load(tmp_path / f"{name}.npz") as file:
            predictions, *state = file.values()
        agree(zoo.outputs(model, x), predictions)
        for a, b in zip(model.optimizer.variables, state, strict=True):
            np.testing.assert_array_equal(a, b)
        plan, loss = json.loads((tmp_path / f"{name}.json").read_text())
        assert plan == plan_of(model)
        np.testing.assert_allclose(zoo.step(model, x, y), loss, rtol=1e-5)


@pytest.mark.parametrize(
    "copied",
    [
        lambda m: type(m).from_config(m.get_config()),
        keras.models.clone_model,
        copy.deepcopy,
        lambda m: pickle.loads(pickle.dumps(m)),
    ],
    ids=["config", "clone", "deepcopy", "pickle"],
)
def test_copies_have_the_ranks(copied, name):
    if name == "beside" and copied is keras.models.clone_model:
        pytest.skip("Keras copies the graph, and has the class make what is beside it anew")
    model, x, _ = shared(name)
    twin = copied(model)
    if not twin.built:
        twin(x)
    assert plan_of(twin) == plan_of(model)
    twin.set_weights(model.get_weights())
    agree(zoo.outputs(model, x), zoo.outputs(twin, x))


def test_containers_are_of_their_class_and_merge_ends_them(name):
    model = zoo.compiled(MODELS[name]())
    everything = [model, *(layer for _, layer in _keras.walk(model))]
    kinds = [type(layer) for layer in everything]
    cut_to(model, 4)
    containers = [layer for layer in everything if isinstance(layer, PlanCarrier)]
    for layer, kind in zip(everything, kinds, strict=True):
        assert isinstance(layer, kind)
        if layer in containers:
            assert type(layer).__name__ == kind.__name__
    assert bool(containers) == (name not in ("sequential", "nested", "branches"))
    merge(model)
    assert [type(layer) for layer in everything] == kinds


def test_a_model_within_a_model_can_be_saved_alone(tmp_path):
    model, x, _ = shared("outer")
    for part in (model.encoder, model.inner):
        part.save(tmp_path / "part.keras")
        loaded = keras.models.load_model(tmp_path / "part.keras")
        agree(np.array(part(x)), np.array(loaded(x)))


def test_a_failed_change_leaves_the_classes(monkeypatch):
    model, x, _ = trained("within")
    everything = [model, *(layer for _, layer in _keras.walk(model))]
    kinds, before = [type(layer) for layer in everything], zoo.outputs(model, x)

    def breaks(self, variables):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(type(model.optimizer), "build", breaks)
    with pytest.raises(SurgeryError, match="as it was"):
        merge(model)
    assert [type(layer) for layer in everything] == kinds
    np.testing.assert_array_equal(zoo.outputs(model, x), before)


def test_the_compact_file_knows_containers(name, tmp_path):
    model, x, _ = shared(name)
    own = {
        keras.saving.get_registered_name(kind): kind
        for kind in (Lazy, OwnGraph, Beside, Outer, zoo.Block, zoo.Subclassed)
    }
    save_model(model, tmp_path / "model.reducible")
    loaded = load_model(tmp_path / "model.reducible", own)
    assert plan_of(loaded) == plan_of(model)
    np.testing.assert_array_equal(zoo.outputs(loaded, x), zoo.outputs(model, x))
    if any(isinstance(layer, PlanCarrier) for _, layer in _keras.walk(model)) and name != "wrapped":
        with pytest.raises(FormatError, match=r"not (one of|among)"):
            load_model(tmp_path / "model.reducible")


DENSE = {"module": "keras.layers", "class_name": "Dense", "registered_name": None}


def _holding(contained, plan=None, registered="reducible_train>Container"):
    return {
        "module": "reducible_train.surgery.rebuild",
        "class_name": "Dense",
        "registered_name": registered,
        "config": {"contained": contained, "plan": {} if plan is None else plan},
    }


@pytest.mark.parametrize(
    "entry",
    [
        _holding(zoo.EVIL),
        _holding(_holding(zoo.EVIL)),
        _holding([zoo.EVIL]),
        _holding({"a": zoo.EVIL}),
        _holding("evil>Evil"),
        _holding({**DENSE, "config": {"units": 24, "activation": zoo.EVIL}}),
        _holding({**DENSE, "config": {"units": 24}}, plan={"a": zoo.EVIL}),
        _holding({**DENSE, "config": {"units": 24}}, plan=[zoo.EVIL]),
        _holding({**DENSE, "config": {"units": 24}}, plan=3),
        _holding(None),
        _holding({**DENSE, "class_name": "Lambda", "config": {}}),
        _holding({**DENSE, "config": {"units": 24}}, registered="reducible_train>Unknown"),
        {**_holding(zoo.EVIL), "config": {}},
        {**_holding({**DENSE, "config": {"units": 24}}), "build_config": {"input_shape": zoo.EVIL}},
        _holding({**DENSE, "config": {"units": 24}}, plan={"no/kernel": 3}),
    ],
)
def test_nothing_gets_in_inside_a_container(entry, tmp_path):
    model, _, _ = shared("sequential")
    save_model(model, tmp_path / "good.reducible")
    with read_container(tmp_path / "good.reducible") as container:
        content = json.loads(json.dumps(container.header.content))
        content["keras_config"]["config"]["layers"][1] = entry
        write_container(tmp_path / "bad.reducible", content, list(container))
    zoo.Evil.made.clear()
    with pytest.raises(FormatError):
        load_model(tmp_path / "bad.reducible")
    assert not zoo.Evil.made


def test_a_plan_that_does_not_fit_the_class_is_an_error(tmp_path):
    model = within()
    cut_to(model, 4)
    config = model.get_layer("inner").get_layer("block").get_config()
    layer = PlanCarrier.from_config({**config, "plan": {"other/kernel": 3}})
    with pytest.raises(SurgeryError, match=r"no other/kernel"):
        layer.load_own_variables({})


def test_factorize_reports_paths_that_every_process_has():
    paths = [set(factorize(outer(), rank=3).ranks) for _ in range(2)]
    assert paths[0] == paths[1]
    assert "encoder/dense/kernel" in paths[0]
