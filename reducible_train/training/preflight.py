"""What is checked before a fit begins, so that nothing of it fails later."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from reducible_train import _keras
from reducible_train.errors import ArgumentError
from reducible_train.preflight.paths import check_folder
from reducible_train.preflight.values import check_values
from reducible_train.selection.distribution import check_workers
from reducible_train.selection.sample_checks import check_asking
from reducible_train.settings.compression import CompressionSettings
from reducible_train.settings.guard import Guard, direction_of
from reducible_train.settings.monitors import check_validated
from reducible_train.training.other_callbacks import check_other_callbacks
from reducible_train.training.sampling import CalibrationSet, asking_of
from reducible_train.training.timing import ends_of, final_epoch


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
    check_times(settings, epochs)
    check_callbacks(settings, epochs, others, kind)
    if settings.guard is not None:
        check_guard(settings.guard, model, _keras.has_validation(scheduler))
    for where, x, y in _keras.arrays_of_fit(scheduler):
        check_values(model, x, y, f"{where} of the fit")
    check_asking(model, asking_of(settings), data if calibration.is_of_the_fit else None)


def check_times(
    settings: CompressionSettings, epochs: int | None, begin: float | None = None
) -> None:
    """Refuse what ends after the last cut.

    Args:
        settings: What is asked for.
        epochs: Epochs of the fit; `None` in a training loop of one's own.
        begin: When cuts began, if an `Adaptive` has let them.
    """
    if settings.search is not None:
        settings.search.last_epoch(epochs)
    cadence, ends = settings.cadence, ends_of(settings, epochs, begin)
    if epochs is None:
        return
    if epochs < 1:
        raise ArgumentError(f"`epochs` of the fit must be at least 1. Received: epochs={epochs}.")
    last = float(epochs)
    if cadence.epochs:
        last = float((epochs - 1) // cadence.epochs * cadence.epochs)
    for end in ends:
        if end.epoch > last or (cadence.steps and end.epoch == last):
            raise ArgumentError(
                f"{end.name} must end before training does: at epoch {last:g} "
                f"at the latest, counted from 0, for epochs={epochs} and {cadence}. "
                f"Received: one that ends at epoch {end.epoch:g}, {end.shown}. Train for "
                f"epochs={math.floor(end.epoch) + (cadence.epochs or 1)} or more, or let it end "
                "earlier."
            )


def check_steps(
    settings: CompressionSettings,
    epochs: int | None,
    steps: int | None,
    first: int,
    begin: float | None = None,
) -> None:
    """The same where turns are counted in steps, whose number is known once an epoch begins.

    Args:
        settings: What is asked for.
        epochs: Epochs of the fit.
        steps: Steps of an epoch; `None` where nobody knows, or several run at once.
        first: The epoch that begins, the first of the fit.
        begin: When cuts began, if an `Adaptive` has let them.
    """
    every = settings.cadence.steps
    if not epochs or not steps or not every:
        return
    last = first + ((epochs - first) * steps - 1) // every * every / steps
    for end in ends_of(settings, epochs, begin):
        if end.epoch > last + 1e-9:
            raise ArgumentError(
                f"{end.name} must end when ranks are last looked at: at epoch "
                f"{last:g} at the latest, counted from 0, for epochs={epochs} of {steps} steps "
                f"and {settings.cadence}. Received: one that ends at epoch {end.epoch:g}, "
                f"{end.shown}. Look at it more often, train "
                "for more epochs, or let it end earlier."
            )


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


def check_guard(guard: Guard, model: Any, validates: bool | None) -> None:
    """Refuse a guard whose metric no epoch of this fit will bring, or that has no folder."""
    known = _keras.logged_metrics(model)
    direction_of(guard, known)
    check_validated(guard.monitor, guard.mode, known, validates, "a guard")
    if guard.folder is not None:
        check_folder(guard.folder, "`folder` of a guard", "Choose another.")


def check_resumable(settings: CompressionSettings) -> None:
    """Refuse what another fit could not go on with.

    Raises:
        ArgumentError: There is a guard, an `Adaptive`, or an aid whose state no backup holds.
    """
    aids = (aid for aid in settings.aids if not aid.resumes)
    for name, found, lost in (
        ("the guard", settings.guard, "the state before the cut on trial"),
        ("adaptive", settings.adaptive, "the stable ranks it has seen"),
        ("the aid", next(aids, None), "the state it is in"),
    ):
        if found is not None:
            raise ArgumentError(
                f"This training cannot be backed up and taken up in another fit: {lost} would "
                f"be lost. Received: {found}. Leave out {name}, or the backup."
            )
