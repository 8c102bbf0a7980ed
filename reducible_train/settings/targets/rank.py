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

    def multiple_fault(self, multiple: int, place: str = "") -> str | None:
        """A rank at the end that is none of them; on the way, ranks are rounded down.

        >>> print(Rank(12).multiple_fault(8))
        `rank` must end at a multiple of 8. Received: rank=12 with multiple=8. Write 8 or 16.
        """
        least = int(self.lowest)
        if least % multiple == 0:
            return None
        below = least // multiple * multiple
        ways = [rank for rank in (below, below + multiple) if rank]
        return (
            f"`rank` must end at a multiple of {multiple}. Received: rank={least} with "
            f"multiple={multiple}{place}. Write {' or '.join(map(str, ways))}."
        )

    def rank(self, value: float, own: float | None) -> float:
        return value

    def present(self, model: ModelNumbers) -> float:
        return model.largest_rank
