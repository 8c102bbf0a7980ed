"""Look at a model, and build another, without a trace in the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras.src.backend.common import global_state

from reducible_train._keras.keeping import scopes_kept
from reducible_train._keras.layer_tree import automatic_stem, is_graph_model, walk
from reducible_train._keras.random_numbers import random_numbers_kept

_NAME_COUNTS = "object_name_uids"


@contextmanager
def untouched_process() -> Iterator[None]:
    """Whatever is built within it, automatic names and random numbers go on as if it were not.

    Keras counts names, and draws the seeds of initializers from Python's generator, in every
    layer that is made; there is no public way to make one without.
    """
    counts = global_state.get_global_attribute(_NAME_COUNTS)
    kept = None if counts is None else counts.copy()
    try:
        with scopes_kept(), random_numbers_kept():
            yield
    finally:
        global_state.set_global_attribute(_NAME_COUNTS, kept)


def dtype_of(variable: Any) -> str:
    """Name of the dtype of a variable or an array."""
    return str(keras.backend.standardize_dtype(variable.dtype))


@contextmanager
def plainly_named(model: Any) -> Iterator[None]:
    """Within it, names that Keras counted up, and nobody asks for, are as in a new process.

    Those of operations such as `x * 2`, and of an input layer that is its model's only one.
    Names of other layers stay: `get_layer` finds them, and some may have been chosen.
    """
    before: list[tuple[Any, str]] = []
    try:
        for graph in (model, *(layer for _, layer in walk(model))):
            if is_graph_model(graph):
                before += _renamed(graph)
        yield
    finally:
        for thing, name in reversed(before):
            thing.name = name


def _renamed(graph: Any) -> list[tuple[Any, str]]:
    things = list(graph._layers) if isinstance(graph, keras.Sequential) else graph.operations
    inputs = [each for each in things if isinstance(each, keras.layers.InputLayer)]
    free = [each for each in things if not isinstance(each, keras.Layer)]
    free = [each for each in free + (inputs if len(inputs) == 1 else []) if automatic_stem(each)]
    used = {each.name for each in things if not any(each is other for other in free)}
    before = [(each, each.name) for each in free]
    for each in free:
        stem, count = automatic_stem(each), 0
        while (name := f"{stem}_{count}" if count else str(stem)) in used:
            count += 1
        used.add(name)
        each.name = name
    return before
