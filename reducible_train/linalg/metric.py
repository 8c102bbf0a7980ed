"""How an error of a kernel is measured: a weight for each of its two sides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from reducible_train.errors import ArgumentError
from reducible_train.linalg.refit import Refit
from reducible_train.linalg.roots import Array, Blocks, Root, Thin, Weight, raised, root_of

RIDGE = 1e-2


@dataclass(frozen=True, eq=False)
class Metric:
    """The squared size of an error `D (m, n)`: `tr(A D G D^T) = ||A^(1/2) D G^(1/2)||_F^2`.

    Args:
        inputs: `A (m, m)`, symmetric, positive definite; `(m,)` if it is diagonal; `Thin` where few
            vectors tell it; `None` for the identity.
        outputs: `G (n, n)`, likewise.
        block_gram: `L (p, p)`, likewise, for columns that are `p` blocks: the weight of the outputs
            is then the Kronecker product of `L` and `G (n / p, n / p)`.
        refit: What fits factors to more than that is known of such inputs, if there is more.

    Example:
        >>> Metric(inputs=np.diag([4.0, 1.0])).squared([[1.0], [1.0]])
        5.0
    """

    inputs: Weight | None = None
    outputs: Weight | None = None
    block_gram: Weight | None = None
    refit: Refit | None = None

    @property
    def plain(self) -> bool:
        """True where it is the Frobenius norm."""
        return self.inputs is None and self.outputs is None and self.block_gram is None

    def squared(self, error: npt.ArrayLike) -> float:
        """`tr(A D G D^T)` of an error `D`."""
        weighed = self.input_root.times(np.asarray(error, dtype=np.float64))
        return float((self.output_root.times(weighed.T) ** 2).sum())

    def check(self, m: int, n: int) -> None:
        """Refuse a kernel `(m, n)` that it does not fit.

        Raises:
            ArgumentError: Says which side does not.
        """
        blocks = 1 if self.block_gram is None else self.block_gram.shape[0]
        for name, weight, size in (("inputs", self.inputs, m), ("outputs", self.outputs, n)):
            if weight is None:
                continue
            wanted = (size // blocks,) * 2 if name == "outputs" else (size, size)
            if weight.shape not in (wanted, wanted[:1]):
                raise ArgumentError(
                    f"The weight of the {name} must fit the kernel: shape {wanted}. "
                    f"Received: shape {weight.shape}. Collect the statistics of this kernel."
                )

    @cached_property
    def input_root(self) -> Root:
        """Of the weight of the inputs."""
        return root_of(self.inputs)

    @cached_property
    def output_root(self) -> Root:
        """Of that of the outputs, all blocks together."""
        within = root_of(self.outputs)
        if self.block_gram is None:
            return within
        return Blocks(root_of(self.block_gram), within, self.block_gram.shape[0])

    @property
    def arrays(self) -> list[Array | None]:
        """All numbers that it is made of."""
        weights = (self.inputs, self.outputs, self.block_gram)
        return [
            np.vstack([each.vectors, np.full(each.shape[1], each.floor)])
            if isinstance(each, Thin)
            else each
            for each in weights
        ]


def ridged(moment: Weight, ridge: float = RIDGE) -> Weight | None:
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
    floor = ridge * _trace(moment) / moment.shape[-1]
    if floor <= 0:
        return None
    if isinstance(moment, Thin):
        return replace(moment, floor=moment.floor + floor)
    if moment.ndim == 1:
        return moment + floor
    return raised(moment, floor)


def _trace(moment: Weight) -> float:
    if isinstance(moment, Thin):
        return float((moment.vectors**2).sum()) + moment.floor * moment.shape[0]
    return float(moment.sum() if moment.ndim == 1 else np.trace(moment))
