"""Early stopping that waits for the final ranks."""

from __future__ import annotations

from typing import Any

import keras

from reducible_train.settings.callbacks import EarlyStoppingSettings
from reducible_train.training.other_callbacks import AtFinalRanks, check_scheduler
from reducible_train.training.rank_scheduler import RankScheduler


class RankEarlyStopping(AtFinalRanks, keras.callbacks.EarlyStopping):
    """Ends a training that no longer improves, once the ranks have fallen.

    Keras's `EarlyStopping` compares a model with the larger one it was before a cut, stops
    before the ranks have fallen, and cannot restore weights of other shapes. This one begins
    at the final ranks, and begins anew whenever ranks change after that (a guard has undone a
    cut, a search goes on): the best weights are the best at the ranks in force. Put it after
    the `RankScheduler` and, to restore weights, after `SwapEMAWeights(swap_on_epoch=True)`, whose
    averages are what validation measures.

    Args:
        scheduler: The `RankScheduler` of the same fit.
        monitor: A metric of the logs.
        min_delta: Least change that counts as an improvement, in the metric's unit.
        patience: Epochs without an improvement after which training stops.
        verbose: 1 to tell when it acts.
        mode: `"max"` or `"min"`, whether the metric should be large or small; `"auto"` asks
            Keras.
        baseline: A value that must be passed to count as an improvement.
        restore_best_weights: True to end with the weights of the best epoch.
        start_from_epoch: First epoch (from 0) that counts; the first at the final ranks, if
            that is later.

    Raises:
        ArgumentTypeError: `scheduler` is something else.
        ArgumentError: A bound in per cent on a metric that is a fraction; when `fit` begins: it
            does not stand after the scheduler, or the metric will not be in the logs, or it would
            restore weights where averages are measured, or nobody knows whether the metric should
            be large or small.

    Example:
        >>> from reducible_train import Ramp, RankScheduler
        >>> scheduler = RankScheduler(budget=Ramp(1.0, 0.2, start_epoch=2, end_epoch=6))
        >>> stop = RankEarlyStopping(scheduler, "val_loss", patience=3, restore_best_weights=True)
        >>> # model.fit(x, y, epochs=100, callbacks=[scheduler, stop])
    """

    monitor_op: Any

    def __init__(
        self,
        scheduler: RankScheduler,
        monitor: str = "val_loss",
        *,
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        check_scheduler(scheduler, RankScheduler, "RankEarlyStopping")
        asked = EarlyStoppingSettings(
            monitor, min_delta, patience, mode, baseline, restore_best_weights, start_from_epoch
        )
        super().__init__(verbose=verbose, **vars(asked))
        self.scheduler = scheduler

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | vars(keras.callbacks.Callback())  # a copy is in no fit yet

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        sign = self.check_fit()
        super().on_train_begin(logs)
        if self.monitor_op is None:  # Keras would look for the metric among those of `compile`
            self.monitor_op = keras.ops.greater if sign > 0 else keras.ops.less
            self.min_delta *= sign

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.counts(epoch):
            super().on_epoch_end(epoch, logs)
