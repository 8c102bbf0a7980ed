"""One fit of a `RankScheduler`, from its begin to its end."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from reducible_train import _keras
from reducible_train.compressor.answers import AnswerWatch
from reducible_train.errors import SpectrumError, shortened
from reducible_train.report.records import Report
from reducible_train.settings.compression import CompressionSettings
from reducible_train.settings.faults import raise_first
from reducible_train.settings.timing import schedule_end, unannounced_faults, unannounced_note
from reducible_train.training.clock import Clock
from reducible_train.training.comparisons import Comparers
from reducible_train.training.listeners import Listeners
from reducible_train.training.no_model import NoModel
from reducible_train.training.preflight import check_steps
from reducible_train.training.rank_control import RankControl, rank_control
from reducible_train.training.sampling import CalibrationSet, Sampling
from reducible_train.training.shortfall import FitOutcome, Shortfall, shortfall_of
from reducible_train.training.watched import Watched

_AFTER_CUT = (
    "This was the first step after reducible_train changed ranks; the {} before it ran. Factors "
    "are in place of {}. If the training step, or a loss, pairs the weights of two networks one by "
    "one, or keeps shapes from before the cut, it cannot go on. Keep those layers dense with "
    "LayerRule(match=..., keep_dense=True), compare outputs in place of weights, or cut with "
    "factorize before the fit, and then make the second network as a copy of the first."
)


class TrainingRun:
    """All that belongs to one fit; it is made when that begins, and dropped at its end.

    The model is met when it has weights and the lengths that a budget counts by are known: at
    once, or after the first batch.

    Args:
        settings: What is asked for.
        model: The model in training.
        params: What Keras tells callbacks of the fit; empty in a training loop of one's own.
        calibration: The calibration set.
        data: Inputs, targets and weights of the fit, as `_keras.data_of_fit` tells them.
        others: The other callbacks of the fit.
        answers: What compares outputs before and after each cut.
        loop: What trains the model; it holds the data of the fit.
        validated: Number of its validation samples; `None` where nobody knows.
        rhythm: After which epochs it validates; `None` if after none, or nobody knows.
    """

    def __init__(
        self,
        settings: CompressionSettings,
        model: Any,
        params: Mapping[str, Any],
        calibration: CalibrationSet,
        data: Any,
        others: Sequence[Any],
        answers: AnswerWatch,
        loop: _keras.Loop,
        validated: int | None = None,
        rhythm: _keras.Rhythm | None = None,
    ):
        self.settings = settings
        self.model = model
        self.answers = answers
        self.loop = loop
        self.clock = Clock(settings.cadence, params, model)
        self.sampling = Sampling(model, settings, calibration, data)
        self.control: RankControl | NoModel = NoModel()
        self._validated = validated
        self._rhythm = rhythm
        self._steps = params.get("steps")
        self._comparers = Comparers(others, model)
        self._watched = Watched.of_fit(model, settings.guard, others)
        self._listeners = Listeners(others)
        self._loss: float | None = None  # of the last epoch
        self._untimed: str | None = None  # what falls late, for nobody told the steps of an epoch
        self._postponed: float | None = None  # time of a cut that waits for samples
        self._end_watch: Callable[[], None] = lambda: None
        self._foreseen: str | None = None  # what to do about what was foreseen

    def begin(self) -> None:
        """The fit begins."""
        self._watched.look()
        waits = self.sampling.waits_for_shapes()
        self.sampling.gather()
        if not waits and not _keras.unbuilt_parts(self.model):
            self._meet()
        if not self.control.counts_uses:
            self.sampling.look_for_shapes(needed=waits)

    def _meet(self, state: Mapping[str, Any] | None = None) -> None:
        """The model has weights; or, with a state, those of another fit."""
        self.control.abandon()
        self.control = rank_control(
            self.model,
            self.settings,
            self.clock.epochs,
            samples=self.sampling.samples,
            comes=self.sampling.takes,
            without=self.sampling.without,
            shapes=self.sampling.shapes(),
            validated=self._validated,
            rhythm=self._rhythm,
            state=state,
            answers=self.answers,
        )

    # --- before a step ----------------------------------------------------------------

    def begin_epoch(self, epoch: int) -> None:
        """An epoch begins, if it has a step."""
        self.clock.begin_epoch(epoch)
        if self.settings.cadence.steps and self.clock.last_turn is None:
            epochs, at_once = self.clock.epochs, self.model.steps_per_execution
            steps = self._steps if at_once == 1 else None
            check_steps(self.settings, epochs, steps, epoch, self.control.began)
        if not self.clock.steps_per_epoch and self._untimed is None:
            self._tell_unannounced(epoch)

    def _tell_unannounced(self, epoch: int) -> None:
        """Nobody knows how many steps an epoch has: what falls within it falls late, or never."""
        asked, began = self.settings, self.control.began
        raise_first(unannounced_faults(asked, self.clock.epochs, epoch, began))
        self._untimed = unannounced_note(asked, epoch, began)
        if self._untimed is not None:
            warnings.warn(self._untimed, stacklevel=3)

    @property
    def acts(self) -> bool:
        """True if something is to be done before the next step."""
        return self.clock.opens or self.clock.is_turn(opens=False) or self._is_awaited()

    def before_step(self, batch: int) -> None:
        """What is done before a step that will be trained, of an epoch's first and others.

        Not at an epoch's begin: there may be no data for a step, and other callbacks may have
        other weights stand in for those in training until all have begun the epoch.
        """
        clock, opens = self.clock, self.clock.open_epoch()
        train_function = getattr(self.model, "train_function", None)
        if not _keras.unbuilt_parts(self.model):
            self._look_at_data()
        if opens:
            self.control.open(clock.epoch)
            self._listeners.look(self.control)
        if clock.is_turn(opens=opens):
            self._act(clock.take_turn(batch), batch)
        elif self._postponed is not None and (opens or self._is_awaited()):
            self._act(self._postponed, batch)
        if opens:
            self.control.learn(self.sampling.enough)
            end = schedule_end(self.settings, clock.epochs, self.control.began)
            self.control.before_epoch(clock.epoch, end)
            self._comparers.look(self.model)  # a cut undone, kernels grown
        if clock.step and getattr(self.model, "train_function", None) is not train_function:
            self._note_failure()

    def _note_failure(self) -> None:
        """Have the next step tell, should it fail where those before a cut did not, of the cut."""
        ranks = self.control.ranks_of_factors
        if ranks:
            named = shortened(", ".join(f"{path} (rank {r})" for path, r in ranks.items()), 300)
            _keras.note_failure(self.model, _AFTER_CUT.format(self.clock.step, named))

    def _act(self, time: float, batch: int) -> None:
        """Cut, if it is time to and the criterion can judge; else once it can."""
        self.clock.looked = time
        self.control.learn(self.sampling.enough)
        if isinstance(self.control, NoModel):
            return
        self._postponed = time if self.control.compression.waits_for_samples else None
        if self._postponed is not None:
            return
        clock = self.clock
        try:
            self.control.act(time, clock.step, batch, clock.steps_per_epoch)
        except SpectrumError as error:
            loss = "" if self._loss is None else f" (loss {self._loss:.4g} in the last)"
            raise SpectrumError(
                f"The cut in epoch {clock.epoch}{loss} was not made. {error}"
            ) from error
        self._comparers.look(self.model)
        self._listeners.look(self.control)

    def _is_awaited(self) -> bool:
        """True if a cut waits for a step only, no longer for samples."""
        if self._postponed is None or isinstance(self.control, NoModel):
            return False
        return not self.control.compression.waits_for_samples or self.sampling.collector.done

    # --- after it ---------------------------------------------------------------------

    def end_step(self, batch: int, logs: Mapping[str, Any] | None) -> None:
        """Steps were trained; after the first the model has weights, and lengths are known."""
        self.clock.end_step(batch)
        self._watched.end_step()
        self._look_at_data()
        self.control.see_loss(logs, self.clock.epoch)
        self._listeners.look(self.control)

    def _look_at_data(self) -> None:
        """Learn lengths of the first batch, and meet a model that has weights now."""
        if not _keras.has_weights(self.model):
            return
        shapes = self.sampling.first_batch()
        if shapes is not None:
            self.control.count_uses(shapes)
        if isinstance(self.control, NoModel) and not self.sampling.waits_for_shapes():
            self._meet()
            self._postponed = float(self.clock.epoch)

    def end_epoch(self, epoch: int, logs: dict[str, Any] | None) -> None:
        """An epoch has its metrics."""
        self.clock.end_epoch()
        self._loss = (logs or {}).get("loss")
        self._watched.see(logs)
        self.control.see(epoch, logs)

    def close(self) -> Shortfall | None:
        """The fit is over: take away what shall not stay, and say what it did not bring."""
        clock, control = self.clock, self.control
        self._end_watch()
        self.sampling.drop()
        _keras.put_back_train_function(self.model)
        as_left = self._comparers.as_left(self.model)
        control.close(clock.epoch, clock.step, clock.epoch_step, as_left)
        self._comparers.close(self.model, clock.epoch)
        outcome = FitOutcome(
            epochs=clock.epochs,
            trained=clock.trained,
            steps=clock.step,
            looked=clock.looked,
            schedule_end=schedule_end(self.settings, clock.epochs, control.began),
            cadence=str(self.settings.cadence),
            loss=self._loss,
            compression=control.compression,
            guard=control.guard,
            controller=control.controller,
            samples=(self.sampling.collector.count, self.sampling.collector.enough),
            criterion=self.settings.criterion,
            searching=self.settings.search is not None,
            waiting=self._postponed is not None,
            untimed=clock.untimed,
            falls=schedule_end(self.settings, clock.epochs, 0.0) > 0,
            foreseen=self._foreseen,
        )
        return shortfall_of(outcome, self.settings.target)

    def report(self, shortfall: Shortfall | None) -> Report | None:
        """The model as it is, and every cut so far.

        Args:
            shortfall: What was not brought, once the fit is over.
        """
        report = self.control.report(shortfall)
        if report is None or self._untimed is None:
            return report
        return replace(report, notes=(*report.notes, self._untimed))

    @property
    def kept_epoch(self) -> int | None:
        """The epoch whose weights another callback puts back at the end; `None` if none does."""
        return self._comparers.kept_epoch

    def foresee(self, remedy: str) -> None:
        """Something is known that the fit will not bring, and what to do about it."""
        self._foreseen = remedy

    def is_as_foreseen(self, shortfall: Shortfall) -> bool:
        """True for the very one that was foreseen, which the fit's begin has told of."""
        return shortfall.remedy == self._foreseen

    def watch(self) -> None:
        """Have `abandon` called before the model is used again, if the fit is broken off."""
        self._end_watch = _keras.when_broken_off(self.model, self.abandon)

    def abandon(self) -> None:
        """The fit was broken off: take away what it has added to the model."""
        self._end_watch()
        _keras.sync_state(self.model)
        _keras.put_back_train_function(self.model)
        self.sampling.drop()
        self.loop = _keras.Loop()
        self.control.abandon()

    # --- from fit to fit --------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """All that `set_state` needs to go on in another fit, in plain JSON values."""
        loss = {"loss": self._loss if isinstance(self._loss, float) else None}
        return self.clock.get_state() | loss | self.control.get_state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on where another fit stood; the model is as it was then."""
        if state.get("input_shape") is not None:
            self.sampling.take_shape(*state["input_shape"])
        self.sampling.gather()  # the train function that was watched is gone with the old ranks
        self._meet(state["compression"])
        self.clock.set_state(state)
        self._loss = state.get("loss")
        self._comparers.look(self.model)
        self._listeners.skip(self.control)
