"""Low-rank layers: one module for each kind, found by itself."""

from __future__ import annotations

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

from reducible_train.layers.base import LowRank, StockLayer, dense_classes, low_rank_class  # noqa: E402
from reducible_train.layers.dense import LowRankDense  # noqa: E402
from reducible_train.layers.kernel import Kernel, find_kernels, unknown_kernels  # noqa: E402

__all__ = [
    "Kernel",
    "LowRank",
    "LowRankDense",
    "StockLayer",
    "dense_classes",
    "find_kernels",
    "low_rank_class",
    "unknown_kernels",
]
