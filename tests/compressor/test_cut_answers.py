"""What the report says that cuts did to the answers, of models of many forms."""

from __future__ import annotations

import json
import warnings
from functools import cache, partial

import keras
import numpy as np
import pytest

from reducible_train import (
    Cadence,
    LayerRule,
    PiecewiseConstant,
    Ramp,
    RankScheduler,
    _keras,
    analyze,
    factorize,
)
from reducible_train.compressor import answers
from reducible_train.compressor.answers import NEITHER, NO_DATA
from reducible_train.errors import OutputErrorWarning
from reducible_train.report.records import Report

L = keras.layers


def classifier():
    hidden = [L.Dense(24, "relu", name=name) for name in ("a", "b")]
    model = keras.Sequential([keras.Input((16,)), *hidden, L.Dense(3, "softmax", name="out")])
    adam = keras.optimizers.Adam(0.01)
    model.compile(adam, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@cache
def learnt():
    """The weights of a classifier that has learnt three clouds of points, with its data."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, 240)
    x = (rng.normal(size=(3, 16))[y] * 2 + rng.normal(size=(240, 16))).astype("float32")
    model = classifier()
    model.fit(x, y, epochs=5, verbose=0)
    return model.get_weights(), x, y


def trained():
    """A classifier that has learnt, with its data."""
    weights, x, y = learnt()
    model = classifier()
    model.set_weights(weights)
    return model, x, y


def unexplained(before, after):
    """The error of one output, reckoned anew."""
    axes = tuple(range(before.ndim - 1))
    return ((after - before) ** 2).sum() / ((before - before.mean(axes)) ** 2).sum()


def test_factorize_tells_error_and_metrics_of_its_calibration_set():
    model, x, y = trained()
    before, metrics = model(x).numpy(), model.evaluate(x, y, verbose=0, return_dict=True)
    report = factorize(model, rank=3, calibration=(x, y))
    (cut,) = report.cuts
    assert cut.output_error == pytest.approx(unexplained(before, model(x).numpy()), rel=1e-4)
    assert cut.output_error_since_start == cut.output_error > 0
    assert cut.metrics_before == pytest.approx(metrics, rel=1e-4)
    after = model.evaluate(x, y, verbose=0, return_dict=True)
    assert cut.metrics_after == pytest.approx(after, rel=1e-4)
    assert f"output error {cut.output_error:.3g} right after the cut" in str(report)
    assert "(240 samples of the calibration set)" in str(report)
    again = Report.from_dict(json.loads(json.dumps(report.to_dict())))
    assert again == report
    assert str(again) == str(report)


CLASSES = {0: 0.0, 1: 2.0, 2: 1.0}


def weighed(source):
    """A report whose samples have weights, some of 0, and the weights that Keras evaluates by."""
    import tensorflow as tf

    model, x, y = trained()
    model.compile(keras.optimizers.SGD(0.0), model.loss, metrics=["accuracy"])
    weights = np.array([0.0, 2.0, 1.0], "float32")[y]
    scheduler = RankScheduler(rank=3, criterion="activation")
    fit = partial(model.fit, epochs=2, verbose=0, callbacks=[scheduler])
    if source == "calibration":
        return model, factorize(model, rank=3, calibration=(x, y, weights)), weights
    if source == "validation":
        fit(x[:60], y[:60], validation_data=(x, y, weights))
    elif source == "sample_weight":
        fit(x, y, sample_weight=weights)
    elif source == "class_weight":
        fit(x, y, class_weight=CLASSES)
    else:  # what a criterion has seen of a stream
        stream = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(1).batch(32)
        fit(stream, class_weight=CLASSES, shuffle=False)
    return model, scheduler.report, weights


@pytest.mark.parametrize(
    "source", ["calibration", "validation", "sample_weight", "class_weight", "stream"]
)
def test_samples_count_in_the_metrics_as_in_those_of_keras(source):
    _, x, y = learnt()
    model, report, weights = weighed(source)
    (cut,) = report.cuts
    told = model.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    assert cut.metrics_after == pytest.approx(told, rel=1e-4)
    assert "240 samples of the" in str(report)
    before, _, _ = trained()
    outputs = [each(x[weights > 0]).numpy() for each in (before, model)]
    counts = weights[weights > 0][:, None]
    mean = (counts * outputs[0]).sum(axis=0) / counts.sum()
    lost, spread = (
        (counts * (outputs[0] - each) ** 2).sum() for each in (outputs[1], np.asarray(mean))
    )
    assert cut.output_error == pytest.approx(lost / spread, rel=1e-3)


class Adds(L.Layer):
    """Adds a sum over the batch to the loss."""

    def call(self, x):
        self.add_loss(0.01 * keras.ops.sum(keras.ops.square(x)))
        return x


class AddsByAHelper(L.Layer):
    def call(self, x):
        return helped(self, x)


def helped(layer, x):
    layer.add_loss(0.01 * keras.ops.sum(keras.ops.square(x)))
    return x


class AddsInAFunction(L.Layer):
    def call(self, x):
        def add(loss):
            self.add_loss(loss)

        add(0.01 * keras.ops.sum(keras.ops.square(x)))
        return x


ADDING = {"add_loss": Adds, "by a helper": AddsByAHelper, "in a function": AddsInAFunction}


class Sums(keras.losses.Loss):
    def call(self, y, found):
        return keras.ops.sum(keras.losses.sparse_categorical_crossentropy(y, found))


class OwnLoss(keras.Sequential):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.sum(keras.losses.sparse_categorical_crossentropy(y, y_pred))


def summing(how):
    """A classifier whose loss grows with the batch, with its data."""
    model, x, y = trained()
    losses = {
        "reduction": keras.losses.SparseCategoricalCrossentropy(reduction="sum"),
        "function": lambda y, found: Sums().call(y, found),
        "class": Sums(),
    }
    if how in (*ADDING, "compute_loss"):
        kind = OwnLoss if how == "compute_loss" else keras.Sequential
        a, b, out = model.layers
        adding = [ADDING[how]()] if how in ADDING else []
        model = kind([keras.Input((16,)), a, *adding, b, out])
    loss = losses.get(how, "sparse_categorical_crossentropy")
    model.compile(keras.optimizers.SGD(0.0), loss, metrics=["accuracy"])
    return model, x[:200], y[:200]


@pytest.mark.parametrize("weighed", [False, True])
def test_a_loss_of_the_model_is_given_what_steps_are_given(weighed):
    class OfTensors(keras.Sequential):
        def compute_loss(self, x, y, y_pred, sample_weight=None):  # as before Keras 3.3
            given = keras.tree.flatten((x, y, sample_weight))
            assert all(keras.ops.is_tensor(each) for each in given if each is not None)
            of_each = keras.losses.sparse_categorical_crossentropy(y, y_pred)
            weigh = 1.0 if sample_weight is None else sample_weight  # of one dtype
            return keras.ops.mean(of_each * weigh)

        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            assert keras.ops.is_tensor(y)
            return super().compute_metrics(x, y, y_pred, sample_weight)

    model, x, y = trained()
    x, y = x[:200].astype("float64"), y[:200]
    model = OfTensors([keras.Input((16,)), *model.layers])
    model.compile("sgd", metrics=["accuracy"])
    weights = np.linspace(0.5, 1.5, 200) if weighed else None
    told = model.evaluate(x, y, batch_size=200, sample_weight=weights, verbose=0, return_dict=True)
    given = (x, y, weights) if weighed else (x, y)
    (cut,) = factorize(model, rank=3, criterion="fisher", calibration=given).cuts
    assert cut.metrics_before == pytest.approx(told, rel=1e-4)


class Root(keras.losses.Loss):
    """No sum, but neither a mean of the losses of the samples."""

    def call(self, y, found):
        return keras.ops.sqrt(
            keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, found))
        )


@pytest.mark.parametrize("how", ["reduction", "function", "class", *ADDING, "compute_loss"])
def test_a_loss_that_grows_with_the_batch_is_that_of_evaluate(how):
    model, x, y = summing(how)
    told = model.evaluate(x, y, verbose=0, return_dict=True)
    assert told["loss"] < 0.9 * model.evaluate(x, y, batch_size=128, verbose=0)[0]
    assert analyze(model, (x, y), ratios=(0.5,)).baseline == pytest.approx(told["loss"], rel=1e-5)
    (cut,) = factorize(model, rank=3, calibration=(x, y)).cuts
    assert cut.metrics_before == pytest.approx(told, rel=1e-5)
    after = model.evaluate(x, y, verbose=0, return_dict=True)
    assert cut.metrics_after == pytest.approx(after, rel=1e-5)


@pytest.mark.parametrize("fitted", ["validation_batch_size", "batch_size", "data set", "training"])
def test_a_loss_that_grows_with_the_batch_is_that_of_the_fit(fitted):
    import tensorflow as tf

    model, x, y = summing("reduction")
    scheduler, kept = RankScheduler(rank=3, criterion="frobenius"), {"validation_data": (x, y)}
    if fitted == "validation_batch_size":
        kept |= {"validation_batch_size": 24}
    elif fitted == "data set":
        kept = {"validation_data": tf.data.Dataset.from_tensor_slices((x, y)).batch(24)}
    elif fitted == "training":
        kept = {"shuffle": False}
    batch = 50 if fitted == "validation_batch_size" else 24
    logs = model.fit(x, y, batch_size=batch, epochs=1, verbose=0, callbacks=[scheduler], **kept)
    last = logs.history["val_loss" if "validation_data" in kept else "loss"][-1]
    assert scheduler.report.answers.metrics["loss"] == pytest.approx(last, rel=1e-5)


@pytest.mark.parametrize(
    "loss", ["mse", keras.losses.MeanSquaredError(), keras.losses.mean_squared_error]
)
def test_a_mean_is_judged_in_large_batches(loss):
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, activity_regularizer="l2")])
    model.compile(loss=loss)
    assert not _keras.may_sum_its_loss(model)


def own_mean(y, found):
    return keras.ops.mean(keras.ops.square(y - found), -1)


class OwnMean(keras.losses.Loss):
    def call(self, y, found):
        return own_mean(y, found)


class MeansItself(keras.Sequential):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.mean(own_mean(y, y_pred))


class AddsAMean(L.Layer):
    def call(self, x):
        self.add_loss(keras.ops.mean(keras.ops.square(x)))
        return x


@pytest.mark.parametrize(
    ("kind", "loss", "parts"),
    [
        (keras.Sequential, own_mean, ()),
        (keras.Sequential, OwnMean(), ()),
        (MeansItself, None, ()),
        (keras.Sequential, "mse", (AddsAMean(), L.Dropout(0.5), L.BatchNormalization())),
    ],
)
def test_a_mean_of_ones_own_is_judged_in_large_batches(kind, loss, parts, monkeypatch):
    model = kind([keras.Input((4,)), L.Dense(8), *parts, L.Dense(3)])
    model.compile(loss=loss)
    rng, sizes, told = np.random.default_rng(0), [], answers.outputs_of

    def noted(*args, **options):
        found = told(*args, **options)
        sizes.extend(len(batch[""][0]) for batch in found.batches)
        return found

    monkeypatch.setattr(answers, "outputs_of", noted)
    x, y = rng.normal(size=(300, 4)).astype("float32"), rng.normal(size=(300, 3)).astype("float32")
    told_by_keras = model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    (cut,) = factorize(model, rank=1, calibration=(x, y)).cuts
    assert set(sizes) == {300}
    assert cut.metrics_before["loss"] == pytest.approx(told_by_keras, rel=1e-4)


def test_a_mean_of_what_a_mask_leaves_is_judged_in_large_batches():
    layers = [keras.Input((5,)), L.Embedding(9, 4, mask_zero=True), L.Dense(3)]
    model = keras.Sequential(layers)
    model.compile(loss="mse")
    rng = np.random.default_rng(0)
    x = rng.integers(1, 9, (32, 5)) * (np.arange(5) < rng.integers(1, 5, (32, 1)))
    assert not _keras.may_sum_its_loss(model, x, rng.normal(size=(32, 5, 3)).astype("float32"))


class Draws(L.Layer):
    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x))


def test_a_mean_of_random_outputs_is_judged_in_large_batches():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3), Draws()])
    model.compile(loss="mse")
    assert not _keras.may_sum_its_loss(model, np.ones((32, 4)), np.ones((32, 3)))


@pytest.mark.parametrize(("loss", "known"), [(Root(), True), (own_mean, True), ("mse", False)])
def test_what_cannot_be_tried_is_a_mean_where_it_is_of_keras(loss, known):
    model = keras.Sequential([keras.Input((4,)), L.Dense(3)])
    model.compile(loss=loss)
    assert _keras.may_sum_its_loss(model) is known
    assert _keras.may_sum_its_loss(model, np.ones((4, 7)), np.ones((4, 3))) is known


def test_a_loss_that_is_no_mean_of_those_of_samples_is_told_of():
    model, x, y = trained()
    model.compile(loss=Root())
    before = [v.numpy() for v in model.variables]
    assert _keras.may_sum_its_loss(model, x[:32], y[:32])
    assert all(np.array_equal(a, b) for a, b in zip(before, model.variables, strict=True))


@pytest.mark.parametrize("rubbish", ["inputs", "targets"])
def test_what_cannot_be_judged_and_does_not_count_is_left_out(rubbish):
    model, x, y = trained()
    weights = np.arange(240) % 2
    x, y = x.copy(), y.copy()
    if rubbish == "inputs":
        x[weights == 0] = np.nan
    else:
        y[weights == 0] = -1
    told = model.evaluate(x[weights > 0], y[weights > 0], verbose=0, return_dict=True)
    report = factorize(model, rank=3, calibration=(x, y, weights))
    assert report.cuts[0].metrics_before == pytest.approx(told, rel=1e-4)
    assert report.answers.samples == 120
    assert report.notes == ()


def test_of_samples_that_are_all_the_same_no_error_is_told():
    model, x, y = trained()
    with warnings.catch_warnings():
        warnings.simplefilter("error", OutputErrorWarning)
        report = factorize(model, rank=3, calibration=(x[:1], y[:1]))
    assert report.cuts[0].output_error is None
    assert any("the same on all samples of the calibration set" in note for note in report.notes)


def test_of_outputs_that_a_cut_leaves_all_the_same_no_error_is_told_either():
    model, x, y = trained()
    model.layers[-1].kernel.assign(np.zeros(model.layers[-1].kernel.shape))
    scheduler = RankScheduler(0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error", OutputErrorWarning)
        model.fit(x, y, epochs=1, verbose=0, callbacks=[scheduler])
    report = scheduler.report
    assert report.cuts[0].output_error is None
    assert "output error" not in str(report)
    assert any("the same on all samples of the training data" in note for note in report.notes)


@pytest.mark.parametrize("samples", [4, 60])
def test_errors_of_fewer_samples_than_inputs_are_said_to_be_of_these_alone(samples):
    model, x, y = trained()
    report = factorize(model, 0.5, calibration=(x[:samples], y[:samples]))
    few = [note for note in report.notes if "Judged by 4 samples, which are fewer" in note]
    assert len(few) == (samples < 16)
    assert all("a/kernel (16 inputs), b/kernel (24 inputs)" in note for note in few)


@pytest.mark.filterwarnings("ignore:The training of .* has diverged")
@pytest.mark.parametrize("in_fit", [False, True])
def test_outputs_that_were_no_numbers_before_a_cut_are_told_and_warned_of(in_fit):
    x = np.random.default_rng(0).normal(size=(40, 16)).astype("float32")
    hidden = L.Dense(24, "relu", name="a")
    roots = L.Dense(3, lambda z: keras.ops.sqrt(-1 - z * z), name="roots")
    model = keras.Sequential([keras.Input((16,)), hidden, roots])
    model.compile(loss="mse")
    told = r"120 of 120 numbers of the outputs were NaN or infinite before it"
    scheduler = RankScheduler(rank=3, criterion="frobenius")
    fit = partial(model.fit, x, x[:, :3], epochs=1, verbose=0, callbacks=[scheduler])
    once = partial(factorize, model, rank=3, calibration=x, criterion="activation")
    with pytest.warns(OutputErrorWarning, match=f"Nobody knows what the cut .*{told}"):
        made = fit() if in_fit else once()
    report = scheduler.report if in_fit else made
    assert f"was not measured: {told}" in " ".join(report.notes)


def test_some_outputs_that_are_no_numbers_are_left_out_and_counted():
    model, x, y = trained()
    masked = keras.ops.where(keras.ops.arange(3) == 0, -np.inf, model.outputs[0])
    model = keras.Model(model.inputs[0], masked)
    with warnings.catch_warnings():
        warnings.simplefilter("error", OutputErrorWarning)
        report = factorize(model, rank=3, calibration=(x, y))
    assert "without some: 240 of 720 numbers" in " ".join(report.notes)
    assert report.cuts[0].output_error > 0


@pytest.mark.parametrize("criterion", ["activation", "fisher"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_error_of_a_kernel_is_that_of_its_outputs(rng, criterion, bias):
    x = (rng.normal(size=(300, 12)) @ rng.normal(size=(12, 12)) + 1).astype("float32")
    model = keras.Sequential([keras.Input((12,)), L.Dense(16, use_bias=bias, name="a")])
    model.add(L.Dense(2, name="out"))
    model.compile("sgd", "mse")
    hidden = model.get_layer("a")
    before = hidden(x).numpy()
    data = x, rng.normal(size=(300, 2))
    report = factorize(model, rank=3, criterion=criterion, calibration=data)
    expected = unexplained(before, hidden(x).numpy())
    assert report.cuts[0].kernels[0].output_error == pytest.approx(expected, rel=1e-3)
    assert report.kernels[0].output_error == pytest.approx(expected, rel=1e-3)
    assert "output error" in str(report).splitlines()[0]


def test_the_error_of_a_table_and_of_a_kernel_split_in_space(rng):
    tokens = rng.integers(0, 40, (64, 9))
    model = keras.Sequential([keras.Input((9,), dtype="int32"), L.Embedding(40, 24, name="t")])
    model.add(L.Flatten())
    model.add(L.Dense(2, name="out"))
    table = model.get_layer("t")
    before = table(tokens).numpy()
    report = factorize(model, rank=4, criterion="activation", calibration=tokens)
    expected = unexplained(before, table(tokens).numpy())
    assert report.cuts[0].kernels[0].output_error == pytest.approx(expected, rel=1e-3)
    images = rng.normal(size=(16, 8, 8, 6)).astype("float32")
    model = keras.Sequential([keras.Input((8, 8, 6)), L.Conv2D(8, 3, name="c"), L.Flatten()])
    model.add(L.Dense(2, name="out"))
    conv = model.get_layer("c")
    before = conv(images).numpy()
    report = factorize(
        model,
        rank=4,
        criterion="activation",
        calibration=images,
        rules=[LayerRule("c", split="spatial")],
    )
    assert report.kernels[0].split == "spatial"
    expected = unexplained(before, conv(images).numpy())
    assert report.cuts[0].kernels[0].output_error == pytest.approx(expected, rel=1e-2)


def test_without_data_one_sentence_says_what_would_tell():
    model, _, _ = trained()
    report = factorize(model, rank=3)
    assert report.notes == (NEITHER,)
    model, _, _ = trained()
    assert factorize(model, rank=3, criterion="frobenius").notes == (NO_DATA,)
    assert report.answers is report.cuts[0].output_error is None


def only_small_directions_count(rng):
    """A model whose kernel has eight large directions, which its outputs do not see."""
    model = keras.Sequential([keras.Input((16,)), L.Dense(32, name="a"), L.Dense(8, name="b")])
    left, right = (np.linalg.qr(rng.normal(size=(size, 16)))[0] for size in (16, 32))
    model.get_layer("a").kernel.assign(left * np.repeat([10.0, 1.0], 8) @ right.T)
    model.get_layer("b").kernel.assign(right[:, 8:])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    return model


def test_outputs_no_better_than_their_mean_bring_a_warning(rng):
    model = only_small_directions_count(rng)
    x = (rng.normal(size=(200, 16)) + 1).astype("float32")
    with pytest.warns(OutputErrorWarning, match="no better than their mean") as caught:
        report = factorize(model, rank=8, criterion="frobenius", calibration=x)
    assert report.cuts[0].output_error >= 1
    (warning,) = [w for w in caught if w.category is OutputErrorWarning]
    assert warning.filename == __file__
    assert "no better than their mean" in report.notes[-1]


def sequences(rng):
    tokens = keras.Input((None,), dtype="int32")
    x = L.LSTM(16, return_sequences=True)(L.Embedding(30, 16, mask_zero=True)(tokens))
    model = keras.Model(tokens, L.Dense(5, "softmax")(L.Dense(24)(x)))
    model.compile("sgd", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
    x = rng.integers(1, 30, (40, 7))
    x[:, 5:] = 0
    return model, x, rng.integers(0, 5, (40, 7))


def many(rng):
    one, two = keras.Input((12,), name="one"), keras.Input((12,), name="two")
    x = L.Dense(24, "relu")(L.Concatenate()([one, two]))
    outputs = {"left": L.Dense(3, name="l")(x), "right": L.Dense(1, name="r")(x)}
    model = keras.Model({"one": one, "two": two}, outputs)
    model.compile("sgd", {"left": "mse", "right": "mae"}, metrics={"left": ["mae"]})
    data = {name: rng.normal(size=(40, 12)) for name in ("one", "two")}
    return model, data, {"left": rng.normal(size=(40, 3)), "right": rng.normal(size=(40, 1))}


def distiller(rng):
    teacher, student = (
        keras.Sequential([keras.Input((12,)), L.Dense(24, "relu"), L.Dense(3)]) for _ in range(2)
    )
    loss = keras.distillation.LogitsDistillation(temperature=2.0)
    model = keras.distillation.Distiller(teacher, student, distillation_losses=loss)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model, rng.normal(size=(40, 12)), rng.integers(0, 3, 40)


def own_step(rng):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.wide, self.out = L.Dense(24), L.Dense(2)

        def call(self, x):
            return self.out(self.wide(x))

        def train_step(self, data):
            return {"loss": keras.ops.sum(self(data[0]))}

    model = Own()
    model.compile("sgd")
    model(np.zeros((1, 12)))
    return model, rng.normal(size=(40, 12)), rng.normal(size=(40, 2))


@pytest.mark.parametrize("make", [sequences, many, distiller, own_step])
@pytest.mark.filterwarnings("ignore::reducible_train.errors.ShortfallWarning")
def test_a_fit_tells_of_models_of_every_form_and_trains_as_without(rng, make):
    keras.utils.set_random_seed(3)
    model, x, y = make(rng)
    start = [np.array(v) for v in model.get_weights()]
    ends = []
    for compare in (True, False):
        keras.utils.set_random_seed(3)
        again, x, y = make(np.random.default_rng(1))
        again.set_weights(start)
        scheduler = RankScheduler(rank=2, cadence=Cadence(epochs=1, compare=compare))
        history = again.fit(
            x, y, epochs=2, verbose=0, validation_data=None, callbacks=[scheduler]
        ).history
        told = {k: v for k, v in history.items() if not k.startswith(("rank/", "params"))}
        ends.append((again.get_weights(), told))
        report = scheduler.report
        (cut,) = report.cuts
        if not compare:
            assert report.answers is cut.output_error is None
            assert cut.metrics_before == {}
            continue
        assert 0 < cut.output_error < 10
        assert report.answers.samples == 40
        assert report.answers.source == "the training data"
        assert report.answers.output_error > 0
        judged = make is not own_step
        assert ("loss" in cut.metrics_before) == ("loss" in report.answers.metrics) == judged
    assert ends[0][1] == ends[1][1]
    for one, other in zip(ends[0][0], ends[1][0], strict=True):
        np.testing.assert_array_equal(one, other)


def test_each_cut_of_a_fit_is_measured_on_its_validation_data():
    model, x, y = trained()
    scheduler = RankScheduler(budget=Ramp(1.0, 0.4, start_epoch=1, end_epoch=3))
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: seen.append(model.evaluate(x[:50], y[:50], verbose=0)[0])
    )
    part = {"validation_data": (x[:50], y[:50]), "callbacks": [scheduler, look]}
    model.fit(x, y, epochs=5, verbose=0, **part)
    report = scheduler.report
    assert len(report.cuts) > 1
    assert report.answers.source == "the validation data"
    assert report.answers.samples == 50
    for cut in report.cuts:
        assert cut.metrics_before["loss"] == pytest.approx(seen[cut.epoch - 1], rel=1e-4)
        assert cut.metrics_after["loss"] != cut.metrics_before["loss"]
    assert report.cuts[0].output_error == report.cuts[0].output_error_since_start
    assert report.cuts[-1].output_error != report.cuts[-1].output_error_since_start
    assert report.answers.metrics["loss"] == pytest.approx(seen[-1], rel=1e-4)
    assert "right after the last cut" in str(report)


def test_data_that_reading_may_change_is_left_alone():
    import tensorflow as tf

    model, x, y = trained()
    still = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
    for validation, source in [
        (still, "the validation data"),
        (still.map(lambda a, b: (a, b)).prefetch(1).cache(), "the validation data"),
        (still.shuffle(4), None),
        (
            tf.data.Dataset.from_generator(
                lambda: iter(still), output_signature=still.element_spec
            ),
            None,
        ),
    ]:
        scheduler = RankScheduler(rank=2, criterion="frobenius")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(
                still if source else still.shuffle(4),
                epochs=1,
                shuffle=False,
                verbose=0,
                validation_data=validation,
                callbacks=[scheduler],
            )
        report = scheduler.report
        if source is None:
            assert report.answers is None
            assert any("no data of this fit can be read twice" in note for note in report.notes)
        elif report.cuts:
            assert report.answers.source == source
        model, x, y = trained()


def test_a_data_set_that_is_trained_on_tells_where_nothing_else_does(tmp_path):
    import tensorflow as tf

    model, x, y = trained()
    whole = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
    for data in (whole.cache(), whole.cache(str(tmp_path / "cached")), whole.map(lambda *b: b)):
        scheduler = RankScheduler(rank=2, criterion="frobenius")
        seen = model.fit(data, epochs=2, shuffle=False, verbose=0, callbacks=[scheduler])
        assert len(seen.history["loss"]) == 2
        assert scheduler.report.answers.measured_on == f"{len(x)} samples of the training data"
        assert scheduler.report.cuts[0].output_error > 0
        model, x, y = trained()


def test_samples_that_a_model_can_be_run_on_come_after_those_that_it_cannot():
    """A model of another `call` than its training, as that of a generator is, has its own."""

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.reads = keras.Sequential([keras.Input((6,)), keras.layers.Dense(16, name="reads")])
            self.makes = keras.Sequential([keras.Input((3,)), keras.layers.Dense(16, name="makes")])

        def call(self, noise):
            return self.makes(noise)

        def train_step(self, data):
            return {"loss": keras.ops.mean(self.reads(data))}

    rng = np.random.default_rng(0)
    noise = rng.normal(size=(40, 3)).astype("float32")
    rule = [LayerRule("*", keep_dense=False)]
    for calibration, told in ((noise, "40 samples of the calibration set"), (64, None)):
        model = Own()
        model(np.zeros((1, 3), "float32"))
        model.compile("sgd")
        scheduler = RankScheduler(rank=2, calibration=calibration, rules=rule)
        real = rng.normal(size=(64, 6)).astype("float32")
        model.fit(real, epochs=1, verbose=0, callbacks=[scheduler])
        answers = scheduler.report.answers
        assert (answers and answers.measured_on) == told
        if told is None:
            assert any("cannot be run on the training data" in n for n in scheduler.report.notes)


def test_what_a_criterion_has_seen_of_a_data_set_tells_too():
    import tensorflow as tf

    model, x, y = trained()
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(240).batch(32)
    scheduler = RankScheduler(rank=2, criterion="activation", calibration=96)
    model.fit(data, epochs=2, shuffle=False, verbose=0, callbacks=[scheduler])
    assert scheduler.report.answers.measured_on == "96 samples of the training data"
    assert scheduler.report.cuts[0].output_error > 0


@pytest.mark.parametrize("learns", [False, True])
def test_a_training_that_does_not_make_up_for_its_cuts_warns_at_its_end(rng, learns):
    model = only_small_directions_count(rng)
    x = (rng.normal(size=(200, 16)) + 1).astype("float32")
    y = model(x).numpy() + (0 if not learns else 100)  # other answers are better ones
    if learns:
        model.optimizer.learning_rate = 1e-4
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scheduler = RankScheduler(rank=8, criterion="frobenius")
        model.fit(x, y, epochs=2, verbose=0, callbacks=[scheduler])
    told = [str(w.message) for w in caught if w.category is OutputErrorWarning]
    assert scheduler.report.cuts[0].output_error >= 1
    assert len(told) == (not learns)
    notes = [note for note in scheduler.report.notes if "no better than their mean" in note]
    assert len(notes) == 2 - learns
    if not learns:
        assert "has not made up for the cuts" in told[0]
        assert "judge by the data (criterion='auto')" in told[0]


def output_warnings(model, scheduler, x, y, **how):
    """What a fit warns of its outputs."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, y, verbose=0, callbacks=[scheduler], **how)
    return [str(w.message) for w in caught if w.category is OutputErrorWarning]


@pytest.mark.parametrize("budget", [0.8, PiecewiseConstant((0.9, 0.8), (0, 2))])
def test_a_training_that_spoils_good_answers_is_told_apart_from_cuts_that_do(budget):
    model, x, y = trained()
    model.optimizer.learning_rate = 0.05
    scheduler = RankScheduler(budget)
    told = output_warnings(model, scheduler, x, (y + 1) % 3, epochs=4, validation_data=(x, y))
    assert scheduler.report.cuts[0].output_error < 0.1
    assert scheduler.report.answers.output_error >= 1
    (words,) = told
    assert "has spoilt its answers" in words
    assert "Lower the learning rate" in words
    assert "At the end of the training, the outputs were no better" in scheduler.report.notes[-1]


@pytest.mark.traced  # 120 steps
@pytest.mark.parametrize("wrong", [0, 80])
def test_a_network_that_has_learnt_gave_other_answers_before_and_is_not_warned_of(wrong):
    _, x, y = learnt()
    keras.utils.set_random_seed(0)
    model, scheduler = classifier(), RankScheduler(0.8)
    judged = np.where(np.arange(240) < wrong, (y + 1) % 3, y)  # it is too sure to be wrong
    top = keras.metrics.SparseTopKCategoricalAccuracy(3)  # all there are: it stays as it is
    model.compile(keras.optimizers.get(model.optimizer), model.loss, metrics=["accuracy", top])
    model.optimizer.learning_rate = 0.05
    how = {"epochs": 15, "validation_data": (x, judged)}
    assert output_warnings(model, scheduler, x, y, **how) == []
    (cut,), end = scheduler.report.cuts, scheduler.report.answers
    assert end.output_error >= 1
    assert (end.metrics["loss"] > 1.1 * cut.metrics_before["loss"]) == (wrong > 0)
    assert end.metrics["accuracy"] > cut.metrics_before["accuracy"]


def test_who_judges_by_the_data_is_not_told_to(rng, monkeypatch):
    monkeypatch.setattr(answers, "useless", lambda errors: "the outputs were useless")
    model, x = only_small_directions_count(rng), rng.normal(size=(200, 16)).astype("float32")
    with pytest.warns(OutputErrorWarning, match="Ask for less, or train the model on"):
        factorize(model, rank=8, criterion="activation", calibration=x)
