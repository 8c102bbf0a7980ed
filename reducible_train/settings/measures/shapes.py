"""The shape of one sample of a model's inputs, as a user tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reducible_train.errors import ArgumentError
from reducible_train.settings.checks import is_count, plain

InputShape = Sequence[Any] | Mapping[str, Any]
_TEXTS = str | bytes | bytearray | memoryview  # whose elements are numbers as well


def checked_input_shape(input_shape: Any) -> InputShape | None:
    """The argument `input_shape` with each shape as a tuple, if it can be one.

    Raises:
        ArgumentError: No shape, list of shapes, or shapes by name.

    Example:
        >>> checked_input_shape((128,)), checked_input_shape({"tokens": [128], "image": [28, 28]})
        ((128,), {'tokens': (128,), 'image': (28, 28)})
    """
    if input_shape is None:
        return None
    if is_shape(input_shape):
        return tuple(map(plain, input_shape))
    names = isinstance(input_shape, Mapping)
    several = input_shape.values() if names else input_shape
    listed = isinstance(several, Sequence | type({}.values())) and not isinstance(several, _TEXTS)
    if not listed or not len(several) or not all(map(is_shape, several)):
        raise ArgumentError(
            "`input_shape` must be the shape of one sample, without the batch axis, in whole "
            "numbers; of several inputs a list of shapes, or a dictionary by name. "
            f"Received: input_shape={input_shape!r}. Write for example input_shape=(128,)."
        )
    shapes = [tuple(map(plain, each)) for each in several]
    return dict(zip(input_shape, shapes, strict=True)) if names else tuple(shapes)


def is_shape(value: Any) -> bool:
    """True for a row of whole numbers, one at least, or none at all."""
    listed = isinstance(value, Sequence) and not isinstance(value, _TEXTS)
    return listed and all(map(is_count, value))
