"""What a model answers on samples, and how far two answers are apart."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from reducible_train.selection import answers
from reducible_train.selection.answers import (
    Answers,
    are_alike,
    outputs_of,
    relative_output_errors,
    some_of,
    worst,
)
from reducible_train.selection.samples import Samples


def _answers(*arrays, counts=None, name=""):
    return Answers(tuple({name: (np.asarray(a, float), counts)} for a in arrays))


def relative_output_error(before, after):
    return worst(relative_output_errors(before, after))


def test_the_error_is_the_share_of_the_variance_that_is_not_explained(rng):
    f = rng.normal(size=(50, 3)) * 7 + 100
    g = f + rng.normal(size=(50, 3))
    expected = ((g - f) ** 2).sum() / ((f - f.mean(0)) ** 2).sum()
    whole = relative_output_error(_answers(f), _answers(g))
    assert whole == pytest.approx(expected)
    parts = relative_output_error(_answers(f[:20], f[20:]), _answers(g[:20], g[20:]))
    assert parts == pytest.approx(expected), "batches are no matter"
    mean = np.broadcast_to(f.mean(0), f.shape)
    assert relative_output_error(_answers(f), _answers(mean)) == pytest.approx(1.0)
    assert relative_output_error(_answers(1e-3 * f), _answers(1e-3 * g)) == pytest.approx(expected)


def test_hidden_positions_and_light_samples_count_as_little_as_told(rng):
    f = rng.normal(size=(4, 6, 2))
    g = f + rng.normal(size=f.shape)
    counts = np.ones((4, 6))
    counts[:, 3:] = 0
    seen = relative_output_error(_answers(f, counts=counts), _answers(g, counts=counts))
    assert seen == pytest.approx(relative_output_error(_answers(f[:, :3]), _answers(g[:, :3])))
    twice = np.array([2.0, 1.0, 1.0, 0.0])
    rows = [0, 0, 1, 2]
    weighed = relative_output_error(_answers(f, counts=twice), _answers(g, counts=twice))
    assert weighed == pytest.approx(relative_output_error(_answers(f[rows]), _answers(g[rows])))


def test_what_has_no_spread_or_is_not_finite_is_told_apart():
    ones = np.ones((3, 2))
    assert relative_output_error(_answers(ones), _answers(ones)) == 0
    assert relative_output_error(_answers(ones), _answers(2 * ones)) == math.inf
    some = np.arange(6.0).reshape(3, 2)
    broken = some.copy()
    broken[1, 0] = np.nan
    assert relative_output_error(_answers(some), _answers(broken)) == math.inf
    holes = np.where(np.arange(6).reshape(3, 2) == 2, -np.inf, some)  # as masked logits have them
    assert relative_output_error(_answers(holes), _answers(holes)) == 0
    nothing = np.full((3, 2), np.nan)
    assert math.isnan(relative_output_error(_answers(nothing), _answers(nothing)))


def test_outputs_that_differ_by_round_off_alone_are_alike():
    ones = np.ones((3, 2), "float32") * np.array([1e-3, 1.0], "float32")
    noise = np.nextafter(ones, np.float32(2))
    noise[0] = ones[0]
    for values, expected in ((ones, True), (noise, True), (ones * [[1.0], [1.0], [1.001]], False)):
        parts = [(values[:1], None), (values[1:], None)]
        assert are_alike(Answers(tuple({"": part} for part in parts)), "") == expected
    counts = np.array([1.0, 1.0, 0.0])
    assert are_alike(Answers(({"": (ones * [[1.0], [1.0], [3.0]], counts)},)), "")
    assert not are_alike(Answers(({"": (1e-12 * np.arange(4.0), None)},)), "")


def test_each_output_has_its_own_error_and_the_worst_one_counts(rng):
    def both(left, right):
        return Answers(({"left": (left, None), "right": (right, None)},))

    f, g = 1e6 * rng.normal(size=(9, 2)), rng.normal(size=(9, 1))
    errors = relative_output_errors(both(f, g), both(f, -g))
    assert errors["left"] == 0
    assert errors["right"] > 1
    assert relative_output_error(both(f, g), both(f, -g)) == errors["right"]


LOOPS = {
    "masked, both ways": lambda: [
        keras.layers.Masking(),
        keras.layers.Bidirectional(keras.layers.LSTM(4, return_sequences=True)),
        keras.layers.GRU(3, go_backwards=True),
    ],
    "cells of cells": lambda: [
        keras.layers.RNN([keras.layers.SimpleRNNCell(4), keras.layers.GRUCell(3)]),
    ],
    "stateful": lambda: [keras.layers.LSTM(4, stateful=True)],
}


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("eager", [False, True])
def test_loops_answer_as_they_predict_and_are_left_as_they_were(name, eager, rng, caplog):
    model = keras.Sequential([keras.Input((5, 2), batch_size=8), *LOOPS[name]()])
    model.compile(run_eagerly=eager)
    x = rng.normal(size=(8, 5, 2)).astype("float32")
    x[3:, 4] = 0
    told = outputs_of(model, Samples(x)).batches[0][""][0]
    np.testing.assert_allclose(told, model.predict(x, verbose=0), atol=1e-6)
    assert "retracing" not in caplog.text
    loops = [each for each in model._flatten_layers() if isinstance(each, keras.layers.RNN)]
    assert loops
    assert not any("inner_loop" in vars(each) for each in loops)


def test_a_model_with_masks_dictionaries_and_whole_numbers_answers_and_stays_as_it_was():
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(20, 6, mask_zero=True)(tokens)
    x = keras.layers.LSTM(5, return_sequences=True)(x)
    each = keras.layers.Dense(3, name="each")(x)
    one = keras.layers.Dense(1, name="one")(keras.layers.GlobalAveragePooling1D()(x))
    model = keras.Model(tokens, {"each": each, "one": one, "chosen": keras.ops.argmax(each, -1)})
    model.compile("sgd", {"each": "mse", "one": "mse"}, metrics={"one": ["mae"]})
    short = np.array([[1, 2, 3, 0], [4, 5, 0, 0]], "int32")
    long = np.array([[1, 2, 3, 4, 5, 6]], "int32")
    samples = Samples(short, more=(Samples(long),))
    before = [v.numpy().copy() for v in model.variables]
    told = outputs_of(model, samples)
    assert [set(batch) for batch in told.batches] == [{"each", "one", "chosen"}] * 2
    values, counts = told.batches[0]["each"]
    assert values.shape == (2, 4, 3)
    assert counts.tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]
    assert told.batches[0]["one"][1] is None
    assert relative_output_error(told, outputs_of(model, samples)) == 0
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_metrics_are_those_of_evaluate_and_its_own_are_not_touched(rng):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    model.compile(
        "sgd",
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        weighted_metrics=["sparse_categorical_crossentropy"],
    )
    x, y = rng.normal(size=(300, 4)).astype("float32"), rng.integers(0, 3, 300)
    weight = rng.uniform(1, 2, 300).astype("float32")
    expected = model.evaluate(
        x, y, sample_weight=weight, batch_size=256, return_dict=True, verbose=0
    )
    kept = [v.numpy().copy() for v in model.metrics_variables]
    told = outputs_of(model, Samples(x, y, weight), judged=True).metrics
    assert told == pytest.approx(expected, rel=1e-5)
    for variable, value in zip(model.metrics_variables, kept, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_so_many_samples_are_taken_as_their_outputs_allow(rng, monkeypatch):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
    samples = Samples(np.arange(400.0).reshape(100, 4), np.arange(100))
    assert len(some_of(model, samples)) == 100
    few = some_of(model, samples, 10)
    assert few.y.tolist() == list(range(0, 100, 11)), "from all of them, not the first"
    monkeypatch.setattr(answers, "_NUMBERS", 40)
    assert len(some_of(model, samples)) == 5
    parts = Samples(np.zeros((90, 4)), more=(Samples(np.ones((10, 4))),))
    monkeypatch.undo()
    assert [len(each) for each in (some_of(model, parts, 20), *some_of(model, parts, 20).more)] == [
        20,
        2,
    ]
