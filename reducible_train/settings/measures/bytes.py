"""Bytes in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reducible_train.settings.measures.base import CountedMeasure


@dataclass(frozen=True)
class Bytes(CountedMeasure, help="Bytes of the model's variables in memory."):
    """The bytes of a model's variables in memory."""

    name: ClassVar[str] = "bytes"
    unit: ClassVar[str] = "bytes"

    def weight(self, itemsize: int, uses: int) -> int:
        return itemsize
