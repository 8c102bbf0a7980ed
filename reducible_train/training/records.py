"""Tells a function of the user's each cut and each epoch: the way to any tracker of experiments."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeAlias

import keras

from reducible_train.errors import ArgumentError, ArgumentTypeError
from reducible_train.report.records import Cut, Report
from reducible_train.report.scalars import Scalars, cut_scalars, epoch_scalars, undone_scalars
from reducible_train.training.other_callbacks import check_place, check_scheduler
from reducible_train.training.rank_scheduler import RankScheduler

Sink: TypeAlias = Callable[[Scalars], Any]


class RankRecords(keras.callbacks.Callback):
    """Gives each cut and each epoch to a function, as a flat dictionary of numbers.

    Put it after the `RankScheduler`, and after what adds metrics to the logs. What a function
    raises ends the fit.

    A record of a cut has `epoch` and `step`, `undone` (0), `target`, `params_before`, `params`,
    `params_fraction`, and as far as they are known `output_error` of the model,
    `loss_before_cut`, `loss_after_cut` (and each metric), and of each kernel it cut
    `rank/<layer>`, `energy/<layer>` (kept by this cut alone), `output_error/<layer>`. It comes
    at once. When a guard undoes a cut, another record has `undone` 1, `epoch` and `cut_epoch`,
    the `value` of the metric and the `worst` that would have been accepted, and sizes and ranks
    after it. A record of an epoch has its logs, `params`, `params_fraction`, `flops_fraction`,
    and `rank/<layer>` of every kernel that can be cut, as they were while it ran.

    Args:
        scheduler: The `RankScheduler` of the same fit.
        on_cut: Called with the record of each cut, and of each that was undone.
        on_epoch: Called with the record of each epoch, at its end.

    Raises:
        ArgumentTypeError: `scheduler` is something else, or a function cannot be called.
        ArgumentError: No function is given; or, when `fit` begins, the scheduler does not take
            part in it.

    Example:
        >>> from reducible_train import RankScheduler
        >>> scheduler = RankScheduler(0.25)
        >>> records = RankRecords(scheduler, on_cut=print, on_epoch=print)
        >>> # model.fit(x, y, callbacks=[scheduler, records])
    """

    def __init__(
        self,
        scheduler: RankScheduler,
        on_cut: Sink | None = None,
        on_epoch: Sink | None = None,
    ):
        super().__init__()
        check_scheduler(scheduler, RankScheduler, type(self).__name__)
        for name, sink in (("on_cut", on_cut), ("on_epoch", on_epoch)):
            if sink is not None and not callable(sink):
                raise ArgumentTypeError(
                    f"`{name}` must be a function of one dictionary. Received: {sink!r}. "
                    f"Write for example {name}=print."
                )
        if on_cut is None and on_epoch is None:
            raise ArgumentError(
                "RankRecords takes `on_cut`, `on_epoch` or both. Received: neither. "
                "Write for example on_cut=print."
            )
        self.scheduler = scheduler
        self.on_cut = on_cut
        self.on_epoch = on_epoch
        self._cuts: tuple[Cut, ...] | None = None  # already told; `None` before the first epoch
        self._undone = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> RankRecords:
        """A copy is in no fit yet; it calls the same functions."""
        scheduler = copy.deepcopy(self.scheduler, memo)
        return type(self)(scheduler, self.on_cut, self.on_epoch)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        check_place(self, self.scheduler)
        self._cuts, self._undone = None, 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._cuts is None:
            report = self._report()
            cuts = () if report is None else report.cuts
            self._cuts = tuple(cut for cut in cuts if cut.epoch < epoch)  # of a fit taken up again

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        report = self._report()
        if report is None:
            return
        self.ranks_changed(report)
        if self.on_epoch is not None:
            self.on_epoch(epoch_scalars(epoch, logs or {}, report))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        report = self._report()
        if report is not None:  # a cut may have been undone with the last epoch
            self.ranks_changed(report)

    def ranks_changed(self, report: Report) -> None:
        """Tell what has changed since the last look; the scheduler calls it at each change."""
        made = [cut for cut in report.cuts if not any(cut is old for old in self._cuts or ())]
        undone = report.undone[self._undone :]
        self._cuts, self._undone = report.cuts, len(report.undone)
        if self.on_cut is not None:
            for cut in made:
                self.on_cut(cut_scalars(cut, report))
            for each in undone:
                self.on_cut(undone_scalars(each, report))

    def _report(self) -> Report | None:
        """What there is to tell; nothing while no step has given the model its weights."""
        try:
            return self.scheduler.report
        except ArgumentError:
            return None
