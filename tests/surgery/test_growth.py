"""Laws of growing: whole gradients of any kind of layer, and directions along them."""

from __future__ import annotations

import keras
import kinds
import law
import numpy as np
import pytest
import tensorflow as tf
import zoo
from test_transport import OPTIMIZERS as MAKERS
from test_transport import flat_state

from reducible_train import ArgumentError, LayerRule, SpectrumError, _keras, factorize, merge
from reducible_train.compressor import Compression
from reducible_train.layers import as_matrices, find_kernels
from reducible_train.selection.calibration import samples_of
from reducible_train.settings.targets import target
from reducible_train.surgery.change import change_kernels
from reducible_train.surgery.growth import grow, whole_gradients

GROUPS = "conv2d groups"  # a variant with a whole gradient of its own
KINDS = {name: kind for name, kind in kinds.KINDS.items() if not kind.variant or name == GROUPS}
# One of each way to keep state: momenta, squares, factors of squares, copies, wrappers.
OPTIMIZERS = (
    "sgd momentum",
    "rmsprop centred",
    "adam",
    "adadelta",
    "adafactor",
    "ftrl",
    "schedule free",
    "several",
    "ema",
)


def factorised(model):
    return [k for k in find_kernels(model) if k.rank is not None]


@pytest.mark.parametrize("name", KINDS)
def test_it_is_the_gradient_of_the_dense_layer(name):
    """The dense twin is another network of Keras's own layers, differentiated by itself."""
    kind = KINDS[name]
    keras.utils.set_random_seed(3)
    model = law.sequential(name, "float32")
    model.compile("adam", "sparse_categorical_crossentropy")
    rules = [LayerRule("*", split=kind.split)] if kind.split else []
    factorize(model, rank=2, rules=rules)
    x = kind.inputs(6)
    y = np.arange(6) % law.OUTPUTS
    weights = np.linspace(0.5, 2.0, 6)
    before = model.get_weights()
    found = whole_gradients(model, factorised(model), samples_of((x, y, weights)))
    assert found
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    paths = {k.path: k.splits[0] for k in factorised(model)}
    merge(model)
    dense = {k.path: k for k in find_kernels(model) if k.path in paths}
    variables = [dense[path].variables[0] for path in found]
    with tf.GradientTape() as tape:
        predicted = model(x, training=False)
        loss = 6 * model.compute_loss(x=x, y=y, y_pred=predicted, sample_weight=weights)
    expected = tape.gradient(loss, [v.value for v in variables])
    for path, gradient in zip(found, expected, strict=True):
        (matrix,) = as_matrices(dense[path], paths[path])(
            [np.array(tf.convert_to_tensor(gradient))]
        )
        assert matrix.any()
        np.testing.assert_allclose(
            found[path], matrix, atol=2e-5 * np.abs(matrix).max(), err_msg=path
        )


@pytest.mark.parametrize(
    "name", ["dense", "conv2d groups", "conv2d spatial", "einsum per head", "transposed1d"]
)
def test_a_kernel_grows_to_where_its_gradient_points_and_computes_the_same(name):
    kind = kinds.KINDS[name]
    model = law.sequential(name, "float32")
    model.compile("adam", "sparse_categorical_crossentropy")
    factorize(model, rank=2, rules=[LayerRule("*", split=kind.split)] if kind.split else [])
    (kernel,) = factorised(model)
    x, y = kind.inputs(6), np.arange(6) % law.OUTPUTS
    gradient = whole_gradients(model, [kernel], samples_of((x, y)))[kernel.path]
    u, v = (matrix.astype("float64") for matrix in kernel.matrices())
    before = np.array(model(x, training=False))
    change_kernels(model, [grow(kernel, gradient, 2)])
    assert kernel.rank == 4
    np.testing.assert_allclose(np.array(model(x, training=False)), before, atol=1e-6)
    wide, tall = (matrix.astype("float64") for matrix in kernel.matrices())
    np.testing.assert_array_equal(tall[:, 2:], 0)
    for i, g in enumerate(gradient):
        p = u[i] @ np.linalg.pinv(u[i])
        q = np.linalg.pinv(v[i]) @ v[i]
        normal = (np.eye(len(p)) - p) @ g @ (np.eye(len(q)) - q)
        size = np.linalg.norm(u[i]) / np.sqrt(2)
        new = wide[i][:, 2:] / size
        np.testing.assert_allclose(new.T @ new, np.eye(2), atol=1e-5)
        np.testing.assert_allclose(u[i].T @ new, 0, atol=1e-5)
        best = np.linalg.svd(normal, compute_uv=False)[:2]
        np.testing.assert_allclose(np.linalg.norm(normal.T @ new, axis=0), best, rtol=1e-3)


def test_it_grows_by_nothing_where_the_gradient_is_within_its_span():
    model = zoo.compiled(zoo.sequential())
    factorize(model, rank=4)
    kernel = factorised(model)[0]
    u, v = (matrix.astype("float64") for matrix in kernel.matrices())
    assert grow(kernel, u @ np.ones((1, 4, v.shape[-1])), 2) is None
    assert grow(kernel, np.zeros((1, *kernel.shape)), 2) is None


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_keeps_what_it_knew_and_goes_on(name):
    model = zoo.compiled(zoo.sequential(), MAKERS[name]())
    x, y = zoo.data(model, 96)
    factorize(model, rank=6)
    zoo.step(model, x, y, 4)
    kernels = factorised(model)
    gradients = whole_gradients(model, kernels, samples_of((x, y)))
    before = flat_state(model.optimizer)
    outputs, loss = zoo.outputs(model, x), float(model.test_on_batch(x, y))
    change_kernels(model, [grow(k, gradients[k.path], 3) for k in kernels])
    np.testing.assert_allclose(zoo.outputs(model, x), outputs, rtol=1e-5, atol=1e-6)
    after = flat_state(model.optimizer)
    shared = before.keys() & after.keys()  # Keras names some by where they were built
    assert name == "adafactor" or any("first_kernel_u" in path for path in shared)
    assert all(np.isfinite(value).all() for value in after.values())
    for path in shared if name != "adafactor" else ():  # whose slots share their names
        old, new = before[path], after[path]
        if old.shape == new.shape:
            np.testing.assert_array_equal(new, old, err_msg=path)
        elif not path.endswith("linear"):  # a function of other slots
            part = new[: old.shape[0], : old.shape[1]]
            np.testing.assert_allclose(part, old, rtol=1e-6, err_msg=path)
            if "velocity" in path:
                assert old.min() <= new.min()
    losses = zoo.step(model, x, y, 4)
    assert np.isfinite(losses).all()
    assert losses[-1] < 1.5 * loss + 0.1


@pytest.mark.traced
def test_averages_of_weights_go_on():
    model = zoo.compiled(zoo.sequential(), keras.optimizers.Adam(0.01, use_ema=True))
    x, y = zoo.data(model, 96)
    factorize(model, rank=6)
    kernels = factorised(model)
    samples = samples_of((x, y))

    class Grow(keras.callbacks.Callback):
        """In the middle: at the end of a fit Keras puts averages in the place of weights."""

        def averages(self):
            optimizer = self.model.optimizer
            found = [v.path for v in optimizer._trainable_variables]
            slots = optimizer._model_variables_moving_average
            return {
                path.rpartition("/")[2]: np.array(slot)
                for path, slot in zip(found, slots, strict=True)
                if "first/kernel" in path
            }

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                before = self.averages()
                now = kernels[0].matrices()
                assert np.abs(before["kernel_u"] - now[0][0]).max() > 1e-3
                gradients = whole_gradients(self.model, kernels[:1], samples)
                change = grow(kernels[0], gradients["first/kernel"], 2)
                change_kernels(self.model, [change], training=True)
                after = self.averages()
                np.testing.assert_allclose(after["kernel_u"][:, :6], before["kernel_u"])
                np.testing.assert_allclose(after["kernel_v"][:6], before["kernel_v"])
                np.testing.assert_array_equal(after["kernel_v"][6:], 0)
                np.testing.assert_allclose(
                    after["kernel_u"][:, 6:], change.make().matrices[0][0][:, 6:], rtol=1e-6
                )

    model.fit(x, y, epochs=2, callbacks=[Grow()], verbose=0)
    assert kernels[0].rank == 8


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Keras's own feature extractor
def test_a_look_changes_neither_states_nor_statistics():
    recurrent = keras.Sequential(
        [
            keras.Input((5, 6), batch_size=8),
            keras.layers.LSTM(12, stateful=True),
            keras.layers.Dense(3),
        ]
    )
    recurrent.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 5, 6)).astype("float32"), rng.integers(0, 3, 16)
    recurrent.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    features = keras.distillation.FeatureDistillation(
        loss="mse", teacher_layer_name="norm", student_layer_name="norm"
    )
    logits = keras.distillation.LogitsDistillation()
    distiller = keras.distillation.Distiller(zoo.sequential(), zoo.sequential(), [logits, features])
    distiller.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = zoo.data(distiller.student)
    distiller.fit(*data, verbose=0)
    for model, part, given in (
        (recurrent, recurrent, (x, y)),
        (distiller, distiller.student, data),
    ):
        factorize(part, rank=2)
        before = [np.array(v) for v in part.variables]
        state = [np.array(v) for layer in part.layers for v in layer.non_trainable_variables]
        assert any(value.any() for value in state)
        assert whole_gradients(model, factorised(part), samples_of(given))
        _keras.output_gradients(model, part.layers[:1], (given[0][:8], given[1][:8], None))
        for old, new in zip(before, part.variables, strict=True):
            np.testing.assert_array_equal(old, new, err_msg=new.path)


def test_targets_are_asked_for_only_where_the_loss_compares_with_them():
    inputs = keras.Input((24,))
    x = keras.layers.Dense(32, activation="relu", name="first")(inputs)
    x = keras.layers.ActivityRegularization(l2=0.01)(x)
    model = keras.Model(inputs, keras.layers.Dense(24, name="output")(x))
    model.compile("adam")
    given = samples_of(np.random.default_rng(0).normal(size=(16, 24)).astype("float32"))
    asking = {"Regrow": ("gradients",)}
    compression = Compression(model, target("rank", 4), samples=given, asking=asking)
    compression.cut(0.0)
    compression.regrow(1.0, 0.5)
    assert compression.report.ranks == {"first/kernel": 6}
    model.compile("adam", "mse")
    with pytest.raises(ArgumentError, match=r"Regrow asks for gradients .* must be \(x, y\)"):
        Compression(model, target("rank", 4), samples=given, asking=asking)


def test_what_grew_is_trained_and_cut_back_to_the_target():
    model = zoo.compiled(zoo.sequential(), keras.optimizers.Adam(0.01))
    x, y = zoo.data(model)
    given = {"samples": samples_of((x, y)), "allocation": "knapsack"}
    compression = Compression(model, target("budget", 0.5), **given)
    compression.cut(0.0)
    size, ranks = model.count_params(), compression.report.ranks
    compression.regrow(1.0, 0.3)
    grown = compression.report.ranks
    assert grown == {path: rank + round(0.3 * rank) for path, rank in ranks.items()}
    compression.regrow(1.0, 0.3)  # once before each cut
    assert compression.report.ranks == grown
    model.fit(x, y, epochs=3, verbose=0)
    for kernel in factorised(model):
        assert np.abs(kernel.matrices()[1][0, ranks[kernel.path] :]).min() > 0
    assert compression.cut(4.0) is not None
    assert model.count_params() <= size
    assert compression.cut(5.0) is None
    assert any("before epoch 1, each time" in note for note in compression.report.notes)


def test_kernels_stay_that_are_dense_frozen_or_as_large_as_they_may_be():
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    rules = [LayerRule("second", max_rank=4)]
    given = samples_of((x, y))
    compression = Compression(model, target("rank", 4), rules=rules, samples=given)
    compression.regrow(0.0, 0.5)
    assert compression.report.ranks == {}
    compression.cut(0.0)
    model.get_layer("first").trainable = False
    compression.regrow(1.0, 0.5)
    assert compression.report.ranks == {"first/kernel": 4, "second/kernel": 4}
    model.get_layer("first").trainable = True
    compression.regrow(1.0, 0.5)
    assert compression.report.ranks == {"first/kernel": 6, "second/kernel": 4}


def test_gradients_that_cannot_be_had_change_nothing():
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    compression = Compression(model, target("rank", 4), samples=samples_of((x, y)))
    compression.cut(0.0)
    before = model.get_weights()
    for samples, error, words in (
        ((x[:, :3], y), ArgumentError, "cannot be run on the calibration samples"),
        ((1e10 * x, y, np.full(len(x), 3e38)), SpectrumError, "first/kernel.*finite"),
    ):
        compression.learn_from(samples_of(samples))
        with pytest.raises(error, match=words):
            compression.regrow(1.0, 0.5)
        assert compression.report.ranks == {"first/kernel": 4, "second/kernel": 4}
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
