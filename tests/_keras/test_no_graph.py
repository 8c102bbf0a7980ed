"""A Sequential model of which Keras can build no graph is as one that calls layers by code."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from reducible_train import (
    RankScheduler,
    SurgeryError,
    _keras,
    analyze,
    factorize,
    load_model,
    save_model,
    to_stock_layers,
)

L = keras.layers
X = np.random.default_rng(3).normal(size=(32, 16)).astype("float32")
Y = np.tanh(X[:, :3])


class Twice(L.Layer):
    """It cannot be called without data, as layers that wrap modules of torch's cannot."""

    def compute_output_spec(self, *args, **kwargs):
        raise NotImplementedError

    def call(self, x):
        return 2 * x


class Stack(keras.Model):
    def __init__(self, *layers):
        super().__init__()
        for layer in layers:
            setattr(self, layer.name, layer)
        self.order = [layer.name for layer in layers]

    def call(self, x):
        for name in self.order:
            x = getattr(self, name)(x)
        return x


def layers():
    keras.utils.set_random_seed(3)
    return [L.Dense(24, name="a"), Twice(name="t"), L.Dense(24, name="b"), L.Dense(3, name="o")]


def in_a_row(*more):
    return lambda: keras.Sequential([*more, *layers()])


def in_another():
    first, twice, *last = layers()
    return keras.Sequential([keras.Sequential([keras.Input((16,)), first, twice]), *last])


WAYS = {"of known inputs": in_a_row(keras.Input((16,))), "of any": in_a_row(), "nested": in_another}


def compiled(model):
    model.compile("sgd", "mse", run_eagerly=True)
    return model


def cut(model):
    scheduler = RankScheduler(0.6)
    compiled(model).fit(X, Y, epochs=2, shuffle=False, verbose=0, callbacks=[scheduler])
    return [(each.path.split("/")[-2], each.rank) for each in scheduler.report.kernels]


@pytest.mark.parametrize("way", WAYS)
def test_it_is_cut_and_measured_as_by_code(way, tmp_path):
    model = WAYS[way]()
    ranks = cut(model)
    assert ranks == cut(Stack(*layers()))
    assert [name for name, rank in ranks if rank] == ["a", "b"]
    assert not _keras.has_graph(model)
    save_model(model, tmp_path / "model.reducible", None)
    loaded = load_model(tmp_path / "model.reducible", {"Twice": Twice})
    np.testing.assert_array_equal(np.array(loaded(X)), np.array(model(X)))


def test_samples_are_run_through_it():
    model = compiled(WAYS["of known inputs"]())
    model(X)
    assert len(analyze(model, (X, Y), samples=16, ratios=(0.5,)).kernels) == 2
    report = factorize(model, 0.6, calibration=(X, Y))
    assert all(each.output_error for each in report.kernels if each.rank)
    with pytest.raises(
        SurgeryError, match=r"'a' is in a Sequential model of which Keras can build"
    ):
        to_stock_layers(model)
