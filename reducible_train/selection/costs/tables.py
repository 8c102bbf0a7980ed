"""What kernels cost by a measure that has no law: a table for each, made by a cost model.

A cost model is one module in this package, named like its measure: a subclass of `CostModel`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from reducible_train.report.records import Cut
from reducible_train.settings.checks import register

_KINDS: dict[str, type[CostModel]] = {}


@dataclass(frozen=True, eq=False)
class CostTable:
    """What one kernel costs where that does not follow from its numbers alone.

    Args:
        dense: Cost of the dense kernel.
        ranks: `(k + 1,)`, the cost of factors of rank 0 ... k, never falling.

    Example:
        >>> CostTable(10.0, np.array([2.0, 5.0, 8.0, 11.0])).break_even_rank()
        2
    """

    dense: float
    ranks: npt.NDArray[np.float64]

    def break_even_rank(self, min_gain: float = 0.0) -> int:
        """The largest rank whose factors cost less than `1 - min_gain` of the dense kernel."""
        return int(np.searchsorted(self.ranks[1:], (1 - min_gain) * self.dense))


@dataclass(frozen=True, eq=False)
class CostModel(ABC):
    """What one model costs by a measure that has no law.

    Args:
        tables: What each kernel costs, by its path and the split of its factors.
        rest: What everything else in the model costs.
        record_cost: What the records of the cuts so far add, beside the first of each kernel.
        remark: What a report should say of it.

    Attributes:
        measure: Name of the measure.
    """

    measure: ClassVar[str]

    tables: dict[tuple[str, str], CostTable]
    rest: float
    record_cost: float = 0.0
    remark: str = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        register(_KINDS, cls, "cost model", "measure")

    @classmethod
    @abstractmethod
    def of(
        cls,
        measure: Any,
        model: Any,
        kernels: Sequence[Any],
        wanted: Mapping[str, Sequence[Any]],
        calls: Sequence[Any] | None,
    ) -> Self:
        """The costs of a model.

        Args:
            measure: The measure, with its options.
            model: The model.
            kernels: All its kernels.
            wanted: The factorizations of those that may change, by path.
            calls: The traced calls of their layers; `None` if they cannot be traced.
        """

    def with_cuts(self, cuts: Sequence[Cut], coming: Sequence[str] = ()) -> Self:
        """The same, where the records of cuts are paid for.

        Args:
            cuts: All so far.
            coming: Paths of the kernels that one more may change; none if there will be no more.
        """
        return self  # most measures do not see them

    def keep_dense_cost(self, kernel: Any, cost: float) -> None:
        """Let a kernel that has factors now remember what only the dense one tells."""
        return  # most measures can tell it from the factors

    def to_plain(self) -> dict[str, Any]:
        """Plain JSON values of all but the cost of records."""
        tables = [
            [path, split, table.dense, table.ranks.tolist()]
            for (path, split), table in self.tables.items()
        ]
        return {"tables": tables, "rest": self.rest, "remark": self.remark}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The cost model that `to_plain` made these values of."""
        tables = {
            (path, split): CostTable(dense, np.asarray(ranks, float))
            for path, split, dense, ranks in plain["tables"]
        }
        return cls(tables, plain["rest"], remark=plain["remark"])


def cost_model_kind(measure: str) -> type[CostModel] | None:
    """What makes the tables of a measure, by its name; `None` for one that has a law.

    >>> cost_model_kind("file").__name__, cost_model_kind("bytes")
    ('FileCosts', None)
    """
    return _KINDS.get(measure)
