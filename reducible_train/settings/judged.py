"""Which cuts of a training can be judged that does not validate after each epoch."""

from __future__ import annotations

from typing import Protocol

from reducible_train.settings.timing import Timed, first_look, first_turn


class Epochs(Protocol):
    """Some epochs of a training, counted from 0."""

    def __contains__(self, epoch: int, /) -> bool: ...


def last_judged(settings: Timed, epochs: range, shown: Epochs) -> int | None:
    """The last epoch before which a guard can make a cut that can stay; `None` if there is none.

    One makes cuts only after an epoch that has shown its metric, and another must show it later.
    With a cadence in steps, cuts are made within that epoch as well.

    Args:
        settings: What is asked for, with a guard.
        epochs: All epochs of the training.
        shown: Those that show the metric.

    Example:
        >>> from reducible_train import Guard, RankScheduler
        >>> asked = RankScheduler(0.5, guard=Guard("val_loss", max_drop=0.1)).settings
        >>> last_judged(asked, range(8), shown=[3, 7]), last_judged(asked, range(6), shown=[3])
        (4, None)
    """
    judging = next((epoch for epoch in reversed(epochs) if epoch in shown), epochs.start)
    first, last = first_turn(settings, epochs.stop, epochs.start), float(judging)
    if settings.search is not None:
        last = min(last, settings.search.last_epoch(epochs.stop))
    if settings.adaptive is not None:
        first = max(first, settings.adaptive.start_epoch)
    turns = (turn for turn in range(int(last), first - 1, -1) if turn - 1 in shown)
    return next((turn for turn in turns if first_look(settings, turn) == turn), None)


def validated_always(rhythm: object) -> str:
    """What has each epoch of a fit validated, in words; `rhythm` says why not each is."""
    return f"leave out {rhythm}, and each epoch is validated"
