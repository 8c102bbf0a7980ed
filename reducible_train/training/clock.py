"""The time of one fit: its epochs and steps, and when ranks are looked at."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from reducible_train.settings.cadence import Cadence

_KEPT = ("epoch", "step", "trained", "looked", "last_turn")


class Clock:
    """Epochs and steps of a running fit, as its callbacks are told of them.

    Args:
        cadence: When ranks are looked at; each such time is a turn.
        params: What Keras tells callbacks of the fit; empty in a training loop of one's own.
        model: The model in training, which says how many steps run at once.

    Attributes:
        epoch: The epoch that runs, from 0.
        step: Steps that were trained.
        opens: True in an epoch that has had no step yet.
        trained: The epoch after the last that had a step.
        epoch_length: Steps of the last epoch; `None` before its end.
        looked: When ranks were looked at last, in epochs; `None` if never.
        last_turn: The last turn of a cadence in steps; `None` if there was none.
        untimed: True if the last turn was within an epoch of which nobody knew how long it is.
    """

    def __init__(self, cadence: Cadence, params: Mapping[str, Any], model: Any):
        self.epoch = self.step = self.trained = 0
        self.opens = False
        self.epoch_length: int | None = None
        self.looked: float | None = None
        self.last_turn: int | None = None
        self.untimed = False
        self._cadence = cadence
        self._params = params
        self._model = model
        self._epoch_start = 0  # in steps

    @property
    def epochs(self) -> int | None:
        """Epochs of the fit; `None` where nobody said."""
        return self._params.get("epochs")

    @property
    def steps_per_epoch(self) -> int | None:
        """Steps of an epoch, as announced or as seen; `None` while neither is known."""
        return self._params.get("steps") or self.epoch_length

    @property
    def epoch_step(self) -> int:
        """Steps of the epoch that were trained."""
        return self.step - self._epoch_start

    @property
    def steps_left(self) -> int | None:
        """Training steps that the fit still makes, those that run at once as one.

        `None` where nobody has announced them.
        """
        steps, epochs = self._params.get("steps"), self.epochs
        if not steps or epochs is None:
            return None
        counts = (steps, self.epoch_step)
        of_epoch, done = (-(-each // self._at_once) for each in counts)
        return (epochs - self.epoch) * of_epoch - done

    @property
    def _at_once(self) -> int:
        return int(self._model.steps_per_execution)

    def begin_epoch(self, epoch: int) -> None:
        """An epoch begins; whether it has a step will be seen."""
        self.epoch, self._epoch_start, self.opens = epoch, self.step, True

    def open_epoch(self) -> bool:
        """A step will be trained: True if it is the first of its epoch."""
        opens, self.opens = self.opens, False
        return opens

    def end_step(self, batch: int) -> None:
        """Batches up to this one of the epoch were trained on."""
        self.step, self.trained = self._epoch_start + batch + 1, self.epoch + 1

    def end_epoch(self) -> None:
        """The epoch is over."""
        self.epoch_length = self.epoch_step

    def is_turn(self, *, opens: bool) -> bool:
        """True before a step at which the cadence looks at the ranks.

        Args:
            opens: True before an epoch's first.
        """
        if self._cadence.steps:
            return self.step // self._cadence.steps != self.last_turn
        return opens and self.epoch % (self._cadence.epochs or 1) == 0

    def take_turn(self, batch: int) -> float:
        """Take the turn that has come, before a batch; its time, in epochs."""
        if not self._cadence.steps:
            return float(self.epoch)
        self.last_turn = self.step // self._cadence.steps
        return self._now(batch)

    def _now(self, batch: int) -> float:
        """Time in epochs; within the first, if its length is not known, its beginning."""
        steps, at_once = self.steps_per_epoch, self._at_once
        self.untimed = not steps and batch > 0
        if not steps:
            return float(self.epoch)
        steps = -(-steps // at_once) * at_once  # as they are counted
        return self.epoch + min(batch / steps, 1.0)

    def get_state(self) -> dict[str, Any]:
        """What `set_state` needs at the end of an epoch, in plain JSON values."""
        return {name: getattr(self, name) for name in _KEPT}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on where another fit stood; older states hold less."""
        for name in _KEPT:
            setattr(self, name, state.get(name, getattr(self, name)))


class Timed(Protocol):
    """What counts the seconds that are spent in it."""

    seconds: float


P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", bound=Timed)


@contextmanager
def counting(owner: Timed) -> Iterator[None]:
    """Add what is done within to `owner.seconds`; what lies within another count, once."""
    before, started = owner.seconds, time.perf_counter()
    try:
        yield
    finally:
        owner.seconds = before + time.perf_counter() - started


def timed(hook: Callable[Concatenate[T, P], R]) -> Callable[Concatenate[T, P], R]:
    """A method whose time is added to the `seconds` of its object."""

    @wraps(hook)
    def run(owner: T, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with counting(owner):
            return hook(owner, *args, **kwargs)

    return run
