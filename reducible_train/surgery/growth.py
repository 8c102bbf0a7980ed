"""Give factorised kernels more directions: those along which the loss would fall fastest."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from reducible_train.errors import SpectrumError
from reducible_train.layers import Kernel, as_one_variable
from reducible_train.linalg.stacks import decompose_stack
from reducible_train.selection.sample_checks import loss_gradients
from reducible_train.selection.samples import Samples, batches_for
from reducible_train.surgery.change import KernelChange, NewKernel
from reducible_train.surgery.optimizer_state import Extension, flip


def whole_gradients(
    model: Any, kernels: Sequence[Kernel], samples: Samples
) -> dict[str, np.ndarray]:
    """The gradient of the loss by the product `W` of each kernel's factors, not by the factors.

    Args:
        model: A compiled model, or a `Distiller`; nothing of it is changed.
        kernels: Factorised kernels of it.
        samples: Inputs and targets.

    Returns:
        `(g, m, n)` by path of the kernel, summed over the samples.

    Raises:
        ArgumentError: The model cannot be run on the samples.
        SpectrumError: A gradient is NaN or infinite; names the kernel.
    """
    totals: dict[str, np.ndarray] = {}
    with contextlib.ExitStack() as stack:
        whole = {k.path: stack.enter_context(as_one_variable(k)) for k in kernels}
        variables = [variable for variable, _ in whole.values()]
        for batch in batches_for(model, samples):
            found = loss_gradients(model, variables, batch)
            for (path, (_, stacked)), gradient in zip(whole.items(), found, strict=True):
                if gradient is not None:
                    more = stacked(gradient).astype(np.float64)
                    totals[path] = totals[path] + more if path in totals else more
    for path, total in totals.items():
        if not np.isfinite(total).all():
            raise SpectrumError(
                f"{path}: the gradient of the loss by the kernel must be finite. Received: "
                f"{total.size - int(np.isfinite(total).sum())} of {total.size} numbers NaN or "
                "infinite. Lower the learning rate, or clip gradients."
            )
    return totals


def grow(kernel: Kernel, gradient: np.ndarray, count: int) -> KernelChange | None:
    """The change that gives a kernel `count` directions more, of its gradient outside its spans.

    Its product stays as it is: the new rows of `V` are 0.

    Args:
        kernel: A factorised kernel, `U (g, m, r)` and `V (g, r, n)`.
        gradient: `(g, m, n)`, as `whole_gradients` gives it.
        count: How many, at most `min(m, n) - r`.

    Returns:
        The change; `None` where the gradient has nothing outside of what `U` and `V` span.
    """
    u, v = (matrix.astype(np.float64) for matrix in kernel.matrices())
    normal = flip(_outside(flip(v), flip(_outside(u, gradient))))
    parts = decompose_stack(normal)
    if parts.values[0] <= 1e-6 * np.linalg.norm(gradient):
        return None
    left = np.stack([part.left for part in parts.parts])
    size = np.linalg.norm(u, axis=(-2, -1), keepdims=True) / np.sqrt(u.shape[-1])
    size = np.where(size > 0, size, 1.0)
    u = np.concatenate([u, size * left[..., :count]], axis=-1)
    v = np.concatenate([v, np.zeros((len(v), count, v.shape[-1]))], axis=-2)
    new = NewKernel([u, v], Extension(count))
    return KernelChange(kernel, lambda: new, kernel.splits[0])


def _outside(basis: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """What of each matrix's columns is not in the span of the columns of another."""
    q, sizes, _ = np.linalg.svd(basis, full_matrices=False)
    spans = sizes > 1e-12 * sizes.max(axis=-1, keepdims=True)  # columns of zeros span nothing
    q = q * spans[..., None, :]
    outside: np.ndarray = matrices - q @ (flip(q) @ matrices)
    return outside
