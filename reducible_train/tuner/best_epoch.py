"""The best epoch of a trial, among those at its final ranks, in the checkpoint of the trial."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

from reducible_train.training.rank_scheduler import RankScheduler
from reducible_train.training.watched import Watched


class BestEpoch(keras.callbacks.Callback):
    """Keeps the best epoch of a trial at the final ranks, and has it saved.

    keras-tuner's own saver takes the best of all epochs, which is one of before the cuts. Where
    none has the metric, as in a fit without validation data, the last is kept.

    Args:
        scheduler: The `RankScheduler` of the trial.
        monitor: The metric that tells the quality.
        sign: 1 if it should be large, -1 if small.
        save: Saves the model as it is; left out, nothing is saved.
        threshold: A value that must be passed for an epoch to be saved, of another execution of
            the same trial.

    Attributes:
        logs: What the best epoch has logged; empty before there was one.
        best: Its metric; `None` where it has none.
        best_epoch: That epoch, from 0; `None` before there was one.
        best_weights: Its weights, which `put_back` gives the model after the fit.
        saved: True if the saved model is of this execution.
    """

    restore_best_weights = True  # as of an `EarlyStopping`, whose figures are of the best epoch

    def __init__(
        self,
        scheduler: RankScheduler,
        monitor: str,
        sign: int,
        save: Callable[[Any], None] | None = None,
        threshold: float | None = None,
    ):
        super().__init__()
        self.scheduler, self.metric, self.sign = scheduler, monitor, sign
        self.logs: dict[str, float] = {}
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.saved = False
        self.best_weights: list[Any] | None = None
        self._save, self._threshold = save, threshold
        self._watched: Watched | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._watched = Watched(self.model, [("a search", self.metric)])
        self._watched.look()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._watched is not None:
            self._watched.end_step()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._watched is not None:
            self._watched.see(logs)
        if epoch < self.scheduler.final_epoch:
            return
        value = (logs or {}).get(self.metric)
        value = None if value is None or math.isnan(value) else float(value)
        last = value is None and self.best is None  # of epochs that nothing tells apart
        if self.best_epoch is not None and not (last or _better(value, self.best, self.sign)):
            return
        self.logs = {name: float(each) for name, each in (logs or {}).items() if _is_scalar(each)}
        self.best, self.best_epoch, self.best_weights = value, epoch, self.model.get_weights()
        others = self._threshold
        if self._save is not None and (others is None or _better(value, others, self.sign)):
            self._save(self.model)
            self.saved = True

    def put_back(self) -> None:
        """Give the model the weights of its best epoch, after the fit."""
        if self.best_weights is not None:
            self.model.set_weights(self.best_weights)
            self.best_weights = None


def _better(value: float | None, other: float | None, sign: int) -> bool:
    if value is None:
        return False
    return other is None or sign * value > sign * other


def _is_scalar(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
