"""One look at a model that answers for several budgets."""

from __future__ import annotations

from dataclasses import dataclass

from reducible_train.compressor.history import History
from reducible_train.selection.scoring import DirectionScorer


@dataclass(frozen=True, eq=False)
class Outlook:
    """What is known of a model at a time, until it is trained or cut.

    Args:
        time: When it was looked at, in epochs.
        history: What had been done to it by then.
        scorer: What the directions of its kernels are worth.
    """

    time: float
    history: History
    scorer: DirectionScorer

    def holds(self, time: float, history: History) -> bool:
        """True while the model is as it was."""
        return self.time == time and self.history is history
