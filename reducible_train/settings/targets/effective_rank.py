"""The effective rank of each kernel, times a factor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from reducible_train.settings.checks import POSITIVE, Range
from reducible_train.settings.targets.base import Misfit, ModelNumbers, RankTarget

_ROUND_OFF = 1e-9  # of a rank


@dataclass(frozen=True)
class EffectiveRank(RankTarget):
    """A multiple of the effective rank that each kernel had before its first cut, rounded up.

    The effective rank is the exponential of the entropy of the shares that singular values have
    of their sum, as `analyze` tells it: whatever the data, of the kernel alone.

    Example:
        >>> EffectiveRank(0.5).rank(0.5, 41.2), EffectiveRank.misfit(-1).wanted
        (21, 'greater than 0')

    Reference: Roy and Vetterli, *The effective rank: a measure of effective dimensionality*,
    EUSIPCO 2007.
    """

    quantity: ClassVar[str] = "effective_rank"
    help: ClassVar[str] = (
        "Multiple of its effective rank that each kernel keeps, greater than 0: a number or a "
        "schedule. 1.0 keeps as many directions as its singular values are worth by their entropy."
    )
    within: ClassVar[Range] = POSITIVE
    foreseeable: ClassVar[bool] = False
    for_layers: ClassVar[bool] = True
    rounds_up: ClassVar[bool] = True
    scaled_by: ClassVar[str] = "effective_rank"

    @classmethod
    def misfit(cls, value: float) -> Misfit | None:
        if value in cls.within:
            return None
        return Misfit(str(cls.within), " It is a factor: 1.0 for the effective rank itself.")

    def rank(self, value: float, own: float | None) -> float:
        if own is None or value == self.idle:
            return math.inf
        return max(1, math.ceil(value * own - _ROUND_OFF))

    def present(self, model: ModelNumbers) -> float:
        return model.effective_rank_factor
