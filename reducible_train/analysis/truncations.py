"""A kernel for a while as its nearest one of lower rank, in variables of the same shapes."""

from __future__ import annotations

import numpy as np

from reducible_train import _keras
from reducible_train.layers import Kernel
from reducible_train.layers.values import as_variables
from reducible_train.selection.scoring import Decomposition


class Truncations:
    """Puts truncations of one decomposition in place of a kernel's values.

    Shapes stay, so that nothing is traced anew: a dense kernel gets the product of its factors,
    factors get columns of zeros. Use it as a context manager; the kernel has its own values, bit
    for bit, when it ends.
    """

    def __init__(self, kernel: Kernel, parts: Decomposition, split: str):
        self._kernel = kernel
        self._split = split
        self._factors = parts.factors(len(parts.values))  # read of the kernel, so before it changes
        self._kept = _keras.values_kept(kernel.variables)
        self._done, self._product = 0, np.zeros(())  # of the leading factors, and their product

    def __enter__(self) -> Truncations:
        self._kept.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self._kept.__exit__(*failure)  # type: ignore[arg-type]

    def put(self, rank: int) -> None:
        """Give the kernel the values of its best approximation of a rank."""
        u, v = self._factors[0][..., :rank], self._factors[1][..., :rank, :]
        if self._kernel.rank is None:
            matrices = [self._product_of(u, v)]
        else:
            more = (0, self._kernel.rank - rank)
            matrices = [np.pad(u, ((0, 0), (0, 0), more)), np.pad(v, ((0, 0), more, (0, 0)))]
        values = as_variables(self._kernel, self._split)(matrices)
        for variable, value in zip(self._kernel.variables, values, strict=True):
            variable.assign(value)

    def _product_of(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """`u v`; of rising ranks each adds to the one before, so all cost what one does."""
        rank = u.shape[-1]
        done = self._done if self._done <= rank else 0
        more = u[..., done:] @ v[..., done:, :]
        self._done, self._product = rank, self._product + more if done else more
        return self._product
