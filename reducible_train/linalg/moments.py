"""Streaming moments: the mean and the second moments of vectors that pass by, a batch at a time.

Of vectors that are a single 1 among zeros, as those that choose a row of a table, counts say all.
Of vectors too long for a matrix of moments, the variances say what each number of them weighs.

Batches are merged pairwise and centred, so that a large mean does not eat the digits of a small
spread. Everything is float64, whatever comes in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
import numpy.typing as npt

from reducible_train.errors import ArgumentError, SpectrumError
from reducible_train.linalg.roots import Array, Thin, Weight

_ROWS = 32  # of long vectors that are seen at once, in double precision


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and centred second moments of vectors of length `k`.

    Two of them merge into those of all vectors together, in any order, to round-off:

        mean    = (count_a mean_a + count_b mean_b) / count
        scatter = scatter_a + scatter_b + (count_a count_b / count) d d^T,  d = mean_b - mean_a

    Args:
        count: Vectors seen, more than 0; the sum of their weights if they have some.
        mean: `(k,)`.
        spread: `(k, k)`, the scatter: the sum of `w (x - mean)^T (x - mean)` over the vectors `x`,
            of weight `w`. A vector of weight 3 is as good as three of them. Or fewer than `k` rows
            whose products with themselves add up to it: while so few vectors were seen, nothing of
            size `k * k` is made.

    Example:
        >>> first, second = Moments.of([[0.0], [2.0]]), Moments.of([[4.0]])
        >>> both = first.merged(second)
        >>> both.count, both.mean, both.covariance.round(3)
        (3, array([2.]), array([[2.667]]))

    Reference: Chan, Golub and LeVeque, *Algorithms for computing the sample variance*, The
    American Statistician 1983.
    """

    count: float
    mean: Array
    spread: Array

    @classmethod
    def of(cls, rows: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Moments:
        """The moments of the rows of a matrix `(rows, k)`.

        Args:
            rows: The vectors.
            weights: `(rows,)`, each greater than 0; left out, each counts once.

        Raises:
            ArgumentError: Not a matrix, or one without entries.
            SpectrumError: Entries are NaN or infinite.
        """
        count, mean, centred = _centred(rows, weights)
        return cls(count, mean, _smaller(centred))

    def merged(self, other: Moments) -> Moments:
        """The moments of the vectors of both.

        Raises:
            ArgumentError: Their vectors differ in length.
        """
        count, mean, between = _joined(self, other)
        if len(self.spread) + len(other.spread) + 1 < len(mean):
            return Moments(count, mean, np.vstack([self.spread, other.spread, between]))
        scatter = self.scatter + other.scatter
        scatter += np.outer(between, between)
        return Moments(count, mean, scatter)

    @cached_property
    def scatter(self) -> Array:
        """`(k, k)`, the sum of `w (x - mean)^T (x - mean)` over the vectors `x`."""
        return self.spread.T @ self.spread if self.is_thin else self.spread

    @property
    def is_thin(self) -> bool:
        """True while fewer vectors were seen than they are long."""
        return len(self.spread) < len(self.mean)

    def is_zero(self, *, centred: bool) -> bool:
        """True where `weight` is: vectors of 0, or all the same."""
        return not (self.spread.any() or (self.mean.any() and not centred))

    def weight(self, *, centred: bool) -> Weight:
        """`covariance`, or `second_moment` if not centred; by few vectors, where these tell it."""
        if not self.is_thin:
            return self.covariance if centred else self.second_moment
        vectors = self.spread / np.sqrt(self.count)
        return Thin(vectors if centred else np.vstack([vectors, self.mean]))

    def mean_square(self, left: Array, right: Array | None = None, *, centred: bool) -> float:
        """`E||x M||^2` of a matrix `M (k, n)`, or of a product, which is not formed.

        Args:
            left: `M`, or `U (k, r)` of `M = U V`.
            right: `V (r, n)`.
            centred: True for that of `x - mean`.
        """
        if self.is_thin:
            found = float((product(self.spread @ left, right) ** 2).sum())
        elif right is None:
            found = float(np.einsum("ij,ij->", left, self.scatter @ left))
        else:
            core = left.T @ (self.scatter @ left)
            found = float(np.einsum("ij,ij->", right, core @ right))
        mean = 0.0 if centred else float((product(self.mean @ left, right) ** 2).sum())
        return found / self.count + mean

    @property
    def covariance(self) -> Array:
        """`E[(x - mean)^T (x - mean)]`, `(k, k)`, over the vectors seen."""
        return self.scatter / self.count

    @property
    def second_moment(self) -> Array:
        """`E[x^T x]`, `(k, k)`, not centred."""
        return self.covariance + np.outer(self.mean, self.mean)


def product(left: Array, right: Array | None = None) -> Array:
    """A matrix, or the product of its two factors."""
    return left if right is None else left @ right


def _smaller(centred: Array) -> Array:
    """Centred vectors, or the sum of their products with themselves, whichever is smaller."""
    return centred if centred.shape[0] < centred.shape[1] else centred.T @ centred


@dataclass(frozen=True, eq=False)
class Variances:
    """Count, mean and centred squares of vectors of length `k`: the diagonal of their moments.

    Args:
        count: As of `Moments`.
        mean: `(k,)`.
        squares: `(k,)`, the sum of `w (x - mean)^2` over the vectors `x`, of weight `w`.

    Example:
        >>> first, second = Variances.of([[0.0], [2.0]]), Variances.of([[4.0]])
        >>> both = first.merged(second)
        >>> both.count, both.mean, both.covariance.round(3)
        (3, array([2.]), array([2.667]))
    """

    count: float
    mean: Array
    squares: Array

    @classmethod
    def of(cls, rows: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Variances:
        """Those of the rows of a matrix `(rows, k)`, a few at a time; as `Moments.of`."""
        given, found = np.atleast_1d(np.asarray(rows)), []
        for start in range(0, max(len(given), 1), _ROWS):
            piece = slice(start, start + _ROWS)
            shares = None if weights is None else np.asarray(weights)[piece]
            count, mean, centred = _centred(given[piece], shares)
            found.append(cls(count, mean, (centred**2).sum(axis=0)))
        return reduce(cls.merged, found)

    def merged(self, other: Variances) -> Variances:
        """Those of the vectors of both; as `Moments.merged`."""
        count, mean, between = _joined(self, other)
        return Variances(count, mean, self.squares + other.squares + between**2)

    def is_zero(self, *, centred: bool) -> bool:
        """True where `weight` is: vectors of 0, or all the same."""
        return not (self.squares.any() or (self.mean.any() and not centred))

    def weight(self, *, centred: bool) -> Array:
        """`(k,)`: `covariance`, or `second_moment` if not centred."""
        return self.covariance if centred else self.second_moment

    @property
    def covariance(self) -> Array:
        """The diagonal of `E[(x - mean)^T (x - mean)]`, `(k,)`."""
        return self.squares / self.count

    @property
    def second_moment(self) -> Array:
        """The diagonal of `E[x^T x]`, `(k,)`, not centred."""
        return self.covariance + self.mean**2


def _centred(rows: npt.ArrayLike, weights: npt.ArrayLike | None) -> tuple[float, Array, Array]:
    """Count and mean of the rows of a matrix, and these less it, times the roots of their weights.

    Raises:
        ArgumentError: Not a matrix, or one without entries.
        SpectrumError: Entries are NaN or infinite.
    """
    checked = np.asarray(rows, dtype=np.float64)
    if checked.ndim != 2 or not checked.size:
        raise ArgumentError(
            "Moments are of the rows of a matrix, at least one. "
            f"Received: shape={checked.shape}. Flatten positions into rows first."
        )
    bad = checked.size - int(np.isfinite(checked).sum())
    if bad:
        raise SpectrumError(
            f"Vectors must be finite to have moments. Received: {bad} of {checked.size} "
            "numbers NaN or infinite. Look for them in the data, or find out where training "
            "diverged."
        )
    if weights is None:
        mean = checked.mean(axis=0)
        return len(checked), mean, checked - mean
    shares = np.asarray(weights, dtype=np.float64)
    mean = np.average(checked, axis=0, weights=shares)
    return float(shares.sum()), mean, np.sqrt(shares)[:, None] * (checked - mean)


def _joined(one: Moments | Variances, other: Moments | Variances) -> tuple[float, Array, Array]:
    """Count and mean of the vectors of both, and what lies between their means, as one more."""
    if one.mean.shape != other.mean.shape:
        raise ArgumentError(
            "Moments can be merged if their vectors have one length. Received: lengths "
            f"{len(one.mean)} and {len(other.mean)}. Keep one for each kernel."
        )
    count = one.count + other.count
    apart = other.mean - one.mean
    between = apart * np.sqrt(one.count * other.count / count)
    return count, one.mean + apart * (other.count / count), between


@dataclass(frozen=True, eq=False)
class Counts:
    """How often each of `k` rows of a table was chosen: the moments of vectors with a single 1.

    Args:
        counts: `(k,)`; whole numbers where every choice counts alike.

    Example:
        >>> Counts.of([2, 0, 2], 3).merged(Counts.of([1], 3)).second_moment
        array([0.25, 0.25, 0.5 ])
    """

    counts: Array

    @classmethod
    def of(cls, chosen: npt.ArrayLike, size: int, weights: npt.ArrayLike | None = None) -> Counts:
        """The counts of chosen rows, of any shape; those that the table does not have are none.

        Args:
            chosen: Rows of the table, from 0.
            size: Rows that the table has.
            weights: How much each choice counts, of the same shape; left out, once.
        """
        places = np.asarray(chosen).astype(np.int64).ravel()
        shares = np.ones(len(places)) if weights is None else np.asarray(weights).ravel()
        known = (places >= 0) & (places < size)
        counts = np.bincount(places[known], shares[known], minlength=size)
        return cls(counts.astype(np.float64))

    def merged(self, other: Counts) -> Counts:
        """The counts of both."""
        return Counts(self.counts + other.counts)

    @property
    def second_moment(self) -> Array:
        """The diagonal of `E[x^T x]`, `(k,)`; the rest of it is 0."""
        return self.counts / max(float(self.counts.sum()), 1.0)
