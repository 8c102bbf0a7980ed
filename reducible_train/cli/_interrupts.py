"""An interrupt that Python has dropped is noticed later; what ends a process interrupts it."""

from __future__ import annotations

import _thread
import signal
import sys
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
_SOON = 0.05  # seconds until what Python has dropped is raised once more


@contextmanager
def noticed_interrupts(
    numbers: Sequence[int] = (signal.SIGINT,),
) -> Iterator[Callable[[], None]]:
    """Have signals raise `KeyboardInterrupt`; gives a function that raises it if one has come.

    Python drops what is raised in the callback of a weak reference or in `__del__`, so that the
    first Ctrl-C of a person, or the only SIGTERM, would do nothing but print a traceback. It is
    raised once more soon after.
    """
    came: list[int] = []
    heeded, told = threading.Event(), sys.unraisablehook

    def note(number: int, _: Any) -> None:
        came.append(number)
        raise KeyboardInterrupt

    def check() -> None:
        if came:
            heeded.set()  # what is kept of the work now shall not be broken off by the same signal
            raise KeyboardInterrupt

    def again(number: int) -> None:
        if not heeded.wait(_SOON):
            _raise_in_main(number)

    def dropped(what: Any) -> None:
        if came and what.exc_type is KeyboardInterrupt:
            _thread.start_new_thread(again, (came[-1],))  # it takes no lock that may be held here
        else:
            told(what)

    usual = [number for number in numbers if signal.getsignal(number) is _USUAL[number]]
    if not usual or threading.current_thread() is not threading.main_thread():
        yield check
        return
    for number in usual:
        signal.signal(number, note)
    sys.unraisablehook = dropped
    try:
        yield check
    finally:
        heeded.set()
        sys.unraisablehook = told
        for number in usual:
            signal.signal(number, _USUAL[number])


def _raise_in_main(number: int) -> None:
    """Raise a signal by another thread; the main one wakes for it, whatever it waits for."""
    if hasattr(signal, "pthread_kill"):  # not on Windows
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        signal.raise_signal(number)


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
