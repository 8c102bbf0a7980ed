"""Separable convolutions whose pointwise kernel is two thin factors."""

from __future__ import annotations

import functools
from typing import Protocol

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.layers.base import PlainKernel
from reducible_train.layers.conv import (
    ImageLayer,
    LowRankImageLayer,
    channel_axis,
    conv_bias,
    pointwise,
    positions_of,
    spatial_axes,
)
from reducible_train.layers.keras_types import Options, PartialShape, Tensor, Variable, ops
from reducible_train.layers.kind import Data, KernelKind, RowReader, alike, own_bias
from reducible_train.layers.stock import StockLayer, dense_config, in_two, u_arguments
from reducible_train.layers.uses import Uses
from reducible_train.linalg.matricization import Matricization


class SeparableLayer(ImageLayer, Protocol):
    """What is read of a separable convolution."""

    depthwise_kernel: Variable


# --- what is known of the dense layer -----------------------------------------------------


def _matricization(layer: SeparableLayer, kernel: str, split: str) -> Matricization:
    ones = "1" * len(layer.kernel_size)
    return Matricization(ones + "io", ones + "ir", ones + "ro")


def _uses(
    layer: SeparableLayer, kernel: str, split: str, inputs: PartialShape, options: Options
) -> Uses | None:
    return alike(spatial_axes(layer, layer.compute_output_shape(inputs)))


def _depthwise(layer: SeparableLayer, inputs: np.ndarray, kernel: Tensor) -> np.ndarray:
    """What a depthwise kernel makes of the inputs of a layer."""
    x = ops.depthwise_conv(
        inputs,
        kernel,
        tuple(layer.strides),
        layer.padding,
        layer.data_format,
        layer.dilation_rate,
    )
    return _keras.host_float(x)


def _input_rows(
    layer: SeparableLayer, kernel: str, inputs: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """What the depthwise half, which stays as it is, makes of the inputs."""
    return positions_of(layer, _depthwise(layer, inputs, layer.depthwise_kernel))


def _input_weights(
    layer: SeparableLayer, kernel: str, weights: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Of each position the mean over what the depthwise half sees."""
    ones = ops.ones_like(layer.depthwise_kernel)
    seen, all_seen = (
        positions_of(layer, _depthwise(layer, each.astype("float32"), ones))
        for each in (weights, np.ones_like(weights))
    )
    shares: np.ndarray = (seen / np.maximum(all_seen, 1.0)).max(axis=-1)
    return shares


def _output_rows(
    layer: SeparableLayer, kernel: str, outputs: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    return positions_of(layer, outputs)


def _stock(layer: LowRankSeparableConv, pointwise: type) -> list[StockLayer]:
    config, rank = dense_config(layer), layer.ranks["pointwise_kernel"]
    start = config | u_arguments(layer) | {"filters": rank, "use_bias": False}
    start |= {"activation": None, "activity_regularizer": None}
    names = ("name", "dtype", "trainable", "filters", "data_format", "activation", "use_bias")
    regularizers = ("bias_initializer", "bias_regularizer", "bias_constraint")
    end = {name: config[name] for name in (*names, *regularizers, "activity_regularizer")}
    first, second = in_two(
        layer,
        layer.kernel_kind.dense_class(**start),
        pointwise(**end, kernel_size=1),
        "pointwise_kernel",
    )
    return [StockLayer(first.layer, [layer.depthwise_kernel, *first.weights]), second]


def _kind(dense_class: type, pointwise: type) -> KernelKind:
    return KernelKind(
        dense_class,
        kernel_attributes={"pointwise_kernel": "pointwise_kernel"},
        leading_variables=("depthwise_kernel",),
        matricization=_matricization,
        uses=_uses,
        data=Data(
            RowReader(_input_rows, weights=_input_weights),
            RowReader(_output_rows),
            bias=own_bias,
            axis=channel_axis,
        ),
        stock=functools.partial(_stock, pointwise=pointwise),
    )


# --- the low-rank layers ------------------------------------------------------------------


class LowRankSeparableConv(LowRankImageLayer):
    """What separable convolutions share: the depthwise half stays as it is."""

    pointwise_kernel = PlainKernel()
    depthwise_kernel: Variable
    pointwise_kernel_u: Variable
    pointwise_kernel_v: Variable

    def call(self, inputs: Tensor) -> Tensor:
        x = ops.separable_conv(
            inputs,
            self.depthwise_kernel,
            self.pointwise_kernel_u,
            strides=tuple(self.strides),
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return conv_bias(self, pointwise(self, x, self.pointwise_kernel_v))


@keras.saving.register_keras_serializable("reducible_train")
class LowRankSeparableConv1D(LowRankSeparableConv, keras.layers.SeparableConv1D):
    """A `SeparableConv1D` layer with pointwise kernel `W ~ U V`.

    Args:
        filters: As of `keras.layers.SeparableConv1D`, whose other arguments follow.
        rank: Rank of the factors.
    """

    kernel_kind = _kind(keras.layers.SeparableConv1D, keras.layers.Conv1D)


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

    kernel_kind = _kind(keras.layers.SeparableConv2D, keras.layers.Conv2D)
