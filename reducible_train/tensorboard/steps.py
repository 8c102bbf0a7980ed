"""Where in its epoch a cut was made."""

from __future__ import annotations

from reducible_train.report.records import Cut


class EpochSteps:
    """Counts the steps of a fit as the rank callback does, from which its cuts have theirs.

    A fit that goes on from a backup goes on counting, from a number that is not known here: of
    one that does not begin with epoch 0, as of a loop that tells of no steps, nothing is said.
    """

    def __init__(self) -> None:
        self._epoch: int | None = None
        self._is_whole = False  # counted from the first step on
        self._start = self._done = 0

    def begin_epoch(self, epoch: int) -> None:
        """An epoch begins."""
        if self._epoch is None:
            self._is_whole = epoch == 0
        self._epoch, self._start = epoch, self._done

    def end_step(self, batch: int) -> None:
        """Batches up to this one of the epoch were trained on."""
        self._done = self._start + batch + 1

    def before(self, cut: Cut) -> int | None:
        """Steps of its epoch, which is over, that were done before a cut; `None` if not known.

        Example:
            >>> steps = EpochSteps()
            >>> for epoch in range(2):
            ...     steps.begin_epoch(epoch)
            ...     steps.end_step(9)
            >>> [steps.before(Cut(1, step, "rank", 8, (), 0, 0, {})) for step in (10, 14, 40)]
            [0, 4, None]
        """
        steps = cut.step - self._start
        known = self._is_whole and cut.epoch == self._epoch
        return steps if known and 0 <= steps < self._done - self._start else None
