"""Samples and labels against the model that shall learn from them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from reducible_train.errors import ArgumentError
from reducible_train.preflight.values import check_values, fits

_FROM_PYTHON = " Train it from Python, with RankScheduler among the callbacks of model.fit."


def check_data(model: Any, x: np.ndarray, y: np.ndarray, where: str) -> None:
    """Refuse samples that a compiled model cannot take, or would learn nonsense from.

    A model that says nothing of its inputs and outputs, or that has a loss of its own, is trusted.

    Args:
        model: A compiled model.
        x: Samples first.
        y: As many labels.
        where: Where they come from, for the message: a file, and which of its arrays.

    Raises:
        ArgumentError: Shapes or labels do not fit, or there are several inputs or outputs.
    """
    shape = _only(model, "input")
    _check_kind(model, x, where)
    if shape is not None and not fits(x.shape[1:], shape):
        raise ArgumentError(
            f"Samples must have the shape {shape} that the model takes. Received: {x.shape[1:]}"
            f" in {where}.{_reshaping(x.shape[1:], shape)}"
        )
    shape, loss = _only(model, "output"), _name_of(model.loss)
    if shape is not None and "sparse_categorical" in loss:
        _check_class_shape(shape, y, where)
    elif shape is not None and loss in _ONE_TO_ONE:
        _check_targets(loss, shape, y, where)
    check_values(model, x, y, where)


def check_sides(model: Any) -> None:
    """Refuse a model of several inputs or outputs, which one array of each cannot train.

    Raises:
        ArgumentError: It is one; says how it is trained.
    """
    for side in ("input", "output"):
        _only(model, side)


def _check_kind(model: Any, x: np.ndarray, where: str) -> None:
    """Refuse words for a model that takes numbers, and numbers for one that takes words."""
    takes = [each.dtype for each in getattr(model, "inputs", None) or []]
    words = x.dtype.kind not in "biuf"
    if words and takes != ["string"]:
        raise ArgumentError(
            f"Samples must be numbers, as model {model.name!r} takes them. Received: {x.dtype} in"
            f" {where}. Turn them into numbers, such as x.astype('float32'); for words the model"
            " needs a TextVectorization or StringLookup layer at its input."
        )
    if not words and takes == ["string"]:
        raise ArgumentError(
            f"Samples must be text, as model {model.name!r} takes it. Received: {x.dtype} in"
            f" {where}. Save the texts themselves, np.array(texts)."
        )


_ONE_TO_ONE = (
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
)


def _only(model: Any, side: str) -> tuple[int | None, ...] | None:
    """Shape of the one input or output, without samples; `None` where it is not known."""
    found = getattr(model, f"{side}s", None)
    if not found:
        return None  # a subclassed model says nothing about them
    if len(found) > 1:
        raise ArgumentError(
            f"The model must have one {side}. Received: a model of {len(found)} {side}s."
            + _FROM_PYTHON
        )
    return tuple(found[0].shape[1:])


def _name_of(loss: Any) -> str:
    """The full name of a loss, whatever it was given as; empty if it has none."""
    if isinstance(loss, list | tuple) and len(loss) == 1:
        loss = loss[0]
    if isinstance(loss, dict) and len(loss) == 1:
        (loss,) = loss.values()
    try:
        found = keras.losses.get(loss)
    except (TypeError, ValueError):
        return ""
    return str(getattr(found, "name", None) or getattr(found, "__name__", ""))


def _reshaping(came: tuple[int, ...], wanted: tuple[int | None, ...]) -> str:
    sizes = [size for size in wanted if size is not None]
    if len(sizes) == len(wanted) and np.prod(came) == np.prod(sizes):
        return f" Reshape them: x.reshape({', '.join(map(str, (-1, *sizes)))})."
    return " Reshape the arrays, or choose another model."


def _check_class_shape(shape: tuple[int | None, ...], y: np.ndarray, where: str) -> None:
    """Labels of a sparse loss: class numbers, one a sample (or one a place of it)."""
    classes, places = shape[-1], shape[:-1]
    given = y.shape[1:]
    if fits(given, shape) and classes != 1:
        raise ArgumentError(
            f"Labels of a sparse loss must be class numbers. Received: one-hot rows of shape"
            f" {given} in {where}. Write y.argmax(-1), or name loss: categorical_crossentropy."
        )
    if not fits(given, places) and not fits(given, (*places, 1)):
        raise ArgumentError(
            f"Labels must be class numbers, an array of shape {(len(y), *places)}. Received:"
            f" {y.shape} in {where}. Give one number a sample."
        )


def _check_targets(loss: str, shape: tuple[int | None, ...], y: np.ndarray, where: str) -> None:
    """Labels of a loss that compares them with the output, place by place."""
    given = y.shape[1:]
    single = shape[-1:] == (1,) and fits(given, shape[:-1])
    squeezed = given[-1:] == (1,) and fits(given[:-1], shape)
    if not fits(given, shape) and not single and not squeezed:
        whole = not given or given == (1,)
        advice = " Give targets of that shape, or choose another loss."
        if whole and "categorical" in loss:
            advice = " For class numbers name loss: sparse_categorical_crossentropy."
        raise ArgumentError(
            f"Labels of {loss} must have the shape {shape} of the model's output. Received: {given}"
            f" in {where}.{advice}"
        )
    if "crossentropy" in loss and (y.min() < 0 or y.max() > 1):
        raise ArgumentError(
            f"Labels of {loss} must lie between 0 and 1. Received: from {y.min()} to {y.max()} in"
            f" {where}. Scale them, or choose another loss."
        )
