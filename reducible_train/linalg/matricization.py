"""How a kernel of any number of axes is seen as a stack of matrices, and its factors as kernels.

A matricization gives each axis of three variables a one-letter label, as in an einsum. A label
that the kernel shares with `U` only is a row, with `V` only a column, with both a member of the
stack. The label `r` is the rank; `1` stands for an axis of length 1; `(gq)` for one axis that
runs over two labels, the first outermost, of which the lengths named in `lengths` are known.

    Dense             "io"       -> "ir",       "ro"
    Conv2D, channels  "hwio"     -> "hwir",     "11ro"
    Conv2D, spatial   "hwio"     -> "h1ir",     "1wro"
    two groups        "hwi(gq)"  -> "hwi(gr)",  "11r(gq)"  with lengths (("g", 2),)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

Tokens = tuple[str, ...]
Shape = tuple[int, ...]
T = TypeVar("T")
A = TypeVar("A", bound="_Shaped")
Axes = tuple[T | None, ...]


class _Shaped(Protocol):
    @property
    def shape(self) -> Shape: ...


class ArrayOps(Protocol[A]):
    """What is asked of numpy, or of `keras.ops`."""

    def reshape(self, x: A, shape: Shape, /) -> A: ...
    def transpose(self, x: A, axes: Sequence[int] | None = None, /) -> A: ...
    def matmul(self, x: A, y: A, /) -> A: ...


@dataclass(frozen=True)
class _Labels:
    """The labels of the axes of kernel, `U` and `V`; of stack, rows and columns of the matrices.

    Those of the matrices stand in the order of the kernel.
    """

    kernel: Tokens
    u: Tokens
    v: Tokens
    matrix: Tokens


@functools.cache
def _labels_of(kernel: str, u: str, v: str) -> _Labels:
    """Read the labels of a matricization; those of each kind of layer are the same ones always."""
    tokens = _tokens(kernel), _tokens(u), _tokens(v)
    labels, left, right = ("".join(each) for each in tokens)
    matrix = (
        "".join(label for label in labels if label in left and label in right),
        "".join(label for label in labels if label not in right),
        "".join(label for label in labels if label not in left),
    )
    return _Labels(*tokens, matrix)


@dataclass(frozen=True)
class Matricization:
    """A kernel variable `W` as matrices `(g, m, n)`, its factors as variables `U` and `V`.

    The law: `product(u, v)` of unstacked factors is the unstacked product of the matrices.

    Args:
        kernel: Labels of the axes of the kernel variable.
        u: Labels of the axes of the left factor.
        v: Labels of the axes of the right factor.
        rank: The label of the rank.
        lengths: Lengths of labels that share an axis with another, as pairs.

    Example:
        >>> conv = Matricization("hwio", "hwir", "11ro")
        >>> conv.stack_shape((3, 3, 16, 32)), conv.factor_shapes((3, 3, 16, 32), rank=4)
        ((1, 144, 32), ((3, 3, 16, 4), (1, 1, 4, 32)))
    """

    kernel: str
    u: str
    v: str
    rank: str = "r"
    lengths: tuple[tuple[str, int], ...] = ()

    # --- shapes -----------------------------------------------------------------------

    def stack_shape(self, kernel_shape: Sequence[int]) -> tuple[int, int, int]:
        """`(g, m, n)`: how many matrices, of how many rows and columns."""
        sizes = self._sizes((self._labels.kernel, kernel_shape))
        g, m, n = (math.prod(sizes[label] for label in labels) for labels in self._labels.matrix)
        return g, m, n

    def factor_shapes(self, kernel_shape: Sequence[int], rank: int) -> tuple[Shape, Shape]:
        """Shapes of the variables `U` and `V`."""
        sizes = self._sizes((self._labels.kernel, kernel_shape)) | {self.rank: rank}
        return _shape(self._labels.u, sizes), _shape(self._labels.v, sizes)

    def kernel_shape(self, u_shape: Sequence[int], v_shape: Sequence[int]) -> Shape:
        """Shape of the kernel variable whose factors have these shapes."""
        return _shape(
            self._labels.kernel, self._sizes((self._labels.u, u_shape), (self._labels.v, v_shape))
        )

    def rank_of(self, u_shape: Sequence[int]) -> int:
        """The rank of a left factor of this shape."""
        return self._sizes((self._labels.u, u_shape))[self.rank]

    def inherited(self, axes: Sequence[T | None]) -> tuple[Axes[T], Axes[T]]:
        """What the axes of `U` and of `V` have from those of the kernel; the rank has `None`.

        Args:
            axes: Something for each axis of the kernel variable, or `None`.

        Example:
            >>> Matricization("hwio", "h1ir", "1wro").inherited(("high", "wide", "in", "out"))
            (('high', None, 'in', None), (None, 'wide', None, 'out'))
        """
        known = dict(zip(self._labels.kernel, axes, strict=True)) | {"": None}
        u, v = (
            tuple(known.get(token) for token in tokens)
            for tokens in (self._labels.u, self._labels.v)
        )
        return u, v

    def rows_among_columns(
        self, other: Matricization, kernel_shape: Sequence[int]
    ) -> tuple[Shape, tuple[int, ...]]:
        """The axes that make up a row index here, and which of them are columns elsewhere.

        Args:
            other: Another way to see the same kernel, of no other columns than these and ours.
            kernel_shape: Shape of the kernel variable.

        Returns:
            Lengths of the axes, and the places of those that are columns in `other`.

        Example:
            >>> channels = Matricization("hwio", "hwir", "11ro")
            >>> channels.rows_among_columns(Matricization("hwio", "h1ir", "1wro"), (3, 5, 8, 16))
            ((3, 5, 8), (1,))
        """
        sizes = self._sizes((self._labels.kernel, kernel_shape))
        rows, columns = self._labels.matrix[1], other._labels.matrix[2]
        return (
            tuple(sizes[label] for label in rows),
            tuple(place for place, label in enumerate(rows) if label in columns),
        )

    # --- values -----------------------------------------------------------------------

    def stack(self, kernel: np.ndarray) -> np.ndarray:
        """The matrices `(g, m, n)` of a kernel."""
        labels = self._labels
        sizes = self._sizes((labels.kernel, kernel.shape))
        return _rearrange(kernel, labels.kernel, labels.matrix, sizes, _NUMPY)

    def unstack(self, matrices: np.ndarray, kernel_shape: Sequence[int]) -> np.ndarray:
        """The kernel of matrices `(g, m, n)`."""
        labels = self._labels
        sizes = self._sizes((labels.kernel, kernel_shape))
        return _rearrange(matrices, labels.matrix, labels.kernel, sizes, _NUMPY)

    def stack_factors(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The matrices `(g, m, r)` and `(g, r, n)` of the variables `U` and `V`."""
        left, right, _ = self._stacked(u, v, _NUMPY)
        return left, right

    def unstack_factors(
        self, u: np.ndarray, v: np.ndarray, kernel_shape: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The variables `U` and `V` of matrices `(g, m, r)` and `(g, r, n)`."""
        labels = self._labels
        stack, rows, columns = labels.matrix
        sizes = self._sizes((labels.kernel, kernel_shape)) | {self.rank: u.shape[-1]}
        return (
            _rearrange(u, (stack, rows, self.rank), labels.u, sizes, _NUMPY),
            _rearrange(v, (stack, self.rank, columns), labels.v, sizes, _NUMPY),
        )

    def product(self, u: A, v: A, ops: ArrayOps[A]) -> A:
        """The kernel `U V`, from variables; `ops` is numpy or `keras.ops`."""
        left, right, sizes = self._stacked(u, v, ops)
        labels = self._labels
        return _rearrange(ops.matmul(left, right), labels.matrix, labels.kernel, sizes, ops)

    def grams(self, u: A, v: A, ops: ArrayOps[A]) -> tuple[A, A]:
        """`U^T U` and `V V^T`, each `(g, r, r)`, from variables."""
        left, right, _ = self._stacked(u, v, ops)
        return (
            ops.matmul(ops.transpose(left, (0, 2, 1)), left),
            ops.matmul(right, ops.transpose(right, (0, 2, 1))),
        )

    # --- inside -----------------------------------------------------------------------

    @property
    def _labels(self) -> _Labels:
        return _labels_of(self.kernel, self.u, self.v)

    def _stacked(self, u: A, v: A, ops: ArrayOps[A]) -> tuple[A, A, dict[str, int]]:
        """The matrices `(g, m, r)` and `(g, r, n)` of variables, and the lengths of all labels."""
        labels = self._labels
        stack, rows, columns = labels.matrix
        sizes = self._sizes((labels.u, u.shape), (labels.v, v.shape))
        left = _rearrange(u, labels.u, (stack, rows, self.rank), sizes, ops)
        right = _rearrange(v, labels.v, (stack, self.rank, columns), sizes, ops)
        return left, right, sizes

    def _sizes(self, *given: tuple[Tokens, Sequence[int]]) -> dict[str, int]:
        sizes = dict(self.lengths)
        for tokens, shape in given:
            for token, length in zip(tokens, shape, strict=True):
                # Of labels that share an axis, the one without a length gets what is left of it.
                known = math.prod(sizes[label] for label in token if label in sizes)
                for label in token:
                    if label not in sizes:
                        sizes[label] = int(length) // known
        return sizes


def _tokens(labels: str) -> Tokens:
    """One entry for each axis: `"hw1(gr)"` -> `("h", "w", "", "gr")`."""
    tokens: list[str] = []
    inside = None
    for label in labels:
        if label == "(":
            inside = ""
        elif label == ")":
            tokens.append(inside or "")
            inside = None
        elif inside is not None:
            inside += label
        else:
            tokens.append("" if label == "1" else label)
    return tuple(tokens)


def _shape(tokens: Tokens, sizes: dict[str, int]) -> Shape:
    return tuple(math.prod(sizes[label] for label in token) for token in tokens)


def _rearrange(
    array: A, source: Tokens, target: Tokens, sizes: dict[str, int], ops: ArrayOps[A]
) -> A:
    """The same numbers, with axes split, moved and joined."""
    labels = "".join(source)
    array = ops.reshape(array, tuple(sizes[label] for label in labels))
    array = ops.transpose(array, tuple(labels.index(label) for label in "".join(target)))
    return ops.reshape(array, _shape(target, sizes))


_NUMPY: ArrayOps[np.ndarray] = np
