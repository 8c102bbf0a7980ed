"""The aids of one fit, and what they can have done to its model, done through Keras."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from reducible_train import _keras
from reducible_train.compressor import Compression, TargetValue, on_schedule
from reducible_train.layers import LowRank, find_kernels, product_penalties
from reducible_train.settings.aids import Aid
from reducible_train.settings.checks import AMOUNT, Range, checked_number


class ModelAidContext:
    """The `AidContext` of aids in one fit.

    Args:
        model: The model in training.
        compression: What cuts it.
        target_value: What its targets shall be at a time.

    Attributes:
        idle: That a penalty is not in what the model trains, in a sentence; `None` if all is well.
    """

    def __init__(
        self, model: Any, compression: Compression, target_value: TargetValue = on_schedule
    ):
        self.steps_per_epoch: int | None = None
        self.time = 0.0  # in epochs
        self.schedule_end = 0.0
        self.idle: str | None = None
        self._model = model
        self._compression = compression
        self._target_value = target_value
        self._penalized: list[Any] = []
        self._torch_warm_ups: list[_keras.TorchWarmUp] = []

    def warm_up(self, steps: int, initial: float) -> None:
        checked_number("steps", steps, AMOUNT, "a warm-up")
        checked_number("initial", initial, AMOUNT, "a warm-up")
        for optimizer in _keras.held_optimizers(self._model):
            _keras.warm_up_learning_rate(optimizer, steps, initial)
        self._end_torch_warm_ups()
        torch_optimizers = _keras.torch_optimizers_of(_keras.trained_model(self._model))
        self._torch_warm_ups = [
            _keras.TorchWarmUp(each, steps, initial) for each in torch_optimizers
        ]

    def _end_torch_warm_ups(self, *, if_over: bool = False) -> None:
        ended = [each for each in self._torch_warm_ups if each.is_over or not if_over]
        for each in ended:
            each.end()
        self._torch_warm_ups = [each for each in self._torch_warm_ups if each not in ended]

    def penalize_products(self, weight: float) -> None:
        checked_number("weight", weight, AMOUNT, "a penalty")
        fresh = [
            kernel.layer
            for kernel in find_kernels(_keras.trained_model(self._model))
            if kernel.rank is not None and kernel.layer.penalize_product(weight)
        ]
        self._penalized += fresh
        if fresh:
            _keras.add_to_loss(self._model, self._penalties)
            _keras.rebuild_functions(self._model, training=True)

    def _penalties(self) -> list[Any]:
        layers = (each for each in self._penalized if isinstance(each, LowRank))
        return [penalty for layer in layers for penalty in product_penalties(layer)]

    def end_step(self) -> None:
        """A step was trained: warn, once, if it has left out what was added to its loss."""
        layers = (each for each in self._penalized if isinstance(each, LowRank))
        if self.idle is None and any(each.lacks_penalty for each in layers):
            self.idle = (
                f"The penalty of ProductDecay is not in what model '{self._model.name}' trains, "
                f"for a step or a loss of its own leaves out the losses of its layers: "
                f"{type(self._model).__name__}. Add sum(self.losses) to its loss, or leave "
                "ProductDecay out."
            )
            warnings.warn(self.idle, UserWarning, stacklevel=2)

    def pull(self, fraction: float, ahead: float) -> None:
        checked_number("fraction", fraction, Range(0, 1), "a pull")
        self._compression.pull(self.time + ahead, fraction, self._target_value)

    def regrow(self, fraction: float) -> None:
        checked_number("fraction", fraction, AMOUNT, "a regrowth")
        self._compression.regrow(self.time, fraction)

    def refresh(self, time: float, schedule_end: float) -> None:
        """An epoch begins: take away what has had its time."""
        self.time, self.schedule_end = time, schedule_end
        for optimizer in _keras.held_optimizers(self._model):
            _keras.end_warm_up(optimizer, if_over=True)
        self._end_torch_warm_ups(if_over=True)

    def close(self) -> None:
        """Take away what was added."""
        optimizers = _keras.held_optimizers(self._model)
        cut_short = [each for each in optimizers if _keras.end_warm_up(each)]
        self._end_torch_warm_ups()
        for layer in self._penalized:
            if isinstance(layer, LowRank):  # a guard may have made it dense again
                layer.penalize_product(0.0)
        _keras.add_no_more(self._model)
        if self._penalized or cut_short:
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

    def end_step(self) -> None:
        """A step was trained."""
        self._context.end_step()

    @property
    def notes(self) -> list[str]:
        """What the reader of a report should know."""
        return [] if self._context.idle is None else [self._context.idle]

    def close(self) -> None:
        """The fit is over, or was broken off."""
        if self._aids:
            self._context.close()
