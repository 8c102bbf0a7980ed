"""One trial: settings in, metrics out, whatever engine has chosen the settings."""

from __future__ import annotations

import inspect
import os
import tempfile
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from reducible_train import _keras
from reducible_train.container.files import accessing, check_path
from reducible_train.errors import ArgumentError, ArgumentTypeError, FormatError, ShortfallWarning
from reducible_train.layers import LowRank
from reducible_train.preflight.paths import check_file_name, check_writable
from reducible_train.report.records import Report
from reducible_train.saving.model_file import save_model
from reducible_train.selection.measured import MeasuredLosses, losses_of
from reducible_train.settings.checks import checked_count
from reducible_train.settings.monitors import check_validated, direction
from reducible_train.settings.objectives import SearchObjective
from reducible_train.settings.rules import LayerRule
from reducible_train.settings.search_space import SearchSpace
from reducible_train.tensorboard.callback import RankTensorBoard
from reducible_train.training.other_callbacks import check_averages
from reducible_train.tuner.best_epoch import BestEpoch
from reducible_train.tuner.errors import SearchError
from reducible_train.tuner.fit_checks import check_data, check_epochs
from reducible_train.tuner.names import check_names
from reducible_train.tuner.reference import dense_quality
from reducible_train.tuner.seconds import seconds_of_batch
from reducible_train.tuner.start import Start
from reducible_train.tuner.trial_settings import (
    applied,
    check_kinds,
    check_measured,
    check_value,
    checked_rules,
    scheduler_of,
)

# The metrics that every trial has beside those of its logs, where they can be known.
SIZE_METRICS = (
    "params",
    "params_fraction",
    "bytes_fraction",
    "flops_fraction",
    "file_bytes",
    "file_fraction",
)
LATENCY = "latency"
_STOPPED = r"(?s).*Training ended after \d+ of \d+ epochs, before the ranks"
_ONLY_THE_TUNERS = (
    "If a callback of your own adds it to the logs, or it is a metric of your own that only the "
    "tuner has, say mode='max' or mode='min'"
)
COMPACT = "model.reducible"  # the file of a trial, in its folder


@dataclass(frozen=True)
class Quality:
    """What tells how good a model is.

    Args:
        monitor: The metric of the logs.
        sign: 1 if it should be large, -1 if small.
    """

    monitor: str
    sign: int


@dataclass(frozen=True)
class TrialPlan:
    """What all trials of a search have in common.

    Args:
        space: What is chosen.
        objective: What is made best; `None` where that is a metric of the logs.
        rules: Rules for single layers, which come before the floors of the space.
        calibration: As a `RankScheduler` takes it.
        latency: True to measure the seconds of a batch.
        analysis: By which trials of criterion `"measured"` share their budgets.
        varies: True where each may have other layers, so that rules and floors may lack theirs.
    """

    space: SearchSpace
    objective: SearchObjective | None = None
    rules: tuple[LayerRule, ...] = ()
    calibration: Any = None
    latency: bool = False
    analysis: MeasuredLosses | None = None
    varies: bool = False

    def quality(self, model: Any, monitor: str | None = None, mode: str = "auto") -> Quality:
        """What tells how good a model is.

        Args:
            model: A compiled model.
            monitor: The metric where no objective names one; left out, the loss.
            mode: Its direction.

        Raises:
            ArgumentError: There will be no such metric, or nobody knows its direction.
        """
        if self.objective is not None:
            monitor, mode = self.objective.monitor, self.objective.mode
        if monitor is None:
            return Quality("val_loss", -1)
        known = _keras.metrics_to_watch(model, monitor, mode)
        return Quality(monitor, direction(monitor, mode, known, "a search"))

    def sign(self, start: Any) -> int:
        """1 if what tells the quality should be large, -1 if small, as known before any trial.

        The model that trials begin from may lack the metric, for a tuner may bring metrics; its
        search refuses what no trial will report.

        Args:
            start: That model, compiled.

        Raises:
            ArgumentError: Nobody knows.
        """
        if self.objective is None:
            return self.quality(start).sign
        monitor, mode = self.objective.monitor, self.objective.mode
        known = with_tuners(_keras.metrics_to_watch(start, monitor, mode), monitor)
        return direction(monitor, mode, known, "a search", remedy=_ONLY_THE_TUNERS)


def with_tuners(known: Mapping[str, str | None], monitor: str) -> Mapping[str, str | None]:
    """The metrics of a model, and one of Keras's by its name, which its tuner may bring.

    Args:
        known: Those of the model, each with its direction.
        monitor: The name in the logs.
    """
    return {**_keras.metric_of_name(monitor.removeprefix("val_")), **known}


@dataclass(frozen=True)
class Outcome:
    """What a trial has come to.

    Args:
        metrics: Those of its best epoch at the final ranks, and its sizes.
        report: What became of every kernel.
        saved: True if the best epoch was saved.
        best: The quality of the best epoch.
        file: The compact file; `None` where the model cannot be held by one.
        lost: What of the best epoch's model, or of its answers, is NaN or infinite, in words;
            `None` if all is as it should be.
    """

    metrics: dict[str, float]
    report: Report
    saved: bool
    best: float | None
    file: Path | None
    lost: str | None


def evaluate_settings(
    start: Any,
    space: SearchSpace,
    settings: Mapping[str, Any] | keras_tuner.HyperParameters,
    *fit_args: Any,
    objective: SearchObjective | None = None,
    monitor: str | None = None,
    mode: str = "auto",
    file: str | os.PathLike[str] | None = None,
    rules: Sequence[LayerRule] = (),
    calibration: Any = None,
    latency: bool = False,
    analysis: Any = None,
    seed: int | None = None,
    **fit_kwargs: Any,
) -> dict[str, float]:
    """Compress and fine-tune a copy of a model as some settings say: settings in, metrics out.

    For any engine that chooses settings; `RankHyperModel` does this for those of keras-tuner.

    Args:
        start: A `Start`, made once for all trials; or what it is made of.
        space: What may be chosen.
        settings: A value for each of `space.domains` that is searched, by name, and for what else
            a function that builds the start reads; or what `tuner.get_best_hyperparameters()`
            gives.
        *fit_args: As `model.fit` takes them, such as `x` and `y`.
        objective: Adds its value to the metrics, under its `name`.
        monitor: The metric of the best epoch, where there is no objective; left out, `val_loss`.
        mode: Whether that should be `"max"` or `"min"`.
        file: Where the compact file of the best epoch goes; left out, nowhere.
        rules: Rules for single layers, which come before the floors of the space.
        calibration: As a `RankScheduler` takes it.
        latency: True to measure the seconds of a batch.
        analysis: For criterion `"measured"`, as a `RankScheduler` takes it.
        seed: For everything that is random, a whole number from 0.
        **fit_kwargs: As `model.fit` takes them, such as `epochs` and `validation_data`. With an
            `initial_epoch`, a start of low rank goes on at the ranks and the rate it has.

    Returns:
        The logs of the best epoch at the final ranks, and `params`, `params_fraction`,
        `bytes_fraction`, `flops_fraction`, `file_bytes`, `file_fraction` where they are known:
        fractions of the dense model's.

    Raises:
        ArgumentError: Settings outside of the space, or that nothing reads, a metric that will not
            be in the logs, or no epoch ran at the final ranks.
        ArgumentTypeError: An argument of the wrong type.
        FileAccessError: The file could not be written.
        RankError: A budget that no ranks meet.

    Example:
        >>> import keras, numpy as np
        >>> from reducible_train.settings.search_space import SearchSpace
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(32, name="hidden"),
        ...                           keras.layers.Dense(1, name="output")])
        >>> model.compile("adam", "mse", run_eagerly=True)
        >>> x, y = np.ones((8, 8), "float32"), np.ones((8, 1), "float32")
        >>> found = evaluate_settings(model, SearchSpace(budget=(0.5, 0.9)), {"budget": 0.7}, x, y,
        ...     validation_data=(x, y), epochs=1, verbose=0)
        >>> found["params_fraction"] <= 0.7, tuple(model.layers[0].kernel.shape)
        (True, (8, 32))
    """
    check_kinds(space, objective, "A metric of the logs is asked for by monitor='val_accuracy'.")
    drawn = None if seed is None else checked_count("seed", seed, "a trial", least=0)
    if file is not None:
        _check_file(file)
    values = _values_of(settings)
    begun = start if isinstance(start, Start) else Start(start)
    ruled = checked_rules(rules)
    plan = TrialPlan(
        space, objective, ruled, calibration, latency, losses_of(analysis), begun.takes_settings
    )
    check_measured(space, plan.analysis)
    drawn_by_engine = keras_tuner.HyperParameters()
    drawn_by_engine.values = dict(values)
    model = begun.new_model(drawn_by_engine)
    check_names(space, drawn_by_engine.space)
    if plan.varies:
        _warn_of_idle(ruled, model)
    if values is settings:  # keras-tuner's may hold what a hypermodel of the user's has read
        read = [each.name for each in drawn_by_engine.space]
        space.check_heeded(values, read, others=begun.takes_settings)
    arguments = fit_arguments(model, fit_args, fit_kwargs)
    check_alone(model, arguments)
    quality = plan.quality(model, monitor, mode)
    dense = checked_dense(plan, model, quality, arguments, mode)
    told = space.completed_choice(values)
    dense_file = partial(begun.dense_file_bytes, hyperparameters=drawn_by_engine)
    goes_on = begins_late(arguments) and _is_low_rank(model)
    with seeded(drawn):
        return run_trial(
            plan, model, told, quality, fit_args, fit_kwargs, dense_file=dense_file, dense=dense,
            goes_on=goes_on, file=file,
        ).metrics  # fmt: skip


def _warn_of_idle(rules: Sequence[LayerRule], model: Any) -> None:
    """Tell of rules that apply to nothing in this model of a function, and maybe in none."""
    heeded = applied(rules, model)
    idle = [repr(rule.match) for rule in rules if rule not in heeded]
    if idle:
        warnings.warn(
            "Rules should apply to a layer with a kernel. Received: "
            f"{', '.join(idle)}, which apply to none in the model of these settings, so they are "
            "left out. Correct the pattern, unless the function builds such a layer elsewhere.",
            UserWarning,
            stacklevel=3,
        )


def _values_of(settings: Any) -> Mapping[str, Any]:
    values = settings.values if isinstance(settings, keras_tuner.HyperParameters) else settings
    if not isinstance(values, Mapping):
        raise ArgumentTypeError(
            "`settings` must be a value for each name, or HyperParameters of keras-tuner. "
            f"Received: {settings!r}. Write for example {{'budget': 0.3}}."
        )
    return values


def _is_low_rank(model: Any) -> bool:
    return any(isinstance(layer, LowRank) for _, layer in _keras.walk(model))


def check_alone(model: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse what a trial without a search could not train, or not on these arguments.

    Args:
        model: The model.
        arguments: Those of its fit, by name.

    Raises:
        ArgumentError: It is refused.
    """
    check_epochs(arguments)
    check_data(arguments)
    if not model.compiled:
        raise ArgumentError(
            f"Model '{model.name}' must be compiled, for a trial trains it. Received: one that is "
            "not, as a .reducible file never is. Load it, call model.compile(...), and give the "
            "model itself."
        )


def checked_dense(
    plan: TrialPlan, model: Any, quality: Quality, arguments: Mapping[str, Any], mode: str = "auto"
) -> float | None:
    """Refuse a fit by which its trial could not be judged.

    Args:
        plan: What the trial has in common with others.
        model: The dense start, compiled.
        quality: What tells how good a model is.
        arguments: Those of `model.fit`, by name.
        mode: As it was asked for, where no objective says it.

    Returns:
        The quality of the dense start, where the objective needs it.

    Raises:
        ArgumentError: It is refused.
    """
    objective = plan.objective
    way = mode if objective is None else objective.mode
    known = _keras.metrics_to_watch(model, quality.monitor, way)
    check_validated(quality.monitor, way, known, validates(arguments), "a trial")
    if objective is None or not objective.needs_dense:
        return None
    dense = dense_quality(model, arguments, quality.monitor)
    fault = objective.dense_fault(dense)
    if fault is not None:
        raise ArgumentError(fault)
    return dense


def run_trial(
    plan: TrialPlan,
    model: Any,
    told: Mapping[str, Any],
    quality: Quality,
    fit_args: Sequence[Any],
    fit_kwargs: Mapping[str, Any],
    *,
    dense_file: Callable[[Any, int], float],
    dense: float | None = None,
    goes_on: bool = False,
    before: Report | None = None,
    file: str | os.PathLike[str] | None = None,
    save: Callable[[Any], None] | None = None,
    threshold: float | None = None,
) -> Outcome:
    """Train one model as it is told; it ends with the weights of its best epoch.

    Args:
        plan: What all trials have in common.
        model: The model of this trial.
        told: All that was chosen.
        quality: What tells how good it is.
        fit_args: As `model.fit` takes them.
        fit_kwargs: The same.
        dense_file: Bytes of the compact file of its dense start, from the trained model and the
            number of its dense parameters.
        dense: The quality of the dense start, where the objective needs it.
        goes_on: True where the model has the ranks of another trial, and goes on at them.
        before: The report of that trial, where it is known.
        file: Where the compact file goes.
        save: Saves a model, called for each epoch better than those before.
        threshold: A quality that must be passed for an epoch to be saved.

    Raises:
        SearchError: A metric of the model is called like one that a trial adds.
        ArgumentError: No epoch ran at the final ranks, or the quality is that of averages, which
            the model does not end with.
    """
    _check_names(plan, model)
    arguments, others = fit_arguments(model, fit_args, fit_kwargs), callbacks_of(fit_kwargs)
    if validates(arguments):
        check_averages(quality.monitor, others, [], "a trial")
    if "learning_rate" in told and not goes_on:
        set_learning_rate(model, told["learning_rate"])
    scheduler = scheduler_of(
        told,
        int(arguments.get("epochs", 1)),
        begun=int(arguments.get("initial_epoch") or 0),
        goes_on=goes_on,
        rules=plan.rules,
        calibration=plan.calibration,
        losses=plan.analysis,
        layers_of=model if plan.varies else None,
    )
    best = BestEpoch(scheduler, quality.monitor, quality.sign, save, threshold)
    boards = [each for each in others if isinstance(each, keras.callbacks.TensorBoard)]
    table = None if plan.analysis is None else plan.analysis.analysis
    alone = save is None  # keras-tuner writes the row of its trials
    ranks = [RankTensorBoard(scheduler, each, analysis=table, in_hparams=alone) for each in boards]
    with warnings.catch_warnings():  # what follows says it, with what helps in a search
        warnings.filterwarnings("ignore", _STOPPED, ShortfallWarning)
        model.fit(*fit_args, **{**fit_kwargs, "callbacks": [scheduler, *others, best, *ranks]})
    if best.best_epoch is None:
        raise ArgumentError(
            "A trial must reach its final ranks before training ends. Received: no epoch from "
            f"epoch {scheduler.final_epoch:g} on, counted from 0. Let ranks fall earlier (`start` "
            "and `ramp` of the space), or stop later."
        )
    best.put_back()
    report = scheduler.report if before is None else scheduler.report.following(before)
    written, sizes = _written(model, report, file if best.saved or save is None else None)
    if "file_bytes" in sizes:
        sizes["file_fraction"] = sizes["file_bytes"] / dense_file(model, report.dense_parameters)
    metrics = best.logs | _sizes(report) | sizes
    if plan.latency:
        metrics[LATENCY] = seconds_of_batch(model, arguments.get("x"))
    if plan.objective is not None:
        metrics[plan.objective.name] = value_of(plan.objective, metrics, quality.sign, dense)
    return Outcome(metrics, report, best.saved, best.best, written, scheduler.diverged)


def callbacks_of(fit_kwargs: Mapping[str, Any]) -> list[Any]:
    """The callbacks of a fit, to which Keras lets a single one be given alone."""
    given = fit_kwargs.get("callbacks")
    return [] if given is None else list(keras.tree.flatten(given))


def _check_file(file: str | os.PathLike[str]) -> None:
    """Refuse a compact file that could not be written; its folder is made."""
    check_path(file)
    path = Path(file)
    with accessing(path, "write", "file="):
        path.parent.mkdir(parents=True, exist_ok=True)
    check_file_name(path)
    check_writable(path, "file=")


def fit_arguments(model: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `model.fit`, by name; of a `fit(*args, **kwargs)`, as Keras names them."""
    told = inspect.signature(model.fit)
    kinds = {each.kind for each in told.parameters.values()}
    if kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
        told = inspect.signature(types.MethodType(keras.Model.fit, model))
    return dict(told.bind_partial(*args, **kwargs).arguments)


def validates(arguments: Mapping[str, Any]) -> bool:
    """Whether a fit has validation data, by its arguments."""
    given = arguments.get("validation_data") is not None
    return given or bool(arguments.get("validation_split"))


def begins_late(arguments: Mapping[str, Any]) -> bool:
    """Whether a fit begins with a later epoch than the first, by its arguments."""
    return (arguments.get("initial_epoch") or 0) > 0


def set_learning_rate(model: Any, rate: float) -> None:
    """Give the optimizer of a model a learning rate.

    Raises:
        ArgumentError: It has a schedule of its own; or the model has other optimizers beside it,
            and a training step of its own.
    """
    own = {id(each) for each in _keras.all_optimizers(model.optimizer)}
    others = [type(each).__name__ for each in _keras.held_optimizers(model) if id(each) not in own]
    if others and _keras.has_own_step(model):
        raise ArgumentError(
            "`learning_rate` of a search is that of the optimizer which a model is compiled with. "
            f"Received: a {type(model).__name__} whose own step has others beside it: "
            f"{', '.join(others)}. Leave `learning_rate` out of the space, or let a "
            "function that builds the model take it: def build(hp)."
        )
    try:
        model.optimizer.learning_rate = rate
    except TypeError as error:
        raise ArgumentError(
            "`learning_rate` cannot be searched where the optimizer has a schedule of its own. "
            f"Received: {type(model.optimizer).__name__} with a schedule. Compile the model with a "
            "number, or leave `learning_rate` out of the space."
        ) from error


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Begin with the same random numbers each time; all but Keras's own go on after it."""
    with _keras.random_numbers_kept():
        if seed is not None:
            keras.utils.set_random_seed(seed % 2**32)
        yield


def _check_names(plan: TrialPlan, model: Any) -> None:
    """Refuse metrics that would be lost among those that a trial adds."""
    added = [*SIZE_METRICS, *([LATENCY] if plan.latency else [])]
    logged = list(_keras.logged_metrics(model))
    if plan.objective is not None:
        name = plan.objective.name
        if name in (*added, "loss", *(f"val_{each}" for each in logged)):
            raise SearchError(
                f"`name` of the objective {type(plan.objective).__name__} must be that of no other "
                f"metric of a trial. Received: name={name!r}. Choose another."
            )
        added.append(name)
    taken = [each for each in logged if each in added]
    if taken:
        raise SearchError(
            "Metrics of a model must not be called like those that each trial adds: "
            f"{', '.join(added)}. Received: {taken[0]!r}. Compile the model with another name for "
            f"it, such as 'my_{taken[0]}'."
        )


def value_of(
    objective: SearchObjective, metrics: Mapping[str, float], sign: int, dense: float | None
) -> float:
    """The value of an objective, from the metrics of a trial.

    Raises:
        ArgumentError: One that it needs is not among them.
        ArgumentTypeError: It is no number.
    """
    lacking = [each for each in (objective.monitor, objective.size_name) if each not in metrics]
    if lacking:
        raise ArgumentError(
            f"`{objective.name}` needs {lacking[0]!r}, which this trial has not shown. Received: "
            f"{', '.join(metrics)}. Choose another metric or measure."
        )
    value = objective.value(metrics, sign, dense)
    check_value(objective, value)
    return value


def _sizes(report: Report) -> dict[str, float]:
    found = {"params": float(report.parameters), "params_fraction": report.size_fraction}
    found["bytes_fraction"] = report.bytes / max(report.dense_bytes, 1)
    if report.flops_fraction is not None:
        found["flops_fraction"] = report.flops_fraction
    return found


def _written(
    model: Any, report: Report, file: str | os.PathLike[str] | None
) -> tuple[Path | None, dict[str, float]]:
    """The compact file, where one is wanted, of a student its own; and how large it is."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(is|will be) written", category=UserWarning)
        path = Path(folder) / COMPACT if file is None else Path(file)
        try:
            saved = save_model(_keras.trained_model(model), path, report)
        except FormatError:  # the checkpoint holds it
            return None, {}
    sizes = {"file_bytes": float(saved.bytes)}
    return (None if file is None else path), sizes
