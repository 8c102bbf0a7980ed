"""A model on several devices, or in several processes: layouts of factors, one who decides."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import zoo
from kinds import KINDS

from reducible_train import (
    Adaptive,
    ArgumentError,
    Cadence,
    Guard,
    Latency,
    PiecewiseConstant,
    RankScheduler,
    _keras,
    factorize,
)
from reducible_train.layers import find_kernels
from reducible_train.layers.layouts import layouts_at_rank


def parallel(layouts, shape=(2, 2), names=("batch", "model")):
    devices = [f"cpu:{i}" for i in range(int(np.prod(shape)))]
    known = keras.distribution.LayoutMap(keras.distribution.DeviceMesh(shape, names, devices))
    for pattern, axes in layouts.items():
        known[pattern] = axes
    return keras.distribution.ModelParallel(layout_map=known, batch_dim_name=names[0])


@pytest.mark.parametrize("name", KINDS)
def test_factors_of_every_kind_are_split_along_the_axes_of_the_kernel_alone(name):
    layer = KINDS[name].make("float32")
    layer(KINDS[name].inputs())
    for kernel in find_kernels(layer):
        shape, names = kernel.variable_shape, [f"axis_{i}" for i in range(5)]
        axes = tuple(names[: len(shape)])
        for split in kernel.splits:
            with parallel({".*kernel": axes}, (1,) * 5, tuple(names)).scope():
                found = layouts_at_rank(kernel.view(split), "a/kernel", shape, rank=2)
            sizes = dict(zip(names, shape, strict=False)) | {None: 0}
            factors = zip(found.values(), kernel.view(split).factor_shapes(shape, 2), strict=True)
            for layout, lengths in factors:
                told = [a for a in layout.axes if a is not None]
                assert len(set(told)) == len(told)
                for axis, length in zip(layout.axes, lengths, strict=True):
                    assert axis is None or sizes[axis] == length
            assert {a for layout in found.values() for a in layout.axes} == {*axes, None}


def axes_of(found):
    return {path: tuple(layout.axes) for path, layout in found.items()}


@pytest.mark.parametrize("pattern", [".*kernel", ".*kernel.*", ".*"])
def test_a_pattern_that_meets_the_kernel_never_splits_the_rank(pattern):
    view = find_kernels(zoo.sequential())[0].view()
    with parallel({pattern: ("model", None)}).scope():
        found = layouts_at_rank(view, "a/kernel", (6, 8), rank=3)
    assert axes_of(found) == {"a/kernel_u": ("model", None), "a/kernel_v": (None, None)}


def test_an_entry_for_a_factor_holds_where_the_mesh_divides_it():
    view = find_kernels(zoo.sequential())[0].view()
    with parallel({".*kernel": (None, "model"), ".*kernel_u": ("batch", "model")}).scope():
        even = layouts_at_rank(view, "a/kernel", (6, 8), rank=4)
        with pytest.warns(UserWarning, match="'a/kernel_u' of shape .6, 3. cannot be split"):
            odd = layouts_at_rank(view, "a/kernel", (6, 8), rank=3)
    assert axes_of(even)["a/kernel_u"] == ("batch", "model")
    assert axes_of(odd)["a/kernel_u"] == ("batch", None)


@pytest.mark.parametrize(
    "layouts",
    [
        {".*kernel": (None, "model"), ".*_u": ("model", None), ".*nel_u": (None, None)},
        {".*kernel": (None, "model"), ".*kernel_v": ("model",)},
    ],
    ids=["two entries", "another number of axes"],
)
def test_a_map_that_cannot_tell_is_refused_before_anything_changes(layouts):
    with parallel(layouts).scope():
        model = zoo.sequential()
        before = [v.path for v in model.variables]
        with pytest.raises(ArgumentError, match="map of layouts cannot tell"):
            factorize(model, rank=3)
    assert [v.path for v in model.variables] == before


def test_layouts_hold_only_where_factors_are_made():
    distribution = parallel({".*kernel": (None, "model")})
    with distribution.scope():
        factorize(zoo.sequential(), rank=3)
    assert "get_variable_layout" not in vars(distribution)


class Clock:
    """Times by the size of a layer, times a factor of its own, so that ranks differ."""

    def __init__(self, fixed):
        self.fixed = fixed

    def __call__(self, calls, rounds):
        matrices = [[v.shape for v in call.layer.weights if len(v.shape) > 1] for call in calls]
        return [sum(m * n + self.fixed for m, n in each) for each in matrices]


FALL = PiecewiseConstant((1.0, 0.8), (0, 1))
SETTINGS = {
    "latency": lambda one: {"budget": FALL, "measure": Latency(timer=Clock(300.0 * one))},
    "activation": lambda one: {
        "budget": FALL,
        "criterion": "activation",
        "calibration": zoo.data(zoo.sequential())[0] * (np.arange(24) % (2 + one) == 0),
    },
    "guard": lambda one: {"budget": FALL, "guard": Guard("own", max_drop=0.1, mode="max")},
    "adaptive": lambda one: {
        "budget": 0.7,
        "cadence": Cadence(start=Adaptive(slope=1e-9 + 9 * one, end_epoch=3)),
    },
}


class Own(keras.callbacks.Callback):
    """A metric that falls in the other process."""

    def __init__(self, one):
        super().__init__()
        self.one = one

    def on_epoch_end(self, epoch, logs=None):
        logs["own"] = 1.0 - self.one * epoch


def trained(one, settings, told, monkeypatch):
    monkeypatch.setattr(_keras, "broadcaster", lambda variables: zoo.Told(told))
    monkeypatch.setattr(_keras, "is_shared_by_processes", lambda variables: True)
    keras.utils.set_random_seed(5)
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    scheduler = RankScheduler(**settings(one))
    model.fit(x, y, epochs=4, shuffle=False, verbose=0, callbacks=[Own(one), scheduler])
    return scheduler.report, [
        zoo.as_array(v) for v in (*model.variables, *model.optimizer.variables)
    ]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_process_that_is_told_does_what_the_first_decides(name, monkeypatch):
    first = []

    def telling(value):
        first.append(pickle.dumps(value))
        return value

    def listening(value):
        return pickle.loads(first.pop(0))

    wanted, weights = trained(0, SETTINGS[name], telling, monkeypatch)
    report, ours = trained(1, SETTINGS[name], listening, monkeypatch)
    assert wanted.ranks
    assert not first, "both came by as often"
    assert report.ranks == wanted.ranks
    assert len(report.undone) == len(wanted.undone)
    for own, other in zip(ours, weights, strict=True):
        np.testing.assert_array_equal(own, other)


def strategy(**cluster):
    resolver = SimpleNamespace(cluster_spec=lambda: SimpleNamespace(as_dict=lambda: cluster))
    extended = SimpleNamespace(_in_multi_worker_mode=lambda: len(cluster) > 0)
    return SimpleNamespace(cluster_resolver=resolver, extended=extended)


def test_a_strategy_of_several_workers_is_refused_before_training():
    model = zoo.compiled(zoo.sequential())
    assert _keras.workers(model) == 1
    vars(model)["_distribute_strategy"] = strategy(chief=["a:1"], worker=["b:1", "c:1"])
    assert _keras.workers(model) == 3
    scheduler = RankScheduler(rank=3)
    scheduler.set_model(model)
    with pytest.raises(ArgumentError, match=r"several workers.*Received: 3 workers"):
        scheduler.on_train_begin()
    vars(model)["_distribute_strategy"] = strategy()
    assert _keras.workers(model) == 1


def test_a_model_is_cut_in_the_scope_of_its_strategy_and_what_it_held_is_freed():
    import tensorflow as tf

    with tf.distribute.MirroredStrategy(["cpu:0"]).scope():
        layer = keras.layers.Dense(16, name="hidden")
        model = keras.Sequential([keras.Input((12,)), layer, keras.layers.Dense(4)])
        old, kept = layer.kernel.value, layer.bias.value
        factorize(model, budget=0.8)
    assert model.layers[0].rank < 12
    (part,) = [part.read_value().numpy() for part in old.values]
    assert part.shape == (1, 1)
    assert np.isnan(part).all(), "who still reads it sees it"
    assert [part.read_value().shape for part in kept.values] == [(16,)]


def test_strategies_of_tensorflow_say_how_many_workers_there_are():
    import tensorflow as tf

    mirrored = tf.distribute.MirroredStrategy(["cpu:0"])
    assert mirrored.extended._in_multi_worker_mode() is False
    assert hasattr(tf.distribute.Strategy, "cluster_resolver")
    assert _keras.workers(SimpleNamespace(_distribute_strategy=mirrored)) == 1
