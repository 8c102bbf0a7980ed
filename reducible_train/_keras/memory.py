"""Free the memory of dead variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np


def release(variables: Sequence[Any]) -> None:
    """Empty the memory of dead variables, and let go of the graphs that held them.

    TensorFlow keeps every abandoned train function's graph, and with it its variables,
    alive: the optimizer's all-reduce registers a gradient function for each graph, for
    good. A single NaN frees the memory, and stale use of it shows: of nothing at all, the sum
    would be 0. Without its entry in the registry, which only the gradient of a gradient would
    look up, the graph goes too. Of a variable of several devices, whose own handle is only there
    within a replica, each part is emptied. JAX frees the values itself, and keeps what it compiled
    for their shapes, for good: with the caches cleared, what is still in use is compiled once more.
    """
    if keras.backend.backend() == "jax":
        import jax  # noqa: PLC0415

        jax.clear_caches()
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf  # noqa: PLC0415

    held: list[Any] = [getattr(each, "value", None) for each in variables]
    parts = [
        part
        for each in held
        for part in (each.values if isinstance(each, tf.distribute.DistributedValues) else (each,))
    ]
    dead = [each for each in parts if hasattr(each, "handle")]
    for value in dead:
        nan = np.full([1] * len(value.shape), np.nan if value.dtype.is_floating else 0)
        tf.raw_ops.AssignVariableOp(
            resource=value.handle, value=tf.constant(nan, value.dtype), validate_shape=False
        )
    _forget_gradients({id(value) for value in (*held, *dead)})


def _forget_gradients(dead: set[int]) -> None:
    from tensorflow.python.framework import ops as tf_ops  # noqa: PLC0415

    registry = tf_ops.gradient_registry._registry
    for name in [name for name in registry if name.startswith("CustomGradient-")]:
        graph = _graph_of(registry[name].get("type"))
        if graph is None:
            continue
        try:
            stale = any(id(variable) in dead for variable in graph.variables)
        except AssertionError:  # its variables are gone already
            stale = True
        if stale:
            del registry[name]


def _graph_of(gradient: Any) -> Any:
    """The graph whose tensors the gradient of an all-reduce holds, or `None`."""
    for cell in getattr(gradient, "__closure__", None) or ():
        inner = getattr(cell.cell_contents, "__closure__", None) or ()
        for nested in inner:
            tensors = nested.cell_contents
            if isinstance(tensors, list) and tensors and hasattr(tensors[0], "graph"):
                return tensors[0].graph
    return None
