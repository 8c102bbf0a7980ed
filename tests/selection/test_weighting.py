"""Laws of samples that count more or less: weights, class weights and masks in what is observed."""

from __future__ import annotations

from collections import OrderedDict

import keras
import numpy as np
import pytest
import tensorflow as tf
import zoo
from models import CATALOGUE, chosen

from reducible_train import ArgumentError, RankScheduler, _keras, factorize
from reducible_train.layers import find_kernels
from reducible_train.linalg.moments import Counts, Moments
from reducible_train.selection import sample_collector
from reducible_train.selection.calibration import samples_of
from reducible_train.selection.sample_collector import SampleCollector
from reducible_train.selection.samples import Samples
from reducible_train.selection.statistics import collect

L = keras.layers
BOTH = ("inputs", "gradients")
NEEDS = pytest.mark.parametrize("needs", [("inputs",), BOTH], ids=["inputs", "gradients"])


def observed(model, samples, needs=("inputs",)):
    return collect(model, find_kernels(model), samples_of(samples), needs)


def assert_same(found, expected, scale=1.0):
    """Equal statistics, and `scale` times as many samples."""
    assert found.keys() == expected.keys()
    assert found, "something is observed"
    for path, parts in expected.items():
        for one, other in zip(found[path], parts, strict=True):
            for name in BOTH:
                ours, theirs = getattr(one, name), getattr(other, name)
                if theirs is None:
                    continue
                if isinstance(theirs, Counts):
                    np.testing.assert_allclose(ours.counts, scale * theirs.counts, err_msg=path)
                    continue
                assert ours.count == pytest.approx(scale * theirs.count), path
                size = np.abs(theirs.second_moment).max()
                np.testing.assert_allclose(
                    ours.second_moment, theirs.second_moment, atol=2e-5 * size, err_msg=path
                )


# --- moments ----------------------------------------------------------------------------


def test_a_weight_of_three_is_as_good_as_three_vectors(rng):
    rows, weights = rng.normal(size=(20, 4)), rng.integers(1, 4, 20)
    weighed, repeated = Moments.of(rows, weights), Moments.of(np.repeat(rows, weights, axis=0))
    assert weighed.count == repeated.count
    np.testing.assert_allclose(weighed.mean, repeated.mean)
    np.testing.assert_allclose(weighed.scatter, repeated.scatter)
    split = Moments.of(rows[:7], weights[:7]).merged(Moments.of(rows[7:], weights[7:]))
    np.testing.assert_allclose(split.second_moment, repeated.second_moment)
    chosen = rng.integers(5, size=20)
    np.testing.assert_array_equal(
        Counts.of(chosen, 5, weights).counts, Counts.of(np.repeat(chosen, weights), 5).counts
    )


# --- weights of samples -------------------------------------------------------------------


def of_dense(samples=24):
    """A model with its data."""
    entry = CATALOGUE["dense"]
    return entry.compiled(), *entry.data(samples)


@pytest.mark.usefixtures("own_targets")
@NEEDS
@pytest.mark.parametrize("entry", chosen(lambda entry: entry.weighed))
def test_a_weight_of_k_is_a_sample_k_times(entry, needs):
    model, (x, y) = entry.compiled(), entry.data(24)
    weights = np.arange(len(x)) % 3
    rubbish = np.where((weights == 0).reshape(-1, *[1] * (x.ndim - 1)), 8, x)
    expected = observed(model, tuple(np.repeat(each, weights, axis=0) for each in (x, y)), needs)
    assert_same(observed(model, (rubbish, y, weights), needs), expected)
    assert_same(observed(model, (x, y, 0.25 * weights[:, None]), needs), expected, 0.25)


@NEEDS
def test_weights_of_several_outputs_count_by_their_mean(needs):
    a, b = keras.Input((6,), name="a"), keras.Input((4,), name="b")
    h = L.Dense(8, "tanh", name="h")(L.Concatenate()([a, b]))
    outputs = {"one": L.Dense(3, name="one")(h), "two": L.Dense(2, name="two")(h)}
    model = keras.Model({"a": a, "b": b}, outputs)
    model.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(20, 6)), "b": rng.normal(size=(20, 4))}
    y = {"one": rng.normal(size=(20, 3)), "two": rng.normal(size=(20, 2))}
    ones, twice = np.ones(20), np.full(20, 2.0)
    plain = observed(model, (x, y), needs)
    assert_same(observed(model, (x, y, {"one": twice, "two": twice}), needs), plain, 2.0)
    found = observed(model, (x, y, {"one": ones, "two": twice}), needs)
    assert found["h/kernel"][0].inputs.count == pytest.approx(30)
    half = np.arange(20) < 10
    only = {"one": 1.0 * half, "two": 1.0 * half}
    first = tuple({k: v[:10] for k, v in each.items()} for each in (x, y))
    assert_same(observed(model, (x, y, only), needs), observed(model, first, needs))


@NEEDS
def test_positions_of_weight_zero_are_not_heard(needs):
    """Where the model keeps positions apart, their content changes nothing."""
    layers = [L.Dense(8, "tanh"), L.TimeDistributed(L.Dense(7, "tanh")), L.Dense(3)]
    model = zoo.compiled(keras.Sequential([keras.Input((5, 6)), *layers]))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 5, 6)).astype("float32"), rng.integers(3, size=(16, 5))
    weights = (rng.random((16, 5)) < 0.6) * 1.0
    rubbish = np.where(weights[..., None] == 0, 50.0, x).astype("float32")
    assert_same(
        observed(model, (rubbish, y, weights), needs), observed(model, (x, y, weights), needs)
    )
    counts = observed(model, (x, y, weights), needs)
    assert [c[0].inputs.count for c in counts.values()] == [pytest.approx(weights.sum())] * 3


@pytest.mark.parametrize("given", ["whole samples", "one output"])
def test_weights_of_samples_count_where_a_loss_is_of_positions(given):
    """As Keras takes them, with an axis more, or for another output alone."""
    model, x, y, _ = of_positions()
    rng = np.random.default_rng(1)
    weights = rng.integers(3, size=(16, 1)) * 1.0
    positions = {"seg": np.repeat(weights, 5, axis=1), "depth": np.repeat(weights, 5, axis=1)}
    some, more = {"seg": weights, "depth": weights}, positions
    if given == "one output":
        some, more = (
            {"seg": positions["seg"], "depth": None},
            {**positions, "depth": np.ones((16, 5))},
        )
    assert_same(observed(model, (x, y, some), BOTH), observed(model, (x, y, more), BOTH))


# --- targets that a loss ignores ----------------------------------------------------------


def of_positions(form=dict, outputs=2):
    """A model that keeps positions apart, with rubbish where one of its losses ignores them."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 6))
    h = L.Dense(7, "tanh", name="h")(L.Dense(8, "tanh", name="first")(inputs))
    heads = [L.Dense(3, "softmax", name="seg")(h), L.Dense(2, name="depth")(h)][:outputs]
    losses = [keras.losses.SparseCategoricalCrossentropy(ignore_class=-1), "mse"][:outputs]
    rng = np.random.default_rng(0)
    y = [rng.integers(3, size=(16, 5)), rng.integers(-1, 2, size=(16, 5, 2))][:outputs]
    void = rng.random((16, 5)) < 0.4
    void[::4] = True
    y[0][void] = -1
    x = rng.normal(size=(16, 5, 6))
    x[void] *= 50
    if outputs == 1:
        model, y = keras.Model(inputs, heads[0]), y[0]
    else:
        model = keras.Model(inputs, nested(form, heads))
        y = nested(form, y)
    model.compile("sgd", nested(form, losses))
    return model, x.astype("float32"), y, void


def nested(form, parts):
    return parts if form is list else form(zip(["seg", "depth"], parts, strict=False))


@NEEDS
@pytest.mark.parametrize("form", [dict, OrderedDict, list])
@pytest.mark.parametrize("outputs", [1, 2])
def test_what_a_loss_ignores_has_weight_0(form, outputs, needs):
    """Of that output: its number may be a target of another."""
    model, x, y, void = of_positions(form, outputs)
    given, weight = Samples(x, y), 1.0 * ~void
    if outputs == 2:
        weight = nested(form, [weight, np.ones((16, 1))])
    else:
        kept = ~void.all(axis=1)
        assert len(given.heard(model)) == kept.sum(), "whole samples are not observed"
    expected = Samples(x, y, weight).counting
    kernels = find_kernels(model)
    found, wanted = (collect(model, kernels, s, needs) for s in (given.heard(model), expected))
    assert_same(found, wanted)
    if outputs == 1:
        assert found["first/kernel"][0].inputs.count == (~void).sum()


@pytest.mark.parametrize("axis", [-1, 1, 2])
def test_ignored_targets_weigh_nothing_on_top_of_weights(axis):
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=255, axis=axis)
    model = keras.Sequential([keras.Input((4, 4)), L.Dense(4)])
    y = np.array([[0, 1, 255, 2], [255, 255, 255, 255], [3, 0, 1, 2]])
    more = np.expand_dims(y, axis)
    counts = y != 255

    def found(y, weight):
        return _keras.weights_of_counted(model, y, weight)

    assert found(y, None) is None, "not compiled"
    model.compile("sgd", loss)
    np.testing.assert_array_equal(found(y, None), counts)
    np.testing.assert_array_equal(found(more, None), counts)
    np.testing.assert_array_equal(found(y, np.array([2, 1, 0])), counts * [[2], [1], [0]])
    np.testing.assert_array_equal(found(y, np.array([[2], [1], [0]])), counts * [[2], [1], [0]])
    weights = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(found(y, weights), counts * weights)
    assert found(y[2:], weights[2:]) is not None
    assert found(y[2:], None) is None, "nothing is ignored"
    model.compile("sgd", {"only": loss})
    np.testing.assert_array_equal(found(y, None), counts)
    np.testing.assert_array_equal(found([y], None)[0], counts)
    loss.ignore_class = (0, 255)  # of a loss of one's own, who knows what
    assert found(y, None) is None


@pytest.mark.parametrize("source", ["fit", "batches", "calibration"])
@pytest.mark.parametrize("criterion", ["activation", "fisher"])
def test_what_a_loss_ignores_changes_no_factor(criterion, source):
    """Nor what is told of the answers."""
    _, x, y, void = of_positions(outputs=1)
    found = []
    for size in (1.0, 30.0):
        model, *_ = of_positions(outputs=1)
        model.optimizer.learning_rate = 0.0
        given = np.where(void[..., None], size * x, x)
        data = tf.data.Dataset.from_tensor_slices((given, y)).batch(8)
        calibration = (given, y) if source == "calibration" else None
        scheduler = RankScheduler(rank=2, criterion=criterion, calibration=calibration)
        fit = {"x": data} if source == "batches" else {"x": given, "y": y}
        model.fit(**fit, shuffle=False, verbose=0, callbacks=[scheduler])
        error = scheduler.report.cuts[0].output_error
        found.append([*(np.array(w) for w in model.weights), np.array(error or 0.0)])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_weights_that_say_nothing_are_refused(weight):
    model, x, y = of_dense()
    weights = np.ones(len(x))
    weights[3] = weight
    with pytest.raises(ArgumentError, match=r"finite and at least 0.*Received"):
        factorize(model, rank=2, criterion="activation", calibration=(x, y, weights))
    with pytest.raises(ArgumentError, match="weight above 0"):
        factorize(model, rank=2, criterion="activation", calibration=(x, y, np.zeros(len(x))))


# --- in a fit -----------------------------------------------------------------------------


@pytest.mark.parametrize("room", [1e9, 1e3])
def test_samples_of_weight_0_are_kept_where_there_is_room(room, monkeypatch):
    monkeypatch.setattr(sample_collector, "ROOM", room)
    monkeypatch.setattr(_keras, "batches_ahead", lambda model, take: take)
    model, x, y = of_dense(64)
    collector, weights = SampleCollector(model, 16), (np.arange(64) % 8 == 0) * 1.0
    for start in range(0, 64, 8):
        part = slice(start, start + 8)
        collector._take((x[part], y[part], weights[part]))
    assert collector.count == len(collector.samples()) == 8
    np.testing.assert_array_equal(collector.every().x, x if room > 1e6 else x[::8])


@pytest.mark.parametrize("source", ["arrays", "dataset"])
def test_weights_and_class_weights_of_a_fit_are_heard(source):
    model, x, y = of_dense(32)
    collector = None

    class GuardRun(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            nonlocal collector
            collector = SampleCollector(self.model, 16)

        def on_train_batch_begin(self, batch, logs=None):
            if collector.ahead.is_asked:
                loop = _keras.loop_of(self)
                _keras.before_step(self.model, lambda: None, collector.ahead, loop=loop)

    weights = np.arange(32) % 2
    if source == "arrays":
        given = {
            "x": x,
            "y": y,
            "sample_weight": weights,
        }
    else:
        given = {"x": tf.data.Dataset.from_tensor_slices((x, y)).batch(8)}
        given["class_weight"] = {0: 0.0, 1: 1.0, 2: 3.0}
        weights = np.array([0, 1, 3])[y]
    model.fit(
        **given,
        shuffle=False,
        batch_size=8 if source == "arrays" else None,
        verbose=0,
        callbacks=[GuardRun()],
    )
    seen = collector.samples()
    np.testing.assert_array_equal(seen.x, x[weights > 0][: len(seen)])
    np.testing.assert_array_equal(seen.weight, weights[weights > 0][: len(seen)])
    assert len(seen) >= 16


@pytest.mark.parametrize("criterion", ["activation", "fisher"])
def test_what_does_not_count_changes_no_factor_of_a_fit(criterion):
    weights = np.arange(64) % 2
    _, x, y = of_dense(64)
    found = []
    for size in (1.0, 30.0):
        keras.utils.set_random_seed(2)
        model = keras.Sequential([keras.Input((6,)), L.Dense(16, "tanh"), L.Dense(3)])
        zoo.compiled(model, keras.optimizers.SGD(0.0))
        given = np.where(weights[:, None] == 0, size * x, x)
        scheduler = RankScheduler(rank=2, criterion=criterion)
        model.fit(given, y, sample_weight=weights, epochs=2, verbose=0, callbacks=[scheduler])
        assert scheduler.report.ranks
        found.append([np.array(w) for w in model.weights])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


# --- masks --------------------------------------------------------------------------------


class Plus(L.Layer):
    """Adds positions with an operation, at which Keras's masks end."""

    def build(self, shape):
        self.inner = L.Dense(6, "tanh")
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x + 0.1) + x

    def compute_output_shape(self, shape):
        return shape


class OwnMask(keras.Model):
    """Takes its mask as an input, and hands it on as an argument."""

    def __init__(self):
        super().__init__()
        self.wide = L.Dense(6, "tanh")
        self.attend = L.MultiHeadAttention(2, 3)
        self.last = L.Dense(3)

    def call(self, inputs):
        mask = keras.ops.cast(inputs["padding_mask"], "bool")
        x = self.wide(inputs["x"])
        x = x + self.attend(x, x, attention_mask=mask[:, None, :])
        weights = keras.ops.cast(mask, x.dtype)[..., None]
        return self.last(keras.ops.sum(x * weights, 1) / keras.ops.sum(weights, 1))


def attention(words):
    x = L.Embedding(9, 6, mask_zero=True)(words)
    x = L.MultiHeadAttention(2, 3, name="attend")(x, x)
    return L.GlobalAveragePooling1D()(L.Dense(6, "tanh")(x))


def chained(*layers):
    def through(words):
        x = L.Embedding(9, 6, mask_zero=True)(words)
        for layer in layers:
            x = layer()(x)
        return x

    return through


MASKED = {
    "attention": attention,
    "recurrent": chained(
        lambda: L.Bidirectional(L.LSTM(4, return_sequences=True)), lambda: L.GRU(4)
    ),
    "steps": chained(lambda: L.TimeDistributed(L.Dense(5)), lambda: L.GlobalAveragePooling1D()),
    "pooled": chained(lambda: L.Dense(7, "tanh"), lambda: L.GlobalAveragePooling1D()),
}


@NEEDS
@pytest.mark.parametrize("name", MASKED)
def test_more_padding_says_nothing(name, needs):
    words = keras.Input((None,), dtype="int32")
    model = zoo.compiled(keras.Model(words, L.Dense(3, name="out")(MASKED[name](words))))
    rng = np.random.default_rng(0)
    x, y = rng.integers(1, 9, size=(20, 5)), rng.integers(3, size=20)
    x[np.arange(5) >= rng.integers(2, 6, 20)[:, None]] = 0
    more = np.concatenate([x, np.zeros((20, 4), int)], axis=1)
    expected = observed(model, (x, y), needs)
    assert_same(observed(model, (more, y), needs), expected)
    first = expected["embedding/embeddings"][0].inputs
    assert first.counts[0] == 0, "padding is no word"
    assert first.counts.sum() == (x > 0).sum()


@NEEDS
def test_padding_is_not_heard_where_an_operation_drops_the_mask(needs):
    x = keras.Input((4, 6))
    h = Plus(name="plus")(L.Masking()(x) * 1.0)
    model = zoo.compiled(keras.Model(x, L.Dense(3)(keras.ops.max(h, axis=1))))
    rng = np.random.default_rng(0)
    data, y = rng.normal(size=(12, 4, 6)).astype("float32"), rng.integers(3, size=12)
    data[:, 3:] = 0
    found = observed(model, (data, y), needs)["plus/inner/kernel"][0].inputs
    assert found.count == 36


@pytest.mark.parametrize("layer", [L.LSTM, L.GRU, L.SimpleRNN])
def test_a_loop_that_is_listened_to_computes_the_same(layer):
    """Also backwards, where positions are masked."""
    words = keras.Input((None,), dtype="int32")
    x = L.Embedding(9, 6, mask_zero=True)(words)
    both = L.Bidirectional(layer(4, return_sequences=True), name="both")(x)
    model = keras.Model(words, L.Dense(3, name="after")(both))
    given = np.array([[3, 1, 2, 0], [4, 0, 0, 0], [5, 6, 7, 8]])
    expected = np.array(keras.Model(words, both)(given))[given > 0]
    found = observed(model, given)["after/kernel"][0].inputs
    np.testing.assert_allclose(found.mean, expected.mean(0), atol=1e-6)


@NEEDS
def test_masks_that_are_inputs_are_followed(needs):
    model = OwnMask()
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 5, 6)).astype("float32"), rng.integers(3, size=12)
    mask = (np.arange(5) < rng.integers(2, 6, 12)[:, None]).astype("int32")
    model({"x": x, "padding_mask": mask})
    zoo.compiled(model)
    rubbish = np.where(mask[..., None] == 0, 9.0, x).astype("float32")
    found, expected = (
        observed(model, ({"x": each, "padding_mask": mask}, y), needs) for each in (rubbish, x)
    )
    assert_same(found, expected)
    assert found["wide/kernel"][0].inputs.count == mask.sum()


def test_a_mask_that_was_taken_for_good_hides_nothing_later():
    words = keras.Input((4,), dtype="int32")
    x = L.LSTM(5)(L.Embedding(9, 6, mask_zero=True)(words))
    out = L.Dense(3, name="again")(L.RepeatVector(4)(x))
    model = keras.Model(words, out)
    found = observed(model, np.array([[1, 2, 0, 0]] * 8))
    assert found["again/kernel"][0].inputs.count == 32


def test_half_precision_does_not_overflow():
    policy = keras.mixed_precision.DTypePolicy("mixed_float16")
    layers = [L.Dense(8, dtype=policy), L.Dense(3, dtype=policy)]
    model = zoo.compiled(keras.Sequential([keras.Input((6,)), *layers]))
    _, x, y = of_dense(600)
    found = observed(model, (300 * x, y, np.full(600, 1e4)), BOTH)
    assert all(np.isfinite(each[0].inputs.scatter).all() for each in found.values())


@pytest.mark.parametrize("source", ["fit", "calibration"])
def test_that_a_loss_ignores_every_target_is_told(source):
    model, x, y, _ = of_positions(outputs=1)
    y[:] = -1
    if source == "calibration":
        notes = factorize(model, rank=2, calibration=(x, y)).notes
    else:
        scheduler = RankScheduler(rank=2)
        model.fit(x, y, verbose=0, callbacks=[scheduler])
        notes = scheduler.report.notes
    (told,) = [each for each in notes if "By plain energy" in each]
    assert "a target that the loss ignores: first/kernel, h/kernel" in told
