"""Which samples tell what the cuts of a fit do to the answers of its model."""

from __future__ import annotations

from typing import Any

from reducible_train import _keras
from reducible_train.compressor.answers import AnswerWatch, NoAnswers
from reducible_train.errors import ArgumentError
from reducible_train.selection.answers import MOST
from reducible_train.selection.samples import Samples, joined
from reducible_train.settings.compression import CompressionSettings
from reducible_train.training.sampling import CalibrationSet

_UNSEEN = "What cuts do to the outputs was not measured: "
_NO_DATA = (
    f"{_UNSEEN}no data of this fit can be read twice. Give it arrays as validation data, or "
    "samples as calibration=(x, y)."
)
_CALIBRATION = "the calibration set"


def watch_of_fit(
    scheduler: Any, settings: CompressionSettings, calibration: CalibrationSet
) -> AnswerWatch:
    """What compares the outputs of a model before and after the cuts of the fit that begins.

    On samples of the validation data, where there are some that can be read twice; else of the
    arrays that are trained on, the calibration set, what a criterion has seen of the fit, or a
    data set that is trained on.

    Args:
        scheduler: The callback that the fit has called.
        settings: What is asked for.
        calibration: The calibration set.
    """
    model = scheduler.model
    if not settings.cadence.compare:
        return NoAnswers()
    hindrance = _hindrance(model)
    if hindrance is not None:
        return AnswerWatch(model, None, f"{_UNSEEN}{hindrance}", waits=False)
    found = _keras.some_of_fit(scheduler, MOST)
    source, samples = _samples_of(found) or (_CALIBRATION, calibration.every())
    size = _keras.evaluated_batch(scheduler, () if found is None else found[1])
    told = source if samples is not None else _without(found)

    def otherwise() -> tuple[str, Samples] | None:
        if samples is None:
            return _samples_of(_keras.some_of_training(scheduler, MOST))
        given = None if source == _CALIBRATION or calibration.is_of_the_fit else calibration.every()
        return None if given is None else (_CALIBRATION, given)

    return AnswerWatch(model, samples, told, evaluated=size, otherwise=otherwise)


def _hindrance(model: Any) -> str | None:
    """Why a model cannot be asked, if so."""
    part = _keras.trained_model(model)
    if not _keras.has_call(part):
        return f"model '{model.name}' cannot be called, for it has no `call`."
    if _keras.is_distributed(model):
        return f"model '{model.name}' is under a distribution strategy."
    if _keras.is_shared_by_processes(part.variables):
        return f"several processes hold model '{model.name}' together."
    return None


def _without(found: tuple[str, list[Any]] | None) -> str:
    """Why no sample tells, in a sentence."""
    if found is None:
        return _NO_DATA
    return (
        f"{_UNSEEN}the samples of {found[0]} that were looked at all have weight 0. Give it some "
        "that count, as validation data or as calibration=(x, y)."
    )


def _samples_of(found: tuple[str, list[Any]] | None) -> tuple[str, Samples] | None:
    """What was found of a fit, in words, and its samples; `None` where none of them counts."""
    if found is None:
        return None
    source, batches = found
    try:
        samples = joined(batches)
        counts = len(samples.counting) > 0
    except ArgumentError:  # weights that are no weights
        samples, counts = joined([(x, y, None) for x, y, _ in batches]), True
    return (source, samples) if counts else None
