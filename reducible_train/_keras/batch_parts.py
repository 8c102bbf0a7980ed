"""Inputs, targets and weights of a batch, where a training step of one's own may take anything."""

from __future__ import annotations

from typing import Any

import keras

from reducible_train._keras.nested import arrays_in


def parts_of(batch: Any, *, own: bool) -> tuple[Any, Any, Any]:
    """Inputs, targets and weights of a batch, or of what tells its shapes.

    Args:
        batch: As `fit` takes it.
        own: True where Keras's own step does not take it apart. Then the first part is inputs, the
            second targets if there is one for each sample, and the third weights if it looks so:
            in triplets of anchors, positives and negatives, three parts alike, it does not.

    Raises:
        ValueError: More parts than Keras knows, where it takes them apart.
    """
    parts = tuple(batch) if isinstance(batch, list) else batch
    if not own or not isinstance(parts, tuple) or len(parts) < 2:
        x, y, weight = keras.utils.unpack_x_y_sample_weight(parts)
        return x, y, weight
    x, y, *more = parts
    if not _are_of_samples(y, x):
        return x, None, None
    return x, y, more[0] if len(more) == 1 and _are_weights(more[0], x, y) else None


def holds_numbers(dtype: Any) -> bool:
    """True for the dtype of arrays of numbers."""
    try:
        name = keras.backend.standardize_dtype(dtype)
    except ValueError:  # objects, texts
        return False
    return bool(name != "string")


def _are_of_samples(y: Any, x: Any) -> bool:
    """True if there are as many targets as inputs, as far as their shapes tell."""
    rows = [shape[:1] for shape in map(_shape, arrays_in((x, y))) if shape is not None]
    return () not in rows and len({*rows} - {(None,)}) <= 1


def _are_weights(weight: Any, x: Any, y: Any) -> bool:
    """True for numbers shaped as the first axes of the targets, where not all parts are alike."""
    given, targets = arrays_in(weight), [_shape(each) for each in arrays_in(y)]
    if _kinds(weight) == _kinds(x) == _kinds(y):
        return False
    return all(
        holds_numbers(getattr(each, "dtype", object)) and _fits(_shape(each), targets)
        for each in given
    )


def _fits(shape: Any, targets: list[Any]) -> bool:
    """True for one number for each sample, or for each of the positions of some target."""
    if not shape:
        return shape is None
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return len(shape) == 1 or any(
        target is None
        or (
            len(shape) <= len(target)
            and all(None in pair or pair[0] == pair[1] for pair in zip(shape, target, strict=False))
        )
        for target in targets
    )


def _kinds(part: Any) -> list[tuple[Any, str]]:
    return [(_shape(each), str(getattr(each, "dtype", ""))) for each in arrays_in(part)]


def _shape(value: Any) -> tuple[int | None, ...] | None:
    """The shape of an array; `None` where it is not known, as TensorFlow's may be."""
    shape = getattr(value, "shape", ())
    return None if getattr(shape, "rank", 0) is None else tuple(shape)
