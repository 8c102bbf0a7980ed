"""What the other callbacks of a fit must not do while ranks fall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from reducible_train import _keras
from reducible_train.errors import ArgumentError, ArgumentTypeError


def check_companions(callbacks: Sequence[Any], final_epoch: float) -> None:
    """Refuse Keras's own callbacks that would fail on weights of other shapes.

    Subclasses of them are trusted.

    Args:
        callbacks: The callbacks of the fit.
        final_epoch: The first epoch that surely runs at the final ranks.

    Raises:
        ArgumentError: `EarlyStopping` would restore weights of before a cut when training
            ends, or `BackupAndRestore` would load weights that do not fit when it is resumed.
    """
    for each in callbacks:
        if type(each) is keras.callbacks.BackupAndRestore:
            raise ArgumentError(
                "BackupAndRestore of Keras cannot resume a training whose ranks have changed: the "
                f"weights do not fit. Received: BackupAndRestore({each.backup_dir!r}). Use "
                f"RankBackupAndRestore(scheduler, {each.backup_dir!r}), after the RankScheduler."
            )
        restores = type(each) is keras.callbacks.EarlyStopping and each.restore_best_weights
        if restores and each.start_from_epoch < final_epoch:
            raise ArgumentError(
                "EarlyStopping of Keras must not keep weights of before a cut, which do not fit "
                "when it restores them at the end. Received: restore_best_weights=True with "
                f"start_from_epoch={each.start_from_epoch}. Use RankEarlyStopping(scheduler, "
                f"{each.monitor!r}, restore_best_weights=True) after the RankScheduler, which "
                "waits for the final ranks."
            )


def check_scheduler(scheduler: Any, kind: type, name: str) -> None:
    """Refuse what is no scheduler, where a callback needs one.

    Raises:
        ArgumentTypeError: It is something else.
    """
    if not isinstance(scheduler, kind):
        raise ArgumentTypeError(
            f"`scheduler` must be the RankScheduler of the same fit. Received: {scheduler!r}. "
            f"Write {name}(scheduler, ...)."
        )


def check_place(callback: Any, scheduler: Any) -> None:
    """Refuse a callback that does not stand behind its scheduler in a fit.

    Raises:
        ArgumentError: It stands before it, or alone.
    """
    callbacks = _keras.companions(callback)
    places = [i for i, each in enumerate(callbacks) if each is scheduler]
    own = [i for i, each in enumerate(callbacks) if each is callback]
    if callbacks and not (places and places[0] < own[0]):
        names = ", ".join(type(each).__name__ for each in callbacks)
        raise ArgumentError(
            f"{type(callback).__name__} must stand after its RankScheduler among the callbacks. "
            f"Received: {names}. Write model.fit(callbacks=[scheduler, "
            f"{type(callback).__name__}(scheduler, ...)])."
        )
