"""The relative error that each kernel may have."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from typing import ClassVar

from reducible_train.settings.checks import SHARE, Range
from reducible_train.settings.targets.base import LossTarget


@dataclass(frozen=True)
class RelativeError(LossTarget):
    """The relative error that each kernel may have, `sqrt(1 - energy)`, since the start.

    Example:
        >>> RelativeError.retreat_fault((0.2, 0.1))
        'must not fall, for ranks never rise; it falls from 0.2 to 0.1. Exchange its values.'
    """

    quantity: ClassVar[str] = "rtol"
    help: ClassVar[str] = (
        "Relative error that each kernel may have, in [0, 1), the square root of the energy it "
        "loses: a number, or a schedule that rises."
    )
    within: ClassVar[Range] = SHARE
    rises: ClassVar[bool] = True
    idle: ClassVar[float] = 0.0

    def limit(self, value: float, kept: float) -> dict[str, float] | None:
        """`kept * energy >= 1 - value**2` after a cut.

        >>> rtol = RelativeError(0.5)
        >>> rtol.limit(0.5, 1.0), rtol.limit(0.5, 0.7)
        ({'rtol': 0.5}, None)
        """
        left = value if kept == 1.0 else sqrt(max(0.0, (value**2 - (1 - kept)) / kept))
        return {"rtol": left} if left > 0.0 else None

    def nearest(self, error: float) -> str:
        return f"rtol={max(ceil(1e4 * error), 1) / 1e4:.4f}"  # of 0 none is cut
