"""A chief and some workers of keras-tuner on this machine, watched until all trials are done.

Processes are told by the environment that keras-tuner reads, so the same command on several
machines does the same: `KERASTUNER_TUNER_ID` (`chief`, `worker-1`, ...), `KERASTUNER_ORACLE_IP`
and `KERASTUNER_ORACLE_PORT`.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from reducible_train.cli._exit import RESCUED
from reducible_train.errors import ArgumentError, FileAccessError
from reducible_train.tuner.folder_lock import ADDRESS, ID, PARENT, searching

BROKEN_OFF = "Broken off. Finished trials are kept; run the same command again to go on."

_PORT = "KERASTUNER_ORACLE_PORT"
CHIEF = "chief"
_HOST = "127.0.0.1"
PROJECT = "trials"  # what keras-tuner writes, in the folder of the search
_PATIENCE = 300.0  # seconds that a worker waits for its chief, which loads TensorFlow first
_TRIES = 5  # times that processes which died are begun anew, with no trial finished meanwhile
_LOOK = 0.5  # seconds between two looks at the processes


def role() -> str | None:
    """`"chief"` or the name of a worker; `None` for a search of one process."""
    return os.environ.get(ID)


def is_watched() -> bool:
    """True for a process that another one has started, and begins anew if it dies."""
    return PARENT in os.environ


def follow_parent() -> None:
    """End with the process that has started this one, whatever has ended it.

    A chief that is left over would write into the folder of the search that goes on.
    """
    parent = os.environ.get(PARENT)
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(_LOOK)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def alone_in(folder: Path) -> AbstractContextManager[None]:
    """Let nobody else search in a folder: the chief of another, or who began one by hand.

    Raises:
        ArgumentError: Another process does.
    """
    return searching(folder / PROJECT)


def check_workers(workers: int) -> None:
    """Refuse what the environment says by half, workers of workers, and workers on Windows.

    Raises:
        ArgumentError: One of these.
    """
    name = role()
    if workers > 1 and os.name == "nt":
        raise ArgumentError(
            "--workers needs Linux or macOS, where a process is told that its parent has ended. "
            f"Received: --workers {workers} on Windows. Leave it out, or start a chief and "
            f"workers by hand, each with {ID}, {ADDRESS} and {_PORT}."
        )
    if name is None:
        given = [each for each in (ADDRESS, _PORT) if each in os.environ]
        if given:
            raise ArgumentError(
                f"{' and '.join(given)} must come with {ID}, who this process is. Received: "
                f"none. Set {ID}={CHIEF} or {ID}=worker-1, or unset the address."
            )
        return
    if workers > 1:
        raise ArgumentError(
            f"--workers must be 1 where {ID} is set. Received: {workers} workers of {name!r}. "
            "Start a process for each worker, or unset it to have them started here."
        )
    missing = [each for each in (ADDRESS, _PORT) if not os.environ.get(each)]
    if missing:
        raise ArgumentError(
            f"{ID} must come with the address of the chief. Received: {ID}={name} without "
            f"{' and '.join(missing)}. Set all three, or none for a search of one process."
        )
    if not name or (CHIEF in name and name != CHIEF):
        raise ArgumentError(
            f"{ID} must be {CHIEF!r}, or a name without that word: keras-tuner takes each name "
            f"that holds it for the chief. Received: {name!r}. Write for example worker-1."
        )
    port = os.environ[_PORT]
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise ArgumentError(
            f"{_PORT} must be a number from 1 to 65535. Received: {port!r}. Write for example 8000."
        )


def check_place(console: Console) -> None:
    """Refuse a second chief on one port; have a worker wait for its chief.

    Args:
        console: Where a worker says that it waits.

    Raises:
        ArgumentError: Two chiefs would share a port, or the chief cannot have it.
        FileAccessError: Nobody answers where the chief should be.
    """
    name = role()
    if name is None:
        return
    place = os.environ[ADDRESS], int(os.environ[_PORT])
    if name == CHIEF:
        _check_free(*place)
    else:
        _wait_for_chief(console, *place)


def _check_free(ip: str, port: int) -> None:
    with socket.socket() as probe:
        if os.name != "nt":  # there it would let two have one port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, port))
            return
        except OSError as error:
            found = error
    told = f"Received: {ip}:{port}, {found.strerror or found}."
    if found.errno == errno.EADDRINUSE:
        raise ArgumentError(
            f"The chief must have its port for itself. {told} Another chief may be running "
            f"there: end it, or choose another {_PORT}."
        ) from found
    if found.errno == errno.EACCES:
        raise ArgumentError(
            f"The chief must be allowed its port. {told} Ports below 1024 are the system's: "
            f"choose another {_PORT}, such as 8000."
        ) from found
    raise ArgumentError(
        f"The chief must have an address of the machine it runs on. {told} Set {ADDRESS} to one of "
        "this machine, which the workers reach, and start the chief here."
    ) from found


def _wait_for_chief(console: Console, ip: str, port: int) -> None:
    until, waits = time.monotonic() + _PATIENCE, False
    while True:
        try:
            with socket.create_connection((ip, port), timeout=2):
                return
        except OSError as error:
            if not waits:
                told = f"waiting up to {_PATIENCE:.0f} s for the chief at {ip}:{port}"
                console.print(Text(told), soft_wrap=True)
                waits = True
            if time.monotonic() > until:
                raise FileAccessError(
                    f"A worker needs its chief. Received: nobody at {ip}:{port} for "
                    f"{_PATIENCE:.0f} s ({error.strerror or error}). Start the chief first "
                    f"({ID}={CHIEF}), and check {ADDRESS} and {_PORT}."
                ) from error
            time.sleep(1)


class Workers:
    """A chief and its workers, all running this very command.

    A worker that dies is begun anew and does its trial again; where the chief dies, all are. No
    finished trial is lost, for each is a file before the next one begins.

    Args:
        count: How many workers.
        folder: Of the search; their output goes to `chief.log` and `worker-1.log`, ... in it.
    """

    def __init__(self, count: int, folder: Path):
        self._names = [CHIEF, *(f"worker-{i + 1}" for i in range(count))]
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._deaths = 0  # since a trial has ended
        self._port = 0

    def run(self, console: Console, look: Callable[[], int]) -> None:
        """Run them until all trials are done.

        Args:
            console: Where to say what happens to them.
            look: Called now and then, to tell of trials that have ended since; gives how many.

        Raises:
            ArgumentError: They died again and again; with the last lines of one.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self._start(*self._names)
            while not self._is_done():
                if look():
                    self._deaths = 0
                self._mend(console)
                time.sleep(_LOOK)
            look()
        except KeyboardInterrupt:
            console.print(Text(BROKEN_OFF))
            raise typer.Exit(RESCUED) from None
        finally:
            self._stop(*self._names)

    def _is_done(self) -> bool:
        """True once the chief or all workers have left: no trial is left to do."""
        chief, *workers = (self._processes[name].poll() == 0 for name in self._names)
        return chief or all(workers)

    def _mend(self, console: Console) -> None:
        """Begin anew what has died."""
        dead = [name for name, each in self._processes.items() if each.poll() not in (None, 0)]
        if not dead:
            return
        self._deaths += 1
        if self._deaths > _TRIES:
            raise ArgumentError(
                f"Processes of the search must live. Received: {', '.join(dead)} died, after "
                f"{_TRIES} that were begun anew and have finished no trial. The end of "
                f"{self._log(dead[0])}:\n"
                f"{self._last_words(dead[0])}"
            )
        code = self._processes[dead[0]].poll()
        told = f"{', '.join(dead)} died (exit status {code}) and is begun anew; see its log"
        console.print(Text(f"{told} {self._log(dead[0])}"), soft_wrap=True)
        if CHIEF in dead:
            dead = self._names
        self._stop(*dead)
        self._start(*dead)

    def _start(self, *names: str) -> None:
        if CHIEF in names:
            with socket.socket() as probe:
                probe.bind((_HOST, 0))
                self._port = probe.getsockname()[1]
        for name in names:
            place = {ID: name, ADDRESS: _HOST, _PORT: str(self._port), PARENT: str(os.getpid())}
            with open(self._log(name), "ab") as log:
                self._processes[name] = subprocess.Popen(
                    [sys.executable, "-m", "reducible_train", *_without_workers(sys.argv[1:])],
                    env=os.environ | place,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )

    def _stop(self, *names: str) -> None:
        running = [self._processes[name] for name in names if name in self._processes]
        for each in running:
            if each.poll() is None:
                each.kill()
        for each in running:
            each.wait()

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _last_words(self, name: str) -> str:
        lines = self._log(name).read_text("utf-8", errors="replace").splitlines()
        return "\n".join(lines[-15:])


def _without_workers(arguments: list[str]) -> list[str]:
    """The same command line for one process.

    >>> _without_workers(["tune", "a", "--workers", "4", "b"]), _without_workers(["--workers=4"])
    (['tune', 'a', 'b'], [])
    """
    found, skip = [], False
    for each in arguments:
        if not skip and each != "--workers" and not each.startswith("--workers="):
            found.append(each)
        skip = each == "--workers"
    return found
