"""From chosen ranks to the changes of a model, and to what a report says of them."""

from __future__ import annotations

import time as clock
from collections.abc import Sequence
from functools import partial
from typing import cast

import numpy as np

from reducible_train import _keras
from reducible_train.compressor.kernel_errors import kernel_output_error
from reducible_train.linalg.svd import energy_at
from reducible_train.report.records import KernelCut
from reducible_train.selection.allocation import Allocation
from reducible_train.selection.compressible import CompressibleKernel
from reducible_train.selection.rank_choice import RankChoice
from reducible_train.surgery.change import KernelChange, NewKernel, cut


def changes_to(choices: Sequence[RankChoice]) -> list[KernelChange]:
    """What the chosen ranks make of the kernels."""
    return [
        cut(each.compressible.kernel, each.rank, each.parts, each.factorization.split, each.means)
        for each in choices
    ]


def agreed(
    told: _keras.Broadcast,
    changes: Sequence[KernelChange],
    compressible: Sequence[CompressibleKernel],
) -> list[KernelChange]:
    """The changes of the first of several processes, on one's own kernels.

    Each process may have decomposed its kernels a little differently, and factors of two of them
    do not belong together. They are told one after the other, for they may be large, and all of
    them before anything is changed: none waits for a process whose surgery has failed.

    Args:
        told: Gives what the first process has found; of a model in one alone, numbers are computed
            when the turn of their kernel comes.
        changes: One's own.
        compressible: The kernels that may change.

    Raises:
        SpectrumError: The first process could not compute the numbers of a kernel; in all.
    """
    if not told.is_shared:
        return list(changes)
    kernels = {m.kernel.path: m.kernel for m in compressible}
    own = {change.kernel.path: change for change in changes}
    found = []
    for path, split in told([(path, change.split) for path, change in own.items()]):
        new = told(_made(own.get(path)))
        if isinstance(new, Exception):
            raise new
        found.append(KernelChange(kernels[path], partial(cast, "NewKernel", new), split))
    return found


def _made(own: KernelChange | None) -> NewKernel | Exception | None:
    """The numbers that a kernel shall have, or why there are none."""
    try:
        return None if own is None else own.make()
    except Exception as failure:  # the others wait for an answer
        return failure


def kernel_cut(choice: RankChoice, criterion: str) -> KernelCut:
    """The record of one kernel in a cut.

    Args:
        choice: What becomes of it.
        criterion: What said which directions to lose, where the data told of this kernel.
    """
    kernel, parts, rank = choice.compressible.kernel, choice.parts, choice.rank
    error = parts.relative_error(rank)
    return KernelCut(
        path=kernel.path,
        shape=choice.factorization.shape,
        rank_before=kernel.rank,
        rank=rank,
        energy=energy_at(error),
        relative_error=error,
        binding=choice.binding,
        spectrum=np.asarray(parts.values),
        criterion="frobenius" if parts.is_plain else criterion,
        output_error=kernel_output_error(choice),
        effective_rank=choice.effective_rank,
    )


def certificate(allocation: Allocation | None) -> dict[str, float] | None:
    """How good an allocation is proven to be; `None` if there was none to solve."""
    if allocation is None:
        return None
    return {"objective": allocation.objective, "bound": allocation.bound, "gap": allocation.gap}


def seconds_of(started: float, decided: float, scoring: float) -> dict[str, float]:
    """How long each part of a cut took that ends now.

    Args:
        started: When it began, by `time.perf_counter`.
        decided: When its ranks were chosen.
        scoring: Seconds of that in which kernels were decomposed.
    """
    return {
        "spectra": scoring,
        "allocation": decided - started - scoring,
        "surgery": clock.perf_counter() - decided,
    }
