"""A Dense layer whose kernel is two thin factors."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from reducible_train.layers.base import LowRank, StockLayer


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

    dense_class = keras.layers.Dense

    @property
    def rank(self) -> int:
        """Rank in force; `ranks` says it of every kind of layer."""
        return self.get_config()["ranks"]

    @property
    def kernel(self) -> Any:
        """The product `U V`, shape `(m, n)`; what code that reads a kernel expects."""
        return self.product("kernel")

    def stock_layers(self) -> list[StockLayer]:
        first = keras.layers.Dense(self.rank, use_bias=False, **self.stock_arguments())
        return self.in_two(first, keras.layers.Dense.from_config(self.dense_config()))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.add_bias(self.multiply(inputs, "kernel"))

    @classmethod
    def input_rows(
        cls, layer: Any, kernel: str, inputs: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        return inputs.reshape(1, -1, inputs.shape[-1])

    @classmethod
    def output_rows(
        cls, layer: Any, kernel: str, outputs: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        return outputs.reshape(1, -1, layer.units)

    @classmethod
    def output_bias(cls, layer: Any, kernel: str) -> Any | None:
        return layer.bias
