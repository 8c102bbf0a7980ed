"""The loss of a batch, as the steps of Keras compute it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from reducible_train._keras.nested import map_arrays


def loss_of(model: Any, batch: Any, predicted: Any) -> Any:
    """What the model's `compute_loss` says of a batch, outside of training.

    Args:
        model: A compiled model.
        batch: Inputs, targets and weights.
        predicted: Its outputs.
    """
    x, y, weights = map(as_tensors, batch)
    return model._compute_loss(x, y, predicted, weights, training=False)


def as_tensors(data: Any) -> Any:
    """The arrays of some data as a step is given them: tensors, numbers with fractions in floatx.

    A loss of one's own may compute with nothing else, as with torch's functions.
    """
    return map_arrays(_as_tensor, data)


def _as_tensor(array: Any) -> Any:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        return array
    return keras.ops.convert_to_tensor(
        array, keras.config.floatx() if array.dtype.kind == "f" else None
    )
