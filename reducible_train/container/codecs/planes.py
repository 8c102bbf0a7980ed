"""One plane of bytes, stored the smallest of three ways.

A stored plane is a tag and a payload: `0` the bytes as they are, `1` Huffman
codes alone, `2` ordinary deflate; the latter two only where they are smaller.
Exponents have a skewed histogram but no repetitions, so matching strings
(deflate) only disturbs the Huffman code; sparse or constant planes want it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from reducible_train.container.codecs.deflate import (
    DEFAULT,
    HUFFMAN_ONLY,
    LARGEST_RATIO,
    deflate,
    inflate,
)
from reducible_train.errors import FormatError

_RAW, _HUFFMAN, _DEFLATE = 0, 1, 2
_STRATEGIES = {_HUFFMAN: HUFFMAN_ONLY, _DEFLATE: DEFAULT}
_PIECES, _PIECE = 8, 2048  # a large plane is judged by pieces of it, in bytes
_WORTHWHILE = 0.995  # of the raw bytes, in the sample


def pack(plane: np.ndarray) -> bytes:
    """Tag and payload of `plane (n,)` uint8, contiguous.

    ```python
    >>> import numpy as np
    >>> len(pack(np.zeros(100_000, np.uint8))) < 200
    True

    ```
    """
    best = b"".join((bytes([_RAW]), plane.data))
    for tag in _promising(plane):
        stored = bytes([tag]) + deflate(plane.data, strategy=_STRATEGIES[tag])
        best = min(best, stored, key=len)
    return best


def unpack(stored: bytes, count: int) -> np.ndarray:
    """The plane `(count,)` uint8 of a tag and a payload.

    Raises:
        FormatError: Anything but what `pack` writes.
    """
    if not stored:
        raise _refusal("a storage tag", "no bytes at all")
    tag, payload = stored[0], memoryview(stored)[1:]
    if tag == _RAW:
        if len(payload) != count:
            raise _refusal(f"{count} bytes", f"{len(payload)}")
        return np.frombuffer(payload, np.uint8)
    if tag not in _STRATEGIES:
        raise _refusal(f"a storage tag in {[_RAW, *_STRATEGIES]}", str(tag))
    if len(payload) >= count:
        raise _refusal(f"fewer than {count} deflated bytes", f"{len(payload)}, no gain")
    if count > LARGEST_RATIO * len(payload):
        raise _refusal(f"enough bytes for {count}", f"{len(payload)} deflated ones")
    return np.frombuffer(inflate(payload, count), np.uint8)


def split(words: np.ndarray) -> Iterable[np.ndarray]:
    """Planes `(n,)` uint8 of little-endian `words (n,)`, most significant first."""
    columns = words.view(np.uint8).reshape(words.size, words.itemsize)
    for byte in reversed(range(words.itemsize)):
        yield np.ascontiguousarray(columns[:, byte])


def join(stored: Iterable[bytes], dtype: np.dtype, count: int) -> np.ndarray:
    """Words `(count,)` of `dtype` from their stored planes, most significant first.

    Nothing is allocated for the words before the first plane proved its length.
    """
    words: np.ndarray | None = None
    for byte, plane in zip(reversed(range(dtype.itemsize)), stored, strict=True):
        column = unpack(plane, count)
        if words is None:
            words = np.empty(count, dtype)
        words.view(np.uint8).reshape(count, dtype.itemsize)[:, byte] = column
    return np.empty(0, dtype) if words is None else words


def _promising(plane: np.ndarray) -> list[int]:
    """Tags worth trying on the whole of `plane`, cheapest first.

    Small planes try everything; a large one is sampled, so that planes of pure
    mantissa noise, and planes without repetitions, cost little time.
    """
    if plane.size <= _PIECES * _PIECE:
        return [_HUFFMAN, _DEFLATE]
    starts = np.linspace(0, plane.size - _PIECE, _PIECES).astype(int)
    sample = np.concatenate([plane[start : start + _PIECE] for start in starts])
    huffman = len(deflate(sample.data, strategy=HUFFMAN_ONLY))
    matched = len(deflate(sample.data, level=1))
    tags = [_HUFFMAN] if huffman < _WORTHWHILE * sample.size else []
    if matched < _WORTHWHILE * min(sample.size, huffman):
        tags.append(_DEFLATE)
    return tags


def _refusal(expected: str, received: str) -> FormatError:
    return FormatError(
        f"The stored data must have {expected}. Received: {received}. "
        "The file is damaged; fetch or save it again."
    )
