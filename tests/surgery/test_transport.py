"""Laws of optimizer transport: what an optimizer knew, it knows after a cut."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import zoo

from reducible_train.layers import find_kernels
from reducible_train.selection.scoring import decomposition
from reducible_train.surgery.change import change_kernels, cut
from reducible_train.surgery.optimizer_state import Split, Truncation

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05),
    "sgd momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda: keras.optimizers.RMSprop(1e-3),
    "rmsprop centred": lambda: keras.optimizers.RMSprop(1e-3, momentum=0.9, centered=True),
    "adam": lambda: keras.optimizers.Adam(1e-3),
    "adam amsgrad": lambda: keras.optimizers.Adam(1e-3, amsgrad=True),
    "adamw": lambda: keras.optimizers.AdamW(1e-3, weight_decay=0.01),
    "adamax": lambda: keras.optimizers.Adamax(1e-3),
    "nadam": lambda: keras.optimizers.Nadam(1e-3),
    "adagrad": lambda: keras.optimizers.Adagrad(1e-2),
    "adadelta": lambda: keras.optimizers.Adadelta(1.0),
    "adafactor": lambda: keras.optimizers.Adafactor(1e-3),
    "ftrl": lambda: keras.optimizers.Ftrl(0.05, l1_regularization_strength=1e-4),
    "lion": lambda: keras.optimizers.Lion(1e-4),
    "lamb": lambda: keras.optimizers.Lamb(1e-3),
    "muon": lambda: keras.optimizers.Muon(1e-3),
    "schedule free": lambda: keras.optimizers.ScheduleFreeAdamW(1e-3),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-3)),
    "several": lambda: keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(
            keras.optimizers.Adam(1e-3), {".*bias": keras.optimizers.SGD(0.01)}
        )
    ),
    "ema": lambda: keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.9),
    "ema overwrites": lambda: keras.optimizers.SGD(
        0.01, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=3
    ),
    "accumulation": lambda: keras.optimizers.Adam(1e-3, gradient_accumulation_steps=3),
    "clipnorm": lambda: keras.optimizers.Adam(1e-3, clipnorm=1.0),
    "global clipnorm": lambda: keras.optimizers.Adam(1e-3, global_clipnorm=1.0),
    "clipvalue": lambda: keras.optimizers.Adam(1e-3, clipvalue=0.5),
    "schedule": lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, 100)),
}
# Those that look at a variable to see whether a step counts. The rest is the same in a graph, which
# takes seconds to trace, so that is slow; and clipped, Adam has the slots of Adam.
TRACED = ("several", "loss scale", "ema overwrites", "accumulation")
CLIPPED = ("clipnorm", "clipvalue")
WAYS = [
    pytest.param(name, traced, marks=() if traced == often else pytest.mark.slow)
    for name in OPTIMIZERS
    for often in [None if name in CLIPPED else name in TRACED]
    for traced in (False, True)
]


def test_the_table_names_every_optimizer_of_keras():
    kinds = {type(make()).__name__ for make in OPTIMIZERS.values()}  # torch has its own classes
    known = {
        name for name in dir(keras.optimizers) if isinstance(getattr(keras.optimizers, name), type)
    }
    assert known - kinds == {"Optimizer", "OptimizerMap", "TFOptimizer"} & known


def flat_state(optimizer):
    """Every slot by its path's end, the kernels' apart."""
    return {v.path: np.array(v) for v in optimizer.variables}


@pytest.mark.parametrize(("name", "traced"), WAYS)
def test_every_optimizer_goes_on_after_a_split_and_a_truncation(name, traced, tmp_path):
    model = zoo.compiled(zoo.sequential(), OPTIMIZERS[name](), run_eagerly=not traced)
    x, y = zoo.data(model, 96)
    zoo.step(model, x, y, 3)
    optimizer = model.optimizer
    iterations = int(optimizer.iterations)
    for rank in (12, 4):
        before = flat_state(optimizer)
        kernels = find_kernels(model)[:2]
        changes = [cut(k, rank, decomposition(k)) for k in kernels]
        change_kernels(model, changes)
        assert model.optimizer is optimizer
        assert int(optimizer.iterations) == iterations
        after = flat_state(optimizer)
        untouched = set(before) & set(after) - {
            p for p in after if "kernel_u" in p or "kernel_v" in p
        }
        for path in untouched:
            np.testing.assert_array_equal(after[path], before[path], err_msg=path)
        assert any("output" in path for path in untouched) or name == "sgd"
        losses = zoo.step(model, x, y, 2)  # of a model that was cut, and then stepped
        history = model.fit(x, y, batch_size=96, verbose=0).history["loss"]
        iterations = int(optimizer.iterations)
        assert np.isfinite(history).all()
        assert history[-1] < 1.5 * losses[0] + 0.1, (losses, history)
        values = [np.array(v) for v in model.variables]
        assert all(np.isfinite(v).all() for v in values)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    pairs = zip(optimizer.variables, loaded.optimizer.variables, strict=True)
    for ours, theirs in pairs:
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)


def test_first_moments_follow_the_chain_rule_exactly():
    rng = np.random.default_rng(0)
    u, v, g = rng.normal(size=(9, 4)), rng.normal(size=(4, 7)), rng.normal(size=(9, 7))
    w = u @ v
    step = 1e-6

    def loss(matrix):
        return float((g * matrix).sum())

    g_u, g_v = Split(u, v).gradient([g])
    for i, j in ((0, 0), (5, 3)):
        moved = u.copy()
        moved[i, j] += step
        np.testing.assert_allclose((loss(moved @ v) - loss(w)) / step, g_u[i, j], rtol=1e-4)
    for i, j in ((0, 0), (3, 6)):
        moved = v.copy()
        moved[i, j] += step
        np.testing.assert_allclose((loss(u @ moved) - loss(w)) / step, g_v[i, j], rtol=1e-4)
    right, left = rng.normal(size=(4, 2)), rng.normal(size=(2, 4))
    t_u, t_v = Truncation(right, left).gradient([g_u, g_v])
    np.testing.assert_allclose(t_u, g @ (v.T @ left.T))
    np.testing.assert_allclose(t_v, right.T @ (u.T @ g))


def test_second_moments_stay_positive_and_never_below_the_signal():
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    model.fit(x, y, epochs=4, verbose=0)
    state = {v.path: np.array(v, "float64") for v in model.optimizer.variables}
    m = state["adam/stack_first_kernel_momentum"]
    v = state["adam/stack_first_kernel_velocity"]
    kernels = find_kernels(model)[:1]
    change_kernels(model, [cut(k, 8, decomposition(k)) for k in kernels])
    state = {v.path: np.array(v, "float64") for v in model.optimizer.variables}
    for suffix in "uv":
        first = state[f"adam/stack_first_kernel_{suffix}_momentum"]
        second = state[f"adam/stack_first_kernel_{suffix}_velocity"]
        assert (second > 0).all()
        strength = (first**2).sum() / second.sum()
        assert strength <= 1.001 * (m**2).sum() / v.sum()


def test_exclusions_from_weight_decay_are_inherited():
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.5)
    model = zoo.sequential()
    first, second = (model.get_layer(name) for name in ("first", "second"))
    optimizer.exclude_from_weight_decay(var_list=[first._kernel], var_names=["bias"])
    zoo.compiled(model, optimizer)
    x, y = zoo.data(model)
    model.fit(x, y, verbose=0)
    for rank in (8, 4):
        changes = [cut(k, rank, decomposition(k)) for k in find_kernels(model)[:2]]
        change_kernels(model, changes)
        for variable in first.trainable_variables:
            assert not optimizer._use_weight_decay(variable)
        assert optimizer._use_weight_decay(second.kernel_u)


@pytest.mark.parametrize("built", [False, True], ids=["not built", "built"])
def test_an_exclusion_by_the_name_of_a_layer_is_for_its_factors(built):
    """TensorFlow's optimizers know a variable by its path, those of other backends by its name."""

    def decaying(rank):
        optimizer = keras.optimizers.AdamW(1e-2, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(var_names=["a/", "nowhere"])
        layers = [keras.layers.Dense(16, name="a"), keras.layers.Dense(14, name="b")]
        model = keras.Sequential([keras.Input((12,)), *layers])
        model.compile(optimizer, "mse")
        if built:
            optimizer.build(model.trainable_variables)
        if rank is not None:
            change_kernels(model, [cut(k, rank, decomposition(k)) for k in find_kernels(model)])
        before = {each.name: each.get_weights() for each in model.layers}
        variables = model.trainable_variables
        optimizer.apply([keras.ops.zeros(v.shape) for v in variables], variables)
        return {
            each.name
            for each in model.layers
            if not all(map(np.array_equal, before[each.name], each.get_weights()))
        }

    expected = {"b"} if keras.backend.backend() == "tensorflow" else {"a", "b"}
    assert decaying(None) == decaying(4) == expected


def test_an_optimizer_made_for_each_variable_keeps_its_state():
    """A MultiOptimizer's map may be a function that makes a new optimizer at each call."""
    optimizer = keras.optimizers.MultiOptimizer(lambda variable: keras.optimizers.Adam(1e-3))
    model = zoo.compiled(zoo.sequential(), optimizer)
    x, y = zoo.data(model)
    model.fit(x, y, epochs=2, verbose=0)
    count = len(optimizer.optimizers)
    change_kernels(model, [cut(k, 4, decomposition(k)) for k in find_kernels(model)[:2]])
    assert len(optimizer.optimizers) == count
    steps = {int(inner.iterations) for inner in optimizer.optimizers}
    assert steps == {int(optimizer.iterations)}
    model.fit(x, y, epochs=1, verbose=0)


def test_an_averaged_model_is_not_destroyed():
    """An average left at zero would take the model to zero at the end of fit."""
    optimizer = keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.99)
    model = zoo.compiled(zoo.sequential(), optimizer)
    x, y = zoo.data(model)
    model.fit(x, y, epochs=1, verbose=0)
    change_kernels(model, [cut(k, 8, decomposition(k)) for k in find_kernels(model)[:2]])
    before = np.array(model.get_layer("first").kernel_u)
    model.fit(x, y, epochs=1, verbose=0)
    after = np.array(model.get_layer("first").kernel_u)
    assert np.linalg.norm(after - before) < 0.2 * np.linalg.norm(before)


class Homemade(keras.optimizers.Optimizer):
    """An optimizer nobody has heard of, with a slot of its own."""

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.memory = self.add_optimizer_variables(variables, "memory")

    def update_step(self, gradient, variable, learning_rate):
        slot = self.memory[self._get_variable_index(variable)]
        self.assign(slot, 0.9 * slot + gradient)
        self.assign_sub(variable, keras.ops.cast(learning_rate, "float32") * slot)


def test_an_unknown_optimizer_starts_anew_where_kernels_changed_only():
    model = zoo.compiled(zoo.sequential(), Homemade(0.01))
    x, y = zoo.data(model)
    model.fit(x, y, verbose=0)
    before = flat_state(model.optimizer)
    change_kernels(model, [cut(k, 4, decomposition(k)) for k in find_kernels(model)[:2]])
    after = flat_state(model.optimizer)
    for path, value in after.items():
        if path in before:
            np.testing.assert_array_equal(value, before[path])
        else:
            assert not value.any()
    model.fit(x, y, verbose=0)
