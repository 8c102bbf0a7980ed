"""A copy of a model through its graph."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import keras
from keras.src.models.functional import Functional

from reducible_train._keras.layer_state import (
    keeps_files,
    put_state,
    saves_all_variables,
    state_of,
)
from reducible_train._keras.layer_tree import has_graph, walk
from reducible_train._keras.tracking import own_variables
from reducible_train._keras.values import copied


def runs_its_graph(layer: Any) -> bool:
    """True for Sequential and Functional models that compute their graph and no more."""
    return type(layer).call in (keras.Sequential.call, Functional.call) and has_graph(layer)


def rerun_graph(model: Any, call: Callable[..., Any]) -> tuple[Any, Any]:
    """Run the graph of a Functional model on fresh inputs, each operation through `call`.

    The public `clone_model` takes no function for the calls in a Sequential model, shares
    no layer between a model and another one nested in it, and compiles what it makes.

    Returns:
        The inputs and outputs of the new graph, in the structure of the model's.
    """
    inputs = keras.tree.map_structure(_fresh_input, model._inputs_struct)

    def call_operation(operation: Any, *args: Any, **kwargs: Any) -> Any:
        return call(operation, *args, **kwargs)

    return inputs, model._run_through_graph(inputs, call_fn=call_operation)


def _fresh_input(tensor: Any) -> Any:
    source = tensor._keras_history.operation
    return type(source).from_config(source.get_config()).output


def takes_ragged(layer: Any) -> bool:
    """True for a layer that a graph calls on ragged tensors."""
    given = [each for node in layer._inbound_nodes for each in node.input_tensors]
    return any(getattr(each, "ragged", False) for each in given)


def fresh_input_layers(model: Any) -> list[Any]:
    """An input layer like that of a Sequential model, whose `layers` leave it out."""
    first = model._layers[0]
    is_input = isinstance(first, keras.layers.InputLayer)
    return [type(first).from_config(first.get_config())] if is_input else []


def copy_state(source: Any, target: Any) -> None:
    """Give a built copy of a layer the state of the original: variables, vocabularies.

    `set_weights` leaves the state of random numbers out, and what layers derive from
    their weights when they load them (`Normalization`).
    """
    pairs = zip([source, *_below(source)], [target, *_below(target)], strict=True)
    for old, new in pairs:
        for variable, value in _same_variables(new, old):
            variable.assign(copied(value))
        put_state(new, {key: copied(value) for key, value in state_of(old).items()})
        if keeps_files(old):
            with tempfile.TemporaryDirectory() as folder:
                old.save_assets(folder)
                new.load_assets(folder)


def _same_variables(layer: Any, other: Any) -> list[tuple[Any, Any]]:
    """Each variable of a layer, with that of one like it: by name where names tell them apart.

    None where all that matters is saved. A layer that was quantized after it was built has them in
    another order than one that is built as quantized.
    """
    if saves_all_variables(other):
        return []
    own, others = own_variables(layer), own_variables(other)
    named, others_named = ({each.name: each for each in some} for some in (own, others))
    if len(named) == len(own) and named.keys() == others_named.keys():
        others = [others_named[name] for name in named]
    seeds = zip(layer._seed_generators, other._seed_generators, strict=True)
    return [*zip(own, others, strict=True), *((new.state, old.state) for new, old in seeds)]


def _below(layer: Any) -> list[Any]:
    return [inner for _, inner in walk(layer)]
