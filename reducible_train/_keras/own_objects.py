"""What a model is made of and Keras writes by a name alone, under which it is found again."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

from reducible_train._keras.compiled import compiled_with
from reducible_train._keras.layer_tree import walk
from reducible_train._keras.optimizers import all_optimizers


@contextmanager
def own_objects(model: Any) -> Iterator[dict[str, Any]]:
    """Classes and functions of a model and its compilation that are not Keras's, by name.

    Within it functions have these names: Keras writes a function by its name, of which there may be
    several, or one of its own, and a lambda by its code alone, which has lost its module then.

    Args:
        model: The model, compiled or not.

    Yields:
        Name -> class or function, as `custom_object_scope` takes them.
    """
    parts = list(_parts(model))
    functions = {id(each): each for each in parts if isinstance(each, types.FunctionType)}
    classes = [type(each) for each in parts if id(each) not in functions]
    own = {each.__name__: each for each in reversed(classes) if not _is_kerass(each)}
    with _named_apart(functions.values()) as named:
        yield {**own, **named}


def _parts(model: Any) -> Iterator[Any]:
    """All that Keras writes of a model by a name: layers, what they and its compilation are of."""
    for part in (model, *(layer for _, layer in walk(model))):
        yield part
        yield from filter(_is_named, vars(part).values())
    told = [*all_optimizers(model.optimizer), *model.metrics] if model.compiled else []
    for part in keras.tree.flatten([*told, *compiled_with(model).values()]):
        yield part
        yield from filter(_is_named, getattr(part, "__dict__", {}).values())


def _is_named(value: Any) -> bool:
    """True for a function, and for an object such as a regularizer."""
    return isinstance(value, types.FunctionType) or hasattr(value, "get_config")


def _is_kerass(made: Any) -> bool:
    return getattr(made, "__module__", "").partition(".")[0] in ("keras", "builtins")


@contextmanager
def _named_apart(functions: Iterable[types.FunctionType]) -> Iterator[dict[str, Any]]:
    own = [each for each in functions if not _is_kerass(each)]
    before = [each.__name__ for each in own]
    named: dict[str, Any] = {f"reducible_function_{i}": each for i, each in enumerate(own)}
    for name, each in named.items():
        each.__name__ = name
    try:
        yield named
    finally:
        for each, name in zip(own, before, strict=True):
            each.__name__ = name
