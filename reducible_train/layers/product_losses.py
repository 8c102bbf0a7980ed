"""Losses of a low-rank layer: what regularizes a kernel is given the product of its factors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras

from reducible_train import _keras
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
    """The losses of every factorised kernel that trains, `product_penalties` included."""
    regularized = [
        _of_product(regularizer, layer, kernel, factors)
        for kernel, factors in _trained_factors(layer)
        if (regularizer := regularizer_in_force(layer, kernel)) is not None
    ]
    return regularized + product_penalties(layer)


def product_penalties(layer: LowRank) -> list[Tensor]:
    """What `penalize_product` adds to them."""
    weight = vars(layer).get("_product_weight", 0.0)
    if not weight:
        return []
    vars(layer)["_penalty_is_counted"] = True
    penalty = keras.regularizers.L2(weight)
    return [_of_product(penalty, layer, *each) for each in _trained_factors(layer)]


def _trained_factors(layer: LowRank) -> list[tuple[str, Sequence[Variable]]]:
    """The factorised kernels that train, each with its factors."""
    found = ((name, layer.factors(name)) for name in layer.kernel_kind.kernel_attributes)
    return [(name, each) for name, each in found if each is not None and _keras.is_trained(each[0])]


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
