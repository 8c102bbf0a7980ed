"""Functions that TensorFlow has traced: which variables are in them, and how to trace anew.

A `tf.function` goes by its arguments alone: when a layer that it calls has other variables, it
still runs the old graph. There is no public way to have it forget one.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import keras

from reducible_train.errors import SurgeryError


def function_class() -> type | None:
    """The class of what `tf.function` gives; `None` on other backends."""
    if keras.backend.backend() != "tensorflow":
        return None
    from tensorflow.python.eager.polymorphic_function import (  # noqa: PLC0415
        polymorphic_function,
    )

    kind: type = polymorphic_function.Function
    return kind


def graph_class() -> type | None:
    """The class of what `get_concrete_function` gives; `None` on other backends."""
    if keras.backend.backend() != "tensorflow":
        return None
    from tensorflow.python.eager.polymorphic_function import (  # noqa: PLC0415
        concrete_function,
    )

    kind: type = concrete_function.ConcreteFunction
    return kind


def handles_of(variables: Iterable[Any]) -> frozenset[int]:
    """What graphs know variables by, one for each device; nothing on other backends."""
    if keras.backend.backend() != "tensorflow":
        return frozenset()
    values: list[Any] = [getattr(variable, "value", None) for variable in variables]
    parts = [part for value in values for part in getattr(value, "values", None) or (value,)]
    return frozenset(id(part.handle) for part in parts if hasattr(part, "handle"))


def captures(graph: Any, handles: frozenset[int]) -> bool:
    """True if a graph reads or writes one of some variables."""
    return any(id(tensor) in handles for tensor in graph.captured_inputs)


def was_traced_with(function: Any, handles: frozenset[int]) -> bool:
    """True if one of the graphs of a function does."""
    return any(captures(graph, handles) for graph in function._function_cache.values())


def is_traced(function: Any, depth: int = 3) -> bool:
    """True if a function, or one in its closure or in theirs, has a graph."""
    kind = function_class()
    if kind is None:
        return False
    if isinstance(function, kind):
        cache: Any = vars(function)["_function_cache"]
        return bool([*cache.values()])
    cells = getattr(function, "__closure__", None) or ()
    held = (each.cell_contents for each in cells if each != types.CellType())  # not yet bound
    return depth > 0 and any(is_traced(each, depth - 1) for each in held)


def trace_anew(functions: Sequence[Any], graphs: Sequence[Any], names: Sequence[str]) -> None:
    """Let functions forget their graphs; whoever holds a single graph is told when it is called.

    Args:
        functions: What `tf.function` gave.
        graphs: What their `get_concrete_function` gave.
        names: The paths of the kernels that have changed.
    """
    for function in functions:
        cache = type(function._function_cache)
        with function._lock:
            function._function_cache = cache()
            function._created_variables = None
            function._variable_creation_config = function._no_variable_creation_config = None

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise SurgeryError(
            f"This concrete function was traced before the ranks of {', '.join(names[:3])}"
            f"{' and others' if len(names) > 3 else ''} changed, and computes with weights that "
            "are gone. Call get_concrete_function again, or the tf.function itself, which is "
            "traced anew by itself."
        )

    for graph in graphs:
        graph._call_impl = refuse
