"""A file that appears whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from reducible_train.errors import ArgumentTypeError, FileAccessError, FormatError


class RawStream(Protocol):
    """An unbuffered binary file: what cannot be written is known at the call, not later."""

    def write(self, data: bytes | memoryview, /) -> int | None: ...
    def read(self, size: int, /) -> bytes | None: ...
    def seek(self, offset: int, /) -> int: ...


def write_all(stream: RawStream, data: bytes) -> int:
    """Write all of `data`, in as many calls as the system takes; returns its length."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) or 0 :]
    return len(data)


def check_path(path: object) -> None:
    """Refuse what names no file.

    Raises:
        ArgumentTypeError: It is neither a text nor a path.
    """
    if not isinstance(path, str | os.PathLike):
        raise ArgumentTypeError(
            f"`path` must be the name of a file, a text or a Path. Received: {path!r}. Write for "
            'example "model.reducible".'
        )


@contextmanager
def accessing(path: str | os.PathLike[str], purpose: str) -> Iterator[None]:
    """Turn the operating system's refusals into one error with path and remedy; name the file.

    Args:
        path: The file as the caller named it.
        purpose: What is being done: `"read"` or `"write"`.

    Raises:
        ArgumentTypeError: The path is none.
        FileAccessError: In place of any `OSError` of the block.
        FormatError: That of the block, with the path in front.
    """
    check_path(path)
    try:
        yield
    except FileAccessError:
        raise
    except FormatError as error:
        raise FormatError(f"{os.fspath(path)}: {error}") from error
    except OSError as error:
        remedy = {
            FileNotFoundError: "Check the path, and that its folder exists.",
            PermissionError: "Check the permissions of the file and of its folder.",
            IsADirectoryError: "Name a file, not a folder.",
            NotADirectoryError: "Check the path: a part of it is not a folder.",
        }.get(type(error), "Check the disk, its free space and the connection to it.")
        raise FileAccessError(
            f"Expected a file to {purpose}. Received: {os.fspath(path)!r}, "
            f"{error.strerror or error}. {remedy}"
        ) from error


@contextmanager
def replacing(path: str | os.PathLike[str], verify: Callable[[Path], None]) -> Iterator[RawStream]:
    """Write to a temporary file beside `path`, which then takes its place.

    On leaving the block the bytes are flushed to the disk, handed to `verify`,
    put in place in one step, and the folder is flushed too. If anything fails,
    the temporary file is removed, and what was at `path` is as it was. A link
    is followed; the permissions of an old file are kept.

    Args:
        path: The file to write.
        verify: Reads the temporary file back; raises if it is not as it should be.

    Raises:
        FileAccessError: The operating system refused.
    """
    with accessing(path, "write"):
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.tmp")
        stream = open(temporary, "xb", buffering=0)  # noqa: SIM115 - closed before the file is moved
    try:
        with accessing(path, "write"):
            with stream:
                yield stream
                os.fsync(stream.fileno())
            verify(temporary)
            if target.exists():
                shutil.copymode(target, temporary)
            os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    with suppress(OSError):  # some network folders cannot be flushed; the file is in place
        _flush_folder(target.parent)


def _flush_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut; Windows has no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
