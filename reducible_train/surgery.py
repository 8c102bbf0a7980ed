"""Change the ranks of one live model, all or nothing.

Everything that can fail on bad numbers is computed before anything is touched; should
Keras fail half-way, layers and optimizers are put back as they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reducible_train import _keras
from reducible_train.errors import SpectrumError, SurgeryError
from reducible_train.layers import Kernel, find_kernels
from reducible_train.spectra import ProductSvd, Svd, decompose, decompose_product
from reducible_train.transport import (
    ChangeOfVariables,
    Correction,
    Replacement,
    Split,
    Truncation,
    carry,
)


@dataclass(frozen=True, eq=False)
class KernelChange:
    """What one kernel shall become.

    Args:
        kernel: The kernel.
        matrices: `[U (m, r), V (r, n)]`, or `[W (m, n)]` to make it dense again.
        state: How optimizer state follows; `None` to start it anew.
    """

    kernel: Kernel
    matrices: Sequence[np.ndarray]
    state: ChangeOfVariables | None = None


def decomposition(kernel: Kernel) -> Svd:
    """The singular value decomposition of a kernel, dense or factorised.

    Raises:
        SpectrumError: It holds NaN or infinity, or does not converge; names the kernel.
    """
    matrices = kernel.matrices()
    try:
        return decompose(*matrices) if len(matrices) == 1 else decompose_product(*matrices)
    except SpectrumError as error:
        raise SpectrumError(f"{kernel.path}: {error}") from error


def cut(kernel: Kernel, rank: int, parts: Svd) -> KernelChange:
    """The change that brings a kernel to `rank`, given its present decomposition."""
    factors = parts.factors(rank)
    if isinstance(parts, ProductSvd):
        return KernelChange(kernel, factors, Truncation(*parts.rotations(rank)))
    return KernelChange(kernel, factors, Split(*factors))


def change_kernels(
    model: Any,
    changes: Sequence[KernelChange],
    *,
    training: bool = False,
    at_split: Correction = "signal",
    at_truncation: Correction = "signal",
) -> None:
    """Bring kernels of a model to new ranks, optimizer state included.

    Args:
        model: A built Keras model.
        changes: What shall become of each kernel.
        training: True inside `fit`, whose train function must be made anew at once.
        at_split: What becomes of second moments at a first factorisation.
        at_truncation: What becomes of them at a truncation.

    Raises:
        SurgeryError: Keras failed on the way; the model is as it was.
    """
    if not changes:
        return
    _keras.settle(model)
    optimizer = _keras.compiled_optimizer(model)
    if optimizer is not None and not optimizer.built:
        optimizer = None
    touched = list({id(c.kernel.layer): c.kernel.layer for c in changes}.values())
    if optimizer is not None:
        touched += _keras.all_optimizers(optimizer)
    restores = [_keras.snapshot(one) for one in touched]
    try:
        with _keras.strategy_scope(model):
            replacements = [_install(change) for change in changes]
            dead = [variable for r in replacements for variable in r.old]
            if optimizer is not None:
                dead += carry(
                    optimizer,
                    model.trainable_variables,
                    replacements,
                    at_split=at_split,
                    at_truncation=at_truncation,
                )
    except Exception as error:
        for restore in restores:
            restore()
        _keras.renew_functions(model, training=training)
        raise SurgeryError(
            f"The ranks of model '{model.name}' could not be changed; it is as it was. "
            f"{type(error).__name__}: {error}"
        ) from error
    _keras.renew_functions(model, training=training)
    _keras.release(dead)


def _install(change: KernelChange) -> Replacement:
    as_matrices = change.kernel.matrix_view()
    old, new = change.kernel.install(change.matrices)
    return Replacement(old, new, change.state, as_matrices)


def apply_plan(model: Any, plan: Mapping[str, int]) -> None:
    """Bring a model to the ranks of a plan; kernels it does not name become dense.

    The new factors hold zeros, to be filled from a file.

    Args:
        model: A built model.
        plan: Kernel path -> rank.

    Raises:
        SurgeryError: The plan names a kernel the model does not have, or a rank above
            full rank; the model is as it was.
    """
    kernels = {kernel.path: kernel for kernel in find_kernels(model)}
    for path, rank in plan.items():
        if path not in kernels:
            raise SurgeryError(
                f"The rank plan does not fit model '{model.name}', which has no kernel "
                f"{path!r}. Its kernels are: {', '.join(sorted(kernels)) or 'none'}."
            )
        if not 1 <= rank <= min(kernels[path].shape):
            raise SurgeryError(
                f"The rank plan does not fit model '{model.name}': the rank of {path!r}, of "
                f"shape {kernels[path].shape}, must be in [1, {min(kernels[path].shape)}]. "
                f"Received: {rank}."
            )
    changes = [
        KernelChange(kernel, _zeros(kernel.shape, plan.get(path)))
        for path, kernel in kernels.items()
        if kernel.rank != plan.get(path)
    ]
    change_kernels(model, changes)


def _zeros(shape: tuple[int, int], rank: int | None) -> list[np.ndarray]:
    if rank is None:
        return [np.zeros(shape, np.float32)]
    return [np.zeros((shape[0], rank), np.float32), np.zeros((rank, shape[1]), np.float32)]


def merge_all(kernels: Iterable[Kernel]) -> list[KernelChange]:
    """The changes that make factorised kernels dense again."""
    merged = []
    for kernel in kernels:
        if kernel.rank is not None:
            u, v = (matrix.astype(np.float64) for matrix in kernel.matrices())
            merged.append(KernelChange(kernel, [u @ v]))
    return merged
