"""The stable rank of each kernel, scaled: what `Adaptive` asks for where nothing else does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from reducible_train.settings.checks import POSITIVE, Range
from reducible_train.settings.targets.base import ModelNumbers, RankTarget


@dataclass(frozen=True)
class StableRank(RankTarget):
    """A multiple of the stable rank of each kernel, scaled as `Adaptive` has found it.

    Example:
        >>> StableRank(1.0).rank(1.0, 7.6), StableRank(1.0).rank(1.0, None)
        (8, inf)
    """

    quantity: ClassVar[str] = "stable_rank"
    within: ClassVar[Range] = POSITIVE
    foreseeable: ClassVar[bool] = False
    public: ClassVar[bool] = False
    rounds_up: ClassVar[bool] = True
    scaled_by: ClassVar[str] = "stable_rank"

    def rank(self, value: float, own: float | None) -> float:
        return math.inf if own is None else max(1, round(value * own))

    def present(self, model: ModelNumbers) -> float:
        return model.stable_rank_factor
