"""Losses of a low-rank layer: what regularizes a kernel is given the product of its factors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras

from reducible_train.layers.keras_types import Tensor, Variable, ops
from reducible_train.layers.kind import partner

if TYPE_CHECKING:
    from reducible_train.layers.base import LowRank

Regularizer = Callable[[Tensor], Tensor]


def regularizer_in_force(layer: LowRank, kernel: str) -> Any:
    """What regularizes the product: what the kernel itself had, where that was changed."""
    own = partner(layer, kernel, "regularizer")
    return vars(layer).get(f"_regularizer_of_{kernel}", own)


def product_losses(layer: LowRank) -> list[Tensor]:
    """The losses of every factorised kernel that trains, `penalize_product` included."""
    weight = vars(layer).get("_product_weight", 0.0)
    extra = keras.regularizers.L2(weight) if weight else None
    losses = []
    for kernel in layer.kernel_kind.kernel_attributes:
        factors = layer.factors(kernel)
        if factors is None or not factors[0].trainable:
            continue
        for regularizer in (regularizer_in_force(layer, kernel), extra):
            if regularizer is not None:
                losses.append(_of_product(regularizer, layer, kernel, factors))
    return losses


def _of_product(
    regularizer: Regularizer, layer: LowRank, kernel: str, factors: Sequence[Variable]
) -> Tensor:
    """`regularizer(U V)`; for plain L2 without forming the product.

    `||U V||_F^2 = tr((U^T U) (V V^T))`, which costs `r^2 (m + n)` and not `r m n`.
    """
    if type(regularizer) is not keras.regularizers.L2:
        return regularizer(layer.product(kernel))
    u, v = (ops.convert_to_tensor(factor) for factor in factors)
    left, right = layer.view(kernel).grams(u, v, ops)
    return ops.cast(vars(regularizer)["l2"], left.dtype) * ops.sum(left * right)
