"""Numbers in the data that name what a model does not have: a class, or a row of a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from reducible_train.errors import ArgumentError


def check_values(model: Any, x: Any, y: Any, where: str, weight: Any = None) -> None:
    """Refuse numbers that name what a model does not have: a class, or a row of a table.

    Backends tell them late and by the name of an operation, or not at all. What is no array is
    not looked at, nor is a loss or a model that is not Keras's own.

    Args:
        model: A compiled model.
        x: Its inputs, nested as it takes them; `None` if they are not known.
        y: Its targets, or `None`.
        where: Where they come from, for the message.
        weight: Sample weights, nested as the targets are; labels that weigh nothing may be any.

    Raises:
        ArgumentError: A class number beyond the output, or an index beyond an embedding.
    """
    for size, layer, given in _indices(model, x):
        wrong = _outside(given, size)
        if wrong.size:
            raise ArgumentError(
                f"Inputs of the embedding {layer!r} must be whole numbers from 0 to {size - 1}."
                f" Received: {_listed(wrong)} in {where}. Number the tokens from 0, or make the"
                f" table larger: input_dim={int(np.max(given)) + 1}."
            )
    for shape, loss, labels, weights in _labelled(model, y, weight):
        classes, places = shape[-1], shape[:-1]
        if not _is_sparse(loss) or classes is None:
            continue
        if not fits(labels.shape[1:], places) and not fits(labels.shape[1:], (*places, 1)):
            continue  # another fault, which is told elsewhere
        counted = _counted(labels, weights)
        wrong = _outside(counted, classes, getattr(loss, "ignore_class", None))
        if wrong.size:
            raise ArgumentError(
                f"Labels must be whole numbers from 0 to {classes - 1}, the classes of model"
                f" {model.name!r}. Received: {_listed(wrong)} in {where}. Number the classes from"
                " 0, give the model an output for each, or choose another loss."
            )


def fits(came: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    """True if an array has the shape that a model tells, `None` for any size."""
    if len(came) != len(wanted):
        return False
    return all(size in (None, given) for given, size in zip(came, wanted, strict=True))


def _outside(numbers: np.ndarray, size: int, ignored: int | None = None) -> np.ndarray:
    """The numbers that are no index of `size` things, each once."""
    whole = numbers.dtype.kind in "biu"
    if not numbers.size or (whole and numbers.min() >= 0 and numbers.max() < size):
        return numbers[:0].ravel()
    wrong = (numbers < 0) | (numbers >= size) | (np.mod(numbers, 1) != 0)
    if ignored is not None:
        wrong &= numbers != ignored
    return np.unique(numbers[wrong])


def _listed(numbers: np.ndarray) -> str:
    more = f" and {numbers.size - 5} more" if numbers.size > 5 else ""
    return ", ".join(map(str, numbers[:5].tolist())) + more


def _is_sparse(loss: Any) -> bool:
    """True for Keras's own loss of class numbers along the last axis."""
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            return False
    if loss is keras.losses.sparse_categorical_crossentropy:
        return True
    of_keras = type(loss) is keras.losses.SparseCategoricalCrossentropy
    return of_keras and getattr(loss, "axis", -1) == -1


def _counted(labels: np.ndarray, weights: Any) -> np.ndarray:
    """Labels that weigh something; all where weights are not given for each."""
    if not _is_numbers(weights):
        return labels
    heavy: np.ndarray = (weights if weights.ndim <= labels.ndim else weights[..., 0]) != 0
    return labels[heavy] if labels.shape[: heavy.ndim] == heavy.shape else labels


def _labelled(
    model: Any, y: Any, weight: Any
) -> Iterator[tuple[tuple[int | None, ...], Any, np.ndarray, Any]]:
    """Shape, loss, labels and weights of each output where the first three are known."""
    outputs = getattr(model, "outputs", None) or []
    names = _output_names(model)
    loss = getattr(model, "loss", None)
    losses = _parts(loss, names, len(outputs))
    if len(losses) != len(outputs):  # one for all
        losses = [loss] * len(outputs)
    labels = _parts(y, names, len(outputs))
    if len(labels) != len(outputs):
        return
    weights = _parts(weight, names, len(outputs))
    if len(weights) != len(outputs):
        weights = [None] * len(outputs)
    for output, each, given, heavy in zip(outputs, losses, labels, weights, strict=True):
        if _is_numbers(given) and len(output.shape) > 1:
            yield tuple(output.shape[1:]), each, given, heavy


def _output_names(model: Any) -> list[str]:
    """Names of the outputs of a graph, as targets go by them: keys of its answer, if it has any."""
    names = getattr(model, "output_names", None) or []
    answer = model.output if names else None
    if isinstance(answer, dict) and len(answer) == len(names):
        return [path[0] for path, _ in keras.tree.flatten_with_path(answer)]
    return list(names)


def _indices(model: Any, x: Any) -> Iterator[tuple[int, str, np.ndarray]]:
    """Size and name of each embedding that reads an input as it comes, with that input."""
    inputs = getattr(model, "inputs", None) or []
    given = _parts(x, [each.name for each in inputs], len(inputs))
    if len(given) != len(inputs):
        return
    for layer in filter(_is_table, model.layers):
        size = layer.input_dim
        try:
            source = layer.input
        except (AttributeError, ValueError):  # never called, or called more than once
            continue
        for tensor, array in zip(inputs, given, strict=True):
            if source is tensor and isinstance(size, int) and _is_numbers(array):
                yield size, layer.name, array


def _is_table(layer: Any) -> bool:
    """True for an embedding of Keras or its low-rank form: another class may read what it likes."""
    kind = type(layer)
    is_ours = kind.__module__.startswith("reducible_train.layers.")
    return kind is keras.layers.Embedding or (is_ours and issubclass(kind, keras.layers.Embedding))


def _parts(value: Any, names: list[str], count: int) -> list[Any]:
    """One part for each input or output of a model, in its order; others where they do not fit."""
    if isinstance(value, dict):
        single = count == 1 and len(value) == 1
        return [*value.values()] if single else [value.get(name) for name in names]
    return [*value] if isinstance(value, list | tuple) else [value]


def _is_numbers(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.ndim > 0
