"""An interrupt that Python has dropped is noticed later; what ends a process interrupts it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def noticed_interrupts() -> Iterator[Callable[[], None]]:
    """Gives a function that raises `KeyboardInterrupt` if one has come.

    Python drops what is raised in the callback of a weak reference or in `__del__`, so that the
    first Ctrl-C of a person may do nothing at all.
    """
    before = signal.getsignal(signal.SIGINT)
    came: list[int] = []

    def note(number: int, _: Any) -> None:
        came.append(number)
        raise KeyboardInterrupt

    def check() -> None:
        if came:
            raise KeyboardInterrupt

    is_usual = before is signal.default_int_handler
    if not is_usual or threading.current_thread() is not threading.main_thread():
        yield check
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def terminations_interrupt() -> Iterator[None]:
    """What asks a process to end, as containers and batch systems do, acts as Ctrl-C does."""

    def interrupt(number: int, _: Any) -> None:
        raise KeyboardInterrupt

    is_usual = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not is_usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
