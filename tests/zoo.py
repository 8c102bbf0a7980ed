"""Small models of every shape that surgery has to know, each with its data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest


def sequential() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((24,)),
            keras.layers.Dense(32, activation="relu", name="first"),
            keras.layers.Dense(28, use_bias=False, name="second"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dense(5, name="output"),
        ],
        name="stack",
    )


def nested() -> keras.Model:
    """A functional model in a functional model, its inner Dense shared by two calls."""
    inner_in = keras.Input((24,), name="inner_in")
    shared = keras.layers.Dense(24, activation="tanh", name="shared")
    inner = keras.Model(inner_in, shared(shared(inner_in)), name="inner")
    inputs = keras.Input((24,))
    x = keras.layers.Dense(24, name="before")(inputs)
    x = keras.layers.Add(name="add")([inner(x), x])
    return keras.Model(inputs, keras.layers.Dense(5, name="output")(x), name="outer")


def branches() -> keras.Model:
    """Two inputs, two outputs."""
    left, right = keras.Input((24,), name="left"), keras.Input((24,), name="right")
    a = keras.layers.Dense(20, activation="relu", name="a")(left)
    b = keras.layers.Dense(20, activation="relu", name="b")(right)
    x = keras.layers.Concatenate(name="join")([a, b])
    x = keras.layers.Dense(24, activation="relu", name="trunk")(x)
    one = keras.layers.Dense(5, name="one")(x)
    two = keras.layers.Dense(5, name="two")(x)
    two = keras.layers.Activation("linear", name="two_done")(two)
    return keras.Model([left, right], [one, two], name="branches")


@keras.saving.register_keras_serializable("zoo")
class Subclassed(keras.Model):
    """Layers in a list, in a dictionary, behind an underscore and in a custom layer."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.blocks = [keras.layers.Dense(24, activation="relu") for _ in range(2)]
        self.named = {"wide": keras.layers.Dense(30, activation="relu")}
        self._hidden = Block(24)
        self.last = keras.layers.Dense(5)

    def call(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return self.last(self._hidden(self.named["wide"](x)))


@keras.saving.register_keras_serializable("zoo")
class Block(keras.layers.Layer):
    """A layer that makes its own Dense."""

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = units
        self.inner_dense = keras.layers.Dense(units, activation="relu")

    def build(self, input_shape: Any) -> None:
        self.inner_dense.build(input_shape)

    def call(self, x: Any) -> Any:
        return self.inner_dense(x)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


def subclassed() -> keras.Model:
    model = Subclassed(name="own")
    model(np.zeros((1, 24), "float32"))
    return model


def wrapped() -> keras.Model:
    """A Dense over the positions of a sequence, one of them in a wrapper."""
    return keras.Sequential(
        [
            keras.Input((6, 24)),
            keras.layers.Dense(24, activation="relu", name="positions"),
            keras.layers.TimeDistributed(keras.layers.Dense(26, name="inside"), name="timed"),
            keras.layers.Flatten(name="flat"),
            keras.layers.Dense(5, name="output"),
        ],
        name="wrapped",
    )


MODELS = {
    "sequential": sequential,
    "nested": nested,
    "branches": branches,
    "subclassed": subclassed,
    "wrapped": wrapped,
}


# One whose graph calls other graphs, and one without a graph of its own: traced, the other forms
# meet nothing that these do not, and are slow.
TRACED = ("nested", "subclassed")


def traced_or_slow() -> list[Any]:
    """The names of `MODELS` for a test that is marked `traced`."""
    return [pytest.param(name, marks=() if name in TRACED else pytest.mark.slow) for name in MODELS]


@keras.saving.register_keras_serializable("evil")
class Evil(keras.layers.Layer):
    """A registered layer that tells when it is made: no file may have that done."""

    made: list[int] = []  # noqa: RUF012

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        Evil.made.append(1)

    def call(self, x: Any) -> Any:
        return x


EVIL = {"module": None, "class_name": "Evil", "config": {}, "registered_name": "evil>Evil"}


def of_policy(policy: str) -> keras.Model:
    """One hidden layer that computes by a dtype policy of its own."""
    return keras.Sequential(
        [
            keras.Input((24,)),
            keras.layers.Dense(32, activation="relu", dtype=policy, name="first"),
            keras.layers.Dense(5, name="output"),
        ]
    )


def data(model: keras.Model, samples: int = 64) -> tuple[Any, Any]:
    """Random inputs and classes for a model of the zoo."""
    rng = np.random.default_rng(0)
    if model.name == "branches":
        x = [rng.normal(size=(samples, 24)).astype("float32") for _ in range(2)]
        y = [rng.integers(5, size=samples) for _ in range(2)]
        return x, y
    shape = (samples, 6, 24) if model.name == "wrapped" else (samples, 24)
    return rng.normal(size=shape).astype("float32"), rng.integers(5, size=samples)


def compiled(model: keras.Model, optimizer: Any = "adam", **kwargs: Any) -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    losses = [loss, loss] if model.name == "branches" else loss
    model.compile(optimizer, losses, **kwargs)
    return model


def as_trained(model: keras.Model) -> keras.Model:
    """Numbers for all that training moves from where it was, without a step."""
    rng = np.random.default_rng(3)
    model.optimizer.build(model.trainable_variables)
    moved = [v for v in model.weights if len(v.shape) == 1 and "seed" not in v.path]
    moved += [v for v in model.optimizer.variables if v.shape]
    for variable in moved:
        variable.assign(rng.uniform(0.1, 1.0, variable.shape))
    model.optimizer.iterations.assign(2)
    return model


def step(model: keras.Model, x: Any, y: Any, times: int = 1) -> list[float]:
    """Train with all samples as one batch, some times; the losses. A fit takes thrice as long."""
    return [float(np.ravel(model.train_on_batch(x, y))[0]) for _ in range(times)]


def outputs(model: keras.Model, x: Any) -> np.ndarray:
    """What a direct call computes, as one array."""
    y = model(x, training=False)
    parts = y if isinstance(y, (list, tuple)) else [y]
    return np.concatenate([as_array(part) for part in parts], axis=-1)


def as_array(tensor: Any) -> np.ndarray:
    """A tensor or variable of any backend as float32."""
    return np.asarray(keras.ops.convert_to_numpy(tensor), "float32")


def predicted(model: keras.Model, x: Any) -> np.ndarray:
    """What `predict` computes, as one array."""
    y = model.predict(x, verbose=0)
    return np.concatenate(y if isinstance(y, list) else [y], axis=-1)


@dataclass(frozen=True)
class Told:
    """Stands for what tells one of two processes what the first has found."""

    first: Callable[[Any], Any]
    is_shared = True

    def __call__(self, value):
        return self.first(value)
