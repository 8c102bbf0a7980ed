"""The state of a model that Keras's weights files do not hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR, global_seed_generator

from reducible_train._keras.layer_tree import walk


def passing_state(model: Any) -> list[Any]:
    """Variables that training changes and no weights file keeps, in an order of the model's.

    Those of seed generators (`Dropout`, `GaussianNoise`, augmentation) and of stateful RNN
    layers, which Keras does not count among the weights.
    """
    kept = {id(v) for v in [*model.weights, *model.metrics_variables]}
    found = {id(v): v for v in model.variables if id(v) not in kept}
    for layer in (model, *(layer for _, layer in walk(model))):
        for variable in _held(layer):
            if id(variable) not in kept:
                found.setdefault(id(variable), variable)
    return list(found.values())


def _held(layer: Any) -> Iterator[Any]:
    """Variables, and those of seed generators, that a layer holds by attributes of its own.

    The states of a stateful RNN layer are in no list of Keras's.
    """
    for value in list(vars(layer).values()):
        for each in _leaves(value):
            if isinstance(each, keras.random.SeedGenerator):
                yield each.state
            elif isinstance(each, keras.Variable):
                yield each


def _leaves(value: Any) -> Iterator[Any]:
    """What stands in nested lists and dictionaries, whatever their keys."""
    if isinstance(value, Mapping | list | tuple):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(each)
    else:
        yield value


def global_seed(*, make: bool = False) -> Any:
    """The state behind random functions without a seed; `None` before the first of them."""
    if make:
        return global_seed_generator().state
    generator = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    return None if generator is None else generator.state
