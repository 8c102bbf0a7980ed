r"""Inputs seen as matrices, for a kernel some of whose input axes lie among its columns.

Split in space, the kernel of a convolution is `W (h i, w o)`: an input `x (h w i)` meets its
blocks of columns one `w` at a time. The second moment of `x` is no metric of the two sides of
such a matrix, but a product of one moment for each of them is: `E[x^T x] ~ L (x) R`, with

    R = mean over w of E[x_w^T x_w]  (h i, h i)      L_vw ~ E[x_v . x_w]  (w, w), mean diagonal 1

That product says what directions are worth; `refit` goes on from there with the moment itself.

Reference: Van Loan and Pitsianis, *Approximation with Kronecker products*, 1993 (whose nearest
product in the Frobenius norm need not keep the traces).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reducible_train.linalg.moments import Moments, Variances
from reducible_train.linalg.roots import Array, raised


@dataclass(frozen=True, eq=False)
class Separated:
    """Moments of inputs `x (k,)`, seen as `p` pieces of `m` numbers, `k = p m`.

    What it says of an error is exact where the moments within and between pieces are all the
    same but for a factor, as of `x_w = a_w b` with `a` independent of `b`.

    Args:
        whole: Moments of the inputs; or variances, by which no two numbers have anything in common.
        shape: Lengths of the axes of an input.
        pieces: Which of these axes number the pieces.

    Example:
        >>> lines = Moments.of([[1.0, 1.0], [-1.0, -1.0]])  # two pixels that are always equal
        >>> seen = Separated(lines, (2,), (0,))
        >>> seen.second_moment, seen.block_gram(centred=False)
        (array([[1.]]), array([[1., 1.],
               [1., 1.]]))
    """

    whole: Moments | Variances
    shape: tuple[int, ...]
    pieces: tuple[int, ...]

    @property
    def mean(self) -> Array:
        """`(p, m)`."""
        return self._pieces(self.whole.mean)

    @property
    def covariance(self) -> Array:
        """Of a piece, `(m, m)`, the mean over the pieces; `(m,)` of variances."""
        return self._of_a_piece(self.whole.covariance)

    @property
    def second_moment(self) -> Array:
        """Of a piece, not centred, the same."""
        return self._of_a_piece(self.whole.second_moment)

    def weight(self, *, centred: bool) -> Array:
        """`covariance`, or `second_moment` if not centred."""
        return self.covariance if centred else self.second_moment

    def block_gram(self, *, centred: bool) -> Array:
        """How much the pieces have in common, `(p, p)`, the mean of its diagonal 1."""
        moment = self.whole.covariance if centred else self.whole.second_moment
        # Over the numbers within pieces: E[x_v . x_w] for each two of them.
        if moment.ndim == 1:
            found = np.diag(self._pieces(moment).sum(axis=1))
        else:
            found = np.trace(self._blocks(moment), axis1=1, axis2=3)
        trace = float(np.trace(found))
        block_gram: Array = found * (len(found) / trace) if trace > 0 else np.eye(len(found))
        return block_gram

    def blocks(self, *, centred: bool, ridge: float = 0.0) -> Array:
        """The moment itself, `(p, m, p, m)`, of each two pieces, which variances do not tell.

        Args:
            centred: As in `weight`.
            ridge: Fraction of the mean eigenvalue that is added to all of them.
        """
        moment = self.whole.covariance if centred else self.whole.second_moment
        return self._blocks(raised(moment, ridge * float(np.trace(moment)) / len(moment)))

    def _of_a_piece(self, moment: Array) -> Array:
        if moment.ndim == 1:
            of_pieces: Array = self._pieces(moment).mean(axis=0)
            return of_pieces
        blocks = self._blocks(moment)
        found: Array = np.trace(blocks, axis1=0, axis2=2) / len(blocks)
        return found

    def _pieces(self, inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """`(p, m)` of `(k,)`."""
        seen = np.moveaxis(inputs.reshape(self.shape), self.pieces, range(len(self.pieces)))
        return seen.reshape(math.prod(self.shape[axis] for axis in self.pieces), -1)

    def _blocks(self, moment: Array) -> Array:
        """`(p, m, p, m)` of `(k, k)`."""
        order = self._pieces(np.arange(len(moment)))
        places = order.ravel()
        blocks: Array = moment[np.ix_(places, places)].reshape(order.shape * 2)
        return blocks
