"""What is checked before a fit begins, so that nothing of it fails later."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

from reducible_train import _keras
from reducible_train.compressor import Compression
from reducible_train.compressor.progress import Progress
from reducible_train.errors import ArgumentError, either
from reducible_train.layers import find_kernels
from reducible_train.preflight.paths import check_folder
from reducible_train.preflight.values import check_values
from reducible_train.selection.distribution import check_workers
from reducible_train.selection.measured import check_weights, losses_of
from reducible_train.selection.sample_checks import check_asking
from reducible_train.settings.cadence import Cadence
from reducible_train.settings.compression import CompressionSettings
from reducible_train.settings.faults import raise_first
from reducible_train.settings.guard import Guard, direction_of
from reducible_train.settings.judged import last_judged, validated_always
from reducible_train.settings.timing import final_epoch, guard_faults, never_looks, timing_faults
from reducible_train.training.fit_data import check_fit_data
from reducible_train.training.other_callbacks import (
    check_monitored,
    check_other_callbacks,
    goes_on,
    tell_of_plain_search,
)
from reducible_train.training.rank_logs import check_names
from reducible_train.training.sampling import CalibrationSet, asking_in


def check_fit(
    settings: CompressionSettings,
    scheduler: Any,
    others: Sequence[Any],
    calibration: CalibrationSet,
    data: Any,
    kind: type,
) -> None:
    """Refuse a fit that could not bring what is asked.

    Args:
        settings: What is asked for.
        scheduler: The callback whose `on_train_begin` this is called from.
        others: The other callbacks of the fit.
        calibration: The calibration set.
        data: Inputs, targets and weights of the fit, as `_keras.data_of_fit` tells them.
        kind: The class of schedulers, of which a fit can have one.

    Raises:
        ArgumentError: Of the model, the times, the callbacks, the guard or the data.
    """
    model, epochs = scheduler.model, (scheduler.params or {}).get("epochs")
    check_workers(model)
    tell_of_plain_search(others)  # first: `Hyperband` chooses epochs that are refused below
    if timing_faults(settings, epochs):
        check_steps(settings, epochs, known_steps(scheduler), _keras.first_epoch(scheduler))
    raise_first(timing_faults(settings, epochs))
    check_callbacks(settings, epochs, others, kind)
    if settings.guard is not None:
        check_guard(settings.guard, scheduler)
    first = _keras.first_epoch(scheduler)
    if not _is_cut(model) and (settings.search is not None or not first):
        raise_first(guard_faults(settings, epochs, first))
    check_names(model)
    losses = losses_of(settings.analysis)
    if losses is not None and not goes_on(others):
        check_weights(losses, _keras.trained_model(model))
    for where, x, y in _keras.arrays_of_fit(scheduler):
        check_values(model, x, y, f"{where} of the fit")
    check_fit_data(scheduler, data)
    check_asking(model, asking_in(settings), data if calibration.is_of_the_fit else None)


def foreseen_shortfall(
    settings: CompressionSettings, scheduler: Any, compression: Compression | None
) -> tuple[str, str] | None:
    """That a fit is over before ranks are looked at, or judged, and what to do about it.

    Not where a look may have left a dense model as it is, or made the cuts of before. It is told,
    not refused: a fit for each epoch may go on to the next look.

    Args:
        settings: What is asked for.
        scheduler: The callback whose `on_train_begin` this is called from.
        compression: Its model on the way; `None` where that has no weights yet.
    """
    if compression is None or _is_cut(scheduler.model):
        return None
    if settings.guard is not None:
        return _never_judged(settings, settings.guard, scheduler, compression.progress)
    epochs, first = (scheduler.params or {}).get("epochs"), _keras.first_epoch(scheduler)
    unmet = compression.progress.unmet()
    surely = unmet is not None and unmet.foreseeable
    return never_looks(settings, epochs, first) if surely else None


def _never_judged(
    settings: CompressionSettings, guard: Guard, scheduler: Any, progress: Progress
) -> tuple[str, str] | None:
    """That a fit validates too rarely for a guard to let the last cut stay, or any."""
    rhythm, name = _keras.validation_rhythm(scheduler), guard.monitor.removeprefix("val_")
    known = _keras.metrics_to_watch(scheduler.model, guard.monitor, guard.mode)
    if rhythm is None or rhythm.is_silent or name == guard.monitor:
        return None
    if name not in {"loss", *known}:  # a callback may log it when it likes
        return None
    turn = last_judged(settings, rhythm.epochs, rhythm)
    if turn == last_judged(settings, rhythm.epochs, rhythm.epochs):
        return None  # validating more often changes nothing
    time = 0.0 if turn is None else _asks_until(settings, turn)
    unmet = [goal for goal in progress.all_unmet() if goal.foreseeable]
    late = [goal for goal in unmet if turn is None or goal(time) != goal(math.inf)]
    if not late and (turn is not None or settings.search is None):
        return None
    end = "no cut will stay"
    if turn is not None and any(goal in late for goal in progress.all_unmet(time)):
        where = "of" if settings.cadence.steps else "before"
        aims = " and ".join(f"{goal.name} {goal(time):.4g}" for goal in late)
        wanted = " and ".join(f"{goal(math.inf):.4g}" for goal in late)
        end = f"the last cut that can stay is the one {where} epoch {turn}, "
        end += f"to {aims} instead of {wanted}"
    ways, search = [], settings.search
    if rhythm.recurs and (search is None or search.end_epoch is None):
        ways.append("train for longer")
    if turn is not None and settings.adaptive is None:
        ways.append(f"let the schedule end by epoch {turn}")
    return (
        f"A guard makes cuts only after an epoch that has shown {guard.monitor}, and another must "
        f"show it to judge them. Received: {rhythm}{_beside(settings)} and "
        f"epochs={rhythm.epochs.stop}, by which it is there {_shown(rhythm)}, counted from 0"
        f"{', unless a callback of your own adds it' * (guard.mode != 'auto')}, so that {end}.",
        either(ways, validated_always(rhythm)),
    )


def _asks_until(settings: CompressionSettings, turn: int) -> float:
    """The time, for schedules, of the last look before or within an epoch."""
    latest = math.nextafter(turn + 1, 0.0) if settings.cadence.steps else float(turn)
    return latest - (0 if settings.adaptive is None else settings.adaptive.start_epoch)


def _beside(settings: CompressionSettings) -> str:
    """What else says when cuts are made."""
    said = [settings.search, settings.cadence if settings.cadence != Cadence(epochs=1) else None]
    return "".join(f", {each}" for each in said if each is not None)


def _shown(rhythm: _keras.Rhythm) -> str:
    """After which epochs a fit validates."""
    found = (epoch for epoch in reversed(rhythm.epochs) if epoch in rhythm)
    last = [str(epoch) for epoch in islice(found, 2)]
    if len(last) == 1:
        return f"after epoch {last[0]} alone"
    return f"after epochs {last[1]} and {last[0]} last"


def _is_cut(model: Any) -> bool:
    """True for a model that may have all its cuts behind it."""
    return any(each.rank is not None for each in find_kernels(_keras.trained_model(model)))


def known_steps(scheduler: Any) -> int | None:
    """Steps of an epoch of the fit that runs; `None` where nobody knows, or several run at once."""
    steps: int | None = (scheduler.params or {}).get("steps")
    return steps if scheduler.model.steps_per_execution == 1 else None


def check_steps(
    settings: CompressionSettings,
    epochs: int | None,
    steps: int | None,
    first: int,
    begin: float | None = None,
) -> None:
    """Refuse what ends after the last cut of a cadence in steps, which an epoch's begin tells.

    Args:
        settings: What is asked for.
        epochs: Epochs of the fit.
        steps: Steps of an epoch; `None` where nobody knows, or several run at once.
        first: The epoch that begins, the first of the fit.
        begin: When cuts began, if an `Adaptive` has let them.
    """
    if epochs and steps and settings.cadence.steps:
        raise_first(timing_faults(settings, epochs, steps, first, begin))


def check_callbacks(
    settings: CompressionSettings, epochs: int | None, others: Sequence[Any], kind: type
) -> None:
    """Refuse callbacks that would keep a model of before a cut, or one that cuts it as well."""
    if any(isinstance(each, kind) for each in others):
        raise ArgumentError(
            "A fit can have one RankScheduler, for each takes the model for its own. Received: "
            "two of them. Give one, with a rule for each layer that shall go its own way: "
            "rules=[LayerRule(match=..., rank=...)]."
        )
    last = math.inf if settings.guard is not None else final_epoch(settings, epochs)
    check_other_callbacks(others, last)


def check_guard(guard: Guard, scheduler: Any) -> None:
    """Refuse a guard whose metric no epoch of this fit will bring, or that has no folder."""
    known = _keras.metrics_to_watch(scheduler.model, guard.monitor, guard.mode)
    direction_of(guard, known)
    check_monitored(scheduler, guard.monitor, guard.mode, known, "a guard")
    if guard.folder is not None:
        check_folder(guard.folder, "`folder` of a guard", "Choose another.")
