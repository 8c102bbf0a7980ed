"""A fraction of what the dense model costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reducible_train.settings.measures import measure_kinds
from reducible_train.settings.targets.base import SharedTarget


@dataclass(frozen=True)
class Budget(SharedTarget):
    """A fraction of what the whole dense model costs, in (0, 1].

    Example:
        >>> Budget.misfit(25)
        Misfit(wanted='a fraction in (0, 1]', advice=' For 25 % write 0.25.')
    """

    quantity: ClassVar[str] = "budget"
    help: ClassVar[str] = (
        "Fraction of the whole dense model's cost to reach, in (0, 1]: a number or a schedule. "
        "0.25 means a quarter of the size."
    )

    def allowed(self, value: float, dense: float) -> float:
        return value * dense

    def of_cost(self, cost: float, dense: float) -> float:
        return cost / dense

    def asks_nothing(self, value: float, measure: str) -> bool:
        return value >= 1.0 and measure_kinds()[measure].wavers

    def leaves_dense(self, value: float) -> bool:
        return value >= 1.0

    def words(self, unit: str) -> str:
        return f"fraction of {unit}"
