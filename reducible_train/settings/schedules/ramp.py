"""One smooth way from an initial to a final target."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from reducible_train.errors import ArgumentError
from reducible_train.settings.schedules.base import Schedule, checked_epoch, checked_value

_REMAINING: dict[str, Callable[[float], float]] = {
    "linear": lambda t: 1 - t,
    "cubic": lambda t: (1 - t) ** 3,
    "cosine": lambda t: (1 + math.cos(math.pi * t)) / 2,
}


@dataclass(frozen=True)
class Ramp(Schedule):
    """Warm-up at `initial`, a ramp, then a hold at `final`.

    The usual choice: some dense epochs, a fall over the next ones, and the rest of the training
    to recover at the final target. With `t` from 0 to 1 between the two times the target is
    `final + (initial - final) * f(t)`, where `f` is `1 - t` (linear), `(1 - t)**3` (cubic) or
    `(1 + cos(pi * t)) / 2` (cosine). Cubic falls fast while there is much to lose, and slowly at
    the end; it is the shape of Zhu & Gupta, "To prune, or not to prune" (2017).

    Args:
        initial: Target up to `start_epoch`, not negative.
        final: Target from `end_epoch` on, not negative.
        start_epoch: Begin of the ramp, in epochs from 0, fractions allowed.
        end_epoch: End of the ramp, in epochs.
        shape: `"linear"`, `"cubic"` or `"cosine"`.

    Raises:
        ArgumentError: A value or a time is out of range, the ramp ends before it starts, or the
            shape is unknown.
        ArgumentTypeError: A value or a time is no number.

    Example:
        >>> ramp = Ramp(initial=1.0, final=0.2, start_epoch=2, end_epoch=6, shape="linear")
        >>> [round(ramp(epoch), 2) for epoch in range(8)]
        [1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.2]
    """

    kind: ClassVar[str] = "ramp"
    initial: float
    final: float
    start_epoch: float = 2
    end_epoch: float = 6
    shape: Literal["linear", "cubic", "cosine"] = "cubic"

    def __post_init__(self) -> None:
        for name in ("initial", "final"):
            self._normalize(name, checked_value(name, getattr(self, name)))
        for name in ("start_epoch", "end_epoch"):
            self._normalize(name, checked_epoch(name, getattr(self, name)))
        if self.end_epoch <= self.start_epoch:
            raise ArgumentError(
                "`end_epoch` must be greater than `start_epoch`. "
                f"Received: start_epoch={self.start_epoch}, end_epoch={self.end_epoch}. "
                "Move one of them, or jump with a `PiecewiseConstant` schedule."
            )
        if self.shape not in _REMAINING:
            raise ArgumentError(
                f"`shape` must be one of {', '.join(map(repr, _REMAINING))}. "
                f"Received: shape={self.shape!r}. If unsure, leave it out: it is 'cubic'."
            )

    def __call__(self, epoch: float) -> float:
        t = (epoch - self.start_epoch) / (self.end_epoch - self.start_epoch)
        if t <= 0:
            return float(self.initial)
        if t >= 1:
            return float(self.final)
        value = self.final + (self.initial - self.final) * _REMAINING[self.shape](t)
        low, high = sorted(self.values)  # rounding must not leave the range
        return float(min(max(value, low), high))

    def course(self, until: float = math.inf) -> tuple[float, ...]:
        return (self(0.0), self(until))

    @property
    def values(self) -> tuple[float, ...]:
        return (self.initial, self.final)
