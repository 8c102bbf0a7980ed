"""Numbers, whatever they take or do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reducible_train.settings.measures.base import CountedMeasure


@dataclass(frozen=True)
class Parameters(CountedMeasure, help="Numbers in the model's variables."):
    """The numbers of a model."""

    name: ClassVar[str] = "parameters"
    unit: ClassVar[str] = "parameters"

    def weight(self, itemsize: int, uses: int) -> int:
        return 1
