"""The fraction of its energy that each kernel keeps."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import ClassVar

from reducible_train.settings.targets.base import LossTarget


@dataclass(frozen=True)
class Energy(LossTarget):
    """The fraction of its squared singular values that each kernel keeps, since the start."""

    quantity: ClassVar[str] = "energy"
    help: ClassVar[str] = (
        "Fraction of each kernel's squared singular values to keep, in (0, 1]: a number "
        "or a schedule."
    )
    idle: ClassVar[float] = 1.0

    def limit(self, value: float, kept: float) -> dict[str, float] | None:
        """`kept * energy >= value` after a cut.

        >>> energy = Energy(0.36)
        >>> energy.limit(0.36, 0.72), energy.limit(0.36, 0.3)
        ({'energy': 0.5}, None)
        """
        needed = value / kept
        return {"energy": needed} if needed < 1.0 else None

    def nearest(self, error: float) -> str:
        return f"energy={min(floor(1e4 * (1 - error**2)), 9999) / 1e4:.4f}"  # of 1 none is cut
