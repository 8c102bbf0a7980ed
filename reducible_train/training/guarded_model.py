"""All that a guard has done to a model in training, done through Keras."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from reducible_train import _keras
from reducible_train.surgery.snapshot import ModelSnapshot, restore, take_snapshot


class KerasModel:
    """The `GuardedModel` of a guard in one fit.

    Args:
        model: The model in training.
        folder: Where states before a cut are kept; in memory if not given.
    """

    def __init__(self, model: Any, folder: str | os.PathLike[str] | None = None):
        self._model = model
        self._folder = folder

    def take_snapshot(self) -> ModelSnapshot:
        """Remember it as it is, optimizer state included."""
        return take_snapshot(self._model, self._folder)

    def restore(self, snapshot: ModelSnapshot, *, training: bool) -> None:
        """Bring it back; after `fit` has done what it does at its end, if that is over."""
        restore(self._model, snapshot, training=training)
        optimizer = None if training else _keras.compiled_optimizer(self._model)
        if optimizer is not None:
            optimizer.finalize_variable_values(self._model.trainable_weights)

    def is_finite(self) -> bool:
        """True unless weights are lost."""
        return all(np.isfinite(_keras.host_float(v)).all() for v in self._model.trainable_variables)

    def reset_metrics(self) -> None:
        """Begin running means anew: one that was NaN once stays so."""
        self._model.reset_metrics()

    def stop_training(self) -> None:
        """End the training after this epoch."""
        self._model.stop_training = True


def lost_numbers(model: Any) -> str | None:
    """Which weight of a model holds NaN or infinity, in words; `None` if all are as they should be.

    Args:
        model: The model; of a `Distiller`, its student is looked at.
    """
    _keras.sync_state(model)
    lost = _keras.lost_numbers(_keras.trained_model(model).weights)
    if lost is None:
        return None
    path, bad, size = lost
    return f"{bad:,} of {size:,} numbers of {path} were NaN or infinite"
