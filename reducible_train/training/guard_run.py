"""A guard on duty in one fit: which cut is on trial, what was seen of it, what came of it.

It knows neither Keras nor how a cut is made: `GuardedModel` and `Cutter` do that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from reducible_train.errors import shortened
from reducible_train.report.records import Cut, UndoneCut
from reducible_train.settings.guard import Bound
from reducible_train.settings.monitors import drop_fault
from reducible_train.settings.targets import Target
from reducible_train.training.lost_weights import (
    NAN_REMEDIES,
    NAN_REMEDY,
    GuardedModel,
    LostWeights,
)
from reducible_train.training.target_controllers import TargetController
from reducible_train.training.trial import CutOnTrial, CutsThatMayFail
from reducible_train.training.warn_once import WarnOnce

TargetValue = Callable[[Target, float], float]


class Cutter(Protocol):
    """What cuts a model, as far as a guard asks; a `Compression` does."""

    @property
    def history(self) -> Any:
        """What was done to the model so far; a bookmark for `go_on_from`."""

    @property
    def told(self) -> Callable[[Any], Any]:
        """Gives, for a value of one's own, that of the first of several processes."""

    def due(self, time: float, target_value: TargetValue) -> bool:
        """True if there is something to do at a time."""

    def cut(
        self, time: float, target_value: TargetValue, *, step: int, epoch_step: int, training: bool
    ) -> Cut | None:
        """Bring the model to its targets at a time; `None` if nothing changed."""

    def go_on_from(self, history: Any) -> None:
        """Take up a history."""


class Rhythm(Protocol):
    """After which epochs, from 0, a fit validates; its `str` says what has it so."""

    @property
    def recurs(self) -> bool:
        """True if more epochs are validated of a longer fit."""

    def __contains__(self, epoch: int) -> bool: ...


@dataclass(frozen=True)
class Hindrance:
    """What has kept the ranks up, and what to do about it.

    Args:
        why: What it is, in a sentence.
        remedies: What helps, each alone, in words.
        takes_time: True if an earlier end of what falls helps as well, or a longer training.
    """

    why: str
    remedies: Sequence[str] = ()
    takes_time: bool = True


class GuardRun:
    """Decides, cut by cut, between going on and going back.

    Args:
        bound: The guard, with its direction.
        cutter: What makes the cuts.
        controller: How far each goes.
        model: The model that is cut, and brought back.
        rhythm: When the fit validates; `None` if never, or nobody knows.

    Attributes:
        undone: The cuts that were undone.
        is_on_duty: True; there is a guard.
    """

    is_on_duty = True

    def __init__(
        self,
        bound: Bound,
        cutter: Cutter,
        controller: TargetController,
        model: GuardedModel,
        rhythm: Rhythm | None = None,
    ):
        self.undone: list[UndoneCut] = []
        self._bound = bound
        self._cutter = cutter
        self._controller = controller
        self._model = model
        self._rhythm = rhythm
        self._warn = WarnOnce()
        self._lost = LostWeights(model, self._warn)
        self._reference: float | None = None  # the best value on accepted ranks
        self._last: float | None = None  # the last one on them
        self._cuts = CutsThatMayFail(self._lost.forget)
        self._blind = False  # the last epoch said nothing
        self._missing: list[int] = []  # epochs that said nothing
        self._came: Any = None  # in place of a number, in the last of them
        self._passed: list[int] = []  # those of which nothing was to be heard
        self._last_turn: float | None = None
        self._is_early = False  # ranks were looked at, and only before anything was known
        self._lacked = 0.0  # of the drop, that the metric has not left for a cut; 0 after one
        self._failure = False, False  # whether the last was undone for NaN, and with nothing seen
        self._is_cut_short = False  # it was undone for the training was over
        self._is_unseen_only = True  # nothing was known of any that was undone

    @property
    def end(self) -> str | None:
        """Why training was stopped; `None` if it was not."""
        return self._lost.end

    @property
    def notes(self) -> list[str]:
        """What the reader of a report should know."""
        notes = [
            self._below_limit(),
            self._controller.note,
            self._unseen(),
            self._unvalidated(),
            self.end,
        ]
        if self.undone and self._reference is not None:
            notes.append(self._bound.told_band(self._reference))
        if self._reference is not None:
            notes.append(self._bound.told_margin(self._reference))
        notes.append(self._tired())
        return [note for note in notes if note]

    @property
    def hindrance(self) -> Hindrance | None:
        """What has kept the ranks up; `None` if nothing was seen that would."""
        if self.undone:
            return self._held_back()
        guard = f"give the guard {self._bound.easier()}"
        if (why := self._below_limit()) is not None:
            return Hindrance(why, ["train the dense model for longer", guard], takes_time=False)
        if (why := self._unseen()) is not None:
            return Hindrance(why, self._ways_to_see(), takes_time=self._reference is not None)
        if (why := self._unvalidated()) is not None:
            return Hindrance(why)
        if (why := self._too_early()) is not None:
            return Hindrance(why, ["train for longer"], takes_time=False)
        if self._lacked:
            why = f"No cut was made: {self._bound.guard.monitor} left less than "
            why += f"{self._lacked:g} of the guard's drop when ranks were looked at."
            return Hindrance(why, [guard])
        return None

    @property
    def delay(self) -> Hindrance:
        """That cuts waited for one another."""
        why = "Each cut waited until the one before it had been judged, which took the time."
        return Hindrance(why, [f"give the guard {self._bound.easier()}"])

    @property
    def rarity(self) -> Rhythm | None:
        """What kept epochs from being validated, such as `"validation_freq=2"`; `None` if none."""
        return self._rhythm if self._passed else None

    @property
    def is_unvalidated_only(self) -> bool:
        """True if nothing has kept ranks up but epochs that were not validated."""
        others = self._missing or self._below_limit()
        return bool(self._passed) and self._is_unseen_only and not others

    def _held_back(self) -> Hindrance:
        """That cuts were undone."""
        tired = None if self._is_cut_short else self._tired()
        lost, unseen = self._failure
        guard = [] if tired is None else [f"more tries than {len(self.undone)}"]
        if not lost and not unseen:  # patience cannot outlast the training
            guard.append(self._bound.easier() if self._is_cut_short else self._bound.looser())
        ways = [f"give the guard {', '.join(guard)}"] if guard else []
        why = " ".join(filter(None, [f"Its guard held it back: {self.undone[-1]}", tired]))
        return Hindrance(why, [*ways, *(NAN_REMEDIES if lost else ())], takes_time=tired is None)

    def _unseen(self) -> str | None:
        """That the metric was not there, or no number."""
        if not self._missing:
            return None
        return (
            f"{self._bound.guard.monitor} was not in the logs, or not a finite number, at the end "
            f"of {_epochs(self._missing)}; no cut was made until it was there again."
        )

    def _ways_to_see(self) -> list[str]:
        """What brings a number."""
        monitor, came = self._bound.guard.monitor, self._came
        if _number(came) is not None:
            return [f"mend what makes {monitor} {came}", *NAN_REMEDIES]
        if came is not None:
            return [f"have {monitor} be a number, not {shortened(repr(came))}"]
        ways = ["put the callback that adds it before the RankScheduler"]
        if monitor.startswith("val_") and self._rhythm is None:
            ways.insert(0, "give fit validation data")
        return ways

    def _unvalidated(self) -> str | None:
        """That it was not there because the fit did not validate."""
        if not self._passed:
            return None
        return (
            f"With {self._rhythm}, {self._bound.guard.monitor} was not in the logs at the end of "
            f"{_epochs(self._passed)}; no cut was made until it was there again."
        )

    def _too_early(self) -> str | None:
        """That ranks were looked at, but only before anything was known of the metric."""
        if not self._is_early:
            return None
        return (
            "No cut was made: ranks were looked at before an epoch had shown "
            f"{self._bound.guard.monitor}, and not after."
        )

    def _tired(self) -> str | None:
        """That no more cuts are made."""
        if not self._is_tired():
            return None
        return f"No more cuts are made after {len(self.undone)} that were undone."

    def _is_tired(self) -> bool:
        """True once no more cuts are made."""
        tries = self._bound.guard.tries
        return len(self.undone) >= (self._controller.tries if tries is None else tries)

    def _below_limit(self) -> str | None:
        """That no cut can be made, because the dense model is not good enough."""
        guard, best = self._bound.guard, self._reference
        if best is None or self._bound.allows(best, best):
            return None
        return (
            f"No cut was made: {guard.monitor} has not reached the guard's limit of "
            f"{guard.limit:g}; its best value was {best:.6g}, the nearest limit this training "
            "can meet."
        )

    # --- what is seen -----------------------------------------------------------------

    def see_loss(self, logs: Mapping[str, Any] | None, epoch: int) -> None:
        """A loss within an epoch: NaN or infinity undoes the last cut at once."""
        loss = _number((logs or {}).get("loss"))
        if loss is None or math.isfinite(loss):
            return
        trial = self._cuts.newest
        if trial is None:
            self._lost.meet(f"The loss is {loss}", epoch)
            return
        trial.lose(f"the loss was {loss}")
        self._lost.keep(trial.snapshot)
        self.go_back(float(epoch))
        self._model.reset_metrics()

    def see(self, epoch: int, logs: Mapping[str, Any] | None) -> None:
        """The metrics of an epoch."""
        monitor, logs, trial = self._bound.guard.monitor, logs or {}, self._cuts.newest
        value = self._cutter.told(_number(logs.get(monitor)))
        self._blind = value is None or not math.isfinite(value)
        if not self._blind:
            self._lost.is_over(epoch)
            self._judge(value, self._controller.lenience(epoch + 1.0))
            return
        if value is None and self._rests(epoch):
            self._passed.append(epoch)
            return
        self._missing.append(epoch)
        self._came = logs.get(monitor)
        if value is None:
            self._warn(_not_there(monitor, logs, epoch, validates=self._rhythm is not None))
        elif trial is None:
            self._lost.meet(f"{monitor} is {value}", epoch)
        else:
            trial.value = value
            trial.lose(f"{monitor} was {value}")
            self._lost.keep(trial.snapshot)

    def _rests(self, epoch: int) -> bool:
        """True for a metric of validation data after an epoch that is not validated."""
        is_of_validation = self._bound.guard.monitor.startswith("val_")
        return is_of_validation and self._rhythm is not None and epoch not in self._rhythm

    def _judge(self, value: float, lenience: float | None) -> None:
        """A value of the metric: of ranks that are accepted, or of the cut on trial."""
        trial = self._cuts.last
        if trial is not None and not trial.accepted:
            if not trial.see(value, lenience or 1.0):
                return
            self._controller.accept()
        elif trial is not None and lenience is not None:
            trial.see(value, lenience)
        self._last = value
        self._reference = self._bound.better(value, self._reference)

    # --- what is done -----------------------------------------------------------------

    def go_back(self, time: float, *, training: bool = True) -> None:
        """Undo the last cut, if it has failed."""
        trial = self._cuts.last
        if trial is None or trial.failure is None:
            return
        self._model.restore(trial.snapshot, training=training)
        self._lost.cut_undone(int(time))
        self.undone.append(trial.undone(int(time), trial.failure))
        self._failure = trial.is_lost, trial.is_unseen
        self._is_cut_short = not training
        self._is_unseen_only = self._is_unseen_only and trial.is_unseen
        self._cutter.go_on_from(trial.history)
        self._controller.undo(time, trial.mark)
        self._last_turn = time
        self._cuts.drop_last()

    def act(self, time: float, step: int, epoch_step: int = 0) -> None:
        """Cut, if the guard lets it and the controller says so."""
        passed = 0.0 if self._last_turn is None else time - self._last_turn
        self._last_turn = time
        self._is_early = self._reference is None
        if self._reference is None or self._is_tired() or self._below_limit() is not None:
            return
        trial = self._cuts.newest
        waits = trial is not None and not trial.accepted and trial.epoch != int(time)
        lacks = 0.0 if waits else self._lacking(time, self._reference)
        self._lacked = lacks or self._lacked
        if waits or self._blind or lacks:
            self._controller.wait(passed)
        elif self._cutter.due(time, self._controller.target_value):
            self._cut(time, step, epoch_step, self._reference)

    def _cut(self, time: float, step: int, epoch_step: int, reference: float) -> None:
        """Cut; cuts of one epoch are one trial."""
        trial, fresh = self._cuts.newest, False
        if trial is None or trial.accepted:
            snapshot, fresh = self._model.take_snapshot(), True
            history = self._cutter.history
            trial = CutOnTrial(self._bound, snapshot, history, int(time), reference, self._last)
            self._tell_idle(reference)
        wanted = self._controller.target_value
        record = self._cutter.cut(time, wanted, step=step, epoch_step=epoch_step, training=True)
        if record is not None:
            self._lacked = 0.0
            if fresh:
                judged = self._controller.lenience(trial.epoch) is not None
                self._cuts.add(trial, keep_ways_back=judged)
            trial.cuts.append(record)
            trial.mark = self._controller.mark()
        elif fresh:  # the ranks in force meet it already
            trial.snapshot.forget()
            self._controller.accept()

    def _tell_idle(self, reference: float) -> None:
        """Warn of a bound that no cut can miss."""
        guard = self._bound.guard
        fault = drop_fault(guard.monitor, guard.mode, reference)
        if guard.limit is None and fault is not None:
            self._warn(f"The guard can undo no cut: {fault}")

    def close(self, epochs: float) -> None:
        """The end of the training: a cut that has not shown itself good is undone.

        One that was accepted, too, if it was judged all the time and is not good at the end; and
        those before it, until the last value that the model had is good enough.
        """
        judges = self._controller.lenience(epochs) is not None
        last, trial = self._last, self._cuts.last
        while trial is not None:
            trial.end(last if judges else None)
            if trial.failure is None:
                break
            self.go_back(epochs, training=False)
            last, trial = trial.before, self._cuts.last
        self._cuts.forget_all()
        self._lost.let_go()

    def tell_end(self, told: str) -> None:
        """Warn of why training was stopped, if what was told at its end does not say it."""
        if self.end is not None and self.end not in told:
            self._warn(f"{self.end} {NAN_REMEDY}")

    def _lacking(self, time: float, reference: float) -> float:
        """What the controller asks for of the drop, where the last accepted value leaves less.

        What is accepted at the limit would stay there, as the best value is then never renewed.
        """
        asked, lenience = self._controller.room(time), self._controller.lenience(time) or 1.0
        if self._last is None or not asked:
            return 0.0
        return asked if self._bound.room(self._last, reference, lenience) < asked else 0.0


def _epochs(numbers: Sequence[int]) -> str:
    return f"epoch {', '.join(map(str, numbers))}"


def _not_there(monitor: str, logs: Mapping[str, Any], epoch: int, *, validates: bool) -> str:
    """That the metric is not in the logs, with what is, or no number."""
    came = logs.get(monitor)
    if came is not None:
        return (
            f"The guard watches {monitor!r}, which is no number in the logs of epoch {epoch}, but "
            f"{shortened(repr(came))}. No cut is made until it is one. Have what adds it "
            "give a number."
        )
    told = (
        f"The guard watches {monitor!r}, which is not in the logs of epoch {epoch}: they "
        f"hold {', '.join(logs) or 'nothing'}. No cut is made until it is there. "
    )
    if validates or not monitor.startswith("val_"):
        return f"{told}Put callbacks that add metrics before the RankScheduler."
    return (
        f"{told}Give fit validation data for a metric that begins with val_, and put callbacks "
        "that add metrics before the RankScheduler."
    )


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):  # nothing, or what no metric is
        return None
