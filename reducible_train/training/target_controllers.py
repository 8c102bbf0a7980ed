"""How far the next cut goes, when cuts may be undone: along a schedule, or by a search."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from reducible_train.settings.search import Search
from reducible_train.settings.targets import SharedTarget, Target

FACTOR = 0.7  # what a step of a search multiplies the budget by, where nothing tells better
FIRST = 1e-3  # of all that can be lost, that the first step of a search may be foreseen to lose
GROWTH = 2.0  # what a step may be foreseen to lose over what the last accepted one was
ROOM = 0.25  # of the drop that a guard allows, left before a search cuts again
CLOSE = 1.02  # accepted over undone budget, below which nothing worth trying lies between


class TargetController(Protocol):
    """What a target's value shall be at a time, given which cuts were accepted and undone."""

    @property
    def began(self) -> float | None:
        """The epoch before which cuts began; `None` while they wait."""

    @property
    def note(self) -> str | None:
        """What the reader of a report should know."""

    @property
    def tries(self) -> float:
        """Undone cuts after which there shall be no more, unless the guard says how many."""

    @property
    def delay(self) -> float:
        """Epochs that its clock is behind, as cuts waited."""

    def room(self, time: float) -> float:
        """How much of a guard's drop must be left for a next cut, as a fraction of it.

        0 while none would be made anyway.
        """

    def lenience(self, time: float) -> float | None:
        """How many times a guard's drop a cut may have at a time, be it accepted or not.

        `None` if a cut that was accepted once is not judged again.
        """

    def look(self, epoch: float) -> None:
        """An epoch has its first step: the kernels are as they will be cut."""

    def target_value(self, goal: Target, time: float) -> float:
        """The value to bring a target to at a time, in epochs; at infinity the last of all.

        Asked for the last one, it tells what is known of it by now, and nothing counts as asked.
        """

    def wait(self, epochs: float) -> None:
        """That long no cut was allowed."""

    def accept(self) -> None:
        """The values that were asked for last are good."""

    def mark(self) -> Any:
        """Where it stands after a cut; for `undo`."""

    def undo(self, time: float, mark: Any) -> None:
        """At `time`, the cut after which it stood at `mark` was undone."""


class _FromTheStart:
    """A controller that lets cuts begin at once, and tells nothing of it."""

    @property
    def began(self) -> float | None:
        return 0.0

    @property
    def note(self) -> str | None:
        return None

    @property
    def tries(self) -> float:
        return 3

    @property
    def delay(self) -> float:
        return 0.0

    def room(self, time: float) -> float:
        return 0.0

    def lenience(self, time: float) -> float | None:
        return None

    def look(self, epoch: float) -> None:
        """Kernels change nothing."""


class ScheduleController(_FromTheStart):
    """Follows schedules by a clock that stands still while a cut is on trial.

    With `a` the last accepted value and `s` the schedule's, it asks for `a - (a - s) / 2^k`
    after `k` undone cuts, and the clock goes back to the time of the cut that was undone.

    Args:
        present: The value of a target before any cut.
    """

    def __init__(self, present: Callable[[Target], float]):
        self._present = present
        self._accepted: dict[Target, float] = {}
        self._asked: dict[Target, float] = {}
        self._share = 1.0
        self._delay = 0.0
        self._clock = 0.0  # when it was asked last

    @property
    def delay(self) -> float:
        return self._delay

    def target_value(self, goal: Target, time: float) -> float:
        clock = max(time - self._delay, 0.0)
        wanted = goal(clock)
        if self._share < 1.0:
            accepted = self._accepted.get(goal)
            accepted = self._present(goal) if accepted is None else accepted
            back = min(accepted - wanted, 0.0) if goal.rises else max(accepted - wanted, 0.0)
            wanted += (1 - self._share) * back
        if math.isfinite(clock):
            self._clock, self._asked[goal] = clock, wanted
        return wanted

    def wait(self, epochs: float) -> None:
        self._delay += epochs

    def accept(self) -> None:
        self._accepted |= self._asked

    def mark(self) -> Any:
        return dict(self._accepted), self._clock

    def undo(self, time: float, mark: Any) -> None:
        self._accepted, clock = mark
        self._share /= 2
        self._delay = time - clock


class SearchController(_FromTheStart):
    """Steps one budget down, and bisects once a step was undone.

    How far a step goes is told by the loss it is foreseen to add: the first may lose `FIRST` of
    all there is to lose, and goes at least by `FACTOR`; each other, `GROWTH` times the most that
    an accepted one was foreseen to. With a factor of its own, or where nothing is foreseen, all
    steps are the same.

    Args:
        search: The search.
        present: The budget the model has.
        lowest: The lowest it may get.
        span: When the first cut may be made, and the last.
        memory: Epochs for which an undone budget is not tried again, nor one below.
        foreseen: Time, budget -> the loss that a cut to it is foreseen to add.
        epochs: Epochs of the training; infinite where nobody says.
    """

    def __init__(
        self,
        search: Search,
        present: float,
        lowest: float,
        span: tuple[float, float],
        memory: float = math.inf,
        foreseen: Callable[[float, float], float] | None = None,
        epochs: float = math.inf,
    ):
        self.accepted = present
        self.undone: float | None = None  # not to be tried
        self._search = search
        self._lowest = min(max(lowest, search.lowest or 0.0), present)
        self._first_epoch, self._last_epoch = span
        self._memory = memory
        self._epochs = epochs
        self._foreseen = None if search.factor else foreseen
        self._asked = present
        self._asked_at: float | None = None
        self._asked_loss: float | None = None
        self._undone_at = 0.0
        self._loss: float | None = None  # the most foreseen of an accepted step
        self._too_much: float | None = None  # of the one that was undone

    def target_value(self, goal: Target, time: float) -> float:
        if not isinstance(goal, SharedTarget):  # a rule's own
            return goal(time)
        if time == self._asked_at or math.isinf(time):
            return self._asked
        self._asked, self._asked_at = self.accepted, time
        if self.undone is not None and time - self._undone_at >= self._memory:
            self.undone = self._too_much = None
        if self._may_try(time):
            self._asked = self._next(time)
            self._asked_loss = self._loss_of(self._asked, time)
        return self._asked

    def _may_try(self, time: float) -> bool:
        """True while the search goes on."""
        return self._first_epoch <= time <= self._last_epoch

    def _loss_of(self, budget: float, time: float) -> float | None:
        """What a cut to a budget is foreseen to lose; `None` where nothing is foreseen."""
        if self._foreseen is None or budget >= self.accepted:
            return None
        return self._foreseen(time, budget)

    def _next(self, time: float) -> float:
        """The budget to try; the accepted one if nothing worth trying is left."""
        if self.undone is not None and self.accepted < CLOSE * self.undone:
            return self.accepted
        step = max(self._step(time), self._lowest)
        return step if self.undone is None else max(step, math.sqrt(self.accepted * self.undone))

    def _step(self, time: float) -> float:
        """How far to go from here, whatever was undone."""
        step = self.accepted * (self._search.factor or FACTOR)
        if self._foreseen is None or step <= self._lowest:
            return step
        foreseen = partial(self._foreseen, time)
        if self._loss is None and self._too_much is None:
            return min(step, self._budget_at(FIRST * foreseen(self._lowest), foreseen))
        return min(self._budget_at(self._allowed(), foreseen), self.accepted / CLOSE)

    def _allowed(self) -> float:
        """The loss that the next step may be foreseen to add."""
        if self._too_much is None:
            return GROWTH * (self._loss or 0.0)
        good = self._too_much / GROWTH**2
        return math.sqrt(self._too_much * (good if self._loss is None else min(self._loss, good)))

    def _budget_at(self, loss: float, foreseen: Callable[[float], float]) -> float:
        """The smallest budget that is foreseen to add no more than a loss, to within 2 %."""
        low, high = self._lowest, self.accepted
        while high > CLOSE * low:
            middle = math.sqrt(low * high)
            low, high = (low, middle) if foreseen(middle) <= loss else (middle, high)
        return high

    def wait(self, epochs: float) -> None:
        """A search has no clock."""

    def accept(self) -> None:
        if self._asked_loss:
            self._loss = max(self._loss or 0.0, self._asked_loss)
        self.accepted, self._asked_loss = self._asked, None

    def mark(self) -> Any:
        return self.accepted, self._asked, self._asked_loss

    def undo(self, time: float, mark: Any) -> None:
        self.accepted, self.undone, self._too_much = mark
        self._undone_at, self._asked_at = time, None

    @property
    def tries(self) -> float:
        """As many as there is time for."""
        return math.inf

    def room(self, time: float) -> float:
        return ROOM if self._may_try(time) else 0.0

    def lenience(self, time: float) -> float | None:
        """Twice the drop when cuts begin, once from when half of the epochs after them are over.

        A straight line lies between. A bound is what a search was asked for, not a size, so it must
        hold at the end. Before that the learning rate has still to fall, from which cut models gain
        more than the dense one.
        """
        if math.isinf(self._epochs):
            return 1.0
        strict = (self._last_epoch + self._epochs) / 2
        left = (strict - time) / max(strict - self._first_epoch, 1.0)
        return 1.0 + min(max(left, 0.0), 1.0)

    @property
    def note(self) -> str | None:
        undone = "" if self.undone is None else f", and not {self.undone:.4g}"
        return f"The search has accepted a budget of {self.accepted:.4g}{undone}."
