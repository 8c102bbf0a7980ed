"""What the whole model may cost, in the unit of the measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reducible_train.settings.checks import POSITIVE, Range
from reducible_train.settings.targets.base import SharedTarget


@dataclass(frozen=True)
class Cost(SharedTarget):
    """What the whole model may cost: in parameters, bytes or whatever the measure counts.

    Example:
        >>> Cost.misfit(0)
        Misfit(wanted='greater than 0', advice='')
    """

    quantity: ClassVar[str] = "cost"
    help: ClassVar[str] = (
        "The same as a budget, not as a fraction: parameters, bytes or whatever 'measure' counts. "
        "200000 with measure: file is a file of at most 200 KB."
    )
    within: ClassVar[Range] = POSITIVE

    def allowed(self, value: float, dense: float) -> float:
        return value

    def of_cost(self, cost: float, dense: float) -> float:
        return cost

    def words(self, unit: str) -> str:
        return f"cost in {unit}"
