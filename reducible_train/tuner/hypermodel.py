"""The hypermodel: what any tuner of keras-tuner needs to search how a model is compressed."""

from __future__ import annotations

import errno
import math
import os
import types
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras_tuner

from reducible_train import _keras
from reducible_train.errors import (
    ArgumentError,
    ArgumentTypeError,
    ReducibleError,
    first_sentence,
)
from reducible_train.saving.model_file import load_weights_into
from reducible_train.selection import fingerprints
from reducible_train.selection.measured import losses_of
from reducible_train.settings.checks import checked_all
from reducible_train.settings.monitors import check_validated
from reducible_train.settings.objectives import SearchObjective
from reducible_train.settings.rules import LayerRule
from reducible_train.settings.search_space import SearchSpace
from reducible_train.training.rank_scheduler import RankScheduler
from reducible_train.tuner.errors import SearchError
from reducible_train.tuner.evaluation import (
    COMPACT,
    LATENCY,
    SIZE_METRICS,
    Outcome,
    Quality,
    TrialPlan,
    fit_arguments,
    run_trial,
    seeded,
    set_learning_rate,
)
from reducible_train.tuner.feasibility import check_feasible
from reducible_train.tuner.foresight import begin, foresee
from reducible_train.tuner.hparams import declare_hparams, write_results
from reducible_train.tuner.kept_files import keep_whole
from reducible_train.tuner.keras_tuner_side import (
    SETTINGS,
    Savers,
    TunerTrial,
    declare,
    seed_of,
    users_own,
)
from reducible_train.tuner.one_search import search_alone
from reducible_train.tuner.project import Folder
from reducible_train.tuner.reference import dense_quality
from reducible_train.tuner.start import Start
from reducible_train.tuner.trained_on import training_of
from reducible_train.tuner.trial_settings import check_measured, check_space

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class RankHyperModel(keras_tuner.HyperModel):
    """Searches how a trained model is best compressed, with any tuner of keras-tuner.

    Each trial begins from a copy of the trained model, lowers its ranks as the trial says, and
    trains on. `get_best_models`, `load_model` and the trials that `Hyperband` continues have the
    ranks of their trial; beside the checkpoint of a trial lies its compact file,
    `model.reducible`. The best epoch of a trial is one at its final ranks, by the metric that
    tells the quality: that of the objective, or else of the tuner.

    Each trial reports the logs of that epoch and `params`, `params_fraction`, `bytes_fraction`,
    `flops_fraction`, `file_bytes`, `file_fraction` and, if asked for, `latency`; the fractions are
    of the dense model. `results_summary` shows them. A trial that cannot be done, such as
    one with a budget that its floors do not allow, is a failed trial, with its reason as a warning.

    Args:
        model: A trained model, of which a copy is kept; a `.keras` or `.reducible` file, which is
            read once; or a function that builds a new model at each call, and takes
            keras-tuner's `HyperParameters` if it has an argument.
        space: What is searched.
        objective: `SizeAtQuality(...)` or `QualityAtSize(...)`, whose value each trial then reports
            under its name: give `hypermodel.objective` to the tuner. Left out, the tuner's own
            objective is a metric of the logs or one of those above.
        rules: Rules for single layers; the first that matches applies, floors of the space last.
        calibration: As a `RankScheduler` takes it.
        latency: True to measure the seconds of a batch of 32 at the end of each trial.
        analysis: What `analyze` has returned of this model, or its file. With it the space may name
            criterion `"measured"`. Of a search by `SizeAtQuality` it foresees the smallest budget
            that holds the quality right after the cut: larger ones cannot win and leave the space,
            and `propose(tuner)` begins the search there. It must be of the same metric.
        custom_objects: Name -> class or function, for what is not Keras's own.
        name: As of any hypermodel.

    Attributes:
        start: The model that trials begin from.
        plan: What all trials have in common.
        foresight: Where a search for the smallest model begins, as far as `propose` is asked for.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentError: A model that cannot be copied, a function that gives the same model twice, a
            space with unknown names, or an analysis of another model or metric.
        RankError: No ranks meet the smallest budget of the space.

    Example:
        >>> import keras
        >>> from reducible_train import SearchSpace, SizeAtQuality
        >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, name="hidden"),
        ...                           keras.layers.Dense(10, "softmax", name="output")])
        >>> model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        >>> hypermodel = RankHyperModel(model, SearchSpace(budget=(0.3, 0.8)),
        ...                             objective=SizeAtQuality("val_accuracy", max_drop=0.003))
        >>> print(hypermodel.objective)
        Objective(name="size_at_quality", direction="min")
        >>> # tuner = keras_tuner.RandomSearch(hypermodel, hypermodel.objective, max_trials=20)
        >>> # tuner.search(x, y, validation_data=(x_val, y_val), epochs=3)
        >>> # best = tuner.get_best_models(1)[0]
    """

    def __init__(
        self,
        model: Any,
        space: SearchSpace,
        *,
        objective: SearchObjective | None = None,
        rules: Sequence[LayerRule] = (),
        calibration: Any = None,
        latency: bool = False,
        analysis: Any = None,
        custom_objects: Mapping[str, Any] | None = None,
        name: str | None = None,
    ):
        _check_kinds(space, objective)
        check_space(space)
        ruled = checked_all(
            "`rules` must hold LayerRule objects", rules, LayerRule, "rules=[LayerRule('hidden_*')]"
        )
        losses = losses_of(analysis)
        check_measured(space, losses)
        self.start = Start(model, custom_objects, keras_tuner.HyperParameters)
        check_feasible(space, ruled, self.start.model)
        if losses is None:
            self.foresight = begin(space, objective, self.start.model)
        else:
            self.foresight = foresee(losses, space, objective, ruled, self.start.model)
            space = self.foresight.space
        self.plan = TrialPlan(space, objective, tuple(ruled), calibration, latency, losses)
        if self.start.model.compiled and space.learning_rate is not None:
            set_learning_rate(self.start.new_model(keras_tuner.HyperParameters()), 1e-3)
        self._fingerprint = "" if self.start.builds else fingerprints.of_weights(self.start.model)
        self._savers = Savers()
        self._checked: set[str] = set()
        self._folder = Folder(self.plan, self._fingerprint)
        keep_whole()
        search_alone()
        super().__init__(name)

    @property
    def space(self) -> SearchSpace:
        """What is searched."""
        return self.plan.space

    @property
    def objective(self) -> keras_tuner.Objective:
        """What the tuner is asked to make best.

        Raises:
            ArgumentError: None was given.
        """
        wanted = self.plan.objective
        if wanted is None:
            raise ArgumentError(
                "`objective` is there if the hypermodel was given one. Received: none. Give "
                "objective=SizeAtQuality('val_accuracy', max_drop=0.003) to RankHyperModel, or a "
                "metric to the tuner: objective='val_accuracy'."
            )
        sign = self.plan.quality(self.start.model).sign
        return keras_tuner.Objective(wanted.name, wanted.direction(sign))

    # --- what keras-tuner calls -----------------------------------------------------------

    def build(self, hp: keras_tuner.HyperParameters) -> Any:
        """A model for one trial, dense as the start; weights that it loads bring their ranks.

        Raises:
            SearchError: The hyperparameters are of another space, or weights are of another search.
        """
        declare(self.space, hp)
        self._told(hp)
        model = self.start.new_model(hp)
        if not model.compiled:  # keras-tuner asks for these before it compiles with its own
            model.optimizer = model.loss = None
        model.load_weights = types.MethodType(partial(_load_weights, self._folder), model)
        return model

    def fit(self, hp: keras_tuner.HyperParameters, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Train the model of one trial as its hyperparameters say.

        Returns:
            The metrics of its best epoch at the final ranks, and its sizes.
        """
        callbacks = list(kwargs.pop("callbacks", None) or ())
        trial = TunerTrial.of(callbacks)
        if trial is None:
            told = self._told(hp)
            given = {**kwargs, "callbacks": callbacks}
            return run_trial(self.plan, model, told, self.plan.quality(model), args, given).metrics
        arguments = fit_arguments(model, args, kwargs)
        self._check(trial, model, arguments)
        told = self._told(hp)
        try:
            with trial.alone():
                outcome = self._run(trial, told, model, args, kwargs)
        except SearchError:
            raise
        except Exception as error:
            ends_as = _failure(trial, error)
            if ends_as is None:  # keras-tuner may try it again
                raise
            raise ends_as from error
        wanted = getattr(trial.objective, "name", "")
        if math.isnan(outcome.metrics.get(wanted, 0.0)):
            trial.keep_reason(f"{wanted} is no number: its training diverged")
        return outcome.metrics

    def check_folder(
        self, folder: str | os.PathLike[str], training: Mapping[str, Any] | None = None
    ) -> None:
        """Refuse results of another search: keras-tuner takes up whatever its folder holds.

        Args:
            folder: The folder.
            training: What trials are trained on and how, as `trained_on.training_of` tells it;
                left out, it is compared when a trial begins.

        Raises:
            SearchError: The folder is that of a search with another space, start or objective.
        """
        self._folder.check(Path(folder), training)

    def open_folder(
        self, folder: str | os.PathLike[str], training: Mapping[str, Any] | None = None
    ) -> None:
        """The same, and the folder belongs to this search from now on.

        Raises:
            SearchError: The folder is that of another search.
        """
        self._folder.opened(Path(folder), training)

    def begin_search(self, folder: str | os.PathLike[str]) -> None:
        """Have the first trial of a search compare its data and settings with the folder again.

        Args:
            folder: The folder.
        """
        self._checked.discard(str(Path(folder)))

    # --- inside ---------------------------------------------------------------------------

    def _run(
        self, trial: TunerTrial, told: dict[str, Any], model: Any, args: Any, kwargs: Any
    ) -> Outcome:
        quality = _quality(self.plan, trial, model)
        saved = self._savers.of(trial.saver)
        seed = seed_of(trial.seed, told, saved.executions)
        saved.executions += 1
        dense = self._dense(trial, model, fit_arguments(model, args, kwargs), quality)
        declare_hparams(trial.others, self.plan, quality)
        with seeded(seed):
            outcome = run_trial(
                self.plan,
                model,
                told,
                quality,
                args,
                {**kwargs, "callbacks": trial.others},
                dense=dense,
                file=trial.folder / COMPACT,
                save=trial.save,
                threshold=saved.best,
            )
        if outcome.saved:
            saved.best = outcome.best
        trial.trial.message = _line(outcome.metrics, quality)
        write_results(trial.others, outcome.metrics, quality)
        return outcome

    def _dense(
        self, trial: TunerTrial, model: Any, arguments: Mapping[str, Any], quality: Quality
    ) -> float | None:
        """The quality of the dense start, measured once in a search."""
        if self.plan.objective is None or not self.plan.objective.needs_dense:
            return None
        project = self._folder.opened(trial.project)
        if quality.monitor not in project.dense:
            try:
                goes_on = arguments.get("initial_epoch", 0) > 0
                whole = self.start.new_model(trial.trial.hyperparameters) if goes_on else model
                project.keep(quality.monitor, dense_quality(whole, arguments, quality.monitor))
            except ArgumentError as error:
                raise SearchError(str(error)) from error
        return float(project.dense[quality.monitor])

    def _told(self, hp: keras_tuner.HyperParameters) -> dict[str, Any]:
        """All that a trial is told by its hyperparameters."""
        try:
            return self.space.completed_choice(hp.values)
        except ArgumentError as error:
            raise SearchError(
                f"{error} A search of another space in the same folder has other values: give "
                "another project_name, or overwrite=True to begin anew."
            ) from error

    def _check(self, trial: TunerTrial, model: Any, arguments: Mapping[str, Any]) -> None:
        """Refuse, before the first trial, a search whose trials would all fail."""
        place = str(trial.project)
        if place in self._checked:
            return
        _check_search(self.plan, trial, model, arguments)
        training = training_of(
            type(trial.tuner).__name__,
            None if self.start.builds else model,
            {**arguments, "calibration": self.plan.calibration},
        )
        training["oracle"] = getattr(trial.tuner, SETTINGS, {})
        if trial.executions > 1:
            training["training"]["executions_per_trial"] = trial.executions
        self._folder.opened(trial.project, training)
        trial.keep_begun()
        self._checked.add(place)


def _load_weights(folder: Folder, self: Any, filepath: Any, *args: Any, **kwargs: Any) -> None:
    """Stands for `load_weights` of a trial's model: it gets the ranks of the file as well."""
    folder.check(Path(filepath).absolute().parent.parent)  # where the checkpoint of a trial lies
    if self.compiled and not self.optimizer.built:  # of a builder, or compiled by the tuner
        self.optimizer.build(self.trainable_variables)
    if args or kwargs:  # Keras's own way, which the other goes in the end
        type(self).load_weights(self, filepath, *args, **kwargs)
    else:
        load_weights_into(self, filepath)


def _failure(trial: TunerTrial, error: Exception) -> Exception | None:
    """What keras-tuner is told of an error in a trial; `None` for the error itself."""
    full = _refusal_of_disk(error)
    if full:
        return SearchError(
            f"{trial.project} must take what a trial writes. Received: {full}. Make room there. "
            "Finished trials are kept; this one runs again when the search goes on."
        )
    trial.keep_reason(first_sentence(error))  # keras-tuner tells nobody before the search has ended
    if not isinstance(error, ReducibleError):
        return None
    words = f"Trial {trial.trial.trial_id} failed: {type(error).__name__}: {error}"
    warnings.warn(words, stacklevel=3)
    failed: Exception = keras_tuner.errors.FailedTrialError(words)  # it would be the same again
    return failed


def _refusal_of_disk(error: Exception) -> str:
    """What a disk refuses every other trial as well; empty for any other error."""
    for each in (error, error.__cause__):
        if isinstance(each, OSError) and each.errno in _DISK:
            return os.strerror(each.errno)
    return ""


def _check_kinds(space: Any, objective: Any) -> None:
    if not isinstance(space, SearchSpace):
        raise ArgumentTypeError(
            f"`space` must be a SearchSpace. Received: {space!r}. Write "
            "space=SearchSpace(budget=(0.05, 0.5))."
        )
    if objective is not None and not isinstance(objective, SearchObjective):
        raise ArgumentTypeError(
            f"`objective` must be a SizeAtQuality or a QualityAtSize. Received: {objective!r}. A "
            "metric of the logs is told to the tuner: objective='val_accuracy'."
        )


def _check_search(
    plan: TrialPlan, trial: TunerTrial, model: Any, arguments: Mapping[str, Any]
) -> None:
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
            "is not. Call model.compile(...) first, or give optimizer= and loss= to the tuner."
        )
    if any(isinstance(each, RankScheduler) for each in trial.others):
        raise SearchError(
            "Each trial makes a RankScheduler of its own, by its settings. Received: one more "
            "among the callbacks of search. Leave it out; rules are given to RankHyperModel."
        )
    if plan.latency and hasattr(arguments.get("x"), "__next__"):
        raise SearchError(
            "`latency` is measured on data of the search after each trial. Received: a "
            f"{type(arguments['x']).__name__}, which can be read only once. Give arrays or a "
            "Dataset, or leave `latency` out."
        )
    validates = bool(
        arguments.get("validation_data") is not None or arguments.get("validation_split")
    )
    try:
        quality = _quality(plan, trial, model)
        check_validated(
            quality.monitor, "auto", _keras.logged_metrics(model), validates, "a search"
        )
        _check_reported(plan, trial, model, validates)
    except SearchError:
        raise
    except ArgumentError as error:
        raise SearchError(str(error)) from error


def _check_reported(plan: TrialPlan, trial: TunerTrial, model: Any, validates: bool) -> None:
    """Refuse an objective that no trial will report."""
    logged = list(_keras.logged_metrics(model))
    if not logged or users_own(trial.others):
        return  # what logs anything it likes
    names = [*logged, *(f"val_{each}" for each in logged if validates), *SIZE_METRICS]
    names += [LATENCY] if plan.latency else []
    names += [plan.objective.name] if plan.objective is not None else []
    if trial.objective.name not in names:
        raise SearchError(
            f"The objective of the tuner must be what trials report. Received: "
            f"{trial.objective.name!r}. They will report {', '.join(names)}."
            + ("" if validates else " With validation data there are more.")
        )


def _quality(plan: TrialPlan, trial: TunerTrial, model: Any) -> Quality:
    """What tells the quality: of the objective, or else what the tuner goes by."""
    name = trial.objective.name
    if plan.objective is not None:
        return plan.quality(model)
    if name in (*SIZE_METRICS, LATENCY):
        return plan.quality(model)
    return Quality(name, 1 if trial.objective.direction == "max" else -1)


def _line(metrics: Mapping[str, float], quality: Quality) -> str:
    """What `results_summary` shows of a trial beside its settings and its score."""
    parts = [f"{quality.monitor}: {metrics.get(quality.monitor, float('nan')):.4f}"]
    parts.append(f"params: {metrics['params']:,.0f} ({metrics['params_fraction']:.1%})")
    if "flops_fraction" in metrics:
        parts.append(f"flops: {metrics['flops_fraction']:.1%}")
    if "file_bytes" in metrics:
        parts.append(f"file: {metrics['file_bytes']:,.0f} bytes")
    if LATENCY in metrics:
        parts.append(f"latency: {1000 * metrics[LATENCY]:.3f} ms")
    return ", ".join(parts)
