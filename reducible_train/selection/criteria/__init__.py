"""Criteria: what a lost direction of a kernel costs.

Every module in this package is imported, so a new criterion is one new file with one function
under `@criterion(name)`.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from reducible_train.linalg.metric import Metric
from reducible_train.linalg.separation import Separated
from reducible_train.linalg.weighted_svd import Weighted, WeightedStack, weigh, weigh_stack
from reducible_train.selection.criteria.base import (
    Criterion,
    Statistics,
    criterion,
    criterion_named,
    criterion_names,
)

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "Criterion",
    "Metric",
    "Separated",
    "Statistics",
    "Weighted",
    "WeightedStack",
    "criterion",
    "criterion_named",
    "criterion_names",
    "weigh",
    "weigh_stack",
]
