"""Bytes in the compact file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reducible_train.settings.measures.base import TabulatedMeasure


@dataclass(frozen=True)
class FileSize(TabulatedMeasure, help="Bytes of the compact file, estimated."):
    """A budget of the compact file: its bytes, estimated from what the codec makes of weights."""

    name: ClassVar[str] = "file"
    unit: ClassVar[str] = "bytes of the compact file"

    def words(self, dense: float, now: float) -> str:
        return f"The compact file takes about {now:,.0f} bytes, {dense:,.0f} dense."
