"""How an error of a kernel is measured: a weight for each of its two sides."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

RIDGE = 1e-2


@dataclass(frozen=True, eq=False)
class Metric:
    """The squared size of an error `D (m, n)`: `tr(A D G D^T) = ||A^(1/2) D G^(1/2)||_F^2`.

    Args:
        inputs: `A (m, m)`, symmetric, positive definite; `(m,)` if it is diagonal; `None` for the
            identity.
        outputs: `G (n, n)`, likewise.

    Example:
        >>> Metric(inputs=np.diag([4.0, 1.0])).squared([[1.0], [1.0]])
        5.0
    """

    inputs: Array | None = None
    outputs: Array | None = None

    @property
    def plain(self) -> bool:
        """True where it is the Frobenius norm."""
        return self.inputs is None and self.outputs is None

    def squared(self, error: npt.ArrayLike) -> float:
        """`tr(A D G D^T)` of an error `D`."""
        d = np.asarray(error, dtype=np.float64)
        weighed = d if self.inputs is None else weighed_rows(self.inputs, d)
        weighed = weighed if self.outputs is None else weighed @ self.outputs
        return float((weighed * d).sum())

    def repeated(self, likeness: Array, size: int) -> Metric:
        """The same for a kernel whose columns are blocks of `size`.

        Args:
            likeness: `(p, p)`, positive definite, between the inputs of the `p` blocks.
            size: Columns of a block.
        """
        block = np.eye(size) if self.outputs is None else self.outputs
        return Metric(self.inputs, np.kron(likeness, block).astype(np.float64))

    @cached_property
    def input_roots(self) -> tuple[Array, Array] | None:
        """`A^(1/2)` and its inverse, diagonal as it is; `None` for the identity."""
        return None if self.inputs is None else _roots(self.inputs)

    @cached_property
    def output_roots(self) -> tuple[Array, Array] | None:
        """`G^(1/2)` and its inverse; `None` for the identity."""
        return None if self.outputs is None else _roots(self.outputs)


def weighed_rows(weight: Array, matrix: Array) -> Array:
    """`weight @ matrix`, for a weight `(m, m)` or the diagonal `(m,)` of one."""
    weighed: Array = weight[:, None] * matrix if weight.ndim == 1 else weight @ matrix
    return weighed


def ridged(moment: Array, ridge: float = RIDGE) -> Array | None:
    """A second moment with a floor under its directions, so that it can be inverted.

    `M + ridge * tr(M) / k * I`: the floor is a fraction of the mean eigenvalue. Directions that
    never occurred in the data are cheap to lose, not free. `None`, the identity, for a moment of
    zero, which says nothing.

    Example:
        >>> ridged(np.diag([3.0, 1.0, 0.0]), ridge=0.75)
        array([[4., 0., 0.],
               [0., 2., 0.],
               [0., 0., 1.]])
    """
    size = len(moment)
    trace = moment.sum() if moment.ndim == 1 else np.trace(moment)
    floor = ridge * float(trace) / size
    if floor <= 0:
        return None
    if moment.ndim == 1:
        return moment + floor
    raised: Array = (moment + moment.T) / 2 + floor * np.eye(size)
    return raised


def _roots(weight: Array) -> tuple[Array, Array]:
    if weight.ndim == 1:
        return np.sqrt(weight), 1 / np.sqrt(weight)
    squares, vectors = np.linalg.eigh(weight)
    # A positive definite weight has no eigenvalue of 0; round-off must not make one.
    squares = np.maximum(squares, np.finfo(np.float64).eps * max(float(squares[-1]), 1e-300))
    root = np.sqrt(squares)
    return vectors * root @ vectors.T, vectors / root @ vectors.T
