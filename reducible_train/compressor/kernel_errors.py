"""What a cut of a kernel does to its outputs, exactly, from the moments of its inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from reducible_train.layers import Kernel
from reducible_train.linalg.moments import Counts, Moments, Variances, product
from reducible_train.selection.criteria import Statistics
from reducible_train.selection.rank_choice import RankChoice


def kernel_output_error(choice: RankChoice) -> float | None:
    """The squared error of a kernel's outputs, as a share of their variance.

    For a kernel `W (m, n)`, its cut `W'` and inputs `x` with covariance `C`, the outputs are off by
    `x D`, `D = W - W'`. Where a bias or a BatchNormalization makes up for the mean of that,

        tr(D^T C D) / tr(W^T C W)

    and elsewhere the second moment of `x` takes the place of the `C` above.

    Args:
        choice: What becomes of the kernel, which is as it was.

    Returns:
        The error; `None` where the data tells nothing, or variances alone, which say nothing of
        what inputs add up to, or outputs have no variance.
    """
    kernel, split = choice.compressible.kernel, choice.factorization.split
    known = choice.statistics or ()
    if not known or any(isinstance(each.inputs, Variances) for each in known):
        return None
    absorbed = choice.means is not None and choice.parts.weighted
    before = [each.astype(np.float64) for each in kernel.matrices(split)]
    gone = _difference(before, choice.parts.factors(choice.rank))
    lost = spread = 0.0
    old, new = _in_usual_split(kernel, split, before), _in_usual_split(kernel, split, gone)
    for w, d, seen in zip(old, new, known, strict=True):
        lost += _squared(d, seen, centred=absorbed)
        spread += _squared(w, seen, centred=True)
    return lost / spread if spread > 0 else None


def _difference(before: list[np.ndarray], after: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
    """What is lost of `[W (g, m, n)]`, or of factors, `U V - U' V' = [U, -U'] [V; V']`."""
    u, v = after
    if len(before) == 1:
        return [before[0] - u.astype(np.float64) @ v]
    return [np.concatenate([before[0], -u], axis=-1), np.concatenate([before[1], v], axis=-2)]


def _in_usual_split(kernel: Kernel, split: str, stack: list[np.ndarray]) -> list[tuple[Any, ...]]:
    """The matrices of a kernel, or their factors, as those in which kinds tell their data."""
    usual = kernel.kind.splits_of(kernel.layer, kernel.name)[0]
    if split != usual:
        variable = kernel.view(split).unstack(product(*stack), kernel.variable_shape)
        stack = [kernel.view(usual).stack(variable)]
    return list(zip(*stack, strict=True))


def _squared(factors: tuple[Any, ...], seen: Statistics, *, centred: bool) -> float:
    """`E||x M||^2` over the inputs, for a matrix or a product of two; or of that less its mean."""
    inputs = seen.inputs
    if isinstance(inputs, Moments):
        return inputs.mean_square(*factors, centred=centred)
    if not isinstance(inputs, Counts):
        return 0.0
    matrix, shares = product(*factors), inputs.second_moment
    found = float(shares @ (matrix**2).sum(axis=1))
    return found - float(((shares @ matrix) ** 2).sum()) if centred else found
