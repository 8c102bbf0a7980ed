"""Transposed convolutions whose kernel is two thin factors."""

from __future__ import annotations

from typing import Any

import keras

from reducible_train.costs import Uses
from reducible_train.layers.base import LowRank, PlainKernel, Shape, StockLayer, alike
from reducible_train.layers.conv import conv_bias, spatial_axes
from reducible_train.matricization import Matricization


@keras.saving.register_keras_serializable("reducible_train")
class LowRankConv2DTranspose(LowRank, keras.layers.Conv2DTranspose):
    """A `Conv2DTranspose` layer with kernel `W (i, h w o) ~ U V`.

    A 1 x 1 convolution to `rank` channels, then a transposed convolution from there.

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
    kernel_attributes = {"kernel": "kernel"}  # noqa: RUF012
    kernel = PlainKernel()

    @classmethod
    def matricization(cls, layer: Any, kernel: str, split: str) -> Matricization:
        return Matricization("hwoi", "11ir", "hwor")

    @classmethod
    def uses(cls, layer: Any, kernel: str, split: str, inputs: Shape) -> Uses | None:
        return alike(spatial_axes(layer, inputs))

    def stock_layers(self) -> list[StockLayer]:
        first = keras.layers.Conv2D(
            self.kernel_u.shape[-1],
            1,
            data_format=self.data_format,
            use_bias=False,
            **self.stock_arguments(),
        )
        return self.in_two(first, keras.layers.Conv2DTranspose.from_config(self.dense_config()))

    def call(self, inputs: Any) -> Any:
        form = self.data_format
        x = keras.ops.conv(inputs, self.kernel_u, 1, "valid", form)
        x = keras.ops.conv_transpose(
            x,
            self.kernel_v,
            list(self.strides),
            self.padding,
            self.output_padding,
            form,
            self.dilation_rate,
        )
        return conv_bias(self, x)
