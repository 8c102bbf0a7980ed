"""What the reports share: tiny models with data, trained a few steps without compiled graphs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

FEATURES, CLASSES = 16, 3
RNG = np.random.default_rng(7)
X = RNG.normal(size=(32, FEATURES)).astype("float32")
Y = RNG.integers(CLASSES, size=32)


def stack(*layers: Any, inputs: Any = None) -> keras.Model:
    """The layers in a row, over `FEATURES` numbers unless told otherwise."""
    return keras.Sequential([keras.Input((FEATURES,)) if inputs is None else inputs, *layers])


def dense(units: int = 16, name: str | None = None, **how: Any) -> Any:
    return keras.layers.Dense(units, "relu", name=name, **how)


def plain() -> keras.Model:
    """Two hidden layers that can be factorised, and an output layer."""
    return stack(dense(24, "one"), dense(24, "two"), keras.layers.Dense(CLASSES, name="out"))


def compiled(model: keras.Model, optimizer: Any = "sgd", **how: Any) -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, **{"loss": loss, "run_eagerly": True} | how)
    return model


def fit(model: keras.Model, *callbacks: Any, x: Any = X, y: Any = Y, **how: Any) -> Any:
    """A few steps of training; compiles the model where it is not."""
    if not model.compiled:
        compiled(model)
    how = {"epochs": 3, "batch_size": 16, "shuffle": False, "verbose": 0} | how
    return model.fit(x, y, callbacks=list(callbacks), **how)


def answer(model: keras.Model, x: Any = X) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(model(x, training=False)))
