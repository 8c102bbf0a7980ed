"""Locks of files, which the system takes from a process with its life, however it ends."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    fcntl = None  # type: ignore[assignment]

HELD_FILES_MOVE = fcntl is not None  # on Windows nobody moves or removes a file that is open
_FAR = 1 << 30  # Windows locks bytes, and nobody reads this one
_TAKEN = PermissionError if fcntl is None else BlockingIOError


def lock(descriptor: int) -> bool | None:
    """Lock a file: False where another process has it locked, `None` where nobody can."""
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            os.lseek(descriptor, _FAR, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except _TAKEN:
        return False
    except OSError:  # a disk without locks
        return None
    return True


def unlock(descriptor: int) -> None:
    """Lock a file no longer, though a process that was forked has the descriptor, too."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def let_go(descriptor: int) -> None:
    """The same, and close it."""
    unlock(descriptor)
    os.close(descriptor)


def is_at(path: str | Path, descriptor: int) -> bool:
    """False where the file was removed after it had been opened, or a disk numbers it anew."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
