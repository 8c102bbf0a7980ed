"""The callback: when to act.

What falls is a `Target`, how it is done is `Compression`; here is only time.
"""

from __future__ import annotations

import contextlib
import math
import time as clock
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, Self, Unpack

import keras

from reducible_train import _keras
from reducible_train.compressor import Compression
from reducible_train.errors import ArgumentError, ShortfallWarning, SpectrumError
from reducible_train.layers import find_kernels
from reducible_train.preflight.paths import check_folder
from reducible_train.preflight.values import check_values
from reducible_train.report.records import Report, empty_report
from reducible_train.selection.criteria import criterion_named
from reducible_train.selection.distribution import check_workers
from reducible_train.selection.feasibility import check_choices
from reducible_train.selection.input_shapes import (
    InputShapes,
    no_shapes,
    shapes_of_fit,
    shapes_of_samples,
    shapes_told,
)
from reducible_train.selection.samples import (
    ENOUGH,
    SampleCollector,
    Samples,
    check_asking,
    samples_of,
    try_out,
)
from reducible_train.selection.survey import count_calls
from reducible_train.settings.agreement import resume_faults
from reducible_train.settings.aids import Aid
from reducible_train.settings.cadence import Cadence
from reducible_train.settings.compression import TargetKeywords, compression_settings
from reducible_train.settings.configuration import arguments_from_config
from reducible_train.settings.faults import raise_first
from reducible_train.settings.guard import Bound, Guard, direction_of
from reducible_train.settings.measures import Measure
from reducible_train.settings.monitors import check_validated
from reducible_train.settings.rules import LayerRule
from reducible_train.settings.schedules import Schedule
from reducible_train.settings.timing import ends_of, schedule_end, timing_faults
from reducible_train.training.adaptive_pace import AdaptivePace
from reducible_train.training.aid_context import ModelAidContext
from reducible_train.training.comparisons import Comparers
from reducible_train.training.guard_run import GuardRun
from reducible_train.training.other_callbacks import check_other_callbacks
from reducible_train.training.pacing import Pace, SchedulePace, SearchPace
from reducible_train.training.shortfall import Course, Shortfall, shortfall_of

_OF_A_FIT = (  # and of no copy
    "_compression",
    "_watch",
    "_context",
    "_adapting",
    "_collector",
    "_first",
    "_comparers",
)


class RankScheduler(keras.callbacks.Callback):
    """Lowers the ranks of a model's layers while it trains.

    At each epoch's beginning (or every so many steps) the schedule says what the model
    may cost; the kernels are cut to the ranks that lose least, their factors take their
    place as smaller variables, optimizer state follows, and training goes on. Metrics of
    an epoch belong to the ranks in force while it ran.

    Put it before `TensorBoard` and `CSVLogger` in the list of callbacks: it adds
    `params` and `params_fraction` to the logs of each epoch, and callbacks before it do
    not see them.

    Args:
        budget: Fraction of the whole dense model it may cost, in (0, 1]: a number or a schedule.
            Exactly one of `budget` and the targets below is given, or none of them and
            `cadence=Cadence(start=Adaptive(...))`, which cuts each kernel to its stable rank.
        measure: What a budget counts: `"parameters"`, `"bytes"` (of the variables), `"flops"`, or
            `"file"` (bytes of the compact file; without loss, so a number takes about five
            sixths of its size in memory, and the header counts), or `"latency"` (seconds of a
            batch, measured when the fit begins). `Latency(batch_size=1)` for other than 32;
            `Flops(input_shape=(128,))` for a model that leaves lengths open, where the data shall
            not tell them.
        criterion: What a lost direction costs: `"frobenius"` (of the kernel), `"activation"` (of
            its output on data, the mean made up for by the bias), `"fisher"` (in the loss, to
            second order).
        allocation: How a budget is shared among the kernels: `"equal_energy"` (the same energy
            kept everywhere), `"knapsack"` (the least lost in all, best with a criterion that
            knows the data), `"uniform"` (the same fraction of full rank).
        calibration: Data for the last two criteria, and for `Regrow`, as `model.fit` takes it: `x`,
            `(x, y)` or `(x, y, sample_weight)`, where several inputs are a list or a dictionary, or
            a source of batches of these (a `tf.data.Dataset`, a `PyDataset`, a generator, ...).
            Samples count by their weights; positions that a mask hides do not. A whole number means
            so many samples of the fit itself, the first (on TensorFlow, on one device), and a
            criterion makes no cut before they have passed; left out, 2048 of them.
        rules: Rules for single layers. Without one, output layers stay dense.
        cadence: When cuts may be made, and from when on: every epoch, if not given.
        guard: Has cuts undone that a metric does not recover from. Without one, every cut stays.
        aids: What shall help the training while ranks fall: `ProductDecay`, `Rewarm`, and
            `TailShrink`, `Regrow` (not with `guard`, `search`, `energy`, `rtol` or a lone
            `Adaptive`).
        **target: One target in place of a budget: `cost` (the same, not as a fraction: in
            parameters, bytes or whatever `measure` counts), `energy` (the fraction of its energy
            each kernel keeps, since the start), `rtol` (the relative error that each kernel may
            have, `sqrt(1 - energy)` since the start, as the criterion weighs it, in [0, 1)) or
            `rank` (of every kernel, which stays dense while that would not make it smaller), each a
            number or a schedule; or `search`, a `Search` that steps the budget down as far as the
            guard allows.

    Attributes:
        settings: What was asked for, as one frozen value.
        report: The model as it is, and every cut so far; also after `fit`.
        shortfall: What the last `fit` did not bring, with `reason`, `remedy` and `held_back` (True
            if the guard or the search wanted it so); `None` if it brought what was asked. `fit`
            ends with its sentence as a warning.
        seconds: Wall time spent in this callback since `fit` began.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentError: Unusable arguments, or some that do not go together; when `fit` begins, a
            rule that matches no layer, a schedule that ends after the last cut, a guard whose
            metric the model does not have, a second scheduler, or a callback of Keras that would
            keep a larger model as the best or put back weights of other shapes; at a cut, a
            `Rewarm(epochs=...)` in an epoch whose number of steps is not known yet.
        RankError: When `fit` begins: nothing to compress, or a budget no ranks meet.
        SpectrumError: A kernel holds NaN or infinity.

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
        budget: float | Schedule | None = None,
        *,
        measure: str | Measure = "parameters",
        criterion: str = "frobenius",
        allocation: str = "equal_energy",
        calibration: Any = None,
        rules: Sequence[LayerRule] = (),
        cadence: Cadence | None = None,
        guard: Guard | None = None,
        aids: Sequence[Aid] = (),
        **target: Unpack[TargetKeywords],
    ):
        super().__init__()
        self.settings = compression_settings(
            type(self).__name__,
            {"budget": budget, **target},
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
        self._told: Report | None = None  # of the fit of which this is a copy
        self._compression: Compression | None = None
        self._epoch = 0
        self._epoch_start = 0
        self._step = 0
        self._trained = 0  # the epoch after the last that had a step
        self._opens = False  # an epoch that has had no step yet
        self._epoch_length: int | None = None  # in steps, of the last epoch
        self._last_turn: int | None = None
        self._looked: float | None = None  # when ranks were looked at last, in epochs
        self._loss: float | None = None  # of the last epoch
        self._watch: GuardRun | None = None
        self._context: ModelAidContext | None = None
        self._adapting: AdaptivePace | None = None
        self._collector: SampleCollector | None = None
        self._given: Samples | None = None  # the calibration set, as it was read
        self._postponed: float | None = None  # time of a cut that waits for samples
        self._is_tried = False  # the model, on the first of the samples
        self._first: SampleCollector | None = None  # batch, where it is needed for its shape
        self._seen: InputShapes | None = None  # what it said
        self._comparers: Comparers | None = None

    target = property(attrgetter("settings.target"))
    search = property(attrgetter("settings.search"))
    measure = property(attrgetter("settings.measure"))
    input_shape = property(attrgetter("settings.input_shape"))
    criterion = property(attrgetter("settings.criterion"))
    allocation = property(attrgetter("settings.allocation"))
    calibration = property(attrgetter("settings.calibration"))
    rules = property(attrgetter("settings.rules"))
    cadence = property(attrgetter("settings.cadence"))
    adaptive = property(attrgetter("settings.adaptive"))
    guard = property(attrgetter("settings.guard"))
    aids = property(attrgetter("settings.aids"))

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
        told = self._told if self._compression is None else self.report
        return self.__dict__ | dict.fromkeys(_OF_A_FIT) | {"_model": None, "_told": told}

    @property
    def report(self) -> Report:
        """The model as it is, and every cut so far.

        Raises:
            ArgumentError: `fit` has not begun yet.
        """
        if self._told is not None:
            return self._told
        if self._compression is None and self.shortfall is not None:
            return empty_report(str(self.shortfall))
        if self._compression is None:
            raise ArgumentError(
                "`report` is there once `fit` has begun. Received: a scheduler that has not met "
                "a built model. Give it to model.fit(callbacks=[...]) first."
            )
        report, watch = self._compression.report, self._watch
        notes = list(report.notes)
        if watch is not None:
            report = replace(report, undone=tuple(watch.undone))
            notes += watch.notes
        elif self._adapting is not None and self._adapting.note is not None:
            notes.append(self._adapting.note)
        if self.shortfall is not None:  # which may hold one of them
            words = str(self.shortfall)
            notes = [words, *(note for note in notes if note not in words)]
        return replace(report, notes=tuple(notes))

    @property
    def final_epoch(self) -> float:
        """First epoch, from 0, that runs at the final ranks if no cut is undone.

        Of a search, the last at which it may try another budget. With `adaptive`, the latest it
        can be, until cuts have begun.
        """
        if self.search is not None:
            return self.search.last_epoch((self.params or {}).get("epochs"))
        ends = ends_of(self.settings, self._epochs, self._began)
        end = max(each.epoch for each in ends)
        every = self.cadence.epochs or 1
        return math.ceil(end / every) * every if math.isfinite(end) else end

    def check_resumable(self) -> None:
        """Refuse what another fit could not go on with.

        Raises:
            ArgumentError: There is a guard, an `Adaptive`, or an aid whose state no backup holds.
        """
        kinds = [type(aid) for aid in self.aids]
        raise_first(resume_faults(kinds, guard=self.guard, start=self.adaptive))

    def get_state(self) -> dict[str, Any]:
        """All that `set_state` needs to go on in another fit, in plain JSON values.

        Raises:
            ArgumentError: `fit` has not begun yet, or `check_resumable` refuses it.
        """
        self.check_resumable()
        if self._compression is None:
            raise ArgumentError(
                "There is no story before `fit` has met a built model. Received: a scheduler that "
                "has not. Build the model first, by calling it once on data."
            )
        return {
            "step": self._step,
            "last_turn": self._last_turn,
            "compression": self._compression.get_state(),
            "input_shape": self._compression.counted_shape,
        }

    def set_state(self, story: Mapping[str, Any]) -> None:
        """Go on where another fit stood, once it has begun and the model is as it was then.

        Args:
            story: What `get_state` gave, at the end of an epoch.
        """
        if story.get("input_shape") is not None:
            shape, source = story["input_shape"]
            told = shapes_told(shape, _keras.trained_model(self.model))
            self._seen = replace(told, source=source, binding=False)
        with self._timed():
            self._prepare(story["compression"])
            if self._compression is not None:
                self._compression.set_state(story["compression"])
            self._step, self._last_turn = story["step"], story["last_turn"]
            self._gather()  # the train function that was watched is gone with the old ranks
        self._look_at_ranks()

    # --- hooks of Keras ---------------------------------------------------------------

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._reset()
        with self._timed():
            check_workers(self.model)
            self._check_times()
            self._check_other_callbacks()
            if self.guard is not None:
                self._check_guard(self.guard)
                if self.guard.folder is not None:
                    check_folder(self.guard.folder, "`folder` of a guard", "Choose another.")
            for where, x, y in _keras.arrays_of_fit(self):
                check_values(self.model, x, y, f"{where} of the fit")
            self._check_asking()
            waits = self._waits_for_shapes()
            if not waits and not _keras.unbuilt_parts(self.model):
                self._prepare()
            self._gather()
            self._look_for_shapes(needed=waits)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch, self._epoch_start, self._opens = epoch, self._step, True
        if self.cadence.steps and self._last_turn is None:
            self._check_steps(epoch)
        if not _keras.is_in_fit(self):  # a loop of one's own, which may announce no steps
            self._before_step(0)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._opens or self._is_turn(opens=False) or self._is_awaited():
            _keras.before_step(self, lambda: self._before_step(batch))

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        with self._timed():
            self._step = self._epoch_start + batch + 1
            self._trained = self._epoch + 1
            self._look_at_first_batch()
            late = self._compression is None and _keras.has_weights(self.model)
            if late and not self._waits_for_shapes():
                self._prepare()
                self._postponed = float(self._epoch)
            if self._watch is not None:
                self._watch.see_loss(logs, self._epoch)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        with self._timed():
            for collector in (self._collector, self._first):
                if collector is not None:
                    collector.stop()
            if self._watch is not None:
                self._watch.close(float(self._epoch + 1))
            if self._compression is not None and self._compression.is_grown:  # stopped early
                self._compression.cut(float(self._epoch), step=self._step, training=True)
            if self._context is not None:
                self._context.close()
            if self._comparers is not None:
                self._comparers.close(self.model, self._epoch)
            self.shortfall = shortfall_of(self._course(), self.target)
        told = "" if self.shortfall is None else str(self.shortfall)
        if told:
            warnings.warn(told, ShortfallWarning, stacklevel=2)
        if self._watch is not None:
            self._watch.tell_end(told)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        with self._timed():
            self._epoch_length = self._step - self._epoch_start
            self._loss = (logs or {}).get("loss")
            if self._watch is not None:
                self._watch.see(epoch, logs)
            if logs is not None and self._compression is not None:
                found = self._compression.survey
                now, dense = found.total("parameters"), found.dense_total("parameters")
                logs |= {"params": now, "params_fraction": now / dense}

    # --- before a step ----------------------------------------------------------------

    def _before_step(self, batch: int) -> None:
        """What is done before a step that will be trained, of an epoch's first and others.

        Not at an epoch's begin: there may be no data for a step, and other callbacks may have
        other weights stand in for those in training until all have begun the epoch.
        """
        opens, self._opens = self._opens, False
        with self._timed():
            if opens:
                self._open()
            if self._is_turn(opens=opens):
                self._act(self._turn(batch))
            elif self._postponed is not None and (opens or self._is_awaited()):
                self._act(self._postponed)
            if opens:
                self._help_before(self._epoch)

    def _open(self) -> None:
        """An epoch has its first step."""
        if self._watch is not None:
            self._watch.go_back(float(self._epoch))
        if self._adapting is not None:
            self._adapting.look(float(self._epoch))

    def _is_turn(self, *, opens: bool) -> bool:
        """True before a step at which the cadence looks at the ranks."""
        if self.cadence.steps:
            return self._step // self.cadence.steps != self._last_turn
        return opens and self._epoch % (self.cadence.epochs or 1) == 0

    def _turn(self, batch: int) -> float:
        """Take the turn that has come; its time, in epochs."""
        if not self.cadence.steps:
            return float(self._epoch)
        self._last_turn = self._step // self.cadence.steps
        return self._now(batch)

    def _is_awaited(self) -> bool:
        """True if a cut waits for a step only, no longer for samples."""
        if self._postponed is None or self._compression is None:
            return False
        waits = self._compression.waits_for_samples
        return not waits or (self._collector is not None and self._collector.done)

    # --- inside -----------------------------------------------------------------------

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        """Add what is done within to `seconds`."""
        started = clock.perf_counter()
        try:
            yield
        finally:
            self.seconds += clock.perf_counter() - started

    def _reset(self) -> None:
        if self._context is not None:  # of a fit that was broken off
            self._context.close()
        self.seconds = 0.0
        self.shortfall = self._looked = self._loss = self._told = None
        self._compression = self._last_turn = self._collector = self._postponed = None
        self._watch = self._context = self._adapting = self._first = self._seen = None
        self._is_tried = False
        self._epoch = self._epoch_start = self._step = self._trained = 0
        self._epoch_length, self._opens = None, False

    def _course(self) -> Course:
        """How the training went that ends now."""
        return Course(
            epochs=(self.params or {}).get("epochs"),
            trained=self._trained,
            steps=self._step,
            looked=self._looked,
            schedule_end=self._schedule_end,
            cadence=str(self.cadence),
            loss=self._loss,
            compression=self._compression,
            watch=self._watch,
            adapting=self._adapting,
            collector=self._collector,
            criterion=self.criterion,
            searching=self.search is not None,
        )

    def _check_other_callbacks(self) -> None:
        others = [each for each in _keras.other_callbacks(self) if each is not self]
        if any(isinstance(each, RankScheduler) for each in others):
            raise ArgumentError(
                "A fit can have one RankScheduler, for each takes the model for its own. Received: "
                "two of them. Give one, with a rule for each layer that shall go its own way: "
                "rules=[LayerRule(match=..., rank=...)]."
            )
        last = math.inf if self.guard is not None else self.final_epoch
        check_other_callbacks(others, last)
        self._comparers = Comparers(others, self.model)

    def _check_guard(self, guard: Guard) -> None:
        """Refuse a guard whose metric no epoch of this fit will bring."""
        known = _keras.logged_metrics(self.model)
        direction_of(guard, known)
        validates = _keras.has_validation(self)
        check_validated(guard.monitor, guard.mode, known, validates, "a guard")

    def _look_at_ranks(self) -> None:
        """Let the other callbacks that compare epochs begin anew where ranks have changed."""
        if self._comparers is not None:
            self._comparers.look(self.model)

    def _check_times(self) -> None:
        raise_first(timing_faults(self.settings, self._epochs, begin=self._began))

    def _check_steps(self, first: int) -> None:
        """The same where turns are counted in steps, whose number is known from now on."""
        epochs, steps = self._epochs, (self.params or {}).get("steps")
        if epochs and steps and self.model.steps_per_execution == 1:
            raise_first(timing_faults(self.settings, epochs, steps, first, self._began))

    @property
    def _epochs(self) -> int | None:
        """Epochs of the fit; none in a training loop of one's own."""
        return (self.params or {}).get("epochs")

    @property
    def _began(self) -> float | None:
        """When cuts began, if an `Adaptive` has let them."""
        return None if self._adapting is None else self._adapting.began

    @property
    def _schedule_end(self) -> float:
        """The epoch at which everything has fallen, at the latest."""
        return schedule_end(self.settings, self._epochs, self._began)

    @property
    def _asking(self) -> dict[str, tuple[str, ...]]:
        """What must be known of the data, by who asks."""
        needs = criterion_named(self.criterion).needs
        return {f"criterion={self.criterion!r}": needs} | {
            type(aid).__name__: aid.needs for aid in self.aids
        }

    def _check_asking(self) -> None:
        """Refuse a criterion or an aid that cannot learn what it asks for."""
        data = _keras.data_of_fit(self) if _of_the_fit(self.calibration) else None
        check_asking(self.model, self._asking, data)

    def _shapes(self) -> list[InputShapes]:
        """All that tells lengths which the model leaves open, the best first."""
        samples, of_fit = self._samples(), shapes_of_fit(_keras.data_of_fit(self))
        found = []
        if self.input_shape is not None:
            found.append(shapes_told(self.input_shape, _keras.trained_model(self.model)))
        if samples is not None:
            found.append(shapes_of_samples(samples, "calibration"))
        return [*found, *(each for each in (of_fit, self._seen) if each is not None)]

    def _waits_for_shapes(self) -> bool:
        """True if a budget counts by lengths that only a batch will tell."""
        if not self.measure.needs_shapes or not self.model.built:
            return False
        part = _keras.trained_model(self.model)
        return count_calls(part, find_kernels(part), self._shapes())[1] is None

    def _look_for_shapes(self, *, needed: bool) -> None:
        """GuardRun for the first batch, if it is what tells lengths.

        Raises:
            ArgumentError: It cannot be seen, and a budget counts by it.
        """
        known = self._compression is not None and self._compression.counts_uses
        if known or self._collector is not None or not self.model.built:
            return
        try:
            self._first = SampleCollector(self.model, 1)
        except ArgumentError as error:
            if needed:
                raise no_shapes(self.measure.name, self.model) from error

    def _look_at_first_batch(self) -> None:
        """Learn what the first batch says: whether the model can be listened to, and lengths."""
        seen = self._collector or self._first
        if seen is None or not seen.count or self._is_tried:
            return
        self._is_tried = True
        samples = seen.samples()
        if self._collector is not None:
            who = check_asking(self.model, self._asking, None)
            try_out(samples, self.model, who)
        if self._first is not None:
            self._first.stop()
            self._first = None
        self._seen = shapes_of_samples(samples, "the first batch")
        if self._compression is not None and not self._compression.counts_uses:
            self._compression.count_uses(self._seen)

    def _gather(self) -> None:
        """GuardRun this fit for the samples that the criterion or an aid asks for, if one does."""
        if self._collector is not None:
            self._collector.stop()
        self._collector = None
        count = ENOUGH if self.calibration is None else self.calibration
        asked = criterion_named(self.criterion).needs or any(aid.needs for aid in self.aids)
        if asked and isinstance(count, int):
            self._collector = SampleCollector(self.model, count)

    def _now(self, batch: int) -> float:
        """Time in epochs; within the first, if its length is not known, its beginning."""
        steps = (self.params or {}).get("steps") or self._epoch_length
        if steps:  # as they are counted, so many at once
            steps = -(-steps // self.model.steps_per_execution) * self.model.steps_per_execution
        return self._epoch + (min(batch / steps, 1.0) if steps else 0.0)

    def _prepare(self, story: Mapping[str, Any] | None = None) -> None:
        if self._context is not None:  # of before it was taken up
            self._context.close()
        self._compression = Compression(
            self.model,
            self.target,
            measure=self.measure,
            allocation=self.allocation,
            rules=self.rules,
            criterion=self.criterion,
            samples=self._samples(),
            shapes=self._shapes(),
            asking={type(aid).__name__: aid.needs for aid in self.aids},
            story=story,
        )
        pace = self._pace(self._compression)
        self._compression.aim = pace.aim
        if self.guard is not None:
            sign = direction_of(self.guard, _keras.logged_metrics(self.model))
            self._watch = GuardRun(Bound(self.guard, sign), self._compression, pace)
        if self.aids:
            self._context = ModelAidContext(self.model, self._compression)
            for aid in self.aids:
                aid.begin(self._context)

    def _samples(self) -> Samples | None:
        """The samples of the calibration set; read once, for a generator gives them once."""
        if _of_the_fit(self.calibration):
            return None
        if self._given is None:
            self._given = samples_of(self.calibration)
        return self._given

    def _pace(self, compression: Compression) -> Pace:
        epochs = (self.params or {}).get("epochs")
        if self.search is not None:
            return SearchPace(
                self.search,
                compression.present(self.target),
                compression.smallest_fraction,
                self.search.last_epoch(epochs),
            )
        pace = SchedulePace(compression.present)
        if self.adaptive is None:
            return pace
        self._adapting = AdaptivePace(
            self.adaptive,
            compression.survey.compressible,
            pace,
            compression.adapt,
            self.adaptive.last_epoch(epochs),
            compression.told,
        )
        return self._adapting

    def _act(self, time: float) -> None:
        """Cut if the schedule says so. A model that builds itself is met after a batch."""
        self._looked = time
        if self._compression is not None and self._has_samples(time):
            cuts = len(self._compression.cuts)
            try:
                if self._watch is not None:
                    self._watch.act(time, self._step)
                else:
                    self._compression.cut(time, step=self._step, training=True)
            except SpectrumError as error:
                loss = "" if self._loss is None else f" (loss {self._loss:.4g} in the last)"
                raise SpectrumError(
                    f"The cut in epoch {self._epoch}{loss} was not made. {error}"
                ) from error
            if len(self._compression.cuts) > cuts:
                self._help()
                if self._collector is not None and not self._compression.has_samples:
                    self._collector.go_on(self.model)
                if self._first is not None:
                    self._first.go_on(self.model)
            self._look_at_ranks()

    def _help_before(self, epoch: int) -> None:
        """Let the aids do what they do before an epoch."""
        self._learn()
        if self._context is not None:
            self._context.refresh(float(epoch), self._schedule_end)
            for aid in self.aids:
                aid.before_epoch(self._context)
        self._look_at_ranks()  # a cut undone, kernels grown

    def _help(self) -> None:
        """Let the aids do what they do after a cut."""
        if self._context is None:
            return
        steps = (self.params or {}).get("steps")
        self._context.steps_per_epoch = steps or self._epoch_length
        for aid in self.aids:
            aid.after_cut(self._context)

    def _has_samples(self, time: float) -> bool:
        """True if the criterion can judge; else the cut is made once it can."""
        self._learn()
        self._postponed = None
        if self._compression is None or self._collector is None:
            return True
        waits = self._compression.waits_for_samples
        self._postponed = time if waits else None
        return not waits

    def _learn(self) -> None:
        """Take what was seen of this fit's samples, if it is enough."""
        compression, collector = self._compression, self._collector
        if compression is None or compression.has_samples or collector is None:
            return
        small = collector.count and self._epoch_length is not None  # this fit has shown them all
        if collector.done or small:
            collector.stop()
            compression.learn_from(collector.samples())


def _of_the_fit(calibration: Any) -> bool:
    """True where the samples are those of the fit itself."""
    return calibration is None or isinstance(calibration, int)
