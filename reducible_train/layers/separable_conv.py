"""Separable convolutions whose pointwise kernel is two thin factors."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.layers.base import LowRank, PlainKernel, Shape, StockLayer, alike
from reducible_train.layers.conv import conv_bias, pointwise, positions_of, spatial_axes
from reducible_train.layers.uses import Uses
from reducible_train.linalg.matricization import Matricization


class LowRankSeparableConv(LowRank):
    """What separable convolutions share: the depthwise half stays as it is."""

    kernel_attributes = {"pointwise_kernel": "pointwise_kernel"}  # noqa: RUF012
    leading_variables = ("depthwise_kernel",)
    pointwise_kernel = PlainKernel()
    _pointwise_class: ClassVar[type]

    @classmethod
    def matricization(cls, layer: Any, kernel: str, split: str) -> Matricization:
        ones = "1" * len(layer.kernel_size)
        return Matricization(ones + "io", ones + "ir", ones + "ro")

    @classmethod
    def uses(cls, layer: Any, kernel: str, split: str, inputs: Shape) -> Uses | None:
        return alike(spatial_axes(layer, layer.compute_output_shape(inputs)))

    @classmethod
    def input_rows(
        cls, layer: Any, kernel: str, inputs: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """What the depthwise half, which stays as it is, makes of the inputs."""
        return positions_of(layer, _depthwise(layer, inputs, layer.depthwise_kernel))

    @classmethod
    def input_weights(
        cls, layer: Any, kernel: str, weights: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Of each position the mean over what the depthwise half sees."""
        ones = keras.ops.ones_like(layer.depthwise_kernel)
        seen, all_seen = (
            positions_of(layer, _depthwise(layer, each.astype("float32"), ones))
            for each in (weights, np.ones_like(weights))
        )
        return (seen / np.maximum(all_seen, 1.0)).max(axis=-1)

    @classmethod
    def output_rows(
        cls, layer: Any, kernel: str, outputs: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        return positions_of(layer, outputs)

    @classmethod
    def output_bias(cls, layer: Any, kernel: str) -> Any | None:
        return layer.bias

    def stock_layers(self) -> list[StockLayer]:
        layer: Any = self
        config = self.dense_config()
        rank = self.ranks["pointwise_kernel"]
        start = config | self.stock_arguments() | {"filters": rank, "use_bias": False}
        start |= {"activation": None, "activity_regularizer": None}
        names = ("name", "dtype", "trainable", "filters", "data_format", "activation", "use_bias")
        regularizers = ("bias_initializer", "bias_regularizer", "bias_constraint")
        end = {name: config[name] for name in (*names, *regularizers, "activity_regularizer")}
        first, second = self.in_two(
            self.dense_class(**start),
            self._pointwise_class(**end, kernel_size=1),
            "pointwise_kernel",
        )
        return [StockLayer(first.layer, [layer.depthwise_kernel, *first.weights]), second]

    def call(self, inputs: Any) -> Any:
        layer: Any = self
        x = keras.ops.separable_conv(
            inputs,
            layer.depthwise_kernel,
            layer.pointwise_kernel_u,
            strides=tuple(layer.strides),
            padding=layer.padding,
            dilation_rate=layer.dilation_rate,
            data_format=layer.data_format,
        )
        return conv_bias(layer, pointwise(layer, x, layer.pointwise_kernel_v))


@keras.saving.register_keras_serializable("reducible_train")
class LowRankSeparableConv1D(LowRankSeparableConv, keras.layers.SeparableConv1D):
    """A `SeparableConv1D` layer with pointwise kernel `W ~ U V`.

    Args:
        filters: As of `keras.layers.SeparableConv1D`, whose other arguments follow.
        rank: Rank of the factors.
    """

    dense_class = keras.layers.SeparableConv1D
    _pointwise_class = keras.layers.Conv1D


@keras.saving.register_keras_serializable("reducible_train")
class LowRankSeparableConv2D(LowRankSeparableConv, keras.layers.SeparableConv2D):
    """A `SeparableConv2D` layer with pointwise kernel `W ~ U V`.

    Args:
        filters: As of `keras.layers.SeparableConv2D`, whose other arguments follow.
        rank: Rank of the factors.

    Example:
        >>> layer = LowRankSeparableConv2D(8, 3, rank=2)
        >>> layer.build((None, 20, 20, 6))
        >>> [tuple(v.shape) for v in layer.trainable_variables]
        [(3, 3, 6, 1), (8,), (1, 1, 6, 2), (1, 1, 2, 8)]
    """

    dense_class = keras.layers.SeparableConv2D
    _pointwise_class = keras.layers.Conv2D


def _depthwise(layer: Any, inputs: Any, kernel: Any) -> np.ndarray:
    """What a depthwise kernel makes of the inputs of a layer."""
    x = keras.ops.depthwise_conv(
        inputs,
        kernel,
        tuple(layer.strides),
        layer.padding,
        layer.data_format,
        layer.dilation_rate,
    )
    return _keras.host_float(x)
