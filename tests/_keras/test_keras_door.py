"""What the package relies on behind Keras's public interface: fails when Keras moves."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest
import zoo
from keras.src.saving import saving_lib

import reducible_train
from reducible_train import _keras
from reducible_train._keras.private_names import ATTRIBUTES, MODULES, PrivateName
from reducible_train._keras.slots import SLOTS


@pytest.fixture
def model():
    return zoo.as_trained(zoo.compiled(zoo.sequential()))


def test_a_layer_has_the_stores_and_the_tracker_we_rewrite(model):
    layer = model.get_layer("first")
    config = layer._tracker.config
    for store in ("trainable_variables", "non_trainable_variables"):
        assert config[store][1] is getattr(layer, f"_{store}")
    assert layer._tracker.locked
    assert layer._kernel is layer._trainable_variables[0]
    assert {"build", "quantize"} <= set(vars(layer)), "Keras wraps both for each object"
    assert layer._path == "stack/first"


def test_an_optimizer_has_the_bookkeeping_we_empty(model):
    optimizer = model.optimizer
    assert list(optimizer._tracker.config["variables"][1]) == optimizer.variables
    assert len(optimizer._trainable_variables) == len(model.trainable_variables)
    assert set(_keras.slots(optimizer)) == {"_momentums", "_velocities"}
    assert optimizer._trainable_variables_indices[optimizer._var_key(model.weights[0])] == 0


def test_a_model_makes_its_functions_anew(model):
    model.fit(*zoo.data(model), verbose=0)
    assert model.train_function is not None
    old = model.train_function
    _keras.rebuild_functions(model, training=True)
    assert model.train_function is not None
    assert model.train_function is not old
    assert model.test_function is None
    assert model.predict_function is None


def test_paths_are_of_names_in_graphs_and_of_attributes_elsewhere():
    paths = {name: [path for path, _ in _keras.walk(make())] for name, make in zoo.MODELS.items()}
    assert [path for path in paths["nested"] if "input" not in path] == [
        "before",
        "inner",
        "inner/inner_in",
        "inner/shared",
        "add",
        "output",
    ]
    assert set(paths["subclassed"]) == {
        "blocks/0",
        "blocks/1",
        "named/wide",
        "hidden",
        "hidden/inner_dense",
        "last",
    }
    assert "timed/layer" in paths["wrapped"]
    again = [path for path, _ in _keras.walk(zoo.subclassed())]
    assert again == paths["subclassed"], "automatic names count up, paths do not"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sequential", {"output"}),
        ("nested", {"output"}),
        ("branches", {"one", "two"}),
        ("wrapped", {"output"}),
    ],
)
def test_output_layers_are_found_behind_activations(name, expected):
    found = _keras.output_layers(zoo.MODELS[name]())
    assert {layer.name for layer in found} == expected


def test_the_last_layer_called_is_the_output_of_a_subclassed_model():
    class Backwards(keras.Model):
        def __init__(self):
            super().__init__()
            self.last = keras.layers.Dense(5)
            self.first = keras.layers.Dense(24)

        def call(self, x):
            return self.last(self.first(x))

    model = Backwards()
    model(np.zeros((1, 24), "float32"))
    calls = _keras.trace_calls(model, [layer for _, layer in _keras.walk(model)])
    assert calls is not None
    assert _keras.output_layers(model, calls) == [model.last]


def test_calls_are_traced_with_their_shapes_and_leave_no_trace():
    model = zoo.nested()
    layers = [layer for _, layer in _keras.walk(model)]
    nodes = [len(layer._inbound_nodes) for layer in layers]
    calls = _keras.trace_calls(model, [model.get_layer("inner").get_layer("shared")])
    assert [(call.shape, call.repeats) for call in calls] == [((1, 24), 1), ((1, 24), 1)]
    assert [len(layer._inbound_nodes) for layer in layers] == nodes
    assert all("call" not in vars(layer) for layer in layers)


def test_a_snapshot_puts_everything_back(model):
    layer = model.get_layer("first")
    before = dict(vars(layer)), list(layer.variables)
    restore = _keras.snapshot(layer)
    layer._tracker.unlock()
    layer.more = layer.add_weight(shape=(2,), name="more")
    layer.units = 7
    restore()
    assert "more" not in vars(layer)
    assert layer.units == 32
    assert set(vars(layer)) == set(before[0])
    assert [id(v) for v in layer.variables] == [id(v) for v in before[1]]


@pytest.mark.parametrize("name", zoo.MODELS)
def test_the_walk_through_the_state_is_that_of_keras(name, tmp_path):
    model = zoo.as_trained(zoo.compiled(zoo.MODELS[name]()))
    model.save_weights(tmp_path / "all.weights.h5")
    file = _keras.stored_variables(tmp_path / "all.weights.h5")
    shapes = {}
    for path, saveable in _keras.walk_state(model, lambda layer, *_: type(layer).__name__):
        store = {}
        saveable.save_own_variables(store)
        shapes[path] = {key: tuple(value.shape) for key, value in store.items()}
    assert {path: each.shapes for path, each in file.items() if each.shapes} == {
        path: each for path, each in shapes.items() if each
    }
    assert {each.place for each in file.values()} == {None}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="traces are TensorFlow's")
def test_a_function_forgets_its_graphs_and_is_traced_anew():
    import tensorflow as tf

    count = []
    variable = keras.Variable([1.0, 2.0])

    @tf.function
    def double():
        count.append(1)
        return variable.value * 2

    double()
    alone = double.get_concrete_function()
    assert isinstance(double, _keras.traces.function_class())
    assert isinstance(alone, _keras.traces.graph_class())
    handles = _keras.traces.handles_of([variable])
    assert _keras.traces.was_traced_with(double, handles)
    assert _keras.traces.captures(alone, handles)
    assert not _keras.traces.captures(alone, _keras.traces.handles_of([keras.Variable(1.0)]))

    def step():
        return unbound if len(count) > 9 else double()

    assert _keras.traces.is_traced(step)
    if len(count) > 9:
        unbound = None
    double()
    assert len(count) == 1
    _keras.trace_anew([double], [], ["double/kernel"])
    double()
    assert len(count) == 2


def test_an_optimizer_keeps_exclusions_by_key_and_a_map_by_path(model):
    optimizer = keras.optimizers.AdamW(weight_decay=0.1)
    kernel = model.get_layer("first").kernel
    optimizer.exclude_from_weight_decay(var_list=[kernel], var_names=["bias"])
    assert optimizer._exclude_from_weight_decay == {optimizer._var_key(kernel)}
    assert optimizer._exclude_from_weight_decay_pattern is not None
    optimizer._exclude_from_weight_decay_cache[optimizer._var_key(kernel)] = True
    assert optimizer._use_weight_decay(kernel), "the cache is asked first"
    chosen = keras.optimizers.OptimizerMap(optimizer, {"a/.*": keras.optimizers.SGD()})
    assert list(chosen._optimizer_map) == ["a/.*"]
    assert keras.optimizers.MultiOptimizer(chosen)._optimizer_map is chosen


def test_callbacks_that_compare_epochs_have_one_base():
    callbacks = keras.callbacks
    for kind in (callbacks.ModelCheckpoint, callbacks.EarlyStopping, callbacks.ReduceLROnPlateau):
        assert issubclass(kind, _keras.MonitorCallback)


def test_states_that_no_weights_file_has_are_found():
    layers = [keras.layers.LSTM(3, stateful=True), keras.layers.Dropout(0.5)]
    model = keras.Sequential([keras.Input((2, 4), batch_size=5), *layers])
    assert sorted(tuple(v.shape) for v in _keras.passing_state(model)) == [
        (2,),
        (2,),
        (5, 3),
        (5, 3),
    ]
    keras.random.normal((1,))
    assert tuple(_keras.global_seed().shape) == (2,)


# --- every private name -----------------------------------------------------------------------

PACKAGE = Path(_keras.__file__).resolve().parent.parent
KERAS = Path(keras.__file__).resolve().parent
TABLE = "reducible_train/_keras/private_names.py"
SLOT_NAMES = {name for row in SLOTS.values() for name in row}
KNOWN = (
    {row.name for row in ATTRIBUTES} | {f"{row.where}.{row.name}" for row in MODULES} | SLOT_NAMES
)


@dataclass(frozen=True)
class Use:
    """A name that a module of ours uses."""

    source: Path
    line: int
    owner: str  # what it is taken of; "" in a text
    name: str

    def __str__(self) -> str:
        of = f"{self.owner}." if self.owner else ""
        return f"reducible_train/{self.source.relative_to(PACKAGE)}:{self.line} {of}{self.name}"

    @property
    def room(self) -> str:
        return self.source.relative_to(PACKAGE).parts[0].removesuffix(".py")


def uses_in(source: Path) -> Iterator[Use]:
    """Attributes, texts that may name one, and what is taken from modules that are not public."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    modules, parts = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and is_inside(node.module or ""):
            modules |= {a.asname or a.name: (node, f"{node.module}.{a.name}") for a in node.names}
        if isinstance(node, ast.JoinedStr) or is_of_an_ending(node):
            parts |= {id(each) for each in ast.walk(node)}
    taken = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            whole = f"{modules[owner][1] if owner in modules else owner}.{node.attr}"
            taken.add(owner)
            inside = is_inside(whole)
            yield Use(source, node.lineno, *(("", whole) if inside else (owner, node.attr)))
        elif isinstance(node, ast.Import):
            yield from (Use(source, node.lineno, "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Constant) and id(node) not in parts:
            yield Use(source, node.lineno, "", str(node.value))
    for alias, (node, name) in modules.items():
        if alias not in taken:
            yield Use(source, node.lineno, "", name)


def is_inside(module: str) -> bool:
    """True for a module of Keras's or TensorFlow's that is not public."""
    return module.startswith(("keras.src", "tensorflow.python"))


def is_of_an_ending(node: ast.AST) -> bool:
    """True where a text is an ending of names, such as `"_mask"`, and names nothing itself."""
    ending = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    return ending and node.func.attr in ("endswith", "removesuffix")


def is_private(name: str) -> bool:
    if name == "_repr_html_":  # what notebooks ask of any object, not Keras's
        return False
    return is_inside(name) or (name.startswith("_") and name.strip("_") != "" and name[1] != "_")


@cache  # and not when tests are collected, which each worker does
def uses() -> list[Use]:
    """Those of the whole package."""
    sources = [each for each in sorted(PACKAGE.rglob("*.py")) if each.name != Path(TABLE).name]
    return [use for source in sources for use in uses_in(source)]


def uses_behind() -> list[Use]:
    """Those behind the door."""
    return [use for use in uses() if use.room == "_keras" and use.owner not in ("self", "sys")]


def uses_elsewhere() -> list[Use]:
    return [use for use in uses() if use.room != "_keras"]


def test_every_private_name_stands_in_the_table():
    wrong = [str(use) for use in uses_behind() if is_private(use.name) and use.name not in KNOWN]
    assert not wrong, f"Give each a row in {TABLE}:\n" + "\n".join(wrong)


def test_the_table_holds_no_name_that_nobody_uses():
    used, elsewhere = {use.name for use in uses_behind()}, uses_elsewhere()
    idle = [
        row
        for row in (*ATTRIBUTES, *MODULES)
        if {row.name, f"{row.where}.{row.name}"}.isdisjoint(used)
        and not any(use.name == row.name and use.room in row.rooms for use in elsewhere)
    ]
    assert not idle, f"Take them out of {TABLE}: " + ", ".join(f"{r.where}.{r.name}" for r in idle)


@cache
def vocabulary_of_keras() -> frozenset[str]:
    """All private attributes and methods that any class of Keras has."""
    pattern = re.compile(r"(?:\bself\.|\bdef )(_[a-z]\w+)")
    texts = (path.read_text(encoding="utf-8") for path in KERAS.rglob("*.py"))
    return frozenset(name for text in texts for name in pattern.findall(text))


@cache
def own_names(source: Path) -> frozenset[str]:
    """Functions, methods and attributes that a module makes."""
    nodes = list(ast.walk(ast.parse(source.read_text(encoding="utf-8"))))
    return frozenset(
        {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        | {node.attr for node in nodes if isinstance(node, ast.Attribute) and is_stored(node)}
    )


def is_stored(node: ast.Attribute) -> bool:
    return isinstance(node.ctx, ast.Store)


def test_no_other_room_names_what_is_private_to_keras():
    """But for the rows that say so: a kind of layer names where its class keeps the kernel.

    Slots of one letter are endings of ours as well (`kernel_u`), and are not looked for.
    """
    rooms = {row.name: row.rooms for row in ATTRIBUTES if is_private(row.name)}
    wrong = []
    for use in uses_elsewhere():
        if not is_private(use.name) or use.room in rooms.get(use.name, ()):
            continue
        own = use.owner in ("self", "cls", "super()") or (
            use.name in own_names(use.source) and use.name not in rooms
        )
        foreign = use.name in rooms or use.name in vocabulary_of_keras()
        if is_inside(use.name) or (not own and (use.owner or foreign)):
            wrong.append(str(use))
    told = "Reach for these by a function of reducible_train/_keras/:"
    assert not wrong, "\n".join([told, *wrong])


def classes_of_ours() -> list[type]:
    """Our classes that have one of Keras's for a base, and so share its objects.

    What `surgery/rebuild.py` has made of a class in a test before is in no module.
    """
    for name in dir(reducible_train):
        getattr(reducible_train, name)
    found, todo = [], [keras.Layer, keras.callbacks.Callback, keras.optimizers.Optimizer]
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        home = sys.modules.get(kind.__module__)
        if kind.__module__.startswith("reducible_train.") and hasattr(home, kind.__name__):
            found.append(kind)
    return found


def test_our_classes_take_no_private_name_that_their_base_has():
    wrong, allowed = set(), {row.name for row in ATTRIBUTES if row.rooms}
    for kind in classes_of_ours():
        ours = [k for k in kind.__mro__ if k.__module__.startswith("reducible_train.")]
        theirs = [k for k in kind.__mro__ if k.__module__.startswith("keras.")]
        names = {name for k in theirs for name in private_to(k)}
        wrong |= {f"{k.__qualname__}.{n}" for k in ours for n in private_to(k) & names - allowed}
    assert len(classes_of_ours()) > 15
    assert not wrong, f"Keras has these names already; choose others: {', '.join(sorted(wrong))}"


@cache
def private_to(kind: type) -> frozenset[str]:
    """Private methods of a class, and attributes that it sets."""
    text = inspect.getsource(kind)
    return frozenset(re.findall(r"(?:\bself\.(?=\w+\s*[:=][^=])|\bdef )(_[a-z]\w+)", text))


@pytest.fixture(scope="module")
def things(tmp_path_factory) -> dict[str, Any]:
    """By what the table says has a name: an object, a class or a module."""
    model = zoo.sequential()
    model.compile("adam", "mse", metrics=["mae"], weighted_metrics=["mae"])
    x, y = zoo.data(model)
    model.fit(x, np.zeros((len(y), *model.output_shape[1:])), verbose=0)
    kernel = model.get_layer("first")._kernel
    decay = keras.optimizers.AdamW(weight_decay=0.1)
    decay.exclude_from_weight_decay(var_list=[kernel], var_names=["bias"])
    several = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(decay, {}))
    several.build([kernel])
    table = keras.layers.Embedding(3, 2)
    table.build((None,))
    tensor = keras.layers.Masking()(keras.Input((4, 3)))
    recurrent = keras.layers.LSTM(2)
    found = {
        "keras.Layer": model.get_layer("first"),
        "keras.layers.Dense": model.get_layer("first"),
        "keras.layers.Embedding": table,
        "keras.layers.RNN": recurrent,
        "keras.layers.LSTM": recurrent,
        "keras.src.utils.tracking.Tracker": model._tracker,
        "keras.Model": model,
        "keras.Sequential": model,
        "keras.src.models.functional.Functional": zoo.nested(),
        "keras.Model.fit": inspect.unwrap(keras.Model.fit),
        "keras.KerasTensor": tensor,
        "keras.src.ops.node.Node": tensor._keras_history.operation._inbound_nodes[0],
        "keras.optimizers.Optimizer": model.optimizer,
        "keras.optimizers.AdamW": decay,
        "keras.optimizers.MultiOptimizer": several,
        "keras.optimizers.OptimizerMap": several._optimizer_map,
        "keras.optimizers.LossScaleOptimizer": keras.optimizers.LossScaleOptimizer(decay),
        "keras.Variable": kernel,
        "keras.losses.SparseCategoricalCrossentropy": keras.losses.SparseCategoricalCrossentropy(),
        "keras.metrics.Metric": keras.metrics.MeanAbsoluteError(),
        "keras.src.trainers.compile_utils.CompileLoss": model._compile_loss,
        "keras.src.trainers.compile_utils.CompileMetrics": model._compile_metrics,
        "keras.callbacks.SwapEMAWeights": keras.callbacks.SwapEMAWeights(),
    }
    grid = keras_tuner.oracles.GridSearchOracle(objective="val_loss", max_trials=1)
    grid._set_project_dir("runs", "search")
    found |= {"keras_tuner.Oracle": grid, "keras_tuner.oracles.GridSearchOracle": grid}
    store = saving_lib.H5IOStore(str(tmp_path_factory.mktemp("store") / "a.weights.h5"), mode="w")
    store.make("layer")
    found["keras.src.saving.saving_lib.H5IOStore"] = store
    return found | (things_of_tensorflow(model) if keras.backend.backend() == "tensorflow" else {})


def things_of_tensorflow(model: Any) -> dict[str, Any]:
    import tensorflow as tf

    alone = tf.distribute.OneDeviceStrategy("/cpu:0")
    traced = tf.function(lambda: tf.constant(1.0))
    graph = traced.get_concrete_function()
    ops = importlib.import_module("tensorflow.python.framework.ops")
    trainer = importlib.import_module("keras.src.backend.tensorflow.trainer")
    traces = "tensorflow.python.eager.polymorphic_function"
    return {
        "keras.src.backend.tensorflow.layer.TFLayer": model.get_layer("first"),
        "keras.src.backend.tensorflow.trainer.TensorFlowTrainer": model,
        f"{traces}.polymorphic_function.Function": traced,
        f"{traces}.concrete_function.ConcreteFunction": graph,
        "tensorflow.python.framework.registry.Registry": ops.gradient_registry,
        "tensorflow.distribute.StrategyExtended": alone.extended,
        "tensorflow.data.Dataset": tf.data.Dataset.range(3),
        "keras.src.backend.tensorflow.trainer.TFEpochIterator": trainer.TFEpochIterator(
            x=np.zeros((4, 3)), batch_size=2, distribute_strategy=tf.distribute.get_strategy()
        ),
    }


def test_keras_has_every_private_name_where_the_table_says(things):
    rows = [row for row in (*ATTRIBUTES, *MODULES) if is_here(row.where)]
    faults = [fault for row in rows if (fault := fault_of(row, things)) is not None]
    assert not faults, "\n".join(faults)


def is_here(where: str) -> bool:
    """False for what belongs to another backend, but for what is looked up in its source."""
    owner = "tensorflow" if "tensorflow" in where else where.partition(".")[0]
    return owner not in ("tensorflow", "torch") or owner == keras.backend.backend()


def fault_of(row: PrivateName, things: Mapping[str, Any]) -> str | None:
    """A sentence that says what has moved, and what of ours needs it; `None` if all is well."""
    users = {use.source for use in uses() if use.name in (row.name, f"{row.where}.{row.name}")}
    names = sorted(f"reducible_train/{each.relative_to(PACKAGE)}" for each in users)
    told = f"Keras {keras.__version__}: `{row.name}` of {row.where}"
    needed = f"; {', '.join(names)} needs it ({row.why}). Mend that, then {TABLE}."
    if row.form == "source":  # of a backend that is not here
        *folders, kind = row.where.split(".")[1:]
        text = KERAS.joinpath(*folders).with_suffix(".py").read_text("utf-8")
        there = re.search(rf"\b{row.name}\b", text[text.index(f"class {kind}") :])
        return None if there else f"{told} is gone{needed}"
    holder = things[row.where] if row in ATTRIBUTES else imported(row.where)
    if row.form == "variable":
        there = row.name in holder.__code__.co_varnames
        return None if there else f"{told} is gone{needed}"
    if row.form == "prefix":
        there = any(name.startswith(row.name) for name in vars(holder))
        return None if there else f"{told}: nothing begins with it{needed}"
    if not hasattr(holder, row.name):
        return f"{told} is gone{needed}"
    value = getattr(holder, row.name)
    return None if fits(value, row.form) else f"{told} is no {row.form} any more{needed}"


def imported(where: str) -> Any:
    """A module, or a class in one."""
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError:
        module, _, name = where.rpartition(".")
        return getattr(importlib.import_module(module), name)


def fits(value: Any, form: str) -> bool:
    """Whether a value is of one of some types, or can be called in a way."""
    if not form.startswith("("):
        kinds = {k.__name__ for kind in (type(value), value.__class__) for k in kind.__mro__}
        return not kinds.isdisjoint(form.split(" | "))
    arguments = [each.strip() for each in form.strip("()").split(",") if each.strip()]
    named = {each.rstrip("=") for each in arguments if each.endswith("=")}
    try:
        inspect.signature(value).bind(
            *(each for each in arguments if not each.endswith("=")), **dict.fromkeys(named)
        )
    except TypeError:
        return False
    return True


@pytest.mark.parametrize(
    ("holder", "name", "user"),
    [
        (keras.Layer, "_open_name_scope", "_keras/classes.py"),
        (keras.optimizers.Optimizer, "_get_current_learning_rate", "_keras/learning_rate.py"),
        (saving_lib, "_walk_saveable", "_keras/weights.py"),
    ],
)
def test_a_name_that_moved_is_told_with_the_module_that_needs_it(
    holder, name, user, things, monkeypatch
):
    row = next(each for each in (*ATTRIBUTES, *MODULES) if each.name == name)
    assert fault_of(row, things) is None
    defining = next(k for k in getattr(holder, "__mro__", (holder,)) if name in vars(k))
    monkeypatch.delattr(defining, name)
    told = str(fault_of(row, things))
    assert f"`{name}` of {row.where} is gone; reducible_train/{user} needs it" in told


def test_a_name_that_became_something_else_is_told():
    layer = {"keras.Layer": SimpleNamespace(_layers={}, _open_name_scope=lambda path: path)}
    rows = {row.name: row for row in ATTRIBUTES if row.where == "keras.Layer"}
    assert "is no list any more" in str(fault_of(rows["_layers"], layer))
    assert "is no () any more" in str(fault_of(rows["_open_name_scope"], layer))


# --- slots of optimizers ----------------------------------------------------------------------

OPTIONS = {"momentum": 0.9, "centered": True, "amsgrad": True, "use_ema": True}


def built_optimizers() -> Iterator[Any]:
    """Every optimizer of Keras with all the slots that it can have, and with those it must."""
    wrappers = (keras.optimizers.LossScaleOptimizer, keras.optimizers.MultiOptimizer)
    for kind in vars(keras.optimizers).values():
        if not isinstance(kind, type) or not issubclass(kind, keras.optimizers.Optimizer):
            continue
        if kind in (keras.optimizers.Optimizer, *wrappers) or "Abstract" in kind.__name__:
            continue
        known = inspect.signature(kind).parameters
        options = {name: value for name, value in OPTIONS.items() if name in known}
        for given in ({}, options, options | {"use_ema": False, "gradient_accumulation_steps": 2}):
            optimizer = kind(**given)
            optimizer.build([keras.Variable(np.ones((4, 3))), keras.Variable(np.ones(3))])
            yield optimizer


def test_every_slot_of_every_optimizer_of_keras_has_a_meaning():
    met = set()
    for optimizer in built_optimizers():
        kinds = [kind.__name__ for kind in type(optimizer).__mro__]
        for slot in _keras.slots(optimizer):
            owner = next((kind for kind in kinds if slot in SLOTS.get(kind, {})), None)
            assert owner is not None, (
                f"Keras {keras.__version__}: {kinds[0]} has the slot {slot}. Say in "
                "reducible_train/_keras/slots.py what it means, or its state is lost at every cut."
            )
            met.add((owner, slot))
    idle = {(kind, slot) for kind, row in SLOTS.items() for slot in row} - met
    assert not idle, f"No optimizer of Keras {keras.__version__} has these slots: {sorted(idle)}"


def test_a_slot_means_what_its_own_optimizer_says_and_else_what_its_name_does():
    assert _keras.meaning_of(keras.optimizers.AdamW(), "_momentums") == "momentum"
    assert _keras.meaning_of(keras.optimizers.ScheduleFreeAdamW(), "_momentums") == "weight"
    homemade = type("Homemade", (keras.optimizers.Optimizer,), {})(0.1)
    assert _keras.meaning_of(homemade, "_velocities") == "square"
    assert _keras.meaning_of(homemade, "memory") is None
