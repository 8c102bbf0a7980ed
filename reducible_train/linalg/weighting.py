"""How much each sample counts: what `fit` takes as sample weights, told apart from the loss.

A weight of `k` says that a sample is there `k` times, so moments of its data are weighed by it,
while the gradient it brings is that of its own loss. Where a sample has several weights, one for
each of its positions or outputs,

    w = mean(w) * (w / mean(w))

the mean is how often the sample is there, the rest belongs to its loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reducible_train.errors import ArgumentError

Array = npt.NDArray[np.float64]


def checked_weights(weights: Sequence[npt.ArrayLike]) -> list[Array]:
    """Weights as float64, `(samples,)` or `(samples, positions...)`.

    Raises:
        ArgumentError: They are no numbers, negative, NaN or infinite.
    """
    return [_checked(np.asarray(each)) for each in weights]


def are_counts(weights: Sequence[npt.ArrayLike]) -> bool:
    """True for weights that can say how often a sample is there: none is below 0, NaN or infinite.

    Raises:
        ArgumentError: They are no numbers.
    """
    return all(_is_count(_numbers(np.asarray(each))) for each in weights)


def shared_weights(weights: Sequence[Array]) -> Array:
    """One weight for each sample, or for each of its positions: the mean over the outputs.

    Args:
        weights: Of each output, one at least. Positions are told apart where all outputs have the
            same.

    Example:
        >>> shared_weights([np.array([1.0, 0.0]), np.array([1.0, 1.0])])
        array([1. , 0.5])
    """
    if len({each.shape for each in weights}) > 1:
        weights = [of_samples(each) for each in weights]
    shared: Array = np.mean(weights, axis=0)
    return shared


def of_samples(weights: Array) -> Array:
    """One weight for each sample, `(samples,)`: the mean over its positions.

    Example:
        >>> of_samples(np.array([[1.0, 0.0], [2.0, 2.0]]))
        array([0.5, 2. ])
    """
    means: Array = weights.reshape(len(weights), -1).mean(axis=1)
    return means


def within_loss(weights: Array, shared: Array) -> Array:
    """What is left of weights for the loss of each sample, once it counts by its shared weight.

    Example:
        >>> within_loss(np.array([[1.0, 3.0]]), np.array([[1.0, 3.0]]))
        array([[0.5, 1.5]])
    """
    counts = of_samples(shared)
    counts = np.where(counts > 0, counts, 1.0)
    left: Array = weights / counts.reshape(-1, *[1] * (weights.ndim - 1))
    return left


def aligned(weights: Array, shape: Sequence[int]) -> Array | None:
    """Weights for an array of a shape whose first axes are samples, or samples and positions.

    Args:
        weights: `(samples, ...)`.
        shape: Of the array.

    Returns:
        Weights whose axes are the first of the array's: those of the positions where it has them,
        else of the samples. Where samples were split in equal parts along the first axis, each
        part has the weight of its sample. `None` where the first axis is another.

    Example:
        >>> aligned(np.array([[1.0, 0.0]]), (1, 2, 8))
        array([[1., 0.]])
        >>> aligned(np.array([[1.0, 0.0]]), (1, 8))
        array([0.5])
    """
    axes = weights.ndim
    shape = tuple(shape)
    if axes > 1 and shape[:axes] == weights.shape:
        return weights
    if axes > 1 and shape[:1] == (weights.size,):
        return weights.ravel()
    samples = of_samples(weights)
    parts, rest = divmod(shape[0], len(samples))
    return None if rest or not parts else np.repeat(samples, parts)


def _checked(weights: np.ndarray) -> Array:
    exact = _numbers(weights)
    if not _is_count(exact):
        raise ArgumentError(
            "Sample weights must be finite and at least 0, where a criterion listens to the data. "
            f"Received: weights from {exact.min():g} to {exact.max():g}. Give the criterion "
            "samples without them: calibration=(x, y)."
        )
    return exact[:, 0] if exact.ndim == 2 and exact.shape[1] == 1 else exact


def _is_count(exact: Array) -> bool:
    return bool(np.isfinite(exact).all() and (exact >= 0).all())


def _numbers(weights: np.ndarray) -> Array:
    if weights.dtype.kind not in "biuf" and str(weights.dtype) != "bfloat16":
        raise ArgumentError(
            f"Sample weights must be numbers. Received: an array of {weights.dtype}. Give one "
            "number for each sample."
        )
    if weights.ndim == 0:
        raise ArgumentError(
            "Sample weights must be one for each sample. Received: a single number. Leave it out."
        )
    return weights.astype(np.float64)
