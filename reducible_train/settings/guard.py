"""The guard: how much a metric may fall, and for how long, before a cut is undone."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from reducible_train.errors import ArgumentError
from reducible_train.settings.base import OneOf, Settings, together
from reducible_train.settings.checks import AMOUNT
from reducible_train.settings.faults import Fault
from reducible_train.settings.fields import Choice, Count, Number, PathName, option
from reducible_train.settings.monitors import (
    METRIC,
    MODE_HELP,
    MODES,
    direction,
    percent_fault,
    percent_fault_of,
)


@dataclass(frozen=True)
class Guard(
    Settings,
    owner="a guard",
    help="Undoes a cut that a metric does not recover from; exactly one of max_drop and limit.",
    one_of=OneOf(("max_drop", "limit"), "For half a point of accuracy write max_drop=0.005."),
):
    """Watches a metric, and has a cut undone that it does not recover from.

    The reference is the best value of the metric at the end of any epoch that ran on ranks
    already accepted, the dense start included. After a cut the metric may lie up to
    `max_drop` below it: `value >= reference - max_drop` (`<= reference + max_drop` for a
    metric that should be small). The first epoch that ends within the bound accepts the
    cut. If none of `patience` epochs does, or training ends before one does, the cut is
    undone: weights, optimizer state, ranks and the position on the schedule are those
    before it, and the next cut goes half as far. After `tries` undone cuts no more are
    made. So the drop is bounded over the whole training, and does not add up from cut to
    cut. The reference knows only what this training has shown: cut after the dense model
    has learned, or give a `limit`, if the bound shall be to its final quality. A loss or
    metric that is NaN or infinite undoes the last cut at once, even if it was accepted.

    A best value is a lucky one, the more so the fewer samples it is of. So of an accuracy
    on `n` validation samples, `band` standard errors are added to `max_drop`, each
    `sqrt(p (1 - p) / n)` where `p` is the reference; the report says how much that is. Left
    out there are none, and `max_drop` is kept to the letter.

    The cuts of one epoch, of which a cadence in steps may make several, are one trial: judged
    and undone together. From the next epoch on no other is made until they are accepted or
    undone, and the schedule's clock stands still; time itself is not undone: epochs, the
    optimizer's `iterations` and the learning rate go on. No cut is made before the metric was
    seen once, nor after an epoch without it. Under a search a cut may lie farther below at first
    and is judged until the end, as `Search` says. Leave out `TerminateOnNaN`: it ends the
    training, though with the cut undone.

    Raises:
        ArgumentError: Unusable values.

    Example:
        >>> Guard("val_accuracy", max_drop=0.005).patience
        2
    """

    monitor: str = option(METRIC, "val_loss", help="The metric to watch, as it stands in the logs.")
    max_drop: float | None = option(
        Number(AMOUNT),
        None,
        help="How far the metric may fall below the reference, its best value on accepted ranks, "
        "in its own unit: 0.005 is half a point of accuracy. Give this or `limit`.",
    )
    limit: float | None = option(
        Number(),
        None,
        help="The worst value that is accepted, whatever the reference: 0.97. No cut is made "
        "before the metric has reached it.",
    )
    patience: int = option(Count(), 2, help="Epochs that a cut has to recover.")
    tries: int | None = option(
        Count(),
        None,
        help="Undone cuts after which no more are made. Left out: 3 along a schedule, where each "
        "halves the step; under a search as many as its epochs have room for.",
    )
    band: float = option(
        Number(AMOUNT),
        0.0,
        help="Standard errors that an accuracy may lie below `max_drop` as well, where the number "
        "of validation samples is known: with one answer a sample, and validation data in arrays. "
        "0 for none; a `limit` has none.",
    )
    mode: str = option(Choice(MODES), "auto", help=MODE_HELP)
    folder: str | os.PathLike[str] | None = option(
        PathName(),
        None,
        help="Where the state before a cut is kept, as much as the weights and the optimizer's "
        "variables; under a search that before each cut until training ends. Left out: in memory.",
    )

    @together("monitor", "max_drop", "mode")
    def _drop_is_no_percentage(self) -> Fault | None:
        return percent_fault_of(self, "max_drop")

    @together("monitor", "limit", "mode")
    def _limit_is_no_percentage(self) -> Fault | None:
        return percent_fault_of(self, "limit")

    @together("folder")
    def _folder_is_none_other(self) -> Fault | None:
        if self.folder is None or not os.path.exists(self.folder) or os.path.isdir(self.folder):
            return None
        return Fault(
            ("folder",),
            f"`folder` must be a folder. Received: folder={os.fspath(self.folder)!r}, "
            "which is a file. Give another, or none to keep states in memory.",
        )


@dataclass(frozen=True)
class Bound:
    """A guard whose direction is known: which values are better, and which good enough.

    Args:
        guard: The guard.
        sign: 1 if the metric should be large, -1 if small.
        samples: Of how many answers, right or wrong, the metric is the mean; `None` if it is not,
            or nobody knows.
        margin: Standard errors of it that are kept back of the drop, half of that at most.

    Example:
        >>> bound = Bound(Guard("val_loss", max_drop=0.1), -1)
        >>> bound.allows(0.55, reference=0.5), bound.allows(0.65, reference=0.5)
        (True, False)
        >>> bound.better(0.4, 0.5)
        0.4
    """

    guard: Guard
    sign: int
    samples: int | None = None
    margin: float = 0.0

    def better(self, one: float, other: float | None) -> float:
        """The better of two values."""
        return one if other is None or self.sign * one > self.sign * other else other

    def worst(self, reference: float, lenience: float = 1.0) -> float:
        """The worst value that is good enough, or so many times as far from the reference.

        A `limit` knows no lenience.
        """
        if self.guard.limit is not None:
            return float(self.guard.limit)
        drop = (self.guard.max_drop or 0.0) + self.band(reference) - self.kept_back(reference)
        return reference - self.sign * lenience * drop

    def room(self, value: float, reference: float, lenience: float = 1.0) -> float:
        """What a value leaves of the way from the reference to the worst; 1 if there is no way.

        Example:
            >>> round(Bound(Guard("val_accuracy", max_drop=0.01), 1).room(0.895, 0.9), 6)
            0.5
        """
        worst = self.worst(reference, lenience)
        way = reference - worst
        return 1.0 if not way else (value - worst) / way

    def band(self, reference: float) -> float:
        """How much of a drop may be luck of the reference; 0 where that is not known.

        Example:
            >>> bound = Bound(Guard("val_accuracy", max_drop=0.01, band=1), 1, samples=100)
            >>> round(bound.band(0.9), 6)
            0.03
        """
        return self.guard.band * self._error(reference)

    def kept_back(self, reference: float) -> float:
        """How much of a drop is not given away, as it may be luck of what is accepted.

        Example:
            >>> bound = Bound(Guard("val_accuracy", max_drop=0.01), 1, samples=10_000, margin=1)
            >>> round(bound.kept_back(0.9), 6), round(bound.worst(0.9), 6)
            (0.003, 0.893)
        """
        return min(self.margin * self._error(reference), 0.5 * (self.guard.max_drop or 0.0))

    def _error(self, reference: float) -> float:
        """The standard error of an accuracy; 0 where that is not known."""
        if self.guard.limit is not None or not self.samples or not 0.0 < reference < 1.0:
            return 0.0
        return math.sqrt(reference * (1.0 - reference) / self.samples)

    def looser(self) -> str:
        """Which settings let more cuts stand, in words.

        Example:
            >>> Bound(Guard("val_accuracy", max_drop=0.01), 1).looser()
            'a larger max_drop than 0.01 or a longer patience than 2 epochs'
            >>> Bound(Guard("val_loss", limit=0.3, patience=1), -1).looser()
            'a higher limit than 0.3 or a longer patience than 1 epoch'
        """
        epochs = "epoch" if self.guard.patience == 1 else "epochs"
        return f"{self.easier()} or a longer patience than {self.guard.patience} {epochs}"

    def easier(self) -> str:
        """Which setting lets worse values pass, in words.

        Example:
            >>> Bound(Guard("val_accuracy", limit=0.9), 1).easier()
            'a lower limit than 0.9'
        """
        if self.guard.limit is None:
            return f"a larger max_drop than {self.guard.max_drop:g}"
        return f"a {'lower' if self.sign > 0 else 'higher'} limit than {self.guard.limit:g}"

    def told_band(self, reference: float) -> str | None:
        """How wide the band is, in a sentence; `None` if there is none."""
        band, guard = self.band(reference), self.guard
        if not band:
            return None
        return (
            f"{self._told_error(reference)}: {band:.2g} was added to "
            f"max_drop={guard.max_drop:g} (band={guard.band:g} standard errors)."
        )

    def told_margin(self, reference: float) -> str | None:
        """How much was kept back, in a sentence; `None` if nothing was."""
        kept, wanted = self.kept_back(reference), self.margin * self._error(reference)
        if not kept:
            return None
        told = (
            f"{self._told_error(reference)}: {kept:.2g} of max_drop={self.guard.max_drop:g} was "
            f"kept back (margin={self.margin:g} standard errors"
        )
        if kept >= wanted:
            return f"{told})."
        enough = math.ceil((self.samples or 0) * (wanted / kept) ** 2)
        return f"{told} are more, {wanted:.2g}; {enough:,} samples would tell so small a drop)."

    def _told_error(self, reference: float) -> str:
        """How well the best value is known, in the words that a sentence begins with."""
        return (
            f"{self.guard.monitor} is of {self.samples:,} samples, so its best value of "
            f"{reference:.6g} is known to {self._error(reference):.2g} at best"
        )

    def allows(self, value: float, reference: float, lenience: float = 1.0) -> bool:
        """True for a value that is good enough, or within so many times the drop."""
        slack = 1e-9 * max(1.0, abs(reference))  # 0.1 - 0.01 is more than 0.09
        return self.sign * (value - self.worst(reference, lenience)) >= -slack


def direction_of(guard: Guard, known: dict[str, str | None]) -> int:
    """1 if the metric of a guard should be large, -1 if small.

    Args:
        guard: The guard.
        known: The metrics that will be in the logs of training, each with `"up"`, `"down"`
            or `None`; empty where they cannot be known.

    Raises:
        ArgumentError: No such metric, nothing is known of its direction, or a drop that it cannot
            have.

    Example:
        >>> direction_of(Guard("val_accuracy", max_drop=0.01), {"loss": "down", "accuracy": "up"})
        1
    """
    name = guard.monitor.removeprefix("val_")
    # With a mode of its own, only a metric that the model logs is known to be a fraction.
    fault = percent_fault("max_drop", guard.max_drop, guard.monitor)
    if name in known and fault is not None:
        raise ArgumentError(f"`max_drop` of a guard {fault}")
    return direction(guard.monitor, guard.mode, known, "a guard")
