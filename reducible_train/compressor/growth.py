"""Which kernels may grow before the next cut, and by how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reducible_train import _keras
from reducible_train.layers import Kernel
from reducible_train.linalg.multiples import rounded_up
from reducible_train.selection.compressible import CompressibleKernel
from reducible_train.selection.samples import Samples
from reducible_train.surgery.change import KernelChange
from reducible_train.surgery.growth import grow, whole_gradients


def room_to_grow(compressible: Sequence[CompressibleKernel], fraction: float) -> dict[Kernel, int]:
    """By how many directions kernels may grow, a fraction of their rank; without those of none."""
    counts = {each.kernel: _directions(each, fraction) for each in compressible}
    return {kernel: count for kernel, count in counts.items() if count}


def grown(model: Any, counts: Mapping[Kernel, int], samples: Samples) -> list[KernelChange]:
    """The changes that give kernels so many directions, those the loss asks for most.

    Args:
        model: The model in training.
        counts: How many, for each kernel that shall grow.
        samples: Inputs and targets, of which the gradients are taken.
    """
    gradients = whole_gradients(model, list(counts), samples)
    changes = [grow(k, gradients[k.path], n) for k, n in counts.items() if k.path in gradients]
    return [change for change in changes if change is not None]


def _directions(compressible: CompressibleKernel, fraction: float) -> int:
    """For one kernel; 0 while it is dense, or if it is not trained."""
    kernel = compressible.kernel
    rank = kernel.rank
    if rank is None or not all(map(_keras.is_trained, kernel.variables)):
        return 0
    form = compressible.factorization
    wanted = rounded_up(rank + max(1, round(fraction * rank)), form.multiple)
    return max(0, min(wanted, form.growth) - rank)
