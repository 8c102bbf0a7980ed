"""Temporary files that do not outlive their process for long.

Each process holds a lock on its own temporary files, which the system takes from it with its
life, however it ends. Whoever makes the next file of that kind in the folder removes those
that nobody holds.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from reducible_train.container.locks import HELD_FILES_MOVE, lock


@dataclass(frozen=True, eq=False)
class HeldFile:
    """A new file that no other process takes for one of a killed process.

    Args:
        path: Where it is.
        stream: To write it; to be closed by the caller.
        lock: Descriptor by which it is held; `None` where none is needed.
    """

    path: Path
    stream: FileIO
    lock: int | None

    def release(self) -> None:
        """Hold it no longer, once it has been moved or removed."""
        if self.lock is not None:
            os.close(self.lock)


def hold_file(folder: Path, start: str, end: str) -> HeldFile:
    """A new file of a name between `start` and `end`; those that nobody holds are removed.

    Args:
        folder: Where to make it.
        start: How its name begins; it tells what the file is for.
        end: How its name ends.

    Raises:
        OSError: The system refused.
    """
    _sweep(folder, start, end)
    while True:
        path = folder / f"{start}{secrets.token_hex(8)}{end}"
        stream = open(path, "xb", buffering=0)  # noqa: SIM115 - closed by the caller
        held = HeldFile(path, stream, os.dup(stream.fileno()) if HELD_FILES_MOVE else None)
        if held.lock is None or (lock(held.lock) is not False and path.exists()):
            return held
        stream.close()  # another process has just taken it for one that nobody holds
        held.release()


def _sweep(folder: Path, start: str, end: str) -> None:
    name = re.compile(f"{re.escape(start)}[0-9a-f]{{16}}{re.escape(end)}")
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if name.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    _remove_unheld(entry.path)


def _remove_unheld(path: str) -> None:
    if not HELD_FILES_MOVE:
        os.unlink(path)  # refused by the system while a process has it open
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if lock(descriptor):
            os.unlink(path)
    finally:
        os.close(descriptor)
