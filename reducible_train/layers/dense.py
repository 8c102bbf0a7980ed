"""A Dense layer whose kernel is two thin factors."""

from __future__ import annotations

import math
from typing import Any

import keras

from reducible_train.errors import ArgumentError
from reducible_train.layers.base import LowRank


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

    def __init__(self, units: int, *, rank: int, **kwargs: Any):
        if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
            raise ArgumentError(f"`rank` must be a positive integer. Received: rank={rank!r}.")
        super().__init__(units, **kwargs)
        self._rank = rank

    @property
    def rank(self) -> int:
        """Rank in force."""
        ranks = self.ranks
        return ranks["kernel"] if ranks else self._rank

    @property
    def kernel(self) -> Any:
        """The product `U V`, shape `(m, n)`; what code that reads a kernel expects."""
        return self.product("kernel")

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        m, n, rank = int(input_shape[-1]), self.units, self._rank
        if rank > min(m, n):
            raise ArgumentError(
                f"`rank` of layer '{self.name}' must be at most full rank, min(m, n) = "
                f"{min(m, n)} for a kernel of shape ({m}, {n}). Received: rank={rank}."
            )
        self.install_factors(
            "kernel",
            rank,
            self.kernel_initializer,
            keras.initializers.RandomNormal(stddev=math.sqrt(1 / rank)),
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        x = keras.ops.matmul(inputs, self.kernel_u)
        x = keras.ops.matmul(x, self.kernel_v)
        if self.bias is not None:
            x = keras.ops.add(x, self.bias)
        if self.activation is not None:
            x = self.activation(x)
        return x

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rank": self.rank}
