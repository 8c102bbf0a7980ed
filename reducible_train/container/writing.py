"""Writing a compact file: encode, put together, read back, put in place."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reducible_train.container.codecs import codec_for, dtype_name
from reducible_train.container.files import (
    RawStream,
    accessing,
    check_regular,
    place_of,
    replacing,
    write_all,
)
from reducible_train.container.header import header_bytes
from reducible_train.container.reading import read_container, read_header
from reducible_train.container.records import (
    Header,
    TensorRecord,
    check_name,
    check_shape,
    check_unique,
)
from reducible_train.errors import FileAccessError, FormatError

_CHUNK = 1 << 20  # bytes copied at a time


def write_container(
    path: str | os.PathLike[str],
    header: Mapping[str, Any],
    tensors: Iterable[tuple[str, np.ndarray]],
) -> Header:
    """Write named arrays and one JSON object to a file, whole or not at all.

    The same input gives the same bytes. Tensors are taken one at a time, and
    memory stays below twice the largest. The file is read back before it takes
    the place of an old one; while it is written, the folder needs room for twice
    its size.

    Args:
        path: The file; an old one is replaced in one step.
        header: What the caller wants to find in `Header.content`: what Python's
            `json` can write, so tuples come back as lists.
        tensors: Name and array of each tensor, in the order of the file.

    Returns:
        The header of the new file, as read from it.

    Raises:
        FormatError: A name, dtype, shape or the header cannot be stored.
        FileAccessError: The disk refused. What was at `path` is as it was.
    """
    check_regular(path, "write")
    # Lengths stand before the planes they count, so planes wait in a file of their own.
    with accessing(path, "write"):
        folder = place_of(path).parent
        waiting = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - see next line
    with waiting:
        records: list[TensorRecord] = []
        for name, array in tensors:
            with accessing(path, "write"):
                records.append(_append(waiting, name, np.asanyarray(array)))
        check_unique(record.name for record in records)
        first = header_bytes(Header(header, tuple(records)))
        with replacing(path, lambda temporary: _verify(temporary, path)) as stream:
            digest = hashlib.sha256()
            for chunk in _chunks(first, waiting):
                digest.update(chunk)
                write_all(stream, chunk)
            write_all(stream, digest.digest())
    return read_header(path)


def _append(waiting: RawStream, name: str, array: np.ndarray) -> TensorRecord:
    dtype = dtype_name(array.dtype)
    check_shape(check_name(name), array.shape, array.itemsize)
    codec, values = codec_for(array.dtype), _flat(array)
    checksum = zlib.crc32(values.view(np.uint8).data)
    lengths = tuple(write_all(waiting, plane) for plane in codec.encode(values))
    return TensorRecord(name, dtype, codec.name, array.shape, lengths, checksum)


def _flat(array: np.ndarray) -> np.ndarray:
    """The values as `(n,)`, contiguous and little endian; no copy if it can be."""
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return np.ascontiguousarray(array).reshape(-1)


def _chunks(first: bytes, waiting: RawStream) -> Iterator[bytes]:
    yield first
    waiting.seek(0)
    while chunk := waiting.read(_CHUNK):
        yield chunk


def _verify(temporary: Path, path: str | os.PathLike[str]) -> None:
    """Read everything back: the header, the sha256, each tensor's checksum."""
    try:
        with read_container(temporary) as container:
            for _ in container:
                pass
    except FormatError as error:
        raise FileAccessError(
            f"Expected to read back from {os.fspath(path)!r} what was written. Received: {error} "
            "Check the disk and the memory; the old file, if any, was not touched."
        ) from error
