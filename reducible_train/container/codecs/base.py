"""What a codec is, and the closed list of those there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np

from reducible_train.container.codecs.dtypes import dtype_name
from reducible_train.errors import FormatError

_CODECS: dict[str, Codec] = {}


class Codec(ABC):
    """Turns a flat array into stored planes and back, bit for bit.

    A plane is one byte of every element, most significant first, packed on
    its own. Naming a subclass registers it:

    ```python
    class Mine(Codec, name="mine", dtypes=("uint8",), by_default=False): ...
    ```

    The law: `decode(encode(x), x.dtype, x.size)` has the bits of `x`, for
    every array of a dtype in `dtypes`.

    Attributes:
        name: What the file says; never reused for another encoding.
        dtypes: Names of the dtypes it can hold.
        by_default: Whether the writer picks it for these dtypes.
    """

    name: ClassVar[str]
    dtypes: ClassVar[tuple[str, ...]]
    by_default: ClassVar[bool]

    def __init_subclass__(
        cls, *, name: str, dtypes: tuple[str, ...], by_default: bool = True
    ) -> None:
        super().__init_subclass__()
        cls.name, cls.dtypes, cls.by_default = name, dtypes, by_default
        mine = (name, cls.__module__, cls.__qualname__)  # as a cell of a notebook run again has it
        others = {
            each: c
            for each, c in _CODECS.items()
            if (each, type(c).__module__, type(c).__qualname__) != mine
        }
        rivals = [c for c in others.values() if by_default and c.by_default]
        taken = sorted({d for c in rivals for d in c.dtypes} & set(dtypes))
        if name in others or taken:
            raise TypeError(
                f"A codec needs a name and default dtypes of its own. Received: name={name!r}, "
                f"dtypes already served: {taken}. Choose another name, or `by_default=False`."
            )
        _CODECS[name] = cls()

    @abstractmethod
    def plane_count(self, dtype: np.dtype) -> int:
        """Number of stored planes of a tensor of `dtype`."""

    @abstractmethod
    def encode(self, values: np.ndarray) -> Iterator[bytes]:
        """Stored planes of `values (n,)`, contiguous and little endian, one at a time."""

    @abstractmethod
    def decode(self, planes: Iterable[bytes], dtype: np.dtype, count: int) -> np.ndarray:
        """The `count` values of stored planes, `(count,)`; planes are asked for one at a time.

        Raises:
            FormatError: The planes are not what `encode` writes.
        """


def codec_names() -> tuple[str, ...]:
    """Names of all codecs, in alphabetical order."""
    return tuple(sorted(_CODECS))


def codec_named(name: str) -> Codec:
    """The codec a file names.

    Raises:
        FormatError: There is none of that name.
    """
    if name not in _CODECS:
        raise FormatError(
            f"The codec must be one of {', '.join(codec_names())}. Received: {name[:60]!r}. "
            "The file needs a newer version of reducible-train, or is damaged."
        )
    return _CODECS[name]


def codec_for(dtype: np.dtype) -> Codec:
    """The codec the writer picks for `dtype`.

    Raises:
        FormatError: The dtype cannot be stored.
    """
    name = dtype_name(dtype)
    return next(c for c in _CODECS.values() if c.by_default and name in c.dtypes)
