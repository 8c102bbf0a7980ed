"""Integers and booleans: one plane per byte, each stored its smallest way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from reducible_train.container.codecs.base import Codec
from reducible_train.container.codecs.dtypes import INTEGERS
from reducible_train.container.codecs.planes import join, pack, split
from reducible_train.errors import FormatError


class BytePlanes(Codec, name="bytes", dtypes=(*INTEGERS, "bool")):
    """The bytes of the words as they are.

    ```python
    >>> import numpy as np
    >>> sum(map(len, BytePlanes().encode(np.arange(1000)))) < 8 * 1000 / 3
    True

    ```
    """

    def plane_count(self, dtype: np.dtype) -> int:
        return dtype.itemsize

    def encode(self, values: np.ndarray) -> Iterator[bytes]:
        return map(pack, split(values))

    def decode(self, planes: Iterable[bytes], dtype: np.dtype, count: int) -> np.ndarray:
        words = join(planes, dtype, count)
        if dtype.kind == "b" and count and words.view(np.uint8).max() > 1:
            raise FormatError(
                "A bool must be stored as 0 or 1. Received: "
                f"{words.view(np.uint8).max()}. The file is damaged; fetch or save it again."
            )
        return words
