"""Convolutions whose kernel is two thin factors: two convolutions in a row."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from reducible_train.layers.base import LowRank, Shape, StockLayer, product_of
from reducible_train.layers.patches import patches
from reducible_train.layers.uses import Uses
from reducible_train.linalg.matricization import Matricization

CHANNEL, SPATIAL = "channel", "spatial"
AXES = "dhw"


class LowRankConv(LowRank):
    """What the convolutions share.

    Split by channels, `W (kh kw i, o)` becomes `r` filters of the same size, then a 1 x 1
    convolution (Zhang et al., *Accelerating very deep convolutional networks*, 2016); with
    groups, in every group. Split in space (Conv2D without groups), `W (kh i, kw o)` becomes
    `r` filters of `kh x 1`, then filters of `1 x kw` (Jaderberg et al., *Speeding up
    convolutional neural networks with low rank expansions*, 2014). Strides, padding and
    dilation keep their meaning, so that the outputs are those of the product.
    """

    splits = (CHANNEL, SPATIAL)

    @classmethod
    def splits_of(cls, layer: Any, kernel: str) -> tuple[str, ...]:
        sizes = layer.kernel_size
        if len(sizes) == 2 and min(sizes) > 1 and layer.groups == 1:
            return cls.splits
        return (CHANNEL,)

    @classmethod
    def matricization(cls, layer: Any, kernel: str, split: str) -> Matricization:
        axes = AXES[-len(layer.kernel_size) :]
        if split == SPATIAL:
            return Matricization("hwio", "h1ir", "1wro")
        ones = "1" * len(axes)
        if layer.groups == 1:
            return Matricization(axes + "io", axes + "ir", ones + "ro")
        lengths = (("g", layer.groups),)
        return Matricization(axes + "i(go)", axes + "i(gr)", ones + "r(go)", lengths=lengths)

    @classmethod
    def uses(cls, layer: Any, kernel: str, split: str, inputs: Shape) -> Uses | None:
        outputs = spatial_axes(layer, layer.compute_output_shape(inputs))
        count = product_of(outputs)
        if count is None:
            return None
        if split == CHANNEL:
            return Uses.alike(count)
        width = spatial_axes(layer, inputs)[1]
        return None if width is None else Uses(count, outputs[0] * width, count)

    @classmethod
    def input_rows(
        cls, layer: Any, kernel: str, inputs: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        return patches_of(layer, inputs, layer.groups, rng)

    @classmethod
    def output_rows(
        cls, layer: Any, kernel: str, outputs: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        rows = _channels_last(layer, outputs).reshape(
            -1, layer.groups, layer.filters // layer.groups
        )
        return rows.swapaxes(0, 1)

    @classmethod
    def output_bias(cls, layer: Any, kernel: str) -> Any | None:
        return layer.bias if layer.use_bias else None

    @property
    def kernel(self) -> Any:
        """The product `U V`, in the kernel's shape."""
        return self.product("kernel")

    def call(self, inputs: Any) -> Any:
        layer: Any = self
        padding = layer.padding
        if padding == "causal":
            inputs = pad_causal(layer, inputs)
            padding = "valid"
        form = layer.data_format
        for factor, (stride, rate) in zip(self.factors("kernel"), self._steps, strict=True):
            inputs = keras.ops.conv(inputs, factor, stride, padding, form, rate)
        return conv_bias(self, inputs)

    @property
    def _steps(self) -> list[tuple[Shape, Shape]]:
        """Strides and dilation of each of the two convolutions."""
        layer: Any = self
        strides, dilation = tuple(layer.strides), tuple(layer.dilation_rate)
        if self.split_of("kernel") == SPATIAL:  # each factor strides along its own axis
            return [((strides[0], 1), (dilation[0], 1)), ((1, strides[1]), (1, dilation[1]))]
        ones = (1,) * len(strides)
        return [(strides, dilation), (ones, ones)]

    def stock_layers(self) -> list[StockLayer]:
        config = self.dense_config()
        alike = {name: config[name] for name in ("padding", "data_format", "groups")}
        sizes = [
            {"kernel_size": tuple(factor.shape[:-2]), "strides": strides, "dilation_rate": rate}
            for factor, (strides, rate) in zip(self.factors("kernel"), self._steps, strict=True)
        ]
        first = self.dense_class(
            filters=self.factors("kernel")[0].shape[-1],
            use_bias=False,
            **sizes[0],
            **alike,
            **self.stock_arguments(),
        )
        return self.in_two(first, self.dense_class(**config | sizes[1]))


def pad_causal(layer: Any, inputs: Any) -> Any:
    """Inputs of a one-dimensional convolution with what `padding="causal"` puts before them."""
    before = [layer.dilation_rate[0] * (layer.kernel_size[0] - 1), 0]
    last = layer.data_format == "channels_last"
    return keras.ops.pad(inputs, [[0, 0], before, [0, 0]] if last else [[0, 0], [0, 0], before])


def pointwise(layer: Any, inputs: Any, kernel: Any) -> Any:
    """A convolution of size 1.

    With channels first it is written as a product, since TensorFlow convolves only
    channels-last images on a CPU.
    """
    if layer.data_format == "channels_last":
        return keras.ops.conv(inputs, kernel, 1, "valid", layer.data_format)
    matrix = keras.ops.reshape(kernel, kernel.shape[-2:])
    return keras.ops.einsum("bi...,io->bo...", inputs, matrix)


def conv_bias(layer: Any, outputs: Any) -> Any:
    """Add the bias of a convolution along its channels, if there is one; then activate."""
    if layer.use_bias:
        ones = (1,) * len(layer.kernel_size)
        last = layer.data_format == "channels_last"
        shape = (1, *ones, layer.filters) if last else (1, layer.filters, *ones)
        outputs = keras.ops.add(outputs, keras.ops.reshape(layer.bias, shape))
    return outputs if layer.activation is None else layer.activation(outputs)


def _channels_last(layer: Any, images: np.ndarray) -> np.ndarray:
    return images if layer.data_format == "channels_last" else np.moveaxis(images, 1, -1)


def positions_of(layer: Any, images: np.ndarray) -> np.ndarray:
    """The channels at every position, `(1, rows, channels)`."""
    last = _channels_last(layer, images)
    return last.reshape(1, -1, last.shape[-1])


def patches_of(layer: Any, images: np.ndarray, groups: int, rng: np.random.Generator) -> np.ndarray:
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


def spatial_axes(layer: Any, shape: Shape) -> Shape:
    """The axes of an image, without samples and channels."""
    return tuple(shape[1:-1] if layer.data_format == "channels_last" else shape[2:])


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

    dense_class = keras.layers.Conv1D


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

    dense_class = keras.layers.Conv2D


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

    dense_class = keras.layers.Conv3D
