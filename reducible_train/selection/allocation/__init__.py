"""Allocation: one budget, a rank for each kernel.

Every module in this package is imported, so a new way to share a budget is one new file with one
function under `@allocator(name)`.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from reducible_train.selection.allocation.base import (
    Allocation,
    allocate,
    allocator,
    allocator_names,
)
from reducible_train.selection.allocation.candidates import Candidate, Group, weighted
from reducible_train.selection.allocation.several import allocate_several

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "Allocation",
    "Candidate",
    "Group",
    "allocate",
    "allocate_several",
    "allocator",
    "allocator_names",
    "weighted",
]
