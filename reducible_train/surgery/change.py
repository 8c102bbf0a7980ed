"""Change the ranks of one live model, all or nothing.

The new numbers of a kernel are computed when its turn comes, so that those of one kernel at a time
are held beside the variables; should that fail, or Keras, half-way, layers and optimizers are put
back as they were.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from reducible_train import _keras
from reducible_train.errors import SpectrumError, SurgeryError
from reducible_train.layers import Kernel, as_matrices, as_variables
from reducible_train.linalg.stacks import stacked
from reducible_train.linalg.svd import awakened
from reducible_train.selection.scoring import Decomposition
from reducible_train.surgery.optimizer_state import (
    ChangeOfVariables,
    Correction,
    Replacement,
    Split,
    Truncation,
    remember,
    shift_weights,
    transfer,
    transfer_torch,
)
from reducible_train.surgery.plans import Plan, planned
from reducible_train.surgery.rebuild import mark_containers


@dataclass(frozen=True, eq=False)
class NewKernel:
    """The numbers that one kernel shall have, and what follows from them.

    Args:
        matrices: `[U (g, m, r), V (g, r, n)]`, or `[W (g, m, n)]` to make it dense again.
        state: How optimizer state follows; `None` to start it anew.
        shift: `(g, n)`, to be added to the outputs; `None` adds nothing.
    """

    matrices: Sequence[np.ndarray]
    state: ChangeOfVariables | None = None
    shift: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class KernelChange:
    """What one kernel shall become.

    Args:
        kernel: The kernel.
        make: Computes its new numbers, of the kernel as it is then.
        split: How the kernel is split, if it can be in several ways.
    """

    kernel: Kernel
    make: Callable[[], NewKernel]
    split: str | None = None


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
        means: The mean of the inputs of each of its matrices, whose loss its offset makes up for,
            `(m,)`, or `(p, m)` where pieces of them meet `p` blocks of columns; `None` leaves
            it alone.
    """
    return KernelChange(kernel, partial(_truncated, rank, parts, means), split)


def _truncated(rank: int, parts: Decomposition, means: Sequence[np.ndarray] | None) -> NewKernel:
    """Directions that hold nothing are zero in one factor only, so that they can learn."""
    u, v = parts.factors(rank)
    factors = stacked([awakened(*pair) for pair in zip(u, v, strict=True)]), v
    state: ChangeOfVariables = Split(*factors)
    if parts.rotates:
        state = Truncation(*parts.rotations(rank))
    shift = None
    if means is not None:
        shift = parts.output_shift(rank, means)
    return NewKernel(factors, state, shift)


def change_kernels(
    model: Any,
    changes: Sequence[KernelChange],
    *,
    training: bool = False,
    at_split: Correction = "signal",
    at_truncation: Correction = "signal",
    last: Callable[[], None] = lambda: None,
) -> None:
    """Bring kernels of a model to new ranks, optimizer state included.

    Args:
        model: A built Keras model.
        changes: What shall become of each kernel.
        training: True inside `fit`, whose train function must be made anew at once.
        at_split: What becomes of second moments at a first factorisation.
        at_truncation: What becomes of them at a truncation.
        last: Called once all is changed; if it fails, nothing was.

    Raises:
        SpectrumError: The new numbers of a kernel could not be computed; the model is as it was.
        SurgeryError: Keras failed on the way, or `last` did; likewise.
    """
    if not changes:
        last()
        return
    hooked = [
        c.kernel.path for c in changes if any(map(_keras.has_gradient_hooks, c.kernel.variables))
    ]
    layers = list({id(c.kernel.layer): c.kernel.layer for c in changes}.values())
    holders = _keras.find_holders(layers, [v for c in changes for v in c.kernel.variables])
    for each in holders.models:
        _keras.sync_state(each)
    optimizers = [one for each in holders.optimizers for one in _keras.all_optimizers(each)]
    restores = [_keras.snapshot(one) for one in (*layers, *optimizers)]
    restores += [_keras.remember_parameters(one) for one in holders.torch_optimizers]
    restores.append(remember(holders.optimizers, _offsets(changes)))
    try:
        with _keras.strategy_scope(model):
            has_state = any(each.built for each in holders.optimizers) or any(
                each.state for each in holders.torch_optimizers
            )
            installed = [_install(change, has_state=has_state) for change in changes]
            replacements = [each.replacement for each in installed]
            dead = [variable for r in replacements for variable in r.old]
            for optimizer in holders.optimizers:
                dead += transfer(
                    optimizer,
                    [_keras.own_variables(layer) for layer in layers],
                    replacements,
                    at_split=at_split,
                    at_truncation=at_truncation,
                )
            for optimizer in holders.torch_optimizers:
                transfer_torch(
                    optimizer, replacements, at_split=at_split, at_truncation=at_truncation
                )
            mark_containers(model, *holders.models)
            last()
            _shift_outputs([(i.kernel, i.shift) for i in installed], holders.optimizers)
    except BaseException as error:  # an interruption too leaves the model as it was
        for restore in restores:
            restore()
        mark_containers(model, *holders.models)
        _keras.rebuild_functions(model, *holders.models, training=training)
        known = isinstance(error, SpectrumError | SurgeryError)
        if known or not isinstance(error, Exception):
            raise
        raise SurgeryError(
            f"The ranks of model '{model.name}' could not be changed; it is as it was. "
            f"{type(error).__name__}: {error}"
        ) from error

    def follow() -> None:
        _keras.rebuild_functions(model, *holders.models, training=training)
        _keras.trace_anew(holders.functions, holders.graphs, [c.kernel.path for c in changes])
        _keras.release(dead)

    to_the_end(follow)
    if hooked:
        warnings.warn(
            f"Hooks of torch on the gradients of {', '.join(map(repr, hooked))} went with the "
            f"variables that a change of the ranks of model '{model.name}' has replaced. Put them "
            "on the new variables of these layers, or keep the layers as they are by a rule: "
            "LayerRule(match=..., keep_dense=True).",
            UserWarning,
            stacklevel=2,
        )


def to_the_end(act: Callable[[], None]) -> None:
    """Do what must not be left half done: once more if it is broken off, as by Ctrl-C.

    Args:
        act: What to do; done twice, it comes to the same.
    """
    try:
        act()
    except BaseException:
        with contextlib.suppress(Exception):
            act()
        raise


def pull_kernels(model: Any, changes: Sequence[KernelChange], fraction: float) -> None:
    """Bring kernels a fraction of the way to what cuts would make of them; ranks stay.

    Dense, `W + fraction (U' V' - W)`; factorised, `U (1 + fraction (R L - 1)) V`, which moves
    `U` alone, so that optimizer state goes on fitting. Offsets move by the fraction, too.

    Args:
        model: A built Keras model.
        changes: The cuts, as `cut` gives them.
        fraction: How far, in [0, 1].
    """
    _keras.sync_state(model)
    changed = [*(v for c in changes for v in c.kernel.variables), *_offsets(changes)]
    optimizers = _keras.find_holders([], changed).optimizers
    wanted = [_made(change) for change in changes]  # before anything is touched
    with _keras.strategy_scope(model):
        for change, new in zip(changes, wanted, strict=True):
            kernel, state = change.kernel, new.state
            old = [matrix.astype(np.float64) for matrix in kernel.matrices(change.split)]
            if isinstance(state, Truncation):
                steps = [old[0] @ state.right @ state.left - old[0], np.zeros_like(old[1])]
            else:
                steps = [new.matrices[0] @ new.matrices[1] - old[0]]
            shifts = as_variables(kernel, change.split)([fraction * step for step in steps])
            shift_weights(optimizers, kernel.variables[0], shifts[0])
        parts = [(c.kernel, new.shift) for c, new in zip(changes, wanted, strict=True)]
        _shift_outputs([(k, fraction * s) for k, s in parts if s is not None], optimizers)


def _offsets(changes: Sequence[KernelChange]) -> list[Any]:
    """The variables that can take up the means of what is lost."""
    return [c.kernel.offset.variable for c in changes if c.kernel.offset is not None]


def _shift_outputs(
    shifts: Sequence[tuple[Kernel, np.ndarray | None]], optimizers: Iterable[Any]
) -> None:
    """The last step, so that nothing that fails comes after it."""
    for kernel, shift in shifts:
        offset = kernel.offset
        if shift is not None and offset is not None:
            shift_weights(optimizers, offset.variable, offset.sign * shift)


@dataclass(frozen=True, eq=False)
class _Installed:
    """What is left to do for a kernel that has its new variables."""

    kernel: Kernel
    replacement: Replacement
    shift: np.ndarray | None


def _install(change: KernelChange, *, has_state: bool) -> _Installed:
    """Give a kernel its new variables, and let go of their numbers.

    Args:
        change: What it shall become.
        has_state: False where no optimizer has a state that could follow.
    """
    kernel, split = change.kernel, change.split
    before, after = as_matrices(kernel, split), as_variables(kernel, split)
    made = _made(change)
    old, new = kernel.install(made.matrices, split)
    state = _follower(kernel, made, new) if has_state else _none
    return _Installed(kernel, Replacement(old, new, state, before, after), made.shift)


def _made(change: KernelChange) -> NewKernel:
    """Its new numbers; an error names the kernel."""
    try:
        return change.make()
    except SpectrumError as error:
        path = change.kernel.path
        raise SpectrumError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error


def _none() -> None:
    """How state follows where there is none."""


def _follower(
    kernel: Kernel, made: NewKernel, new: Sequence[Any]
) -> Callable[[], ChangeOfVariables | None]:
    """How state follows. Factors are read from their variables where these hold every digit."""
    state = made.state
    held = {_keras.itemsize(variable) for variable in new}
    if isinstance(state, Split) and held == {each.dtype.itemsize for each in made.matrices}:
        read = as_matrices(kernel)
        return lambda: Split(*read([_keras.host_float(variable) for variable in new]))
    return lambda: state


def apply_plan(
    model: Any, plan: Plan, *, training: bool = False, last: Callable[[], None] = lambda: None
) -> None:
    """Bring a model to the ranks of a plan; kernels it does not name become dense.

    The new factors hold zeros, to be filled from a file.

    Args:
        model: A built model.
        plan: What `plan_of` gives.
        training: True inside `fit`, whose train function must be made anew at once.
        last: Called once all is changed; if it fails, nothing was.

    Raises:
        SurgeryError: The plan names a kernel the model does not have, does not fit one, or
            `last` failed; the model is as it was.
    """
    change_kernels(
        model,
        [
            KernelChange(kernel, partial(NewKernel, zeros), split)
            for kernel, zeros, split in planned(model, plan)
        ],
        training=training,
        last=last,
    )


def merge_all(kernels: Iterable[Kernel]) -> list[KernelChange]:
    """The changes that make factorised kernels dense again."""
    return [KernelChange(k, partial(_multiplied, k)) for k in kernels if k.rank is not None]


def _multiplied(kernel: Kernel) -> NewKernel:
    u, v = (matrix.astype(np.float64) for matrix in kernel.matrices())
    return NewKernel([u @ v])
