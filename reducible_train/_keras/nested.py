"""Arrays in structures of data, where `None` may stand in the place of one, as `fit` takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras


def arrays_in(data: Any) -> list[Any]:
    """The arrays of a structure, in its order; not those that are not there."""
    return [each for each in keras.tree.flatten(data) if _is_there(each)]


def map_arrays(function: Callable[..., Any], *parts: Any) -> Any:
    """Apply a function to the arrays of structures; `None` in the place of those not there."""
    return keras.tree.map_structure(
        lambda *arrays: function(*arrays) if _is_there(arrays[0]) else None, *parts
    )


def are_nested_alike(one: Any, other: Any) -> bool:
    """True if two structures have the same places."""
    try:
        keras.tree.assert_same_structure(one, other)
    except (TypeError, ValueError):
        return False
    return True


def _is_there(value: Any) -> bool:
    """False for `None`, and for what TensorFlow and Keras make of it in datasets."""
    kind = type(value).__name__
    return value is not None and kind != "NoneTensorSpec" and "Optional" not in kind
