"""Seconds of one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from reducible_train.settings.checks import settle_counts
from reducible_train.settings.measures.base import ShapedMeasure, TabulatedMeasure
from reducible_train.settings.measures.shapes import InputShape

Timer = Callable[[Sequence[Callable[[], Any]], int], Sequence[float]]  # of calls, rounds


@dataclass(frozen=True)
class Latency(ShapedMeasure, TabulatedMeasure):
    """A budget of time: seconds of one batch through the layers that hold kernels.

    As with FLOPs, what holds no kernel (activations, pooling, normalisation) is not counted.
    Measured when the fit begins, and not before: checking a configuration measures nothing, so
    that a budget which no ranks meet is refused only then. It takes seconds for a small network,
    a minute for one of fifty different layers. A budget means the machine it was measured on: on
    several devices, one of them; of several processes, the first.

    Args:
        batch_size: Samples in a batch, at least 1: what the model will be given in its use.
        rounds: Times that each call is measured, at least 1; the fastest counts.
        input_shape: Shape of one sample, for a model that leaves lengths open, as `Flops` takes it.
        timer: What measures, in place of a clock; tests put in one that counts.

    Raises:
        ArgumentError: Unusable values; when the fit begins, a model whose input shapes are not
            known, or a layer that cannot be called by itself.

    Example:
        >>> Latency(batch_size=1)
        Latency(batch_size=1, rounds=15, input_shape=None)
    """

    name: ClassVar[str] = "latency"
    unit: ClassVar[str] = "seconds of latency"

    batch_size: int = 32
    rounds: int = 15
    input_shape: InputShape | None = None
    timer: Timer | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        settle_counts(self, "Latency", "batch_size", "rounds")

    def words(self, dense: float, now: float) -> str:
        batch = f"batches of {self.batch_size}" if self.batch_size > 1 else "single samples"
        return (
            f"Latency, measured here on {batch} through the layers that hold kernels: "
            f"{1e3 * dense:.3g} ms dense, {1e3 * now:.3g} ms at these ranks."
        )
