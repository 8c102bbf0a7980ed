"""A search for the smallest model that a guard lets pass, in place of a schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reducible_train.settings.base import Settings, span_fault, together
from reducible_train.settings.checks import AMOUNT, PART
from reducible_train.settings.faults import Fault
from reducible_train.settings.fields import EpochNumber, Number, option
from reducible_train.settings.targets import Budget, Target

MARGIN = 0.5  # standard errors kept back by default
UNTOLD = 2  # the first epoch, where nobody says how many there are


@dataclass(frozen=True)
class _Lowest(Budget):
    """The lowest budget of a search, in place of one that was given."""

    @property
    def given_as(self) -> str:
        return "search.lowest"


@dataclass(frozen=True)
class Search(Settings, owner="a search", help="Steps the budget down as far as the guard allows."):
    """Steps the budget down during one fit, as far as the guard allows.

    Use it instead of a budget when what is known is the accuracy, not the size. From
    `start_epoch` on, each turn of the cadence tries a budget below `b`, the smallest accepted
    so far: the first time one that is foreseen to lose a thousandth of all that can be lost,
    or `0.7 b` if that is less; then one that is foreseen to lose twice the most that an
    accepted one was. With a `factor` it is `b * factor` each time. What is foreseen is the
    objective that the allocation makes least, as the criterion tells it of the model as it is.

    When the guard undoes a cut to `c`, the next loses the geometric mean of what was good and
    what was too much, and does not go below `sqrt(b c)`: the search bisects on a logarithmic
    scale, in the loss and in the budget. As training goes on, what failed may pass: after a
    quarter of the epochs from start to end (2 at least) `c` counts no more. No cut is tried
    while `b` and `c` are within 2 %, nor while the metric leaves less than a quarter of the
    drop that the guard allows: a best value that is never renewed as the learning rate falls would
    let the model stay that much behind. It ends at `lowest`, at `end_epoch`, or after as many
    undone cuts as the guard's `tries` says, if it does; the rest of the training goes on at
    the smallest accepted budget.

    While the learning rate has still to fall, a cut may lie farther below than the guard's drop:
    twice as far when the search begins, once from when half of the epochs after `end_epoch` are
    over, on a straight line between (once throughout, where nobody says how long the training
    is). So each is judged until the end, and undone if it is beyond the line for the guard's
    `patience` epochs in a row; then the one before it is judged. When the training ends, cuts are
    undone until the last value that the model had is within the guard's drop, be it of the last
    epoch or of before an undone cut; the report tells of each.

    A search that looks often at the same validation samples is lucky sooner or later. So of
    the drop that the guard allows, `margin` standard errors `sqrt(p (1 - p) / n)` are kept
    back, where an accuracy `p` is of `n` validation samples, but never more than half of it.
    That is the error of the difference of two networks whose mistakes on these samples are
    correlated by a half, as those of a network and of its compressed self are; with `b` and
    `c` samples that one of both alone gets right, it is `sqrt(b + c) / n` (McNemar, 1947). The
    best of `k` equally good networks would be lucky by up to `sqrt(2 ln k)` of them; of budgets
    that are each worse than the one before, what a search accepts is by less than half of one.

    Raises:
        ArgumentError: Unusable values.

    Example:
        >>> search = Search(start_epoch=3)
        >>> search.last_epoch(epochs=20)
        15

    Reference: the error of a difference of accuracies on the same samples is that of McNemar,
    *Note on the sampling error of the difference between correlated proportions*, 1947.
    """

    factor: float | None = option(
        Number(PART, "For steps of 30 % write 0.7."),
        None,
        help="What a step multiplies the budget by, in (0, 1). Left out: what a cut is foreseen to "
        "lose tells how far it goes.",
    )
    start_epoch: int | None = option(
        EpochNumber(),
        None,
        help="First epoch, from 0, before which a cut may be made; dense until then. The guard "
        "compares with the best that the training has shown: begin late enough for the dense "
        "model to have learned, and at 1 with a model that was trained beforehand. Left out: "
        "half of the training, or 2 where nobody says how long that is.",
    )
    end_epoch: int | None = option(
        EpochNumber(),
        None,
        help="Last epoch before which a cut may be made, so that epochs are left to recover. "
        "Left out: three quarters of the training.",
    )
    lowest: float | None = option(
        Number(PART, "For a tenth of it write 0.1; 1 is the dense model, with nothing to try."),
        None,
        help="Budget below which it does not go, in (0, 1). Left out: the smallest that ranks of 1 "
        "and the rules for single layers allow.",
    )
    margin: float = option(
        Number(AMOUNT),
        MARGIN,
        help="Standard errors of an accuracy, known from the number of validation samples, that "
        "are kept back of the guard's drop, half of it at most. 0 for none.",
    )

    @together("start_epoch", "end_epoch")
    def _span(self) -> Fault | None:
        return None if self.start_epoch is None else span_fault(self)

    @property
    def target(self) -> Target:
        """The budget that must be possible for it."""
        return _Lowest(1.0 if self.lowest is None else self.lowest)  # type: ignore[arg-type]

    def first_epoch(self, epochs: int | None) -> int:
        """The first epoch before which a cut may be made, in a training of `epochs` epochs."""
        if self.start_epoch is not None:
            return self.start_epoch
        half = UNTOLD if epochs is None else epochs // 2
        return half if self.end_epoch is None else min(half, self.end_epoch)

    def last_epoch(self, epochs: int | None) -> float:
        """The last epoch before which a cut may be made, in a training of `epochs` epochs."""
        if self.end_epoch is not None:
            return self.end_epoch
        return math.inf if epochs is None else max(3 * epochs // 4, self.first_epoch(epochs))

    def least_epochs(self, last: int) -> int:
        """The shortest training whose last cut may be made so late; `last_epoch` turned round."""
        return -(-4 * last // 3)

    def memory(self, epochs: int | None) -> float:
        """Epochs for which an undone budget is out of the question; one is tried anew after."""
        span = self.last_epoch(epochs) - self.first_epoch(epochs)
        return math.inf if math.isinf(span) else max(2.0, span / 4)

    def time_fault(self, epochs: int) -> Fault | None:
        """A training that is over before it can begin, or before its last cut could be judged."""
        last = self.last_epoch(epochs)
        if last <= epochs - 1:
            return None
        return Fault(
            ("start_epoch" if self.end_epoch is None else "end_epoch",),
            f"A search must end before training does: at epoch {epochs - 1} at the latest, "
            f"counted from 0. Received: {self} and epochs={epochs}. Train for "
            f"epochs={int(last) + 1} or more, or let it end earlier.",
        )
