"""The same target from the first epoch on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from reducible_train.settings.fields import Value, option
from reducible_train.settings.schedules.base import Schedule


@dataclass(frozen=True)
class Constant(Schedule, help="The same target from the first epoch on."):
    """The same target from the first epoch on.

    For a model that starts at its final rank, or as a part of a `Join`.

    Raises:
        ArgumentError: `value` is not finite, or negative.
        ArgumentTypeError: `value` is no number.

    Example:
        >>> Constant(0.3)(epoch=5)
        0.3
    """

    kind: ClassVar[str] = "constant"
    value: float = option(Value(), help="The target, not negative.")

    def __call__(self, epoch: float) -> float:
        return float(self.value)

    def course(self, until: float = math.inf) -> tuple[float, ...]:
        return self.values

    @property
    def end_epoch(self) -> float:
        return 0.0

    @property
    def values(self) -> tuple[float, ...]:
        return (self.value,)
