"""Rank plans: the ranks of a model, as files keep them.

A plan maps kernel paths to ranks; a kernel that can be split in several ways has
`{"rank": r, "split": name}`. Kernels that a plan does not name are dense.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from reducible_train.errors import SurgeryError, shortened
from reducible_train.layers import Kernel, find_kernels
from reducible_train.settings.checks import is_count

PlanEntry = int | Mapping[str, Any]
Plan = Mapping[str, PlanEntry]


def plan_of(model: Any) -> dict[str, PlanEntry]:
    """The plan of a model, or of a layer and what is below it."""
    plan: dict[str, PlanEntry] = {}
    for kernel in find_kernels(model):
        if kernel.rank is not None:
            several = len(kernel.kind.splits) > 1
            entry = {"rank": kernel.rank, "split": kernel.splits[0]}
            plan[kernel.path] = entry if several else kernel.rank
    return plan


def checked(entry: PlanEntry, kernel: Kernel) -> tuple[int, str]:
    """Rank and split of one entry of a plan.

    Raises:
        SurgeryError: It does not fit the kernel.
    """
    whole = entry if isinstance(entry, Mapping) else {"rank": entry, "split": kernel.kind.splits[0]}
    rank, split = whole.get("rank"), whole.get("split")
    possible = kernel.kind.splits_of(kernel.layer, kernel.name)
    if set(whole) != {"rank", "split"} or split not in possible:
        raise SurgeryError(
            f"The rank plan does not fit {shortened(kernel.path, 200)!r}, which can be split as "
            f"{', '.join(map(repr, possible))}. Received: {shortened(repr(entry))}."
        )
    full = min(kernel.shape_in(split))
    if not is_count(rank) or rank > full:
        raise SurgeryError(
            f"The rank plan does not fit {shortened(kernel.path, 200)!r}, of shape "
            f"{kernel.shape_in(split)}: its rank must be a whole number in "
            f"[1, {full}]. Received: {shortened(repr(rank))}."
        )
    return int(rank), split


def planned(model: Any, plan: Plan) -> list[tuple[Kernel, list[np.ndarray], str | None]]:
    """What must change to bring a model to a plan: kernel, new matrices of zeros, split.

    Raises:
        SurgeryError: The plan names a kernel that the model does not have, or does not fit
            one of them.
    """
    kernels = {kernel.path: kernel for kernel in find_kernels(model)}
    for path in plan:
        if path not in kernels:
            raise SurgeryError(
                f"The rank plan does not fit model '{model.name}', which has no kernel "
                f"{path!r}. Its kernels are: {', '.join(sorted(kernels)) or 'none'}."
            )
    wanted = {path: checked(entry, kernels[path]) for path, entry in plan.items()}
    changes: list[tuple[Kernel, list[np.ndarray], str | None]] = []
    for path, kernel in kernels.items():
        rank, split = wanted.get(path, (None, None))
        if (kernel.rank, kernel.splits[0] if kernel.rank else None) != (rank, split):
            changes.append((kernel, _zeros(kernel, rank, split), split))
    return changes


def _zeros(kernel: Kernel, rank: int | None, split: str | None) -> list[np.ndarray]:
    (m, n), g = kernel.shape_in(split), kernel.count
    if rank is None:
        return [np.zeros((g, m, n), np.float32)]
    return [np.zeros((g, m, rank), np.float32), np.zeros((g, rank, n), np.float32)]
