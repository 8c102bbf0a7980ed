r"""The best low-rank approximation of a kernel under a metric.

`||A^(1/2) (W - W_r) G^(1/2)||_F` is least where `A^(1/2) W_r G^(1/2)` is the truncated singular
value decomposition of `M = A^(1/2) W G^(1/2)`, as Eckart and Young (1936) say of `M`. So

    M = P diag(s) Q        W_r = A^(-1/2) P_r diag(s_r) Q_r G^(-1/2)

and the squares of the singular values that are left out sum to what is lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from reducible_train.errors import ArgumentError
from reducible_train.linalg.metric import Array, Metric
from reducible_train.linalg.stacks import Stack
from reducible_train.linalg.svd import ProductSvd, Svd, decompose, decompose_product, epsilon_of


@dataclass(frozen=True, eq=False)
class Weighted:
    """A kernel decomposed under a metric.

    Args:
        matrices: `[W (m, n)]`, or its factors `[U (m, r), V (r, n)]`.
        metric: How an error of it is measured.
        parts: The plain decomposition of `A^(1/2) W G^(1/2)`.
    """

    matrices: tuple[Array, ...]
    metric: Metric
    parts: Svd

    @property
    def values(self) -> Array:
        """The weighted spectrum `(k,)`: the square of each is what losing its direction costs."""
        return self.parts.values

    def factors(self, rank: int) -> tuple[Array, Array]:
        """Balanced factors `U (m, rank)`, `V (rank, n)` of the best approximation of that rank.

        Best by the metric, at `sqrt(sum(values[rank:]**2))`; balanced by themselves, so that
        `U.T @ U == V @ V.T`, whatever the metric.

        Raises:
            ArgumentError: `rank` is not in `[1, k]`.
        """
        return self.parts.factors(rank) if self.metric.plain else self._back(rank).factors(rank)

    def rotations(self, rank: int) -> tuple[Array, Array]:
        """`R (r, rank)` and `L (rank, r)`: `U @ R` and `L @ V` are `factors(rank)`.

        Only of a kernel that has factors already. The rotations of `A^(1/2) U` and `V G^(1/2)`
        are those of `U` and `V`; what follows is the step to balance.

        Raises:
            ArgumentError: The kernel is dense, or `rank` is not in `[1, k]`.
        """
        if not isinstance(self.parts, ProductSvd):
            raise ArgumentError(
                "Only factors can be rotated. Received: the decomposition of a dense kernel. "
                "Use `factors`."
            )
        right, left = self.parts.rotations(rank)
        if self.metric.plain:
            return right, left
        balance_right, balance_left = self._back(rank).rotations(rank)
        return right @ balance_right, balance_left @ left

    @cached_property
    def norm(self) -> float:
        """`||W||_F`, of the kernel itself."""
        if len(self.matrices) == 1:
            return float(np.linalg.norm(self.matrices[0]))
        return _product_norm(*self.matrices)

    def error(self, rank: int) -> float:
        """`||W - W_r||_F` at `factors(rank)`: of the kernel itself, not by the metric."""
        u, v = self.factors(rank)
        if len(self.matrices) == 1:
            return float(np.linalg.norm(self.matrices[0] - u @ v))
        # W - W_r = [U, -U_r] [V; V_r]: a product of thin factors again, which is never formed.
        old_u, old_v = self.matrices
        return _product_norm(np.hstack([old_u, -u]), np.vstack([old_v, v]))

    def output_shift(self, rank: int, mean: npt.ArrayLike) -> Array:
        """`mean (W - W_r)`, `(n,)`: added to a bias, it leaves the mean output where it was.

        Args:
            rank: The rank `W` is cut to.
            mean: `(m,)`, the mean of the inputs; `(p, m)` if each of `p` means meets a block of
                the columns, and the outputs are sums over the blocks.
        """
        u, v = self.factors(rank)
        before = after = np.atleast_2d(np.asarray(mean, dtype=np.float64))
        for matrix in self.matrices:
            before = before @ matrix
        # Each mean has met all blocks of columns; what counts is that of piece i in block i.
        pieces = range(len(after))
        change: Array = (before - after @ u @ v).reshape(len(after), len(after), -1)
        shift: Array = change[pieces, pieces].sum(axis=0)
        return shift

    def _back(self, rank: int) -> ProductSvd:
        """`W_r` in the coordinates of the kernel, decomposed by itself."""
        u, v = self.parts.factors(rank)
        return decompose_product(self.metric.rows(u, undo=True), self.metric.columns(v, undo=True))


@dataclass(frozen=True, eq=False)
class WeightedStack(Stack):
    """The matrices of a stack `W (g, m, n)`, each decomposed under a metric of its own.

    They share one rank, so their weighted spectra count together, as in `StackSvd`.

    Args:
        parts: One for each matrix.
    """

    parts: tuple[Weighted, ...]

    def relative_error(self, rank: int) -> float:
        """Relative Frobenius error of the kernel itself at `factors(rank)`, 0 for a zero kernel.

        Not by the metric: `||W - W_r||_F / ||W||_F`, never below that of the plain truncation.
        """
        size = math.hypot(*(part.norm for part in self.parts))
        return math.hypot(*(part.error(rank) for part in self.parts)) / size if size else 0.0

    def energy(self, rank: int) -> float:
        """Energy of the kernel kept at `factors(rank)`: `1 - relative_error**2`, at least 0."""
        return max(0.0, 1.0 - self.relative_error(rank) ** 2)

    def output_shift(self, rank: int, means: Sequence[npt.ArrayLike]) -> Array:
        """`mean (W - W_r)`, `(g, n)`, for a mean of the inputs `(m,)` of each matrix."""
        pairs = zip(self.parts, means, strict=True)
        return np.stack([part.output_shift(rank, mean) for part, mean in pairs])


def weigh_stack(
    matrices: Sequence[npt.NDArray[np.floating]], metrics: Sequence[Metric]
) -> WeightedStack:
    """Decompose each matrix of a stack under its metric.

    Args:
        matrices: `[W (g, m, n)]`, or its factors `[U (g, m, r), V (g, r, n)]`.
        metrics: One for each of the `g` matrices.

    Raises:
        SpectrumError: Entries are NaN or infinite, or LAPACK does not converge.
        ArgumentError: A metric of another shape.
    """
    stacks = zip(*matrices, strict=True)
    return WeightedStack(
        tuple(weigh(each, metric) for each, metric in zip(stacks, metrics, strict=True))
    )


def weigh(matrices: Sequence[npt.ArrayLike], metric: Metric | None = None) -> Weighted:
    """Decompose a kernel under a metric.

    Args:
        matrices: `[W (m, n)]`, or its factors `[U (m, r), V (r, n)]`, which are never multiplied
            out.
        metric: How an error is measured; left out, by the Frobenius norm.

    Raises:
        SpectrumError: Entries are NaN or infinite, or LAPACK does not converge.
        ArgumentError: Not a matrix or two factors, or a metric of another shape.

    Example:
        >>> kernel = [[1.0, 0.0], [0.0, 3.0]]
        >>> often = Metric(inputs=np.diag([16.0, 1.0]))  # the first input is much larger
        >>> u, v = weigh([kernel], often).factors(1)
        >>> (u @ v).round(12)
        array([[1., 0.],
               [0., 0.]])
    """
    metric = metric or Metric()
    exact = tuple(np.asarray(matrix, dtype=np.float64) for matrix in matrices)
    metric.check(len(exact[0]), exact[-1].shape[1])
    if len(exact) == 1:
        weighed = metric.columns(metric.rows(exact[0]))
        return Weighted(exact, metric, decompose(weighed, epsilon_of(matrices[0])))
    u, v = exact
    return Weighted(exact, metric, decompose_product(metric.rows(u), metric.columns(v)))


def _product_norm(u: Array, v: Array) -> float:
    """`||U V||_F` from thin factors."""
    # ||Qu Ru Rv^T Qv^T||_F = ||Ru Rv^T||_F: columns that are orthonormal change no length.
    left, right = np.linalg.qr(u)[1], np.linalg.qr(v.T)[1]
    return float(np.linalg.norm(left @ right.T))
