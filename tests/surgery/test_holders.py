"""The law of holders: whoever works on a layer that is cut goes on with its factors.

Wherever optimizers and compiled functions are kept: after a cut none of them is stale, every
optimizer trains the factors, and what it knew of other variables is there bit for bit.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import zoo

from reducible_train import (
    LayerRule,
    PiecewiseConstant,
    Ramp,
    RankScheduler,
    SurgeryError,
    _keras,
    factorize,
    merge,
)
from reducible_train.layers import find_kernels
from reducible_train.selection.scoring import decomposition
from reducible_train.surgery.change import change_kernels, cut
from reducible_train.surgery.plans import plan_of
from reducible_train.surgery.snapshot import restore, take_snapshot
from reducible_train.training.aid_context import ModelAidContext

if keras.backend.backend() != "tensorflow":
    pytest.skip("traced functions are TensorFlow's", allow_module_level=True)

import tensorflow as tf

pytestmark = pytest.mark.traced

L = keras.layers
X = np.random.default_rng(0).normal(size=(32, 12)).astype("float32")
Y = np.random.default_rng(1).normal(size=(32, 3)).astype("float32")


@dataclass
class Scene:
    """A model to cut, and who else works on its layers.

    Args:
        model: The model.
        train: Trains all of it, by every optimizer.
        optimizers: The optimizers, once they are built.
        views: Pairs of a compiled function and what it must give.
        parts: What is trained, if it is more than the model.
    """

    model: Any
    train: Callable[[], Any]
    optimizers: Callable[[], Sequence[Any]]
    views: Sequence[tuple[Callable[[], Any], Callable[[], Any]]] = ()
    parts: Sequence[Any] = ()


def stack(*units: int, inputs: int = 12, **kwargs: Any) -> keras.Model:
    layers = [L.Dense(n, activation="tanh") for n in units[:-1]]
    return keras.Sequential([keras.Input((inputs,)), *layers, L.Dense(units[-1])], **kwargs)


def view(model: Any, x: np.ndarray = X) -> tuple[Callable[[], Any], Callable[[], Any]]:
    return lambda: model.predict(x, verbose=0), lambda: model(x, training=False)


def step(model: Any, optimizer: Any, weights: Callable[[], Sequence[Any]]) -> Any:
    """A compiled training step, its optimizer in no attribute of anybody."""

    @tf.function
    def train(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x) - y) ** 2)
        optimizer.apply(tape.gradient(loss, weights()), weights())
        return loss

    return train


def adversaries() -> Scene:
    """Two optimizers, given to `compile`, kept in a dictionary; a third that is never used."""

    class Adversaries(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.maker, self.judge = stack(16, 12), stack(16, 3)

        def compile(self, **optimizers: Any) -> None:
            super().compile()
            self.by_part = optimizers

        def call(self, x: Any) -> Any:
            return self.judge(self.maker(x))

        def train_step(self, data: Any) -> Any:
            x, y = data
            for name, optimizer in self.by_part.items():
                weights = getattr(self, name).trainable_weights
                with tf.GradientTape() as tape:
                    loss = tf.reduce_mean((self(x) - y) ** 2)
                optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
            return {"loss": loss}

    model = Adversaries()
    model(X)
    model.compile(maker=keras.optimizers.Adam(), judge=keras.optimizers.RMSprop(momentum=0.9))
    fit = lambda: model.fit(X, Y, verbose=0)  # noqa: E731
    return Scene(model, fit, lambda: [*model.by_part.values()], [view(model), view(model.maker)])


def heads() -> Scene:
    """Two compiled models over one trunk, trained in turn."""
    trunk = stack(16, 14)
    inputs = keras.Input((12,))
    one, two = (keras.Model(inputs, L.Dense(3)(trunk(inputs))) for _ in range(2))
    one.compile("adam", "mse")
    two.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")

    def train() -> None:
        for model in (one, two):
            model.fit(X, Y, verbose=0)

    views = [view(one), view(two), view(trunk)]
    return Scene(one, train, lambda: [one.optimizer, two.optimizer], views, [one, two])


def extractor() -> Scene:
    """Models up to a hidden layer and around the whole, and a function, all made before.

    The function is an attribute of the model, as language models keep their `generate`.
    """
    model = zoo.compiled(
        stack(16, 14, 5), keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())
    )
    model.generate_function = tf.function(lambda x: model(x, training=False))
    inside = keras.Model(model.inputs[0], model.layers[1].output)
    inputs = keras.Input((12,))
    around = keras.Model(inputs, L.Activation("softmax")(model(inputs)))
    y = np.arange(32) % 5
    made = (lambda: model.generate_function(X), lambda: model(X, training=False))
    views = [view(inside), view(around), made]
    return Scene(model, lambda: model.fit(X, y, verbose=0), lambda: [model.optimizer], views)


def part() -> Scene:
    """The part is cut; its parent trains, and so does it alone, with an optimizer of its own."""

    class Parent(keras.Model):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.blocks = [inner, L.Dense(3)]

        def call(self, x: Any) -> Any:
            return self.blocks[1](self.blocks[0](x))

    inner = stack(16, 14)
    inner.compile("adamax", "mse")
    parent = Parent(inner)
    parent(X)
    parent.compile("lion", "mse")

    def train() -> None:
        inner.fit(X, np.tile(Y, 5)[:, :14], verbose=0)
        parent.fit(X, Y, verbose=0)

    views = [view(inner), view(parent)]
    return Scene(inner, train, lambda: [inner.optimizer, parent.optimizer], views, [parent])


def closure() -> Scene:
    """A training loop and a prediction of one's own, in functions."""
    model = stack(16, 14, 3)
    optimizer = keras.optimizers.Adam(1e-2, use_ema=True)
    train = step(model, optimizer, lambda: model.trainable_variables)
    look = tf.function(model, input_signature=[tf.TensorSpec((None, 12))])
    views = [(lambda: look(X), lambda: model(X))]
    return Scene(model, lambda: train(X, Y), lambda: [optimizer], views)


SCENES = [adversaries, heads, extractor, part, closure]


def to_rank(model: Any, rank: int, count: int = 2) -> None:
    change_kernels(model, [cut(k, rank, decomposition(k)) for k in find_kernels(model)[:count]])


def slots_of(optimizers: Sequence[Any]) -> dict[tuple[int, str, int], np.ndarray]:
    """What each optimizer knows of each variable, by slot."""
    return {
        (i, name, id(variable)): np.array(value)
        for i, outer in enumerate(optimizers)
        for each in _keras.all_optimizers(outer)
        for name, values in _keras.slots(each).items()
        for variable, value in zip(_keras.trainable_of(each), values, strict=True)
        if value is not None
    }


def assert_fresh(scene: Scene) -> None:
    for compiled, eager in scene.views:
        np.testing.assert_allclose(compiled(), eager(), atol=1e-5)


@pytest.mark.parametrize("make", SCENES, ids=lambda make: make.__name__)
def test_whoever_holds_a_layer_goes_on_with_its_factors(make):
    scene = make()
    scene.train()
    assert_fresh(scene)
    for change in (lambda: to_rank(scene.model, 6), lambda: to_rank(scene.model, 3)):
        before = slots_of(scene.optimizers())
        change()
        after = slots_of(scene.optimizers())
        kept = before.keys() & after.keys()
        assert {i for i, *_ in after} == {i for i, *_ in before}
        assert kept or make is part  # in a part, no optimizer may be without a cut kernel
        for key in kept:
            np.testing.assert_array_equal(after[key], before[key])
        assert_fresh(scene)
        trained = [v for each in scene.parts or [scene.model] for v in each.trainable_variables]
        values = [np.array(v) for v in trained]
        scene.train()
        moved = [np.abs(np.array(v) - a).max() for v, a in zip(trained, values, strict=True)]
        assert min(moved) > 0
        assert_fresh(scene)
    known = {id(v) for each in scene.optimizers() for v in _keras.trainable_of(each)}
    assert known == {id(v) for v in trained}, "nothing dead, nothing forgotten"


def test_what_somebody_keeps_of_a_function_says_that_ranks_have_changed():
    model = stack(16, 14, 3)
    function = tf.function(model)
    alone = function.get_concrete_function(tf.constant(X))
    np.testing.assert_allclose(alone(tf.constant(X)), model(X), atol=1e-5)
    to_rank(model, 3)
    with pytest.raises(SurgeryError, match=r"traced before the ranks of dense\S*/kernel.* changed"):
        alone(tf.constant(X))
    fresh = function.get_concrete_function(tf.constant(X))
    np.testing.assert_allclose(fresh(tf.constant(X)), model(X), atol=1e-5)
    merge(model)
    np.testing.assert_allclose(function(X), model(X), atol=1e-5)


def test_what_somebody_keeps_of_a_kernel_is_no_number_any_more():
    model = stack(16, 14, 3)
    kept = [[model.layers[0].kernel]]
    to_rank(model, 3)
    assert np.isnan(float(keras.ops.sum(kept[0][0])))
    assert np.isfinite(model(X)).all()


def test_a_cut_that_fails_leaves_every_holder_as_it_was(monkeypatch):
    scene = heads()
    scene.train()
    before = slots_of(scene.optimizers())
    built = []

    def fail(optimizer, variables):
        built.append(optimizer)
        raise RuntimeError("no more")

    monkeypatch.setattr(type(scene.optimizers()[1]), "build", fail)
    with pytest.raises(SurgeryError, match="no more"):
        to_rank(scene.model, 3)
    monkeypatch.undo()
    assert built
    after = slots_of(scene.optimizers())
    assert after.keys() == before.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value)
    scene.train()
    assert_fresh(scene)


def test_a_parent_is_saved_after_its_part_was_cut(tmp_path):
    """What a parent's file says of its sublayers follows a cut of one of them."""

    @keras.saving.register_keras_serializable("holders")
    class Parent(zoo.Subclassed):
        pass

    parent = Parent()
    parent(np.zeros((1, 24), "float32"))
    around = keras.Sequential([keras.Input((24,)), parent])
    part = keras.Sequential([keras.Input((24,)), parent.blocks[0]])
    x = np.random.default_rng(0).normal(size=(4, 24)).astype("float32")
    factorize(part, rank=4, rules=[LayerRule("*", keep_dense=False)])
    assert plan_of(around)
    for name, model in (("parent", parent), ("around", around)):
        model.save(tmp_path / f"{name}.keras")
        loaded = keras.models.load_model(tmp_path / f"{name}.keras")
        np.testing.assert_allclose(loaded(x), model(x), atol=1e-5)


# --- a guard -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "trained"), [(adversaries, False), (heads, True)], ids=["not built", "built"]
)
def test_every_optimizer_comes_back(make, trained):
    scene = make()
    if trained:
        scene.train()
    snapshot = take_snapshot(scene.model)
    before, weights = slots_of(scene.optimizers()), [np.array(v) for v in scene.model.weights]
    own = {id(v): v.path for v in scene.model.weights}
    before = {(i, name, own[v]): value for (i, name, v), value in before.items() if v in own}
    to_rank(scene.model, 3)
    scene.train()
    restore(scene.model, snapshot)
    own = {id(v): v.path for v in scene.model.weights}
    after = slots_of(scene.optimizers())
    after = {(i, name, own[v]): value for (i, name, v), value in after.items() if v in own}
    assert after.keys() == before.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value)
    for variable, value in zip(scene.model.weights, weights, strict=True):
        np.testing.assert_array_equal(variable, value)
    scene.train()
    assert_fresh(scene)


# --- trainable, in the middle of a fit ------------------------------------------------------


class Switch(keras.callbacks.Callback):
    """Sets `trainable` of a part before an epoch, and compiles nothing."""

    def __init__(self, part: Any, value: bool, epoch: int = 2):
        super().__init__()
        self.part, self.value, self.epoch = part, value, epoch

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == self.epoch:
            self.part.trainable = self.value


def in_two() -> tuple[keras.Model, keras.Model, keras.Model]:
    """A model of two parts, the first of which normalizes its outputs."""
    body = keras.Sequential([keras.Input((12,)), L.Dense(16), L.BatchNormalization()], name="body")
    head = stack(14, 5, inputs=16, name="head")
    return keras.Sequential([keras.Input((12,)), body, head]), body, head


@pytest.mark.parametrize(
    ("unfreeze", "first"), [(True, False), (False, True)], ids=["unfreeze", "freeze"]
)
def test_trainable_in_mid_fit_does_what_it_does_without_cuts(unfreeze, first):
    """Until the model is compiled anew, nothing: Keras trains what it began to train."""
    model, body, _ = in_two()
    body.trainable = not unfreeze
    optimizer = keras.optimizers.Adam(1e-2)
    zoo.compiled(model, optimizer)
    scheduler = RankScheduler(
        rank=PiecewiseConstant(values=(14, 4, 2), start_epochs=(0, 1, 3)),
        rules=[LayerRule("body*", rank=8)],
    )
    seen = {}
    switch = Switch(body, unfreeze)
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, _: seen.update({epoch: [np.array(v) for v in body.variables]})
    )
    callbacks = [switch, scheduler, look] if first else [scheduler, switch, look]
    model.fit(X, np.arange(32) % 5, epochs=5, verbose=0, callbacks=callbacks)
    assert all(v.trainable == unfreeze for v in body._flatten_layers())
    trained = {id(v) for v in optimizer._trainable_variables}
    assert all((id(v) in trained) != unfreeze for v in body.layers[0].variables)
    moved = [
        np.abs(a - b).max() for a, b in zip(seen[4], seen[3], strict=True) if a.shape == b.shape
    ]
    assert (max(moved) == 0) if unfreeze else (min(moved) > 0)


@pytest.mark.parametrize(
    ("freeze", "has_begun", "eager"),
    [
        pytest.param(True, True, False, id="freeze what was trained"),
        pytest.param(True, True, True, id="freeze what was trained eagerly"),
        pytest.param(True, False, False, id="freeze what was compiled"),
        pytest.param(False, True, False, id="unfreeze what was trained"),
        pytest.param(False, False, False, id="unfreeze what was compiled"),
    ],
)
def test_frozen_is_what_a_fit_does_not_train(freeze, has_begun, eager):
    """As Keras has it: a step that was traced heeds no flags, others do. Cuts change nothing."""
    y = np.arange(32) % 5
    ramp = Ramp(1.0, 0.5, start_epoch=0, end_epoch=2)
    rules = [LayerRule("*", keep_dense=False)]
    moved = []
    for scheduler in (None, RankScheduler(ramp), RankScheduler(ramp, rules=rules)):
        model = stack(24, 24, 5)
        layer = model.layers[0]
        layer.trainable = freeze
        zoo.compiled(model, keras.optimizers.Adam(1e-2), run_eagerly=eager)
        if has_begun:
            model.fit(X, y, verbose=0)
        layer.trainable = not freeze
        seen = []
        look = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, _, layer=layer, seen=seen: seen.append(
                [np.array(v) for v in layer.variables]
            )
        )
        callbacks = [look] if scheduler is None else [scheduler, look]
        model.fit(X, y, epochs=5, verbose=0, callbacks=callbacks)
        moved.append(any((a != b).any() for a, b in zip(seen[-2], seen[-1], strict=True)))
        if scheduler is not None:
            is_frozen = "frozen" in (scheduler.report.kernels[0].reason or "")
            assert is_frozen == (not moved[0] and scheduler.settings.rules == ())
            assert scheduler.report.ranks
    assert moved == moved[:1] * 3


def test_what_was_frozen_and_compiled_stays_so_though_the_optimizer_knows_it():
    model, body, _ = in_two()
    y = np.arange(32) % 5
    zoo.compiled(model, keras.optimizers.Adam(1e-2)).fit(X, y, verbose=0)
    body.trainable = False
    zoo.compiled(model, model.optimizer)
    before = [np.array(v) for v in body.variables]
    rules = [LayerRule("body*", keep_dense=True)]
    model.fit(X, y, verbose=0, callbacks=[RankScheduler(rank=3, rules=rules)])
    assert plan_of(model)
    for variable, value in zip(body.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


# --- what optimizers were told about single variables ---------------------------------------

OPTIMIZERS = {
    "adamw": lambda: keras.optimizers.AdamW(1e-2, weight_decay=0.1),
    "lamb": lambda: keras.optimizers.Lamb(1e-2, weight_decay=0.1),
    "wrapped": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(1e-2, weight_decay=0.1)
    ),
}


@pytest.mark.parametrize("built", [False, True], ids=["not built", "built"])
@pytest.mark.parametrize("by", ["var_list", "var_names"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_exclusion_from_weight_decay_is_for_the_factors_too(name, by, built):
    optimizer = OPTIMIZERS[name]()
    told = optimizer.inner_optimizer if name == "wrapped" else optimizer
    model = keras.Sequential(
        [keras.Input((12,)), L.Dense(16, name="a"), L.EinsumDense("bi,ij->bj", 14, name="b")]
    )
    a, b = model.layers
    named = {"var_list": [a.kernel]} if by == "var_list" else {"var_names": ["kernel"]}
    told.exclude_from_weight_decay(**named)
    model.compile(optimizer, "mse")
    if built:
        optimizer.build(model.trainable_variables)
    for rank in (6, 3):
        to_rank(model, rank)
        assert not any(told._use_weight_decay(v) for v in (a.kernel_u, a.kernel_v))
        decays = [told._use_weight_decay(v) for v in (b.kernel_u, b.kernel_v)]
        assert decays == [by == "var_list"] * 2
    merge(model)
    assert not told._use_weight_decay(a.kernel)
    assert told._use_weight_decay(b.kernel) == (by == "var_list")


def test_a_name_that_only_factors_have_excludes_no_kernel():
    optimizer = keras.optimizers.AdamW(1e-2, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["_v$"])
    model = zoo.compiled(stack(16, 14, 5), optimizer)
    for rank in (6, 3):
        to_rank(model, rank)
        assert all(optimizer._use_weight_decay(v) for v in model.trainable_variables)


@pytest.mark.parametrize("built", [False, True], ids=["not built", "built"])
@pytest.mark.parametrize("mapped", ["by path", "by function"])
def test_factors_go_to_the_optimizer_that_their_kernel_goes_to(mapped, built):
    slow, fast = keras.optimizers.SGD(1e-3), keras.optimizers.Adam(1e-2)
    paths = keras.optimizers.OptimizerMap(fast, {".*/a/kernel": slow})
    chosen = (
        paths if mapped == "by path" else lambda v: slow if v.path.endswith("a/kernel") else fast
    )
    model = keras.Sequential([keras.Input((12,)), L.Dense(16, name="a"), L.Dense(14, name="b")])
    optimizer = keras.optimizers.MultiOptimizer(chosen)
    model.compile(keras.optimizers.LossScaleOptimizer(optimizer), "mse")
    if built:
        model.optimizer.build(model.trainable_variables)
    a, b = model.layers
    for rank in (6, 3):
        to_rank(model, rank)
    model.fit(X, X[:, :1].repeat(14, 1), verbose=0)
    assert {id(v) for v in slow._trainable_variables} == {id(a.kernel_u), id(a.kernel_v)}
    assert {id(v) for v in (b.kernel_u, b.kernel_v)} <= {id(v) for v in fast._trainable_variables}
    if mapped == "by path":  # a model that is loaded asks the map
        assert optimizer._optimizer_map[a.kernel_u.path] is slow


def test_what_was_set_on_a_kernel_itself_is_kept():
    """A regularizer set after `build` is on the variable alone, where Keras reads it."""
    model = stack(16, 14, 5)
    first, second, _ = model.layers
    first.kernel.regularizer = keras.regularizers.L2(0.1)
    expected = 0.1 * float(np.sum(np.square(first.kernel)))
    to_rank(model, 12)
    np.testing.assert_allclose(float(sum(model.losses)), expected, rtol=1e-4)
    merge(model)
    np.testing.assert_allclose(float(sum(model.losses)), expected, rtol=1e-4)
    second.kernel.constraint = keras.constraints.NonNeg()
    first.kernel.overwrite_with_gradient = True
    reasons = {k.layer.name: k.refusal for k in find_kernels(model)}
    assert "constraint" in reasons[second.name]
    assert "overwritten" in reasons[first.name]


def test_a_warm_up_is_for_every_optimizer_of_a_model():
    model = adversaries().model
    support = ModelAidContext(model, None)
    rates = [float(each._get_current_learning_rate()) for each in model.by_part.values()]
    support.warm_up(10, 0.1)
    warmed = [float(each._get_current_learning_rate()) for each in model.by_part.values()]
    np.testing.assert_array_less(warmed, rates)
    support.close()
    after = [float(each._get_current_learning_rate()) for each in model.by_part.values()]
    np.testing.assert_allclose(after, rates)


def test_looking_for_holders_leaves_other_threads_alone():
    """A tuple that another thread is building fails there if anybody holds it meanwhile."""
    failures, passes, done = [], [], threading.Event()
    many = [[number] for number in range(100_000)]

    def build():
        while not done.is_set():
            try:
                passes.append(len(tuple(each for each in map(str, range(300)))))
            except SystemError as error:
                failures.append(error)

    builds, interval = threading.Thread(target=build), sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        builds.start()
        for _ in range(20):
            _keras.find_holders([], [])
    finally:
        done.set()
        builds.join()
        sys.setswitchinterval(interval)
    assert many
    assert passes
    assert not failures
