"""A calibration set, read as `fit` takes its data: arrays, tuples of them, sources of batches."""

from __future__ import annotations

import math
from typing import Any, cast

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.errors import ArgumentError
from reducible_train.selection.samples import (
    FEW,
    ROOM,
    Samples,
    counting_samples,
    joined,
)
from reducible_train.selection.sources import batches_of
from reducible_train.settings.checks import plain

ENOUGH = 2048  # samples of a source that does not say how long it is, or of a fit


def samples_of(calibration: Any, *, every: bool = False) -> Samples:
    """The samples of a calibration set.

    Args:
        calibration: As `model.fit` takes it: inputs (an array, or a list or dictionary of arrays),
            a tuple `(x, y)` or `(x, y, sample_weight)`, or a source of batches of these: a
            `tf.data.Dataset`, a `keras.utils.PyDataset`, a torch `DataLoader`, a generator.
        every: True for those of weight 0 as well, which nobody observes and `evaluate` counts.

    Returns:
        Those of weight above 0, unless it shall be every one. Of a source that does not say how
        long it is, the first 2048.

    Raises:
        ArgumentError: No samples, or inputs and targets of different number; what is no array.
    """
    batches = batches_of(calibration, ENOUGH) or [calibration]
    given = joined([_arrays(each) for each in batches])
    samples = given.counting
    if not len(samples):
        raise ArgumentError(
            "`calibration` must hold samples, at least one, of a weight above 0. Received: none. "
            "Give it as you give model.fit its data."
        )
    return given if every else samples


def drawn(x: Any, y: Any, weight: Any, *, count: int | None = None) -> Samples:
    """Samples of arrays, at random, but the same each time.

    Args:
        x: Inputs: an array or a matrix of SciPy by rows, or a structure of them, samples first.
        y: Targets, likewise, or `None`.
        weight: Sample weights, likewise, or `None`.
        count: How many; left out, 2048, or less where so many take more than 256 MiB.

    Returns:
        Those of weight above 0.
    """
    arrays = _keras.arrays_in((x, y, weight))
    most = arrays[0].shape[0]
    if count is None:
        size = sum(math.prod(each.shape[1:]) * each.dtype.itemsize for each in arrays)
        count = min(ENOUGH, max(FEW, ROOM // max(1, size)))
    places = np.sort(np.random.default_rng(0).permutation(most)[:count])
    rows = (_keras.map_arrays(lambda array: _dense(array[places]), each) for each in (x, y, weight))
    return joined([counting_samples(cast(tuple[Any, Any, Any], tuple(rows)))])


def _arrays(given: Any) -> tuple[Any, Any, Any]:
    """Inputs, targets and weights as arrays, checked to be of equally many samples."""
    x, y, weight = _unpacked(given)
    x, y, weight = (_keras.map_arrays(_array, part) for part in (x, y, weight))
    arrays = _keras.arrays_in([x, y, weight])
    counts = {len(a) if a.ndim else 0 for a in arrays}
    lacking = [] if _keras.arrays_in(x) else ["no inputs"]
    if lacking or len(counts) != 1 or 0 in counts:
        told = ", ".join([*lacking, *(str(each.shape) for each in arrays)])
        raise ArgumentError(
            "`calibration` must be arrays of equally many samples, at least one: x, [x1, x2] of a "
            "model of two inputs, (x, y) or (x, y, sample_weight). "
            f"Received: {told}. Give it as you give model.fit its data; a dataset in batches: "
            "dataset.batch(32)."
        )
    return x, y, weight


def _unpacked(given: Any) -> tuple[Any, Any, Any]:
    """Inputs, targets and weights: a tuple is these, a list or a dictionary is inputs."""
    parts = given if isinstance(given, tuple) else (given,)
    if not 1 <= len(parts) <= 3:
        raise ArgumentError(
            "`calibration` must be (x,), (x, y) or (x, y, sample_weight), where it is a tuple. "
            f"Received: a tuple of {len(parts)}. Several inputs are a list: [x1, x2]."
        )
    x, y, weight = (*parts, None, None)[:3]
    return x, y, weight


def _dense(rows: Any) -> Any:
    return np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows)


def _array(given: Any) -> Any:
    dense = given.toarray() if hasattr(given, "toarray") else given  # scipy's sparse matrices
    try:
        is_tensor = keras.ops.is_tensor(dense)
        array = np.asarray(keras.ops.convert_to_numpy(dense) if is_tensor else dense)
    except Exception as error:
        raise _no_array(type(given).__name__) from error
    if array.ndim == 0:
        number = isinstance(plain(given), int | float)
        remedy = _BATCHED if is_tensor else _COUNTED if number else _LOADED
        raise _no_array(repr(given)[:200], remedy)
    words = array.dtype == object and all(isinstance(e, str | bytes) for e in array.flat)
    if array.dtype == object and not words:
        raise _no_array(f"{type(given).__name__} of {array.dtype}")
    return array


_COUNTED = (
    "A number counts the samples of a fit, which only a RankScheduler sees; give x[:2048]. Of "
    "lists of numbers make arrays, np.asarray(x)."
)
_LOADED = "Load a file first, such as np.load(path)['x']."
_BATCHED = "Give a dataset in batches, dataset.batch(32)."
_ALIKE = "Make arrays of it, sequences padded to one length in a batch."


def _no_array(received: str, remedy: str = _ALIKE) -> ArgumentError:
    return ArgumentError(
        "`calibration` must be arrays, or batches of arrays, of samples of one shape. "
        f"Received: {received}. {remedy}"
    )
