"""Whoever listens to a model leaves it as it was: a law over layers that hold state."""

from __future__ import annotations

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
import zoo

from reducible_train import Latency, _keras, factorize
from reducible_train._keras.data import observing
from reducible_train.layers import find_kernels
from reducible_train.selection.calibration import samples_of
from reducible_train.selection.costs.latency import LatencyCosts
from reducible_train.selection.sample_checks import check_samples
from reducible_train.selection.statistics import collect
from reducible_train.surgery.growth import whole_gradients

L = keras.layers


class Counts(L.Layer):
    """Counts its calls: in a variable, in one of TensorFlow's own, and in a plain number."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.own = tf.Variable(0.0)
        self.number = 0

    def call(self, x):
        self.calls.assign_add(1.0)
        self.own.assign_add(1.0)
        self.number += 1
        self.add_loss(1e-3 * keras.ops.mean(x**2))
        return x


class Sharpens(L.Layer):
    """Gives values to a weight that is trained, in every call."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        self.scale.assign(self.scale * 1.01)
        return x * self.scale


class Noise(L.Layer):
    """Random numbers outside of training too."""

    def __init__(self):
        super().__init__()
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, x):
        return x + 0.01 * keras.random.normal(keras.ops.shape(x), seed=self.seeds)


class Draws(L.Layer):
    """Random numbers of Python and numpy, as no seed of Keras's decides them."""

    def call(self, x):
        return x * (1 + 0.01 * random.random() * float(np.random.rand()))


class Measures(L.Layer):
    """A metric that is fed by a call."""

    def __init__(self):
        super().__init__()
        self.mean = keras.metrics.Mean()

    def call(self, x):
        self.mean.update_state(x)
        return x


LAYERS = {
    "counter": Counts,
    "assigned weight": Sharpens,
    "seeds": Noise,
    "random numbers": Draws,
    "metric": Measures,
    "statistics": L.BatchNormalization,
    "dropout": lambda: L.Dropout(0.5),
    "spectral": lambda: L.SpectralNormalization(L.Dense(12)),
    "stateful": lambda: keras.Sequential([L.Reshape((3, 4)), L.LSTM(12, stateful=True)]),
}


def everything(model):
    """All that a call could change, outside of the model too."""
    layers = [model, *(layer for _, layer in _keras.walk(model))]
    variables = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
    numbers = [(v.own.numpy(), v.number) for v in layers if isinstance(v, Counts)]
    keys = [{name for name in vars(layer) if name != "_losses"} for layer in layers]
    random_numbers = (random.getstate(), repr(np.random.get_state()))
    return (
        [np.array(v) for v in variables],
        numbers,
        keys,
        [float(v) for v in model.losses],
        (random_numbers),
    )


def listen(how, model, samples):
    kernels = find_kernels(model)
    if how in ("activation", "fisher"):
        collect(model, kernels, samples, ("inputs", "gradients")[: 1 + (how == "fisher")])
    elif how == "regrow":
        whole_gradients(model, [k for k in kernels if k.rank], samples)
    elif how == "trial":
        check_samples(samples, model, None, run=True)
        check_samples(samples, model, "Regrow", run=True)
    else:
        layers = [k.layer for k in kernels]
        calls = _keras.trace_calls(model, layers)
        _keras.trace_calls(model, layers, samples.x, values=True)
        _keras.assigned_in_calls(model, set[int]().add)
        LatencyCosts.of(Latency(rounds=1), model, kernels, {}, calls)


@pytest.fixture(scope="module", params=LAYERS)
def trained(request):
    keras.utils.set_random_seed(3)
    middle = LAYERS[request.param]()
    model = keras.Sequential([keras.Input(batch_shape=(8, 6)), L.Dense(12), middle, L.Dense(3)])
    zoo.compiled(model, metrics=["accuracy"], run_eagerly=True)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 6)).astype("float32"), rng.integers(3, size=16)
    factorize(model, rank=2)
    model.train_on_batch(x[:8], y[:8])
    model(x[:8])
    return model, samples_of((x, y))


@pytest.mark.parametrize("how", ["activation", "fisher", "regrow", "trial", "shapes and times"])
def test_who_listens_leaves_everything_as_it_was(trained, how):
    model, samples = trained
    before = everything(model)
    listen(how, model, samples)
    after = everything(model)
    for one, other in zip(before[0], after[0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert after[1:] == before[1:]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's scopes")
def test_a_name_that_no_graph_takes_is_in_no_path_of_a_later_model():
    named = keras.Sequential([keras.Input((6,)), L.Dense(12, name="häufig 1"), L.Dense(3)])
    zoo.compiled(named, run_eagerly=True)
    samples = samples_of((np.ones((8, 6), "float32"), np.zeros(8)))
    assert _keras.trace_calls(named, named.layers) is None, "it is refused, which is the point"
    factorize(named, rank=2, criterion="fisher", calibration=(samples.x, samples.y))
    later = keras.Sequential([keras.Input((6,)), L.Dense(3, name="later")], name="plain")
    assert later.weights[0].path == "plain/later/kernel"


def test_no_scope_outlives_a_look():
    with keras.name_scope("outer"):
        with _keras.untouched_process():
            keras.name_scope("left open").__enter__()
        assert keras.Variable(1.0, name="v").path == "outer/v"
    assert keras.Variable(1.0, name="v").path == "v"


def test_teacher_and_student_are_left_alone():
    def part():
        return keras.Sequential([keras.Input((6,)), L.Dense(12), Counts(), L.Dense(3)])

    teacher, student = part(), part()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = keras.distillation.Distiller(
        teacher, student, keras.distillation.LogitsDistillation(), distillation_loss_weights=[1.0]
    )
    model.compile("sgd", loss=loss)
    rng = np.random.default_rng(0)
    samples = samples_of((rng.normal(size=(16, 6)).astype("float32"), rng.integers(3, size=16)))
    counters = [each.layers[1] for each in (teacher, student)]
    before = [(float(c.calls), float(c.own), c.number) for c in counters]
    collect(model, find_kernels(student), samples, ("inputs", "gradients"))
    assert [(float(c.calls), float(c.own), c.number) for c in counters] == before


class Inner(keras.Model):
    """A model within a model, fed by its call: Keras leaves out its metrics."""

    def __init__(self):
        super().__init__()
        self.wide, self.mean = L.Dense(12), keras.metrics.Mean()

    def call(self, x):
        self.mean.update_state(x)
        return self.wide(x)


class Tells(keras.Sequential):
    """Tells other metrics than those that it is compiled with."""

    @property
    def metrics(self):
        return [self._loss_tracker]


def one_output():
    model = keras.Sequential([keras.Input((6,)), L.Dense(12), L.Dense(3, "softmax")])
    model.compile(
        "sgd", "mse", metrics=["accuracy", keras.metrics.F1Score()], weighted_metrics=["mae"]
    )
    return model, 3, lambda: model.get_metrics_result().values()


def two_outputs():
    given = keras.Input((6,))
    x = L.Dense(12)(given)
    model = keras.Model(given, [L.Dense(3)(x), L.Dense(3)(x)])
    model.compile("sgd", ["mse", "mae"], metrics=[["mae"], ["mse"]])
    return model, (3, 3), lambda: model.get_metrics_result().values()


def within():
    model = keras.Sequential([keras.Input((6,)), Inner(), L.Dense(3)])
    model.compile("sgd", "mse", metrics=["mae"])
    inner = model.layers[0]
    return model, 3, lambda: [*model.get_metrics_result().values(), inner.mean.result()]


def others_told():
    model = Tells([keras.Input((6,)), L.Dense(12), L.Dense(3)])
    model.compile("sgd", "mse", metrics=["mae"])
    return model, 3, lambda: model._compile_metrics.result().values()


def distilled():
    teacher, student = (keras.Sequential([keras.Input((6,)), L.Dense(3)]) for _ in range(2))
    model = keras.distillation.Distiller(
        teacher, student, keras.distillation.LogitsDistillation(), distillation_loss_weights=[1.0]
    )
    model.compile("sgd", "mse", metrics=["mae"])
    return model, 3, lambda: model.get_metrics_result().values()


@pytest.mark.parametrize("make", [one_output, two_outputs, within, others_told, distilled])
def test_metrics_that_a_look_builds_begin_anew_and_others_stay(make):
    model, width, told = make()
    rng = np.random.default_rng(0)
    y = keras.tree.map_structure(
        lambda n: np.eye(n, dtype="float32")[rng.integers(n, size=8)], width
    )
    x = rng.normal(size=(8, 6)).astype("float32")

    def look():
        _keras.answers(model, [(x, y, None)], judged=True)
        return [np.array(each) for each in keras.tree.flatten(list(told()))]

    assert not np.any(np.concatenate([each.ravel() for each in look()]))
    model.train_on_batch(x, y)
    before = [np.array(each) for each in keras.tree.flatten(list(told()))]
    assert len(before) > 0
    for one, other in zip(before, look(), strict=True):
        np.testing.assert_array_equal(one, other)


class OneMore(L.Layer):
    """Makes a number in each call, and multiplies with the kernel of a layer that it calls, too."""

    def build(self, shape):
        self.inner = L.Dense(shape[-1])
        self.inner.build(shape)

    def call(self, x):
        one = keras.Variable(np.ones((1,), "float32"))
        return keras.ops.matmul(self.inner(x), self.inner.kernel) * one


def test_a_call_on_values_may_make_variables():
    layer, read = OneMore(), set[int]()
    x = np.ones((2, 4), "float32")
    layer(x)
    calls = _keras.trace_calls(layer, [layer.inner], x, values=True)
    assert [call.shape for call in calls] == [(1, 4)]
    told = _keras.trace_calls(layer, [layer.inner], x, values=True, beside=read.add)
    assert [call.shape for call in told] == [(1, 4)]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's functions")
def test_what_a_call_on_values_compiles_still_counts_after_it():
    class Compiled(L.Layer):
        def build(self, shape):
            self.inner = L.Dense(shape[-1])
            self.inner.build(shape)
            self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

        @tf.function
        def _count(self):
            self.calls.assign_add(1.0)

        def call(self, x):
            self._count()
            return keras.ops.matmul(self.inner(x), self.inner.kernel)

    layer, read = Compiled(), set[int]()
    layer.build((2, 4))
    layer.built = True
    x = np.ones((2, 4), "float32")
    _keras.trace_calls(layer, [layer.inner], x, values=True, beside=read.add)
    assert id(layer.inner.kernel) in read
    layer(x)
    assert float(layer.calls) == 1


def test_a_call_that_was_replaced_stays_so_after_a_look():
    model = zoo.sequential()
    layer = model.get_layer("first")
    replaced = layer.call = lambda x, original=layer.call: 2 * original(x)
    with observing(model, [layer], None, watch=lambda output: output):
        assert vars(layer)["call"] is not replaced
    assert vars(layer)["call"] is replaced
    assert layer.activation is zoo.sequential().get_layer("first").activation
