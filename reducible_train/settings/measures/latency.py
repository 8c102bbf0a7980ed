"""Seconds of one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from reducible_train.settings.fields import Count, option
from reducible_train.settings.measures.base import (
    SHAPE_HELP,
    ShapedMeasure,
    ShapeKind,
    TabulatedMeasure,
)
from reducible_train.settings.measures.shapes import InputShape

Timer = Callable[[Sequence[Callable[[], Any]], int], Sequence[float]]  # of calls, rounds


@dataclass(frozen=True)
class Latency(
    ShapedMeasure, TabulatedMeasure, owner="Latency", help="Seconds of one batch, measured."
):
    """A budget of time: seconds of one batch through the layers that hold kernels.

    As with FLOPs, what holds no kernel (activations, pooling, normalisation) is not counted.
    Measured when the fit begins, and not before: checking a configuration measures nothing, so
    that a budget which no ranks meet is refused only then. It takes seconds for a small network,
    a minute for one of fifty different layers. A budget means the machine it was measured on: on
    several devices, one of them; of several processes, the first.

    In place of a clock, `timer` measures: tests put in one that counts.

    Raises:
        ArgumentError: Unusable values; when the fit begins, a model whose input shapes are not
            known, or a layer that cannot be called by itself.

    Example:
        >>> Latency(batch_size=1)
        Latency(batch_size=1, rounds=15, input_shape=None)
    """

    name: ClassVar[str] = "latency"
    unit: ClassVar[str] = "seconds of latency"
    wavers: ClassVar[bool] = True

    batch_size: int = option(
        Count(), 32, help="Samples in a batch: what the model will be given in its use."
    )
    rounds: int = option(Count(), 15, help="Times each call is measured; the fastest counts.")
    input_shape: InputShape | None = option(ShapeKind(), None, help=SHAPE_HELP)
    timer: Timer | None = field(default=None, repr=False, compare=False)

    def words(self, dense: float, now: float) -> str:
        batch = f"batches of {self.batch_size}" if self.batch_size > 1 else "single samples"
        return (
            f"Latency, measured here on {batch} through the layers that hold kernels: "
            f"{1e3 * dense:.3g} ms dense, {1e3 * now:.3g} ms at these ranks."
        )
