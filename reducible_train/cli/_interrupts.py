"""An interrupt that Python has dropped is noticed later; what ends a process interrupts it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# How a process is told to end, by a person, by containers and batch systems; what Python does then.
_USUAL: dict[int, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}
if hasattr(signal, "SIGHUP"):  # of a terminal that is gone; nohup has it ignored
    _USUAL[signal.SIGHUP] = signal.SIG_DFL
ENDINGS = tuple(_USUAL)


@contextmanager
def noticed_interrupts(
    numbers: Sequence[int] = (signal.SIGINT,),
) -> Iterator[Callable[[], None]]:
    """Have signals raise `KeyboardInterrupt`; gives a function that raises it if one has come.

    Python drops what is raised in the callback of a weak reference or in `__del__`, so that the
    first Ctrl-C of a person, or the only SIGTERM, may do nothing at all.
    """
    came: list[int] = []

    def note(number: int, _: Any) -> None:
        came.append(number)
        raise KeyboardInterrupt

    def check() -> None:
        if came:
            raise KeyboardInterrupt

    usual = [number for number in numbers if signal.getsignal(number) is _USUAL[number]]
    if not usual or threading.current_thread() is not threading.main_thread():
        yield check
        return
    for number in usual:
        signal.signal(number, note)
    try:
        yield check
    finally:
        for number in usual:
            signal.signal(number, _USUAL[number])


@contextmanager
def deaf(numbers: Sequence[int] = ENDINGS) -> Iterator[None]:
    """Have signals do nothing for a moment: what is at work then would be worse if broken off."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
