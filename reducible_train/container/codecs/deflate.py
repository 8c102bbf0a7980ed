"""Deflate with nothing left to chance: bounded, complete, zero padding (RFC 1951).

Streams are raw, without zlib's own header and checksum: the container has
better ones.
"""

from __future__ import annotations

import zlib
from typing import Any

from reducible_train.errors import FormatError

_RAW = -15  # raw stream, window of 32 KiB
_MEMORY_LEVEL = 9  # the largest blocks: fewest code tables
DEFAULT = zlib.Z_DEFAULT_STRATEGY
HUFFMAN_ONLY = zlib.Z_HUFFMAN_ONLY

LARGEST_RATIO = 1032
"""No deflate stream inflates to more than this many times its length."""


def deflate(data: bytes | memoryview, *, strategy: int = DEFAULT, level: int = 6) -> bytes:
    """The raw deflate stream of `data`."""
    stream = zlib.compressobj(level, zlib.DEFLATED, _RAW, _MEMORY_LEVEL, strategy)
    return stream.compress(data) + stream.flush()


def inflate(data: bytes | memoryview, size: int) -> bytes:
    """The `size` bytes of a raw deflate stream that is exactly `data`.

    Memory stays in proportion to `size`, whatever the stream says.

    ```python
    >>> inflate(deflate(b"spam " * 40), 200) == b"spam " * 40
    True

    ```

    Args:
        data: One whole stream.
        size: Its inflated length in bytes.

    Raises:
        FormatError: The stream is damaged, unfinished, longer or shorter than
            `size`, followed by other bytes, or padded with anything but zeros.
    """
    stream = zlib.decompressobj(_RAW)
    # One byte more than allowed is asked for: it shows an excess, and lets
    # zlib reach the end-of-stream mark, which it leaves alone in a full buffer.
    try:
        body = stream.decompress(data[:-1], size + 1)
        before_last = stream.copy()
        tail = stream.decompress(data[-1:], size + 1 - len(body)) if len(body) <= size else b""
    except zlib.error as error:
        raise _refusal("a valid deflate stream", str(error)) from error
    found = len(body) + len(tail)
    if found > size:
        raise _refusal(f"a deflate stream of {size} bytes", "more than that")
    if stream.unused_data or stream.unconsumed_tail:
        raise _refusal("one deflate stream and nothing after it", "bytes after its end")
    if not stream.eof:
        raise _refusal("a whole deflate stream", "one that breaks off")
    if found < size:
        raise _refusal(f"a deflate stream of {size} bytes", f"{found} bytes")
    if _is_padded(before_last, data[-1], tail):
        raise _refusal("a deflate stream padded with zero bits", "padding that is not zero")
    return body + tail if tail else body


def _is_padded(before_last: Any, last: int, tail: bytes) -> bool:
    """Whether the highest set bit of the last byte means nothing to the stream.

    zlib ignores the bits after the end of a stream, so two files could hold
    the same tensors; clearing a bit that matters changes what comes out.
    """
    if not last:
        return False
    try:
        cleared = last ^ (1 << (last.bit_length() - 1))
        other: bytes = before_last.decompress(bytes([cleared]), len(tail) + 1)
        return other == tail and bool(before_last.eof)
    except zlib.error:
        return False


def _refusal(expected: str, received: str) -> FormatError:
    return FormatError(
        f"Expected {expected}. Received: {received}. The file is damaged; fetch or save it again."
    )
