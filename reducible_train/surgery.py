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
from reducible_train.criteria import Metric, WeightedStack, weigh_stack
from reducible_train.errors import SpectrumError, SurgeryError
from reducible_train.layers import Kernel, find_kernels
from reducible_train.stacks import (
    ProductStackSvd,
    StackSvd,
    decompose_product_stack,
    decompose_stack,
)
from reducible_train.transport import (
    ChangeOfVariables,
    Correction,
    Replacement,
    Split,
    Truncation,
    carry,
    shift_weights,
)

PlanEntry = int | Mapping[str, Any]
Decomposition = StackSvd | WeightedStack


@dataclass(frozen=True, eq=False)
class KernelChange:
    """What one kernel shall become.

    Args:
        kernel: The kernel.
        matrices: `[U (g, m, r), V (g, r, n)]`, or `[W (g, m, n)]` to make it dense again.
        state: How optimizer state follows; `None` to start it anew.
        split: How the kernel is split, if it can be in several ways.
        shift: `(g, n)`, to be added to the bias; `None` leaves it alone.
    """

    kernel: Kernel
    matrices: Sequence[np.ndarray]
    state: ChangeOfVariables | None = None
    split: str | None = None
    shift: np.ndarray | None = None


def decomposition(
    kernel: Kernel, split: str | None = None, metrics: Sequence[Metric] | None = None
) -> Decomposition:
    """The singular value decomposition of a kernel, dense or factorised.

    Args:
        kernel: The kernel.
        split: How it is split; the usual way if not given.
        metrics: How errors of each of its matrices are measured; left out, by their energy.

    Raises:
        SpectrumError: It holds NaN or infinity, or does not converge; names the kernel.
    """
    matrices = kernel.matrices(split)
    try:
        if metrics is not None:
            return weigh_stack(matrices, metrics)
        if len(matrices) == 1:
            return decompose_stack(*matrices)
        return decompose_product_stack(*matrices)
    except SpectrumError as error:
        raise SpectrumError(f"{kernel.path}: {error}") from error


def cut(
    kernel: Kernel,
    rank: int,
    parts: Decomposition,
    split: str | None = None,
    means: Sequence[np.ndarray] | None = None,
) -> KernelChange:
    """The change that brings a kernel to `rank`, given its present decomposition.

    Args:
        kernel: The kernel.
        rank: Its new rank.
        parts: Its decomposition.
        split: How it is split; the usual way if not given.
        means: The mean of the inputs `(m,)` of each of its matrices, whose loss the bias makes
            up for; `None` leaves the bias alone.
    """
    factors = parts.factors(rank)
    state: ChangeOfVariables = Split(*factors)
    if isinstance(parts, ProductStackSvd) or (
        isinstance(parts, WeightedStack) and kernel.rank is not None
    ):
        state = Truncation(*parts.rotations(rank))
    shift = None
    if means is not None and isinstance(parts, WeightedStack):
        shift = parts.output_shift(rank, means)
    return KernelChange(kernel, factors, state, split, shift)


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
            _shift_biases(changes, optimizer)
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


def _shift_biases(changes: Sequence[KernelChange], optimizer: Any) -> None:
    """The last step, so that nothing that fails comes after it."""
    for change in changes:
        kernel = change.kernel
        bias = kernel.kind.output_bias(kernel.layer, kernel.name)
        if change.shift is not None and bias is not None:
            shift_weights(optimizer, bias, change.shift)


def _install(change: KernelChange) -> Replacement:
    kernel, split = change.kernel, change.split
    as_matrices, as_variables = kernel.as_matrices(split), kernel.as_variables(split)
    old, new = kernel.install(change.matrices, split)
    return Replacement(old, new, change.state, as_matrices, as_variables)


def rank_plan(model: Any) -> dict[str, PlanEntry]:
    """The ranks of a model, as files keep them: kernel path -> rank.

    A kernel that can be split in several ways has `{"rank": r, "split": name}`.
    """
    plan: dict[str, PlanEntry] = {}
    for kernel in find_kernels(model):
        if kernel.rank is not None:
            several = len(kernel.kind.splits) > 1
            entry = {"rank": kernel.rank, "split": kernel.splits[0]}
            plan[kernel.path] = entry if several else kernel.rank
    return plan


def planned(entry: PlanEntry, kernel: Kernel) -> tuple[int, str]:
    """Rank and split of one entry of a plan, checked against the kernel.

    Raises:
        SurgeryError: It does not fit the kernel.
    """
    whole = entry if isinstance(entry, Mapping) else {"rank": entry, "split": kernel.kind.splits[0]}
    rank, split = whole.get("rank"), whole.get("split")
    if set(whole) != {"rank", "split"} or split not in kernel.kind.splits:
        raise SurgeryError(
            f"The rank plan does not fit {kernel.path!r}, which can be split as "
            f"{', '.join(map(repr, kernel.kind.splits))}. Received: {entry!r}."
        )
    full = min(kernel.shape_in(split))
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= full:
        raise SurgeryError(
            f"The rank plan does not fit {kernel.path!r}, of shape {kernel.shape_in(split)}: its "
            f"rank must be a whole number in [1, {full}]. Received: {rank!r}."
        )
    return rank, split


def apply_plan(model: Any, plan: Mapping[str, PlanEntry]) -> None:
    """Bring a model to the ranks of a plan; kernels it does not name become dense.

    The new factors hold zeros, to be filled from a file.

    Args:
        model: A built model.
        plan: What `rank_plan` gives.

    Raises:
        SurgeryError: The plan names a kernel the model does not have, or does not fit one;
            the model is as it was.
    """
    kernels = {kernel.path: kernel for kernel in find_kernels(model)}
    for path in plan:
        if path not in kernels:
            raise SurgeryError(
                f"The rank plan does not fit model '{model.name}', which has no kernel "
                f"{path!r}. Its kernels are: {', '.join(sorted(kernels)) or 'none'}."
            )
    wanted = {path: planned(entry, kernels[path]) for path, entry in plan.items()}
    to_dense = [
        KernelChange(kernel, _zeros(kernel, None, None))
        for path, kernel in kernels.items()
        if kernel.rank is not None and (path not in wanted or wanted[path][1] != kernel.splits[0])
    ]
    change_kernels(model, to_dense)
    to_factors = [
        KernelChange(kernels[path], _zeros(kernels[path], rank, split), split=split)
        for path, (rank, split) in wanted.items()
        if kernels[path].rank != rank
    ]
    change_kernels(model, to_factors)


def _zeros(kernel: Kernel, rank: int | None, split: str | None) -> list[np.ndarray]:
    (m, n), g = kernel.shape_in(split), kernel.count
    if rank is None:
        return [np.zeros((g, m, n), np.float32)]
    return [np.zeros((g, m, rank), np.float32), np.zeros((g, rank, n), np.float32)]


def merge_all(kernels: Iterable[Kernel]) -> list[KernelChange]:
    """The changes that make factorised kernels dense again."""
    merged = []
    for kernel in kernels:
        if kernel.rank is not None:
            u, v = (matrix.astype(np.float64) for matrix in kernel.matrices())
            merged.append(KernelChange(kernel, [u @ v]))
    return merged
