"""Decompositions of stacks of matrices that share one rank.

A grouped convolution has one matrix for each group, `W (g, m, n)`; nearly every other
kernel is a stack of one. All matrices of a stack are cut to the same rank, so their singular
values count together: `values[i]**2` is the sum of the squares of each one's i-th. The
energies that a rank keeps and loses then add up over the stack.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from reducible_train.linalg.svd import Array, Svd, decompose


@dataclass(frozen=True, eq=False)
class Stack:
    """What the decompositions of the matrices of a stack `W (g, m, n)` have in common.

    Args:
        parts: One for each matrix, each with `values`, `factors` and perhaps `rotations`.
    """

    parts: tuple[Any, ...]

    @cached_property
    def values(self) -> Array:
        """Singular values of the stack `(k,)`, non-increasing."""
        if len(self.parts) == 1:
            only: Array = self.parts[0].values
            return only
        values: Array = np.linalg.norm([part.values for part in self.parts], axis=0)
        return values

    def factors(self, rank: int) -> tuple[Array, Array]:
        """Balanced factors `U (g, m, rank)` and `V (g, rank, n)` of the best approximation.

        Raises:
            ArgumentError: `rank` is not in `[1, k]`.
        """
        return _both_stacked(part.factors(rank) for part in self.parts)

    def rotations(self, rank: int) -> tuple[Array, Array]:
        """`R (g, r, rank)` and `L (g, rank, r)`: `U @ R` and `L @ V` are `factors(rank)`.

        Only of products, `U (g, m, r)` and `V (g, r, n)`.

        Raises:
            ArgumentError: `rank` is not in `[1, k]`.
        """
        return _both_stacked(part.rotations(rank) for part in self.parts)


@dataclass(frozen=True, eq=False)
class StackSvd(Stack):
    """The singular value decompositions of all matrices of a stack."""

    parts: tuple[Svd, ...]


def stacked(matrices: Sequence[Array]) -> Array:
    """Matrices `(m, n)` as a stack `(g, m, n)`; one alone is not copied."""
    return matrices[0][None] if len(matrices) == 1 else np.stack(matrices)


def _both_stacked(pairs: Iterable[tuple[Array, Array]]) -> tuple[Array, Array]:
    left, right = zip(*pairs, strict=True)
    return stacked(left), stacked(right)


def decompose_stack(matrices: npt.NDArray[np.floating]) -> StackSvd:
    """Decompose each matrix of `(g, m, n)`.

    Raises:
        SpectrumError: Entries are NaN or infinite, or LAPACK does not converge.

    Example:
        >>> decompose_stack(np.array([[[3.0]], [[4.0]]])).values
        array([5.])
    """
    return StackSvd(tuple(decompose(matrix) for matrix in matrices))
