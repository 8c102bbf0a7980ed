"""Singular spectra of matrices and of products of thin factors, and what a rank keeps of them.

A kernel matrix `W (m, n)` is `left @ diag(values) @ right`, with orthonormal columns in
`left (m, k)`, orthonormal rows in `right (k, n)`, `k = min(m, n)`, and `values` non-negative
and non-increasing. All work is done in float64, whatever comes in.

Up to `min(m, n) = GRAM_ABOVE` LAPACK's divide-and-conquer SVD is used. Above it, the symmetric
eigenproblem of the smaller Gram matrix (`W.T @ W` or `W @ W.T`): at 2048 x 2048 about 2.5 times
faster for the spectrum, a little faster for the whole decomposition, at a price. Squaring halves
the digits of small values: they are right to about `1e-16 * s[0]**2 / s[i]`, so values below about
1e-8 of the largest have no correct digit. Such a value holds less than 1e-16 of the energy, and
float32 kernels carry no information there.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reducible_train.errors import ArgumentError, ArgumentTypeError, SpectrumError

Array = npt.NDArray[np.float64]

GRAM_ABOVE = 256
_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Svd:
    """A singular value decomposition.

    Signs are fixed: the entry of largest magnitude of each left vector is positive.

    Args:
        left: `(m, k)`, orthonormal columns.
        values: `(k,)`, non-negative, non-increasing; those below the round-off of the matrix are
            exactly 0.
        right: `(k, n)`, orthonormal rows.
    """

    left: Array
    values: Array
    right: Array

    def factors(self, rank: int) -> tuple[Array, Array]:
        """Balanced factors `U (m, rank)`, `V (rank, n)` of the best approximation of that rank.

        Each side carries `sqrt(values)`, so `U.T @ U == V @ V.T`. `U @ V` is the closest matrix
        of that rank (Eckart & Young, 1936), at `relative_error(values, rank)`.

        Raises:
            ArgumentError: `rank` is not in `[1, k]`.
        """
        rank = checked_rank(rank, 1, len(self.values))
        root = np.sqrt(self.values[:rank])
        return self.left[:, :rank] * root, root[:, None] * self.right[:rank]


@dataclass(frozen=True, eq=False)
class ProductSvd(Svd):
    """The decomposition of a product `U @ V` of thin factors, `U (m, r)` and `V (r, n)`.

    Args:
        left: `(m, k)` with `k = min(m, n, r)`.
        values: `(k,)`; values below the round-off of the product are exactly 0.
        right: `(k, n)`.
        into_left: `V @ right.T`, `(r, k)`.
        into_right: `left.T @ U`, `(k, r)`.
    """

    into_left: Array
    into_right: Array

    def rotations(self, rank: int) -> tuple[Array, Array]:
        """`R (r, rank)` and `L (rank, r)`: `U @ R` and `L @ V` are `factors(rank)`.

        Whatever is linear in the factors (momenta, averages) follows through them. Nothing is
        inverted: `U @ V @ right.T == left * values` gives `R = V @ right.T / sqrt(values)`, and
        likewise `L = left.T @ U / sqrt(values)`. A direction with the value 0 has no past, and
        gets zeros.

        Raises:
            ArgumentError: `rank` is not in `[1, k]`.
        """
        rank = checked_rank(rank, 1, len(self.values))
        root = np.sqrt(self.values[:rank])
        inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
        return self.into_left[:, :rank] * inverse, inverse[:, None] * self.into_right[:rank]


def singular_spectrum(matrix: npt.ArrayLike) -> Array:
    """Singular values `(min(m, n),)` of `matrix (m, n)`, non-increasing, float64.

    Raises:
        SpectrumError: Entries are NaN or infinite, or LAPACK does not converge.
        ArgumentError: Not a matrix, or one without entries.

    Example:
        >>> singular_spectrum([[3.0, 0.0], [0.0, -4.0], [0.0, 0.0]])
        array([4., 3.])
    """
    matrix = _double(matrix)
    try:
        if min(matrix.shape) > GRAM_ABOVE:
            return _gram_spectrum(matrix)
        return np.asarray(np.linalg.svd(matrix, compute_uv=False), dtype=np.float64)
    except np.linalg.LinAlgError as error:
        raise no_convergence(matrix) from error


def decompose(matrix: npt.ArrayLike, epsilon: float | None = None) -> Svd:
    """The whole decomposition of `matrix (m, n)`.

    Args:
        matrix: The matrix.
        epsilon: Relative round-off of its numbers; if not given, that of their dtype.

    Raises:
        SpectrumError: Entries are NaN or infinite, or LAPACK does not converge.
        ArgumentError: Not a matrix, or one without entries.

    Example:
        >>> u, v = decompose([[2.0, 0.0], [0.0, 1.0]]).factors(1)
        >>> (u @ v).round(12)
        array([[2., 0.],
               [0., 0.]])
    """
    epsilon = epsilon_of(matrix) if epsilon is None else epsilon
    matrix = _double(matrix)
    try:
        svd = _gram_svd(matrix) if min(matrix.shape) > GRAM_ABOVE else _lapack_svd(matrix)
    except np.linalg.LinAlgError as error:
        raise no_convergence(matrix) from error
    signs = signs_of(svd.left)
    values = np.where(svd.values > epsilon * svd.values[0], svd.values, 0.0)
    return Svd(svd.left * signs, values, signs[:, None] * svd.right)


def epsilon_of(matrix: npt.ArrayLike) -> float:
    """Relative round-off of the numbers of a matrix, by their dtype."""
    kind = np.asarray(matrix).dtype
    return float(np.finfo(kind).eps) if np.issubdtype(kind, np.floating) else _EPSILON


def decompose_product(u: npt.ArrayLike, v: npt.ArrayLike) -> ProductSvd:
    """The decomposition of `U @ V` from thin factors, without forming the product.

    With `U = Qu Ru` and `V.T = Qv Rv`, only the small core `Ru @ Rv.T` needs an SVD: the cost is
    of order `(m + n) * r**2`. Any gauge of the factors gives the same answer; factors may be
    deficient in rank or zero.

    Args:
        u: `(m, r)`.
        v: `(r, n)`.

    Raises:
        SpectrumError: Entries are NaN or infinite, or LAPACK does not converge.
        ArgumentError: Not two matrices that can be multiplied.

    Example:
        >>> u, v = [[1.0, 1.0], [1.0, -1.0]], [[2.0, 0.0], [0.0, 1.0]]
        >>> decompose_product(u, v).values ** 2
        array([8., 2.])
    """
    u, v = _double(u), _double(v)
    if u.shape[1] != v.shape[0]:
        raise ArgumentError(
            "`u` (m, r) and `v` (r, n) must share their inner length r. "
            f"Received: u.shape={u.shape}, v.shape={v.shape}. Pass the two factors of one kernel."
        )
    q_left, r_left = np.linalg.qr(u)
    q_right, r_right = np.linalg.qr(v.T)
    core = r_left @ r_right.T
    try:
        small = _lapack_svd(core)
    except np.linalg.LinAlgError as error:
        raise no_convergence(core) from error
    # What QR loses is a fraction of the factors, and those may be far larger than their product.
    floor = _EPSILON * max(*u.shape, *v.shape) * np.linalg.norm(r_left) * np.linalg.norm(r_right)
    left = q_left @ small.left
    signs = signs_of(left)
    inner_left, inner_right = small.left * signs, signs[:, None] * small.right
    return ProductSvd(
        left=left * signs,
        values=np.where(small.values > floor, small.values, 0.0),
        right=inner_right @ q_right.T,
        into_left=r_right.T @ inner_right.T,
        into_right=inner_left.T @ r_left,
    )


def awakened(u: Array, v: Array) -> Array:
    """`U` with columns in place of those that are zero in both factors, so that they can learn.

    Where a column of `U (m, r)` and its row of `V (r, n)` are zero, both gradients are zero for
    ever. With the row alone zero, the product is the same, and the first step of `V` is the dense
    kernel's own, projected on the column. So such columns become orthonormal, at random outside of
    the others, and as long as those are on average; of length 1 if there are no others.

    Example:
        >>> awakened(np.zeros((4, 2)), np.zeros((2, 3))).any(axis=0)
        array([ True,  True])
    """
    dead = ~(u.any(axis=0) | v.any(axis=1))
    if not dead.any():
        return u
    live = u[:, ~dead]
    length = np.sqrt((live**2).sum(axis=0).mean()) if live.size else 1.0
    filled = u.copy()
    filled[:, dead] = length * _outside(np.linalg.qr(live)[0], int(dead.sum()))
    return filled


def cumulative_energy(spectrum: npt.ArrayLike) -> Array:
    """Energy kept by each rank 0, 1, ..., k: `(k + 1,)`, from 0 to 1, never falling.

    A zero matrix has nothing to lose: 1 for every rank.

    Raises:
        SpectrumError: Not a spectrum: negative, increasing, NaN or infinite values.

    Example:
        >>> cumulative_energy([2.0, 1.0, 1.0, 1.0, 1.0])
        array([0.   , 0.5  , 0.625, 0.75 , 0.875, 1.   ])
    """
    squares = _scaled_squares(spectrum)
    if squares[0] == 0:
        return np.ones(len(squares) + 1)
    sums = np.concatenate([[0.0], np.cumsum(squares)])
    kept: Array = sums / sums[-1]
    return kept


def relative_errors(spectrum: npt.ArrayLike) -> Array:
    """Relative Frobenius error at each rank 0, 1, ..., k: `(k + 1,)`, from 1 to 0, never rising.

    Equal to `sqrt(1 - cumulative_energy(spectrum))`, but summed from the small end, so that small
    errors keep their digits.

    Raises:
        SpectrumError: Not a spectrum: negative, increasing, NaN or infinite values.

    Example:
        >>> relative_errors([4.0, 3.0])
        array([1. , 0.6, 0. ])
    """
    squares = _scaled_squares(spectrum)
    if squares[0] == 0:
        return np.zeros(len(squares) + 1)
    tails = np.concatenate([np.cumsum(squares[::-1])[::-1], [0.0]])
    lost: Array = np.sqrt(tails / tails[0])
    return lost


def energy(spectrum: npt.ArrayLike, rank: int) -> float:
    """Energy kept by `rank`: sum of the first `rank` squares over the sum of all, in [0, 1].

    Raises:
        ArgumentError: `rank` is not in `[0, k]`.
    """
    kept = cumulative_energy(spectrum)
    return float(kept[checked_rank(rank, 0, len(kept) - 1)])


def relative_error(spectrum: npt.ArrayLike, rank: int) -> float:
    """Relative Frobenius error of the best approximation of rank `rank`: `sqrt(1 - energy)`.

    Raises:
        ArgumentError: `rank` is not in `[0, k]`.
    """
    errors = relative_errors(spectrum)
    return float(errors[checked_rank(rank, 0, len(errors) - 1)])


def energy_at(error: float) -> float:
    """Energy kept at a relative error: `1 - error**2`, at least 0."""
    return max(0.0, 1.0 - error**2)


def stable_rank(spectrum: npt.ArrayLike) -> float:
    """`||W||_F**2 / ||W||_2**2`, in [1, k]; 0 for a zero matrix.

    A smooth lower bound of the rank, blind to tiny values (Rudelson & Vershynin, 2007).

    Example:
        >>> stable_rank([2.0, 1.0, 1.0])
        1.5
    """
    return float(_scaled_squares(spectrum).sum())


def _lapack_svd(matrix: Array) -> Svd:
    return Svd(*np.linalg.svd(matrix, full_matrices=False))


def _gram_spectrum(matrix: Array) -> Array:
    scaled, scale = _scaled(matrix)
    tall = scaled if scaled.shape[0] >= scaled.shape[1] else scaled.T
    squares = np.linalg.eigvalsh(tall.T @ tall)[::-1]
    values: Array = np.sqrt(np.maximum(squares, 0.0)) * scale
    return values


def _gram_svd(matrix: Array) -> Svd:
    if matrix.shape[0] < matrix.shape[1]:
        flipped = _gram_svd(matrix.T)
        return Svd(flipped.right.T, flipped.values, flipped.left.T)
    scaled, scale = _scaled(matrix)
    squares, vectors = np.linalg.eigh(scaled.T @ scaled)
    right = vectors[:, ::-1]
    # The columns of W @ right are left * values. Orthonormalised in order of size, even those of
    # tiny values, which division by the value would leave far from orthogonal.
    left, triangle = np.linalg.qr(scaled @ right)
    left = left * np.where(np.diag(triangle) < 0, -1.0, 1.0)
    return Svd(left, np.sqrt(np.maximum(squares[::-1], 0.0)) * scale, right.T)


def _scaled(matrix: Array) -> tuple[Array, float]:
    scale = float(np.abs(matrix).max()) or 1.0  # so that squares neither overflow nor vanish
    return matrix / scale, scale


def _outside(basis: Array, count: int) -> Array:
    """Orthonormal columns `(m, count)` at random, the same at every call, orthogonal to a basis.

    At random, because unit vectors would listen to single inputs, which may always be 0.
    """
    columns = np.random.default_rng(0).standard_normal((len(basis), count))
    for _ in range(2):  # once more for what round-off has left
        columns, _ = np.linalg.qr(columns - basis @ (basis.T @ columns))
    return columns


def signs_of(left: npt.NDArray[np.floating]) -> Array:
    """The sign `(k,)` of the entry of largest magnitude of each column of `left (m, k)`."""
    largest = np.abs(left).argmax(axis=0)
    return np.where(left[largest, np.arange(left.shape[1])] < 0, -1.0, 1.0)


def _scaled_squares(spectrum: npt.ArrayLike) -> Array:
    values = np.asarray(spectrum, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise SpectrumError(
            "A spectrum must be a vector of at least one singular value. "
            f"Received: shape={values.shape}. Compute it with `singular_spectrum`."
        )
    if not np.isfinite(values).all() or values[-1] < 0 or (np.diff(values) > 0).any():
        raise SpectrumError(
            "A spectrum must be finite, non-negative and non-increasing. "
            f"Received: {values}. Compute it with `singular_spectrum`."
        )
    squares: Array = (values / (values[0] or 1.0)) ** 2
    return squares


def checked_matrix(matrix: npt.ArrayLike) -> npt.NDArray[np.floating]:
    """A matrix of finite numbers in single or double precision.

    Raises:
        ArgumentTypeError: It is complex.
        ArgumentError: Not a matrix, or one without entries.
        SpectrumError: Entries are NaN or infinite.
    """
    if np.iscomplexobj(matrix):
        raise ArgumentTypeError(
            "A kernel matrix must be real. Received: complex entries. Pass its real part."
        )
    given = np.asarray(matrix)
    checked = given if given.dtype == np.float32 else given.astype(np.float64, copy=False)
    if checked.ndim != 2 or not checked.size:
        raise ArgumentError(
            "A kernel matrix must have two axes, and entries. "
            f"Received: shape={checked.shape}. Matricize the kernel first, inputs x outputs."
        )
    if not (np.isfinite(checked.max()) and np.isfinite(checked.min())):
        bad = checked.size - int(np.isfinite(checked).sum())
        m, n = checked.shape
        raise SpectrumError(
            "A matrix must be finite to have singular values. "
            f"Received: {bad} of {m * n} entries NaN or infinite, shape ({m}, {n}). "
            "Training has diverged: look for NaN or infinity in the data, restore earlier "
            "weights, or lower the learning rate."
        )
    return checked


def _double(matrix: npt.ArrayLike) -> Array:
    return checked_matrix(matrix).astype(np.float64, copy=False)


def checked_rank(rank: int, smallest: int, largest: int) -> int:
    """A rank in `[smallest, largest]`, as an int.

    Raises:
        ArgumentError: It is not.
    """
    checked = operator.index(rank)
    if not smallest <= checked <= largest:
        raise ArgumentError(
            f"`rank` must be in [{smallest}, {largest}]. Received: rank={rank}. "
            f"Full rank is {largest} here."
        )
    return checked


def no_convergence(matrix: npt.NDArray[np.floating]) -> SpectrumError:
    """What to raise where LAPACK gives up."""
    return SpectrumError(
        "The singular values of a finite matrix should converge. "
        f"Received: shape {matrix.shape}, largest entry {np.abs(matrix).max():.3g}; LAPACK "
        "gave up. Rescale the kernel, or lower the learning rate."
    )
