"""What a cut of a kernel does to its outputs, exactly, from the moments of its inputs."""

from __future__ import annotations

import numpy as np

from reducible_train.layers import Kernel
from reducible_train.linalg.moments import Counts, Moments
from reducible_train.selection.criteria import Statistics
from reducible_train.selection.rank_choice import RankChoice


def kernel_output_error(choice: RankChoice) -> float | None:
    """The squared error of a kernel's outputs, as a share of their variance.

    For a kernel `W (m, n)`, its cut `W'` and inputs `x` with covariance `C`, the outputs are off by
    `x D`, `D = W - W'`. Where the bias makes up for the mean of that,

        tr(D^T C D) / tr(W^T C W)

    and elsewhere the second moment of `x` takes the place of the `C` above.

    Args:
        choice: What becomes of the kernel, which is as it was.

    Returns:
        The error; `None` where the data tells nothing, or outputs have no variance.
    """
    kernel, split = choice.compressible.kernel, choice.factorization.split
    if choice.statistics is None:
        return None
    absorbed = choice.means is not None and choice.parts.weighted
    u, v = choice.parts.factors(choice.rank)
    before = _product(kernel.matrices(split))
    lost = spread = 0.0
    old = _in_usual_split(kernel, split, before)
    gone = _in_usual_split(kernel, split, before - u @ v)
    for w, d, seen in zip(old, gone, choice.statistics, strict=True):
        lost += _squared(d, seen, centred=absorbed)
        spread += _squared(w, seen, centred=True)
    return lost / spread if spread > 0 else None


def _product(matrices: list[np.ndarray]) -> np.ndarray:
    first, *others = (each.astype(np.float64) for each in matrices)
    product: np.ndarray = first @ others[0] if others else first
    return product


def _in_usual_split(kernel: Kernel, split: str, stack: np.ndarray) -> np.ndarray:
    """Matrices of a kernel in one split as those in which kinds tell their data."""
    usual = kernel.kind.splits_of(kernel.layer, kernel.name)[0]
    if split == usual:
        return stack
    variable = kernel.view(split).unstack(stack, kernel.variable_shape)
    return kernel.view(usual).stack(variable)


def _squared(matrix: np.ndarray, seen: Statistics, *, centred: bool) -> float:
    """`E||x matrix||^2` over the inputs, or of that less its mean."""
    inputs = seen.inputs
    if isinstance(inputs, Counts):
        shares = inputs.second_moment
        found = float(shares @ (matrix**2).sum(axis=1))
        return found - float(((shares @ matrix) ** 2).sum()) if centred else found
    return inputs.mean_square(matrix, centred=centred) if isinstance(inputs, Moments) else 0.0
