"""Find the layers that give a model its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from reducible_train._keras.calls import Call
from reducible_train._keras.layer_tree import is_graph_model, walk
from reducible_train._keras.tracking import own_variables


def output_layers(model: Any, calls: Sequence[Call] | None = None) -> list[Any]:
    """The last layers that hold a kernel on the way to each output of the model.

    Graph models are followed back from their outputs, through layers without a kernel
    (activations, dropout, merges). Of other models it is the layer called last, if
    `calls` (of `trace_calls`) tells, or the one defined last.
    """
    if not is_graph_model(model) or not getattr(model, "outputs", None):
        order = [call.layer for call in calls or ()] or [layer for _, layer in walk(model)]
        return [layer for layer in order if carries_kernel(layer)][-1:]
    found: list[Any] = []
    seen: set[int] = set()

    def back(tensor: Any) -> None:
        history = tensor._keras_history
        operation = history.operation
        if id(tensor) in seen:
            return
        seen.add(id(tensor))
        if carries_kernel(operation):
            found.append(operation)
        elif isinstance(operation, keras.Layer) and any(
            carries_kernel(layer) for _, layer in walk(operation)
        ):
            found.extend(output_layers(operation))
        elif operation._inbound_nodes:
            for source in operation._inbound_nodes[history.node_index].input_tensors:
                back(source)

    for tensor in keras.tree.flatten(model.outputs):
        back(tensor)
    return found


def carries_kernel(layer: Any) -> bool:
    """True if the layer itself holds a weight of two or more axes."""
    return isinstance(layer, keras.Layer) and any(
        len(variable.shape) > 1 for variable in own_variables(layer)
    )
