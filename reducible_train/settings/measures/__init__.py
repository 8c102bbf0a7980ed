"""Measures: what a budget counts (parameters, bytes, FLOPs, bytes of the file, seconds).

Every module in this package is imported, so a new measure is one new file, or two if a table must
tell its costs.
"""

from __future__ import annotations

import importlib
import pkgutil

from reducible_train.settings.measures.base import (
    CountedMeasure,
    Measure,
    TabulatedMeasure,
    checked_measure,
    counted_measure,
    measure_kinds,
    needed_options,
)
from reducible_train.settings.measures.file import FileSize
from reducible_train.settings.measures.flops import Flops
from reducible_train.settings.measures.latency import Latency
from reducible_train.settings.measures.parameters import Parameters
from reducible_train.settings.measures.shapes import InputShape

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = [
    "CountedMeasure",
    "FileSize",
    "Flops",
    "InputShape",
    "Latency",
    "Measure",
    "Parameters",
    "TabulatedMeasure",
    "checked_measure",
    "counted_measure",
    "measure_kinds",
    "needed_options",
]
