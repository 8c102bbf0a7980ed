"""The values of a kernel, or of what is shaped as it, seen as matrices."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from reducible_train.layers.keras_types import Variable

if TYPE_CHECKING:
    from reducible_train.layers.kernel import Kernel

Arrays = list[np.ndarray]


def as_matrices(kernel: Kernel, split: str | None = None) -> Callable[[Arrays], Arrays]:
    """A function that sees arrays shaped as the present variables as matrices.

    For optimizer slots; it stays valid after the variables are replaced.
    """
    is_dense = kernel.rank is None
    view = kernel.view(split if is_dense else None)

    def stacked(values: Arrays) -> Arrays:
        return [view.stack(*values)] if is_dense else [*view.stack_factors(*values)]

    return stacked


def as_variables(
    kernel: Kernel, split: str | None = None
) -> Callable[[Sequence[np.ndarray]], Arrays]:
    """A function that gives `[W (g, m, n)]` or `[U, V]` the shapes of the variables."""
    view, shape = kernel.view(split), kernel.variable_shape

    def unstacked(matrices: Sequence[np.ndarray]) -> Arrays:
        if len(matrices) == 1:
            return [view.unstack(matrices[0], shape)]
        u, v = matrices
        return [*view.unstack_factors(u, v, shape)]

    return unstacked


@contextlib.contextmanager
def as_one_variable(
    kernel: Kernel,
) -> Iterator[tuple[Variable, Callable[[np.ndarray], np.ndarray]]]:
    """Within it, a factorised kernel is computed with as `W I` or `I W`, whichever is thinner.

    So its layer has a `W = U V` to take a gradient by, whatever its kind makes of factors.

    Yields:
        The variable that holds `W`, and a function that sees arrays of its shape as
        matrices `(g, m, n)`.
    """
    layer, names = kernel.layer, (f"{kernel.name}_u", f"{kernel.name}_v")
    u, v = (matrix.astype(np.float64) for matrix in kernel.matrices())
    product = u @ v
    g, m, n = product.shape
    whole = 0 if n <= m else 1  # which of the two holds `W`
    eye = np.broadcast_to(np.eye(min(m, n)), (g, min(m, n), min(m, n)))
    values = as_variables(kernel)([product, eye] if whole == 0 else [eye, product])
    factors = [vars(layer)[name] for name in names]
    wide = [
        keras.Variable(value, dtype=factor.dtype, trainable=factor.trainable, name=factor.name)
        for value, factor in zip(values, factors, strict=True)
    ]

    def matrices(value: np.ndarray) -> np.ndarray:
        both = [value if i == whole else np.zeros(w.shape) for i, w in enumerate(wide)]
        return kernel.view().stack_factors(*both)[whole]

    try:
        vars(layer).update(zip(names, wide, strict=True))
        yield wide[whole], matrices
    finally:
        vars(layer).update(zip(names, factors, strict=True))
