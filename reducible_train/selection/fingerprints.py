"""Short names of weights and of data, to know them again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.selection.samples import Samples


def of_weights(model: Any) -> str:
    """A fingerprint of all weights of a model: shapes, dtypes and values."""
    return _digest(_keras.host_value(variable) for variable in model.weights)


def of_samples(samples: Samples | None) -> str:
    """A fingerprint of samples; empty without any."""
    if samples is None:
        return ""
    parts = [samples, *samples.more]
    arrays = keras.tree.flatten([[each.x, each.y, each.weight] for each in parts])
    return _digest(np.asarray(array) for array in arrays if array is not None)


def of_arrays(arrays: Iterable[Any]) -> str:
    """A fingerprint of arrays or tensors: shapes, dtypes and values."""
    return _digest(np.asarray(array) for array in arrays)


def _digest(arrays: Iterable[np.ndarray]) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype} {array.shape}".encode())
        is_words = array.dtype == object
        found.update(repr(array.tolist()).encode() if is_words else array.tobytes())
    return found.hexdigest()
