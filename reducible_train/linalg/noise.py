"""What of a spectrum is signal: how many directions count, and where noise begins."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reducible_train.linalg.svd import Array


def effective_rank(spectrum: npt.ArrayLike) -> float:
    """The exponential of the entropy of `values / sum(values)`: 1 for one value, `k` for k equal.

    0 for a matrix of zeros.

    Args:
        spectrum: Singular values `(k,)`, not negative.

    Example:
        >>> round(effective_rank([2.0, 2.0, 2.0, 0.0]), 6)
        3.0

    Reference: Roy and Vetterli, *The effective rank: a measure of effective dimensionality*,
    EUSIPCO 2007.
    """
    values: Array = np.asarray(spectrum, dtype=np.float64)
    total = values.sum()
    if total == 0:
        return 0.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def noise_edge(matrices: npt.ArrayLike) -> float:
    """The largest singular value that the entries would have, shuffled.

    Shuffled entries are independent, of one standard deviation `s`, so the singular values of
    `(m, n)` without their mean end at `s (sqrt(m) + sqrt(n))` as sizes grow. What lies above it
    is structure. Of a stack `(g, m, n)` values count together, as in `linalg.stacks`.

    Args:
        matrices: `(g, m, n)`.

    Example:
        >>> noise = np.random.default_rng(0).normal(size=(1, 300, 200))
        >>> edge = noise_edge(noise)
        >>> bool(abs(np.linalg.svd(noise[0])[1][0] / edge - 1) < 0.05)
        True

    Reference: Marchenko and Pastur, *Distribution of eigenvalues for some sets of random
    matrices*, Mathematics of the USSR-Sbornik 1967.
    """
    stack: Array = np.asarray(matrices, dtype=np.float64)
    _, m, n = stack.shape
    spread = np.sqrt(sum(each.var() for each in stack))
    return float(spread * (np.sqrt(m) + np.sqrt(n)))


def noise_edge_of_spectrum(spectrum: npt.ArrayLike, shape: tuple[int, int]) -> float:
    """`noise_edge` where only the singular values are at hand: of entries whose mean is nothing.

    Args:
        spectrum: Singular values `(k,)`, of a stack those of all its matrices.
        shape: `(m, n)` of one matrix.

    Example:
        >>> noise = np.random.default_rng(0).normal(size=(1, 300, 200))
        >>> edge = noise_edge_of_spectrum(np.linalg.svd(noise[0])[1], (300, 200))
        >>> bool(abs(edge / noise_edge(noise) - 1) < 1e-3)
        True
    """
    m, n = shape
    values: Array = np.asarray(spectrum, dtype=np.float64)
    spread = np.sqrt((values**2).sum() / max(m * n, 1))
    return float(spread * (np.sqrt(m) + np.sqrt(n)))
