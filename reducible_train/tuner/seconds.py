"""How long a model takes for a batch, on this machine."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.selection.costs.latency import stopwatch

_BATCH = 32
_ROUNDS = 5


def seconds_of_batch(model: Any, x: Any) -> float:
    """Seconds in which a model answers 32 samples, or as many as there are.

    The fastest of five rounds, since whatever else a machine does can only add to them.
    """
    batch = _batch(x)
    return stopwatch([lambda: model.predict_on_batch(batch)], _ROUNDS)[0]


def _batch(x: Any) -> Any:
    if all(hasattr(each, "shape") for each in _keras.arrays_in(x)):
        return _keras.map_arrays(lambda each: each[:_BATCH], x)
    found: list[Any] = []
    in_order = isinstance(x, keras.utils.PyDataset)
    for batch in _keras.batches_in_order(x) if in_order else x:
        found.append(batch[0] if isinstance(batch, tuple) else batch)
        if sum(map(_samples, found)) >= _BATCH:
            break
    if len(found) == 1:
        return _keras.map_arrays(lambda each: each[:_BATCH], found[0])
    whole = _keras.map_arrays(lambda *parts: np.concatenate(parts), *found)
    return _keras.map_arrays(lambda each: each[:_BATCH], whole)


def _samples(batch: Any) -> int:
    return int(_keras.arrays_in(batch)[0].shape[0])
