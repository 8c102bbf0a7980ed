"""Every kind of layer that has a low-rank twin, in small: what the laws of layers run over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

L = keras.layers
VOCABULARY = 20
IMAGE, ROWS, WORDS = (5, 4, 6), (5, 6), (5,)
STEPS = (3, 6)  # of loops, each of which takes as long as all of another layer
IMAGE_FIRST = (6, 5, 4)
L1, L2 = keras.regularizers.L1(0.02), keras.regularizers.L2(0.03)
# Keras draws orthogonal kernels, its default for recurrent ones, in no dtype of 16 bits.
CELL = {
    "kernel_regularizer": L2,
    "recurrent_regularizer": L1,
    "recurrent_initializer": "glorot_uniform",
}
DROPS = CELL | {"dropout": 0.3, "recurrent_dropout": 0.2, "seed": 7}


@dataclass(frozen=True)
class Kind:
    """One kind of layer.

    Args:
        shape: Shape of one input; `WORDS` for whole numbers.
        make: Makes the layer, of a dtype policy.
        split: How its kernel is split; `None` for the usual way.
        masked: True if the layer takes or passes a mask.
        exact: True if every output uses every number of its kernel, and is not activated.
        variant: True for another form of a kind that is here already.
    """

    shape: tuple[int, ...]
    make: Callable[..., Any]
    split: str | None = None
    masked: bool = False
    exact: bool = False
    variant: bool = False

    @property
    def has_words(self) -> bool:
        """True if the inputs are whole numbers."""
        return self.shape == WORDS

    def inputs(self, samples: int = 4) -> np.ndarray:
        """Random inputs; where there is a mask, it hides the end of every other sample."""
        rng = np.random.default_rng(0)
        if self.has_words:
            x = rng.integers(1, VOCABULARY, (samples, *self.shape)).astype("int32")
        else:
            x = rng.normal(size=(samples, *self.shape)).astype("float32")
        if self.masked:
            x[::2, -2:] = 0
        return x


@keras.saving.register_keras_serializable("kinds")
class Around(L.Layer):
    """A layer around another one that is part of its configuration."""

    def __init__(self, layer: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.layer = layer
        self.supports_masking = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config: Any) -> Around:
        return cls(keras.saving.deserialize_keras_object(config.pop("layer")), **config)


@keras.saving.register_keras_serializable("kinds")
class Attention(Around):
    """Attention of a sequence to itself."""

    def build(self, shape: Any) -> None:
        if not self.layer.built:
            self.layer.build(shape, shape)

    def call(self, x: Any, training: bool = False) -> Any:
        return self.layer(x, x, training=training)


@keras.saving.register_keras_serializable("kinds")
class Tied(Around):
    """A table that is read in both directions."""

    def build(self, shape: Any) -> None:
        if not self.layer.built:
            self.layer.build(shape)

    def call(self, ids: Any) -> Any:
        return self.layer(keras.ops.tanh(self.layer(ids)), reverse=True)


def attention(layer: type, *args: Any, **kwargs: Any) -> Callable[..., Any]:
    """What makes an attention layer within one that calls it."""
    return lambda dtype=None: Attention(layer(*args, dtype=dtype, **kwargs), dtype=dtype)


def plain(layer: type, *args: Any, **kwargs: Any) -> Callable[..., Any]:
    """What makes a layer."""
    return lambda dtype=None: layer(*args, dtype=dtype, **kwargs)


def first(layer: type, *args: Any, **kwargs: Any) -> Callable[..., Any]:
    """What makes a convolution of images whose channels come first."""
    return plain(layer, *args, data_format="channels_first", **kwargs)


KINDS: dict[str, Kind] = {
    "dense": Kind((12,), plain(L.Dense, 10, activation="relu", activity_regularizer=L2)),
    "dense of rows": Kind(
        ROWS,
        plain(L.Dense, 9, use_bias=False, kernel_regularizer=L1),
        masked=True,
        exact=True,
        variant=True,
    ),
    "einsum to heads": Kind(
        ROWS, plain(L.EinsumDense, "abc,cde->abde", (5, 3, 4), bias_axes="de"), exact=True
    ),
    "einsum from heads": Kind(
        (4, 3, 4),
        plain(L.EinsumDense, "abcd,cde->abe", (4, 8), bias_axes="e", kernel_regularizer=L2),
        exact=True,
        variant=True,
    ),
    "einsum any order": Kind(
        (4, 3, 4), plain(L.EinsumDense, "...ab,dba->...d", (9,)), exact=True, variant=True
    ),
    "einsum ellipsis in front": Kind(
        (2, 5, 6), plain(L.EinsumDense, "...bc,cd->...bd", (5, 9)), exact=True, variant=True
    ),
    "einsum ellipsis behind": Kind(
        (6, 3, 2), plain(L.EinsumDense, "ab...,bc->ac...", 9), exact=True, variant=True
    ),
    "einsum per head": Kind(
        (4, 2, 6),
        plain(L.EinsumDense, "bthr,hrn->bthn", (4, 2, 9), bias_axes="hn", kernel_regularizer=L2),
        exact=True,
    ),
    "conv1d causal": Kind(ROWS, plain(L.Conv1D, 9, 3, padding="causal", dilation_rate=2)),
    "conv1d": Kind(
        ROWS, plain(L.Conv1D, 9, 3, strides=2, kernel_regularizer=L2), exact=True, variant=True
    ),
    "conv2d": Kind(
        IMAGE,
        plain(L.Conv2D, 8, (3, 2), kernel_regularizer=L1),
        split="channel",
        exact=True,
        variant=True,
    ),
    "conv2d same": Kind(
        IMAGE,
        plain(L.Conv2D, 8, 3, strides=2, padding="same", activation="relu"),
        split="channel",
    ),
    "conv2d dilated": Kind(
        IMAGE,
        plain(L.Conv2D, 8, 3, dilation_rate=(2, 1), padding="same"),
        split="channel",
        variant=True,
    ),
    "conv2d spatial": Kind(
        IMAGE,
        plain(L.Conv2D, 8, (3, 2), kernel_regularizer=L2),
        split="spatial",
        exact=True,
        variant=True,
    ),
    "conv2d spatial same": Kind(
        IMAGE, plain(L.Conv2D, 8, 3, strides=2, padding="same"), split="spatial", variant=True
    ),
    "conv2d spatial dilated": Kind(
        IMAGE, plain(L.Conv2D, 8, 3, dilation_rate=(2, 1), padding="same"), split="spatial"
    ),
    "conv2d groups": Kind(
        IMAGE, plain(L.Conv2D, 8, 3, groups=2, padding="same", kernel_regularizer=L2), variant=True
    ),
    "conv2d groups first": Kind(
        IMAGE_FIRST, first(L.Conv2D, 8, 3, groups=2, padding="same"), variant=True
    ),
    "conv2d pointwise": Kind(
        IMAGE, plain(L.Conv2D, 8, 1, use_bias=False), exact=True, variant=True
    ),
    "conv3d": Kind((4, 4, 3, 3), plain(L.Conv3D, 7, 2, strides=(1, 2, 1)), exact=True),
    "conv3d first": Kind((4, 4, 4, 3), first(L.Conv3D, 7, 2), exact=True, variant=True),
    "transposed1d": Kind(ROWS, plain(L.Conv1DTranspose, 5, 3, strides=2), exact=True),
    "transposed2d": Kind(
        IMAGE, plain(L.Conv2DTranspose, 5, 3, strides=2, padding="same", kernel_regularizer=L2)
    ),
    "transposed2d valid": Kind(
        IMAGE, plain(L.Conv2DTranspose, 5, (2, 3), strides=(1, 2)), exact=True, variant=True
    ),
    "transposed3d": Kind(
        (3, 3, 2, 6), plain(L.Conv3DTranspose, 5, 2, kernel_regularizer=L1), exact=True
    ),
    "separable1d": Kind(
        ROWS, plain(L.SeparableConv1D, 9, 3, padding="same", pointwise_regularizer=L1)
    ),
    "separable2d": Kind(
        IMAGE, plain(L.SeparableConv2D, 9, 3, strides=2, depth_multiplier=2, activation="relu")
    ),
    "separable1d first": Kind(ROWS, first(L.SeparableConv1D, 9, 3), variant=True),
    "separable2d first": Kind(IMAGE_FIRST, first(L.SeparableConv2D, 9, 3)),
    "embedding": Kind(
        WORDS,
        plain(L.Embedding, VOCABULARY, 8, mask_zero=True, embeddings_regularizer=L2),
        masked=True,
        exact=True,
    ),
    "reversible": Kind(
        WORDS,
        plain(L.ReversibleEmbedding, VOCABULARY, 8, mask_zero=True),
        masked=True,
        exact=True,
    ),
    "reversible tied": Kind(
        WORDS,
        lambda dtype=None: Tied(L.ReversibleEmbedding(VOCABULARY, 8, dtype=dtype), dtype=dtype),
        exact=True,
    ),
    "simple rnn": Kind(STEPS, plain(L.SimpleRNN, 8, return_sequences=True, **DROPS), masked=True),
    "lstm": Kind(STEPS, plain(L.LSTM, 8, **DROPS), masked=True),
    "lstm by gates": Kind(
        STEPS,
        lambda dtype=None: L.RNN(
            L.LSTMCell(8, implementation=1, dtype=dtype, **DROPS), unroll=True, dtype=dtype
        ),
        masked=True,
        variant=True,
    ),
    "gru": Kind(STEPS, plain(L.GRU, 8, return_sequences=True, **DROPS), masked=True),
    "gru reset before": Kind(
        STEPS,
        plain(L.GRU, 8, reset_after=False, implementation=1, **DROPS),
        masked=True,
        variant=True,
    ),
    "gru without bias": Kind(
        STEPS, plain(L.GRU, 8, use_bias=False, **CELL), masked=True, variant=True
    ),
    "stacked cells": Kind(
        STEPS,
        lambda dtype=None: L.RNN(
            L.StackedRNNCells(
                [L.LSTMCell(8, dtype=dtype, **CELL), L.GRUCell(7, dtype=dtype, **CELL)],
                dtype=dtype,
            ),
            dtype=dtype,
        ),
        variant=True,
    ),
    "bidirectional": Kind(
        STEPS,
        lambda dtype=None: L.Bidirectional(L.LSTM(7, dtype=dtype, **DROPS), dtype=dtype),
        masked=True,
    ),
    "attention": Kind(
        ROWS,
        attention(L.MultiHeadAttention, 2, 4, dropout=0.3, seed=7, kernel_regularizer=L2),
        masked=True,
        exact=True,
    ),
    "grouped attention": Kind(
        ROWS, attention(L.GroupQueryAttention, 6, 4, 2, kernel_regularizer=L1), exact=True
    ),
    "time distributed": Kind(
        ROWS,
        lambda dtype=None: L.TimeDistributed(
            L.Dense(7, dtype=dtype, kernel_regularizer=L2), dtype=dtype
        ),
        masked=True,
        exact=True,
    ),
}
