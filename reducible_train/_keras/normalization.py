"""Which BatchNormalization takes what a layer puts out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from reducible_train._keras.layer_tree import walk


def graph_outputs(model: Any) -> set[int]:
    """Ids of the tensors that a model and the models within it give out."""
    graphs = (model, *(layer for _, layer in walk(model)))
    given = [graph.outputs for graph in graphs if getattr(graph, "outputs", None) is not None]
    return {id(tensor) for tensor in keras.tree.flatten(given)}


def sole_normalization(layer: Any, axis: int, outputs: Iterable[int]) -> Any | None:
    """The BatchNormalization that takes all that a layer of a graph puts out, and nothing else.

    Keras has no public way from a layer to what follows it.

    Args:
        layer: The layer.
        axis: The axis along which it shall normalise.
        outputs: Ids of tensors that are needed elsewhere, too.

    Returns:
        It, built; `None` where there is none, or where the layer is called by code.
    """
    takers = {id(node.operation): node.operation for node in layer._outbound_nodes}
    made = {id(tensor) for node in layer._inbound_nodes for tensor in node.outputs}
    if len(takers) != 1 or made & set(outputs):
        return None
    (taker,) = takers.values()
    if type(taker) is not keras.layers.BatchNormalization or not taker.built:
        return None
    given = [tensor for node in taker._inbound_nodes for tensor in node.input_tensors]
    rank = len(given[0].shape)
    alone = all(id(tensor) in made for tensor in given)
    return taker if alone and taker.axis % rank == axis % rank else None
