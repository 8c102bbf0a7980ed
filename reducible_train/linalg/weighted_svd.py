r"""The best low-rank approximation of a kernel under a metric.

`||A^(1/2) (W - W_r) G^(1/2)||_F` is least where `A^(1/2) W_r G^(1/2)` is the truncated singular
value decomposition of `M = A^(1/2) W G^(1/2)`, as Eckart and Young (1936) say of `M`. So

    M = P diag(s) Q        W_r = A^(-1/2) P_r diag(s_r) Q_r G^(-1/2)

and the squares of the singular values that are left out sum to what is lost. One side of the
vectors is enough, since `P_r diag(s_r) = M Q_r^T` and `diag(s_r) Q_r = P_r^T M`:

    W_r = W (G^(1/2) Q_r^T) (Q_r G^(-1/2)) = (A^(-1/2) P_r) (P_r^T A^(1/2)) W

Only the smaller side is kept, with the values, and the kernel is read again where factors of it
are asked for: the decompositions of all kernels of a model are smaller than the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from reducible_train.errors import ArgumentError
from reducible_train.linalg.leading import leading_side, pays
from reducible_train.linalg.metric import Metric
from reducible_train.linalg.refit import Refit
from reducible_train.linalg.roots import Array
from reducible_train.linalg.small_side import Matrix, small_side, times
from reducible_train.linalg.stacks import Stack
from reducible_train.linalg.svd import (
    ProductSvd,
    checked_rank,
    decompose_product,
    epsilon_of,
    relative_error,
    signs_of,
)

Matrices = Sequence[Matrix]


@dataclass(frozen=True, eq=False)
class Weighted:
    """A kernel decomposed under a metric: its spectrum, and what leads from it to thin factors.

    Args:
        read: Gives `[W (m, n)]`, or the factors `[U (m, r), V (r, n)]`, as they were decomposed.
        values: The weighted spectrum `(k,)`: the square of each is what losing its direction
            costs.
        right: `R`, of as many columns as directions are kept.
        left: `L`, of as many rows. With `s` the kept values, factors of `W_r` are the first
            columns and rows of `W R, L` of a kernel that is tall, of `R, L W` of a wide one, of
            `U R, L V` of factors, up to a scale of each direction.
        side: Which of these.
        balanced: True if they are balanced with `1 / sqrt(s)` on what meets the kernel, as by the
            Frobenius norm.
        norm: `||W||_F`, of the kernel itself.
        refit: As in `Metric`, of a dense kernel; what has factors keeps what they have learned.
        fitted: The factors of the rank that was asked for last, where they take long to fit.
    """

    read: Callable[[], Matrices]
    values: Array
    right: Matrix
    left: Matrix
    side: Literal["tall", "wide", "factors"]
    balanced: bool
    norm: float
    refit: Refit | None = None
    fitted: dict[int, tuple[Matrix, Matrix]] = field(default_factory=dict)

    def factors(self, rank: int) -> tuple[Matrix, Matrix]:
        """Balanced factors `U (m, rank)`, `V (rank, n)` of the best approximation of that rank.

        Best by the metric, at `sqrt(sum(values[rank:]**2))`, or fitted from there; balanced by
        themselves, so that `U.T @ U == V @ V.T`, whatever the metric. In the dtype of the kernel.
        The entry of largest magnitude of each column of `U` is positive.

        Raises:
            ArgumentError: `rank` is not in `[1, k]`, or more than was kept.
        """
        if self.refit is not None:
            return self._refitted(self.refit, rank)
        u, v = self._product(rank)
        if not self.balanced:
            return _balanced(u, v, u.dtype)
        if self.side == "factors":
            return u, v
        signs = signs_of(u).astype(u.dtype)
        u *= signs  # in place: both are new
        v *= signs[:, None]
        return u, v

    def rotations(self, rank: int) -> tuple[Array, Array]:
        """`R (r, rank)` and `L (rank, r)`: `U @ R` and `L @ V` are `factors(rank)`.

        Only of a kernel that has factors already. The rotations of `A^(1/2) U` and `V G^(1/2)`
        are those of `U` and `V`; what follows is the step to balance.

        Raises:
            ArgumentError: The kernel is dense, or `rank` is not in `[1, k]`.
        """
        if self.side != "factors":
            raise ArgumentError(
                "Only factors can be rotated. Received: the decomposition of a dense kernel. "
                "Use `factors`."
            )
        right, left = self._maps(rank)
        if self.balanced:
            return np.asarray(right, dtype=np.float64), np.asarray(left, dtype=np.float64)
        balance: ProductSvd = decompose_product(*self._product(rank))
        balance_right, balance_left = balance.rotations(rank)
        return right @ balance_right, balance_left @ left

    def error(self, rank: int) -> float:
        """`||W - W_r||_F` at `factors(rank)`: of the kernel itself, not by the metric."""
        if self.balanced:
            return relative_error(self.values, rank) * self.norm
        u, v = self.factors(rank)
        matrices = self.read()
        if len(matrices) == 1:
            return float(np.linalg.norm(matrices[0] - u.astype(np.float64) @ v))
        # W - W_r = [U, -U_r] [V; V_r]: a product of thin factors again, which is never formed.
        old_u, old_v = matrices
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
        for matrix in self.read():
            before = before @ matrix
        # Each mean has met all blocks of columns; what counts is that of piece i in block i.
        pieces = range(len(after))
        change: Array = (before - after @ u @ v).reshape(len(after), len(after), -1)
        shift: Array = change[pieces, pieces].sum(axis=0)
        return shift

    def _refitted(self, refit: Refit, rank: int) -> tuple[Matrix, Matrix]:
        """The factors that `refit` makes of those by the product of two weights."""
        if rank not in self.fitted:
            factors = self._product(rank)
            wide = (each.astype(np.float64) for each in (*factors, *self.read()))
            self.fitted.clear()
            self.fitted[rank] = _balanced(*refit(*wide), factors[0].dtype)
        u, v = self.fitted[rank]
        return u.copy(), v.copy()

    def _maps(self, rank: int) -> tuple[Matrix, Matrix]:
        """`R_r` and `L_r`, each direction scaled so that plain factors are balanced."""
        rank = checked_rank(rank, 1, self.right.shape[1])
        root = np.sqrt(self.values[:rank])
        inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
        on_right = root if self.side == "wide" else inverse
        on_left = root if self.side == "tall" else inverse
        return self.right[:, :rank] * on_right, on_left[:, None] * self.left[:rank]

    def _product(self, rank: int) -> tuple[Matrix, Matrix]:
        """Factors of `W_r`, in the dtype of the kernel."""
        right, left = self._maps(rank)
        matrices = self.read()
        kind = matrices[0].dtype
        u = right.astype(kind) if self.side == "wide" else times(matrices[0], right)
        v = left.astype(kind) if self.side == "tall" else times(matrices[-1].T, left.T).T
        return u, v


@dataclass(frozen=True, eq=False)
class WeightedStack(Stack):
    """The matrices of a stack `W (g, m, n)`, each decomposed under a metric of its own.

    They share one rank, so their weighted spectra count together, as in `StackSvd`.

    Args:
        parts: One for each matrix.
        weighted: False if there was no metric but the Frobenius norm to judge by.
    """

    parts: tuple[Weighted, ...]
    weighted: bool = True

    @property
    def is_plain(self) -> bool:
        """True if the Frobenius norm judged, also where a metric had nothing else to go by."""
        return all(part.balanced for part in self.parts)

    @property
    def rotates(self) -> bool:
        """True of factors, which have `rotations`."""
        return self.parts[0].side == "factors"

    def keeps(self, most: int | None) -> bool:
        """True if factors of every rank up to `most`, `None` for any, can be asked for."""
        kept: int = self.parts[0].right.shape[1]
        full = len(self.values)
        return kept >= (full if most is None else min(most, full))

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept: values and directions."""
        return sum(
            part.values.nbytes
            + part.right.nbytes
            + (0 if np.may_share_memory(part.left, part.right) else part.left.nbytes)
            for part in self.parts
        )

    def reading(
        self, read: Callable[[], Matrices], metrics: Sequence[Metric] | None = None
    ) -> WeightedStack:
        """The same of another kernel of equal numbers, whose matrices `read` gives.

        Args:
            read: Gives them.
            metrics: By which it was decomposed, for what factors are fitted to: that is not kept.
        """
        given = metrics or [Metric()] * len(self.parts)
        parts = (
            replace(
                part,
                read=partial(_one_of, read, place),
                refit=None if part.side == "factors" else metric.refit,
                fitted={},
            )
            for place, (part, metric) in enumerate(zip(self.parts, given, strict=True))
        )
        return replace(self, parts=tuple(parts))

    def relative_error(self, rank: int) -> float:
        """Relative Frobenius error of the kernel itself at `factors(rank)`, 0 for a zero kernel.

        Not by the metric: `||W - W_r||_F / ||W||_F`, never below that of the plain truncation.
        """
        if all(part.balanced for part in self.parts):
            return relative_error(self.values, rank)
        size = math.hypot(*(part.norm for part in self.parts))
        return math.hypot(*(part.error(rank) for part in self.parts)) / size if size else 0.0

    def output_shift(self, rank: int, means: Sequence[npt.ArrayLike]) -> Array:
        """`mean (W - W_r)`, `(g, n)`, for a mean of the inputs `(m,)` of each matrix."""
        pairs = zip(self.parts, means, strict=True)
        return np.stack([part.output_shift(rank, mean) for part, mean in pairs])


def weigh_stack(
    matrices: Sequence[Matrix],
    metrics: Sequence[Metric] | None = None,
    *,
    most: int | None = None,
    read: Callable[[], Sequence[Matrix]] | None = None,
    leading: bool = False,
) -> WeightedStack:
    """Decompose each matrix of a stack under its metric.

    Args:
        matrices: `[W (g, m, n)]`, or its factors `[U (g, m, r), V (g, r, n)]`.
        metrics: One for each of the `g` matrices; left out, the Frobenius norm.
        most: The largest rank that will be asked for; left out, all directions are kept.
        read: Gives the matrices again when factors are asked for, so that they need not be kept.
        leading: True where values after the first `most` need not be told apart, and an error 0.5 %
            above the least will do: found sooner, if `linalg.leading` says that this pays.

    Raises:
        SpectrumError: Entries are NaN or infinite, or LAPACK does not converge.
        ArgumentError: A metric of another shape.
    """
    given = metrics or [Metric()] * len(matrices[0])
    again = read or (lambda: matrices)
    pairs = zip(zip(*matrices, strict=True), given, strict=True)
    parts = [
        weigh(each, metric, most=most, read=partial(_one_of, again, place), leading=leading)
        for place, (each, metric) in enumerate(pairs)
    ]
    return WeightedStack(tuple(parts), weighted=metrics is not None)


def _one_of(read: Callable[[], Matrices], place: int) -> list[Matrix]:
    """The matrices of one place of a stack."""
    return [stack[place] for stack in read()]


def weigh(
    matrices: Sequence[npt.ArrayLike],
    metric: Metric | None = None,
    *,
    most: int | None = None,
    read: Callable[[], Matrices] | None = None,
    leading: bool = False,
) -> Weighted:
    """Decompose a kernel under a metric.

    Args:
        matrices: `[W (m, n)]`, or its factors `[U (m, r), V (r, n)]`, which are never multiplied
            out.
        metric: How an error is measured; left out, by the Frobenius norm.
        most: The largest rank that will be asked for; left out, all directions are kept.
        read: Gives the matrices again when factors are asked for, so that they need not be kept.
        leading: As in `weigh_stack`.

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
    given = tuple(_floating(matrix) for matrix in matrices)
    metric.check(len(given[0]), given[-1].shape[1])
    again = read or (lambda: given)
    if len(given) == 1:
        return _dense(given[0], metric, most, again, leading=leading)
    u, v = (factor.astype(np.float64, copy=False) for factor in given)
    weighed_v = metric.output_root.times(v.T).T
    found = decompose_product(metric.input_root.times(u), weighed_v)
    right, left = found.into_left[:, :most].copy(), found.into_right[:most].copy()
    size = _product_norm(u, v) if not metric.plain else float(np.linalg.norm(found.values))
    return Weighted(again, found.values, right, left, "factors", metric.plain, size)


def _dense(
    matrix: Matrix,
    metric: Metric,
    most: int | None,
    read: Callable[[], Matrices],
    *,
    leading: bool,
) -> Weighted:
    """The decomposition of a dense kernel; by the Frobenius norm, vectors in its own precision."""
    is_tall = matrix.shape[0] >= matrix.shape[1]
    on_rows, on_columns = metric.input_root, metric.output_root
    if is_tall:  # the root of the smaller side is undone
        small = on_columns = on_columns.square
    else:
        small = on_rows = on_rows.square
    weighed = matrix
    if not metric.plain:
        weighed = on_rows.times(on_columns.times(matrix.astype(np.float64).T).T)
    found = None
    if leading and most is not None and pays(matrix.shape, most):
        found = leading_side(weighed, most, epsilon_of(matrix))
    values, vectors = small_side(weighed, epsilon_of(matrix)) if found is None else found
    vectors = vectors[:, :most]
    if not metric.plain:
        vectors = vectors.copy(order="K")  # else a view would keep all directions
    if metric.plain:
        right = vectors.astype(matrix.dtype)
        left = right.T
    elif is_tall:
        right, left = small.adjoint(vectors), small.undone(vectors).T
    else:
        right, left = small.undone(vectors), small.adjoint(vectors).T
    side: Literal["tall", "wide"] = "tall" if is_tall else "wide"
    size = float(np.linalg.norm(values if metric.plain else matrix.astype(np.float64)))
    return Weighted(read, values, right, left, side, metric.plain, size, metric.refit)


def _floating(matrix: npt.ArrayLike) -> Matrix:
    array = np.asarray(matrix)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def _balanced(u: Matrix, v: Matrix, dtype: np.dtype[Any]) -> tuple[Matrix, Matrix]:
    """The same product, each factor as large as the other."""
    left, right = decompose_product(u, v).factors(u.shape[1])
    return left.astype(dtype, copy=False), right.astype(dtype, copy=False)


def _product_norm(u: Array, v: Array) -> float:
    """`||U V||_F` from thin factors."""
    # ||Qu Ru Rv^T Qv^T||_F = ||Ru Rv^T||_F: columns that are orthonormal change no length.
    left, right = np.linalg.qr(u)[1], np.linalg.qr(v.T)[1]
    return float(np.linalg.norm(left @ right.T))
