"""Layers that do something of their own with their variables stay dense, with the reason."""

from __future__ import annotations

import functools
import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import zoo

from reducible_train import factorize

L = keras.layers


class OwnCall(L.Dense):
    def call(self, inputs, training=None):
        return keras.ops.matmul(inputs, keras.ops.tanh(self.kernel)) + self.bias


class OwnKernel(L.Dense):
    @property
    def kernel(self):
        return self._kernel * 2.0


class Around(L.Layer):
    """A layer around a Dense."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = L.Dense(24)

    def build(self, shape):
        self.inner.build(shape)


class Decaying(Around):
    """Makes the kernel smaller in each training step."""

    def call(self, x, training=False):
        if training:
            self.inner.kernel.assign(self.inner.kernel * 0.5)
        return self.inner(x)


class Normalized(Around):
    """Puts a normalized tensor in the kernel's place for each call."""

    def build(self, shape):
        super().build(shape)
        self.stored = [[self.inner.kernel]]

    def call(self, x):
        ((kernel,),) = self.stored
        self.inner.__dict__["_kernel"] = kernel / keras.ops.norm(kernel)
        try:
            return self.inner(x)
        finally:
            self.inner.__dict__["_kernel"] = kernel


def with_first(layer, change=None):
    model = keras.Sequential(
        [keras.Input((24,)), layer, L.Dense(24, name="plain"), L.Dense(5, name="output")]
    )
    if change is not None:
        layer._tracker.unlock()
        change(layer)
        layer._tracker.lock()
    return zoo.compiled(model)


def dense(change):
    return lambda: with_first(L.Dense(24, name="first"), change)


def new_kernel(layer):
    layer._kernel = keras.Variable(np.ones((24, 24), "float32"))


def no_variable(layer):
    layer.__dict__["_kernel"] = keras.ops.ones((24, 24))


def new_call(layer):
    kind = type(layer)
    layer.call = lambda x, training=None: kind.call(layer, keras.ops.tanh(x))


OWN = {
    "spectral": (
        lambda: with_first(L.SpectralNormalization(L.Dense(24), name="first")),
        "first/layer/kernel",
        r"'first' \(SpectralNormalization\) uses this very variable",
    ),
    "call": (lambda: with_first(OwnCall(24, name="first")), "first/kernel", "a subclass of Dense"),
    "property": (
        lambda: with_first(OwnKernel(24, name="first")),
        "first/kernel",
        "a subclass of Dense",
    ),
    "assigned": (
        lambda: with_first(Decaying(name="first")),
        "first/inner/kernel",
        "own code assigns values to it in a training step",
    ),
    "held": (
        lambda: with_first(Normalized(name="first")),
        "first/inner/kernel",
        r"'first' \(Normalized\) uses this very variable",
    ),
    "new": (dense(new_kernel), "first/kernel", "not the variable it was built with"),
    "tensor": (dense(no_variable), "first/kernel", "not the variable it was built with"),
    "patched": (dense(new_call), "first/kernel", "`call` was replaced"),
    "lora": (dense(lambda layer: layer.enable_lora(2)), "first/kernel", "LoRA is enabled"),
    "quantized": (dense(lambda layer: layer.quantize("int8")), "first/kernel", "quantized to int8"),
}


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # of a kernel out of use
@pytest.mark.parametrize("case", OWN)
def test_it_is_left_and_the_rest_is_cut(case):
    make, path, reason = OWN[case]
    model = make()
    x, y = zoo.data(model)
    first = model.get_layer("first")
    before = [(id(v), zoo.as_array(v)) for v in first.variables]
    attributes = set(vars(first))
    records = {record.path: record for record in factorize(model, rank=4).kernels}
    assert records[path].rank is None
    assert re.search(reason, records[path].reason)
    assert records["plain/kernel"].rank == 4
    for (key, value), variable in zip(before, first.variables, strict=True):
        assert key == id(variable)
        np.testing.assert_array_equal(value, zoo.as_array(variable))
    assert set(vars(first)) == attributes
    assert np.isfinite(zoo.outputs(model, x)).all()
    if case != "quantized":  # which is for inference
        assert np.isfinite(zoo.step(model, x, y)).all()


def test_a_kernel_that_two_known_layers_use_is_left_in_both():
    inputs = keras.Input((24,))
    first, second = L.Dense(24, name="first"), L.Dense(24, name="second")
    plain = L.Dense(24, name="plain")
    outputs = L.Dense(5, name="output")(plain(second(first(inputs))))
    second._tracker.unlock()
    second._kernel = first._kernel
    second._tracker.lock()
    model = keras.Model(inputs, outputs)
    x, _ = zoo.data(model)
    records = {record.path: record for record in factorize(model, rank=4).kernels}
    assert records["first/kernel"].reason == "'second' (Dense) uses this very variable"
    assert records["second/kernel"].rank is None
    assert records["plain/kernel"].rank == 4
    assert zoo.outputs(model, x).shape == (64, 5)


# --- what uses a variable and is no layer that holds it ------------------------------------------

ops = keras.ops


def tied(hidden, kernel):
    return ops.einsum("bh,ih->bi", hidden, kernel)


def tied_within(hidden, kernel):
    inside = keras.Input(hidden.shape[1:])
    return keras.Sequential([keras.Model(inside, tied(inside, kernel))])(hidden)


def mapped(hidden, kernel):
    return ops.vectorized_map(lambda row: ops.matmul(kernel, row), hidden)


GRAPHS = {
    "operation": (tied, "Einsum"),
    "operator": (lambda hidden, kernel: hidden @ kernel, "Matmul"),
    "by name": (lambda hidden, kernel: ops.dot(hidden, x2=kernel), "Dot"),
    "in a list": (lambda hidden, kernel: ops.concatenate([hidden, kernel], axis=0), "Concatenate"),
    "nested model": (tied_within, "Einsum"),
    "function": (mapped, "VectorizedMap"),
    "layer": (lambda hidden, kernel: L.Dot(1)([hidden, kernel]), "Dot"),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_a_kernel_that_a_graph_computes_with_is_left(case):
    call, kind = GRAPHS[case]
    inputs = keras.Input((24,))
    first = L.Dense(24, name="first")
    x = call(L.Dense(24, name="second")(first(inputs)), first.kernel)
    model = keras.Model(inputs, L.Dense(5, name="output")(x))
    records = {record.path: record for record in factorize(model, rank=4).kernels}
    assert records["first/kernel"].rank is None
    assert re.fullmatch(
        rf"'\w+' \({kind}\) uses this very variable", records["first/kernel"].reason
    )
    assert records["second/kernel"].rank == 4
    assert np.isfinite(zoo.as_array(model(np.ones((24, 24), "float32")))).all()


def test_a_part_of_a_model_whose_graph_computes_with_the_kernel_is_left_too():
    inputs = keras.Input((24,))
    first, second = L.Dense(24, name="first"), L.Dense(24, name="second")
    hidden = second(first(inputs))
    part = keras.Model(inputs, L.Dense(5, name="output")(hidden))
    whole = keras.Model(inputs, tied(hidden, first.kernel))
    assert factorize(part, rank=4).ranks == {"second/kernel": 4}
    assert zoo.outputs(whole, np.ones((3, 24), "float32")).shape == (3, 24)


class Penalty:
    """Holds a kernel in an object within it."""

    def __init__(self, kernel):
        self.inner = SimpleNamespace(kernels=[kernel])

    def __call__(self, *_):
        return penalty(self.inner.kernels[0])

    def method(self, *_):
        return self()


class OwnLoss(keras.losses.Loss):
    def __init__(self, kernel):
        super().__init__()
        self.kernel = kernel

    def call(self, y_true, y_pred):
        return penalty(self.kernel) + 0 * y_pred


def penalty(kernel, *_):
    return ops.sum(ops.square(kernel))


def by_closure(kernel):
    return lambda *_: penalty(kernel)


def by_default(kernel):
    return lambda y_true, y_pred=None, kernel=kernel: penalty(kernel)


def by_keyword(kernel):
    def function(*_, kernel=kernel):
        return penalty(kernel)

    return function


def by_global(kernel):
    known = {"KERNELS": [kernel], "penalty": penalty}
    exec(  # a module, or a notebook
        "def inner(): return penalty(KERNELS[0])\ndef function(*_): return inner()",
        known,
    )
    return known["function"]


def wrapped(kernel):
    inner = by_closure(kernel)
    return functools.wraps(inner)(lambda *args: inner(*args))


def in_a_class(kernel):
    class Inside(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return penalty(kernel) + 0 * y_pred

    return Inside()


HOLDERS = {
    "closure": by_closure,
    "default": by_default,
    "keyword": by_keyword,
    "global": by_global,
    "wrapped": wrapped,
    "partial": lambda kernel: functools.partial(penalty, kernel),
    "object": Penalty,
    "method": lambda kernel: Penalty(kernel).method,
    "Keras's": OwnLoss,
    "class": in_a_class,
}


def plain(**options):
    return keras.Sequential(
        [
            keras.Input((24,)),
            L.Dense(24, name="first"),
            L.Dense(24, name="second", **options),
            L.Dense(5, name="output"),
        ]
    )


def left_in(model):
    """Why the first kernel is left, once the second one is cut."""
    records = {record.path: record for record in factorize(model, rank=4).kernels}
    assert records["second/kernel"].rank == 4
    assert records["first/kernel"].rank is None
    return records["first/kernel"].reason


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_kernel_that_the_loss_uses_is_left(holder):
    model = plain()
    model.compile("sgd", HOLDERS[holder](model.get_layer("first").kernel), run_eagerly=True)
    x, _ = zoo.data(model)
    expected = zoo.as_array(penalty(model.get_layer("first").kernel))
    assert left_in(model) == "the loss of the model uses this very variable"
    assert model.evaluate(x, np.ones((len(x), 5)), verbose=0) == pytest.approx(expected, rel=1e-5)


def named(name):
    return f"`{name}` of 'second' (Dense)"


def compiled(**options):
    model = plain()
    model.compile("sgd", **options)
    return model


def with_lambda(function):
    inputs = keras.Input((24,))
    x = L.Dense(24, name="second")(L.Dense(24, name="first")(inputs))
    return keras.Model(inputs, L.Dense(5, name="output")(L.Lambda(function, name="own")(x)))


class Keeper(keras.Model):
    """A model that keeps functions in a list."""

    def __init__(self, functions):
        super().__init__(name="owner")
        self.model, self.functions = plain(), functions
        self.model.compile("sgd", "mse")

    def call(self, x):
        return self.model(x)


PLACES = {
    "metric": (lambda f: compiled(metrics=[["mae", f]]), "the metric of the model"),
    "weighted": (
        lambda f: compiled(loss="mse", weighted_metrics=[f]),
        "the weighted metric of the model",
    ),
    "activation": (lambda f: plain(activation=lambda x: x + f()), named("activation")),
    "regularizer": (lambda f: plain(kernel_regularizer=f), named("kernel_regularizer")),
    "bias": (lambda f: plain(bias_constraint=f), named("bias_constraint")),
    "lambda": (lambda f: with_lambda(lambda x: x + f()), "`function` of 'own' (Lambda)"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_kernel_that_a_function_uses_is_left_with_the_place_of_it(place):
    make, words = PLACES[place]
    cell = SimpleNamespace(kernel=ops.zeros((1, 1)))
    model = make(lambda *_: penalty(cell.kernel))
    cell.kernel = model.get_layer("first").kernel
    assert left_in(model) == f"{words} uses this very variable"


def test_a_kernel_that_a_function_among_those_of_a_model_uses_is_left():
    cell = SimpleNamespace()
    model = Keeper([lambda *_: penalty(cell.kernel)])
    model(np.ones((1, 24), "float32"))
    cell.kernel = model.model.get_layer("first").kernel
    records = {record.path: record for record in factorize(model, rank=4).kernels}
    assert records["model/first/kernel"].reason == (
        "`functions` of 'owner' (Keeper) uses this very variable"
    )
    assert records["model/second/kernel"].rank == 4


def test_a_function_that_asks_a_layer_for_its_kernel_goes_on_with_the_product():
    model = plain()
    first = model.get_layer("first")
    circle = [model, first]
    circle.append(circle)
    model.compile("sgd", lambda *_: penalty(circle[1].kernel), run_eagerly=True)
    x, _ = zoo.data(model)
    assert set(factorize(model, rank=4).ranks) == {"first/kernel", "second/kernel"}
    expected = zoo.as_array(penalty(first.kernel))
    assert model.evaluate(x, np.ones((len(x), 5)), verbose=0) == pytest.approx(expected, rel=1e-5)


# --- who goes by places in lists of variables ----------------------------------------------------


def transposed(hidden, kernel):
    return ops.matmul(hidden, ops.transpose(kernel))


def unpacked(hidden, first):
    kernel, _ = first.trainable_weights
    return transposed(hidden, kernel)


def of_values(hidden, first):
    return transposed(hidden, ops.convert_to_tensor(first.get_weights()[0]))


BY_PLACE = {
    "weights": lambda hidden, first: transposed(hidden, first.weights[0]),
    "trainable": lambda hidden, first: transposed(hidden, first.trainable_variables[0]),
    "unpacked": unpacked,
    "behind it": lambda hidden, first: hidden + first.variables[1],
    "from the end": lambda hidden, first: hidden + first.weights[-1],
    "slice": lambda hidden, first: hidden + ops.sum(first.weights[:1][0]),
    "values": of_values,
}
BY_ALL = {
    "loop": lambda hidden, first: hidden + sum(ops.sum(v) for v in first.weights),
    "copy": lambda hidden, first: hidden + sum(ops.sum(v) for v in first.trainable_weights[:]),
    "name": lambda hidden, first: transposed(hidden, first.kernel),
}


class Second(keras.Model):
    """Computes with the first of its layers again."""

    def __init__(self, again):
        super().__init__()
        self.first, self.second = L.Dense(24, name="first"), L.Dense(24, name="second")
        self.last, self.again = L.Dense(5, name="output"), again

    def call(self, x, training=False):
        return self.last(self.again(self.second(self.first(x)), self.first))


def ranks_of(again, **options):
    x = np.ones((4, 24), "float32")
    model = Second(again)
    model.run_eagerly = True
    model(x)
    return factorize(model, rank=4, **options).ranks


@pytest.mark.parametrize("how", BY_PLACE)
def test_a_kernel_whose_place_somebody_goes_by_is_left(how):
    data = {"calibration": np.ones((4, 24), "float32")} if how == "values" else {}
    assert ranks_of(BY_PLACE[how], **data) == {"second/kernel": 4}


@pytest.mark.parametrize("how", BY_ALL)
def test_who_goes_through_all_variables_goes_by_no_place(how):
    assert ranks_of(BY_ALL[how]) == {"first/kernel": 4, "second/kernel": 4}


def test_a_place_that_a_training_step_alone_goes_by_counts():
    class Training(Second):
        def call(self, x, training=False):
            return super().call(x) + (ops.sum(self.first.weights[0]) if training else 0.0)

    model = Training(lambda hidden, _: hidden)
    model(np.ones((4, 24), "float32"))
    assert set(factorize(model, rank=4).ranks) == {"second/kernel"}


@pytest.mark.parametrize("labels", [False, True])
def test_a_kernel_whose_place_the_loss_goes_by_is_left(labels):
    model = plain()
    first, name = model.get_layer("first"), "sparse_categorical_crossentropy" if labels else "mse"
    fits = keras.losses.get(name)
    model.compile("sgd", lambda y, p: fits(y, p) + penalty(first.weights[0]))
    reason = left_in(model)
    assert "by place, as `weights[0]` does" in reason
    assert "`layer.kernel`" in reason


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "mse"])
def test_a_kernel_whose_place_a_loss_of_the_model_goes_by_is_left(loss):
    class Penalized(Second):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            compared = super().compute_loss(x, y, y_pred, sample_weight)
            return compared + sum(penalty(layer.weights[0]) for layer in self.layers[::2])

    model = Penalized(lambda hidden, _: hidden)
    model(np.ones((4, 24), "float32"))
    model.compile("sgd", loss)
    assert set(factorize(model, rank=4).ranks) == {"second/kernel"}
    y = np.ones((4, 5)) if loss == "mse" else np.ones(4)  # nothing was made of other targets
    assert np.isfinite(model.evaluate(np.ones((4, 24)), y, verbose=0))


STEPS = {
    "place": lambda self: penalty(self.first.weights[0]),
    "values": lambda self: penalty(self.first.get_weights()[0]),
    "within": lambda self: sum(penalty(self.first.trainable_variables[0]) for _ in range(2)),
}


@pytest.mark.parametrize("how", [*STEPS, "unpacked"])
def test_a_kernel_whose_place_a_training_step_goes_by_is_left(how):
    class Stepping(Second):
        if how == "unpacked":

            def train_step(self, data):
                kernel, _ = self.first.weights
                return {"penalty": penalty(kernel)}
        else:
            train_step = STEPS[how]

    model = Stepping(lambda hidden, _: hidden)
    model(np.ones((4, 24), "float32"))
    assert set(factorize(model, rank=4).ranks) == {"second/kernel"}


def test_a_training_step_that_asks_for_all_variables_goes_by_no_place():
    class Stepping(Second):
        def train_step(self, data):
            found = {"penalty": penalty(self.first.kernel)}
            for variable in self.trainable_variables:
                found["penalty"] += penalty(variable)
            return found | {"first": self.absent.weights[0] if data is None else 0.0}

    model = Stepping(lambda hidden, _: hidden)
    model(np.ones((4, 24), "float32"))
    assert set(factorize(model, rank=4).ranks) == {"first/kernel", "second/kernel"}


def test_lists_of_variables_are_plain_after_it():
    model = plain()
    factorize(model, rank=4)
    assert type(model.weights) is list
    assert type(model.get_weights()) is list
