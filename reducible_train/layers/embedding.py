"""Embeddings whose table is two thin factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.layers.base import LowRank, PlainKernel
from reducible_train.layers.keras_types import (
    Initializer,
    Layer,
    Options,
    PartialShape,
    Tensor,
    ops,
)
from reducible_train.layers.kind import Data, KernelKind, RowReader, alike, product_of
from reducible_train.layers.stock import StockLayer, in_two, u_arguments
from reducible_train.layers.uses import Uses

REVERSE = "reverse_embeddings"  # the kernel of the way back


class Table(Layer, Protocol):
    """What is read of an embedding."""

    output_dim: int


class ReversibleTable(Table, Protocol):
    """What is read of an embedding that is also called in reverse."""

    tie_weights: bool


# --- what is known of the dense layers ----------------------------------------------------


def _uses(
    layer: Table, kernel: str, split: str, inputs: PartialShape, options: Options
) -> Uses | None:
    """Looking up multiplies nothing."""
    count = product_of(inputs[1:])
    return None if count is None else Uses(0, 0, count)


def _choices(
    layer: Table, kernel: str, inputs: np.ndarray, arguments: Sequence[object]
) -> np.ndarray | None:
    return inputs


def _output_rows(
    layer: Table, kernel: str, outputs: np.ndarray, rng: np.random.Generator
) -> np.ndarray | None:
    return outputs.reshape(1, -1, layer.output_dim)


def _stock(layer: LowRankEmbedding) -> list[StockLayer]:
    alike = u_arguments(layer)
    first = keras.layers.Embedding(
        layer.input_dim, layer.ranks["embeddings"], mask_zero=layer.mask_zero, **alike
    )
    second = keras.layers.Dense(
        layer.output_dim,
        use_bias=False,
        activity_regularizer=layer.activity_regularizer,
        **alike | {"name": layer.name},
    )
    return in_two(layer, first, second, "embeddings")


def _makes_logits(layer: ReversibleTable, kernel: str) -> bool:
    return layer.tie_weights or kernel == REVERSE


def _uses_either_way(
    layer: ReversibleTable, kernel: str, split: str, inputs: PartialShape, options: Options
) -> Uses | None:
    """Of a call that is told to be in reverse; else of either way, as its shape suggests."""
    looks_so = len(inputs) > 1 and inputs[-1] == layer.output_dim
    in_reverse = bool(options.get("reverse", looks_so))
    if in_reverse != (kernel == REVERSE) and not layer.tie_weights:
        return Uses.alike(0)
    return alike(inputs[1:-1]) if in_reverse else _uses(layer, kernel, split, inputs, options)


def _choices_of_either_way(
    layer: ReversibleTable, kernel: str, inputs: np.ndarray, arguments: Sequence[object]
) -> np.ndarray | None:
    """None on the way back, whose inputs choose nothing."""
    in_reverse = len(arguments) > 1 and bool(arguments[1])
    return None if in_reverse or kernel == REVERSE else inputs


def _met_either_way(kernel: str, arguments: Sequence[object]) -> object | None:
    """What the table meets of any call, and the kernel of the way back of those in reverse."""
    in_reverse = len(arguments) > 1 and bool(arguments[1])
    return arguments[0] if in_reverse or kernel != REVERSE else None


def _rows_back(
    layer: ReversibleTable, kernel: str, inputs: np.ndarray, rng: np.random.Generator
) -> np.ndarray | None:
    """Those that the kernel of the way back multiplies; a tied table is judged on the way there."""
    return inputs.reshape(1, -1, layer.output_dim) if kernel == REVERSE else None


def _rows_of_either_way(
    layer: ReversibleTable, kernel: str, outputs: np.ndarray, rng: np.random.Generator
) -> np.ndarray | None:
    """Of a table not those of the way back, which are logits; a cap on these has a slope near 1."""
    if kernel == REVERSE:
        return outputs.reshape(1, -1, outputs.shape[-1])
    return (
        _output_rows(layer, kernel, outputs, rng) if outputs.shape[-1] == layer.output_dim else None
    )


# --- the low-rank layers ------------------------------------------------------------------


class LowRankTable(LowRank):
    """What embeddings share: rows of `U (vocabulary, r)` are looked up, then meet `V (r, d)`."""

    compute_dtype: str

    @property
    def embeddings(self) -> Tensor:
        """The product `U V`, in the shape of the table."""
        return self.product("embeddings")

    def look_up(self, inputs: Tensor) -> Tensor:
        """Rows of `U V`; of the table, while it is dense."""
        if inputs.dtype not in ("int32", "int64"):
            inputs = ops.cast(inputs, "int32")
        factors = self.factors("embeddings")
        table = self.embeddings if factors is None else factors[0]
        rows = ops.cast(ops.take(table, inputs, axis=0), self.compute_dtype)
        if factors is None:
            return rows
        return _times(rows, ops.cast(factors[1], self.compute_dtype))


def _times(rows: Any, matrix: Tensor) -> Tensor:
    """Rows times a matrix; of a ragged tensor, which no product takes, its flat rows."""
    if not hasattr(rows, "flat_values"):
        return ops.matmul(rows, matrix)
    product: Tensor = rows.with_flat_values(ops.matmul(rows.flat_values, matrix))
    return product


@keras.saving.register_keras_serializable("reducible_train")
class LowRankEmbedding(LowRankTable, keras.layers.Embedding):
    """An `Embedding` layer with table `E (vocabulary, d) ~ U V`.

    It costs a small multiplication that the dense layer does without, and saves memory.

    Args:
        input_dim: As of `keras.layers.Embedding`, whose other arguments follow.
        rank: Rank of the factors.

    Example:
        >>> layer = LowRankEmbedding(100, 16, rank=4)
        >>> layer(keras.ops.array([[1, 2, 3]])).shape
        TensorShape([1, 3, 16])

    Reference: Lan et al., *ALBERT: a lite BERT*, ICLR 2020.
    """

    kernel_kind = KernelKind(
        keras.layers.Embedding,
        kernel_attributes={"embeddings": "_embeddings"},
        uses=_uses,
        data=Data(choices=_choices, outputs=RowReader(_output_rows)),
        stock=_stock,
    )

    def call(self, inputs: Tensor) -> Tensor:
        return self.look_up(inputs)


@keras.saving.register_keras_serializable("reducible_train")
class LowRankReversibleEmbedding(LowRankTable, keras.layers.ReversibleEmbedding):
    """A `ReversibleEmbedding` layer with table `E ~ U V`; in reverse `(x V^T) U^T`.

    With `tie_weights=False` it has a second kernel for the way back, `(x U') V'`.

    Args:
        input_dim: As of `keras.layers.ReversibleEmbedding`, whose other arguments follow.
        rank: Rank of the factors; or a mapping from `"embeddings"` and `"reverse_embeddings"` to
            ranks, which leaves what it does not name dense.
    """

    kernel_kind = KernelKind(
        keras.layers.ReversibleEmbedding,
        kernel_attributes={"embeddings": "_embeddings", REVERSE: REVERSE},
        gives_output=_makes_logits,
        uses=_uses_either_way,
        data=Data(
            RowReader(_rows_back),
            RowReader(_rows_of_either_way),
            choices=_choices_of_either_way,
            argument=_met_either_way,
        ),
    )
    reverse_embeddings = PlainKernel()

    @property
    def reverse_embeddings_initializer(self) -> Initializer:
        """As Keras has it, that of the table."""
        initializer: Initializer = self.embeddings_initializer
        return initializer

    def call(self, inputs: Tensor, reverse: bool = False) -> Tensor:
        if not reverse:
            result = self.look_up(inputs)
            mask = keras.layers.Embedding.compute_mask(self, inputs)
            if mask is not None:
                _keras.attach_mask(result, mask)
            return result
        steps = self._way_back()
        logits = inputs
        if self.reverse_dtype is not None:
            logits, *steps = (ops.cast(x, self.reverse_dtype) for x in (logits, *steps))
        for matrix in steps:
            logits = ops.matmul(logits, matrix)
        if self.logit_soft_cap is not None:
            logits = ops.tanh(logits / self.logit_soft_cap) * self.logit_soft_cap
        return logits

    def _way_back(self) -> list[Tensor]:
        """The matrices that take embeddings back to tokens."""
        if self.tie_weights:
            return [ops.transpose(self.embeddings_v), ops.transpose(self.embeddings_u)]
        factors = self.factors(REVERSE)
        return [self.reverse_embeddings] if factors is None else [*factors]
