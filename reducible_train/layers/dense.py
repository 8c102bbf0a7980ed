"""A Dense layer whose kernel is two thin factors."""

from __future__ import annotations

from typing import Protocol

import keras
import numpy as np

from reducible_train.layers.base import LowRank, add_bias
from reducible_train.layers.keras_types import Biased, Tensor
from reducible_train.layers.kind import Data, KernelKind, RowReader, last_axis, own_bias
from reducible_train.layers.stock import StockLayer, dense_config, in_two, u_arguments


class Dense(Biased, Protocol):
    """What is read of a `Dense` layer."""

    units: int


def _input_rows(
    layer: Dense, kernel: str, inputs: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    return inputs.reshape(1, -1, inputs.shape[-1])


def _output_rows(
    layer: Dense, kernel: str, outputs: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    return outputs.reshape(1, -1, layer.units)


def _stock(layer: LowRankDense) -> list[StockLayer]:
    first = keras.layers.Dense(layer.rank, use_bias=False, **u_arguments(layer))
    second = keras.layers.Dense.from_config(dense_config(layer))
    return in_two(layer, first, second, "kernel")


@keras.saving.register_keras_serializable("reducible_train")
class LowRankDense(LowRank, keras.layers.Dense):
    r"""`activation((x U) V + bias)`: a `Dense` layer with kernel `W ~ U V`.

    `RankScheduler` and `factorize` turn `Dense` layers into this one; it can also be
    used by hand, as a layer that is low-rank from the start (then `U` is drawn by
    `kernel_initializer`, and `V` with variance `1/r`, so that `U V` has the variance of `U`).
    A `kernel_regularizer` acts on the product `U V`. Costs `r (m + n)` parameters
    instead of `m n`.

    Args:
        units: Output features `n`.
        rank: Rank `r` of the factors, in `[1, n]`.
        **kwargs: Every other argument of `keras.layers.Dense`.

    Raises:
        ArgumentError: `rank` is not a positive integer, or larger than full rank.

    Example:
        >>> layer = LowRankDense(6, rank=2)
        >>> layer.build((None, 4))
        >>> [tuple(v.shape) for v in layer.trainable_variables]
        [(6,), (4, 2), (2, 6)]

    Reference: Sainath et al., *Low-rank matrix factorization for deep neural network
    training with high-dimensional output targets*, ICASSP 2013.
    """

    kernel_kind = KernelKind(
        keras.layers.Dense,
        data=Data(RowReader(_input_rows), RowReader(_output_rows), bias=own_bias, axis=last_axis),
        stock=_stock,
    )

    @property
    def rank(self) -> int:
        """Rank in force; `ranks` says it of every kind of layer."""
        rank: int = self.get_config()["ranks"]
        return rank

    @property
    def kernel(self) -> Tensor:
        """The product `U V`, shape `(m, n)`; what code that reads a kernel expects."""
        return self.product("kernel")

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return add_bias(self, self.multiply(inputs, "kernel"))
