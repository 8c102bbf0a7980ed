"""Which BatchNormalization takes what a layer puts out."""

from __future__ import annotations

from typing import Any

import keras

from reducible_train._keras.copying import runs_its_graph
from reducible_train._keras.layer_tree import children, walk


class GraphsOf:
    """The graphs that a model is made of: what follows a layer in them, and nowhere else.

    A layer knows what takes its outputs in any graph it ever was in, also of other models; what
    calls it from code, as a wrapper or a model's own `call` does, it does not know.

    Args:
        model: The model.
    """

    def __init__(self, model: Any):
        parts = [model, *(layer for _, layer in walk(model))]
        graphs = [part for part in parts if runs_its_graph(part)]
        self._operations = {id(each) for graph in graphs for each in _operations(graph)}
        given = [graph.outputs for graph in graphs]
        self._outputs = {id(tensor) for tensor in keras.tree.flatten(given)}
        held = {id(graph) for graph in graphs}
        callers = [part for part in parts if id(part) not in held]
        self._called = {id(child) for part in callers for _, child in children(part)}

    def sole_normalization(self, layer: Any, axis: int) -> Any | None:
        """The BatchNormalization that takes all that a layer puts out, and nothing else.

        Args:
            layer: The layer.
            axis: The axis along which it shall normalise.

        Returns:
            It, built; `None` where there is none, or where code may call the layer or it.
        """
        takers = {
            id(node.operation): node.operation
            for node in layer._outbound_nodes
            if id(node.operation) in self._operations
        }
        made = {id(tensor) for node in layer._inbound_nodes for tensor in node.outputs}
        if id(layer) not in self._operations or len(takers) != 1 or made & self._outputs:
            return None
        (taker,) = takers.values()
        if type(taker) is not keras.layers.BatchNormalization or not taker.built:
            return None
        if {id(layer), id(taker)} & self._called:
            return None
        given = [tensor for node in taker._inbound_nodes for tensor in node.input_tensors]
        rank = len(given[0].shape)
        alone = all(id(tensor) in made for tensor in given)
        return taker if alone and taker.axis % rank == axis % rank else None


def _operations(graph: Any) -> list[Any]:
    return list(graph.layers if isinstance(graph, keras.Sequential) else graph.operations)
