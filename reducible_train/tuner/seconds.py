"""How long a model takes for a batch, on this machine."""

from __future__ import annotations

from typing import Any

import keras

from reducible_train.selection.costs.latency import stopwatch

_BATCH = 32
_ROUNDS = 5


def seconds_of_batch(model: Any, x: Any) -> float:
    """Seconds in which a model answers 32 samples, or one batch of data that come in batches.

    The fastest of five rounds, since whatever else a machine does can only add to them.
    """
    batch = _batch(x)
    return stopwatch([lambda: model.predict_on_batch(batch)], _ROUNDS)[0]


def _batch(x: Any) -> Any:
    leaves = keras.tree.flatten(x)
    if all(hasattr(each, "shape") for each in leaves):
        return keras.tree.map_structure(lambda each: each[:_BATCH], x)
    first = x[0] if isinstance(x, keras.utils.PyDataset) else next(iter(x))
    return first[0] if isinstance(first, tuple) else first
