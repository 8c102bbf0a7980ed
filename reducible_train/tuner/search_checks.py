"""What a search is refused for before its first trial, as every trial would fail of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import keras

from reducible_train import _keras
from reducible_train.errors import ArgumentError
from reducible_train.selection.calibration import samples_of
from reducible_train.selection.sample_checks import check_inputs
from reducible_train.settings.checks import plain, takes
from reducible_train.settings.monitors import check_validated, direction
from reducible_train.settings.search_space import SearchSpace
from reducible_train.tensorboard.callback import RankTensorBoard
from reducible_train.training.backup import RankBackupAndRestore
from reducible_train.training.checkpoint import RankModelCheckpoint
from reducible_train.training.early_stopping import RankEarlyStopping
from reducible_train.training.other_callbacks import check_averages, check_other_callbacks
from reducible_train.training.rank_scheduler import RankScheduler
from reducible_train.training.records import RankRecords
from reducible_train.tuner.errors import SearchError
from reducible_train.tuner.evaluation import (
    LATENCY,
    SIZE_METRICS,
    Quality,
    TrialPlan,
    set_learning_rate,
    validates,
)
from reducible_train.tuner.keras_tuner_side import TunerTrial, users_own
from reducible_train.tuner.trial_settings import direction_of

_INSTEAD: Mapping[
    type, str
] = {  # callback beside a RankScheduler -> what a search has in its place
    RankBackupAndRestore: "Leave it out: the same program goes on with the trials that are "
    "left, where overwrite=True is not given.",
    RankEarlyStopping: "Give keras.callbacks.EarlyStopping(...) without restore_best_weights: "
    "each trial keeps its best epoch at the final ranks.",
    RankModelCheckpoint: "Leave it out: each trial keeps its best epoch at the final ranks in "
    "its folder, also as model.reducible.",
    RankRecords: "Leave it out: the metrics and settings of all trials are in "
    "pareto(tuner).data().",
    RankTensorBoard: "Give keras.callbacks.TensorBoard(...): each trial writes its ranks "
    "beside it.",
}


def check_search(
    plan: TrialPlan, trial: TunerTrial, model: Any, arguments: Mapping[str, Any]
) -> None:
    """Refuse what no trial of a search could do.

    Args:
        plan: What all trials have in common.
        trial: The first of them.
        model: Its model.
        arguments: Those of its fit, by name.

    Raises:
        SearchError: It is refused.
    """
    wanted = trial.objective
    if hasattr(wanted, "name_to_direction"):  # a list of them
        names = ", ".join(wanted.name_to_direction)
        raise SearchError(
            "keras-tuner adds several objectives up as they are, so that the one with the largest "
            f"numbers decides. Received: {names}. Ask for one of them, or for "
            "SizeAtQuality(...), and see all trials by pareto(tuner)."
        )
    if not model.compiled:
        raise SearchError(
            f"Model '{model.name}' must be compiled, for each trial trains it. Received: one that "
            "is not. Call model.compile(...) first, or give optimizer=, loss= and metrics= to the "
            "tuner."
        )
    if any(isinstance(each, RankScheduler) for each in trial.others):
        raise SearchError(
            "Each trial makes a RankScheduler of its own, by its settings. Received: one more "
            "among the callbacks of search. Leave it out; rules are given to RankHyperModel."
        )
    _check_companions(trial.others)
    if plan.latency and hasattr(arguments.get("x"), "__next__"):
        raise SearchError(
            "`latency` is measured on data of the search after each trial. Received: a "
            f"{type(arguments['x']).__name__}, which can be read only once. Give arrays or a "
            "Dataset, or leave `latency` out."
        )
    try:
        _check_calibration(plan.calibration, model)
        quality = _checked_quality(plan, trial, model, validated=validates(arguments))
        _check_objectives(plan, trial, quality)
        check_averages(quality.monitor, trial.others, [], "a search")
        if quality.monitor.startswith("val_"):
            _check_last_epoch(arguments)
        begun = arguments.get("initial_epoch") or 0
        _check_callbacks(plan.space, trial.others, arguments.get("epochs", 1), begun)
        _check_monitors(model, trial.others)
        if plan.space.learning_rate is not None:
            _check_rate(model, trial.others)
    except SearchError:
        raise
    except ArgumentError as error:
        raise SearchError(str(error)) from error


def check_size(tuner: Any, model: Any) -> None:
    """Refuse a bound of the tuner that each trial breaks, as it begins from the dense model.

    Args:
        tuner: The tuner.
        model: What all trials begin from.

    Raises:
        SearchError: It is larger.
    """
    bound = getattr(tuner, "max_model_size", None)
    size = sum(math.prod(each.shape) for each in model.trainable_weights) if model.built else 0
    if bound and size > bound:
        raise SearchError(
            "`max_model_size` of a tuner must leave room for the model that trials begin from, "
            f"whose ranks fall later. Received: max_model_size={bound} beside one of {size:,} "
            "parameters to train. Leave it out; to bound what a trial ends with, give "
            f"objective=QualityAtSize('val_accuracy', limit={bound / size:.3g}) to RankHyperModel, "
            "or a smaller `budget` to its space."
        )


def _checked_quality(plan: TrialPlan, trial: TunerTrial, model: Any, *, validated: bool) -> Quality:
    """What tells the quality, refused where no trial will report it."""
    try:
        quality, logged = quality_of(plan, trial, model), _keras.logged_metrics(model)
        if plan.objective is None:
            known = logged
        else:
            known = _keras.metrics_to_watch(model, quality.monitor, plan.objective.mode)
        check_validated(quality.monitor, "auto", known, validated, "a search")
        _check_reported(plan, trial, list(logged), quality, validated=validated)
    except ArgumentError as error:
        own = [getattr(trial.tuner, name, None) for name in ("optimizer", "loss", "metrics")]
        hint = " The tuner compiles each model anew, with what it was given: optimizer=, loss=, "
        hint += "metrics=. Give it all three, or compile the model and give it none of them."
        anew = any(each is not None for each in own) and any(each is None for each in own)
        raise SearchError(f"{error}{hint if anew else ''}") from error
    return quality


def _check_calibration(given: Any, model: Any) -> None:
    """Refuse what no trial could be judged by; what can be read only once is left to the first."""
    counts = isinstance(plain(given), int)  # samples of the fit
    if given is not None and not counts and not hasattr(given, "__next__"):
        check_inputs(samples_of(given), model)


def _check_reported(
    plan: TrialPlan, trial: TunerTrial, logged: list[str], quality: Quality, *, validated: bool
) -> None:
    """Refuse an objective that no trial will report."""
    if not logged or users_own(trial.others):
        return  # what logs anything it likes
    names = [*logged, *(f"val_{each}" for each in logged if validated), *SIZE_METRICS]
    names += [LATENCY] if plan.latency else []
    if plan.objective is not None and quality.monitor not in names:
        raise SearchError(
            f"The quality of {plan.objective.name!r} must be what trials report. Received: "
            f"{quality.monitor!r}. They will report {', '.join(names)}."
        )
    names += [plan.objective.name] if plan.objective is not None else []
    if trial.objective.name not in names:
        raise SearchError(
            f"The objective of the tuner must be what trials report. Received: "
            f"{trial.objective.name!r}. They will report {', '.join(names)}."
            + ("" if validated else " With validation data there are more.")
        )


def quality_of(plan: TrialPlan, trial: TunerTrial, model: Any) -> Quality:
    """What tells the quality: of the objective, or else what the tuner goes by."""
    name = trial.objective.name
    if plan.objective is not None:
        return plan.quality(model)
    if name in (*SIZE_METRICS, LATENCY):
        return plan.quality(model)
    return Quality(name, 1 if trial.objective.direction == "max" else -1)


def _check_objectives(plan: TrialPlan, trial: TunerTrial, quality: Quality) -> None:
    """Refuse a tuner that makes another thing best than its hypermodel."""
    if plan.objective is None:
        return
    name, direction = trial.objective.name, trial.objective.direction
    wanted = {
        plan.objective.name: direction_of(plan.objective, quality.sign),
        quality.monitor: "max" if quality.sign > 0 else "min",
    }
    wanted |= dict.fromkeys((*SIZE_METRICS, LATENCY), "min")
    if wanted.get(name) != direction:
        raise SearchError(
            "The tuner must make best what its hypermodel does. Received: "
            f"{name!r}, {direction!r}, where the hypermodel has {plan.objective.name!r} of "
            f"{quality.monitor!r}. Give the tuner hypermodel.objective."
        )


def _check_last_epoch(arguments: Mapping[str, Any]) -> None:
    """Refuse a fit that does not validate its last epoch, the one surely at the final ranks."""
    often, epochs = arguments.get("validation_freq", 1), arguments.get("epochs", 1)
    validated = epochs in often if isinstance(often, list | tuple | set) else epochs % often == 0
    if not validated:
        raise SearchError(
            "The last epoch of a trial must be validated, for it is at the final ranks. Received: "
            f"validation_freq={often!r} with epochs={epochs}. Leave validation_freq out."
        )


def _check_rate(model: Any, callbacks: list[Any]) -> None:
    """Refuse what would overrule a learning rate that is searched."""
    set_learning_rate(model, float(_keras.host_value(model.optimizer.learning_rate)))
    for each in callbacks:
        if isinstance(each, keras.callbacks.LearningRateScheduler) and _is_absolute(each.schedule):
            raise SearchError(
                "A LearningRateScheduler must go on from the learning rate that a trial has, where "
                "that is searched. Received: one that gives the same whatever it is. Let it take "
                "the rate, such as lambda epoch, rate: 0.9 * rate, or leave `learning_rate` out of "
                "the space."
            )


def _is_absolute(schedule: Any) -> bool:
    """Whether a schedule gives the first epoch the same rate whatever it was."""
    if not takes(schedule, 0, 1e-3):
        return True
    try:
        rates = [copy.deepcopy(schedule)(0, rate) for rate in (1e-3, 2e-3)]
        return bool(rates[0] == rates[1])
    except Exception:  # a user's own code, which fit tells of
        return False


def _check_companions(callbacks: list[Any]) -> None:
    """Refuse the callbacks that stand beside a RankScheduler, of which a search has none."""
    for each in callbacks:
        instead = [words for kind, words in _INSTEAD.items() if isinstance(each, kind)]
        if instead and isinstance(each.scheduler, RankScheduler):
            raise SearchError(
                "Callbacks of search must do without a RankScheduler, for each trial makes its "
                f"own. Received: a {type(each).__name__}. {instead[0]}"
            )


def _check_monitors(model: Any, callbacks: list[Any]) -> None:
    """Refuse a metric whose direction Keras itself asks for and will not know."""
    kinds = (keras.callbacks.EarlyStopping, keras.callbacks.ModelCheckpoint)
    for each in callbacks:
        if type(each) in kinds and each.mode == "auto" and getattr(each, "save_best_only", True):
            known = _keras.metrics_to_watch(model, each.monitor, each.mode)
            if not known:
                continue
            name = type(each).__name__
            way = "max" if direction(each.monitor, each.mode, known, name) > 0 else "min"
            if not _keras.is_judged_by_keras(model, each.monitor):
                raise SearchError(
                    f"`mode` of {name} must be given where Keras goes by another name than that of "
                    f"the logs, as with several outputs. Received: mode='auto' for "
                    f"{each.monitor!r}. Say mode={way!r}."
                )


def _check_callbacks(space: SearchSpace, callbacks: list[Any], epochs: int, begun: int) -> None:
    """Refuse callbacks that keep weights of before a cut; a trial makes its own scheduler."""
    values = {each.name: each.values for each in space.domains}
    shares = [max(map(float, values.get(name, (0.0,)))) for name in ("start", "ramp")]
    final = begun + math.ceil((epochs - begun) * min(1.0, sum(shares)))
    try:
        check_other_callbacks(callbacks, final)
    except ArgumentError as error:
        words = str(error).partition(" Use ")[0]
        raise SearchError(
            f"{words} Leave it out: each trial keeps its best epoch at the final ranks; or begin "
            f"at these, with start_from_epoch={final}."
        ) from error
