"""Embeddings whose table is two thin factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.layers.base import LowRank, PlainKernel, Shape, StockLayer, alike, product_of
from reducible_train.layers.uses import Uses


class LowRankTable(LowRank):
    """What embeddings share: rows of `U (vocabulary, r)` are looked up, then meet `V (r, d)`."""

    kernel_attributes = {"embeddings": "_embeddings"}  # noqa: RUF012

    @classmethod
    def uses(cls, layer: Any, kernel: str, split: str, inputs: Shape) -> Uses | None:
        count = product_of(inputs[1:])
        return None if count is None else Uses(0, 0, count)  # looking up multiplies nothing

    @classmethod
    def input_choices(
        cls, layer: Any, kernel: str, inputs: np.ndarray, arguments: Sequence[Any]
    ) -> np.ndarray | None:
        return inputs

    @classmethod
    def output_rows(
        cls, layer: Any, kernel: str, outputs: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray | None:
        return outputs.reshape(1, -1, layer.output_dim)

    @property
    def embeddings(self) -> Any:
        """The product `U V`, in the shape of the table."""
        return self.product("embeddings")

    def look_up(self, inputs: Any) -> Any:
        """Rows of `U V`; of the table, while it is dense."""
        layer: Any = self
        if inputs.dtype not in ("int32", "int64"):
            inputs = keras.ops.cast(inputs, "int32")
        u, v = self.factors("embeddings")
        rows = keras.ops.take(self.embeddings if u is None else u, inputs, axis=0)
        rows = keras.ops.cast(rows, layer.compute_dtype)
        if u is None:
            return rows
        return keras.ops.matmul(rows, keras.ops.cast(v, layer.compute_dtype))


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

    dense_class = keras.layers.Embedding

    def stock_layers(self) -> list[StockLayer]:
        alike = self.stock_arguments()
        first = keras.layers.Embedding(
            self.input_dim, self.ranks["embeddings"], mask_zero=self.mask_zero, **alike
        )
        second = keras.layers.Dense(
            self.output_dim,
            use_bias=False,
            activity_regularizer=self.activity_regularizer,
            **alike | {"name": self.name},
        )
        return self.in_two(first, second, "embeddings")

    def call(self, inputs: Any) -> Any:
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

    dense_class = keras.layers.ReversibleEmbedding
    kernel_attributes = {  # noqa: RUF012
        "embeddings": "_embeddings",
        "reverse_embeddings": "reverse_embeddings",
    }
    reverse_embeddings = PlainKernel()

    @property
    def reverse_embeddings_initializer(self) -> Any:
        """As Keras has it, that of the table."""
        return self.embeddings_initializer

    @classmethod
    def gives_output(cls, layer: Any, kernel: str) -> bool:
        return layer.tie_weights or kernel == "reverse_embeddings"

    @classmethod
    def uses(cls, layer: Any, kernel: str, split: str, inputs: Shape) -> Uses | None:
        """Of a call that may be either way, as its shape suggests."""
        in_reverse = len(inputs) > 1 and inputs[-1] == layer.output_dim
        return cls.uses_of_call(layer, kernel, inputs, {"reverse": in_reverse})

    @classmethod
    def uses_of_call(
        cls, layer: Any, kernel: str, inputs: Shape, options: Mapping[str, Any]
    ) -> Uses | None:
        if "reverse" not in options:
            return None
        in_reverse = bool(options["reverse"])
        if in_reverse != (kernel == "reverse_embeddings") and not layer.tie_weights:
            return Uses.alike(0)
        return alike(inputs[1:-1]) if in_reverse else super().uses(layer, kernel, "", inputs)

    @classmethod
    def input_choices(
        cls, layer: Any, kernel: str, inputs: np.ndarray, arguments: Sequence[Any]
    ) -> np.ndarray | None:
        """None on the way back, whose inputs choose nothing."""
        in_reverse = len(arguments) > 1 and bool(arguments[1])
        return None if in_reverse or kernel == "reverse_embeddings" else inputs

    @classmethod
    def output_rows(
        cls, layer: Any, kernel: str, outputs: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray | None:
        """Not those of the way back, which are logits."""
        if outputs.shape[-1] != layer.output_dim or kernel == "reverse_embeddings":
            return None
        return super().output_rows(layer, kernel, outputs, rng)

    def call(self, inputs: Any, reverse: bool = False) -> Any:
        if not reverse:
            result = self.look_up(inputs)
            mask = keras.layers.Embedding.compute_mask(self, inputs)
            if mask is not None:
                _keras.attach_mask(result, mask)
            return result
        if self.tie_weights:
            steps = [keras.ops.transpose(self.embeddings_v), keras.ops.transpose(self.embeddings_u)]
        else:
            factors = self.factors("reverse_embeddings")
            steps = [self.reverse_embeddings] if factors[0] is None else [*factors]
        logits = inputs
        if self.reverse_dtype is not None:
            logits, *steps = (keras.ops.cast(x, self.reverse_dtype) for x in (logits, *steps))
        for matrix in steps:
            logits = keras.ops.matmul(logits, matrix)
        if self.logit_soft_cap is not None:
            logits = keras.ops.tanh(logits / self.logit_soft_cap) * self.logit_soft_cap
        return logits
