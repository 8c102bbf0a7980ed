"""The data of a fit against its model: what Keras would find once ranks were cut, or an epoch over.

Keras itself is the judge: what does not plainly fit is run through the model and its loss, one
batch of it, and refused only where that fails. Of training data in batches, which are not read,
only the shapes are: they are traced, as `fit` will trace them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import keras

from reducible_train import _keras
from reducible_train.errors import ArgumentError, first_sentence
from reducible_train.preflight.values import fits
from reducible_train.selection.samples import shapes_fit

_TRAINING = "x and y"


class UnfitError(ArgumentError):
    """Data of a fit that its model, or the loss, cannot take."""


def check_fit_data(callback: Any, spec: Any) -> None:
    """Refuse data of a fit that its model, or the loss, cannot take.

    Args:
        callback: A callback that the fit has called.
        spec: Inputs, targets and weights that are trained on, as `_keras.data_of_fit` tells them.

    Raises:
        UnfitError: There are no targets, or more or fewer than inputs, or a batch of them fails.
    """
    model = callback.model
    if spec is not None and spec[1] is None:
        _check_targets(model, _TRAINING)
    known = _keras.data_to_try(callback)
    if all(name != _TRAINING for name, *_ in known):
        _check_shapes(model, _keras.shapes_to_try(spec))
    before: Any = None  # what is trained on, if it was looked at
    for name, batch, size in known:
        if batch[1] is None:
            _check_targets(model, name)
        if size is not None:  # arrays, of which Keras wants equally many
            _check_counts(batch, name)
        if name == _TRAINING and _keras.has_own_step(model):
            continue
        if _keras.len_of(batch) and _can_be_tried(model) and _is_doubtful(model, batch, before):
            rows = _keras.first_rows(batch, size)
            _try(model, partial(_keras.answers, model, [rows], judged=True), rows, name)
        before = batch


def _check_shapes(model: Any, shapes: Any) -> None:
    """Try what is known of batches that nobody has read, if the model will be run as a graph."""
    if shapes is None or model.run_eagerly or _keras.has_own_step(model):
        return
    if _can_be_tried(model) and _is_doubtful(model, shapes, None):
        _try(model, partial(_keras.trace_loss, model, *shapes), shapes, _TRAINING)


def _check_targets(model: Any, name: str) -> None:
    if _keras.needs_targets(model, training=name == _TRAINING):
        raise UnfitError(
            f"The loss that model '{model.name}' is compiled with compares with targets. Received: "
            f"inputs alone in {name} of the fit. Give targets beside them, or compile the model "
            "without a loss if its layers add theirs."
        )


def _check_counts(batch: Any, name: str) -> None:
    counts = [each.shape[0] for each in _keras.arrays_in(batch)]
    if len(set(counts)) > 1:
        raise UnfitError(
            f"Inputs, targets and weights must be of equally many samples. Received: "
            f"{', '.join(map(str, counts))} in {name} of the fit. Give each sample its target."
        )


def _can_be_tried(model: Any) -> bool:
    """True for a model that can be called here and now, with Keras's own words on what is good."""
    part = _keras.trained_model(model)
    return (
        type(model).compute_loss is keras.Model.compute_loss
        and _keras.can_be_judged(model)
        and _keras.has_call(part)
        and not _keras.unbuilt_parts(model)
        and not _keras.is_distributed(model)
        and not _keras.is_shared_by_processes(part.variables)
    )


def _is_doubtful(model: Any, batch: Any, before: Any) -> bool:
    """True unless data plainly fit, or are like others.

    Of a model without a graph nothing is known but that: there, what comes first is let pass.
    """
    x, y, weight = batch
    weighted = any(len(each.shape) != 1 for each in _keras.arrays_in(weight))
    if before is not None and not weighted and _kinds((x, y)) == _kinds(before[:2]):
        return False
    if not _keras.has_graph(_keras.trained_model(model)):
        return before is not None
    return weighted or not (_inputs_fit(model, x) and _targets_fit(model, y))


def _kinds(parts: Any) -> Any:
    """Shapes and kinds of numbers of nested arrays, by their places."""
    return [
        (path, None if each is None else (tuple(each.shape[1:]), str(each.dtype)))
        for path, each in keras.tree.flatten_with_path(parts)
    ]


def _inputs_fit(model: Any, x: Any) -> bool:
    known = _keras.known_inputs(model)
    given = _keras.in_order(x, model)
    named = not isinstance(x, dict) or set(x) == set(_keras.input_names(model) or ())
    if known is None or not named or any(each is None for each in given):
        return False
    takes = [each.dtype for each in _keras.trained_model(model).inputs]
    return "string" not in takes and shapes_fit([tuple(each.shape) for each in given], known)


def _targets_fit(model: Any, y: Any) -> bool:
    """True for targets of the very shape of the outputs, or of class numbers for them."""
    if not _keras.compares_with_targets(model):
        return True
    outputs, labels = keras.tree.flatten(model.outputs), keras.tree.flatten(y)
    if isinstance(y, dict) or len(outputs) != len(labels):
        return False
    less = 1 if any("sparse" in _name(each) for each in keras.tree.flatten(model.loss)) else 0
    return all(
        label is not None
        and fits(tuple(label.shape[1:]), tuple(output.shape[1 : len(output.shape) - less]))
        for label, output in zip(labels, outputs, strict=True)
    )


def _name(loss: Any) -> str:
    return (
        loss if isinstance(loss, str) else str(getattr(loss, "name", getattr(loss, "__name__", "")))
    )


def _is_of_shapes(error: Exception) -> bool:
    """True for the kinds of errors that Keras and its backends raise of data that do not fit."""
    if keras.backend.backend() == "torch" and isinstance(error, RuntimeError):
        return True
    kinds = (ValueError, TypeError, IndexError, KeyError)
    return isinstance(error, kinds) or type(error).__name__ == "InvalidArgumentError"


def _of_batches(shape: Any) -> tuple[Any, ...]:
    return tuple(length if place else None for place, length in enumerate(shape))


def _try(model: Any, judge: Callable[[], Any], batch: Any, name: str) -> None:
    """Let the model judge a batch, as Keras has it judged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras will say it again
            judge()
    except Exception as error:  # Keras and its backend raise whatever they like
        if not _is_of_shapes(error):
            return  # a loss of one's own may want a graph, or anything else that is not here
        shapes = [
            ", ".join(str(_of_batches(each.shape)) for each in _keras.arrays_in(part)) or "none"
            for part in batch[:2]
        ]
        raise UnfitError(
            f"Model '{model.name}' must be able to judge its data. Received: inputs of shape "
            f"{shapes[0]} and targets of shape {shapes[1]} in {name} of the fit: "
            f"{first_sentence(error)} Check shapes, targets and loss."
        ) from error
