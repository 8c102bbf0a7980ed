"""One look at a model that answers for several budgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reducible_train.compressor.history import History
from reducible_train.selection.compressible import CompressibleKernel
from reducible_train.selection.factorizations import Factorization
from reducible_train.selection.scoring import Decomposition, DirectionScorer


class RememberingScorer(DirectionScorer):
    """Decomposes each kernel once in each form, however often it is asked."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._parts: dict[tuple[str, str], Decomposition] = {}

    def parts(self, compressible: CompressibleKernel, form: Factorization) -> Decomposition:
        """The decomposition of a kernel in one of its forms."""
        asked = compressible.kernel.path, form.split
        if asked not in self._parts:
            self._parts[asked] = super().parts(compressible, form)
        return self._parts[asked]


@dataclass(frozen=True, eq=False)
class Outlook:
    """What is known of a model at a time, until it is trained or cut.

    Args:
        time: When it was looked at, in epochs.
        history: What had been done to it by then.
        scorer: What the directions of its kernels are worth.
    """

    time: float
    history: History
    scorer: DirectionScorer

    def holds(self, time: float, history: History) -> bool:
        """True while the model is as it was."""
        return self.time == time and self.history is history
