"""The guard: how much a metric may fall, and for how long, before a cut is undone."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from reducible_train.errors import ArgumentError, ArgumentTypeError
from reducible_train.settings.checks import (
    AMOUNT,
    ANY,
    is_number,
    percent_advice,
    settle_counts,
    settle_numbers,
)
from reducible_train.settings.monitors import MODES, direction

# Names of metrics that lie between 0 and 1, Keras's and those that people use.
_FRACTION = re.compile(
    r"(^|_)(acc|accuracy|auc|precision|recall|sensitivity|specificity|io_?u|f1|f1_score|"
    r"fbeta_score|dice|top_?\d+)(_|$)"
)


@dataclass(frozen=True)
class Guard:
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

    While a cut is on trial no other is made, and the schedule's clock stands still; time
    itself is not undone: epochs, the optimizer's `iterations` and the learning rate go on.
    No cut is made before the metric was seen once, nor after an epoch without it.
    Leave out `TerminateOnNaN`: it ends the training, though with the cut undone.

    Args:
        monitor: A metric of the logs, such as `"val_accuracy"`.
        max_drop: How far it may fall below the reference, in its own unit, at least 0;
            0.005 is half a point of an accuracy. Give this or `limit`.
        limit: The worst value that is accepted, whatever the reference: 0.97. No cut is
            made before the metric has reached it.
        patience: Epochs a cut has to recover, at least 1.
        tries: Undone cuts after which no more are made, at least 1.
        mode: `"max"` or `"min"`, whether the metric should be large or small; `"auto"`
            asks Keras, which knows its own metrics. With `"auto"` the metric must be one
            the model is compiled with; otherwise it may come from another callback, which
            must stand before the `RankScheduler`.
        folder: Where the state before a cut is kept; in memory if not given. It takes as
            much as the weights and the optimizer's variables do.

    Raises:
        ArgumentError: Unusable values.

    Example:
        >>> Guard("val_accuracy", max_drop=0.005).patience
        2
    """

    monitor: str = "val_loss"
    max_drop: float | None = None
    limit: float | None = None
    patience: int = 2
    tries: int = 3
    mode: str = "auto"
    folder: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.monitor, str) or not self.monitor:
            raise ArgumentTypeError(
                "`monitor` must be the name of a metric. "
                f"Received: monitor={self.monitor!r}. Write for example 'val_accuracy'."
            )
        bounds = [name for name in ("max_drop", "limit") if getattr(self, name) is not None]
        if len(bounds) != 1:
            raise ArgumentError(
                "A guard needs either `max_drop` or `limit`. Received: "
                f"max_drop={self.max_drop!r}, limit={self.limit!r}. For half a point of accuracy "
                "write max_drop=0.005."
            )
        settle_numbers(self, "a guard", max_drop=AMOUNT, limit=ANY)
        settle_counts(self, "a guard", "patience", "tries")
        fault = percent_fault("max_drop", self.max_drop, self.monitor)
        if self.mode == "auto" and fault is not None:
            raise ArgumentError(f"`max_drop` of a guard {fault}")
        if self.mode not in MODES:
            raise ArgumentError(
                f"`mode` must be one of {', '.join(map(repr, MODES))}. "
                f"Received: mode={self.mode!r}."
            )
        if self.folder is not None:
            if not isinstance(self.folder, str | os.PathLike):
                raise ArgumentTypeError(
                    f"`folder` must be a path. Received: folder={self.folder!r}."
                )
            if Path(self.folder).exists() and not Path(self.folder).is_dir():
                raise ArgumentError(
                    f"`folder` must be a folder. Received: folder={os.fspath(self.folder)!r}, "
                    "which is a file. Give another, or none to keep states in memory."
                )


def percent_fault(name: str, value: object, monitor: str) -> str | None:
    """What is wrong with a bound on a metric that lies between 0 and 1, or `None`.

    Args:
        name: `"max_drop"`, `"min_delta"` (distances, below 1) or another (a value, at most 1).
        value: What came.
        monitor: The metric.

    >>> percent_fault("max_drop", 5, "val_accuracy")
    "must be below 1 where the metric is a fraction. Received: max_drop=5 for 'val_accuracy'. \
For 5 % write 0.05."
    >>> percent_fault("max_drop", 5, "val_loss")
    """
    if not is_number(value) or "loss" in monitor or not _FRACTION.search(monitor.lower()):
        return None
    distance = name in ("max_drop", "min_delta")
    if value < 1 or (value == 1 and not distance):
        return None
    wanted = "below 1" if distance else "at most 1"
    return (
        f"must be {wanted} where the metric is a fraction. Received: {name}={value!r} for "
        f"{monitor!r}.{percent_advice(value)}"
    )


@dataclass(frozen=True)
class Bound:
    """A guard whose direction is known: which values are better, and which good enough.

    Args:
        guard: The guard.
        sign: 1 if the metric should be large, -1 if small.

    Example:
        >>> bound = Bound(Guard("val_loss", max_drop=0.1), -1)
        >>> bound.allows(0.55, reference=0.5), bound.allows(0.65, reference=0.5)
        (True, False)
        >>> bound.better(0.4, 0.5)
        0.4
    """

    guard: Guard
    sign: int

    def better(self, one: float, other: float | None) -> float:
        """The better of two values."""
        return one if other is None or self.sign * one > self.sign * other else other

    def worst(self, reference: float) -> float:
        """The worst value that is good enough."""
        if self.guard.limit is not None:
            return float(self.guard.limit)
        return reference - self.sign * (self.guard.max_drop or 0.0)

    def allows(self, value: float, reference: float) -> bool:
        """True for a value that is good enough."""
        slack = 1e-9 * max(1.0, abs(reference))  # 0.1 - 0.01 is more than 0.09
        return self.sign * (value - self.worst(reference)) >= -slack


def direction_of(guard: Guard, known: dict[str, str | None]) -> int:
    """1 if the metric of a guard should be large, -1 if small.

    Args:
        guard: The guard.
        known: The metrics that will be in the logs of training, each with `"up"`, `"down"`
            or `None`; empty where they cannot be known.

    Raises:
        ArgumentError: No such metric, nothing is known of its direction, or a limit that it
            cannot reach.

    Example:
        >>> direction_of(Guard("val_accuracy", max_drop=0.01), {"loss": "down", "accuracy": "up"})
        1
    """
    name = guard.monitor.removeprefix("val_")
    auto = guard.mode == "auto"  # else a callback's own scale may stand in for the model's
    for bound, judged in (("max_drop", auto or name in known), ("limit", auto)):
        fault = percent_fault(bound, getattr(guard, bound), guard.monitor)
        if judged and fault is not None:
            raise ArgumentError(f"`{bound}` of a guard {fault}")
    return direction(guard.monitor, guard.mode, known, "a guard")
