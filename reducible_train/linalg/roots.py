r"""Roots of weights: for a symmetric, positive definite `A`, some `F` with `F^T F = A`.

Of an error `D`, `tr(D^T A D) = ||F D||_F^2` whatever root it is, for two of them differ by a
rotation. So the cheapest one serves: Cholesky's, a thirtieth of the work of an eigendecomposition.
Of a weight that is known by fewer vectors than it has directions, these vectors themselves and its
floor, stacked, are one, and nothing is decomposed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Thin:
    """A weight `X^T X + floor I (k, k)`, known by its vectors.

    Args:
        vectors: `X (p, k)`, fewer than directions.
        floor: What every direction weighs at least.

    Example:
        >>> Thin(np.array([[1.0, 2.0]]), floor=0.5).whole
        array([[1.5, 2. ],
               [2. , 4.5]])
    """

    vectors: Array
    floor: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        """`(k, k)`, that of the weight."""
        return (self.vectors.shape[1],) * 2

    @property
    def whole(self) -> Array:
        """All numbers of the weight, `(k, k)`."""
        found: Array = self.vectors.T @ self.vectors
        found[np.diag_indices_from(found)] += self.floor
        return found


Weight = Array | Thin  # `(k, k)`; an array `(k,)` is a diagonal


class Root(Protocol):
    """A root `F` of a weight `(k, k)`; a matrix has `k` rows, after any number of other axes."""

    @property
    def square(self) -> Root:
        """One that is square, and can be undone."""

    def times(self, matrix: Array) -> Array:
        """`F` times a matrix."""

    def adjoint(self, matrix: Array) -> Array:
        """`F^T` times a matrix."""

    def undone(self, matrix: Array) -> Array:
        """The inverse of `F` times a matrix."""


def root_of(weight: Weight | None) -> Root:
    """A root of a weight; of `None`, the identity.

    Example:
        >>> root = root_of(np.diag([4.0, 9.0]))
        >>> root.times(np.ones((2, 1))).ravel(), root.undone(np.ones((2, 1))).ravel().round(3)
        (array([2., 3.]), array([0.5  , 0.333]))
    """
    if weight is None:
        return _Identity()
    if isinstance(weight, Thin):
        return _Stacked(weight)
    return _Diagonal(np.sqrt(weight)) if weight.ndim == 1 else _Square(_factor(weight))


@dataclass(frozen=True, eq=False)
class Blocks:
    """A root of the Kronecker product of two weights, by a root of each.

    Args:
        across: Of the weight between blocks of rows.
        within: Of that within each.
        count: How many blocks there are.
    """

    across: Root
    within: Root
    count: int

    @property
    def square(self) -> Blocks:
        """As in `Root`."""
        return Blocks(self.across.square, self.within.square, self.count)

    def times(self, matrix: Array) -> Array:
        """As in `Root`."""
        return self._both(matrix, self.within.times, self.across.times)

    def adjoint(self, matrix: Array) -> Array:
        """As in `Root`."""
        return self._both(matrix, self.within.adjoint, self.across.adjoint)

    def undone(self, matrix: Array) -> Array:
        """As in `Root`."""
        return self._both(matrix, self.within.undone, self.across.undone)

    def _both(
        self, matrix: Array, within: Callable[[Array], Array], across: Callable[[Array], Array]
    ) -> Array:
        columns = matrix.shape[-1]
        blocks = within(matrix.reshape(self.count, -1, columns))
        return across(blocks.reshape(self.count, -1)).reshape(-1, columns)


@dataclass(frozen=True)
class _Identity:
    @property
    def square(self) -> _Identity:
        return self

    def times(self, matrix: Array) -> Array:
        return matrix

    adjoint = undone = times


@dataclass(frozen=True, eq=False)
class _Diagonal:
    values: Array

    @property
    def square(self) -> _Diagonal:
        return self

    def times(self, matrix: Array) -> Array:
        return self.values[:, None] * matrix

    adjoint = times

    def undone(self, matrix: Array) -> Array:
        return matrix / self.values[:, None]


@dataclass(frozen=True, eq=False)
class _Square:
    factor: Array

    @property
    def square(self) -> _Square:
        return self

    def times(self, matrix: Array) -> Array:
        found: Array = self.factor @ matrix
        return found

    def adjoint(self, matrix: Array) -> Array:
        found: Array = self.factor.T @ matrix
        return found

    def undone(self, matrix: Array) -> Array:
        return np.asarray(np.linalg.solve(self.factor, matrix), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class _Stacked:
    weight: Thin

    @cached_property
    def square(self) -> _Square:
        return _Square(_factor(self.weight.whole))

    def times(self, matrix: Array) -> Array:
        parts = (self.weight.vectors @ matrix, np.sqrt(self.weight.floor) * matrix)
        return np.concatenate(parts, axis=-2)

    def adjoint(self, matrix: Array) -> Array:
        return self.square.adjoint(matrix)

    def undone(self, matrix: Array) -> Array:
        return self.square.undone(matrix)


def raised(weight: Array, floor: float) -> Array:
    """A symmetric matrix without what round-off has made uneven, `floor` added to its eigenvalues.

    >>> raised(np.array([[1.0, 2.0], [4.0, 1.0]]), 0.5)
    array([[1.5, 3. ],
           [3. , 1.5]])
    """
    found: Array = (weight + weight.T) / 2
    found[np.diag_indices_from(found)] += floor
    return found


def _factor(weight: Array) -> Array:
    """Cholesky's factor; where round-off has made the weight singular, the symmetric root."""
    try:
        return np.asarray(np.linalg.cholesky(weight), dtype=np.float64).T
    except np.linalg.LinAlgError:
        squares, vectors = np.linalg.eigh(weight)
        floor = np.finfo(np.float64).eps * max(float(squares[-1]), 1e-300)
        found: Array = vectors * np.sqrt(np.maximum(squares, floor)) @ vectors.T
        return found
