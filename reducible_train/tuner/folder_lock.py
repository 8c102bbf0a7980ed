"""One search at a time in a folder: a lock that ends with its process, however that ends.

Processes of one search are told apart as keras-tuner does it, by the environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from reducible_train.container.holding import holding_file

SEARCH = "reducible_search.lock"  # held by whoever a person has started
CHIEF = "reducible_chief.lock"  # held by a chief, which writes the results of its workers
PARENT = "REDUCIBLE_TUNE_PARENT"  # set where another process has started this one, and holds SEARCH
ID, ADDRESS = "KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP"  # set for each of several processes
_ENDING = 15.0  # seconds that a process may take to notice that its parent has ended
_GLANCE = 1.0  # the same, for one who only looks and mends
_WORKER = ".worker.lock"  # held by each worker, by its name


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

    Args:
        folder: That of a search; it is made if it is not there.
        name: Which of its locks.
        patience: Seconds to wait for another process, which may be about to end.

    Raises:
        ArgumentError: Another process holds it.
        FileAccessError: It cannot be written.
    """
    path = os.path.join(os.path.realpath(folder), name)
    with holding_file(path, lambda other: _refusal(path, folder, other), patience, again=True):
        yield


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
