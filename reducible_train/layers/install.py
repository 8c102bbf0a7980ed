"""Factors in place of a kernel of a live layer, and a kernel in place of its factors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from reducible_train import _keras
from reducible_train.layers.keras_types import Initializer, Shape, Variable
from reducible_train.layers.kind import partner
from reducible_train.layers.layouts import layouts_at_rank
from reducible_train.layers.product_losses import regularizer_in_force

if TYPE_CHECKING:
    from reducible_train.layers.base import LowRank

Swap = tuple[list[Variable], list[Variable]]  # the variables that left, and those that came


def install_factors(
    layer: LowRank,
    kernel: str,
    rank: int,
    u_initializer: Initializer,
    v_initializer: Initializer,
    split: str | None = None,
) -> Swap:
    """Put factors of `rank` in place of a kernel, or of its present factors.

    Args:
        layer: The layer.
        kernel: Name of the kernel.
        rank: Rank of the factors.
        u_initializer: Called with shape and dtype for the values of `U`.
        v_initializer: The same for `V`.
        split: How the kernel is split; as it is, or the usual way, if not given.

    Returns:
        The variables that left, and those that came.
    """
    old, state = present(layer, kernel), vars(layer)
    shape = dense_shape(layer, kernel)
    state[f"_split_of_{kernel}"] = layer.split_of(kernel) if split is None else split
    if len(old) == 1 and old[0].regularizer is not partner(layer, kernel, "regularizer"):
        state[f"_regularizer_of_{kernel}"] = old[0].regularizer  # set after `build`
    u_shape, v_shape = layer.view(kernel).factor_shapes(shape, rank)
    wanted = {
        f"{kernel}_u": (u_shape, u_initializer),
        f"{kernel}_v": (v_shape, v_initializer),
    }
    path = f"{old[0].path.rpartition('/')[0]}/{kernel}"
    with _keras.laid_out(layouts_at_rank(layer.view(kernel), path, shape, rank)):
        new = _replace(layer, old, wanted)
    _keras.drop_attribute(layer, layer.kernel_kind.kernel_attributes[kernel])
    for name, variable in zip(wanted, new, strict=True):
        _keras.set_unlocked(layer, name, variable)
    _keras.order_variables(layer, last=_all_factors(layer))
    return old, new


def install_kernel(layer: LowRank, kernel: str, initializer: Initializer) -> Swap:
    """Put a dense kernel in place of its factors.

    Returns:
        The variables that left, and those that came.
    """
    kind, old = layer.kernel_kind, present(layer, kernel)
    new = _replace(layer, old, {kernel: (dense_shape(layer, kernel), initializer)})
    new[0].regularizer = regularizer_in_force(layer, kernel)
    for side in "uv":
        _keras.drop_attribute(layer, f"{kernel}_{side}")
    for kept in ("_regularizer_of_", "_split_of_", "_dense_file_bytes_of_"):
        vars(layer).pop(f"{kept}{kernel}", None)
    if not layer.ranks:
        vars(layer).pop("_product_weight", None)
    _keras.set_unlocked(layer, kind.kernel_attributes[kernel], new[0])
    attributes = (*kind.leading_variables, *kind.kernel_attributes.values())
    first = [vars(layer).get(attribute) for attribute in attributes]
    _keras.order_variables(layer, first=first, last=_all_factors(layer))
    return old, new


def present(layer: LowRank, kernel: str) -> list[Variable]:
    """`[W]` while dense, `[U, V]` when factorised."""
    factors = layer.factors(kernel)
    if factors is None:
        return [vars(layer)[layer.kernel_kind.kernel_attributes[kernel]]]
    return [*factors]


def dense_shape(layer: LowRank, kernel: str) -> Shape:
    """Shape of the dense kernel variable."""
    shapes = [tuple(int(size) for size in each.shape) for each in present(layer, kernel)]
    return shapes[0] if len(shapes) == 1 else layer.view(kernel).kernel_shape(*shapes)


def _all_factors(layer: LowRank) -> list[Variable]:
    factors = [layer.factors(kernel) for kernel in layer.kernel_kind.kernel_attributes]
    return [variable for pair in factors if pair is not None for variable in pair]


def _replace(
    layer: LowRank, old: list[Variable], wanted: Mapping[str, tuple[Shape, Initializer]]
) -> list[Variable]:
    def make() -> list[Variable]:
        return [
            layer.add_weight(name=name, shape=shape, dtype=old[0].dtype, initializer=values)
            for name, (shape, values) in wanted.items()
        ]

    new: list[Variable] = _keras.replace_variables(layer, old, make)
    for variable in new:
        _keras.train_as(variable, old[0])
    return new
