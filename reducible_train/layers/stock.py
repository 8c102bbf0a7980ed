"""Stock Keras layers that do the same as a factorised one when called one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reducible_train.layers.keras_types import Layer, Variable
from reducible_train.layers.kind import stem

if TYPE_CHECKING:
    from reducible_train.layers.base import LowRank


@dataclass(frozen=True, eq=False)
class StockLayer:
    """A layer of Keras's own, not built yet, and what its weights shall be.

    Args:
        layer: The layer.
        weights: A variable for each of its weights, in their order.
    """

    layer: Any
    weights: Sequence[Variable]


def dense_config(layer: LowRank) -> dict[str, Any]:
    """The configuration of the dense layer, but for what regularizes the product, or draws it."""
    dense: Any = layer.kernel_kind.dense_class
    config: dict[str, Any] = dense.get_config(layer)
    drawing = {f"{stem(kernel)}_initializer" for kernel in layer.ranks}
    kept = {key: value for key, value in config.items() if key not in drawing}
    return kept | {f"{stem(kernel)}_regularizer": None for kernel in layer.ranks}


def u_arguments(layer: LowRank) -> dict[str, Any]:
    """Arguments of the stock layer that holds `U` in front of the one that holds `V`."""
    return {
        "name": f"{layer.name}_u",
        "dtype": layer.dtype_policy,
        "trainable": layer.trainable,
    }


def in_two(layer: LowRank, first: Layer, second: Layer, kernel: str) -> list[StockLayer]:
    """Two stock layers that hold `U`, and `V` with the bias."""
    u, v = (vars(layer)[f"{kernel}_{side}"] for side in "uv")
    bias = getattr(layer, "bias", None)
    return [StockLayer(first, [u]), StockLayer(second, [v] if bias is None else [v, bias])]
