r"""The leading singular values of a large matrix, and the vectors of its smaller side, by sketches.

A basis `V (n, l)` of a few more columns than are asked for begins at random, and turns towards the
leading right singular vectors of `W (m, n)` each time it becomes

    V <- orthonormal basis of W^T (W V)

(randomised subspace iteration: Halko, Martinsson, Tropp, *Finding structure with randomness*, SIAM
Review 2011, arXiv:0909.4061, algorithm 4.4). What it has found shows in the eigenvalues of
`V^T W^T W V`, so it ends when one turn more gains next to nothing of what is still lost. The random
numbers are the same each time, so the answer is. For all but few columns it is quicker to form
`W^T W` once than to pass through `W` at each turn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from reducible_train.linalg.small_side import Matrix, gram_of, no_larger, scaled_blocks
from reducible_train.linalg.svd import Array, checked_matrix, epsilon_of

SMALLEST = 512  # of the smaller side: below, a decomposition takes milliseconds
LARGEST_SHARE = 1 / 16  # of full rank: `benchmarks/leading.py` has where it stops to pay
_FEW = 1 / 32  # of the smaller side: so few columns are multiplied sooner than `W^T W` is formed
_GAIN = 1e-4  # of the squared error: less of it is not worth another turn
_TURNS = 16  # at most; usually 4 to 8


def pays(shape: tuple[int, int], rank: int) -> bool:
    """True where the leading directions alone are found sooner than all of them.

    >>> pays((4096, 1024), 64), pays((4096, 1024), 256), pays((300, 300), 8)
    (True, False, False)
    """
    full = min(shape)
    return full >= SMALLEST and rank <= LARGEST_SHARE * full


def leading_side(
    matrix: npt.ArrayLike, rank: int, epsilon: float | None = None
) -> tuple[Array, Array] | None:
    """Singular values `(k,)`, and the first `rank` vectors of the smaller side, as columns.

    The truncation to `rank` by these vectors is at most 0.5 % further from the matrix, by the
    Frobenius norm, than the best one. Values after the first `rank` are all equal: the root mean
    square of what they are, so that the squares of all sum up to those of the matrix.

    Args:
        matrix: `(m, n)`, `k = min(m, n)`; the right vectors if `m >= n`, else the left ones.
        rank: How many vectors.
        epsilon: Relative round-off of its numbers; if not given, that of their dtype. Values below
            it are exactly 0.

    Returns:
        The values and vectors; `None` where the search has not settled, as of a spectrum that is
        nearly flat.

    Raises:
        SpectrumError: Entries are NaN or infinite.
        ArgumentError: Not a matrix, or one without entries.
    """
    epsilon = epsilon_of(matrix) if epsilon is None else epsilon
    checked = checked_matrix(matrix)
    tall = checked if checked.shape[0] >= checked.shape[1] else checked.T
    scale = no_larger(tall)
    basis, kept = _start(tall.shape[1], rank), -1.0
    multiply, total = _multiplication(tall, scale, basis.shape[1])
    for _ in range(_TURNS):
        image = multiply(basis)
        try:
            squares, turn = np.linalg.eigh(basis.T @ image)
        except np.linalg.LinAlgError:  # all directions are sought otherwise
            return None
        squares, turn = np.maximum(squares[::-1][:rank], 0.0), turn[:, ::-1][:, :rank]
        before, kept = kept, float(squares.sum())
        lost = max(total - kept, 0.0)
        if before >= 0 and kept - before <= _GAIN * lost + 1e-14 * total:
            values = _whole(squares, lost, tall.shape[1], epsilon)
            return None if values is None else (values * scale, basis @ turn)
        basis, _ = np.linalg.qr(image)
    return None


def _start(size: int, rank: int) -> Array:
    """A random orthonormal basis, of half as many columns again as are asked for."""
    columns = min(size, rank + max(10, rank // 2))
    start = np.random.default_rng(0).standard_normal((size, columns))
    return np.linalg.qr(start)[0]


def _multiplication(
    tall: Matrix, scale: float, columns: int
) -> tuple[Callable[[Array], Array], float]:
    """What multiplies by `W^T W`, for `W` divided by a scale; and the sum of the squares of `W`."""
    if columns < _FEW * tall.shape[1]:
        total = sum(float(np.vdot(block, block)) for block in scaled_blocks(tall, scale))
        return partial(_through, tall, scale), total
    gram = gram_of(tall, scale)
    return partial(np.matmul, gram), float(np.trace(gram))


def _through(tall: Matrix, scale: float, basis: Array) -> Array:
    """`W^T W V`."""
    image = np.zeros_like(basis)
    for block in scaled_blocks(tall, scale):
        image += block.T @ (block @ basis)
    return image


def _whole(squares: Array, lost: float, size: int, epsilon: float) -> Array | None:
    """A spectrum of all values, equal after the first ones; `None` where they cannot be."""
    values = np.sqrt(squares)
    values = np.where(values > epsilon * values[0], values, 0.0)
    rest = size - len(values)
    level = float(np.sqrt(lost / rest)) if rest else 0.0
    if level > values[-1] * (1 + 1e-9) + epsilon * values[0]:  # what is lost holds larger ones
        return None
    level = min(level, values[-1])
    level = level if level > epsilon * values[0] else 0.0
    return np.concatenate([values, np.full(rest, level)])
