"""A file that appears whole or not at all: how every writer of the package writes.

Only regular files are replaced. A link is followed, and stays a link; what is at a device, a
pipe or a folder is refused before anything is written.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from reducible_train.container.temporary import hold_file
from reducible_train.errors import ArgumentError, ArgumentTypeError, FileAccessError, FormatError

TEXT_CAP = 64 << 20  # bytes of a text that is read whole, such as a report with all its spectra
_MOUNTS = "/proc/self/mountinfo"  # of Linux
_SHOWN_NAME = 100  # bytes of a file's name in that of its temporary file, which may be longer


class _NotRegularError(OSError):
    """There is something at a path that is neither a file nor a folder."""


class _MountedError(OSError):
    """A file is mounted where it is, as containers are given one of their host."""


class RawStream(Protocol):
    """An unbuffered binary file: what cannot be written is known at the call, not later."""

    def write(self, data: bytes | memoryview, /) -> int | None: ...
    def read(self, size: int, /) -> bytes | None: ...
    def seek(self, offset: int, /) -> int: ...


def write_all(stream: RawStream, data: bytes | memoryview) -> int:
    """Write all of `data`, in as many calls as the system takes; returns its length."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) or 0 :]
    return len(data)


def check_path(path: object) -> None:
    """Refuse what names no file.

    Raises:
        ArgumentTypeError: It is neither a text nor a path.
        ArgumentError: It holds a character that no name of a file has.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise ArgumentTypeError(
            f"`path` must be the name of a file, a text or a Path. Received: {path!r}. Write for "
            'example "model.reducible".'
        )
    if "\0" in os.fspath(path):
        raise ArgumentError(
            f"`path` must have no null character. Received: {path!r}. Write for example "
            '"model.reducible".'
        )


@contextmanager
def accessing(
    path: str | os.PathLike[str], purpose: str, given_as: str | None = None
) -> Iterator[None]:
    """Turn the operating system's refusals into one error with path and remedy; name the file.

    Args:
        path: The file as the caller named it.
        purpose: What is being done: `"read"` or `"write"`.
        given_as: What the caller calls it, such as `"--out"`.

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
        wanted = purpose if given_as is None else f"{purpose} as {given_as}"
        raise FileAccessError(
            f"Expected a file to {wanted}. Received: {os.fspath(path)!r}, "
            f"{error.strerror or error}. {_remedy(error)}"
        ) from error


def _remedy(error: OSError) -> str:
    by_number = {
        errno.ENAMETOOLONG: "Choose a shorter name.",
        errno.ELOOP: "Check the path: links in it lead back to themselves.",
    }
    return by_number.get(error.errno or 0) or {
        FileNotFoundError: "Check the path, and that its folder exists.",
        PermissionError: "Check the permissions of the file and of its folder.",
        IsADirectoryError: "Name a file, not a folder.",
        NotADirectoryError: "Check the path: a part of it is not a folder.",
        FileExistsError: "Check the path: a file stands where a folder is wanted.",
        _NotRegularError: "Name a regular file.",
        _MountedError: "Mount the folder it is in, or name another file.",
    }.get(type(error), "Check the disk, its free space and the connection to it.")


def check_regular(path: str | os.PathLike[str], purpose: str, given_as: str | None = None) -> None:
    """Refuse what is there and is no regular file: opening it might wait for ever, or harm.

    Args:
        path: The file as the caller named it; a link is followed.
        purpose: `"read"` or `"write"`. What is not there yet can be written; what is there
            only if it is not protected against it.
        given_as: What the caller calls it, such as `"--out"`.

    Raises:
        FileAccessError: It is a folder, a device, a pipe or a socket, protected, or mounted; or
            there is no such folder.
    """
    with accessing(path, purpose, given_as):
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            if purpose == "write":
                place_of(path)  # whose folder must be there
                return
            raise
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(None, "it is a folder")
        if not stat.S_ISREG(mode):
            raise _NotRegularError(None, "it is a device, a pipe or a socket, not a regular file")
        if purpose == "write" and not os.access(path, os.W_OK):
            raise PermissionError(None, "it is protected against writing")
        if purpose == "write" and _is_mounted(path):
            raise _MountedError(None, "it is mounted by itself, so no other can take its place")


def read_whole(
    path: str | os.PathLike[str], given_as: str | None = None, most: int | None = TEXT_CAP
) -> bytes:
    """The bytes of a regular file that is read into memory at once.

    Args:
        path: The file as the caller named it; a link is followed.
        given_as: What the caller calls it, such as `"--out"`.
        most: How many it may have; `None` for what the run itself has written.

    Raises:
        FileAccessError: It cannot be read, or it is a folder, a device, a pipe or a socket.
        FormatError: It is longer.
    """
    check_regular(path, "read", given_as)
    with accessing(path, "read", given_as), open(path, "rb") as stream:
        if most is None:
            return stream.read()
        found = stream.read(most + 1)
        if len(found) > most:
            raise FormatError(
                f"The file must have at most {most:,} bytes. Received: more. Check the path: what "
                "is meant is shorter."
            )
        return found


def place_of(path: str | os.PathLike[str]) -> Path:
    """Where the system finds a file that is written: links are followed.

    Raises:
        OSError: There is no name, or no such folder, not even where `missing/..` would lead back
            to one.
    """
    place = given = os.fspath(path)
    while os.path.islink(place):
        place = os.path.join(os.path.dirname(place), os.readlink(place))
    folder, name = os.path.split(place)
    try:
        os.stat(folder or (name and os.curdir))
    except FileNotFoundError as error:
        if place == given:
            raise
        raise FileNotFoundError(error.errno, f"a link to {place!r}: {error.strerror}") from error
    return Path(os.path.realpath(folder), name)


def _is_mounted(path: str | os.PathLike[str]) -> bool:
    """True for a file that is a mount, as far as the system tells (Linux does)."""
    escaped = re.sub(r"[ \t\n\\]", lambda found: f"\\{ord(found[0]):03o}", os.path.realpath(path))
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as mounts:
            return any(line.split(" ")[4] == escaped for line in mounts)
    except (OSError, IndexError):
        return False


@contextmanager
def replacing(
    path: str | os.PathLike[str], verify: Callable[[Path], None] | None = None
) -> Iterator[RawStream]:
    """Write to a temporary file beside `path`, which then takes its place.

    On leaving the block the bytes are flushed to the disk, handed to `verify`,
    put in place in one step, and the folder is flushed too. If anything fails,
    the temporary file is removed, and what was at `path` is as it was. A link
    is followed; the permissions of an old file are kept. Temporary files that
    killed processes have left for this name are removed.

    Args:
        path: The file to write.
        verify: Reads the temporary file back; raises if it is not as it should be.

    Raises:
        FileAccessError: The operating system refused, or there is no regular file at `path`.
    """
    check_regular(path, "write")
    with accessing(path, "write"):
        target = place_of(path)
        held = hold_file(target.parent, f".{start_of_name(target.name)}.", ".tmp")
    temporary, stream = held.path, held.stream
    try:
        with accessing(path, "write"):
            with stream:
                yield stream
                os.fsync(stream.fileno())
            if verify is not None:
                verify(temporary)
            if target.exists():
                shutil.copymode(target, temporary)
            os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    finally:
        held.release()
    with suppress(OSError):  # some network folders cannot be flushed; the file is in place
        _flush_folder(target.parent)


@contextmanager
def replacing_by(path: str | os.PathLike[str]) -> Iterator[Path]:
    """The same for who writes by name: yields that of a file beside `path`, of the same ending.

    Raises:
        FileAccessError: The operating system refused, or there is no regular file at `path`.
    """
    check_regular(path, "write")
    with accessing(path, "write"):
        target = place_of(path)
    ending = os.fsencode(target.name)[-_SHOWN_NAME:].decode("utf-8", "ignore")
    beside = target.with_name(f".{secrets.token_hex(8)}.{ending}")
    try:
        with accessing(path, "write"):
            yield beside
            if target.exists():
                shutil.copymode(target, beside)
            os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text to a file in UTF-8, whole or not at all, as `replacing` does.

    What is no text, as in names of files that are not in UTF-8, is written as an escape.

    Raises:
        FileAccessError: The operating system refused, or there is no regular file at `path`.
    """
    with replacing(path) as stream:
        write_all(stream, text.encode("utf-8", "backslashreplace"))


def start_of_name(name: str, most: int = _SHOWN_NAME) -> str:
    """The first bytes of a file's name, at whole letters, for another name that is not too long."""
    return os.fsencode(name)[:most].decode("utf-8", "ignore")


def _flush_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut; Windows has no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
