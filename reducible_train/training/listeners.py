"""The callbacks of a fit that are told at once when its ranks have changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reducible_train.training.no_model import NoModel
from reducible_train.training.rank_control import RankControl


class Listeners:
    """Those of the callbacks that have a method `ranks_changed`, of a report.

    Args:
        callbacks: All callbacks of the fit.
    """

    def __init__(self, callbacks: Sequence[Any]):
        self._callbacks = [each for each in callbacks if hasattr(each, "ranks_changed")]
        self._seen = (0, 0)

    def look(self, control: RankControl | NoModel) -> None:
        """Tell them if a cut was made or undone since the last look."""
        if not self._callbacks or isinstance(control, NoModel):
            return
        seen = (len(control.compression.history.cuts), len(control.guard.undone))
        if seen == self._seen:
            return
        self._seen = seen
        report = control.report(None)
        for each in self._callbacks if report is not None else ():
            each.ranks_changed(report)

    def skip(self, control: RankControl | NoModel) -> None:
        """What was done up to now, in another fit, was told there."""
        if not isinstance(control, NoModel):
            self._seen = (len(control.compression.history.cuts), len(control.guard.undone))
