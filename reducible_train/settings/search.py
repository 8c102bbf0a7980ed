"""A search for the smallest model that a guard lets pass, in place of a schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reducible_train.errors import ArgumentError
from reducible_train.settings.checks import (
    FRACTION,
    PART,
    checked_number,
    settle,
    settle_numbers,
    settle_span,
)
from reducible_train.settings.targets import Target, target


@dataclass(frozen=True)
class Search:
    """Steps the budget down during one fit, as far as the guard allows.

    Use it instead of a budget when what is known is the accuracy, not the size. From
    `start_epoch` on, each turn of the cadence tries the budget `b * factor`, `b` being the
    smallest accepted so far. When the guard undoes a cut to `c`, the next goes to
    `sqrt(b c)`, so that the search bisects on a logarithmic scale. It ends when the guard
    has had enough tries, when `b` and `c` are within 2 %, at `lowest`, or at `end_epoch`;
    the rest of the training goes on at the smallest accepted budget.

    Args:
        factor: What a step multiplies the budget by, in (0, 1).
        start_epoch: First epoch (from 0) before which a cut may be made; dense until then. The
            guard compares with the best the training has shown: begin late enough for the
            dense model to have learned.
        end_epoch: Last epoch before which one may be made, so that epochs are left to
            recover; three quarters of the training if not given.
        lowest: Budget below which it does not go, in (0, 1]; if not given, the smallest
            that ranks of 1 and the rules for single layers allow.

    Raises:
        ArgumentError: Unusable values.

    Example:
        >>> Search(factor=0.5, start_epoch=3)
        Search(factor=0.5, start_epoch=3, end_epoch=None, lowest=None)
    """

    factor: float = 0.7
    start_epoch: int = 2
    end_epoch: int | None = None
    lowest: float | None = None

    def __post_init__(self) -> None:
        told = "For steps of 30 % write 0.7."
        settle(self, factor=checked_number("factor", self.factor, PART, "a search", told))
        settle_numbers(self, "a search", lowest=FRACTION)
        settle_span(self, "a search")

    @property
    def target(self) -> Target:
        """The budget that must be possible for it."""
        return target("budget", 1.0 if self.lowest is None else self.lowest)

    def last_epoch(self, epochs: int | None) -> float:
        """The last epoch before which a cut may be made, in a training of `epochs` epochs.

        Raises:
            ArgumentError: The training is over before the search can begin, or before its
                last cut could be judged.
        """
        last: float = math.inf if epochs is None else max(3 * epochs // 4, self.start_epoch)
        last = last if self.end_epoch is None else self.end_epoch
        if epochs is not None and last > epochs - 1:
            raise ArgumentError(
                f"A search must end before training does: at epoch {epochs - 1} at the latest, "
                f"counted from 0. Received: {self} and epochs={epochs}. Train for "
                f"epochs={int(last) + 1} or more, or let it end earlier."
            )
        return last
