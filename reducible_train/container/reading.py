"""Reading a compact file: everything is checked before it is believed."""

from __future__ import annotations

import hashlib
import hmac
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np

from reducible_train.container.codecs import codec_named, dtype_named
from reducible_train.container.files import accessing, check_regular
from reducible_train.container.header import PREFIX, parse_header, stored_header_length, truncated
from reducible_train.container.records import Header, TensorRecord
from reducible_train.errors import FormatError

_DIGEST = hashlib.sha256().digest_size
_CHUNK = 1 << 20  # bytes hashed at a time


class Container:
    """An open compact file: its header, and its tensors one at a time.

    Iterate for `(name, array)` in the order of the file, as often as needed;
    only one array is made at a time. Made by `read_container`.

    Attributes:
        header: What the file says of itself.
    """

    def __init__(self, stream: BinaryIO, path: str | os.PathLike[str]) -> None:
        self._stream, self._path = stream, path
        with accessing(path, "read"):
            self.header = _header_of(stream)
            self._start = stream.tell()
            _check_digest(stream, self._start + self.header.stored_bytes)

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        start = self._start
        for record in self.header.tensors:
            with accessing(self._path, "read"):
                self._stream.seek(start)
                array = _decoded(self._stream, record)
            yield record.name, array
            start += record.stored_bytes


@contextmanager
def read_container(path: str | os.PathLike[str]) -> Iterator[Container]:
    """Open a compact file, having checked its header, its size and its sha256.

    Each tensor's own checksum is checked as it is read, so a damaged file is
    known at once and a forged one before its tensor is handed over.

    Args:
        path: The file.

    Raises:
        FormatError: The file is not one of ours, or damaged; from the loop
            over the tensors too.
        FileAccessError: It cannot be read.
    """
    check_regular(path, "read")
    with accessing(path, "read"):
        stream = open(path, "rb")  # noqa: SIM115 - its errors are ours, the block's are not
    with stream:
        yield Container(stream, path)


def read_header(path: str | os.PathLike[str]) -> Header:
    """What a compact file says of itself: only its first bytes are read.

    The file's size is checked, its checksum is not: `read_container` does that.

    Args:
        path: The file.

    Raises:
        FormatError: The file is not one of ours, or damaged.
        FileAccessError: It cannot be read.
    """
    check_regular(path, "read")
    with accessing(path, "read"), open(path, "rb") as stream:
        return _header_of(stream)


def _header_of(stream: BinaryIO) -> Header:
    """The header at the start of `stream`, left behind it; the file's size fits."""
    stored, inflated = stored_header_length(stream.read(PREFIX.size))
    size = os.fstat(stream.fileno()).st_size
    if size < PREFIX.size + stored + _DIGEST:
        raise truncated(PREFIX.size + stored + _DIGEST, size)
    header = parse_header(stream.read(stored), inflated)
    expected = stream.tell() + header.stored_bytes + _DIGEST
    if size < expected:
        raise truncated(expected, size)
    if size > expected:
        raise FormatError(
            f"The file must have {expected} bytes. Received: {size}; {size - expected} bytes "
            "follow its end. Fetch or save it again."
        )
    return header


def _check_digest(stream: BinaryIO, length: int) -> None:
    stream.seek(0)
    found = hashlib.sha256()
    while length:
        chunk = stream.read(min(length, _CHUNK))
        if not chunk:
            raise truncated(stream.tell() + length + _DIGEST, stream.tell())
        found.update(chunk)
        length -= len(chunk)
    said = stream.read(_DIGEST)
    if not hmac.compare_digest(said, found.digest()):
        raise FormatError(
            f"The file's sha256 must be {said.hex()}. Received: {found.hexdigest()}; the file "
            "was altered. Fetch or save it again."
        )


def _decoded(stream: BinaryIO, record: TensorRecord) -> np.ndarray:
    planes = (_exactly(stream, length) for length in record.planes)
    dtype = dtype_named(record.dtype)
    try:
        values = codec_named(record.codec).decode(planes, dtype, record.count)
    except FormatError as error:
        raise FormatError(f"Tensor {record.name!r}: {error}") from error
    found = zlib.crc32(values.view(np.uint8).data)
    if found != record.crc32:
        raise FormatError(
            f"The crc32 of {record.name!r} must be {record.crc32}. Received: {found}. "
            "The file is damaged; fetch or save it again."
        )
    return values.reshape(record.shape)


def _exactly(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) != length:
        raise truncated(length, len(data))
    return data
