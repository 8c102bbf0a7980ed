"""Convolutions whose kernel is two thin factors: two convolutions in a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import keras
import numpy as np

from reducible_train.layers.base import LowRank
from reducible_train.layers.keras_types import (
    Biased,
    Options,
    PartialShape,
    Shape,
    Tensor,
    Variable,
    ops,
)
from reducible_train.layers.kind import Data, KernelKind, RowReader, own_bias, product_of
from reducible_train.layers.patches import patches
from reducible_train.layers.stock import StockLayer, dense_config, in_two, u_arguments
from reducible_train.layers.uses import Uses
from reducible_train.linalg.matricization import Matricization

CHANNEL, SPATIAL = "channel", "spatial"
AXES = "dhw"


class ImageLayer(Biased, Protocol):
    """What is read of a layer that slides over images, of one to three axes."""

    filters: int
    kernel_size: Shape
    strides: Shape
    dilation_rate: Shape
    padding: str
    data_format: str
    use_bias: bool

    def compute_output_shape(self, input_shape: PartialShape) -> PartialShape: ...


class ConvLayer(ImageLayer, Protocol):
    """What is read of a convolution."""

    groups: int


# --- what is known of the dense layer -----------------------------------------------------


def _possible_splits(layer: ConvLayer, kernel: str) -> tuple[str, ...]:
    sizes = layer.kernel_size
    if len(sizes) == 2 and min(sizes) > 1 and layer.groups == 1:
        return (CHANNEL, SPATIAL)
    return (CHANNEL,)


def _matricization(layer: ConvLayer, kernel: str, split: str) -> Matricization:
    axes = AXES[-len(layer.kernel_size) :]
    if split == SPATIAL:
        return Matricization("hwio", "h1ir", "1wro")
    ones = "1" * len(axes)
    if layer.groups == 1:
        return Matricization(axes + "io", axes + "ir", ones + "ro")
    lengths = (("g", layer.groups),)
    return Matricization(axes + "i(go)", axes + "i(gr)", ones + "r(go)", lengths=lengths)


def _uses(
    layer: ConvLayer, kernel: str, split: str, inputs: PartialShape, options: Options
) -> Uses | None:
    outputs = spatial_axes(layer, layer.compute_output_shape(inputs))
    count = product_of(outputs)
    if count is None:
        return None
    if split == CHANNEL:
        return Uses.alike(count)
    # The first factor strides along the height alone: between the two, images keep their width.
    between = product_of((outputs[0], spatial_axes(layer, inputs)[1]))
    return None if between is None else Uses(count, between, count)


def _input_rows(
    layer: ConvLayer, kernel: str, inputs: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    return patches_of(layer, inputs, layer.groups, rng)


def _output_rows(
    layer: ConvLayer, kernel: str, outputs: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    shape = (-1, layer.groups, layer.filters // layer.groups)
    return _channels_last(layer, outputs).reshape(shape).swapaxes(0, 1)


def _stock(layer: LowRankConv) -> list[StockLayer]:
    config, conv = dense_config(layer), layer.kernel_kind.dense_class
    alike = {name: config[name] for name in ("padding", "data_format", "groups")}
    sizes = [
        {"kernel_size": tuple(factor.shape[:-2]), "strides": strides, "dilation_rate": rate}
        for factor, strides, rate in layer.steps
    ]
    filters = layer.kernel_u.shape[-1]  # of all groups
    first = conv(filters=filters, use_bias=False, **sizes[0], **alike, **u_arguments(layer))
    return in_two(layer, first, conv(**config | sizes[1]), "kernel")


def channel_axis(layer: ImageLayer) -> int:
    """The axis of the channels."""
    return 1 if layer.data_format == "channels_first" else -1


def _kind(dense_class: type) -> KernelKind:
    return KernelKind(
        dense_class,
        splits=(CHANNEL, SPATIAL),
        matricization=_matricization,
        possible_splits=_possible_splits,
        uses=_uses,
        data=Data(
            RowReader(_input_rows), RowReader(_output_rows), bias=own_bias, axis=channel_axis
        ),
        stock=_stock,
    )


# --- the low-rank layers ------------------------------------------------------------------


class LowRankImageLayer(LowRank):
    """What low-rank layers that slide over images have from Keras."""

    filters: int
    kernel_size: Shape
    strides: Shape
    dilation_rate: Shape
    padding: str
    data_format: str
    use_bias: bool
    bias: Variable | None
    activation: Callable[[Tensor], Tensor] | None


class LowRankConv(LowRankImageLayer):
    """What the convolutions share.

    Split by channels, `W (kh kw i, o)` becomes `r` filters of the same size, then a 1 x 1
    convolution (Zhang et al., *Accelerating very deep convolutional networks*, 2016); with
    groups, in every group. Split in space (Conv2D without groups), `W (kh i, kw o)` becomes
    `r` filters of `kh x 1`, then filters of `1 x kw` (Jaderberg et al., *Speeding up
    convolutional neural networks with low rank expansions*, 2014). Strides, padding and
    dilation keep their meaning, so that the outputs are those of the product.
    """

    kernel_u: Variable
    kernel_v: Variable

    @property
    def kernel(self) -> Tensor:
        """The product `U V`, in the kernel's shape."""
        return self.product("kernel")

    def call(self, inputs: Tensor) -> Tensor:
        padding = self.padding
        if padding == "causal":
            inputs = pad_causal(self, inputs)
            padding = "valid"
        for factor, strides, rate in self.steps:
            inputs = ops.conv(inputs, factor, strides, padding, self.data_format, rate)
        return conv_bias(self, inputs)

    @property
    def steps(self) -> list[tuple[Variable, Shape, Shape]]:
        """The factor, the strides and the dilation of each of the two convolutions."""
        u, v = self.kernel_u, self.kernel_v
        strides, dilation = tuple(self.strides), tuple(self.dilation_rate)
        if self.split_of("kernel") == SPATIAL:  # each factor strides along its own axis
            return [
                (u, (strides[0], 1), (dilation[0], 1)),
                (v, (1, strides[1]), (1, dilation[1])),
            ]
        ones = (1,) * len(strides)
        return [(u, strides, dilation), (v, ones, ones)]


@keras.saving.register_keras_serializable("reducible_train")
class LowRankConv1D(LowRankConv, keras.layers.Conv1D):
    """A `Conv1D` layer with kernel `W ~ U V`: `rank` filters, then a convolution of size 1.

    Args:
        filters: As of `keras.layers.Conv1D`, whose other arguments follow.
        rank: Rank of the factors.

    Example:
        >>> layer = LowRankConv1D(8, 3, rank=2)
        >>> layer.build((None, 20, 6))
        >>> [tuple(v.shape) for v in layer.trainable_variables]
        [(8,), (3, 6, 2), (1, 2, 8)]
    """

    kernel_kind = _kind(keras.layers.Conv1D)


@keras.saving.register_keras_serializable("reducible_train")
class LowRankConv2D(LowRankConv, keras.layers.Conv2D):
    """A `Conv2D` layer with kernel `W ~ U V`: two smaller convolutions in a row.

    Args:
        filters: As of `keras.layers.Conv2D`, whose other arguments follow.
        rank: Rank of the factors.
        split: `"channel"` (`rank` filters, then 1 x 1) or `"spatial"` (k x 1, then 1 x k).

    Example:
        >>> layer = LowRankConv2D(8, 3, rank=2, split="spatial")
        >>> layer.build((None, 20, 20, 6))
        >>> [tuple(v.shape) for v in layer.trainable_variables]
        [(8,), (3, 1, 6, 2), (1, 3, 2, 8)]
    """

    kernel_kind = _kind(keras.layers.Conv2D)


@keras.saving.register_keras_serializable("reducible_train")
class LowRankConv3D(LowRankConv, keras.layers.Conv3D):
    """A `Conv3D` layer with kernel `W ~ U V`: `rank` filters, then a convolution of size 1.

    Args:
        filters: As of `keras.layers.Conv3D`, whose other arguments follow.
        rank: Rank of the factors.

    Example:
        >>> layer = LowRankConv3D(8, 3, rank=2)
        >>> layer.build((None, 9, 9, 9, 4))
        >>> [tuple(v.shape) for v in layer.trainable_variables]
        [(8,), (3, 3, 3, 4, 2), (1, 1, 1, 2, 8)]
    """

    kernel_kind = _kind(keras.layers.Conv3D)


# --- what the kinds of convolutions share ---------------------------------------------------


def pad_causal(layer: ImageLayer, inputs: Tensor) -> Tensor:
    """Inputs of a one-dimensional convolution with what `padding="causal"` puts before them."""
    before = [layer.dilation_rate[0] * (layer.kernel_size[0] - 1), 0]
    last = layer.data_format == "channels_last"
    return ops.pad(inputs, [[0, 0], before, [0, 0]] if last else [[0, 0], [0, 0], before])


def pointwise(layer: ImageLayer, inputs: Tensor, kernel: Tensor) -> Tensor:
    """A convolution of size 1.

    With channels first it is written as a product, since TensorFlow convolves only
    channels-last images on a CPU.
    """
    if layer.data_format == "channels_last":
        return ops.conv(inputs, kernel, 1, "valid", layer.data_format)
    matrix = ops.reshape(kernel, kernel.shape[-2:])
    return ops.einsum("bi...,io->bo...", inputs, matrix)


def conv_bias(layer: ImageLayer, outputs: Tensor) -> Tensor:
    """Add the bias of a convolution along its channels, if there is one; then activate."""
    if layer.use_bias and layer.bias is not None:
        ones = (1,) * len(layer.kernel_size)
        last = layer.data_format == "channels_last"
        shape = (1, *ones, layer.filters) if last else (1, layer.filters, *ones)
        outputs = ops.add(outputs, ops.reshape(layer.bias, shape))
    return outputs if layer.activation is None else layer.activation(outputs)


def _channels_last(layer: ImageLayer, images: np.ndarray) -> np.ndarray:
    return images if layer.data_format == "channels_last" else np.moveaxis(images, 1, -1)


def positions_of(layer: ImageLayer, images: np.ndarray) -> np.ndarray:
    """The channels at every position, `(1, rows, channels)`."""
    last = _channels_last(layer, images)
    return last.reshape(1, -1, last.shape[-1])


def patches_of(
    layer: ImageLayer, images: np.ndarray, groups: int, rng: np.random.Generator
) -> np.ndarray:
    """What a convolution with the layer's settings sees of images, as `patches` gives it."""
    return patches(
        _channels_last(layer, images),
        layer.kernel_size,
        layer.strides,
        layer.dilation_rate,
        layer.padding,
        groups,
        rng,
    )


def spatial_axes(layer: ImageLayer, shape: PartialShape) -> PartialShape:
    """The axes of an image, without samples and channels."""
    return tuple(shape[1:-1] if layer.data_format == "channels_last" else shape[2:])
