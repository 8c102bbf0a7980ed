"""Short names of weights and of data, to know them again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from math import prod
from typing import Any

import numpy as np

from reducible_train import _keras
from reducible_train.selection.samples import Samples

_BLOCK = 1 << 18  # numbers that are read at once
_MOST = 1 << 26  # numbers of an array that are read in all


def of_weights(model: Any) -> str:
    """A fingerprint of all weights of a model: shapes, dtypes and values."""
    return _digest(_keras.host_value(variable) for variable in model.weights)


def of_samples(samples: Samples | None) -> str:
    """A fingerprint of samples; empty without any."""
    if samples is None:
        return ""
    parts = [samples, *samples.more]
    arrays = _keras.arrays_in([[each.x, each.y, each.weight] for each in parts])
    return _digest(map(np.asarray, arrays))


def of_values(array: Any) -> str:
    """A fingerprint of the values of an array or tensor, as a training sees them.

    Equal for labels of `int32` and of `int64`, for images of `float32` and of `float64`, in memory
    or on a disk. Of more than 64 million numbers it reads a part, in blocks that lie evenly over
    the array; so one that is opened in place, such as a `numpy.memmap` or a dataset of h5py, is
    never held as a whole.
    """
    found = hashlib.sha256(repr(tuple(array.shape)).encode())
    for block in _blocks(array):
        for part in _as_trained(block):
            found.update(part)
    return found.hexdigest()


def _blocks(array: Any) -> Iterator[np.ndarray]:
    shape = tuple(int(each) for each in array.shape)
    if not shape or 0 in shape:
        yield np.asarray(array)
        return
    axis = next(each for each in range(len(shape)) if prod(shape[each + 1 :]) <= _BLOCK)
    rows = min(_BLOCK // prod(shape[axis + 1 :]), shape[axis])
    blocks = (*shape[:axis], -(-shape[axis] // rows))
    taken = min(prod(blocks), _MOST // (rows * prod(shape[axis + 1 :])))
    for each in np.linspace(0, prod(blocks) - 1, taken).round().astype(int):
        *outer, index = map(int, np.unravel_index(each, blocks))
        part = slice(index * rows, (index + 1) * rows)
        yield np.asarray(array[(*outer, part)] if outer else array[part])


def _as_trained(block: np.ndarray) -> Iterator[bytes]:
    """Numbers in single precision, to which Keras brings them; what an integer has beyond it."""
    if block.dtype.kind not in "biuf":
        yield repr([_text(each) for each in block.ravel().tolist()]).encode()
        return
    with np.errstate(over="ignore"):
        single = block.astype(np.float32) + np.float32(0.0)  # which has no sign
    yield single.tobytes()
    if block.dtype.kind in "iu" and np.any(single != block):
        yield block.astype("<i8").tobytes()


def _text(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def _digest(arrays: Iterable[np.ndarray]) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype} {array.shape}".encode())
        is_words = array.dtype == object
        found.update(repr(array.tolist()).encode() if is_words else array.tobytes())
    return found.hexdigest()
