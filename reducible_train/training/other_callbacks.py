"""The other callbacks of a fit: what they must not do while ranks fall, and where they stand."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from reducible_train import _keras
from reducible_train.errors import ArgumentError, ArgumentTypeError
from reducible_train.settings.monitors import check_validated, direction
from reducible_train.training.comparisons import is_tuner_saver


class AtFinalRanks:
    """A callback that goes by the epochs at the final ranks only.

    To be mixed into a callback of Keras with `scheduler`, `monitor` and `mode`. Where ranks
    change once more after them (a guard undoes a cut, a search goes on), the scheduler lets it
    begin anew, like all that `comparisons` knows.
    """

    model: Any
    scheduler: Any
    monitor: str
    mode: str

    def check_fit(self) -> int:
        """When `fit` begins: 1 if the metric should be large, -1 if small.

        Raises:
            ArgumentError: The callback does not stand behind its scheduler, or the metric will
                not be there, or nobody knows its direction, or is measured with other weights.
        """
        check_place(self, self.scheduler)
        name, others = type(self).__name__, _keras.other_callbacks(self)
        keeps = (getattr(self, each, True) for each in ("restore_best_weights", "save_best_only"))
        if all(keeps):  # the weights of the best epoch, or a file of them
            own = next((i for i, each in enumerate(others) if each is self), 0)
            check_averages(self.monitor, others[:own], others[own:], name)
        known = _keras.metrics_to_watch(self.model, self.monitor, self.mode)
        check_monitored(self, self.monitor, self.mode, known, name)
        return direction(self.monitor, self.mode, known, name)

    def counts(self, epoch: int) -> bool:
        """True for an epoch at the final ranks."""
        return epoch >= self.scheduler.final_epoch


def check_monitored(
    callback: Any, monitor: str, mode: str, known: Mapping[str, str | None], whose: str
) -> None:
    """Refuse a metric of validation data that the fit which has called a callback will not have.

    Args:
        callback: The callback.
        monitor: The metric.
        mode: As for `direction`.
        known: As for `direction`.
        whose: What goes by it, for messages.

    Raises:
        ArgumentError: It would never be in the logs.
    """
    rhythm, never = _keras.validation_rhythm(callback), None
    if rhythm is not None and rhythm.is_silent:
        never = f"{rhythm} and epochs={rhythm.epochs.stop}"
    check_validated(monitor, mode, known, _keras.has_validation(callback), whose, never=never)


def check_averages(monitor: str, before: Sequence[Any], after: Sequence[Any], whose: str) -> None:
    """Refuse to keep the best weights where validation measures averages, and not these.

    Args:
        monitor: What tells the best.
        before: The callbacks that are told of an epoch's end before the weights are kept.
        after: Those that are told later; empty where the weights are kept after all of them.
        whose: What keeps them, for messages.

    Raises:
        ArgumentError: The averages are not in the model then.
    """
    early = _keras.swapping_averages(before)
    late = _keras.swapping_averages(after)
    if not monitor.startswith("val_") or (all(each.swap_on_epoch for each in early) and not late):
        return
    came = f"one after {whose}" if late else "swap_on_epoch=False"
    give = "SwapEMAWeights(swap_on_epoch=True)"
    way = f"Put {give} among the callbacks before it" if after else f"Give {give}"
    raise ArgumentError(
        f"SwapEMAWeights has validation measure averages of the weights, and {whose} would keep "
        f"the weights themselves, whose {monitor} is another. Received: {came}. {way}, "
        "which keeps averages."
    )


def goes_on(callbacks: Sequence[Any]) -> bool:
    """True where one brings back the weights of another fit when this one begins."""
    folders = (getattr(each, "backup_dir", None) for each in callbacks)
    return any(folder is not None and Path(folder).exists() for folder in folders)


def check_other_callbacks(callbacks: Sequence[Any], final_epoch: float) -> None:
    """Refuse callbacks that would keep a model of before a cut, or put its weights back.

    Classes derived from Keras's, and those that have the same attributes, are refused like
    them: what they add does not change what they keep. Those that only compare epochs are
    not: they begin anew at each cut.

    Args:
        callbacks: The callbacks of the fit.
        final_epoch: The first epoch that surely runs at the final ranks.

    Raises:
        ArgumentError: `ModelCheckpoint` would keep a larger model as the best, `EarlyStopping`
            would restore weights of before a cut when training ends, or `BackupAndRestore`
            would load weights that do not fit when it is resumed.
    """
    for each in callbacks:
        if isinstance(each, AtFinalRanks):
            continue
        name = _shown(each)
        if isinstance(each, keras.callbacks.BackupAndRestore):
            raise ArgumentError(
                f"{name} cannot resume a training whose ranks have changed: the "
                f"weights do not fit. Received: {type(each).__name__}({each.backup_dir!r}). Use "
                f"RankBackupAndRestore(scheduler, {each.backup_dir!r}), after the RankScheduler."
            )
        start = getattr(each, "start_from_epoch", 0)
        if not isinstance(getattr(each, "monitor", None), str) or start >= final_epoch:
            continue
        mode = getattr(each, "mode", "auto")
        metric = f"{each.monitor!r}" + (f", mode={mode!r}" if mode != "auto" else "")
        if getattr(each, "restore_best_weights", False):
            raise ArgumentError(
                f"{name} must not keep weights of before a cut, which do not fit "
                "when it restores them at the end. Received: restore_best_weights=True with "
                f"start_from_epoch={start}. Use RankEarlyStopping(scheduler, "
                f"{metric}, restore_best_weights=True) after the RankScheduler, which "
                "waits for the final ranks."
            )
        if getattr(each, "save_best_only", False):
            file = getattr(each, "filepath", None) or "best.reducible"
            raise ArgumentError(
                f"{name} must not choose the best epoch among those of larger models: the file "
                f"would hold one of before the cuts. Received: save_best_only=True with "
                f"monitor={each.monitor!r}. Use RankModelCheckpoint(scheduler, {file!r}, "
                f"monitor={metric}) after the RankScheduler, which waits for the final ranks, or "
                "save_best_only=False for a file of each epoch."
            )


def tell_of_plain_search(callbacks: Sequence[Any]) -> None:
    """Warn in a trial of keras-tuner whose hypermodel will not bring its ranks back."""
    trial = any(hasattr(each, "tuner") and hasattr(each, "trial") for each in callbacks)
    if trial and any(map(is_tuner_saver, callbacks)):  # which a RankHyperModel keeps to itself
        warnings.warn(
            "This search of keras-tuner will not find its models again: get_best_models and the "
            "trials that Hyperband continues build them dense, into which these ranks do not go. "
            "Received: a RankScheduler among the callbacks of search. Give the tuner "
            "RankHyperModel(build, SearchSpace(budget=(0.1, 0.5))) in place of them.",
            stacklevel=2,
        )


def _shown(callback: Any) -> str:
    """The class of Keras that a callback is of, and its own where that is another."""
    kind = type(callback)
    base = next((each for each in kind.__mro__ if _keras.is_of_keras(each)), kind)
    if base is keras.callbacks.Callback:
        return kind.__name__
    if base is kind:
        return f"{kind.__name__} of Keras"
    return f"{kind.__name__}, derived from {base.__name__} of Keras,"


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
    callbacks = _keras.other_callbacks(callback)
    places = [i for i, each in enumerate(callbacks) if each is scheduler]
    own = [i for i, each in enumerate(callbacks) if each is callback]
    if callbacks and not (places and places[0] < own[0]):
        names = ", ".join(type(each).__name__ for each in callbacks)
        raise ArgumentError(
            f"{type(callback).__name__} must stand after its RankScheduler among the callbacks. "
            f"Received: {names}. Write model.fit(callbacks=[scheduler, "
            f"{type(callback).__name__}(scheduler, ...)])."
        )
