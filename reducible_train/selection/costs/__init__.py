"""What kernels cost: counted, in the compact file, or in time.

Every module in this package is imported, so the cost model of a measure is one new file.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from reducible_train.selection.costs.counted import break_even_rank, dense_cost, rank_cost
from reducible_train.selection.costs.tables import CostModel, CostTable, cost_model_kind

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "CostModel",
    "CostTable",
    "break_even_rank",
    "cost_model_kind",
    "dense_cost",
    "rank_cost",
]
