"""One smooth way from an initial to a final target."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from reducible_train.settings.base import together
from reducible_train.settings.faults import Fault
from reducible_train.settings.fields import Choice, Time, Value, option
from reducible_train.settings.schedules.base import Schedule

_REMAINING: dict[str, Callable[[float], float]] = {
    "linear": lambda t: 1 - t,
    "cubic": lambda t: (1 - t) ** 3,
    "cosine": lambda t: (1 + math.cos(math.pi * t)) / 2,
}
SHAPES = tuple(_REMAINING)


@dataclass(frozen=True)
class Ramp(Schedule, help="Warm-up at `initial`, a ramp, then a hold at `final`."):
    """Warm-up at `initial`, a ramp, then a hold at `final`.

    The usual choice: some dense epochs, a fall over the next ones, and the rest of the training
    to recover at the final target. With `t` from 0 to 1 between the two times the target is
    `final + (initial - final) * f(t)`, where `f` is `1 - t` (linear), `(1 - t)**3` (cubic) or
    `(1 + cos(pi * t)) / 2` (cosine). Cubic falls fast while there is much to lose, and slowly at
    the end; it is the shape of Zhu & Gupta, "To prune, or not to prune" (2017).

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
    initial: float = option(Value(), help="Target up to `start_epoch`, not negative.")
    final: float = option(Value(), help="Target from `end_epoch` on, not negative.")
    start_epoch: float = option(
        Time(), 2, help="Begin of the ramp, in epochs from 0, fractions allowed."
    )
    end_epoch: float = option(Time(), 6, help="End of the ramp, in epochs.")
    shape: Literal["linear", "cubic", "cosine"] = option(
        Choice(SHAPES, "If unsure, leave it out: it is 'cubic'."),
        "cubic",
        help='`"linear"`, `"cubic"` or `"cosine"`.',
    )

    @together("start_epoch", "end_epoch")
    def _falls_for_a_while(self) -> Fault | None:
        if self.end_epoch > self.start_epoch:
            return None
        return Fault(
            ("end_epoch",),
            "`end_epoch` must be greater than `start_epoch`. "
            f"Received: start_epoch={self.start_epoch}, end_epoch={self.end_epoch}. "
            "Move one of them, or jump with a `PiecewiseConstant` schedule.",
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
