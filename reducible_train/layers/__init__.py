"""Low-rank layers: one module for each kind, found by itself.

A layer is made low-rank by a class with the mixin `LowRank` in front of its own, and by a
`KernelKind` that says what is known of its kernels; `docs/layers.md` shows one of your own.

    LowRank, PlainKernel      what low-rank layers share
    KernelKind, Data,         what is known of a class of layers, and of the data
    RowReader, Uses             that passes through their kernels
    Matricization             how a kernel is seen as matrices, its factors as kernels
    StockLayer                a layer of Keras's that takes the place of factors
    LowRankDense              the layer for `Dense`; the others are in modules of their names
    Kernel                    one kernel of a live model, under its path
    as_matrices, as_variables   values shaped as it, seen as matrices, and back
    as_one_variable           factors computed with as one variable, for a gradient
    dense_file_bytes,         what it took in the compact file while dense
    keep_dense_file_bytes
    find_kernels              all of them, in a model
    unknown_kernels           weights that are none
    find_fixed, uncounted     those that stay as they are and do work; those whose work is unknown
    low_rank_class            the low-rank class for a layer
    dense_classes             every class that has one
    product_penalties         what an aid adds to the losses of one
    unpenalized               a model without these
"""

from __future__ import annotations

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

from reducible_train.layers.base import (  # noqa: E402
    LowRank,
    PlainKernel,
    dense_classes,
    low_rank_class,
)
from reducible_train.layers.dense import LowRankDense  # noqa: E402
from reducible_train.layers.fixed import find_fixed, uncounted  # noqa: E402
from reducible_train.layers.kernel import (  # noqa: E402
    Kernel,
    dense_file_bytes,
    find_kernels,
    keep_dense_file_bytes,
    unknown_kernels,
)
from reducible_train.layers.kind import Data, KernelKind, RowReader  # noqa: E402
from reducible_train.layers.product_losses import product_penalties  # noqa: E402
from reducible_train.layers.stock import StockLayer  # noqa: E402
from reducible_train.layers.unpenalized import unpenalized  # noqa: E402
from reducible_train.layers.uses import Uses  # noqa: E402
from reducible_train.layers.values import (  # noqa: E402
    as_matrices,
    as_one_variable,
    as_variables,
)
from reducible_train.linalg.matricization import Matricization  # noqa: E402

__all__ = [
    "Data",
    "Kernel",
    "KernelKind",
    "LowRank",
    "LowRankDense",
    "Matricization",
    "PlainKernel",
    "RowReader",
    "StockLayer",
    "Uses",
    "as_matrices",
    "as_one_variable",
    "as_variables",
    "dense_classes",
    "dense_file_bytes",
    "find_fixed",
    "find_kernels",
    "keep_dense_file_bytes",
    "low_rank_class",
    "product_penalties",
    "uncounted",
    "unknown_kernels",
    "unpenalized",
]
