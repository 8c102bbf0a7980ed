"""Find the variables that functions and operations use, which no layer holds.

A loss, an activation, a regularizer or a method may close over a variable, read it as a global or
be bound to it, and an operation of a graph may have been called with one; Keras keeps no note of
it. Layers and models that they hold are not followed: each time they are asked for their kernel.
"""

from __future__ import annotations

import dis
import functools
import gc
import inspect
from collections.abc import Iterable, Iterator
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import keras
import numpy as np
from keras.src.utils.tracking import Tracker

from reducible_train._keras.compiled import compiled_with
from reducible_train._keras.layer_tree import walk
from reducible_train._keras.tracking import own_variables

_COMPILED = {"loss": "loss", "metrics": "metric", "weighted_metrics": "weighted metric"}
# Whose objects and methods use no variable of a model's, but for those that are called.
_LIBRARIES = frozenset(
    {"builtins", "inspect", "jax", "keras", "numpy", "reducible_train", "tensorflow", "torch"}
)
# What a model is compiled with, which is looked at by itself, and functions made of its steps.
_COMPILED_ATTRIBUTES = (
    "_compile_loss",
    "_compile_metrics",
    "predict_function",
    "test_function",
    "train_function",
)
_CONTAINERS = (dict, list, tuple, set, frozenset)
_ENDS = (keras.Layer, keras.optimizers.Optimizer, keras.KerasTensor, Tracker, ModuleType, type)
_PLAIN = frozenset({bool, bytes, complex, float, int, np.ndarray, str, type(None)})
_STEPS = (CellType, FunctionType, MethodType, functools.partial, *_CONTAINERS)
_DEPTH = 3  # objects within objects


def used_beside_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """Every variable that is used by what is no layer, with who does so, in words.

    Args:
        model: The model, of which what it was compiled with, its layers' functions and objects,
            and the operations of graphs that its layers are in are looked at.
    """
    parts = [(model.name, model), *walk(model)]
    for path, layer in parts:
        of = "the model" if layer is model else f"'{path}'"
        given = compiled_with(layer)
        for argument, word in _COMPILED.items():
            for variable in _variables_of([given.get(argument)]):
                yield f"the {word} of {of}", variable
    for operation in _operations(layer for _, layer in parts):
        is_layer = isinstance(operation, keras.Layer)
        for variable in _variables_of(_arguments(operation) if is_layer else [operation]):
            yield f"'{operation.name}' ({type(operation).__name__})", variable
    for path, layer in parts:
        for name, thing in _attributes(layer):
            for variable in _variables_of([thing]):
                yield f"`{name}` of '{path}' ({type(layer).__name__})", variable


def _attributes(layer: Any) -> Iterator[tuple[str, Any]]:
    """What a layer calls or may call, by name: functions, objects, methods of its class.

    An initializer has done its work. Variables themselves are those of `held_variables`.
    """
    for name, value in vars(layer).items():
        if name not in _COMPILED_ATTRIBUTES and not name.endswith("_initializer"):
            yield from ((name, each) for each in _within(value) if _may_use(each))
    for variable in own_variables(layer):
        yield f"{variable.name}_regularizer", getattr(variable, "regularizer", None)
        yield f"{variable.name}_constraint", getattr(variable, "constraint", None)
    yield from _methods(type(layer))


def _within(value: Any, depth: int = 0) -> Iterator[Any]:
    """What is in a container, or in those in it; of anything else, itself."""
    if not isinstance(value, _CONTAINERS):
        yield value
    elif depth < _DEPTH:
        for each in _items(value):
            yield from _within(each, depth + 1)


def _items(container: Any) -> list[Any]:
    items = container.values() if isinstance(container, dict) else container
    return [each for each in items if type(each) not in _PLAIN]


def _may_use(thing: Any) -> bool:
    """False for layers, variables and what Keras and the backends keep beside them."""
    return not isinstance(thing, (keras.Variable, *_ENDS)) and (
        callable(thing) or not _is_of_library(type(thing))
    )


def _is_of_library(thing: type | FunctionType) -> bool:
    return str(thing.__module__).partition(".")[0] in _LIBRARIES


def _methods(kind: type) -> Iterator[tuple[str, Any]]:
    """What is in a class and those it comes from, by name, down to those of Keras."""
    for each in kind.__mro__:
        if not _is_of_library(each):
            yield from ((n, value) for n, value in vars(each).items() if type(value) not in _PLAIN)


def _operations(layers: Iterable[Any]) -> Iterator[Any]:
    """Each operation of the graphs of some layers, and all that take what these put out."""
    todo, seen = list(layers), set[int]()
    while todo:
        operation = todo.pop()
        if id(operation) not in seen:
            seen.add(id(operation))
            yield operation
            todo += getattr(operation, "operations", ())
            todo += [node.operation for node in operation._outbound_nodes]


def _arguments(operation: Any) -> list[Any]:
    """What an operation was called with in graphs."""
    given = [node.arguments for node in operation._inbound_nodes]
    return [(each.args, each.kwargs) for each in given]


def _variables_of(things: Iterable[Any]) -> Iterator[Any]:
    """The variables that some functions and objects hold, and what they call holds."""
    todo = [(thing, 0) for thing in things]
    seen: dict[int, Any] = {}  # with the object: keeps its id
    while todo:
        thing, depth = todo.pop()
        if isinstance(thing, keras.Variable):
            yield thing
        elif id(thing) not in seen and not isinstance(thing, _ENDS) and depth <= _DEPTH:
            seen[id(thing)] = thing
            below = depth + (not isinstance(thing, _STEPS))
            todo += [(each, below) for each in _parts(thing, depth) if type(each) not in _PLAIN]


def _parts(thing: Any, depth: int) -> list[Any]:
    """What a function or an object holds directly."""
    if isinstance(thing, FunctionType):
        held = (thing.__closure__, thing.__defaults__, thing.__kwdefaults__, vars(thing))
        return [*held, *(() if _is_of_library(thing) else _globals_read(thing))]
    if isinstance(thing, _CONTAINERS):
        return _items(thing)
    if isinstance(thing, keras.Operation):
        nodes = ("_inbound_nodes", "_outbound_nodes")
        own = [value for name, value in vars(thing).items() if name not in nodes]
        return [*own, *_arguments(thing)]
    for name in ("python_function", "__wrapped__"):  # `tf.function`, `jax.jit`
        function = inspect.getattr_static(type(thing), name, None) and getattr(thing, name, None)
        if function is not None:
            return [function]
    methods = [value for _, value in _methods(type(thing))] if depth == 0 else []
    return [*gc.get_referents(thing), *methods]


def _globals_read(function: Any) -> list[Any]:
    """The globals that a function reads, and those functions among them that share its module."""
    known = function.__globals__

    def matters(name: str) -> bool:
        value = known.get(name)
        foreign = isinstance(value, FunctionType) and value.__globals__ is not known
        return type(value) not in _PLAIN and not isinstance(value, _ENDS) and not foreign

    found: list[Any] = []
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        codes += [each for each in code.co_consts if isinstance(each, CodeType)]
        if any(map(matters, code.co_names)):  # which names attributes, too
            read = {i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"}
            found += [known[name] for name in read if matters(name)]
    return found
