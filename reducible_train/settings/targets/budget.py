"""A fraction of what the dense model costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reducible_train.settings.targets.base import SharedTarget


@dataclass(frozen=True)
class Budget(SharedTarget):
    """A fraction of what the whole dense model costs, in (0, 1].

    Example:
        >>> Budget.value_fault(25)
        'must be in (0, 1], a fraction; got 25. For 25 % write 0.25.'
    """

    quantity: ClassVar[str] = "budget"
    noun: ClassVar[str] = "a fraction"

    def allowed(self, value: float, dense: float) -> float:
        return value * dense

    def of_cost(self, cost: float, dense: float) -> float:
        return cost / dense

    def words(self, unit: str) -> str:
        return f"fraction of {unit}"
