"""Transposed convolutions whose kernel is two thin factors."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np

from reducible_train.layers.base import LowRank, PlainKernel, Shape, StockLayer, alike
from reducible_train.layers.conv import AXES, conv_bias, patches_of, positions_of, spatial_axes
from reducible_train.layers.uses import Uses
from reducible_train.linalg.matricization import Matricization


class LowRankConvTranspose(LowRank):
    """What transposed convolutions share, `W (i, h w o) ~ U V`.

    A convolution of size 1 to `r` channels, then a transposed convolution from there. Of its data
    the single contributions are judged, `x W`, whose sums are the outputs where they overlap; no
    bias takes up the mean of what is lost, since outputs get different numbers of them.
    """

    kernel_attributes = {"kernel": "kernel"}  # noqa: RUF012
    kernel = PlainKernel()
    _pointwise_class: ClassVar[type]

    @classmethod
    def matricization(cls, layer: Any, kernel: str, split: str) -> Matricization:
        axes, ones = AXES[-len(layer.kernel_size) :], "1" * len(layer.kernel_size)
        return Matricization(axes + "oi", ones + "ir", axes + "or")

    @classmethod
    def uses(cls, layer: Any, kernel: str, split: str, inputs: Shape) -> Uses | None:
        return alike(spatial_axes(layer, inputs))

    @classmethod
    def input_rows(
        cls, layer: Any, kernel: str, inputs: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        return positions_of(layer, inputs)

    @classmethod
    def output_rows(
        cls, layer: Any, kernel: str, outputs: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray | None:
        """What each input position adds to, `(1, rows, h w o)`: outputs are sums of these, so
        the loss changes by a gradient's rows times a change of theirs.
        """
        if layer.output_padding is not None:
            return None
        return patches_of(layer, outputs, 1, rng)

    def stock_layers(self) -> list[StockLayer]:
        layer: Any = self
        first = self._pointwise_class(
            self.ranks["kernel"],
            1,
            data_format=layer.data_format,
            use_bias=False,
            **self.stock_arguments(),
        )
        return self.in_two(first, self.dense_class(**self.dense_config()))

    def call(self, inputs: Any) -> Any:
        layer: Any = self
        x = keras.ops.conv(inputs, layer.kernel_u, 1, "valid", layer.data_format)
        x = keras.ops.conv_transpose(
            x,
            layer.kernel_v,
            list(layer.strides),
            layer.padding,
            layer.output_padding,
            layer.data_format,
            layer.dilation_rate,
        )
        return conv_bias(layer, x)


@keras.saving.register_keras_serializable("reducible_train")
class LowRankConv1DTranspose(LowRankConvTranspose, keras.layers.Conv1DTranspose):
    """A `Conv1DTranspose` layer with kernel `W (i, h o) ~ U V`.

    Args:
        filters: As of `keras.layers.Conv1DTranspose`, whose other arguments follow.
        rank: Rank of the factors.

    Example:
        >>> layer = LowRankConv1DTranspose(8, 3, rank=2)
        >>> layer.build((None, 20, 6))
        >>> [tuple(v.shape) for v in layer.trainable_variables]
        [(8,), (1, 6, 2), (3, 8, 2)]
    """

    dense_class = keras.layers.Conv1DTranspose
    _pointwise_class = keras.layers.Conv1D


@keras.saving.register_keras_serializable("reducible_train")
class LowRankConv2DTranspose(LowRankConvTranspose, keras.layers.Conv2DTranspose):
    """A `Conv2DTranspose` layer with kernel `W (i, h w o) ~ U V`.

    Args:
        filters: As of `keras.layers.Conv2DTranspose`, whose other arguments follow.
        rank: Rank of the factors.

    Example:
        >>> layer = LowRankConv2DTranspose(8, 3, rank=2)
        >>> layer.build((None, 20, 20, 6))
        >>> [tuple(v.shape) for v in layer.trainable_variables]
        [(8,), (1, 1, 6, 2), (3, 3, 8, 2)]
    """

    dense_class = keras.layers.Conv2DTranspose
    _pointwise_class = keras.layers.Conv2D


@keras.saving.register_keras_serializable("reducible_train")
class LowRankConv3DTranspose(LowRankConvTranspose, keras.layers.Conv3DTranspose):
    """A `Conv3DTranspose` layer with kernel `W (i, d h w o) ~ U V`.

    Args:
        filters: As of `keras.layers.Conv3DTranspose`, whose other arguments follow.
        rank: Rank of the factors.

    Example:
        >>> layer = LowRankConv3DTranspose(8, 2, rank=2)
        >>> layer.build((None, 9, 9, 9, 6))
        >>> [tuple(v.shape) for v in layer.trainable_variables]
        [(8,), (1, 1, 1, 6, 2), (2, 2, 2, 8, 2)]
    """

    dense_class = keras.layers.Conv3DTranspose
    _pointwise_class = keras.layers.Conv3D
