"""What can take up the mean of what a cut of a kernel loses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from reducible_train import _keras
from reducible_train.layers.kind import KernelKind


@dataclass(frozen=True, eq=False)
class Offset:
    """A variable that is added to the outputs of a kernel, or taken off them.

    Args:
        variable: With a number for each output, `(g, n)` in order.
        sign: 1 of a bias; -1 of the mean that a BatchNormalization takes off.
    """

    variable: Any
    sign: int = 1

    @property
    def is_bias(self) -> bool:
        """True of a bias."""
        return self.sign == 1


def offset_of(layer: Any, name: str, kind: KernelKind, graphs: _keras.GraphsOf) -> Offset | None:
    """The bias of a kernel; without one, the moving mean of the BatchNormalization behind it.

    In training that takes off the mean of each batch, so that what a cut loses of it is not missed
    there either.

    Args:
        layer: The layer that holds the kernel.
        name: Name of the kernel.
        kind: What is known of the layer's class.
        graphs: The graphs of its model.
    """
    bias = kind.data.bias(layer, name)
    if bias is not None:
        return Offset(bias)
    if kind.data.axis is None or getattr(layer, "activation", None) not in (None, _LINEAR):
        return None
    behind = graphs.sole_normalization(layer, kind.data.axis(layer))
    return None if behind is None else Offset(behind.moving_mean, -1)


_LINEAR = keras.activations.linear
