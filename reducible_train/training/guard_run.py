"""A guard on duty in one fit: which cut is on trial, what was seen of it, what came of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reducible_train import _keras
from reducible_train.compressor import Compression, History
from reducible_train.report.records import Cut, UndoneCut
from reducible_train.settings.guard import Bound
from reducible_train.surgery.snapshot import ModelSnapshot, restore, take_snapshot
from reducible_train.training.pacing import Pace

NAN_REMEDY = "Look for NaN or infinity in the data, or lower the learning rate."


@dataclass(eq=False)
class CutOnTrial:
    """One cut, or those of one epoch, and the way back."""

    snapshot: ModelSnapshot
    bookmark: History
    epoch: int
    reference: float
    cuts: list[Cut] = field(default_factory=list)
    bad_epochs: int = 0
    value: float | None = None
    accepted: bool = False
    mark: Any = None  # of the pace


class GuardRun:
    """Decides, cut by cut, between going on and going back.

    Args:
        bound: The guard, with its direction.
        compression: What makes the cuts.
        pace: How far each goes.
    """

    def __init__(self, bound: Bound, compression: Compression, pace: Pace):
        self.bound = bound
        self.compression = compression
        self.pace = pace
        self.undone: list[UndoneCut] = []
        self.reference: float | None = None
        self._trial: CutOnTrial | None = None
        self._doom: str | None = None  # why the cut on trial must be undone
        self._blind = False  # the last epoch said nothing
        self._missing: list[int] = []
        self._refuge: ModelSnapshot | None = (
            None  # where NaN was left, until training shows it is over
        )
        self._refuge_epoch = -1  # in which the last cut was undone
        self.end: str | None = None  # why training was stopped
        self._warned: set[str] = set()
        self._looked_for_nan: int | None = None  # in which epoch last
        self._last_turn: float | None = None

    @property
    def stopped(self) -> bool:
        """True once no more cuts are made."""
        return len(self.undone) >= self.bound.guard.tries

    @property
    def notes(self) -> list[str]:
        """What the reader of a report should know."""
        notes = [self._below_limit(), self.pace.note, self._unseen(), self.end]
        if self.stopped:
            notes.append(f"No more cuts are made after {len(self.undone)} that were undone.")
        return [note for note in notes if note]

    @property
    def hindrance(self) -> str | None:
        """What has kept the ranks up; `None` if nothing was seen that would."""
        if self.undone:
            return f"Its guard held it back: {self.undone[-1]}"
        return self._below_limit() or self._unseen()

    def _unseen(self) -> str | None:
        """That the metric was not there, or no number."""
        if not self._missing:
            return None
        epochs = ", ".join(map(str, self._missing))
        return (
            f"{self.bound.guard.monitor} was not in the logs, or not a finite number, at the "
            f"end of epoch {epochs}; no cut was made until it was there again."
        )

    def _below_limit(self) -> str | None:
        """That no cut can be made, because the dense model is not good enough."""
        guard, best = self.bound.guard, self.reference
        if best is None or self.bound.allows(best, best):
            return None
        return (
            f"No cut was made: {guard.monitor} has not reached the guard's limit of "
            f"{guard.limit:g}; its best value was {best:.6g}, the nearest limit this training "
            "can meet. Train the dense model for longer, or lower the guard."
        )

    # --- what is seen -----------------------------------------------------------------

    def see_loss(self, logs: Mapping[str, Any] | None, epoch: int) -> None:
        """A loss within an epoch: NaN or infinity undoes the last cut at once."""
        loss = _number((logs or {}).get("loss"))
        if loss is None or math.isfinite(loss):
            return
        if self._trial is None:
            self._stop(f"The loss is {loss}", epoch)
            return
        self._doom = f"the loss was {loss}"
        self._keep(self._trial.snapshot)
        self.go_back(float(epoch))
        self.compression.model.reset_metrics()  # their running means are NaN, too

    def _stop(self, what: str, epoch: int) -> None:
        """End a training whose weights are lost, for it can only go on losing."""
        model = self.compression.model
        if self.end is not None or epoch == self._looked_for_nan:
            return
        self._looked_for_nan = epoch
        if all(np.isfinite(_keras.host_float(v)).all() for v in model.trainable_variables):
            self._tell(f"{what} in epoch {epoch}, and there is no cut to undo.")  # loss scaling
            return
        self.end = f"{what} in epoch {epoch}, and so are weights, with no cut to undo. "
        if self._refuge is not None:
            restore(model, self._refuge, training=True)
            model.reset_metrics()
            self.end = (
                f"{what} in epoch {epoch}, again after the last cut was undone for it, so the cut "
                "was not to blame. The model has the weights of before that cut. "
            )
        self.end += "Training was stopped."
        model.stop_training = True

    def see(self, epoch: int, logs: Mapping[str, Any] | None) -> None:
        """The metrics of an epoch."""
        monitor, logs = self.bound.guard.monitor, logs or {}
        value = self.compression.told(_number(logs.get(monitor)))
        self._blind = value is None or not math.isfinite(value)
        if value is not None and not self._blind:
            if epoch > self._refuge_epoch:
                self._let_go()
            self._scorer(value)
            return
        self._missing.append(epoch)
        if value is not None and self._trial is not None:
            self._doom = f"{monitor} was {value}"
            self._keep(self._trial.snapshot)
            self._trial.value = value
        elif value is not None:
            self._stop(f"{monitor} is {value}", epoch)
        else:
            names = ", ".join(logs) or "nothing"
            self._tell(
                f"The guard watches {monitor!r}, which is not in the logs of epoch {epoch}: they "
                f"hold {names}. No cut is made until it is there. Give fit validation data for a "
                "metric that begins with val_, and put callbacks that add metrics before the "
                "RankScheduler."
            )

    def _scorer(self, value: float) -> None:
        trial = self._trial
        if trial is None or trial.accepted:
            self.reference = self.bound.better(value, self.reference)
            return
        trial.value = value
        if self.bound.allows(value, trial.reference):
            trial.accepted = True
            self.pace.accept()
            self.reference = self.bound.better(value, self.reference)
            return
        trial.bad_epochs += 1
        if trial.bad_epochs >= self.bound.guard.patience:
            self._doom = f"{self._beyond(trial)} for {_epochs(trial.bad_epochs)}"

    def _beyond(self, trial: CutOnTrial) -> str:
        """That the metric was not good enough, with the numbers."""
        where = "below" if self.bound.sign > 0 else "above"
        return (
            f"{self.bound.guard.monitor} was {where} {self.bound.worst(trial.reference):.6g} "
            f"(last {trial.value:.6g}, best before {trial.reference:.6g})"
        )

    # --- what is done -----------------------------------------------------------------

    def go_back(self, time: float, *, training: bool = True) -> None:
        """Undo the cut on trial, if it has failed."""
        trial, reason = self._trial, self._doom
        if trial is None or reason is None:
            return
        restore(self.compression.model, trial.snapshot, training=training)
        self._refuge_epoch = int(time)
        last = trial.cuts[-1]
        self.undone.append(
            UndoneCut(
                epoch=trial.epoch,
                undone_epoch=int(time),
                quantity=last.quantity,
                target=last.target,
                parameters_before=trial.cuts[0].parameters_before,
                parameters=last.parameters,
                monitor=self.bound.guard.monitor,
                reference=trial.reference,
                worst=self.bound.worst(trial.reference),
                value=trial.value,
                reason=reason,
            )
        )
        self.compression.go_on_from(trial.bookmark)
        self.pace.undo(time, trial.mark)
        self._last_turn = time
        self._forget()

    def act(self, time: float, step: int) -> None:
        """Cut, if the guard lets it and the pace says so."""
        passed = 0.0 if self._last_turn is None else time - self._last_turn
        self._last_turn = time
        reference = self.reference
        if reference is None or self.stopped or self._below_limit() is not None:
            return
        trial = self._trial
        waits = trial is not None and not trial.accepted and trial.epoch != int(time)
        if waits or self._blind:
            self.pace.wait(passed)
            return
        if self.compression.due(time, self.pace.aim):
            self._cut(time, step, reference)

    def _cut(self, time: float, step: int, reference: float) -> None:
        trial = self._trial
        fresh = trial is None or trial.accepted
        if trial is None or fresh:
            trial = CutOnTrial(
                take_snapshot(self.compression.model, self.bound.guard.folder),
                self.compression.history,
                int(time),
                reference,
            )
        record = self.compression.cut(time, self.pace.aim, step=step, training=True)
        if record is not None:
            if fresh:
                self._forget()
                self._trial = trial
            trial.cuts.append(record)
            trial.mark = self.pace.mark()
        elif fresh:  # the ranks in force meet it already
            trial.snapshot.forget()
            self.pace.accept()

    def close(self, epochs: float) -> None:
        """The end of the training: a cut that has not shown itself good is undone."""
        trial = self._trial
        if trial is not None and (self._doom is not None or not trial.accepted):
            if self._doom is None and trial.value is None:
                monitor = self.bound.guard.monitor
                self._doom = f"the training ended before {monitor} was seen"
            elif self._doom is None:
                self._doom = f"the training ended while {self._beyond(trial)}"
            self.go_back(epochs, training=False)
            model = self.compression.model
            optimizer = _keras.compiled_optimizer(model)
            if optimizer is not None:  # what fit has done at its end, before this
                optimizer.finalize_variable_values(model.trainable_weights)
        self._forget()
        self._let_go()

    def tell_end(self, told: str) -> None:
        """Warn of why training was stopped, if what was told at its end does not say it."""
        if self.end is not None and self.end not in told:
            self._tell(f"{self.end} {NAN_REMEDY}")

    def _forget(self) -> None:
        if self._trial is not None and self._trial.snapshot is not self._refuge:
            self._trial.snapshot.forget()
        self._trial = self._doom = None

    def _keep(self, snapshot: ModelSnapshot) -> None:
        """Remember where NaN was left."""
        if snapshot is not self._refuge:
            self._let_go()
        self._refuge = snapshot

    def _let_go(self) -> None:
        """Nothing more will go back to where NaN was left."""
        if self._refuge is not None:
            self._refuge.forget()
        self._refuge = None

    def _tell(self, sentence: str) -> None:
        """Warn, once of each kind."""
        kind = sentence[:20]
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(sentence, stacklevel=2)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):  # nothing, or what no metric is
        return None


def _epochs(count: int) -> str:
    return f"{count} epoch" + ("s" if count != 1 else "")
