"""What the package relies on behind Keras's public interface: fails when Keras moves."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import zoo

from reducible_train import _keras


@pytest.fixture
def model():
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    model.fit(x, y, verbose=0)
    return model


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
    model = zoo.compiled(zoo.MODELS[name]())
    model.fit(*zoo.data(model), verbose=0)
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
