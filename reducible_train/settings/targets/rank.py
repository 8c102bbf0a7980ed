"""The rank of every kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reducible_train.settings.targets.base import Misfit, ModelNumbers, RankTarget


@dataclass(frozen=True)
class Rank(RankTarget):
    """The rank of every kernel, a whole number.

    Example:
        >>> Rank.misfit(4.5)
        Misfit(wanted='a whole number', advice=' Write 4.')
    """

    quantity: ClassVar[str] = "rank"
    help: ClassVar[str] = "Rank of every compressible kernel, at least 1: a number or a schedule."
    for_layers: ClassVar[bool] = True

    @classmethod
    def misfit(cls, value: float) -> Misfit | None:
        if value < 1:
            advice = " Ranks are whole numbers from 1."
            if value > 0:
                advice += f" For {100 * value:g} % of the parameters use a budget of {value:g}."
            return Misfit("at least 1", advice)
        if not float(value).is_integer():
            return Misfit("a whole number", f" Write {round(value)}.")
        return None

    def rank(self, value: float, stable_rank: float | None) -> float:
        return value

    def present(self, model: ModelNumbers) -> float:
        return model.largest_rank
