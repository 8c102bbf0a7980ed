"""Metrics have the names that Keras gives them in its logs, before a first step and after."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import keras
import numpy as np
import pytest

from reducible_train import _keras

CROSS = "sparse_categorical_crossentropy"
BOX, CLASS = np.zeros((4, 2), "float32"), np.zeros(4, "int32")
BOTH = {"cls": CLASS, "zbox": BOX}
LOSSES = {"cls": CROSS, "zbox": "mse"}
METRICS = {"cls": ["accuracy"], "zbox": ["mae"]}


def graph(answer: Callable[[Any, Any], Any]) -> Any:
    """A graph with two ends, `one` and `two`, nested as is said."""
    inputs = keras.Input((3,))
    one = keras.layers.Dense(2, name="one")(inputs)
    two = keras.layers.Softmax(name="two")(keras.layers.Dense(3)(inputs))
    return keras.Model(inputs, answer(one, two))


class Own(keras.Model):
    """The same, which tells its outputs by its call alone."""

    def __init__(self, answer: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.one, self.two = keras.layers.Dense(2), keras.layers.Dense(3, activation="softmax")
        self.answer = answer

    def call(self, inputs: Any) -> Any:
        return self.answer(self.one(inputs), self.two(inputs))


def as_dict(one: Any, two: Any) -> Any:
    return {"cls": two, "zbox": one}


def as_list(one: Any, two: Any) -> Any:
    return [one, two]


def first(one: Any, two: Any) -> Any:
    return one


def second(one: Any, two: Any) -> Any:
    return two


CASES: dict[str, tuple[Callable[[], Any], dict[str, Any], Any]] = {
    "keys": (lambda: graph(as_dict), {"loss": LOSSES, "metrics": METRICS}, BOTH),
    "keys, one loss": (
        lambda: graph(lambda one, two: {"zbox": one, "cls": one}),
        {"loss": "mse", "metrics": {"cls": ["mae"]}},
        {"zbox": BOX, "cls": BOX},
    ),
    "keys, weighted too": (
        lambda: graph(as_dict),
        {"loss": LOSSES, "metrics": METRICS, "weighted_metrics": METRICS},
        BOTH,
    ),
    "list": (
        lambda: graph(as_list),
        {"loss": ["mse", CROSS], "metrics": [["mae"], ["accuracy"]]},
        [BOX, CLASS],
    ),
    "list, by layers": (
        lambda: graph(as_list),
        {"loss": {"one": "mse", "two": CROSS}, "metrics": {"two": "accuracy"}},
        {"one": BOX, "two": CLASS},
    ),
    "list of one": (
        lambda: graph(lambda one, two: [two]),
        {"loss": [CROSS], "metrics": ["accuracy"], "weighted_metrics": ["accuracy"]},
        [CLASS],
    ),
    "nested": (
        lambda: graph(lambda one, two: {"q": {"cls": two, "zbox": one}, "r": one}),
        {"loss": {"q": LOSSES, "r": "mse"}, "metrics": {"q": METRICS, "r": ["mae"]}},
        {"q": BOTH, "r": BOX},
    ),
    "list of a key": (
        lambda: graph(lambda one, two: {"q": [one, two]}),
        {"loss": {"q": ["mse", CROSS]}, "metrics": {"q": [["mae"], ["accuracy"]]}},
        {"q": [BOX, CLASS]},
    ),
    "two losses": (
        lambda: graph(first),
        {"loss": ["mse", "mae"], "metrics": ["mae", "mae", keras.metrics.Precision]},
        BOX,
    ),
    "one": (
        lambda: graph(second),
        {"loss": CROSS, "metrics": ["acc"]},
        CLASS,
    ),
    "own, keys": (lambda: Own(as_dict), {"loss": LOSSES, "metrics": METRICS}, BOTH),
    "own, one": (
        lambda: Own(second),
        {"loss": CROSS, "metrics": ["accuracy"], "weighted_metrics": ["accuracy"]},
        CLASS,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_metrics_have_the_names_that_keras_gives_them(name):
    make, compiled, y = CASES[name]
    model, x = make(), np.zeros((4, 3), "float32")
    model(x)
    model.compile("sgd", run_eagerly=True, **compiled)
    before = _keras.logged_metrics(model)
    told = model.evaluate(x, y, verbose=0, return_dict=True)
    assert set(before) == set(told)
    assert _keras.logged_metrics(model) == before
    assert set(before.values()) <= {"up", "down"}


@pytest.mark.parametrize("name", CASES)
def test_which_metrics_keras_itself_knows_a_direction_of_is_known_before_a_step(name):
    make, compiled, y = CASES[name]
    model, x = make(), np.zeros((4, 3), "float32")
    model(x)
    model.compile("sgd", run_eagerly=True, **compiled)
    names = ["val_loss", "nonsense", *_keras.logged_metrics(model)]
    expected = {each: _keras.is_judged_by_keras(model, each) for each in names}
    model.evaluate(x, y, verbose=0)
    for each, is_known in expected.items():
        stop = keras.callbacks.EarlyStopping(each)
        stop.set_model(model)
        stop.on_train_begin()
        with nullcontext() if is_known else pytest.raises(ValueError, match="isn't able to"):
            stop.on_epoch_end(0, {each: 1.0})


UNKNOWN: dict[str, tuple[Any, dict[str, Any], Any, list[str]]] = {
    "keys": (as_dict, {"loss": "mse"}, {"cls": BOX[:, :1], "zbox": BOX}, ["cls_loss", "zbox_loss"]),
    "list": (as_list, {"loss": "mse"}, [BOX, BOX[:, :1]], ["mse_loss"]),
    "nested list": (
        as_list,
        {"loss": "mse", "metrics": [["mae"], ["mae"]]},
        [BOX, BOX[:, :1]],
        ["mse_loss", "mae", "mae_1"],
    ),
    "list, one each": (
        as_list,
        {"loss": "mse", "metrics": ["mae", "mse"]},
        [BOX, BOX[:, :1]],
        ["mse_loss", "mae", "mse"],
    ),
    "one of the keys": (
        as_dict,
        {"loss": {"zbox": "mse"}, "metrics": {"zbox": ["mae"]}},
        {"cls": BOX[:, :1], "zbox": BOX},
        ["zbox_mae"],
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_nothing_false_is_told_of_outputs_that_only_a_step_will_show(name):
    answer, compiled, y, wanted = UNKNOWN[name]
    model, x = Own(answer), np.zeros((4, 3), "float32")
    model(x)
    model.compile("sgd", run_eagerly=True, **compiled)
    assert _keras.logged_metrics(model) == {}
    assert "compile_metrics" not in _keras.metric_names(model)
    for each in ["loss", *wanted]:
        assert _keras.metrics_to_watch(model, f"val_{each}", "auto")[each] == "down"
    held = _keras.metrics_to_watch(model, "val_nonsense", "auto")
    assert "loss" in held
    assert "nonsense" not in held
    told = model.evaluate(x, y, verbose=0, return_dict=True)
    assert set(told) == {"loss", *wanted}
    assert set(_keras.logged_metrics(model)) == set(told)


def test_a_list_of_one_metric_tells_that_there_is_one_output():
    model = Own(second)
    model.compile("sgd", CROSS, metrics=["accuracy"])
    assert _keras.logged_metrics(model) == {"loss": "down", "accuracy": "up"}


def test_where_nobody_knows_the_outputs_directions_are_known_by_the_metrics_own_names():
    error = keras.metrics.MeanAbsoluteError(name="err")
    model = Own(as_list)
    model(np.zeros((4, 3), "float32"))
    model.compile("sgd", ["mse", CROSS], metrics=[[error], ["accuracy"]])
    assert _keras.logged_metrics(model) == {}
    assert _keras.metrics_to_watch(model, "val_err", "auto")["err"] == "down"
