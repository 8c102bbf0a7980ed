"""The callback: its arguments, its outcome, and hooks that hand on to a `TrainingRun`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from reducible_train import _keras
from reducible_train.errors import ArgumentError, ShortfallWarning
from reducible_train.report.records import Report
from reducible_train.selection.costs.latency import Latency
from reducible_train.selection.feasibility import check_choices
from reducible_train.selection.input_shapes import InputShape, checked_input_shape
from reducible_train.settings.adaptive import Adaptive
from reducible_train.settings.aids import Aid, checked_aids
from reducible_train.settings.cadence import Cadence
from reducible_train.settings.checks import checked, checked_all, is_count, plain
from reducible_train.settings.compression import CompressionSettings
from reducible_train.settings.guard import Guard
from reducible_train.settings.rules import LayerRule
from reducible_train.settings.schedules import Schedule
from reducible_train.settings.search import Search
from reducible_train.settings.targets import FORESEEABLE, QUANTITIES, one_target
from reducible_train.training.clock import timed
from reducible_train.training.preflight import check_fit, check_resumable
from reducible_train.training.run import TrainingRun
from reducible_train.training.sampling import CalibrationSet
from reducible_train.training.shortfall import Shortfall
from reducible_train.training.timing import final_epoch


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
        budget: Fraction of the whole dense model it may cost, in (0, 1]: a number or a
            schedule. Exactly one of `budget`, `cost`, `energy`, `rtol`, `rank` and `search` is
            given, or none of them and `adaptive`.
        cost: The same, not as a fraction: in parameters, bytes or whatever `measure` counts.
        energy: Fraction of its energy each kernel keeps, since the start: a number or a
            schedule.
        rtol: Relative error that each kernel may have, `sqrt(1 - energy)` since the start, as
            the criterion weighs it, in [0, 1): a number, or a schedule that rises.
        rank: Rank of every kernel: a number or a schedule. A kernel stays dense while
            the rank would not make it smaller.
        measure: What a budget counts: `"parameters"`, `"bytes"` (of the variables), `"flops"`, or
            `"file"` (bytes of the compact file; without loss, so a number takes about five
            sixths of its size in memory, and the header counts), or `"latency"` (seconds of a
            batch, measured when the fit begins; `Latency(batch_size=1)` for other than 32).
        allocation: How a budget is shared among the kernels: `"equal_energy"` (the same
            energy kept everywhere), `"knapsack"` (the least lost in all, best with a criterion
            that knows the data), `"uniform"` (the same fraction of full rank).
        cadence: When cuts may be made.
        rules: Rules for single layers. Without one, output layers stay dense.
        min_gain: Fraction of its cost that a layer must save to be factorised, in [0, 1).
        criterion: What a lost direction costs: `"frobenius"` (of the kernel), `"activation"`
            (of its output on data, the mean made up for by the bias), `"fisher"` (in the loss, to
            second order).
        calibration: Data for the last two, and for `Regrow`, as `model.fit` takes it: `x`, `(x, y)`
            or `(x, y, sample_weight)`, where several inputs are a list or a dictionary, or a source
            of batches of these (a `tf.data.Dataset`, a `PyDataset`, a generator, ...). Samples
            count by their weights; positions that a mask hides do not. A whole number means so
            many samples of the fit itself, the first (on TensorFlow, on one device), and a
            criterion makes no cut before they have passed; left out, 2048 of them.
        guard: Has cuts undone that a metric does not recover from. Without one, every cut stays.
        adaptive: Lets cuts begin once the stable ranks of the kernels have settled; schedules
            count from there. It needs no target: alone, it cuts each kernel to its stable rank.
            Not with `search`, which chooses its own times.
        search: In place of a schedule, steps the budget down as far as the guard allows: the
            smallest model that is good enough. It needs a `guard`.
        aids: What shall help the training while ranks fall: `ProductDecay`, `Rewarm`, and
            `TailShrink`, `Regrow` (not with `guard`, `search`, `energy`, `rtol` or a lone
            `adaptive`).
        input_shape: Shape of one sample, for `"flops"` and `"latency"` of a model that leaves
            lengths open: `(128,)`, or a list or dictionary of shapes. Left out, it is the mean of
            the calibration set, else that of the fit's data, or of its first batch where lengths
            vary; a budget that waits for that batch makes its first cut after it.

    Attributes:
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
        *,
        budget: float | Schedule | None = None,
        cost: float | Schedule | None = None,
        energy: float | Schedule | None = None,
        rtol: float | Schedule | None = None,
        rank: float | Schedule | None = None,
        measure: str | Latency = "parameters",
        allocation: str = "equal_energy",
        cadence: Cadence | None = None,
        rules: Sequence[LayerRule] = (),
        min_gain: float = 0.0,
        criterion: str = "frobenius",
        calibration: Any = None,
        guard: Guard | None = None,
        adaptive: Adaptive | None = None,
        search: Search | None = None,
        aids: Sequence[Aid] = (),
        input_shape: InputShape | None = None,
    ):
        super().__init__()
        self.guard = checked("guard", guard, Guard, "guard=Guard('val_accuracy', max_drop=0.005)")
        self.adaptive = checked("adaptive", adaptive, Adaptive, "adaptive=Adaptive(end_epoch=10)")
        self.search = checked("search", search, Search, "search=Search(factor=0.7, start_epoch=2)")
        given = {"budget": budget, "cost": cost, "energy": energy, "rtol": rtol, "rank": rank}
        if self.search is not None:
            _check_alone(self.guard, adaptive=adaptive, **given)
            self.target = self.search.target
        elif self.adaptive is not None and not any(v is not None for v in given.values()):
            self.target = self.adaptive.target
        else:
            self.target = one_target(**given)
        check_choices(measure, allocation, min_gain, criterion)
        self.measure = measure
        self.allocation = allocation
        example = "cadence=Cadence(epochs=2), or Cadence(steps=500)"
        self.cadence = checked("cadence", cadence, Cadence, example) or Cadence(epochs=1)
        example = "rules=[LayerRule('encoder/*', min_rank=8)]"
        self.rules = checked_all("`rules` must hold LayerRule objects", rules, LayerRule, example)
        self.min_gain = plain(min_gain)
        self.criterion = criterion
        self.calibration = _checked_calibration(calibration)
        self.aids = checked_aids(aids)
        self.input_shape = checked_input_shape(input_shape)
        self.settings = CompressionSettings(
            target=self.target,
            measure=self.measure,
            allocation=self.allocation,
            criterion=self.criterion,
            calibration=self.calibration,
            rules=self.rules,
            cadence=self.cadence,
            guard=self.guard,
            aids=self.aids,
            adaptive=self.adaptive,
            search=self.search,
            min_gain=self.min_gain,
            input_shape=self.input_shape,
        )
        _check_foreseeable(self.settings)
        self.seconds = 0.0
        self.shortfall: Shortfall | None = None
        self._calibration = CalibrationSet(self.calibration)
        self._run: TrainingRun | None = None  # the fit that runs, or was broken off
        self._outcome: Report | None = None  # of the last fit, or of the one this is a copy from
        self._began: float | None = None  # when its cuts began

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

        Of a search, the last at which it may try another budget. With `adaptive`, the latest it
        can be, until cuts have begun.
        """
        return final_epoch(self.settings, (self.params or {}).get("epochs"), self._cuts_began())

    def check_resumable(self) -> None:
        """Refuse what another fit could not go on with.

        Raises:
            ArgumentError: There is a guard, an `Adaptive`, or an aid whose state no backup holds.
        """
        check_resumable(self.settings)

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
        self._begin()

    @timed
    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._fit.begin_epoch(epoch)
        if not _keras.is_in_fit(self):  # a loop of one's own, which may announce no steps
            self._fit.before_step(0)

    @timed
    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._fit.acts:
            _keras.before_step(self, lambda: self._before_step(batch))

    @timed
    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._fit.end_step(batch, logs)

    @timed
    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._fit.end_epoch(epoch, logs)

    @timed
    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        run = self._fit
        self.shortfall = run.close()
        self._outcome, self._began = self._told(), self._cuts_began()
        self._run = None
        told = "" if self.shortfall is None else str(self.shortfall)
        if told:
            warnings.warn(told, ShortfallWarning, stacklevel=3)
        run.tell_end(told)

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
        except BaseException:
            run.abandon()
            raise
        self._run = run

    def _new_run(self, others: Sequence[Any], data: Any) -> TrainingRun:
        params = self.params or {}
        return TrainingRun(self.settings, self.model, params, self._calibration, data, others)

    @timed
    def _before_step(self, batch: int) -> None:
        """Later than the hook, where the data of the step is fetched first."""
        self._fit.before_step(batch)

    def _told(self) -> Report | None:
        """The report of the fit that runs, or of the last."""
        return self._outcome if self._run is None else self._run.control.report(self.shortfall)

    def _cuts_began(self) -> float | None:
        """When cuts began; `None` while an `Adaptive` holds them."""
        return self._began if self._run is None else self._run.control.began


def _check_foreseeable(settings: CompressionSettings) -> None:
    """Refuse an aid that looks ahead where nobody knows what coming cuts will ask for."""
    aid = next((aid for aid in settings.aids if aid.looks_ahead), None)
    targets = [settings.target, *(rule.target for rule in settings.rules if rule.target)]
    goals = [str(each) for each in targets if each.quantity not in FORESEEABLE]
    hidden = goals if settings.guard is None else [str(settings.guard)]
    if aid is not None and hidden:
        raise ArgumentError(
            f"{type(aid).__name__} must know what the schedule will ask for, so it takes a "
            "budget, a cost or a rank, without guard or search. "
            f"Received: {hidden[0]} beside {aid}. Remove one of the two."
        )


def _check_alone(guard: Guard | None, **others: Any) -> None:
    """A search stands alone among the targets, and not without a guard."""
    given = {name: value for name, value in others.items() if value is not None}
    if given:
        raise ArgumentError(
            f"Exactly one of {', '.join(f'`{n}`' for n in QUANTITIES)} and `search` must be given. "
            f"Received: search and {', '.join(f'{n}={v!r}' for n, v in given.items())}. A search "
            "chooses the budget itself; remove the other."
        )
    if guard is None:
        raise ArgumentError(
            "A search needs a guard to tell what is good enough. Received: search without guard. "
            "Give for example guard=Guard('val_accuracy', max_drop=0.005)."
        )


def _checked_calibration(calibration: Any) -> Any:
    """A calibration set as it is, or a number of samples that can be."""
    number = plain(calibration)
    if not isinstance(number, int | float):
        return calibration
    if not is_count(number):
        raise ArgumentError(
            "`calibration` must be data, or a whole number of samples, at least 1. "
            f"Received: calibration={calibration!r}. Leave it out for 2048 samples of the fit."
        )
    return number
