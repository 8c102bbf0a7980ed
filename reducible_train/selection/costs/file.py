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
not larger. Headers and the story of the cuts are paid for as well: they count in small files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.container.codecs import codec_for
from reducible_train.layers import Kernel, dense_file_bytes
from reducible_train.report.records import Cut
from reducible_train.selection.costs.counted import Prices, Table

BITS = {"float32": 27.3, "float16": 14.4, "bfloat16": 11.4, "float64": 57.5}
_HEADER = 600  # bytes of a file before its layers: prefix, versions, checksum
_RECORD = 60  # of one variable in the header, its share of the configuration of the layer included
_REPORT = 450  # of a report, beside its kernels
_CUT = 60  # of one kernel in one cut
_TABLES = 12  # of the codes of a small tensor, beside its numbers


class FileSize:
    """A budget of the compact file: its bytes, estimated from what the codec makes of weights."""

    def prices(
        self, model: Any, kernels: Sequence[Kernel], wanted: Mapping[str, Any], *_: Any
    ) -> Prices:
        """What the kernels of a model cost in its compact file, and what all the rest does.

        Factors pay for their first cut as well, and those that may change, by path in `wanted`,
        for the report of it.
        """
        inside = {id(variable) for kernel in kernels for variable in kernel.variables}
        remark = _reckoned(kernels)
        rest = float(_HEADER + _RECORD * len(kernels) + len(remark))
        rest += sum(
            _RECORD + _bytes(_keras.size(variable), variable)
            for variable in model.weights
            if id(variable) not in inside
        )
        story = _CUT + _REPORT / max(len(wanted), 1)
        tables = {
            (kernel.path, split): Table(_dense(kernel), _factors(kernel, split) + _RECORD + story)
            for kernel in kernels
            for split in kernel.splits
        }
        return Prices(tables, rest, remark=remark)

    def words(self, dense: float, now: float) -> str:
        """What a report says of the dense model and of the model as it is."""
        return f"The compact file takes about {now:,.0f} bytes, {dense:,.0f} dense."


def story_bytes(cuts: Sequence[Cut], coming: Sequence[str] = ()) -> float:
    """What cuts add to the report in the file, beside the first of each kernel.

    Args:
        cuts: All so far.
        coming: Paths of the kernels that one more may change; none if there will be no more.
    """
    paths = [kernel.path for cut in cuts for kernel in cut.kernels] + list(coming)
    count = len(cuts) + bool(coming)
    return float(_CUT * (len(paths) - len(set(paths)) + max(count - 1, 0)))


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
    values = np.ascontiguousarray(_keras.host_value(kernel.variables[0])).reshape(-1)
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
