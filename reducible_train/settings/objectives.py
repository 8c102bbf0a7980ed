"""What a search over many trainings shall make best: one number of what each of them has shown.

A limit is met by the feasibility rules of Deb, *An efficient constraint handling method for genetic
algorithms*, 2000: among trials that keep the limit the better is the one that is better; each
of them is better than all that break it; among these the better breaks it by less. They are put
into one number, so that any engine that compares numbers follows them: sizes lie in (0, 1], so what
breaks a limit counts as 1 and how far it breaks it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from reducible_train.errors import ArgumentError
from reducible_train.settings.base import OneOf, Settings, together
from reducible_train.settings.checks import AMOUNT, FRACTION
from reducible_train.settings.faults import Fault
from reducible_train.settings.fields import Choice, Number, option
from reducible_train.settings.monitors import (
    METRIC,
    MODE_HELP,
    MODES,
    drop_fault,
    percent_fault_of,
)

# Measure -> the metric of a trial that is the fraction of the dense model's.
SIZES: Mapping[str, str] = {
    "parameters": "params_fraction",
    "bytes": "bytes_fraction",
    "flops": "flops_fraction",
    "file": "file_fraction",
}
_MEASURE = option(
    Choice(tuple(SIZES), "Seconds are a metric of each trial, `latency`."),
    "parameters",
    help='What the size counts: `"parameters"`, `"bytes"`, `"flops"` or `"file"`, as a fraction '
    "of the dense model's.",
)
_METRIC_HELP = "The metric of the logs that tells the quality."


class SearchObjective(ABC):
    """One number that a search makes best, from the metrics of a trial.

    Attributes:
        name: What it is called among the metrics of a trial.
        monitor: The metric of the logs that tells the quality.
        mode: Whether that should be large or small.
        measure: What the size counts.
    """

    name: ClassVar[str]
    monitor: str
    mode: str
    measure: str

    @abstractmethod
    def direction(self, sign: int) -> str:
        """`"max"` or `"min"`.

        Args:
            sign: 1 if the quality should be large, -1 if small.
        """

    @abstractmethod
    def value(self, logs: Mapping[str, float], sign: int, dense: float | None = None) -> float:
        """The number.

        Args:
            logs: The metrics of a trial.
            sign: 1 if the quality should be large, -1 if small.
            dense: The quality of the dense start, where the objective `needs_dense`.
        """

    @property
    def needs_dense(self) -> bool:
        """True if the quality of the dense start must be known."""
        return False

    def dense_fault(self, dense: float) -> str | None:
        """What is wrong with the quality of the dense start, of which no model can be short."""
        return None

    @property
    def size_name(self) -> str:
        """The metric of a trial that is its size."""
        return SIZES[self.measure]


@dataclass(frozen=True)
class SizeAtQuality(
    SearchObjective,
    Settings,
    owner="SizeAtQuality",
    help="The smallest model whose quality is good enough.",
    one_of=OneOf(("limit", "max_drop"), "Write for example max_drop=0.003."),
):
    """The smallest model whose quality is good enough.

    Its value is the size, a fraction in (0, 1], of a trial that is good enough; of any other, 1
    and how far its quality is behind what was asked, which is always more.

    Raises:
        ArgumentError: Unusable values, or not exactly one of `limit` and `max_drop`.

    Example:
        >>> goal = SizeAtQuality("val_accuracy", limit=0.97)
        >>> goal.value({"val_accuracy": 0.98, "params_fraction": 0.2}, sign=1)
        0.2
        >>> round(goal.value({"val_accuracy": 0.95, "params_fraction": 0.1}, sign=1), 2)
        1.02

    Reference: Deb, *An efficient constraint handling method for genetic algorithms*, Computer
    Methods in Applied Mechanics and Engineering 186, 2000.
    """

    name: ClassVar[str] = "size_at_quality"
    monitor: str = option(METRIC, "val_accuracy", help=_METRIC_HELP)
    limit: float | None = option(
        Number(), None, help="The worst quality that is good enough, as the metric counts it."
    )
    max_drop: float | None = option(
        Number(AMOUNT),
        None,
        help="The same, as what it may be worse than the dense start on the validation data; that "
        "is measured before the first trial.",
    )
    mode: str = option(Choice(MODES), "auto", help=MODE_HELP)
    measure: str = _MEASURE

    @together("monitor", "limit", "mode")
    def _limit_is_no_percentage(self) -> Fault | None:
        return None if self.limit is None else percent_fault_of(self, "limit")

    @together("monitor", "max_drop", "mode")
    def _drop_is_no_percentage(self) -> Fault | None:
        return None if self.max_drop is None else percent_fault_of(self, "max_drop")

    @property
    def needs_dense(self) -> bool:
        return self.max_drop is not None

    def direction(self, sign: int) -> str:
        return "min"

    def bound(self, sign: int, dense: float | None = None) -> float:
        """The worst quality that is good enough.

        Args:
            sign: 1 if the quality should be large, -1 if small.
            dense: The quality of the dense start, where the objective `needs_dense`.

        Raises:
            ArgumentError: That is not known.
        """
        if self.max_drop is None:
            return float(self.limit or 0.0)
        if dense is None:
            raise ArgumentError(
                "`max_drop` needs the quality of the dense start. Received: dense=None. Give "
                f"`limit` in its place, the worst {self.monitor} that is good enough."
            )
        return dense - sign * self.max_drop

    def dense_fault(self, dense: float) -> str | None:
        fault = drop_fault(self.monitor, self.mode, dense)
        if self.max_drop is None or fault is None:
            return None
        return (
            "`max_drop` must leave a quality that a trial can miss. Received: "
            f"max_drop={self.max_drop:g}, but {fault}"
        )

    def value(self, logs: Mapping[str, float], sign: int, dense: float | None = None) -> float:
        behind = sign * (self.bound(sign, dense) - logs[self.monitor])
        size = float(logs[self.size_name])
        if math.isnan(behind):
            return math.nan
        return min(size, 1.0) if behind <= _ROUNDING else 1.0 + behind


@dataclass(frozen=True)
class QualityAtSize(
    SearchObjective,
    Settings,
    owner="QualityAtSize",
    help="The best model that is small enough.",
):
    """The best model that is small enough.

    Its value is the quality of a trial that is small enough. Beyond `worst` qualities keep their
    order, but are drawn together into one unit, in which each stays better than any trial that is
    too large: the value of such a one lies beyond that unit by what its size is above the limit.

    Raises:
        ArgumentError: Unusable values.

    Example:
        >>> goal = QualityAtSize("val_accuracy", limit=0.25)
        >>> goal.value({"val_accuracy": 0.9, "params_fraction": 0.2}, sign=1)
        0.9
        >>> round(goal.value({"val_accuracy": 0.99, "params_fraction": 0.3}, sign=1), 2)
        -1.05

    Reference: Deb, *An efficient constraint handling method for genetic algorithms*, Computer
    Methods in Applied Mechanics and Engineering 186, 2000.
    """

    name: ClassVar[str] = "quality_at_size"
    monitor: str = option(METRIC, help=_METRIC_HELP)
    limit: float = option(
        Number(FRACTION), help="The largest size, a fraction of the dense model's, in (0, 1]."
    )
    worst: float | None = option(
        Number(),
        None,
        help="The worst quality that counts as it is; what is worse counts by its order alone. "
        "Left out: 0 where it should be large, 10 where it should be small.",
    )
    mode: str = option(Choice(MODES), "auto", help=MODE_HELP)
    measure: str = _MEASURE

    def direction(self, sign: int) -> str:
        return "max" if sign > 0 else "min"

    def value(self, logs: Mapping[str, float], sign: int, dense: float | None = None) -> float:
        worst = self.worst if self.worst is not None else (0.0 if sign > 0 else 10.0)
        above = logs[self.size_name] - self.limit
        quality = float(logs[self.monitor])
        if math.isnan(quality):
            return math.nan
        if above > _ROUNDING:
            return worst - sign * (1.0 + above)
        behind = sign * (worst - quality)
        return quality if behind <= 0 else worst - sign * _within_one(behind)


def _within_one(distance: float) -> float:
    """A distance in [0, 1], in the same order: by its logarithm, which tells large ones apart."""
    return 1.0 - 1.0 / (1.0 + math.log1p(distance))


_ROUNDING = 1e-9  # a limit that is met to the last digit is met


__all__ = ["SIZES", "QualityAtSize", "SearchObjective", "SizeAtQuality"]
