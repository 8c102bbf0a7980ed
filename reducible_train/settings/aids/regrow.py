"""Kernels grow a little between cuts, towards what the loss asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reducible_train.settings.aids.base import Aid, AidContext
from reducible_train.settings.base import together
from reducible_train.settings.checks import AMOUNT, PART
from reducible_train.settings.faults import Fault
from reducible_train.settings.fields import Number, option


@dataclass(frozen=True)
class Regrow(
    Aid,
    help="Before an epoch, each factorised kernel gets some directions more; the next cut decides.",
):
    """Before an epoch, each factorised kernel gets some directions more; the next cut decides.

    The new ones are those of the gradient `G` of the loss by the whole kernel `W = U V` that
    training of `U` and `V` cannot reach,

        (1 - P) G (1 - Q) = sum s_i x_i y_i^T,   U <- [U, c x_1 ... c x_k],   V <- [V; 0]

    with `P` the projection on the columns of `U`, `Q` that on the rows of `V`, and `c` the mean
    length of a column of `U`. The model computes the same as before; in the epoch that follows
    the new directions can earn their place, and the cut after it, to what the schedule asks for,
    takes those that are worth least, new or old, of whatever kernel. So ranks may move from kernel
    to kernel at one size of the model. In the epochs between it is larger than the schedule says.
    Each of them costs a growth and a cut, each of which has the training step traced anew; with
    `Rewarm`, each of these cuts has the learning rate climb again.

    It needs samples with targets, `calibration=(x, y)` or those of the fit, whose loss is the
    compiled one, on one device; and a schedule that says what to cut back to, so a budget, a cost
    or a rank, without guard and search. A training that is stopped in between is cut
    back at its end.

    Measured by `benchmarks/aids.py`, five seeds, fraction 0.1: no difference at 66 and 82 % fewer
    parameters (-0.03 and 0.01 points), nor one beyond the spread at 90 % (0.18 +- 0.36 gained).

    Raises:
        ArgumentError: A value out of range.

    Example:
        >>> Regrow(0.1, end_epoch=12)
        Regrow(fraction=0.1, start_epoch=0.0, end_epoch=12)

    Reference: that part of the gradient is the normal one of Gao and Absil, *A Riemannian
    rank-adaptive method for low-rank matrix completion*, 2022; to drop and to grow in turns is how
    Evci et al. train sparse networks, *Rigging the lottery*, ICML 2020.
    """

    kind = "regrow"
    looks_ahead = True
    resumes = False
    needs = ("gradients",)

    fraction: float = option(
        Number(PART),
        0.1,
        help="Directions that come in, as a fraction of a kernel's rank, in (0, 1), rounded; one "
        "at least. No kernel grows beyond the rank at which it saves nothing.",
    )
    start_epoch: float = option(
        Number(AMOUNT), 0.0, help="The first epoch before which kernels may grow."
    )
    end_epoch: float | None = option(
        Number(AMOUNT),
        None,
        help="From this epoch on, none does. Left out: when the last of all schedules has ended; "
        "to go on at the final ranks give a later one, at most the last epoch of the training. "
        "Epochs count from the start of the training.",
    )

    @together("start_epoch", "end_epoch")
    def _span(self) -> Fault | None:
        if self.end_epoch is None or self.end_epoch > self.start_epoch:
            return None
        return Fault(
            ("end_epoch",),
            "`end_epoch` must be later than `start_epoch`. "
            f"Received: start_epoch={self.start_epoch!r}, end_epoch={self.end_epoch!r}.",
        )

    def rests_from(self, schedule_end: float) -> float:
        return self._end(schedule_end)

    def idle_fault(
        self, schedule_end: float, falls_within: Callable[[float], bool]
    ) -> Fault | None:
        if self._end(schedule_end) > self.start_epoch:
            return None
        return Fault(
            (),
            "Regrow would do nothing: without an `end_epoch` it ends with the schedule, at "
            f"epoch {schedule_end:g}, and it begins at epoch {self.start_epoch:g}. Received: "
            f"{self}. Give an `end_epoch`, at most the last epoch of the training.",
        )

    def before_epoch(self, training: AidContext) -> None:
        if self.start_epoch <= training.time < self._end(training.schedule_end):
            training.regrow(self.fraction)

    def _end(self, schedule_end: float) -> float:
        return schedule_end if self.end_epoch is None else self.end_epoch
