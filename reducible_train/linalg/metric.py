"""How an error of a kernel is measured: a weight for each of its two sides."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from reducible_train.errors import ArgumentError

Array = npt.NDArray[np.float64]

RIDGE = 1e-2


@dataclass(frozen=True, eq=False)
class Metric:
    """The squared size of an error `D (m, n)`: `tr(A D G D^T) = ||A^(1/2) D G^(1/2)||_F^2`.

    Args:
        inputs: `A (m, m)`, symmetric, positive definite; `(m,)` if it is diagonal; `None` for the
            identity.
        outputs: `G (n, n)`, likewise, but for the diagonal.
        block_gram: `L (p, p)`, likewise, for columns that are `p` blocks: the weight of the outputs
            is then the Kronecker product of `L` and `G (n / p, n / p)`.

    Example:
        >>> Metric(inputs=np.diag([4.0, 1.0])).squared([[1.0], [1.0]])
        5.0
    """

    inputs: Array | None = None
    outputs: Array | None = None
    block_gram: Array | None = None

    @property
    def plain(self) -> bool:
        """True where it is the Frobenius norm."""
        return self.inputs is None and self.outputs is None and self.block_gram is None

    def squared(self, error: npt.ArrayLike) -> float:
        """`tr(A D G D^T)` of an error `D`."""
        return float((self.columns(self.rows(np.asarray(error, dtype=np.float64))) ** 2).sum())

    def rows(self, matrix: Array, *, undo: bool = False) -> Array:
        """`A^(1/2)` times a matrix `(m, k)`, or its inverse times it."""
        if self._input_roots is None:
            return matrix
        root = self._input_roots[undo]
        weighed: Array = root[:, None] * matrix if root.ndim == 1 else root @ matrix
        return weighed

    def columns(self, matrix: Array, *, undo: bool = False) -> Array:
        """A matrix `(k, n)` times `G^(1/2)`, or its inverse."""
        # (L (x) G)^(1/2) = L^(1/2) (x) G^(1/2): one root within the blocks, one across them.
        across = self._likeness_roots
        blocks = matrix if across is None else matrix.reshape(len(matrix), len(across[undo]), -1)
        if self._output_roots is not None:
            blocks = blocks @ self._output_roots[undo]
        if across is not None:
            blocks = across[undo] @ blocks
        return blocks.reshape(matrix.shape)

    def check(self, m: int, n: int) -> None:
        """Refuse a kernel `(m, n)` that it does not fit.

        Raises:
            ArgumentError: Says which side does not.
        """
        blocks = 1 if self.block_gram is None else len(self.block_gram)
        for name, weight, size in (("inputs", self.inputs, m), ("outputs", self.outputs, n)):
            if weight is None:
                continue
            wanted = (size // blocks,) * 2 if name == "outputs" else (size, size)
            if weight.shape != wanted and not (name == "inputs" and weight.shape == (size,)):
                raise ArgumentError(
                    f"The weight of the {name} must fit the kernel: shape {wanted}. "
                    f"Received: shape {weight.shape}. Collect the statistics of this kernel."
                )

    @cached_property
    def _input_roots(self) -> tuple[Array, Array] | None:
        return None if self.inputs is None else _roots(self.inputs)

    @cached_property
    def _output_roots(self) -> tuple[Array, Array] | None:
        return None if self.outputs is None else _roots(self.outputs)

    @cached_property
    def _likeness_roots(self) -> tuple[Array, Array] | None:
        return None if self.block_gram is None else _roots(self.block_gram)


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
    """The square root of a weight, and its inverse."""
    if weight.ndim == 1:
        return np.sqrt(weight), 1 / np.sqrt(weight)
    squares, vectors = np.linalg.eigh(weight)
    # A positive definite weight has no eigenvalue of 0; round-off must not make one.
    squares = np.maximum(squares, np.finfo(np.float64).eps * max(float(squares[-1]), 1e-300))
    root = np.sqrt(squares)
    return vectors * root @ vectors.T, vectors / root @ vectors.T
