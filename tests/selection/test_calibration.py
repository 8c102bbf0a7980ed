"""Laws of data-aware cuts: what live models show, what is done with it, what is refused."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from functools import cache, partial

import keras
import numpy as np
import pytest
import tensorflow as tf
import zoo
from kinds import KINDS

from reducible_train import (
    ArgumentError,
    Cadence,
    LayerRule,
    Ramp,
    RankScheduler,
    SpectrumError,
    _keras,
    analyze,
    factorize,
)
from reducible_train.config import parse_config
from reducible_train.errors import ConfigError
from reducible_train.layers import find_kernels
from reducible_train.layers.patches import patches
from reducible_train.linalg.moments import Moments, Variances
from reducible_train.linalg.svd import cumulative_energy, relative_error, singular_spectrum
from reducible_train.selection import scoring as judgement
from reducible_train.selection import statistics as collection
from reducible_train.selection.calibration import samples_of
from reducible_train.selection.criteria import criterion_named
from reducible_train.selection.sample_collector import SampleCollector
from reducible_train.selection.samples import Samples
from reducible_train.selection.scoring import decomposition
from reducible_train.selection.statistics import collect, seen_in

BOTH = ("inputs", "gradients")


def mlp(*, bias=True, optimizer="adam", **kwargs):
    """Inputs far from the origin, so that their mean matters."""
    model = keras.Sequential(
        [
            keras.Input((24,)),
            keras.layers.Dense(32, activation="relu", use_bias=bias, name="first"),
            keras.layers.Dense(28, activation="tanh", use_bias=bias, name="second"),
            keras.layers.Dense(5, name="output"),
        ]
    )
    return zoo.compiled(model, optimizer, **kwargs)


def data(samples=200, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, 24)) * np.geomspace(2.0, 0.02, 24) + 0.5
    return x.astype("float32"), rng.integers(5, size=samples)


def weights(model):
    return [np.array(v) for v in model.weights]


def observed(model, x, y=None, needs=("inputs",)):
    return collect(model, find_kernels(model), samples_of((x, y) if y is not None else x), needs)


# --- what is observed --------------------------------------------------------------------


def assert_moments(found, rows):
    expected = Moments.of(rows)
    assert found.count == expected.count
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-5)
    np.testing.assert_allclose(found.covariance, expected.covariance, atol=1e-4)


def test_inputs_are_those_of_each_layer():
    model = mlp()
    x, _ = data(600)
    found = observed(model, x)
    assert list(found) == ["first/kernel", "second/kernel", "output/kernel"]
    for kernel, below in (("first", None), ("second", "first"), ("output", "second")):
        rows = x if below is None else np.maximum(x @ weights(model)[0], 0)
        if below == "second":
            rows = np.tanh(rows @ weights(model)[2])
        assert_moments(found[f"{kernel}/kernel"][0].inputs, rows)


def test_factorised_layers_are_heard_too():
    model = mlp()
    x, y = data()
    factorize(model, rank=6)
    found = observed(model, x, y, BOTH)
    b, u, v = (np.array(w) for w in model.get_layer("first").weights)
    np.testing.assert_allclose(
        found["second/kernel"][0].inputs.mean, np.maximum(x @ u @ v + b, 0).mean(0), atol=1e-5
    )
    assert found["first/kernel"][0].gradients is not None


@pytest.mark.usefixtures("own_targets")
def test_gradients_are_of_each_samples_loss_before_the_activation():
    """Against finite differences of a bias, which is added to the kernel's output."""
    model = mlp()
    x, y = data(40)
    found = observed(model, x, y, BOTH)["second/kernel"][0].gradients
    bias = model.get_layer("second").bias
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    start = np.array(bias)
    step = np.zeros(28, "float32")
    for unit in (0, 7, 27):
        step[:] = 0
        step[unit] = 1e-2
        ends = []
        for sign in (1, -1):
            bias.assign(start + sign * step)
            ends.append(float(loss(y, model(x))))
        bias.assign(start)
        assert found.mean[unit] == pytest.approx((ends[0] - ends[1]) / 2e-2, abs=2e-4)
    assert found.count == 40


@pytest.mark.parametrize("vocabulary", [30, 8])
def test_a_kernel_of_its_own_for_the_way_back_hears_calls_in_reverse_alone(vocabulary):
    table = keras.layers.ReversibleEmbedding(vocabulary, 8, tie_weights=False, name="table")
    tokens = keras.Input((8,), dtype="int32")
    hidden = keras.layers.Dense(8, "tanh", name="hidden")
    model = keras.Model(tokens, table(hidden(table(tokens)), reverse=True))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, run_eagerly=True)
    x = np.random.default_rng(0).integers(0, vocabulary, (40, 8))
    found = observed(model, x, x, BOTH)
    (back,) = found["table/reverse_embeddings"]
    assert_moments(back.inputs, np.array(hidden(table(x))).reshape(-1, 8))
    assert back.gradients.count == x.size
    assert back.gradients.covariance.shape == (vocabulary, vocabulary)
    assert np.trace(back.gradients.covariance) > 0


@pytest.mark.traced
def test_nothing_is_changed_by_listening():
    model = mlp()
    x, y = data()
    model.fit(x, y, verbose=0)
    model.evaluate(x, y, verbose=0)
    before, metrics = weights(model), [np.array(v) for v in model.metrics_variables]
    state = [np.array(v) for v in model.optimizer.variables]
    attributes = [dict(vars(layer)) for layer in model.layers]
    observed(model, x, y, BOTH)
    for old, new in ((before, weights(model)), (state, model.optimizer.variables)):
        for one, other in zip(old, new, strict=True):
            np.testing.assert_array_equal(one, np.array(other))
    for one, variable in zip(metrics, model.metrics_variables, strict=True):
        np.testing.assert_array_equal(one, np.array(variable))
    for old, layer in zip(attributes, model.layers, strict=True):
        assert vars(layer).keys() == old.keys()
        assert layer.call.__func__ is type(layer).call
        assert "activation" not in old or layer.activation is old["activation"]


def test_a_loss_that_counts_is_not_made_to_count():
    """As in Keras's own example of an overridden `compute_loss`."""

    class Counting(keras.Sequential):
        tracker = keras.metrics.Mean(name="own")

        def compute_loss(self, *args, **kwargs):
            loss = super().compute_loss(*args, **kwargs)
            self.tracker.update_state(loss)
            return loss

        @property
        def metrics(self):
            return [*super().metrics, self.tracker]

    model = zoo.compiled(Counting([keras.Input((24,)), keras.layers.Dense(5)]))
    x, y = data()
    model.compute_loss(x, y, model(x))
    before = float(model.tracker.result())
    assert before > 0
    model.layers[0].kernel.assign(3 * model.layers[0].kernel)
    observed(model, x, y, BOTH)
    assert float(model.tracker.result()) == before


@pytest.mark.parametrize("name", zoo.MODELS)
@pytest.mark.parametrize("needs", [("inputs",), BOTH], ids=["inputs", "gradients"])
@pytest.mark.traced
def test_every_shape_of_model_is_heard(name, needs):
    model = zoo.compiled(zoo.MODELS[name]())
    x, y = zoo.data(model)
    found = observed(model, x, y, needs)
    kernels = [k.path for k in find_kernels(model)]
    assert list(found) == kernels
    for path, (one,) in found.items():
        times = 2 if "shared" in path else 6 if {"positions", "timed"} & set(path.split("/")) else 1
        assert one.inputs.count == 64 * times
        assert (one.gradients is None) == (needs == ("inputs",))


@pytest.mark.parametrize("each", [0, 0.5])
def test_many_rows_are_sampled_the_same_way_each_time(monkeypatch, each):
    monkeypatch.setattr(collection, "_ROWS", 50)
    monkeypatch.setattr(collection, "_ROWS_OF_SAMPLE", each)
    model = mlp()
    x, _ = data(172)
    (one,), (other,) = observed(model, x)["first/kernel"], observed(model, x)["first/kernel"]
    assert one.inputs.count == max(50, 172 * each)
    np.testing.assert_array_equal(one.inputs.scatter, other.inputs.scatter)


def test_a_mean_is_absorbed_by_a_bias_or_by_a_normalization():
    layers = [
        keras.layers.Dense(9, name="bias"),
        keras.layers.Dense(9, use_bias=False, name="normalized"),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(9, use_bias=False, name="neither"),
        keras.layers.Dense(2),
    ]
    model = keras.Sequential([keras.Input((7,)), *layers])
    found = observed(model, np.ones((4, 7), "float32"))
    absorbed = {path: one.absorbs_mean for path, (one,) in found.items()}
    assert absorbed["bias/kernel"]
    assert absorbed["normalized/kernel"]
    assert not absorbed["neither/kernel"]


def test_activations_that_are_not_finite_name_the_kernel():
    model = mlp()
    x, _ = data()
    kernel = model.get_layer("first").kernel
    kernel.assign(np.full(kernel.shape, 1e38, "float32"))
    with pytest.raises(SpectrumError, match="second/kernel, inputs: Vectors must be finite"):
        observed(model, x)


def test_gradients_that_are_not_finite_are_told_from_inputs():
    model = mlp()
    model.compile(loss=lambda y, p: keras.ops.sqrt(keras.ops.sum(p * 0, -1)))
    with pytest.raises(SpectrumError, match="first/kernel, gradients of the loss by the outputs:"):
        factorize(model, rank=4, criterion="fisher", calibration=data())


@pytest.mark.parametrize("in_fit", [False, True])
def test_weights_that_are_not_finite_are_named_before_anything_is_cut(in_fit):
    """Also of what is not cut, and none that no training changes, such as a mask of infinities."""
    model, (x, y) = mlp(), data()
    model.get_layer("second").bias.assign(np.full(model.get_layer("second").bias.shape, np.nan))
    before = weights(model)
    fit = partial(model.fit, x, y, epochs=4, verbose=0, callbacks=[RankScheduler(budget=RAMP)])
    with pytest.raises(SpectrumError, match=r"second/bias: (\d+) of \1 numbers are NaN or inf"):
        fit() if in_fit else factorize(model, 0.5)
    for one, other in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(one, other)
    model = mlp()
    model.mask = model.add_weight(shape=(2,), initializer="zeros", trainable=False)
    model.mask.assign([0, -np.inf])
    assert factorize(model, 0.5).ranks


# --- what is done with it -------------------------------------------------------------


def output_change(criterion, *, bias=True):
    model = mlp(bias=bias)
    x, y = data(2000)
    before = np.array(model.get_layer("first")(x, training=False))
    model.get_layer("first").activation = keras.activations.linear
    before = np.array(model.get_layer("first")(x))
    report = factorize(
        model,
        rank=3,
        criterion=criterion,
        calibration=(x, y),
        rules=[LayerRule("second", keep_dense=True)],
    )
    after = np.array(model.get_layer("first")(x))
    return before, after, report


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_activation_changes_the_output_less_than_energy(bias):
    before, after, _ = output_change("activation", bias=bias)
    _, plain, _ = output_change("frobenius", bias=bias)
    ours, theirs = (((before - each) ** 2).sum() for each in (after, plain))
    assert ours < 0.2 * theirs


@pytest.mark.parametrize("criterion", ["activation", "fisher"])
def test_the_bias_keeps_the_mean_output_where_it_was(criterion):
    before, after, _ = output_change(criterion)
    np.testing.assert_allclose(after.mean(0), before.mean(0), atol=1e-4)
    _, plain, _ = output_change("frobenius")
    assert np.abs(plain.mean(0) - before.mean(0)).max() > 0.05


@pytest.mark.parametrize("criterion", ["frobenius", "activation", "fisher"])
def test_the_report_tells_the_error_of_the_kernel_itself(criterion):
    model = mlp()
    x, y = data()
    for rank in (9, 4):  # dense to factors, factors to thinner ones
        kernels = find_kernels(model)[:2]
        old = [_product(kernel) for kernel in kernels]
        report = factorize(model, rank=rank, criterion=criterion, calibration=(x, y))
        for kernel, before, told in zip(kernels, old, report.cuts[-1].kernels, strict=True):
            error = np.linalg.norm(before - _product(kernel)) / np.linalg.norm(before)
            assert told.relative_error == pytest.approx(error, abs=1e-6)
            assert told.energy == pytest.approx(1 - error**2, abs=1e-6)
            assert told.criterion == criterion
    assert report.to_dict()["cuts"][-1]["kernels"][0]["criterion"] == criterion


def _product(kernel):
    matrices = [m.astype("float64") for m in kernel.matrices()]
    return matrices[0] if len(matrices) == 1 else matrices[0] @ matrices[1]


def test_an_energy_is_kept_as_the_criterion_weighs_it():
    x, _ = data(1000)
    model = mlp()
    plain = cumulative_energy(singular_spectrum(np.array(model.get_layer("first").kernel)))
    found = factorize(model, energy=0.9, criterion="activation", calibration=x).cuts[0].kernels[0]
    kept = cumulative_energy(found.spectrum)
    assert kept[found.rank] >= 0.9 > kept[found.rank - 1]
    assert plain[found.rank] < 0.7, "the kernel's own energy is another matter"


def test_kernels_that_cannot_be_heard_go_by_plain_energy_and_the_report_says_so(monkeypatch):
    heard = collection.can_be_observed
    for each in (collection, judgement):
        monkeypatch.setattr(each, "can_be_observed", lambda k, n: "first" in k.path and heard(k, n))
    x, _ = data()
    report = factorize(mlp(), rank=4, criterion="activation", calibration=x)
    by = {k.path: k.criterion for k in report.cuts[0].kernels}
    assert by == {"first/kernel": "activation", "second/kernel": "frobenius"}
    assert "By plain energy, not 'activation'" in str(report)
    assert "second/kernel. They hold 54 % of what may change" in report.notes[0]


@pytest.mark.parametrize("criterion", ["activation", "fisher"])
def test_of_more_inputs_than_moments_are_kept_of_variances_are(criterion, monkeypatch):
    x, y = data()
    model, needs = mlp(), criterion_named(criterion).needs
    whole = observed(model, x, y, needs)
    monkeypatch.setattr(collection, "LARGEST", 27)
    wide = observed(model, x, y, needs)
    for path, (told,) in wide.items():
        (known,) = whole[path]
        sides = [(told.inputs, known.inputs)]
        sides += [(told.gradients, known.gradients)] * (criterion == "fisher")
        for one, other in sides:
            np.testing.assert_allclose(one.mean, other.mean, atol=1e-12)
            is_wide = len(other.mean) > 27
            assert isinstance(one, Variances if is_wide else Moments)
            moment = other.second_moment
            wanted = np.diag(moment) if is_wide else moment
            np.testing.assert_allclose(one.second_moment, wanted, atol=1e-12)
    report = factorize(model, rank=4, criterion=criterion, calibration=(x, y))
    errors = {k.path: k.output_error for k in report.cuts[0].kernels}
    assert errors["second/kernel"] is None
    assert errors["first/kernel"] > 0
    (told,) = report.notes
    assert "how much each varies" in told
    assert "of second/kernel (32 inputs)" in told


@pytest.mark.parametrize("split", ["channel", "spatial"])
def test_wide_convolutions_are_cut_by_variances(split, monkeypatch):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(64, 6, 6, 6)) * np.geomspace(3.0, 0.01, 6)).astype("float32")
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((6, 6, 6)), layers.Conv2D(24, 3, name="conv"), layers.Flatten()]
    )
    before = model.predict(x, verbose=0)
    start = model.get_weights()
    lost = []
    for largest in (9999, 20):
        monkeypatch.setattr(collection, "LARGEST", largest)
        model = keras.Sequential(
            [keras.Input((6, 6, 6)), layers.Conv2D(24, 3, name="conv"), layers.Flatten()]
        )
        model.set_weights(start)
        rules = [LayerRule("conv", rank=6, split=split, keep_dense=False)]
        factorize(model, rules=rules, rank=99, criterion="activation", calibration=x)
        lost.append(((model.predict(x, verbose=0) - before) ** 2).mean())
    plain = keras.Sequential(
        [keras.Input((6, 6, 6)), layers.Conv2D(24, 3, name="conv"), layers.Flatten()]
    )
    plain.set_weights(start)
    factorize(plain, rules=rules, rank=99)
    assert lost[0] <= lost[1] < 0.5 * ((plain.predict(x, verbose=0) - before) ** 2).mean()


@pytest.mark.parametrize("size", [1e4, 1e-6])
def test_gradients_that_float16_cannot_hold_are_told_as_float32_tells_them(size):
    """Of losses of 1e8 and of 1e-12, which an optimizer with a scale of its own trains by."""
    x, _ = data()
    y = size * np.tanh(x[:, :3] + x[:, 3:6])
    found, weights, ranks = [], None, []
    for policy in ("float32", "mixed_float16"):
        keras.utils.set_random_seed(0)
        layers = keras.layers
        hidden = [layers.Dense(24, "relu", name=name, dtype=policy) for name in ("one", "two")]
        output = [
            layers.Dense(3, name="out", dtype="float32"),
            layers.Rescaling(size, dtype="float32"),
        ]
        model = keras.Sequential([keras.Input((24,)), *hidden, *output])
        model.compile("sgd", "mse")
        weights = weights or model.get_weights()
        model.set_weights(weights)
        found.append(observed(model, x, y, BOTH))
        ranks.append(factorize(model, 0.5, calibration=(x, y)).ranks)
    for path, (told,) in found[0].items():
        wanted = told.gradients.second_moment
        (half,) = found[1][path]
        atol = 0.02 * wanted.max()
        np.testing.assert_allclose(half.gradients.second_moment, wanted, rtol=0.02, atol=atol)
    assert ranks[0] == pytest.approx(ranks[1], abs=1)


def two_heads(weight):
    """A model of two outputs of which the loss knows one, times a weight, and its samples."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((20,))
    shared = keras.layers.Dense(40, "relu", name="shared")(inputs)
    outputs = {
        name: keras.layers.Dense(4, name=name)(
            keras.layers.Dense(40, "relu", name=f"before_{name}")(shared)
        )
        for name in ("known", "unknown")
    }
    model = keras.Model(inputs, outputs)
    model.compile(
        "sgd", dict.fromkeys(outputs, "mse"), loss_weights={"known": weight, "unknown": 0.0}
    )
    x = np.random.default_rng(4).normal(size=(200, 20)).astype("float32")
    return model, (x, {name: np.tanh(x[:, :4]) for name in outputs})


@pytest.mark.filterwarnings("ignore::reducible_train.errors.OutputErrorWarning")
@pytest.mark.parametrize("budget", [0.4, {"parameters": 0.4, "flops": 0.5}])
def test_what_a_budget_leaves_to_kernels_that_are_not_heard_depends_on_no_unit(budget):
    found = []
    for weight in (1.0, 1e-6, 1e6):
        model, samples = two_heads(weight)
        found.append(factorize(model, budget, criterion="fisher", calibration=samples))
    (silent,) = (k.path for k in found[0].cuts[0].kernels if k.criterion == "frobenius")
    assert silent == "before_unknown/kernel"
    assert found[0].ranks == found[1].ranks == found[2].ranks
    told = f"In the budget, as much as the middle one of the others: {silent}."
    assert all(told in report.notes for report in found)


def still(*, bias=True):
    """A model whose kernels see the same on whatever samples, and samples of 0."""
    keras.utils.set_random_seed(2)
    layers = keras.layers
    units = (layers.Dense(24, "sigmoid", use_bias=bias, name=name) for name in ("first", "second"))
    model = keras.Sequential([keras.Input((20,)), *units, layers.Dense(4, name="output")])
    return zoo.compiled(model), (np.zeros((40, 20), "float32"), np.arange(40) % 4)


@pytest.mark.filterwarnings("ignore::reducible_train.errors.OutputErrorWarning")
@pytest.mark.parametrize("bias", [True, False])
def test_inputs_that_are_the_same_throughout_are_said_to_be_so(bias):
    both = {"first/kernel", "second/kernel"} if bias else {"first/kernel"}
    for criterion in ("activation", "fisher"):
        model, samples = still(bias=bias)
        report = factorize(model, rank=4, criterion=criterion, calibration=samples)
        by = {k.path for k in report.cuts[0].kernels if k.criterion != criterion}
        assert by == (both if criterion == "activation" else set())
        note = report.notes[0]
        assert "their inputs are 0 on all samples" in note
        assert {path for path in ("first/kernel", "second/kernel") if path in note} == both
        assert note.startswith("By plain energy" if criterion == "activation" else "All directions")


def test_a_loss_without_a_gradient_is_told_as_one():
    model = mlp()
    output = model.get_layer("output")
    output.kernel.assign(np.zeros(output.kernel.shape))
    report = factorize(model, rank=4, criterion="fisher", calibration=data())
    assert {k.criterion for k in report.cuts[0].kernels} == {"frobenius"}
    assert "because the loss on the samples has no gradient by their outputs" in report.notes[0]
    assert "can be told" not in report.notes[0]


@pytest.mark.parametrize("settings", [{"use_ema": True}, {"schedule_free": True}])
def test_copies_of_the_bias_in_the_optimizer_move_with_it(settings):
    kind = keras.optimizers.Adam
    if settings.pop("schedule_free", False):
        kind = getattr(keras.optimizers, "ScheduleFreeAdamW", None)
        if kind is None:
            pytest.skip("this Keras has no ScheduleFreeAdamW")
    model = mlp(optimizer=kind(1e-3, **settings))
    x, y = data()
    model.fit(x, y, verbose=0)
    layer, optimizer = model.get_layer("first"), model.optimizer

    def copies():
        index = next(i for i, v in enumerate(optimizer._trainable_variables) if v is layer.bias)
        slots = getattr(optimizer, "_model_variables_moving_average", None) or (
            optimizer._momentums
        )
        return np.array(layer.bias), np.array(slots[index])

    bias, copied = copies()
    factorize(model, rank=3, criterion="activation", calibration=x)
    new_bias, new_copied = copies()
    assert np.abs(new_bias - bias).max() > 0.01
    np.testing.assert_allclose(new_copied - copied, new_bias - bias, atol=1e-6)


def test_a_dataset_serves_as_well_as_arrays():
    x, y = data()
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(48)
    one, other = mlp(), mlp()
    other.set_weights(weights(one))
    factorize(one, rank=4, criterion="fisher", calibration=batches)
    factorize(other, rank=4, criterion="fisher", calibration=(x, y))
    for ours, theirs in zip(weights(one), weights(other), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("criterion", ["activation", "fisher"])
def test_an_optional_input_may_be_left_out(criterion):
    x, y = data()
    inputs = {
        "a": keras.Input((4,), optional=True, name="a"),
        "x": keras.Input((None, 24), name="x"),
    }
    h = keras.layers.GlobalAveragePooling1D()(keras.layers.Dense(32, name="first")(inputs["x"]))
    model = zoo.compiled(keras.Model(inputs, keras.layers.Dense(5)(h)))
    given = {"a": None, "x": x[:, None]}, y
    assert analyze(model, given, samples=32).is_whole
    how = {"measure": "flops", "criterion": criterion, "calibration": given}
    assert "(1, 24), from calibration" in str(factorize(model, 0.6, **how))
    assert _keras.map_arrays(len, given) == ({"a": None, "x": 200}, 200)


# --- in a fit -------------------------------------------------------------------------


def fitted(callbacks, *, epochs=3, samples=128, source="arrays", **kwargs):
    keras.utils.set_random_seed(3)
    model = mlp(**kwargs)
    x, y = data(samples)
    batches = tf.data.Dataset.from_tensor_slices((x, y.astype("int64"))).batch(32)
    given = {
        "arrays": {"x": x, "y": y, "batch_size": 32},
        "batches": {"x": batches},
        "generator": {"x": of_unknown_length(batches)},
    }[source]
    fit = {"epochs": epochs, "shuffle": False, "callbacks": callbacks, "verbose": 0}
    history = model.fit(**given, **fit)
    return model, history.history["loss"]


def of_unknown_length(batches):
    return tf.data.Dataset.from_generator(
        lambda: iter(batches), output_signature=batches.element_spec
    )


def is_watched(model):
    """True if something of ours is left between a fit and its training step."""
    return "reducible_train" in model.train_function.__module__


# Keras counts a step too many of data whose length it does not know
OF_ANY_SOURCE = pytest.mark.filterwarnings("ignore:Your input ran out of data")
RAMP = Ramp(1.0, 0.4, start_epoch=0, end_epoch=2)


@cache
def by_energy(steps):
    """The size after a fit without a criterion, and its losses."""
    plain = RankScheduler(budget=RAMP, criterion="frobenius")
    model, losses = fitted([plain], steps_per_execution=steps)
    return model.count_params(), losses


@pytest.mark.parametrize(
    ("criterion", "steps", "source"),
    [
        ("fisher", 3, "arrays"),
        ("fisher", 3, "batches"),
        ("fisher", 1, "generator"),
        ("activation", 3, "generator"),
    ],
)
@OF_ANY_SOURCE
@pytest.mark.traced
def test_samples_come_from_the_fit_which_goes_on_undisturbed(criterion, steps, source):
    """Up to the first cut the losses are those of a fit without the criterion, to the bit."""
    size, energy_losses = by_energy(steps)
    scheduler = RankScheduler(budget=RAMP, criterion=criterion, allocation="equal_energy")
    model, losses = fitted([scheduler], steps_per_execution=steps, source=source)
    assert losses[0] == energy_losses[0]
    assert losses[-1] != energy_losses[-1]
    assert model.count_params() == pytest.approx(size, rel=0.1)
    assert {k.criterion for cut in scheduler.report.cuts for k in cut.kernels} == {criterion}


def test_a_calibration_set_serves_in_a_fit_too():
    x, y = data(100, seed=9)
    scheduler = RankScheduler(budget=RAMP, criterion="fisher", calibration=(x, y))
    _, losses = fitted([scheduler], run_eagerly=True)
    _, plain = fitted([RankScheduler(budget=RAMP)], run_eagerly=True)
    assert losses[0] == plain[0]
    assert {k.criterion for cut in scheduler.report.cuts for k in cut.kernels} == {"fisher"}


@OF_ANY_SOURCE
@pytest.mark.parametrize("source", ["arrays", "batches", "generator"])
def test_samples_are_there_before_the_first_step(source, monkeypatch):
    """Batches that were fetched for them are trained on afterwards, each once, in their order."""
    monkeypatch.setattr("reducible_train.training.sampling.ENOUGH", 96)
    seen = []
    original = SampleCollector.samples
    monkeypatch.setattr(
        SampleCollector, "samples", lambda self: (seen.append(self.count), original(self))[1]
    )
    scheduler = RankScheduler(budget=0.4, criterion="activation")
    model, _ = fitted([scheduler], epochs=2, source=source, run_eagerly=True)
    (cut,) = scheduler.report.cuts
    assert (cut.step, cut.epoch) == (0, 0)
    assert set(seen) == (set() if source == "arrays" else {96})
    assert not is_watched(model)


def test_a_class_that_is_not_there_is_told_of_batches_before_a_cut():
    model = mlp()
    x, y = data(64)
    y[40] = 5
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
    with pytest.raises(ArgumentError, match=r"from 0 to 4.* Received: 5 in the first batches"):
        model.fit(batches, shuffle=False, verbose=0, callbacks=[RankScheduler(budget=0.4)])
    assert model.count_params() == mlp().count_params()
    assert not is_watched(model)


@OF_ANY_SOURCE
@pytest.mark.parametrize("source", ["batches", "generator"])
def test_a_fit_of_fewer_samples_shows_all_of_them(source):
    scheduler = RankScheduler(budget=0.4, criterion="activation")
    model, _ = fitted([scheduler], epochs=2, samples=64, source=source)
    (cut,) = scheduler.report.cuts
    assert (cut.step, cut.epoch) == (0, 0)
    assert not is_watched(model)


@OF_ANY_SOURCE
def test_cuts_within_the_batches_that_were_fetched_lose_none_of_them():
    """A train function made anew goes on with them."""
    pace = {"budget": Ramp(1.0, 0.4, 0, 1), "cadence": Cadence(steps=1)}
    steps = []
    counting = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: steps.append(batch)
    )
    scheduler = RankScheduler(criterion="activation", **pace)
    fitted([scheduler, counting], epochs=2, samples=128, source="batches")
    assert steps == [0, 1, 2, 3] * 2
    assert [cut.step for cut in scheduler.report.cuts] == [1, 2, 3]


@pytest.mark.parametrize("at_once", [1, 2])
def test_no_batch_is_fetched_that_the_fit_does_not_train_on(at_once):
    """What a source still holds after a fit, it gives to the next one."""
    x, y = data(16 * 12)
    read = []

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 12

        def __getitem__(self, index):
            return x[:16], y[:16]

    def take(self, batch, original=SampleCollector._take):
        read.append(len(batch[0]))
        return original(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SampleCollector, "_take", take)
        model = mlp(steps_per_execution=at_once)
        scheduler = RankScheduler(budget=0.4, criterion="activation")
        fit = {"steps_per_epoch": 4, "epochs": 3, "initial_epoch": 1, "verbose": 0}
        model.fit(Batches(), callbacks=[scheduler], **fit)
    (cut,) = scheduler.report.cuts
    assert (cut.step, len(read)) == (0, 8), "at once, by what there is"
    assert not is_watched(model)


def test_a_configuration_names_a_criterion():
    config = parse_config({"compression": {"rank": 4, "criterion": "activation"}})
    (scheduler,) = config.callbacks()
    fitted([scheduler], epochs=2, samples=64)
    assert scheduler.report.cuts[0].kernels[0].criterion == "activation"


def test_a_number_means_so_many_samples_of_the_fit():
    values = {"budget": 0.5, "criterion": "activation", "calibration": 64}
    (scheduler,) = parse_config({"compression": values}).callbacks()
    assert scheduler.calibration == 64
    fitted([scheduler], epochs=1)
    (cut,) = scheduler.report.cuts
    assert (cut.step, cut.epoch) == (0, 0)
    assert len(scheduler._calibration.in_fit((*data(), None)).samples()) == 64
    with pytest.raises(ArgumentError, match=r"whole number of samples.*calibration=0"):
        RankScheduler(budget=0.5, criterion="activation", calibration=0)
    with pytest.raises(ConfigError, match=r"calibration has a meaning only for a criterion or an"):
        parse_config({"compression": values | {"criterion": "frobenius"}})


def test_steps_as_cadence():
    scheduler = RankScheduler(
        budget=Ramp(1.0, 0.4, start_epoch=1, end_epoch=2),
        criterion="activation",
        cadence=Cadence(steps=5),
    )
    model, _ = fitted([scheduler], samples=160)
    assert model.count_params() <= 0.4 * mlp().count_params()


@pytest.mark.traced
def test_a_fit_that_ends_early_lets_go_of_the_train_function():
    scheduler = RankScheduler(budget=1.0, criterion="activation")
    model, _ = fitted([scheduler], epochs=1, samples=64)
    assert not is_watched(model)


def test_a_scheduler_serves_twice_and_can_be_copied():
    scheduler = RankScheduler(budget=RAMP, criterion="activation")
    fitted([copy.deepcopy(scheduler)], run_eagerly=True)
    one, _ = fitted([scheduler], run_eagerly=True)
    other, _ = fitted([scheduler], run_eagerly=True)
    for ours, theirs in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.traced
def test_under_a_strategy_the_fit_must_be_given_samples():
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = mlp()
    x, y = data()
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
    wants = RankScheduler(budget=0.5, criterion="activation")
    with pytest.raises(ArgumentError, match=r"calibration=x_train\[:2048\]"):
        model.fit(batches, shuffle=False, callbacks=[wants], verbose=0)
    scheduler = RankScheduler(budget=0.5, criterion="fisher", calibration=(x, y))
    with pytest.raises(
        ArgumentError, match=r"'fisher' takes gradients on one device.*calibration=x"
    ):
        model.fit(x, y, callbacks=[scheduler], verbose=0)
    scheduler = RankScheduler(budget=0.5, criterion="activation", calibration=x)
    model.fit(x, y, callbacks=[scheduler], verbose=0)
    assert scheduler.report.size_fraction <= 0.5


# --- what is refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"criterion": "best"}, "`criterion` must be one of"),
        ({"criterion": "activation"}, "needs data to judge by"),
        ({"criterion": "fisher", "calibration": np.ones((9, 24))}, r"must be \(x, y\)"),
        (
            {"criterion": "activation", "calibration": np.ones((9, 5, 5))},
            r"\(None, 24\). Received: \(9, 5, 5\)",
        ),
        (
            {"criterion": "activation", "calibration": {"a": np.ones((9, 24)), "b": np.ones(9)}},
            r"\(None, 24\). Received: \(9, 24\), \(9,\)",
        ),
        (
            {"criterion": "fisher", "calibration": (np.ones((9, 24)), np.ones(8))},
            r"Received: \(9, 24\), \(8,\)",
        ),
        ({"criterion": "activation", "calibration": np.ones((0, 24))}, r"Received: \(0, 24\)"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_touched(arguments, message):
    model = mlp()
    before = weights(model)
    with pytest.raises(ArgumentError, match=message):
        factorize(model, rank=4, **arguments)
    for one, other in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_fit_refuses_a_calibration_set_of_the_wrong_shape_before_its_first_step():
    scheduler = RankScheduler(budget=RAMP, criterion="activation", calibration=np.ones((9, 3)))
    model = mlp()
    x, y = data()
    before = weights(model)
    with pytest.raises(ArgumentError, match=r"\(None, 24\). Received: \(9, 3\)"):
        model.fit(x, y, epochs=4, callbacks=[scheduler], verbose=0)
    np.testing.assert_array_equal(before[0], weights(model)[0])


class Imputed(keras.layers.Layer):
    def call(self, x):
        return keras.ops.where(keras.ops.isnan(x), 0.0, x)


@pytest.mark.parametrize("how", ["analyze", "factorize", "fit", "one batch size"])
def test_numbers_that_the_model_imputes_need_not_be_finite(how):
    shape = (16, 24) if how == "one batch size" else (None, 24)
    layers = [Imputed(), keras.layers.Dense(32, name="first"), keras.layers.Dense(4)]
    model = zoo.compiled(keras.Sequential([keras.Input(batch_shape=shape), *layers]))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(48, 24)).astype("float32"), rng.integers(4, size=48)
    x[::5, :7] = np.nan
    if how == "analyze":
        assert np.isfinite(analyze(model, (x, y)).baseline)
    elif how == "fit":
        scheduler = RankScheduler(0.5, calibration=(x, y))
        model.fit(x, y, verbose=0, callbacks=[scheduler])
        assert scheduler.report.ranks["first/kernel"] is not None
    else:
        assert factorize(model, 0.5, calibration=(x, y)).ranks["first/kernel"] is not None


def test_numbers_that_are_not_finite_are_refused():
    x, _ = data()
    x[3, 4] = np.nan
    with pytest.raises(SpectrumError, match="1 of 4800 numbers NaN or infinite"):
        factorize(mlp(), rank=4, criterion="activation", calibration=x)


def test_a_model_without_a_loss_has_no_gradients():
    model = zoo.sequential()
    x, y = zoo.data(model)
    with pytest.raises(ArgumentError, match="a model that is not compiled"):
        factorize(model, rank=4, criterion="fisher", calibration=(x, y))
    assert factorize(model, rank=4, criterion="activation", calibration=x).ranks


def test_a_model_that_cannot_be_run_on_the_samples_says_so():
    """A subclassed model whose input shape is not known: found out before anything is cut."""
    model = zoo.compiled(zoo.subclassed())
    before = weights(model)
    with pytest.raises(ArgumentError, match="calibration"):
        factorize(model, rank=4, criterion="activation", calibration=np.ones((9, 7), "float32"))
    np.testing.assert_array_equal(before[0], weights(model)[0])


def test_samples_keep_the_structure_of_the_inputs():
    samples = Samples({"a": np.zeros((172, 2)), "b": np.zeros((172, 3))}, np.zeros(172))
    first, second = samples.batches()
    assert first[0]["b"].shape == (86, 3)
    assert (second[0]["a"].shape, second[1].shape, second[2]) == ((86, 2), (86,), None)


@pytest.mark.parametrize("size", [None, 100])
def test_batches_of_sorted_samples_have_some_of_every_class(size):
    classes = np.arange(10).repeat(50)
    batches = list(Samples(np.arange(500), classes).batches(size))
    assert all(len(set(y)) == 10 for _, y, _ in batches)
    assert sorted(np.concatenate([x for x, _, _ in batches])) == list(range(500))


# --- kinds of layers ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "strides", "dilation", "padding", "groups"),
    [
        ((3, 2), (1, 1), (1, 1), "valid", 1),
        ((3, 3), (2, 3), (1, 1), "same", 1),
        ((2, 3), (1, 1), (2, 1), "same", 2),
        ((3,), (2,), (1,), "same", 1),
        ((3,), (1,), (2,), "causal", 1),
        ((2, 3, 2), (1, 1, 1), (1, 1, 1), "same", 1),
    ],
)
def test_patches_times_the_kernel_is_the_convolution(size, strides, dilation, padding, groups):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, *(9, 8, 7)[: len(size)], 4)).astype("float32")
    kind = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)[len(size) - 1]
    layer = kind(6, size, strides=strides, dilation_rate=dilation, padding=padding, groups=groups)
    outputs = np.array(layer(images)).reshape(-1, groups, 6 // groups)
    rows = patches(images, size, strides, dilation, padding, groups, rng)
    kernel = np.array(layer.kernel).reshape(-1, groups, 6 // groups)
    for group in range(groups):
        np.testing.assert_allclose(
            rows[group] @ kernel[:, group], outputs[:, group], rtol=1e-4, atol=1e-5
        )


def test_of_many_positions_some_are_taken(monkeypatch):
    monkeypatch.setattr("reducible_train.layers.patches._ROWS", 100)
    images = np.arange(4 * 20 * 20, dtype="float64").reshape(4, 20, 20, 1)
    rng = np.random.default_rng(0)
    found = patches(images, (1, 1), (1, 1), (1, 1), "valid", 1, rng)
    assert found.shape[1] == 100
    assert len(np.unique(found)) == found.shape[1]


# Kinds whose inputs are told apart by the last axis, of layers that can run here. Of other forms
# the patches are a law above, so these are slow, but for groups.
OBSERVED = [
    pytest.param(name, marks=pytest.mark.slow if kind.variant and name != "conv2d groups" else ())
    for name, kind in KINDS.items()
    if type(kind.make()).__name__.startswith(("Dense", "EinsumDense", "Conv", "Separable"))
    and "first" not in name
    and name != "einsum ellipsis behind"
]


def changes_of(kind):
    """The layer, and how much its outputs change, by energy and by activation."""
    x = kind.inputs(40) * np.geomspace(3.0, 0.03, kind.shape[-1]).astype("float32") + 1.0
    changes, means = {}, {}
    for criterion in ("frobenius", "activation"):
        keras.utils.set_random_seed(5)
        layer = kind.make()
        ends = [keras.layers.Flatten(), keras.layers.Dense(3, name="output")]
        model = keras.Sequential([keras.Input(kind.shape), layer, *ends])
        before = np.array(layer(x))
        rules = [LayerRule(layer.name, split=kind.split)]
        report = factorize(model, rank=2, criterion=criterion, calibration=x, rules=rules)
        assert [k.criterion for k in report.cuts[0].kernels] == [criterion]
        change = (before - np.array(layer(x))).reshape(-1, before.shape[-1])
        changes[criterion], means[criterion] = (change**2).mean(), np.abs(change.mean(0)).max()
    return layer, changes, means


@pytest.mark.parametrize("name", OBSERVED)
def test_every_kind_that_is_heard_loses_less_on_the_data(name):
    layer, changes, means = changes_of(KINDS[name])
    assert changes["activation"] < 0.7 * changes["frobenius"]
    everywhere_the_same = "Transpose" not in type(layer).__name__ and layer.bias is not None
    if everywhere_the_same and layer.activation is keras.activations.linear:
        assert means["activation"] < 1e-4 < means["frobenius"]


def reader(words=60):
    layers = keras.layers
    inputs = keras.Input((7,), dtype="int32")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(words, 24, name="table")(inputs))
    return zoo.compiled(keras.Model(inputs, layers.Dense(3, name="output")(x)))


def test_a_table_is_judged_by_how_often_its_rows_are_chosen():
    rng = np.random.default_rng(0)
    frequency = 0.8 ** np.arange(60)
    texts = rng.choice(60, size=(100, 7), p=frequency / frequency.sum()).astype("int32")
    counts = np.bincount(texts.ravel(), minlength=60)
    (statistics,) = observed(reader(), texts)["table/embeddings"]
    np.testing.assert_array_equal(statistics.input_moment, counts / counts.sum())
    lost = {}
    for criterion in ("frobenius", "activation"):
        keras.utils.set_random_seed(3)
        model = reader()
        table = np.array(model.get_layer("table").embeddings)
        factorize(model, rank=5, criterion=criterion, calibration=texts)
        change = ((table - np.array(model.get_layer("table").embeddings)) ** 2).sum(1)
        lost[criterion] = counts @ change / (counts @ (table**2).sum(1))
    weight = np.sqrt(counts / counts.sum() + 0.01 / 60)[:, None]
    least = relative_error(singular_spectrum(weight * table), 5) ** 2
    assert lost["activation"] < 0.6 * lost["frobenius"]
    assert lost["activation"] == pytest.approx(least, rel=0.1), "but for the ridge"


def test_a_table_is_judged_by_gradients_too_and_again_when_it_is_cut():
    model = reader()
    rng = np.random.default_rng(0)
    texts, y = rng.integers(60, size=(50, 7)), rng.integers(3, size=50)
    report = factorize(model, rank=8, criterion="fisher", calibration=(texts, y))
    assert report.notes == ()
    report = factorize(model, rank=4, criterion="fisher", calibration=(texts, y))
    assert report.cuts[0].kernels[0].criterion == "fisher"
    assert np.isfinite(np.array(model(texts))).all()


@pytest.mark.usefixtures("own_targets")
def test_gradients_of_a_grouped_convolution_add_up():
    """The mean gradient of each output channel is that of the bias."""
    model = keras.Sequential(
        [
            keras.Input((6, 6, 4)),
            keras.layers.Conv2D(8, 3, groups=2, activation="relu", name="grouped"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    zoo.compiled(model)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10, 6, 6, 4)).astype("float32"), rng.integers(3, size=10)
    found = observed(model, x, y, BOTH)["grouped/kernel"]
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, y, model(x))
    expected = tape.gradient(loss, model.get_layer("grouped").bias.value)
    means = np.concatenate([each.gradients.mean for each in found])
    np.testing.assert_allclose(means * 16, np.array(expected), atol=1e-5)


def smooth(samples=30, size=10, channels=4):
    """Images whose neighbours are alike, as those of a camera; channels of different sizes."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(samples, size + 2, size + 2, channels))
    mean = sum(noise[:, i : i + size, j : j + size] for i in range(3) for j in range(3)) / 3
    return (mean * np.geomspace(2.0, 0.2, channels) + 0.7).astype("float32")


def convolution(**settings):
    model = keras.Sequential(
        [
            keras.Input((10, 10, 4)),
            keras.layers.Conv2D(12, (3, 4), name="conv", **{"activation": "relu"} | settings),
            keras.layers.Flatten(),
            keras.layers.Dense(3, name="output"),
        ]
    )
    return zoo.compiled(model)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("name", ["activation", "fisher"])
def test_a_split_in_space_is_told_what_it_loses_nearly_as_exactly(name, bias):
    """Against the exact moments of whole patches, where the plain spectrum knows nothing."""
    keras.utils.set_random_seed(0)
    model, x = convolution(use_bias=bias), smooth()
    y = np.arange(len(x)) % 3
    kernel, rule = find_kernels(model)[0], criterion_named(name)
    found = observed(model, x, y, rule.needs)["conv/kernel"]
    (matrix,) = kernel.matrices("channel")[0]
    exact = rule.metric(found[0])
    metrics = [rule.metric_of(each) for each in seen_in(kernel, "spatial", found)]
    by_product = [replace(each, refit=None) for each in metrics]

    def lost(rank, metrics=None):
        cut = np.matmul(*decomposition(kernel, "spatial", metrics).factors(rank))
        left = kernel.view("spatial").unstack(cut, kernel.variable_shape)
        return exact.squared(matrix - kernel.view("channel").stack(left)[0])

    told = decomposition(kernel, "spatial", metrics).values
    for rank, close in ((1, 0.05), (3, 0.15), (5, 0.3)):
        assert (told[rank:] ** 2).sum() == pytest.approx(lost(rank, by_product), rel=close)
        assert lost(rank, by_product) < 0.9 * lost(rank)
        assert lost(rank, metrics) < lost(rank, by_product)


@pytest.mark.parametrize("criterion", ["activation", "fisher"])
def test_factors_in_space_are_cut_again_by_the_criterion(criterion):
    model, x = convolution(), smooth()
    plain = keras.models.clone_model(model)
    plain.set_weights(model.get_weights())
    y = np.arange(len(x)) % 3
    rules = [LayerRule("conv", split="spatial")]
    whole = np.array(model.layers[0](x))

    def change(of):
        return np.abs(np.array(of.layers[0](x)) - whole).mean()

    for rank in (7, 4):
        report = factorize(model, rank=rank, criterion=criterion, calibration=(x, y), rules=rules)
        told = report.cuts[-1].kernels[0]
        assert (told.criterion, told.rank) == (criterion, rank)
        assert report.notes == ()
        factorize(plain, rank=rank, rules=rules)
        assert change(model) < 0.75 * change(plain)


def test_the_split_is_the_one_that_loses_less_on_the_data():
    """Half of the channels, which tell nothing, hold a kernel that suits the other split."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 10, 10, 4)).astype("float32")
    x[..., 2:] = 1.0
    kernel = np.zeros((3, 4, 4, 12))
    kernel[:, :, :2] = np.einsum(
        "hir,wro->hwio", rng.normal(size=(3, 2, 3)), rng.normal(size=(4, 3, 12))
    )
    kernel[:, :, 2:] = 2 * np.einsum(
        "hwir,ro->hwio", rng.normal(size=(3, 4, 2, 3)), rng.normal(size=(3, 12))
    )
    splits, changes = {}, {}
    for criterion in ("frobenius", "activation"):
        model = convolution(activation=None)
        layer = model.layers[0]
        layer.kernel.assign(kernel)
        before = np.array(layer(x))
        budget = 1 - (576 - 3 * 60) / model.count_params()
        factorize(model, budget=budget, criterion=criterion, calibration=x)
        splits[criterion] = layer.split_of("kernel")
        changes[criterion] = np.abs(np.array(layer(x)) - before).mean()
    assert splits == {"frobenius": "channel", "activation": "spatial"}
    assert changes["activation"] < 0.1 * changes["frobenius"]


TRANSPOSED = {
    "apart": (keras.layers.Conv2DTranspose(3, 2, strides=2), (5, 5, 8)),
    "overlapping": (keras.layers.Conv2DTranspose(3, 3, strides=2, padding="same"), (5, 5, 8)),
    "valid": (keras.layers.Conv2DTranspose(3, (4, 2)), (5, 6, 8)),
    "1d": (keras.layers.Conv1DTranspose(4, 3, strides=3), (6, 8)),
    "3d": (keras.layers.Conv3DTranspose(2, 2, strides=2), (3, 3, 2, 8)),
}


@pytest.mark.parametrize("kind", TRANSPOSED)
def test_inputs_times_gradients_of_a_transposed_convolution_are_its_kernels_gradient(kind):
    layer, shape = TRANSPOSED[kind]
    layer = type(layer).from_config(layer.get_config())
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, *shape)).astype("float32")
    layer.build(x.shape)
    with tf.GradientTape() as tape:
        outputs = layer(x)
        loss = tf.reduce_sum(tf.sin(outputs))
    gradient, of_outputs = tape.gradient(loss, [layer.kernel.value, outputs])
    kernel = find_kernels(keras.Sequential([keras.Input(shape), layer]))[0]
    rows = kernel.kind.data.inputs.read(layer, "kernel", x, rng)[0]
    gradients = kernel.kind.data.outputs.read(layer, "kernel", np.array(of_outputs), rng)[0]
    expected = kernel.view().stack(np.array(gradient))[0]
    np.testing.assert_allclose(rows.T @ gradients, expected, rtol=1e-4, atol=1e-4)


def test_gradients_are_found_wherever_on_the_grid_they_are():
    """A stride leaves every fourth position in use; many images, so some positions are seen."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(768, 16, 16, 4)).astype("float32"), rng.integers(3, size=768)
    layers = keras.layers
    grid = [layers.Conv2DTranspose(6, 1, name="up"), layers.Conv2D(4, 1, strides=4)]
    model = keras.Sequential([keras.Input(x.shape[1:]), *grid, layers.Flatten(), layers.Dense(3)])
    found = observed(zoo.compiled(model), x, y, BOTH)["up/kernel"][0]
    assert np.trace(found.gradient_moment) > 0


def test_the_time_of_a_look_at_the_data_is_told_with_that_of_the_spectra(monkeypatch):
    def slowly(*args):
        time.sleep(0.5)
        return collect(*args)

    monkeypatch.setattr(judgement, "collect", slowly)
    report = factorize(convolution(), budget=0.9, criterion="activation", calibration=smooth())
    assert report.cuts[0].seconds["spectra"] > 0.5 > report.cuts[0].seconds["allocation"]


@pytest.mark.parametrize("kind", ["apart", "overlapping", "1d"])
def test_a_transposed_convolution_loses_less_on_its_data(kind):
    layer, shape = TRANSPOSED[kind]
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(60, *shape)) * np.geomspace(3.0, 0.03, 8)).astype("float32")
    changes = {}
    for criterion in ("frobenius", "activation", "fisher"):
        keras.utils.set_random_seed(3)
        fresh = type(layer).from_config(layer.get_config())
        ends = [keras.layers.Flatten(), keras.layers.Dense(3)]
        model = zoo.compiled(keras.Sequential([keras.Input(shape), fresh, *ends]))
        before = np.array(fresh(x))
        y = np.arange(len(x)) % 3
        report = factorize(model, rank=3, criterion=criterion, calibration=(x, y))
        assert [k.criterion for k in report.cuts[0].kernels] == [criterion]
        changes[criterion] = ((before - np.array(fresh(x))) ** 2).mean()
    assert changes["activation"] < 0.3 * changes["frobenius"]
    assert changes["fisher"] < 0.5 * changes["frobenius"]


CELLS = {
    "simple": lambda **kw: keras.layers.SimpleRNN(14, **kw),
    "lstm": lambda **kw: keras.layers.LSTM(14, **kw),
    "gru": lambda **kw: keras.layers.GRU(14, **kw),
    "gru, reset before": lambda **kw: keras.layers.GRU(14, reset_after=False, **kw),
    "unrolled": lambda **kw: keras.layers.LSTM(14, unroll=True, **kw),
    "two layers": lambda **kw: keras.layers.RNN(
        [keras.layers.LSTMCell(14, name="cell"), keras.layers.GRUCell(9)], **kw
    ),
}


def reads(kind):
    """A model of sequences whose channels are of very different sizes, and some for it."""
    keras.utils.set_random_seed(2)
    x = np.random.default_rng(0).normal(size=(40, 6, 16)) * np.geomspace(2.0, 0.02, 16) + 0.3
    layers = [CELLS[kind](name="loop", return_sequences=True), keras.layers.Dense(3, name="output")]
    return zoo.compiled(keras.Sequential([keras.Input((6, 16)), *layers])), x.astype("float32")


@pytest.mark.parametrize("kind", ["simple", "lstm", "gru"])
def test_cells_hear_their_inputs_and_their_states(kind):
    model, x = reads(kind)
    states = np.array(model.get_layer("loop")(x))
    before = np.concatenate([np.zeros_like(states[:, :1]), states[:, :-1]], axis=1)
    found = observed(model, x)
    for kernel, seen in (("kernel", x), ("recurrent_kernel", before)):
        (statistics,) = found[f"loop/cell/{kernel}"]
        assert_moments(statistics.inputs, seen.reshape(-1, seen.shape[-1]))
        assert statistics.absorbs_mean == (kind != "gru")


@pytest.mark.parametrize("backwards", [False, True])
def test_cells_hear_no_padding(backwards):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 9, 5)).astype("float32")
    real = np.arange(9) < rng.integers(1, 8, size=(20, 1))
    x[~real] = 0
    layers = [keras.layers.Masking(), keras.layers.LSTM(6, go_backwards=backwards, name="loop")]
    model = keras.Sequential([keras.Input((9, 5)), *layers, keras.layers.Dense(3)])
    found = observed(model, x)
    assert_moments(found["loop/cell/kernel"][0].inputs, x[real])
    assert found["loop/cell/recurrent_kernel"][0].inputs.count == real.sum()
    assert not model.get_layer("loop").unroll
    assert "inner_loop" not in vars(model.get_layer("loop"))


def test_states_that_outlive_a_call_stay_and_batches_have_the_size_they_must_have():
    loop = keras.layers.GRU(6, stateful=True, name="loop")
    model = keras.Sequential([keras.Input(batch_shape=(8, 4, 5)), loop, keras.layers.Dense(3)])
    x = np.random.default_rng(0).normal(size=(30, 4, 5)).astype("float32")
    model(x[:8])
    before = np.array(loop.states[0])
    report = factorize(model, rank=2, criterion="activation", calibration=x)
    assert {k.criterion for k in report.cuts[0].kernels} == {"activation"}
    np.testing.assert_array_equal(np.array(loop.states[0]), before)
    assert observed(model, x)["loop/cell/recurrent_kernel"][0].inputs.count == 24 * 4


class Stepper(keras.layers.Layer):
    """A loop of its own, which names the arguments of the cell in an order of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.cell = keras.layers.SimpleRNNCell(5)

    def build(self, shape):
        self.cell.build((None, shape[-1]))

    def call(self, x):
        state = keras.ops.zeros((keras.ops.shape(x)[0], 5))
        for step in range(x.shape[1]):
            state, _ = self.cell(states=[state], sequence=x[:, step], training=False)
        return state


def test_cells_are_heard_in_a_loop_that_is_not_keras_own():
    x = np.random.default_rng(0).normal(size=(10, 3, 5)).astype("float32")
    model = keras.Sequential([keras.Input((3, 5)), Stepper(name="own"), keras.layers.Dense(3)])
    found = observed(model, x)
    assert_moments(found["own/cell/kernel"][0].inputs, x.reshape(30, 5))
    states = found["own/cell/recurrent_kernel"][0].inputs
    assert states.count == 30
    assert states.mean.any()


@pytest.mark.traced
def test_a_call_in_a_traced_function_is_not_heard():
    x = np.random.default_rng(0).normal(size=(10, 5)).astype("float32")

    class Traced(Stepper):
        def call(self, x):
            step = tf.function(lambda state: self.cell(tf.constant(np.ones((1, 5), "f")), [state]))
            return step(x)[0]

    model = keras.Sequential([keras.Input((5,)), Traced(name="own"), keras.layers.Dense(3)])
    assert "own/cell/kernel" not in observed(model, x)


@pytest.mark.parametrize("kind", CELLS)
def test_a_loop_loses_less_on_its_data(kind):
    changes = {}
    for criterion in ("frobenius", "activation"):
        model, x = reads(kind)
        before = np.array(model.get_layer("loop")(x))
        report = factorize(model, rank=5, criterion=criterion, calibration=x)
        judged = {k.path: k.criterion for k in report.cuts[0].kernels}
        unobserved = {path for path, name in judged.items() if name != criterion}
        inexact = (kind, criterion) == ("gru, reset before", "activation")
        assert unobserved == ({"loop/cell/recurrent_kernel"} if inexact else set())
        assert len(judged) >= 2
        changes[criterion] = ((before - np.array(model.get_layer("loop")(x))) ** 2).mean()
    assert changes["activation"] < 0.5 * changes["frobenius"]


def test_kinds_that_are_not_heard_go_by_energy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 8, 8, 6)).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((8, 8, 6)),
            keras.layers.Conv2D(16, 3, name="across"),
            keras.layers.Conv2D(16, 3, name="along"),
            keras.layers.Reshape((16, 16)),
            keras.layers.GRU(12, reset_after=False, name="gru"),
            keras.layers.Dense(3),
        ]
    )
    zoo.compiled(model)
    report = factorize(
        model,
        rank=3,
        criterion="fisher",
        calibration=(x, np.arange(40) % 3),
        rules=[LayerRule("along", split="spatial")],
    )
    by = {k.path: k.criterion for k in report.cuts[0].kernels}
    assert by.pop("across/kernel") == by.pop("along/kernel") == "fisher"
    unheard = "gru/cell/recurrent_kernel"  # whose gates see different states
    assert by.pop(unheard) == "frobenius"
    assert by.pop("gru/cell/kernel") == "fisher"
    assert "along/kernel" not in report.notes[0]
    assert unheard in report.notes[0]
