r"""Factors of a kernel that is split in space, fitted to the moments of its inputs themselves.

`separation` sees the moment of such inputs as a product of two, which says what directions are
worth but is only near to it. The moment itself says of an error `D = W - U V (m, p n)`, whose
blocks `D_w (m, n)` meet the pieces `x_w (m,)` of an input,

    E||(sum_w x_w D_w) G^(1/2)||^2 = sum over w, v of tr(E_wv D_v G D_w^T),   E_wv = E[x_w^T x_v]

which is quadratic in each factor. So from factors by the product, `U` is fitted with `V` as it is,
by a few conjugate gradients that the product preconditions, then `V` with that `U`, by least
squares. Neither can lose more.

Reference: Jaderberg et al., *Speeding up convolutional neural networks with low rank expansions*,
2014 (fits the outputs of filters that are split in space, by gradient descent).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from reducible_train.linalg.roots import Array, raised
from reducible_train.linalg.separation import Separated

_STEPS = 8  # of conjugate gradients at most
_ENOUGH = 1e-4  # of the first residual
_FLOOR = 1e-12  # of the mean eigenvalue of what is inverted


@dataclass(frozen=True, eq=False)
class Refit:
    """Fits two factors to the moments of inputs in pieces.

    Args:
        seen: The inputs.
        centred: True if only their spread counts.
        ridge: Fraction of the mean eigenvalue of their moment that is added to all of them.
        outputs: `G (n, n)`, or its diagonal `(n,)`, what errors of the outputs weigh; left out, all
            alike.

    Example:
        >>> from reducible_train.linalg.moments import Moments
        >>> x = Moments.of([[1.0, 0.0], [0.0, 2.0], [1.0, 2.0]])  # two pieces of one number
        >>> refit = Refit(Separated(x, (2,), (0,)), centred=False)
        >>> u, v = refit(np.array([[1.0]]), np.array([[1.0, 1.0]]), np.array([[4.0, 6.0]]))
        >>> (u @ v).round(9)
        array([[4., 6.]])
    """

    seen: Separated
    centred: bool = True
    ridge: float = 0.0
    outputs: Array | None = None

    def __call__(self, left: Array, right: Array, matrix: Array) -> tuple[Array, Array]:
        """Factors that lose no more of a kernel; the same ones where inputs say nothing.

        Args:
            left: `U (m, r)`.
            right: `V (r, p n)`.
            matrix: `W (m, p n)`.
        """
        blocks = self.seen.blocks(centred=self.centred, ridge=self.ridge)
        if not blocks.any():
            return left, right
        fit = _Fit(blocks, matrix, self.outputs)
        left = fit.left_for(left, fit.split(right))
        return left, fit.right_for(left)


@dataclass(frozen=True, eq=False)
class _Fit:
    """One kernel `W (m, p n)`, and the blocks `(p, m, p, m)` of the moment of its inputs."""

    blocks: Array
    matrix: Array
    outputs: Array | None

    def split(self, columns: Array) -> Array:
        """`(k, p, n)` of `(k, p n)`."""
        return columns.reshape(len(columns), len(self.blocks), -1)

    @cached_property
    def _kernel_met(self) -> Array:
        """What inputs make of the kernel, `(p, m, n)`."""
        return np.tensordot(self.blocks, self.split(self.matrix), axes=([2, 3], [1, 0]))

    def left_for(self, left: Array, right: Array) -> Array:
        """A better `U` for a `V (r, p, n)`, from one that is there."""
        weights = np.ones(right.shape[-1]) if self.outputs is None else self.outputs
        weighed = right * weights if weights.ndim == 1 else right @ weights
        core = np.tensordot(weighed, right, axes=([2], [2]))  # (r, p, r, p)
        undo = self._undone_by_product(core)

        def met(factor: Array) -> Array:
            of_blocks = np.tensordot(self.blocks, factor, axes=([3], [0]))  # (p, m, p, r)
            return np.tensordot(of_blocks, core, axes=([0, 2, 3], [1, 3, 2]))

        residual = np.tensordot(self._kernel_met, weighed, axes=([0, 2], [1, 2])) - met(left)
        enough = _ENOUGH**2 * float((residual**2).sum())
        found, direction, before = left, np.zeros_like(left), np.inf
        for _ in range(_STEPS):
            better = undo(residual)
            gain = float((residual * better).sum())
            direction = better + gain / before * direction
            bent = met(direction)
            curvature = float((direction * bent).sum())
            if not curvature > 0:  # nothing is left to fit
                break
            found = found + gain / curvature * direction
            residual, before = residual - gain / curvature * bent, gain
            if float((residual**2).sum()) <= enough:
                break
        return found

    def _undone_by_product(self, core: Array) -> Callable[[Array], Array]:
        """What would solve for `U (m, r)` if the moment were a product of two."""
        count = len(self.blocks)
        within = np.trace(self.blocks, axis1=0, axis2=2) / count
        between = np.trace(self.blocks, axis1=1, axis2=3) / np.trace(within)
        rows = _inverse(within)
        columns = _inverse(np.tensordot(between, core, axes=([0, 1], [1, 3])))
        return lambda residual: rows @ residual @ columns

    def right_for(self, left: Array) -> Array:
        """The best `V (r, p n)` for a `U`, whatever outputs weigh."""
        count, rank = len(self.blocks), left.shape[1]
        of_blocks = np.tensordot(self.blocks, left, axes=([3], [0]))  # (p, m, p, r)
        gram = np.tensordot(of_blocks, left, axes=([1], [0]))  # (p, p, r, r), seen from the right
        gram = gram.transpose(0, 3, 1, 2).reshape(count * rank, count * rank)
        wanted = np.tensordot(left, self._kernel_met, axes=([0], [1]))  # (r, p, n)
        wanted = wanted.transpose(1, 0, 2).reshape(count * rank, -1)
        found = np.linalg.lstsq(gram, wanted, rcond=None)[0].reshape(count, rank, -1)
        return np.asarray(found.transpose(1, 0, 2).reshape(rank, -1), dtype=np.float64)


def _inverse(matrix: Array) -> Array:
    """Of a symmetric matrix without negative eigenvalues, those that are zero left at a floor."""
    floor = _FLOOR * max(float(np.trace(matrix)) / len(matrix), np.finfo(np.float64).tiny)
    return np.asarray(np.linalg.inv(raised(matrix, floor)), dtype=np.float64)
