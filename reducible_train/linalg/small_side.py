"""Singular values of a matrix, with the singular vectors of its smaller side alone.

Of `W (m, n)` with `m >= n`, the right singular vectors `Q (k, n)` give every truncation,

    W_r = W Q_r^T Q_r

so the left ones, as large as `W` itself, are never made. `n > m` is the same from the other side.

Up to `k = GRAM_ABOVE` LAPACK's divide-and-conquer SVD is used, above it the symmetric eigenproblem
of the smaller Gram matrix, which is summed in double precision over blocks of rows: a matrix of
single precision is never copied as a whole. What that costs in digits is said in `linalg.svd`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from reducible_train.linalg.svd import GRAM_ABOVE, Array, checked_matrix, epsilon_of, no_convergence

Matrix = npt.NDArray[np.floating]

_BLOCK = 2**20  # numbers of a block in double precision: 8 MiB


def small_side(matrix: npt.ArrayLike, epsilon: float | None = None) -> tuple[Array, Array]:
    """Singular values `(k,)` and singular vectors `(k, k)` of the smaller side, as columns.

    Args:
        matrix: `(m, n)`, `k = min(m, n)`; the right vectors if `m >= n`, else the left ones.
        epsilon: Relative round-off of its numbers; if not given, that of their dtype. Values below
            it are exactly 0.

    Raises:
        SpectrumError: Entries are NaN or infinite, or LAPACK does not converge.
        ArgumentError: Not a matrix, or one without entries.

    Example:
        >>> values, vectors = small_side([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]])
        >>> values
        array([4., 3.])
        >>> abs(vectors)
        array([[0., 1.],
               [1., 0.]])
    """
    epsilon = epsilon_of(matrix) if epsilon is None else epsilon
    checked = checked_matrix(matrix)
    tall = checked if checked.shape[0] >= checked.shape[1] else checked.T
    try:
        values, vectors = _by_gram(tall) if tall.shape[1] > GRAM_ABOVE else _by_svd(tall)
    except np.linalg.LinAlgError as error:
        raise no_convergence(checked) from error
    return np.where(values > epsilon * values[0], values, 0.0), vectors


def times(matrix: Matrix, right: Matrix) -> Matrix:
    """`matrix (m, n)` times `right (n, r)` in double precision, kept in the dtype of the matrix.

    Block by block of rows, so that the matrix is never copied as a whole.
    """
    out = np.empty((len(matrix), right.shape[1]), matrix.dtype)
    exact = right.astype(np.float64, copy=False)
    for rows in _blocks(matrix):
        out[rows] = matrix[rows].astype(np.float64, copy=False) @ exact
    return out


def _by_svd(tall: Matrix) -> tuple[Array, Array]:
    exact = tall.astype(np.float64, copy=False)
    if len(exact) > 2 * exact.shape[1]:
        exact = np.asarray(np.linalg.qr(exact, mode="r"), dtype=np.float64)
    _, values, right = np.linalg.svd(exact, full_matrices=False)
    return values, right.T


def _by_gram(tall: Matrix) -> tuple[Array, Array]:
    scale = no_larger(tall)
    squares, vectors = np.linalg.eigh(gram_of(tall, scale))
    return np.sqrt(np.maximum(squares[::-1], 0.0)) * scale, vectors[:, ::-1]


def gram_of(tall: Matrix, scale: float) -> Array:
    """`W^T W` of a matrix divided by a scale, summed in double precision."""
    gram = np.zeros((tall.shape[1], tall.shape[1]))
    for block in scaled_blocks(tall, scale):
        gram += block.T @ block
    return gram


def no_larger(matrix: Matrix) -> float:
    """The magnitude that no entry is above, 1 for zeros: divided by it, no square overflows."""
    return max(float(matrix.max()), -float(matrix.min())) or 1.0


def scaled_blocks(matrix: Matrix, scale: float) -> Iterator[Array]:
    """Block after block of rows, divided by a scale, in double precision."""
    return (matrix[rows] / np.float64(scale) for rows in _blocks(matrix))


def _blocks(matrix: Matrix) -> list[slice]:
    """Blocks of rows that take 8 MiB in double precision."""
    step = max(1, _BLOCK // matrix.shape[1])
    return [slice(start, start + step) for start in range(0, len(matrix), step)]
