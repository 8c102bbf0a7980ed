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

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

Tokens = tuple[str, ...]
Shape = tuple[int, ...]
T = TypeVar("T")
Axes = tuple[T | None, ...]


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
        sizes = self._sizes((self._kernel, kernel_shape))
        g, m, n = (math.prod(sizes[label] for label in labels) for labels in self._matrix)
        return g, m, n

    def factor_shapes(self, kernel_shape: Sequence[int], rank: int) -> tuple[Shape, Shape]:
        """Shapes of the variables `U` and `V`."""
        sizes = self._sizes((self._kernel, kernel_shape)) | {self.rank: rank}
        return _shape(self._u, sizes), _shape(self._v, sizes)

    def kernel_shape(self, u_shape: Sequence[int], v_shape: Sequence[int]) -> Shape:
        """Shape of the kernel variable whose factors have these shapes."""
        return _shape(self._kernel, self._sizes((self._u, u_shape), (self._v, v_shape)))

    def rank_of(self, u_shape: Sequence[int]) -> int:
        """The rank of a left factor of this shape."""
        return self._sizes((self._u, u_shape))[self.rank]

    def inherited(self, axes: Sequence[T | None]) -> tuple[Axes[T], Axes[T]]:
        """What the axes of `U` and of `V` have from those of the kernel; the rank has `None`.

        Args:
            axes: Something for each axis of the kernel variable, or `None`.

        Example:
            >>> Matricization("hwio", "h1ir", "1wro").inherited(("high", "wide", "in", "out"))
            (('high', None, 'in', None), (None, 'wide', None, 'out'))
        """
        known = dict(zip(self._kernel, axes, strict=True)) | {"": None}
        u, v = (tuple(known.get(token) for token in tokens) for tokens in (self._u, self._v))
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
        sizes = self._sizes((self._kernel, kernel_shape))
        rows, columns = self._matrix[1], other._matrix[2]
        return (
            tuple(sizes[label] for label in rows),
            tuple(place for place, label in enumerate(rows) if label in columns),
        )

    # --- values -----------------------------------------------------------------------

    def stack(self, kernel: np.ndarray) -> np.ndarray:
        """The matrices `(g, m, n)` of a kernel."""
        sizes = self._sizes((self._kernel, kernel.shape))
        stacked: np.ndarray = _rearrange(kernel, self._kernel, self._matrix, sizes, np)
        return stacked

    def unstack(self, matrices: np.ndarray, kernel_shape: Sequence[int]) -> np.ndarray:
        """The kernel of matrices `(g, m, n)`."""
        sizes = self._sizes((self._kernel, kernel_shape))
        kernel: np.ndarray = _rearrange(matrices, self._matrix, self._kernel, sizes, np)
        return kernel

    def stack_factors(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The matrices `(g, m, r)` and `(g, r, n)` of the variables `U` and `V`."""
        sizes = self._sizes((self._u, u.shape), (self._v, v.shape))
        return self._stacked_factors(u, v, sizes, np)

    def unstack_factors(
        self, u: np.ndarray, v: np.ndarray, kernel_shape: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The variables `U` and `V` of matrices `(g, m, r)` and `(g, r, n)`."""
        sizes = self._sizes((self._kernel, kernel_shape)) | {self.rank: u.shape[-1]}
        left, right = self._factor_matrices
        return (
            _rearrange(u, left, self._u, sizes, np),
            _rearrange(v, right, self._v, sizes, np),
        )

    def product(self, u: Any, v: Any, ops: Any = np) -> Any:
        """The kernel `U V`, from variables; `ops` is numpy or `keras.ops`."""
        sizes = self._sizes((self._u, u.shape), (self._v, v.shape))
        left, right = self._stacked_factors(u, v, sizes, ops)
        return _rearrange(ops.matmul(left, right), self._matrix, self._kernel, sizes, ops)

    def grams(self, u: Any, v: Any, ops: Any) -> tuple[Any, Any]:
        """`U^T U` and `V V^T`, each `(g, r, r)`, from variables."""
        sizes = self._sizes((self._u, u.shape), (self._v, v.shape))
        left, right = self._stacked_factors(u, v, sizes, ops)
        return (
            ops.matmul(ops.transpose(left, (0, 2, 1)), left),
            ops.matmul(right, ops.transpose(right, (0, 2, 1))),
        )

    # --- inside -----------------------------------------------------------------------

    @cached_property
    def _kernel(self) -> Tokens:
        return _tokens(self.kernel)

    @cached_property
    def _u(self) -> Tokens:
        return _tokens(self.u)

    @cached_property
    def _v(self) -> Tokens:
        return _tokens(self.v)

    @cached_property
    def _matrix(self) -> Tokens:
        """The labels of the stack, of the rows and of the columns, in the kernel's order."""
        left, right = set("".join(self._u)), set("".join(self._v))
        labels = "".join(self._kernel)
        return (
            "".join(label for label in labels if label in left and label in right),
            "".join(label for label in labels if label not in right),
            "".join(label for label in labels if label not in left),
        )

    @property
    def _factor_matrices(self) -> tuple[Tokens, Tokens]:
        stack, rows, columns = self._matrix
        return (stack, rows, self.rank), (stack, self.rank, columns)

    def _stacked_factors(self, u: Any, v: Any, sizes: dict[str, int], ops: Any) -> tuple[Any, Any]:
        left, right = self._factor_matrices
        return (
            _rearrange(u, self._u, left, sizes, ops),
            _rearrange(v, self._v, right, sizes, ops),
        )

    def _sizes(self, *given: tuple[Tokens, Sequence[int]]) -> dict[str, int]:
        sizes = dict(self.lengths)
        for tokens, shape in given:
            for token, length in zip(tokens, shape, strict=True):
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


def _rearrange(array: Any, source: Tokens, target: Tokens, sizes: dict[str, int], ops: Any) -> Any:
    """The same numbers, with axes split, moved and joined."""
    labels = "".join(source)
    array = ops.reshape(array, tuple(sizes[label] for label in labels))
    array = ops.transpose(array, tuple(labels.index(label) for label in "".join(target)))
    return ops.reshape(array, _shape(target, sizes))
