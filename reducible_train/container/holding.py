"""One process at a time: a file that a process holds, until it ends, however it ends."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from reducible_train.container.files import accessing
from reducible_train.container.locks import is_at, let_go, lock, unlock
from reducible_train.errors import ArgumentError

_GLANCE = 1.0  # seconds for one who doubts whether it has the lock
_HELD: dict[str, list[int]] = {}  # path -> how often this process holds it, and its descriptor


@contextmanager
def holding_file(
    path: str,
    refusal: Callable[[str], str],
    patience: float = 0.0,
    *,
    again: bool = False,
    removed: bool = False,
) -> Iterator[None]:
    """Hold a file that is there for that alone, and tells who holds it.

    The system takes it from a process that has ended, so none is ever left over. Where a disk
    has no locks, nobody is kept out.

    Args:
        path: The file, without links; it and its folder are made if they are not there.
        refusal: What to say, of whoever holds it.
        patience: Seconds to wait for another process, which may be about to end.
        again: True for a process that holds it to take it again.
        removed: True to remove it at the end, unless another has come in its place; Windows
            removes no file that is open.

    Raises:
        ArgumentError: Another holds it.
        FileAccessError: It cannot be written.
    """
    held = _HELD.get(path)
    if held is not None and not again:
        raise ArgumentError(refusal("this process"))
    if held is None or not is_at(path, held[1]):  # somebody has removed it
        with accessing(path, "write"):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        if held is not None:
            unlock(held[1])  # it may be the same file: some network disks number files anew
        taken = _taken(path, refusal, time.monotonic() + patience)
        if held is None:
            held = _HELD[path] = [0, taken]
        else:
            let_go(held[1])
            held[1] = taken
    held[0] += 1
    try:
        yield
    finally:
        if _HELD.get(path) is held:  # not in a process that was forked meanwhile
            held[0] -= 1
            if not held[0]:
                descriptor = _HELD.pop(path)[1]
                with suppress(OSError):
                    if removed and is_at(path, descriptor):
                        os.unlink(path)
                let_go(descriptor)


def _holds_nothing() -> None:
    """Of a process that was just forked: the locks are its parent's."""
    for _, descriptor in _HELD.values():
        os.close(descriptor)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_holds_nothing)


def _taken(path: str, refusal: Callable[[str], str], until: float) -> int:
    """The descriptor by which this process holds the lock."""
    doubts_until = time.monotonic() + _GLANCE
    while True:
        with accessing(path, "write"):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        is_taken = lock(descriptor) is False
        if not is_taken and (is_at(path, descriptor) or time.monotonic() >= doubts_until):
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, json.dumps(_self()).encode())
            return descriptor
        told = _read(path)
        os.close(descriptor)
        if is_taken and time.monotonic() >= until:
            raise ArgumentError(refusal(_words(told)))
        time.sleep(0.1)


def _self() -> dict[str, Any]:
    return {"process": os.getpid(), "machine": socket.gethostname(), "since": time.ctime()}


def _read(path: str) -> dict[str, Any]:
    try:
        found = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _words(told: dict[str, Any]) -> str:
    if "process" not in told:
        return "another process"
    return "process {process} on {machine}, begun {since},".format_map({**_self(), **told})
