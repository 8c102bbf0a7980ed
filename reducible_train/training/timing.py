"""When all that changes ranks has ended, at the latest."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reducible_train.settings.compression import CompressionSettings


@dataclass(frozen=True)
class End:
    """Something that changes ranks, and the epoch at which it has ended, at the latest.

    Args:
        name: What it is, for messages.
        shown: What came.
        epoch: When it ends.
    """

    name: str
    shown: str
    epoch: float


def ends_of(
    settings: CompressionSettings, epochs: int | None, begin: float | None = None
) -> list[End]:
    """All that changes ranks, with when each has ended, at the latest.

    Args:
        settings: What is asked for.
        epochs: Epochs of the training; `None` where nobody knows.
        begin: When cuts began, if an `Adaptive` has let them.
    """
    last = schedule_end(settings, epochs, begin)
    aids = [End(type(aid).__name__, str(aid), aid.rests_from(last)) for aid in settings.aids]
    return [*_falls(settings, epochs, begin), *aids]


def schedule_end(
    settings: CompressionSettings, epochs: int | None, begin: float | None = None
) -> float:
    """The epoch at which everything has fallen, at the latest."""
    return max(each.epoch for each in _falls(settings, epochs, begin))


def final_epoch(
    settings: CompressionSettings, epochs: int | None, begin: float | None = None
) -> float:
    """First epoch, from 0, that runs at the final ranks if no cut is undone."""
    if settings.search is not None:
        return settings.search.last_epoch(epochs)
    end = max(each.epoch for each in ends_of(settings, epochs, begin))
    every = settings.cadence.epochs or 1
    return math.ceil(end / every) * every if math.isfinite(end) else end


def _falls(settings: CompressionSettings, epochs: int | None, begin: float | None) -> list[End]:
    """Every schedule, the model's first."""
    if begin is None:
        begin = 0.0 if settings.adaptive is None else settings.adaptive.last_epoch(epochs)
    targets = [(f"`{settings.target.quantity}`", settings.target)]
    targets += [(f"the rule for {r.match!r}", r.target) for r in settings.rules if r.target]
    return [
        End(f"The schedule of {name}", str(each.schedule), begin + each.schedule.end_epoch)
        for name, each in targets
    ]
