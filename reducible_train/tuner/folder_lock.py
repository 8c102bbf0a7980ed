"""One search at a time in a folder: a lock that ends with its process, however that ends.

Processes of one search are told apart as keras-tuner does it, by the environment.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from reducible_train.container.files import accessing
from reducible_train.container.locks import is_at, let_go, lock, unlock
from reducible_train.errors import ArgumentError

SEARCH = "reducible_search.lock"  # held by whoever a person has started
CHIEF = "reducible_chief.lock"  # held by a chief, which writes the results of its workers
PARENT = "REDUCIBLE_TUNE_PARENT"  # set where another process has started this one, and holds SEARCH
ID, ADDRESS = "KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP"  # set for each of several processes
_ENDING = 15.0  # seconds that a process may take to notice that its parent has ended
_GLANCE = 1.0  # the same, for one who only looks and mends, or doubts whether it has the lock
_WORKER = ".worker.lock"  # held by each worker, by its name
_HELD: dict[str, list[int]] = {}  # path -> how often this process holds it, and its descriptor


@contextmanager
def searching(project: Path, patience: float = _ENDING) -> Iterator[None]:
    """Hold what a process holds while it searches in a folder.

    Alone it holds the search. A chief holds its results as well: alone where whoever has started it
    holds the search. A worker holds its own name, for its chief gives two of one name one trial.

    Args:
        project: The folder in which keras-tuner keeps the search.
        patience: Seconds to wait for one whose parent has ended, or that was begun anew.

    Raises:
        ArgumentError: Another process holds it.
        FileAccessError: It cannot be written.
    """
    name = os.environ.get(ID, "") if ADDRESS in os.environ else ""
    with ExitStack() as stack:
        if name and "chief" not in name:
            stack.enter_context(holding(project, f"reducible_{name}{_WORKER}", patience))
        else:
            if not (name and PARENT in os.environ):
                stack.enter_context(holding(project, SEARCH, min(patience, _GLANCE)))
            if name:
                stack.enter_context(holding(project, CHIEF, patience))
            elif (project / CHIEF).exists():  # of one whose parent was killed, and that ends soon
                with holding(project, CHIEF, patience):
                    pass
        yield


@contextmanager
def holding(folder: Path, name: str = SEARCH, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock of a folder; a process that holds it may take it again.

    The system takes it from a process that has ended, so none is ever left over. Where a disk
    has no locks, nobody is kept out.

    Args:
        folder: That of a search; it is made if it is not there.
        name: Which of its locks.
        patience: Seconds to wait for another process, which may be about to end.

    Raises:
        ArgumentError: Another process holds it.
        FileAccessError: It cannot be written.
    """
    path = os.path.join(os.path.realpath(folder), name)
    held = _HELD.get(path)
    if held is None or not is_at(path, held[1]):  # somebody has removed it
        with accessing(path, "write"):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        if held is not None:
            unlock(held[1])  # it may be the same file: some network disks number files anew
        taken = _taken(path, folder, time.monotonic() + patience)
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
                let_go(_HELD.pop(path)[1])


def _holds_nothing() -> None:
    """Of a process that was just forked: the locks are its parent's."""
    for _, descriptor in _HELD.values():
        os.close(descriptor)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_holds_nothing)


def _taken(path: str, folder: Path, until: float) -> int:
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
            raise ArgumentError(_refusal(path, folder, _words(told)))
        time.sleep(0.1)


def _refusal(path: str, folder: Path, other: str) -> str:
    if path.endswith(_WORKER):
        return (
            f"Each worker must have a name of its own. Received: {ID}={os.environ[ID]}, while "
            f"{other} has that name in {folder}. Set another name, or end that process."
        )
    return (
        f"{folder} must have one search at a time. Received: a second one, while {other} searches "
        "in it. Wait for it, end it, or choose another folder."
    )


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
