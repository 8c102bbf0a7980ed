"""Where a cut stands to its epoch, in words."""

from __future__ import annotations

BEFORE, WITHIN, EITHER = "before", "in", "before or in"


def when(epoch_step: float | None) -> str:
    """How a cut stands to its epoch, by the steps of it that were done before: a word for texts.

    Example:
        >>> [f"the cut {when(step)} epoch 3" for step in (0, 20, None)]
        ['the cut before epoch 3', 'the cut in epoch 3', 'the cut before or in epoch 3']
    """
    if epoch_step is None:
        return EITHER
    return WITHIN if epoch_step > 0 else BEFORE
