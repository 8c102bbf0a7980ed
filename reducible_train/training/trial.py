"""A cut on trial: what was seen of it, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
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
        before: The last value on them.
    """

    bound: Bound
    snapshot: Snapshot
    history: Any
    epoch: int
    reference: float
    before: float | None = None
    cuts: list[Cut] = field(default_factory=list)
    bad_epochs: int = 0
    value: float | None = None
    lenience: float = 1.0  # how many times the drop it was allowed when it was judged last
    accepted: bool = False
    failure: str | None = None  # why it must be undone
    is_lost: bool = False  # for NaN or infinity
    mark: Any = None  # of the target controller

    @property
    def is_unseen(self) -> bool:
        """True if nothing was known of it."""
        return self.value is None and not self.is_lost

    def lose(self, what: str) -> None:
        """It has failed, for NaN or infinity."""
        self.failure, self.is_lost = what, True

    def see(self, value: float, lenience: float = 1.0) -> bool:
        """Judge it by the metric of an epoch; True if that is good enough.

        The first time that accepts it; after `patience` in a row that are not it has failed.

        Args:
            value: The metric.
            lenience: How many times the drop it may have.
        """
        self.value, self.lenience = value, lenience
        if self.bound.allows(value, self.reference, lenience):
            self.accepted, self.bad_epochs = True, 0
            return True
        self.bad_epochs += 1
        if self.bad_epochs >= self.bound.guard.patience:
            count = f"{self.bad_epochs} epoch" + ("s" if self.bad_epochs != 1 else "")
            self.failure = f"{self._beyond()} for {count}"
        return False

    def end(self, last: float | None = None) -> None:
        """The training is over: what has not shown itself good has failed.

        Args:
            last: The last value of the metric, if what was accepted must be good then as well.
        """
        if self.failure is not None:
            return
        if not self.accepted and self.value is None:
            self.failure = f"the training ended before {self.bound.guard.monitor} was seen"
        elif not self.accepted:
            self.failure = f"the training ended while {self._beyond()}"
        elif last is not None and not self._is_good_enough(last):
            self.value = last
            self.failure = f"at the end of the training {self._beyond()}"

    def _is_good_enough(self, last: float) -> bool:
        """Judge it for good: by the drop as it was given, without lenience and with no margin."""
        self.bound, self.lenience = replace(self.bound, margin=0.0), 1.0
        return self.bound.allows(last, self.reference)

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
            worst=self._worst,
            value=self.value,
            reason=reason,
            budgets=last.budgets,
            by_rules=all(cut.by_rules for cut in self.cuts),
        )

    @property
    def _worst(self) -> float:
        """The worst value that would have been good enough, when it was judged last."""
        return self.bound.worst(self.reference, self.lenience)

    def _beyond(self) -> str:
        """That the metric was not good enough, with the numbers."""
        where = "below" if self.bound.sign > 0 else "above"
        return (
            f"{self.bound.guard.monitor} was {where} {self._worst:.6g} "
            f"(last {self.value:.6g}, best before {self.reference:.6g})"
        )


class CutsThatMayFail:
    """The newest cut, and those accepted before it that a way leads back behind.

    Args:
        forget: What lets go of a snapshot.
    """

    def __init__(self, forget: Callable[[Any], None]):
        self.newest: CutOnTrial | None = None
        self._held: list[CutOnTrial] = []
        self._forget = forget

    @property
    def last(self) -> CutOnTrial | None:
        """The last one that was not undone."""
        return self.newest or (self._held[-1] if self._held else None)

    def add(self, trial: CutOnTrial, *, keep_ways_back: bool) -> None:
        """A cut is made; no way leads back behind the one before it, if it is not to be kept."""
        before, self.newest = self.newest, trial
        if before is not None and keep_ways_back:
            self._held.append(before)
        elif before is not None:
            self._forget(before.snapshot)

    def drop_last(self) -> None:
        """The last one was undone."""
        gone, self.newest = self.newest or self._held.pop(), None
        self._forget(gone.snapshot)

    def forget_all(self) -> None:
        """All of them stay."""
        while self.last is not None:
            self.drop_last()
