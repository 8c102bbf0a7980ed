"""Laws of models that leave lengths open: what a budget counts, and where the length comes from."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from reducible_train import (
    ArgumentError,
    Flops,
    Ramp,
    RankScheduler,
    factorize,
)
from reducible_train.config import parse_config
from reducible_train.errors import ConfigError
from reducible_train.settings.measures import Latency
from reducible_train.settings.measures.shapes import checked_input_shape

L = keras.layers
pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras's, of an end


def text(length=None, words=40):
    given = keras.Input((length,), dtype="int32", name="words")
    x = L.Embedding(words, 24, mask_zero=True)(given)
    x = L.MultiHeadAttention(2, 12)(x, x)
    x = L.LSTM(24, return_sequences=True)(x)
    x = L.GlobalAveragePooling1D()(L.Dense(32, "relu")(x))
    return built(keras.Model(given, L.Dense(3)(x)))


def image(size=None):
    given = keras.Input((*(size or (None, None)), 3))
    x = L.Conv2D(24, 3, strides=2, padding="same")(given)
    x = L.GlobalAveragePooling2D()(L.Conv2D(32, 3)(x))
    return built(keras.Model(given, L.Dense(3)(x)))


def light(length=None):
    """A text model that is quick to train."""
    given = keras.Input((length,), dtype="int32", name="words")
    x = L.Dense(32, "relu")(L.Embedding(40, 24)(given))
    return built(keras.Model(given, L.Dense(3)(L.GlobalAveragePooling1D()(x))))


class TwoInputs(keras.Model):
    """Takes a dictionary; built by a call, which does not tell Keras its shapes."""

    def __init__(self):
        super().__init__()
        self.table, self.wide = L.Embedding(40, 24), L.Dense(32, "relu")
        self.join, self.last = L.Dense(24), L.Dense(3)

    def call(self, inputs):
        x = self.wide(self.table(inputs["words"]))
        return self.last(self.join(x) + inputs["extra"][:, None, :])


def built(model):
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def words(samples=16, length=7, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(1, 40, size=(samples, length)), rng.integers(3, size=samples)


def flops(report):
    return report.dense_flops, report.flops


def counting(calls, rounds):
    """A timer that tells how many numbers a layer holds: the same every time."""
    return [1e-9 * sum(int(np.prod(v.shape)) for v in call.layer.weights) for call in calls]


# --- whatever tells a length, it is the same as one that is built in ------------------------


@pytest.mark.parametrize("told", ["calibration", "input_shape", "by name"])
def test_a_text_model_counts_as_one_of_that_length(told):
    x, _ = words()
    expected = flops(factorize(text(7), budget=0.6, measure="flops"))
    ways = {
        "calibration": {"calibration": x, "criterion": "activation", "measure": "flops"},
        "input_shape": {"measure": Flops(input_shape=(7,))},
        "by name": {"measure": Flops(input_shape={"words": [7]})},
    }
    report = factorize(text(), budget=0.6, **ways[told])
    assert report.dense_flops == expected[0]
    assert report.flops <= 0.6 * expected[0]
    source = "calibration" if told == "calibration" else "input_shape"
    assert f"at input shape (7,), from {source}" in str(report)


def test_a_batch_is_timed_at_the_shape_that_was_told():
    timed = []

    def timer(calls, rounds):
        timed.extend(call.run for call in calls)
        return counting(calls, rounds)

    report = factorize(text(), budget=0.9, measure=Latency(input_shape=(7,), timer=timer))
    assert timed
    assert "It is that at input shape (7,), from input_shape." in str(report)


@pytest.mark.parametrize(
    "shape", [b"x", bytearray(b"x"), memoryview(b"x"), [b"x"], {"words": b"x"}]
)
def test_texts_are_no_shapes(shape):
    with pytest.raises(ArgumentError, match="must be the shape of one sample"):
        Flops(input_shape=shape)


def test_images_of_any_size_and_models_that_take_several_inputs_count():
    pictures = np.zeros((8, 12, 10, 3), "float32")
    found = factorize(image(), budget=0.7, measure="flops", calibration=pictures)
    assert found.dense_flops == factorize(image((12, 10)), rank=4).dense_flops
    shapes = {"words": (5,), "extra": (24,)}
    given = {"words": np.zeros((4, 5), int), "extra": np.zeros((4, 24), "float32")}
    flops_of = Flops(input_shape=shapes)
    for way in ({"measure": flops_of}, {"measure": "flops", "calibration": given}):
        model = TwoInputs()
        model({"words": given["words"][:, :2], "extra": given["extra"]})
        found = factorize(model, budget=0.8, **way)
        assert found.dense_flops == 2 * (24 * 32 + 32 * 24 + 24 * 3) * 5
        assert "(24,)" in found.flops_at
        assert "(5,)" in found.flops_at


def test_lengths_that_a_layer_makes_of_words_count():
    lines = np.array([["a b c d"], ["a b"], ["c a d"]])
    vectors = L.TextVectorization(vocabulary=["a", "b", "c", "d"])
    x = L.Dense(32)(L.Embedding(6, 24)(vectors(given := keras.Input((1,), dtype="string"))))
    model = keras.Model(given, L.Dense(3)(L.GlobalAveragePooling1D()(x)))
    found = factorize(model, budget=0.9, measure="flops", calibration=lines)
    assert found.dense_flops == 2 * (24 * 32 * 4 + 32 * 3)


def test_of_several_lengths_the_mean_counts():
    batches = [words(n, length) for n, length in ((4, 4), (12, 8))]
    found = factorize(text(), rank=4, calibration=iter(batches), criterion="activation")
    assert found.dense_flops == factorize(text(7), rank=4).dense_flops


@pytest.mark.parametrize(
    ("source", "measure"),
    [
        ("arrays", "flops"),
        ("dataset", "latency"),
        ("batches of many lengths", "flops"),
        ("batches of many lengths", "latency"),
    ],
)
def test_a_fit_tells_the_lengths_of_its_data(source, measure):
    x, y = words(32)
    lengths = {"batches of many lengths": [7, 5, 6, 7]}.get(source, [7] * 4)
    parts = [(x[i : i + 8, :n], y[i : i + 8]) for i, n in zip((0, 8, 16, 24), lengths, strict=True)]
    spec = (tf.TensorSpec((None, None), tf.int64), tf.TensorSpec((None,), tf.int64))
    given = {
        "arrays": {"x": x, "y": y},
        "dataset": {"x": tf.data.Dataset.from_tensor_slices((x, y)).batch(8)},
        "batches of many lengths": {
            "x": tf.data.Dataset.from_generator(lambda: iter(parts), output_signature=spec)
        },
    }[source]
    kind = Latency(timer=counting) if measure == "latency" else measure
    model, scheduler = light(), RankScheduler(budget=0.6, measure=kind)
    model.fit(**given, epochs=2, shuffle=False, verbose=0, callbacks=[scheduler])
    report = scheduler.report
    assert report.cuts[0].step == 0
    vary = source == "batches of many lengths"  # 6.25 in the mean
    length, told = (6, "the first batches") if vary else (7, "the data of the fit")
    assert report.dense_flops == factorize(light(length), rank=4).dense_flops
    assert report.flops_at == f"input shape ({length},), from {told}"


def test_a_report_counts_though_the_budget_does_not():
    """The cut is where it would have been; FLOPs are known from the first batches."""
    x, y = words(16)
    spec = (tf.TensorSpec((None, None), tf.int64), tf.TensorSpec((None,), tf.int64))
    data = tf.data.Dataset.from_generator(lambda: iter([(x, y)]), output_signature=spec)
    model, scheduler = light(), RankScheduler(budget=0.6)
    model.fit(data, epochs=2, shuffle=False, verbose=0, callbacks=[scheduler])
    assert scheduler.report.cuts[0].step == 0
    assert scheduler.report.flops_at == "input shape (7,), from the first batches"
    assert "reducible_train" not in model.train_function.__module__


# --- what is refused ----------------------------------------------------------------------


def test_a_budget_that_no_length_can_be_had_for_is_refused_with_the_way_out():
    for measure in ("flops", "latency"):
        with pytest.raises(ArgumentError, match=r"lengths open|without data.*input_shape="):
            factorize(text(), budget=0.5, measure=measure)


@pytest.mark.parametrize("wrong", ["12", (0,), (2.5,), [(3,), "x"], {}, {"words": 7}, 7])
def test_what_is_no_shape_is_refused(wrong):
    with pytest.raises(ArgumentError, match="`input_shape` must be the shape of one sample"):
        checked_input_shape(wrong)
    with pytest.raises(ArgumentError, match="input_shape="):
        RankScheduler(budget=0.5, measure=Flops(input_shape=wrong))


@pytest.mark.parametrize("wrong", [(3, 4), [(3,), (4,)], {"nobody": (3,)}])
def test_a_shape_of_another_model_is_refused(wrong):
    with pytest.raises(ArgumentError, match=r"model 'functional.*words \(None,\).*Received"):
        factorize(text(), budget=0.5, measure=Flops(input_shape=wrong))


# --- configurations -----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [[7], [[7]], {"words": [7]}])
def test_a_configuration_names_the_shape(shape):
    values = {"budget": 0.6, "measure": {"name": "flops", "input_shape": shape}}
    config = parse_config({"compression": values})
    config.check(text())
    (scheduler,) = config.callbacks()
    assert factorize(text(), budget=0.6, measure=scheduler.measure)


def test_a_configuration_without_a_shape_waits_for_the_data():
    config = parse_config({"compression": {"budget": 0.6, "measure": "flops"}})
    config.check(text())
    values = {"budget": 0.6, "measure": {"name": "flops", "input_shape": [3, 3]}}
    with pytest.raises(ConfigError, match=r"compression\.measure\.input_shape"):
        parse_config({"compression": values}).check(text())
    with pytest.raises(ConfigError, match=r"compression\.measure\.input_shape"):
        parse_config(
            {"compression": {"budget": 0.6, "measure": {"name": "flops", "input_shape": [0]}}}
        )


def test_a_budget_that_no_ranks_meet_is_refused_before_the_fit_begins():
    x, y = words()
    scheduler = RankScheduler(budget=Ramp(1.0, 1e-4, start_epoch=1, end_epoch=2), measure="flops")
    with pytest.raises(Exception, match="smallest possible fraction of FLOPs"):
        light().fit(x, y, epochs=4, verbose=0, callbacks=[scheduler])
