"""What a kernel costs in the compact file: bytes, not numbers.

The codec keeps signs and mantissas as they are and writes exponents in a Huffman code, so a
number takes nearly the same whatever it is. Measured on kernels and on their balanced factors
(uniform, normal, heavy-tailed, with rows and columns of very unequal scale; ranks 4 to 64), bits
a number, as initialised to the worst:

| dtype | in memory | in the file |
|---|---|---|
| float32 | 32 | 25.4 to 27.4 |
| float16 | 16 | 13.0 to 14.4 |
| bfloat16 | 16 | 10.3 to 11.4 |
| float64 | 64 | 56.5 to 57.5 |

Factors are priced near the upper end, because training goes on after a cut; dense kernels by what
the codec makes of them now. So the file is a little smaller than was asked for (2 to 4 %), and
not larger. Headers and the records of the cuts are paid for as well: they count in small files.
So is what a configuration holds beyond a few words a layer, such as the means of a Normalization.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.container import Header
from reducible_train.container.codecs import codec_for
from reducible_train.container.header import header_bytes
from reducible_train.errors import FormatError
from reducible_train.layers import Kernel, dense_file_bytes, find_kernels, keep_dense_file_bytes
from reducible_train.report.records import Cut
from reducible_train.selection.costs.tables import CostModel, CostTable

BITS = {"float32": 27.3, "float16": 14.4, "bfloat16": 11.4, "float64": 57.5}
_HEADER = 600  # bytes of a file before its layers: prefix, versions, checksum
_RECORD = 60  # of one variable in the header, its share of the configuration of the layer included
_CONFIG, _SHARE = 400, 35  # of these two, what is meant for the configuration
_REPORT = 700  # of a report, beside its kernels
_CUT = 75  # of one kernel in one cut
_TABLES = 12  # of the codes of a small tensor, beside its numbers


@dataclass(frozen=True, eq=False)
class FileCosts(CostModel):
    """What the kernels of a model cost in its compact file, and what all the rest does."""

    measure: ClassVar[str] = "file"

    @classmethod
    def of(
        cls,
        measure: Any,
        model: Any,
        kernels: Sequence[Kernel],
        wanted: Mapping[str, Any],
        calls: Any = None,
    ) -> Self:
        """Estimate them.

        Factors pay for their first cut as well, and those that may change, by path in `wanted`,
        for the report of it.
        """
        inside = {(id(k.layer), id(variable)) for k in kernels for variable in k.variables}
        remark = _reckoned(kernels)
        others = [
            value
            for layer, value in _keras.states_in(model)
            if (id(layer), id(value)) not in inside
        ]
        count = len(kernels) + len(others)
        rest = float(_HEADER + _RECORD * count + len(remark)) + sum(map(_rest, others))
        rest += max(_config(model) - _CONFIG - _SHARE * count, 0)
        record = _RECORD + _CUT + _REPORT / max(len(wanted), 1)
        tables = {
            (kernel.path, split): CostTable(_dense(kernel), _factors(kernel, split) + record)
            for kernel in kernels
            for split in kernel.splits
        }
        return cls(tables, rest, remark=remark)

    def with_cuts(self, cuts: Sequence[Cut], coming: Sequence[str] = ()) -> Self:
        paths = [kernel.path for cut in cuts for kernel in cut.kernels] + list(coming)
        count = len(cuts) + bool(coming)
        records = len(paths) - len(set(paths)) + max(count - 1, 0)
        return replace(self, record_cost=float(_CUT * records))

    def keep_dense_cost(self, kernel: Kernel, cost: float) -> None:
        keep_dense_file_bytes(kernel, cost)


def file_bytes_while_dense(model: Any) -> float:
    """What the compact file of a model takes with dense kernels: budgets are fractions of that.

    Args:
        model: A built model, dense or not.
    """
    kernels = find_kernels(model)
    costs = FileCosts.of(None, model, kernels, {})
    return costs.rest + sum(costs.tables[k.path, k.splits[0]].dense for k in kernels)


def _reckoned(kernels: Sequence[Kernel]) -> str:
    """Of which kernels nobody knows what they took while they were dense, as a sentence."""
    paths = [k.path for k in kernels if k.rank is not None and dense_file_bytes(k) is None]
    if not paths:
        return ""
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return (
        f"What {', '.join(paths[:3])}{more} took while dense is reckoned from typical numbers, "
        "since they had factors before."
    )


def _dense(kernel: Kernel) -> float:
    """Bytes of the dense kernel: as it is; of factors, as it was, else with typical numbers."""
    known = dense_file_bytes(kernel)
    if kernel.rank is not None and known is not None:
        return known
    if kernel.rank is not None:
        m, n = kernel.shape
        return _bytes(m * n * kernel.count, kernel.variables[0])
    return _encoded(kernel.variables[0])


def _config(model: Any) -> int:
    """Bytes of the configuration of a model, as its file holds it."""
    try:
        return len(header_bytes(Header({"keras_config": _keras.file_config(model)}, ())))
    except FormatError:  # longer than any file may have it
        return 0


def _rest(value: Any) -> float:
    """Bytes of what is no kernel: numbers that are trained, or a table, which stays as it is."""
    if isinstance(value, keras.Variable):
        return _bytes(_keras.size(value), value)
    try:
        return _encoded(value)
    except FormatError:  # of a kind that no file holds
        return float(np.asarray(value).nbytes)


def _encoded(value: Any) -> float:
    values = np.ascontiguousarray(_keras.host_value(value)).reshape(-1)
    return float(sum(map(len, codec_for(values.dtype).encode(values))))


def _factors(kernel: Kernel, split: str) -> np.ndarray:
    """Bytes of factors of rank 0 ... k."""
    m, n = kernel.shape_in(split)
    counts = np.arange(min(m, n) + 1) * kernel.count
    like = kernel.variables[0]
    return np.array([_bytes(int(c) * m, like) + _bytes(int(c) * n, like) for c in counts])


def _bytes(count: int, like: Any) -> float:
    """Bytes that many numbers take at most, unless they are unlike all weights.

    Args:
        count: How many.
        like: A variable of their dtype.
    """
    name, itemsize = keras.backend.standardize_dtype(like.dtype), _keras.itemsize(like)
    raw = count * itemsize + itemsize  # and a tag for each plane
    return min(raw, count * BITS.get(name, 8 * itemsize) / 8 + _TABLES + itemsize)
