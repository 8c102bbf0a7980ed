"""What is measured of a model at the end of a fit: its file, its latency."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from reducible_train.container.codecs import DTYPE_NAMES, codec_for

_SAMPLED = 1 << 20  # numbers of a variable that are encoded, the rest is taken to be alike
_RECORD = 60  # bytes of one variable in the header
_HEADER = 1300  # of the rest of it, the report included


def file_bytes(model: Any) -> int:
    """About how many bytes the compact file will have: the weights encoded, and its header.

    Of a large variable a million numbers are encoded, so it takes a second for fifty of these.
    """
    return _HEADER + sum(_RECORD + _encoded(variable) for variable in model.weights)


def _encoded(variable: Any) -> int:
    values = np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).reshape(-1)
    if not values.size or values.dtype.name not in DTYPE_NAMES:
        return int(values.nbytes)
    part = np.ascontiguousarray(values[:_SAMPLED])
    size = sum(map(len, codec_for(part.dtype).encode(part)))
    return round(size * values.size / part.size)


def latency(model: Any, batch_size: int = 32, rounds: int = 20) -> float | None:
    """Seconds of a prediction for one batch of zeros, the fastest of several rounds.

    `None` for a model that leaves lengths open, or does not tell its inputs.
    """
    inputs = getattr(model, "inputs", None)
    if not inputs or any(None in each.shape[1:] for each in inputs):
        return None
    batch = [np.zeros((batch_size, *each.shape[1:]), each.dtype) for each in inputs]
    given: Any = batch if len(batch) > 1 else batch[0]
    return _fastest(lambda: model.predict_on_batch(given), rounds)


def _fastest(call: Any, rounds: int) -> float:
    call()  # compiles it
    seconds: Sequence[float] = [_timed(call) for _ in range(rounds)]
    return min(seconds)


def _timed(call: Any) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
