"""An EinsumDense layer whose kernel is two thin factors."""

from __future__ import annotations

import math
import string
from dataclasses import dataclass
from typing import Protocol

import keras
import numpy as np

from reducible_train.layers.base import LowRank, add_bias
from reducible_train.layers.keras_types import (
    Biased,
    Options,
    PartialShape,
    Tensor,
    Variable,
    ops,
)
from reducible_train.layers.kind import Data, KernelKind, RowReader, alike
from reducible_train.layers.stock import StockLayer, dense_config, in_two, u_arguments
from reducible_train.layers.uses import Uses
from reducible_train.linalg.matricization import Matricization


@dataclass(frozen=True)
class Equation:
    """The labels of an equation `inputs,kernel->outputs`, sorted by what they do.

    Args:
        inputs: Labels of the inputs; an ellipsis is `.`.
        kernel: Labels of the kernel.
        outputs: Labels of the outputs.
    """

    inputs: str
    kernel: str
    outputs: str

    @classmethod
    def of(cls, equation: str) -> Equation:
        """Read an equation as EinsumDense takes it."""
        left, _, outputs = equation.replace(" ", "").replace("...", ".").partition("->")
        inputs, _, kernel = left.partition(",")
        return cls(inputs, kernel, outputs)

    @property
    def contracted(self) -> str:
        """Labels the kernel and the inputs share, and the outputs have not: the rows."""
        return "".join(x for x in self.kernel if x in self.inputs and x not in self.outputs)

    @property
    def made(self) -> str:
        """Labels the kernel and the outputs share, and the inputs have not: the columns."""
        return "".join(x for x in self.kernel if x in self.outputs and x not in self.inputs)

    @property
    def shared(self) -> str:
        """Labels that kernel, inputs and outputs share: one matrix for each."""
        return "".join(x for x in self.kernel if x in self.outputs and x in self.inputs)

    @property
    def rank(self) -> str:
        """A letter for the rank."""
        used = self.inputs + self.kernel + self.outputs
        return next(letter for letter in string.ascii_letters if letter not in used)

    @property
    def fault(self) -> str | None:
        """Why the kernel cannot be split in two, or `None`."""
        told = f"equation with kernel labels {self.kernel!r}"
        if len(set(self.kernel)) != len(self.kernel) or "." in self.kernel:
            return f"{told} repeats a label or holds an ellipsis"
        if any(x not in self.outputs and x not in self.inputs for x in self.kernel):
            return f"{told} sums the kernel over a label of its own"
        if any(x not in self.outputs and x not in self.kernel for x in self.inputs):
            return f"{told} sums the inputs over a label of their own"
        if not self.contracted or not self.made:
            return f"{told} does not separate into inputs and outputs"
        return None

    @property
    def between(self) -> str:
        """Labels of what the first of two equations gives; an ellipsis stays at its end."""
        kept = "".join(x for x in self.inputs if x not in self.contracted)
        last = self.inputs.endswith(".")
        return kept[:-1] + self.rank + "." if last else kept + self.rank

    @property
    def steps(self) -> tuple[str, str]:
        """The two equations that take its place."""
        between = self.between
        u = self.shared + self.contracted + self.rank
        v = self.shared + self.rank + self.made
        first, second = f"{self.inputs},{u}->{between}", f"{between},{v}->{self.outputs}"
        return first.replace(".", "..."), second.replace(".", "...")


class EinsumLayer(Biased, Protocol):
    """What is read of an `EinsumDense` layer."""

    equation: str
    bias_axes: str | None
    kernel: Tensor


# --- what is known of the dense layer -----------------------------------------------------


def _fault(layer: EinsumLayer, kernel: str) -> str | None:
    return Equation.of(layer.equation).fault


def _matricization(layer: EinsumLayer, kernel: str, split: str) -> Matricization:
    e = Equation.of(layer.equation)
    if e.fault is not None:  # seen as its last axis, and never factorised
        labels = string.ascii_lowercase[: len(layer.kernel.shape)]
        return Matricization(labels, labels[:-1] + "R", "R" + labels[-1], rank="R")
    u, v = e.shared + e.contracted + e.rank, e.shared + e.rank + e.made
    return Matricization(e.kernel, u, v, rank=e.rank)


def _uses(
    layer: EinsumLayer, kernel: str, split: str, inputs: PartialShape, options: Options
) -> Uses | None:
    e = Equation.of(layer.equation)
    labels: list[str] = []
    for label in e.inputs:
        more = len(inputs) - len(e.inputs) + 1
        labels += ["."] * more if label == "." else [label]
    sizes = list(zip(labels, inputs, strict=True))[1:]
    return alike([size for label, size in sizes if label not in e.kernel])


def _rows(values: np.ndarray, labels: str, first: str, last: str) -> np.ndarray:
    """Values of some labels as `(first, all the others, last)`."""
    count = values.ndim - len(labels) + 1
    axes: list[str] = []
    for label in labels:
        axes += [f".{i}" for i in range(count)] if label == "." else [label]
    others = [label for label in axes if label not in first and label not in last]
    moved = values.transpose([axes.index(label) for label in [*first, *others, *last]])
    sizes = [math.prod(values.shape[axes.index(label)] for label in side) for side in (first, last)]
    return moved.reshape(sizes[0], -1, sizes[1])


def _input_rows(
    layer: EinsumLayer, kernel: str, inputs: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    e = Equation.of(layer.equation)
    return _rows(inputs, e.inputs, e.shared, e.contracted)


def _output_rows(
    layer: EinsumLayer, kernel: str, outputs: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    e = Equation.of(layer.equation)
    return _rows(outputs, e.outputs, e.shared, e.made)


def _bias(layer: EinsumLayer, kernel: str) -> Variable | None:
    """The bias, where it has every column and in their order."""
    e = Equation.of(layer.equation)
    own = "".join(x for x in e.outputs if x in (layer.bias_axes or ""))
    return layer.bias if own == e.shared + e.made else None


def _stock(layer: LowRankEinsumDense) -> list[StockLayer]:
    config = dense_config(layer)
    e = Equation.of(layer.equation)
    equations = e.steps
    # Labels of the given output shape: all where an ellipsis in front holds the batch,
    # otherwise all but the first; none is given for the ellipsis.
    given = [tuple(config["output_shape"]), e.outputs.replace(".", "")]
    sizes = dict(zip(reversed(given[1]), reversed(given[0]), strict=False))
    sizes[e.rank] = layer.ranks["kernel"]
    labels = e.between.replace(".", "")[len(given[1]) - len(given[0]) :]
    first = keras.layers.EinsumDense(
        equations[0], tuple(sizes[label] for label in labels), **u_arguments(layer)
    )
    second = keras.layers.EinsumDense.from_config(config | {"equation": equations[1]})
    return in_two(layer, first, second, "kernel")


# --- the low-rank layer -------------------------------------------------------------------


@keras.saving.register_keras_serializable("reducible_train")
class LowRankEinsumDense(LowRank, keras.layers.EinsumDense):
    """An `EinsumDense` layer with kernel `W ~ U V`, in two equations instead of one.

    The rows of the kernel matrix are the labels the kernel shares with the inputs only, its
    columns those it shares with the outputs only; labels it shares with both make a stack.
    The projections of MultiHeadAttention and GroupQueryAttention are of this kind.

    Args:
        equation: As of `keras.layers.EinsumDense`, whose other arguments follow.
        rank: Rank of the factors.

    Example:
        >>> layer = LowRankEinsumDense("abc,cde->abde", output_shape=(None, 4, 8), rank=3)
        >>> layer.build((None, 10, 32))
        >>> [tuple(v.shape) for v in layer.trainable_variables]
        [(32, 3), (3, 4, 8)]
    """

    kernel_kind = KernelKind(
        keras.layers.EinsumDense,
        matricization=_matricization,
        fault=_fault,
        uses=_uses,
        data=Data(RowReader(_input_rows), RowReader(_output_rows), bias=_bias),
        stock=_stock,
    )

    @property
    def kernel(self) -> Tensor:
        """The product `U V`, in the kernel's shape."""
        return self.product("kernel")

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        first, second = Equation.of(self.equation).steps
        x = ops.einsum(first, inputs, self.kernel_u)
        return add_bias(self, ops.einsum(second, x, self.kernel_v))
