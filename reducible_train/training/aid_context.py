"""The aids of one fit, and what they can have done to its model, done through Keras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reducible_train import _keras
from reducible_train.compressor import Compression, TargetValue, on_schedule
from reducible_train.layers import LowRank, find_kernels
from reducible_train.settings.aids import Aid


class ModelAidContext:
    """The `AidContext` of aids in one fit.

    Args:
        model: The model in training.
        compression: What cuts it.
        target_value: What its targets shall be at a time.
    """

    def __init__(
        self, model: Any, compression: Compression, target_value: TargetValue = on_schedule
    ):
        self.steps_per_epoch: int | None = None
        self.time = 0.0  # in epochs
        self.schedule_end = 0.0
        self._model = model
        self._compression = compression
        self._target_value = target_value
        self._penalized: list[Any] = []

    def warm_up(self, steps: int, initial: float) -> None:
        for optimizer in _keras.held_optimizers(self._model):
            _keras.warm_up_learning_rate(optimizer, steps, initial)

    def penalize_products(self, weight: float) -> None:
        fresh = [
            kernel.layer
            for kernel in find_kernels(_keras.trained_model(self._model))
            if kernel.rank is not None and kernel.layer.penalize_product(weight)
        ]
        self._penalized += fresh
        if fresh:
            _keras.rebuild_functions(self._model, training=True)

    def pull(self, fraction: float, ahead: float) -> None:
        self._compression.pull(self.time + ahead, fraction, self._target_value)

    def regrow(self, fraction: float) -> None:
        self._compression.regrow(self.time, fraction)

    def refresh(self, time: float, schedule_end: float) -> None:
        """An epoch begins: take away what has had its time."""
        self.time, self.schedule_end = time, schedule_end
        for optimizer in _keras.held_optimizers(self._model):
            _keras.end_warm_up(optimizer, if_over=True)

    def close(self) -> None:
        """Take away what was added."""
        for optimizer in _keras.held_optimizers(self._model):
            _keras.end_warm_up(optimizer)
        for layer in self._penalized:
            if isinstance(layer, LowRank):  # a guard may have made it dense again
                layer.penalize_product(0.0)
        if self._penalized:
            _keras.rebuild_functions(self._model, training=False)
        self._penalized.clear()


class AidRun:
    """The aids of one fit, told when it is their time; nothing is touched where there are none.

    Args:
        aids: What was asked for.
        context: What they can have done.
    """

    def __init__(self, aids: Sequence[Aid], context: ModelAidContext):
        self._aids = aids
        self._context = context
        for aid in aids:
            aid.begin(context)

    def before_epoch(self, epoch: int, schedule_end: float) -> None:
        """An epoch has its first step, and the cut before it has been made."""
        if self._aids:
            self._context.refresh(float(epoch), schedule_end)
        for aid in self._aids:
            aid.before_epoch(self._context)

    def after_cut(self, steps_per_epoch: int | None) -> None:
        """Ranks have fallen."""
        self._context.steps_per_epoch = steps_per_epoch
        for aid in self._aids:
            aid.after_cut(self._context)

    def close(self) -> None:
        """The fit is over, or was broken off."""
        if self._aids:
            self._context.close()
