"""How far the next cut goes, when cuts may be undone: along a schedule, or by a search."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

from reducible_train.settings.search import Search
from reducible_train.settings.targets import SharedTarget, Target

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

    def look(self, epoch: float) -> None:
        """An epoch has its first step: the kernels are as they will be cut."""

    def target_value(self, goal: Target, time: float) -> float:
        """The value to bring a target to at a time, in epochs."""

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

    def target_value(self, goal: Target, time: float) -> float:
        self._clock = max(time - self._delay, 0.0)
        wanted = goal(self._clock)
        if self._share < 1.0:
            accepted = self._accepted.get(goal)
            accepted = self._present(goal) if accepted is None else accepted
            back = min(accepted - wanted, 0.0) if goal.rises else max(accepted - wanted, 0.0)
            wanted += (1 - self._share) * back
        self._asked[goal] = wanted
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
    """Steps one budget down by a factor, and bisects once a step was undone.

    Args:
        search: The search.
        present: The budget the model has.
        lowest: The lowest it may get.
        last_epoch: When the last cut may be made.
        memory: Epochs for which an undone budget is not tried again, nor one below.
    """

    def __init__(
        self,
        search: Search,
        present: float,
        lowest: float,
        last_epoch: float,
        memory: float = math.inf,
    ):
        self.accepted = present
        self.undone: float | None = None  # not to be tried
        self._search = search
        self._lowest = min(max(lowest, search.lowest or 0.0), present)
        self._last_epoch = last_epoch
        self._memory = memory
        self._asked = present
        self._undone_at = 0.0

    def target_value(self, goal: Target, time: float) -> float:
        if not isinstance(goal, SharedTarget):  # a rule's own
            return goal(time)
        self._asked = self.accepted
        if self.undone is not None and time - self._undone_at >= self._memory:
            self.undone = None
        if self._search.start_epoch <= time <= self._last_epoch:
            self._asked = self._next()
        return self._asked

    def _next(self) -> float:
        step = max(self.accepted * self._search.factor, self._lowest)
        if self.undone is None:
            return step
        if self.accepted < CLOSE * self.undone:
            return self.accepted
        return max(step, math.sqrt(self.accepted * self.undone))

    def wait(self, epochs: float) -> None:
        """A search has no clock."""

    def accept(self) -> None:
        self.accepted = self._asked

    def mark(self) -> Any:
        return self.accepted, self._asked

    def undo(self, time: float, mark: Any) -> None:
        self.accepted, self.undone = mark
        self._undone_at = time

    @property
    def tries(self) -> float:
        """As many as there is time for."""
        return math.inf

    @property
    def note(self) -> str | None:
        undone = "" if self.undone is None else f", and not {self.undone:.4g}"
        return f"The search has accepted a budget of {self.accepted:.4g}{undone}."
