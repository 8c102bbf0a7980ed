"""Trace the calls of layers through a model without data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras.src import backend as _backend

from reducible_train._keras.layer_tree import is_graph_model, walk


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer in a forward pass: its input shape, and how often it is repeated.

    Cells of recurrent layers, and layers in TimeDistributed, are called once for each step
    of a sequence; `repeats` is `None` where its length is not known.
    """

    layer: Any
    shape: tuple[Any, ...]
    repeats: int | None


def trace_calls(model: Any, layers: Sequence[Any]) -> list[Call] | None:
    """The calls of `layers` in one forward pass, in order.

    Runs the model on symbolic inputs of batch size 1, without touching its graph; `None`
    where the input of the model is not known or it cannot be traced.
    """
    specs = _input_specs(model)
    if specs is None:
        return None
    steppers = (keras.layers.RNN, keras.layers.TimeDistributed)
    stepping = [layer for _, layer in walk(model) if isinstance(layer, steppers)]
    watched = list({id(layer): layer for layer in [*layers, *stepping]}.values())
    wanted = {id(layer) for layer in layers}
    calls: list[Call] = []
    frames: list[tuple[int | None, set[int]]] = []  # repeats, and what was called already

    def watch(layer: Any) -> Callable[..., Any]:
        original = layer.call
        steps = isinstance(layer, steppers)

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            inputs = args[0] if args else next(iter(kwargs.values()))
            shape = tuple(keras.tree.flatten(inputs)[0].shape)
            if id(layer) in wanted and not (frames and id(layer) in frames[-1][1]):
                calls.append(Call(layer, shape, frames[-1][0] if frames else 1))
                if frames:
                    frames[-1][1].add(id(layer))
            if not steps:
                return original(*args, **kwargs)
            outer = frames[-1][0] if frames else 1
            unknown = outer is None or shape[1] is None
            frames.append((None if unknown else outer * shape[1], set()))
            try:
                return original(*args, **kwargs)
            finally:
                frames.pop()

        return call

    try:
        for layer in watched:
            layer.__dict__["call"] = watch(layer)
        _backend.compute_output_spec(lambda x: model(x, training=False), specs)
    except Exception:  # any user code may refuse to be traced; sizes are then unknown
        return None
    finally:
        for layer in watched:
            layer.__dict__.pop("call", None)
    return calls


def _input_specs(model: Any) -> Any | None:
    if is_graph_model(model) and getattr(model, "inputs", None):
        struct = getattr(model, "_inputs_struct", None)
        struct = model.inputs if struct is None else struct
        if isinstance(model, keras.Sequential):
            struct = model.inputs[0]
        return keras.tree.map_structure(
            lambda t: keras.KerasTensor((1, *t.shape[1:]), dtype=t.dtype), struct
        )
    shapes = getattr(model, "_build_shapes_dict", None)
    if not shapes or len(shapes) != 1:
        return None
    (shape,) = shapes.values()
    if not isinstance(shape, (tuple, list)) or not all(
        isinstance(size, int) or size is None for size in shape
    ):
        return None
    return keras.KerasTensor((1, *shape[1:]), dtype=model.input_dtype)


def known_inputs(model: Any) -> list[tuple[Any, ...]] | None:
    """Shapes of the inputs of a model, flat, the batch axis first; `None` where not known."""
    specs = _input_specs(model)
    if specs is None:
        return None
    return [(None, *spec.shape[1:]) for spec in keras.tree.flatten(specs)]
