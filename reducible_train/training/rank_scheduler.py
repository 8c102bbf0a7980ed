"""The callback: its arguments, its outcome, and hooks that hand on to a `TrainingRun`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Self, Unpack

import keras

from reducible_train import _keras
from reducible_train.compressor.answers import spoilt_outputs, unknown_outputs
from reducible_train.errors import ArgumentError, OutputErrorWarning, ShortfallWarning
from reducible_train.report.records import Report
from reducible_train.selection.feasibility import check_choices
from reducible_train.selection.judge import UNWATCHED
from reducible_train.settings.agreement import resume_faults
from reducible_train.settings.aids import Aid
from reducible_train.settings.cadence import Cadence
from reducible_train.settings.compression import (
    MEASURED,
    CompressionKeywords,
    compression_settings,
)
from reducible_train.settings.configuration import arguments_from_config
from reducible_train.settings.faults import raise_first
from reducible_train.settings.guard import Guard
from reducible_train.settings.measures import Measure
from reducible_train.settings.rules import LayerRule
from reducible_train.settings.schedules import Schedule
from reducible_train.settings.timing import final_epoch
from reducible_train.training.answering import watch_of_fit
from reducible_train.training.clock import timed
from reducible_train.training.lost_weights import NAN_REMEDY
from reducible_train.training.preflight import check_fit, foreseen_shortfall
from reducible_train.training.rank_logs import tell_ranks
from reducible_train.training.run import TrainingRun
from reducible_train.training.sampling import CalibrationSet
from reducible_train.training.shortfall import Shortfall

_WEIGHTLESS = (
    "Every sample of this fit has weight 0, by `sample_weight` or `class_weight`: none counts in "
    "the loss, and no cut is made, for that waits for samples that count. Give weights above 0, or "
    "samples to judge by, as calibration=(x, y)."
)


class RankScheduler(keras.callbacks.Callback):
    """Lowers the ranks of a model's layers while it trains.

    At each epoch's beginning (or every so many steps) the schedule says what the model
    may cost; the kernels are cut to the ranks that lose least, their factors take their
    place as smaller variables, optimizer state follows, and training goes on. Metrics of
    an epoch belong to the ranks in force while it ran.

    Put it before `TensorBoard` and `CSVLogger` in the list of callbacks: it adds
    `params`, `params_fraction` and the ranks to the logs of each epoch, and callbacks before it
    do not see them. A rank is `rank/<layer>`, the full one while the layer is dense; of more than
    twelve kernels they are in the `History` alone, as Keras's progress bar prints all logs.

    Args:
        budget: Fraction of the whole dense model it may cost, in (0, 1]: a number or a schedule.
            A dictionary by measure asks for several at once, all of which are met:
            `{"parameters": 0.25, "flops": Ramp(1.0, 0.5)}`.
            Exactly one of `budget` and the targets below is given, or none of them and
            `cadence=Cadence(start=Adaptive(...))`, which cuts each kernel to its stable rank.
        measure: What a budget counts: `"parameters"`, `"bytes"` (of the variables), `"flops"`, or
            `"file"` (bytes of the compact file; without loss, so a number takes about five
            sixths of its size in memory, and the header counts), or `"latency"` (seconds of a
            batch, measured when the fit begins). `Latency(batch_size=1)` for other than 32;
            `Flops(input_shape=(128,))` for a model that leaves lengths open, where the data shall
            not tell them. Beside a dictionary, whose keys say what is counted, only such measures
            with options: `[Latency(batch_size=1)]`.
        criterion: What a lost direction costs: `"fisher"` (in the loss of the compiled model, to
            second order), `"activation"` (of the kernel's output on data, the mean made up for by
            the bias), `"frobenius"` (of the kernel). `"auto"`: the best of them that model and
            data allow; of an energy or an error, the last. `"measured"`: that within a kernel, and
            between kernels what `analysis` has measured.
        allocation: How a budget is shared among the kernels: `"knapsack"` (the least lost in all),
            `"equal_energy"` (the same energy kept everywhere), `"uniform"` (the same fraction of
            full rank). `"auto"`: the first where data judges, every kernel keeping four ranks while
            there is room, else the second.
        calibration: Data for the first two, and for `Regrow`, as `model.fit` takes it: `x`,
            `(x, y)` or `(x, y, sample_weight)`, where several inputs are a list or a dictionary, or
            a source of batches of these (a `tf.data.Dataset`, a `PyDataset`, a generator, ...).
            Samples count by their weights; positions that a mask hides, or a loss ignores, do not.
            A whole number means so many samples of the fit itself, known before its first step: of
            arrays at random, of other data the first (on one device; on several it is refused).
            Left out, 2048 of them, or fewer where these take more than 256 MiB.
        rules: Rules for single layers. Without one an output layer stays dense, unless
            outputs would be more than a third of what the smallest budget leaves.
        cadence: When cuts may be made, and from when on: every epoch, if not given.
        guard: Has cuts undone that a metric does not recover from. Without one, every cut stays.
        aids: What shall help the training while ranks fall: `ProductDecay`, `Rewarm`, and
            `TailShrink`, `Regrow` (not with `guard`, `search`, `energy`, `rtol` or a lone
            `Adaptive`).
        **more: One target in place of a budget: `cost` (the same, not as a fraction: in
            parameters, bytes or whatever `measure` counts), `energy` (the fraction of its energy
            each kernel keeps, since the start), `rtol` (the relative error that each kernel may
            have, `sqrt(1 - energy)` since the start, as the criterion weighs it, in [0, 1)), `rank`
            (of every kernel, which stays dense while that would not make it smaller) or
            `effective_rank` (the multiple of its own, before any cut, that each kernel keeps), each
            a number or a schedule; or `search`, a `Search` that steps the budget down as far as the
            guard allows. And what few need: `multiple`, what ranks are multiples of, such as 8,
            which hardware multiplies fastest (a kernel of which no multiple saves anything stays
            dense, with the reason in the report); `min_share`, the least that a factorised kernel
            keeps, as a share of its full rank, in [0, 1); and, for `criterion="measured"`,
            `analysis`: what `analyze` returned, or its file, of the weights that the model has when
            `fit` begins. A budget is then shared by what the user's own metric loses where each
            kernel alone is cut.

    Attributes:
        settings: What was asked for, as one frozen value.
        report: The model as it is, and every cut so far; also after `fit`.
        shortfall: What the last `fit` did not bring, with `reason`, `remedy` and `held_back` (True
            if the guard or the search wanted it so); `None` if it brought what was asked. `fit`
            ends with its sentence as a warning.
        diverged: What of the model was NaN or infinite at the end of the last `fit`, as a weight;
            `None` if nothing was. `fit` warns of it as well.
        kept_epoch: The epoch, from 0, whose weights the last `fit` ended with, where a callback has
            put back those of its best, also if that was the last; `None` where none has.
        seconds: Wall time spent in this callback since `fit` began.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentError: Unusable arguments, or some that do not go together; when `fit` begins, a
            rule that matches no layer, a schedule that ends after the last cut, a guard whose
            metric the model does not have, data that the model or its loss cannot take, a second
            scheduler, or a callback of Keras that would keep a larger model as the best or put back
            weights of other shapes; at a cut, a `Rewarm(epochs=...)` in an epoch whose number of
            steps is not known yet.
        RankError: When `fit` begins: nothing to compress, a budget no ranks meet, or several that
            none meet together.
        SpectrumError: A weight holds NaN or infinity.

    Example:
        >>> from reducible_train import Ramp
        >>> scheduler = RankScheduler(
        ...     budget=Ramp(initial=1.0, final=0.2, start_epoch=2, end_epoch=6))
        >>> # model.fit(x, y, epochs=16, callbacks=[scheduler])

    Reference: the shape of the default ramp is that of Zhu and Gupta, *To prune, or not to
    prune*, 2017.
    """

    def __init__(
        self,
        budget: float | Schedule | Mapping[str, float | Schedule] | None = None,
        *,
        measure: str | Measure | Sequence[Measure] = "parameters",
        criterion: str = "auto",
        allocation: str = "auto",
        calibration: Any = None,
        rules: Sequence[LayerRule] = (),
        cadence: Cadence | None = None,
        guard: Guard | None = None,
        aids: Sequence[Aid] = (),
        **more: Unpack[CompressionKeywords],
    ):
        super().__init__()
        self.settings = compression_settings(
            type(self).__name__,
            {"budget": budget, **more},
            measure=measure,
            criterion=criterion,
            allocation=allocation,
            calibration=calibration,
            rules=rules,
            cadence=cadence,
            guard=guard,
            aids=aids,
        )
        check_choices(allocation, criterion)
        self.seconds = 0.0
        self.shortfall: Shortfall | None = None
        self.diverged: str | None = None
        self.kept_epoch: int | None = None
        self._calibration = CalibrationSet(self.calibration)
        self._run: TrainingRun | None = None  # the fit that runs, or was broken off
        self._outcome: Report | None = None  # of the last fit, or of the one this is a copy from
        self._began: float | None = None  # when its cuts began

    target = property(attrgetter("settings.target"))
    search = property(attrgetter("settings.search"))
    measure = property(attrgetter("settings.measure"))
    criterion = property(attrgetter("settings.criterion"))
    allocation = property(attrgetter("settings.allocation"))
    analysis = property(attrgetter("settings.analysis"))
    calibration = property(attrgetter("settings.calibration"))
    rules = property(attrgetter("settings.rules"))
    cadence = property(attrgetter("settings.cadence"))
    adaptive = property(attrgetter("settings.adaptive"))
    guard = property(attrgetter("settings.guard"))
    aids = property(attrgetter("settings.aids"))
    multiple = property(attrgetter("settings.multiple"))
    min_share = property(attrgetter("settings.min_share"))

    def get_config(self) -> dict[str, Any]:
        """What was asked for, in plain values for JSON or YAML.

        Raises:
            ArgumentError: There are calibration data, or a timer, which no such value can hold.
        """
        return self.settings.get_config()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """A scheduler that is asked for what `get_config` has told.

        Raises:
            ArgumentError: Values that cannot be used, or do not go together.
        """
        return cls(**arguments_from_config(config))

    def __repr__(self) -> str:
        return self.settings.described(type(self).__name__)

    def __getstate__(self) -> dict[str, Any]:
        """A copy, or a pickle, has the settings and the outcome; its model comes with its fit."""
        outcome = {"_outcome": self._told(), "_began": self._cuts_began(), "_run": None}
        return vars(self) | vars(keras.callbacks.Callback()) | outcome

    @property
    def report(self) -> Report:
        """The model as it is, and every cut so far.

        Raises:
            ArgumentError: `fit` has not begun yet.
        """
        report = self._told()
        if report is None:
            raise ArgumentError(
                "`report` is there once `fit` has begun. Received: a scheduler that has not met "
                "a built model. Give it to model.fit(callbacks=[...]) first."
            )
        return report

    @property
    def final_epoch(self) -> float:
        """First epoch, from 0, that runs at the final ranks if no cut is undone.

        Of a search, the last at which it may try another budget. With an `Adaptive`, the latest
        it can be, until cuts have begun.
        """
        return final_epoch(self.settings, (self.params or {}).get("epochs"), self._cuts_began())

    @property
    def metric_directions(self) -> dict[str, str | None]:
        """Of the metrics of its model `"up"` or `"down"`, what each should be, if Keras knows."""
        return {} if self.model is None else _keras.logged_metrics(self.model)

    def check_resumable(self) -> None:
        """Refuse what another fit could not go on with.

        Raises:
            ArgumentError: There is a guard, an `Adaptive`, or an aid whose state no backup holds.
        """
        settings = self.settings
        kinds = [type(aid) for aid in settings.aids]
        raise_first(resume_faults(kinds, guard=settings.guard, start=settings.adaptive))

    def get_state(self) -> dict[str, Any]:
        """All that `set_state` needs to go on in another fit, in plain JSON values.

        Raises:
            ArgumentError: No fit is running, it has not met a built model, or `check_resumable`
                refuses it.
        """
        self.check_resumable()
        return self._fit.get_state()

    @timed
    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on where another fit stood, once it has begun and the model is as it was then.

        Args:
            state: What `get_state` gave, at the end of an epoch.
        """
        if self._run is None:
            self._run = self._new_run([], _keras.data_of_fit(self))
        self._run.set_state(state)

    # --- hooks of Keras ---------------------------------------------------------------

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.seconds, self.shortfall, self._outcome, self._began = 0.0, None, None, None
        self.diverged, self.kept_epoch = None, None
        self._begin()

    @timed
    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._fit.begin_epoch(epoch)
        if not self._fit.loop.is_fit:  # a loop of one's own, which may announce no steps
            self._fit.before_step(0)

    @timed
    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._fit.acts:
            _keras.before_step(
                self.model,
                lambda: self._before_step(batch),
                self._fit.sampling.ahead,
                loop=self._fit.loop,
                left=self._fit.clock.steps_left,
            )
        self._fit.sampling.go_on()

    @timed
    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._fit.end_step(batch, logs)

    @timed
    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._fit.end_epoch(epoch, logs)
        tell_ranks(self._fit.control.ranks, logs, getattr(self.model, "history", None))

    @timed
    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._run is None and self._outcome is not None:
            return  # told twice, by a loop of one's own: as Keras's callbacks, it ends once
        run = self._fit
        self.shortfall = run.close()
        self.diverged, self.kept_epoch = run.control.diverged, run.kept_epoch
        self._outcome, self._began = self._told(), self._cuts_began()
        self._run = None
        told = "" if self.shortfall is None else str(self.shortfall)
        if self.shortfall is not None and not run.is_as_foreseen(self.shortfall):
            warnings.warn(told, ShortfallWarning, stacklevel=3)
        guard = run.control.guard
        if guard is not None:
            guard.tell_end(told)
        compression = run.control.compression
        if run.answers.complaint is not None and compression is not None:
            words = spoilt_outputs(self.model, run.answers, compression.judge.remedy)
            warnings.warn(words, OutputErrorWarning, stacklevel=3)
        if run.answers.unknown is not None:
            words = unknown_outputs(self.model, run.answers.unknown)
            warnings.warn(words, OutputErrorWarning, stacklevel=3)
        if self.diverged is not None and (guard is None or guard.end is None):
            words = f"The training of model '{self.model.name}' has diverged: at its end, "
            words += f"{self.diverged}. {NAN_REMEDY}"
            warnings.warn(words, OutputErrorWarning, stacklevel=3)

    # --- inside -----------------------------------------------------------------------

    @property
    def _fit(self) -> TrainingRun:
        """The fit that is running."""
        if self._run is None:
            raise ArgumentError(
                "No fit is running. Received: a call from outside of model.fit, or of a training "
                "loop that has not called on_train_begin. Call it first."
            )
        return self._run

    @timed
    def _begin(self) -> None:
        """Check the fit that begins, and take its model in hand."""
        if self._run is not None:
            self._run.abandon()
        self._run = None
        others = [each for each in _keras.other_callbacks(self) if each is not self]
        data = _keras.data_of_fit(self)
        check_fit(self.settings, self, others, self._calibration, data, RankScheduler)
        run = self._new_run(others, data)
        try:
            run.begin()
            foreseen = foreseen_shortfall(self.settings, self, run.control.compression)
            if foreseen is not None:
                why, remedy = foreseen
                run.foresee(remedy)
                warnings.warn(f"{why} {remedy}", ShortfallWarning, stacklevel=3)
        except BaseException:
            run.abandon()
            raise
        run.watch()
        self._run = run
        if run.sampling.takes and _keras.weighs_nothing(self):
            warnings.warn(_WEIGHTLESS, stacklevel=3)
        judged = self.settings.criterion != MEASURED  # else by an analysis
        if judged and run.sampling.without == UNWATCHED and _keras.in_fit(self):
            warnings.warn(UNWATCHED, stacklevel=3)

    def _new_run(self, others: Sequence[Any], data: Any) -> TrainingRun:
        params = self.params or {}
        calibration = self._calibration.in_fit(_keras.training_arrays(self))
        answers = watch_of_fit(self, self.settings, self._calibration)
        validated, rhythm = _keras.validation_samples(self), _keras.validation_rhythm(self)
        return TrainingRun(
            self.settings,
            self.model,
            params,
            calibration,
            data,
            others,
            answers,
            _keras.loop_of(self),
            validated,
            rhythm,
        )

    @timed
    def _before_step(self, batch: int) -> None:
        """Later than the hook, where the data of the step is fetched first."""
        self._fit.before_step(batch)

    def _told(self) -> Report | None:
        """The report of the fit that runs, or of the last."""
        return self._outcome if self._run is None else self._run.report(self.shortfall)

    def _cuts_began(self) -> float | None:
        """When cuts began; `None` while an `Adaptive` holds them."""
        return self._began if self._run is None else self._run.control.began
