"""Transposed convolutions whose kernel is two thin factors."""

from __future__ import annotations

import functools
from typing import Protocol

import keras
import numpy as np

from reducible_train.layers.base import PlainKernel
from reducible_train.layers.conv import (
    AXES,
    ImageLayer,
    LowRankImageLayer,
    conv_bias,
    patches_of,
    positions_of,
    spatial_axes,
)
from reducible_train.layers.keras_types import Options, PartialShape, Tensor, Variable, ops
from reducible_train.layers.kind import Data, KernelKind, RowReader, alike
from reducible_train.layers.stock import StockLayer, dense_config, in_two, u_arguments
from reducible_train.layers.uses import Uses
from reducible_train.linalg.matricization import Matricization


class TransposedLayer(ImageLayer, Protocol):
    """What is read of a transposed convolution."""

    output_padding: object


# --- what is known of the dense layer -----------------------------------------------------


def _matricization(layer: TransposedLayer, kernel: str, split: str) -> Matricization:
    axes, ones = AXES[-len(layer.kernel_size) :], "1" * len(layer.kernel_size)
    return Matricization(axes + "oi", ones + "ir", axes + "or")


def _uses(
    layer: TransposedLayer, kernel: str, split: str, inputs: PartialShape, options: Options
) -> Uses | None:
    return alike(spatial_axes(layer, inputs))


def _input_rows(
    layer: TransposedLayer, kernel: str, inputs: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    return positions_of(layer, inputs)


def _output_rows(
    layer: TransposedLayer, kernel: str, outputs: np.ndarray, rng: np.random.Generator
) -> np.ndarray | None:
    """What each input position adds to, `(1, rows, h w o)`: outputs are sums of these, so
    the loss changes by a gradient's rows times a change of theirs.
    """
    if layer.output_padding is not None:
        return None
    return patches_of(layer, outputs, 1, rng)


def _stock(layer: LowRankConvTranspose, pointwise: type) -> list[StockLayer]:
    first = pointwise(
        filters=layer.ranks["kernel"],
        kernel_size=1,
        data_format=layer.data_format,
        use_bias=False,
        **u_arguments(layer),
    )
    second = layer.kernel_kind.dense_class(**dense_config(layer))
    return in_two(layer, first, second, "kernel")


def _kind(dense_class: type, pointwise: type) -> KernelKind:
    return KernelKind(
        dense_class,
        kernel_attributes={"kernel": "kernel"},
        matricization=_matricization,
        uses=_uses,
        data=Data(RowReader(_input_rows), RowReader(_output_rows)),
        stock=functools.partial(_stock, pointwise=pointwise),
    )


# --- the low-rank layers ------------------------------------------------------------------


class LowRankConvTranspose(LowRankImageLayer):
    """What transposed convolutions share, `W (i, h w o) ~ U V`.

    A convolution of size 1 to `r` channels, then a transposed convolution from there. Of its data
    the single contributions are judged, `x W`, whose sums are the outputs where they overlap; no
    bias takes up the mean of what is lost, since outputs get different numbers of them.
    """

    kernel = PlainKernel()
    kernel_u: Variable
    kernel_v: Variable
    output_padding: object

    def call(self, inputs: Tensor) -> Tensor:
        x = ops.conv(inputs, self.kernel_u, 1, "valid", self.data_format)
        x = ops.conv_transpose(
            x,
            self.kernel_v,
            list(self.strides),
            self.padding,
            self.output_padding,
            self.data_format,
            self.dilation_rate,
        )
        return conv_bias(self, x)


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

    kernel_kind = _kind(keras.layers.Conv1DTranspose, keras.layers.Conv1D)


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

    kernel_kind = _kind(keras.layers.Conv2DTranspose, keras.layers.Conv2D)


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

    kernel_kind = _kind(keras.layers.Conv3DTranspose, keras.layers.Conv3D)
