"""The hypermodel: what any tuner of keras-tuner needs to search how a model is compressed."""

from __future__ import annotations

import math
import os
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from reducible_train import _keras
from reducible_train.errors import (
    ArgumentError,
    ArgumentTypeError,
    FormatError,
    ReducibleError,
    first_sentence,
)
from reducible_train.layers import find_kernels
from reducible_train.report.records import Report
from reducible_train.saving.model_file import load_weights_into
from reducible_train.saving.report_file import read_report
from reducible_train.selection import fingerprints
from reducible_train.selection.measured import losses_of
from reducible_train.settings.monitors import SeveralNumbersError
from reducible_train.settings.objectives import SearchObjective
from reducible_train.settings.rules import LayerRule
from reducible_train.settings.search_space import SearchSpace
from reducible_train.training.fit_data import UnfitError
from reducible_train.training.lost_weights import NAN_REMEDY
from reducible_train.tuner.disk_faults import ends_search
from reducible_train.tuner.errors import SearchError
from reducible_train.tuner.evaluation import (
    COMPACT,
    LATENCY,
    Outcome,
    Quality,
    TrialPlan,
    begins_late,
    callbacks_of,
    check_alone,
    checked_dense,
    fit_arguments,
    run_trial,
    seeded,
    set_learning_rate,
    validates,
    value_of,
)
from reducible_train.tuner.feasibility import check_feasible, warn_of_limit
from reducible_train.tuner.fit_checks import check_fit, has_stock_trials, warn_of_sharing
from reducible_train.tuner.foresight import begin, foresee
from reducible_train.tuner.hparams import declare_hparams, write_results
from reducible_train.tuner.kept_files import keep_whole
from reducible_train.tuner.keras_tuner_side import (
    SETTINGS,
    Saved,
    Savers,
    TunerTrial,
    compiled_by,
    goal_of,
    seed_of,
    write_reason,
)
from reducible_train.tuner.names import check_names, declare, names_apart
from reducible_train.tuner.one_search import search_alone
from reducible_train.tuner.project import Folder
from reducible_train.tuner.reference import dense_quality
from reducible_train.tuner.search_checks import check_search, check_size, quality_of
from reducible_train.tuner.start import Start
from reducible_train.tuner.trained_on import training_of
from reducible_train.tuner.trial_settings import (
    applied,
    check_kinds,
    check_measured,
    check_space,
    checked_rules,
    direction_of,
    rules_of,
)

_OF_LOGS = "A metric of the logs is told to the tuner: objective='val_accuracy'."
_ALL_DATA = (
    "To train on all data, take a RankHyperModel of the same model and space without objective=: "
    "it keeps the last epoch."
)
_CONTINUES = "_reducible_continues"  # of a model with the weights of a trial: its compact file


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
        ArgumentError: A model that cannot be copied, a function that gives the same model twice or
            calls what it asks for like something of the space, a space with unknown names, or an
            analysis of another model or metric.
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
        check_kinds(space, objective, _OF_LOGS)
        if objective is not None and not is_dataclass(objective):
            raise ArgumentTypeError(
                "The objective of a search must be a frozen dataclass, whose fields its folder "
                f"keeps. Received: {type(objective).__name__}, which is none. Write "
                "@dataclass(frozen=True) above it."
            )
        check_space(space)
        ruled = checked_rules(rules)
        losses = losses_of(analysis)
        check_measured(space, losses)
        self.start = Start(model, custom_objects)
        check_names(space, self.start.asked)
        varies = self.start.takes_settings
        self.plan = TrialPlan(space, objective, ruled, calibration, latency, losses, varies)
        check_feasible(self.plan, self.start.model)
        warn_of_limit(space, objective)
        if losses is None:
            self.foresight = begin(space, objective, self.start.model)
        else:
            self.foresight = foresee(losses, space, objective, ruled, self.start.model)
            space = self.foresight.space
            self.plan = replace(self.plan, space=space)
        if self.start.model.compiled and space.learning_rate is not None:
            set_learning_rate(self.start.new_model(keras_tuner.HyperParameters()), 1e-3)
        self._idle = rules_of(space, ruled) if varies else []  # of no model so far
        self._note_layers(self.start.model)
        self._fingerprint = "" if self.start.varies else fingerprints.of_weights(self.start.model)
        self._savers = Savers()
        self._checked: set[str] = set()
        self._asked: Mapping[str, Any] | None = None  # by `search`, while it runs
        self._tuner: Any = None  # which does
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
            ArgumentError: None was given; or nobody knows whether its metric should be large.
        """
        wanted = self.plan.objective
        if wanted is None:
            raise ArgumentError(
                "`objective` is there if the hypermodel was given one. Received: none. Give "
                "objective=SizeAtQuality('val_accuracy', max_drop=0.003) to RankHyperModel, or a "
                "metric to the tuner: objective='val_accuracy'."
            )
        return keras_tuner.Objective(
            wanted.name, direction_of(wanted, self.plan.sign(self.start.model))
        )

    # --- what keras-tuner calls -----------------------------------------------------------

    def build(self, hp: keras_tuner.HyperParameters) -> Any:
        """A model for one trial, dense as the start; weights that it loads bring their ranks.

        Raises:
            SearchError: The hyperparameters are of another space, weights are of another search,
                or a function asks for something else by a name of the space.
        """
        declare(self.space, hp)
        self._told(hp)
        try:
            with self._ends_search(), names_apart(self.space, hp):
                model = self.start.new_model(hp)
        except SearchError:
            raise
        except Exception as error:
            self._keep_reason(hp, error)
            raise
        self._warn_of_size(model)
        self._note_layers(model)
        if not model.compiled:  # keras-tuner asks for these before it compiles with its own
            model.optimizer = model.loss = None
        model.load_weights = types.MethodType(partial(_load_weights, self._folder), model)
        model.save_weights = types.MethodType(_save_weights, model)
        return model

    def fit(self, hp: keras_tuner.HyperParameters, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Train the model of one trial as its hyperparameters say.

        Without a tuner it trains the best settings anew, as on all data; without validation data,
        where there is no `objective`, the model keeps its last epoch.

        Returns:
            The metrics of its best epoch at the final ranks, and its sizes.
        """
        callbacks = callbacks_of(kwargs)
        kwargs.pop("callbacks", None)
        trial = TunerTrial.of(callbacks)
        if trial is None and self._asked is not None:
            raise SearchError(
                "A trial must be run by its tuner, which saves its best epoch. Received: a "
                "`run_trial` that calls hypermodel.fit(...) itself. End it by `return "
                "super().run_trial(trial, *args, **kwargs)`."
            )
        if trial is None:
            return self._run_alone(hp, model, args, {**kwargs, "callbacks": callbacks})
        arguments = fit_arguments(model, args, kwargs)
        self._check(trial, model, arguments)
        told = self._told(hp)
        try:
            with ends_search(trial.project), trial.alone():
                outcome = self._run(trial, told, model, args, kwargs)
        except SearchError:
            raise
        except (UnfitError, SeveralNumbersError) as error:  # of every trial
            raise SearchError(str(error)) from error
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

    @contextmanager
    def searching(
        self, tuner: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Iterator[None]:
        """Within it, a tuner searches.

        Its first trial compares with the folder, again, what `search` was asked for; what a tuner
        makes of that for a single trial, such as a batch size that is searched, is not compared.

        Args:
            tuner: The tuner.
            args: What `search` is given.
            kwargs: The same, by name.

        Raises:
            SearchError: No trial could be trained as it is asked for; or the folder is that of a
                search with another objective or of other data.
        """
        folder = Path(tuner.project_dir)
        asked = fit_arguments(self.start.model, args, kwargs)
        if not self.plan.varies:
            check_size(tuner, self.start.model)
        if has_stock_trials(tuner):
            check_fit(tuner, asked)
        self._checked.discard(str(folder))
        self.check_folder(folder, self._told_of(tuner, asked))
        if self._idle and not getattr(tuner.oracle, "trials", {}):
            self._warn_of_rules()
        self._asked, self._tuner = asked, tuner
        try:
            yield
        finally:
            self._asked = self._tuner = None

    # --- inside ---------------------------------------------------------------------------

    def _ends_search(self) -> AbstractContextManager[None]:
        """Within it a model is built, for a trial where a search has begun in its folder."""
        project = Path(getattr(self._tuner, "project_dir", ""))
        return ends_search(project) if str(project) in self._checked else nullcontext()

    def _keep_reason(self, hp: keras_tuner.HyperParameters, error: Exception) -> None:
        """Keep in the folder of a trial why there is no model for it; nobody else will tell."""
        words = f"{type(error).__name__}: {error}"
        known = getattr(getattr(self._tuner, "oracle", None), "trials", {})  # a worker has none
        for trial in known.values():
            if trial.hyperparameters is hp:
                with suppress(OSError):  # of the two errors the other one matters
                    write_reason(Path(self._tuner.get_trial_dir(trial.trial_id)), words)
        if self._tuner is not None and not isinstance(error, keras_tuner.errors.FailedTrialError):
            warnings.warn(f"No model was built for a trial: {words}", stacklevel=3)

    def _run_alone(
        self, hp: keras_tuner.HyperParameters, model: Any, args: Any, kwargs: Any
    ) -> dict[str, float]:
        """The metrics of a model that is trained as some trial was, without its tuner."""
        arguments = fit_arguments(model, args, kwargs)
        check_alone(model, arguments)
        told, quality, dense = self._told(hp), self.plan.quality(model), None
        if self.plan.objective is not None:
            whole = self._whole(hp, model)
            try:
                dense = checked_dense(self.plan, whole, quality, arguments)
            except ArgumentError as error:
                if validates(arguments):
                    raise
                raise ArgumentError(f"{error} {_ALL_DATA}") from error
        return run_trial(
            self.plan,
            model,
            told,
            quality,
            args,
            kwargs,
            dense_file=partial(self.start.dense_file_bytes, hyperparameters=hp),
            dense=dense,
            goes_on=_goes_on(model, arguments),
            before=_report_before(model, arguments),
        ).metrics

    def _run(
        self, trial: TunerTrial, told: dict[str, Any], model: Any, args: Any, kwargs: Any
    ) -> Outcome:
        quality = quality_of(self.plan, trial, model)
        saved = self._savers.of(trial.saver)
        seed = seed_of(trial.seed, told, saved.executions)
        saved.executions += 1
        arguments = fit_arguments(model, args, kwargs)
        dense = self._dense(trial, model, arguments, quality)
        if trial.tuner.oracle.max_trials != 1:
            warn_of_sharing(arguments)
        declare_hparams(trial.others, self.plan, quality)
        with seeded(seed):
            outcome = run_trial(
                self.plan,
                model,
                told,
                quality,
                args,
                {**kwargs, "callbacks": trial.others},
                dense_file=partial(
                    self.start.dense_file_bytes, hyperparameters=trial.trial.hyperparameters
                ),
                dense=dense,
                goes_on=_goes_on(model, arguments),
                before=_report_before(model, arguments),
                file=trial.folder / COMPACT,
                save=trial.save,
                threshold=saved.best,
            )
        if outcome.lost is not None:
            raise ArgumentError(f"Its training diverged: {outcome.lost}. {NAN_REMEDY}")
        if outcome.saved:
            saved.best = outcome.best
        metrics = self._of_all(saved, outcome.metrics, quality, dense)
        trial.trial.message = _line(metrics, quality)
        write_results(trial.others, metrics, quality)
        return outcome

    def _warn_of_size(self, model: Any) -> None:
        """Tell of a dense model of another size than the first: fractions are of each one's own."""
        if not self.start.builds or not (model.built and self.start.model.built):
            return
        size, first = model.count_params(), self.start.model.count_params()
        if size != first:
            warnings.warn(
                f"Fractions of the size are of each trial's own dense model, of {first:,} and "
                f"{size:,} parameters: trials of this search are not compared by them. Go by "
                "`params` or `file_bytes`, or let the function build models of one size.",
                UserWarning,
                stacklevel=3,
            )

    def _note_layers(self, model: Any) -> None:
        """See for which rules and floors a model of a function has a kernel."""
        if self._idle:
            found = applied(rules_of(self.plan.space, self.plan.rules), model)
            self._idle = [rule for rule in self._idle if rule not in found]

    def _warn_of_rules(self) -> None:
        """Tell of rules and floors that may hold nowhere, as one with a wrong pattern does."""
        kernels = find_kernels(_keras.trained_model(self.start.model))
        warnings.warn(
            "Rules and floors should apply to a layer with a kernel in some trial. Received: "
            f"{', '.join(repr(rule.match) for rule in self._idle)}, which apply to none in all "
            "models that were built so far; trials without such a layer leave them out. The first "
            f"model has {', '.join(dict.fromkeys(each.layer_path for each in kernels))}.",
            UserWarning,
            stacklevel=3,
        )

    def _of_all(
        self, saved: Saved, metrics: dict[str, float], quality: Quality, dense: float | None
    ) -> dict[str, float]:
        """The metrics of a trial, of which one execution has ended.

        keras-tuner averages what each reports. A size that a limit decides about is no number to
        be averaged with how far another execution is behind, so each of them reports the value of
        their means.
        """
        saved.shown.append(metrics)
        objective = self.plan.objective
        if objective is not None and len(saved.shown) > 1:
            value = value_of(objective, saved.mean(), quality.sign, dense)
            for each in saved.shown:
                each[objective.name] = value
        return saved.mean()

    def _dense(
        self, trial: TunerTrial, model: Any, arguments: Mapping[str, Any], quality: Quality
    ) -> float | None:
        """The quality of the dense start, measured once in a search."""
        if self.plan.objective is None or not self.plan.objective.needs_dense:
            return None
        project = self._folder.opened(trial.project)
        if quality.monitor not in project.dense:
            try:
                whole = self._whole(trial.trial.hyperparameters, model)
                project.keep(quality.monitor, dense_quality(whole, arguments, quality.monitor))
            except ArgumentError as error:
                raise SearchError(str(error)) from error
            except Exception as error:
                raise SearchError(
                    f"`max_drop` measures the dense start by {quality.monitor}, which "
                    f"model.evaluate could not compute on those data: {first_sentence(error)}"
                ) from error
        dense = float(project.dense[quality.monitor])
        fault = self.plan.objective.dense_fault(dense)
        if fault is not None:
            raise SearchError(fault)
        return dense

    def _whole(self, hp: keras_tuner.HyperParameters, model: Any) -> Any:
        """The model of a trial while it is dense; for one that goes on, measured as that is."""
        if not hasattr(model, _CONTINUES):
            return model
        whole, given = self.start.new_model(hp), _keras.compiled_with(model)
        if given and type(whole).compile is keras.Model.compile:
            whole.compile(**{name: each for name, each in given.items() if name != "optimizer"})
        return whole

    def _told(self, hp: keras_tuner.HyperParameters) -> dict[str, Any]:
        """All that a trial is told by its hyperparameters."""
        try:
            return self.space.completed_choice(hp.values)
        except ArgumentError as error:
            raise SearchError(
                f"{error} `hyperparameters=` of a tuner must lie within the space of its "
                "hypermodel; a search of another space in the same folder has other values: give "
                "another project_name then, or overwrite=True to begin anew."
            ) from error

    def _check(self, trial: TunerTrial, model: Any, arguments: Mapping[str, Any]) -> None:
        """Refuse, before the first trial, a search whose trials would all fail."""
        place = str(trial.project)
        if place in self._checked:
            return
        check_fit(trial.tuner, arguments)
        check_search(self.plan, trial, model, arguments)
        told = self._told_of(trial.tuner, self._asked or arguments)
        self._folder.opened(trial.project, told)
        trial.keep_begun()
        self._checked.add(place)

    def _told_of(self, tuner: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What a tuner is asked for, and what its trials are trained on and how."""
        data = {**arguments, "calibration": self.plan.calibration}
        compiled = compiled_by(tuner, None if self.start.builds else self.start.model)
        told = training_of(type(tuner).__name__, compiled, data)
        executions = int(getattr(tuner, "executions_per_trial", 1))
        if executions > 1:
            told["training"]["executions_per_trial"] = executions
        told["oracle"] = getattr(tuner, SETTINGS, {})
        told["goal"] = goal_of(tuner.oracle.objective)
        return told


def _save_weights(self: Any, filepath: Any, *args: Any, **kwargs: Any) -> None:
    """Stands for `save_weights` of a trial's model: a full disk ends the search, and no process."""
    if args or kwargs or "://" in str(filepath):  # of a store that has no files
        type(self).save_weights(self, filepath, *args, **kwargs)
    else:
        _keras.save_weights(self, Path(filepath))


def _load_weights(folder: Folder, self: Any, filepath: Any, *args: Any, **kwargs: Any) -> None:
    """Stands for `load_weights` of a trial's model: it gets the ranks of the file as well."""
    folder.check(Path(filepath).absolute().parent.parent)  # where the checkpoint of a trial lies
    compact = Path(filepath).parent / COMPACT
    setattr(self, _CONTINUES, compact)
    if self.compiled and not self.optimizer.built:  # of a builder, or compiled by the tuner
        self.optimizer.build(self.trainable_variables)
    if args or kwargs:  # Keras's own way, which the other goes in the end
        type(self).load_weights(self, filepath, *args, **kwargs)
        return
    try:
        load_weights_into(self, filepath)
    except FormatError as error:
        if not compact.is_file():
            raise
        words = str(error).partition(" Save it anew")[0]
        raise FormatError(
            f"{words} {compact} holds the same weights: load_model({str(compact)!r})."
        ) from error


def _goes_on(model: Any, arguments: Mapping[str, Any]) -> bool:
    """Whether a fit goes on at the ranks of another trial."""
    return begins_late(arguments) and hasattr(model, _CONTINUES)


def _report_before(model: Any, arguments: Mapping[str, Any]) -> Report | None:
    """What was done to a model in the trial that it goes on from, where that is known."""
    if not _goes_on(model, arguments):
        return None
    with suppress(FormatError, OSError):  # of a trial that left no file, or a damaged one
        return read_report(getattr(model, _CONTINUES))
    return None


def _failure(trial: TunerTrial, error: Exception) -> Exception | None:
    """What keras-tuner is told of an error in a trial; `None` for the error itself."""
    trial.keep_reason(first_sentence(error))  # keras-tuner tells nobody before the search has ended
    if not isinstance(error, ReducibleError):
        return None
    words = f"Trial {trial.trial.trial_id} failed: {type(error).__name__}: {error}"
    warnings.warn(words, stacklevel=3)
    failed: Exception = keras_tuner.errors.FailedTrialError(words)  # it would be the same again
    return failed


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
