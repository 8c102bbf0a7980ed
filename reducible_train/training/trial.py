"""A cut on trial: what was seen of it, and the way back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from reducible_train.report.records import Cut, UndoneCut
from reducible_train.settings.guard import Bound


class Snapshot(Protocol):
    """A state that a model can be brought back to."""

    def forget(self) -> None:
        """It will not be needed any more."""


@dataclass(eq=False)
class CutOnTrial:
    """One cut, or those of one epoch, and the way back.

    Args:
        bound: What is good enough.
        snapshot: The model before it.
        history: What had been done to it by then.
        epoch: The epoch before which it was made.
        reference: The best value of the metric on accepted ranks.
    """

    bound: Bound
    snapshot: Snapshot
    history: Any
    epoch: int
    reference: float
    cuts: list[Cut] = field(default_factory=list)
    bad_epochs: int = 0
    value: float | None = None
    accepted: bool = False
    failure: str | None = None  # why it must be undone
    mark: Any = None  # of the target controller

    def see(self, value: float) -> bool:
        """Judge it by the metric of an epoch; True once it is accepted."""
        self.value = value
        if self.bound.allows(value, self.reference):
            self.accepted = True
            return True
        self.bad_epochs += 1
        if self.bad_epochs >= self.bound.guard.patience:
            count = f"{self.bad_epochs} epoch" + ("s" if self.bad_epochs != 1 else "")
            self.failure = f"{self._beyond()} for {count}"
        return False

    def end(self) -> None:
        """The training is over: what has not shown itself good has failed."""
        if self.accepted or self.failure is not None:
            return
        if self.value is None:
            self.failure = f"the training ended before {self.bound.guard.monitor} was seen"
        else:
            self.failure = f"the training ended while {self._beyond()}"

    def undone(self, epoch: int, reason: str) -> UndoneCut:
        """The record of its end."""
        last = self.cuts[-1]
        return UndoneCut(
            epoch=self.epoch,
            undone_epoch=epoch,
            quantity=last.quantity,
            target=last.target,
            parameters_before=self.cuts[0].parameters_before,
            parameters=last.parameters,
            monitor=self.bound.guard.monitor,
            reference=self.reference,
            worst=self.bound.worst(self.reference),
            value=self.value,
            reason=reason,
            budgets=last.budgets,
        )

    def _beyond(self) -> str:
        """That the metric was not good enough, with the numbers."""
        where = "below" if self.bound.sign > 0 else "above"
        return (
            f"{self.bound.guard.monitor} was {where} {self.bound.worst(self.reference):.6g} "
            f"(last {self.value:.6g}, best before {self.reference:.6g})"
        )
