"""What is printed never ends a command: readers leave, disks fill, encodings lack letters."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

_STRICT = ("strict", "surrogateescape")  # what Python chooses where nobody has


class _Lasting(io.FileIO):
    """A descriptor of which no write fails: after one that did, nothing more is written.

    Attributes:
        fault: What the system said; `None` of a reader that has left, as `head` does.
    """

    fault: OSError | None = None
    _ended = False

    def write(self, data: Any, /) -> int:
        while not self._ended:
            try:
                if (written := self._written(data)) is not None:
                    return written
                select.select((), (self,), ())
            except OSError as error:
                self._ended = True
                self.fault = None if error.errno == errno.EPIPE else error
        return memoryview(data).nbytes

    def _written(self, data: Any) -> int | None:
        """How much was; `None` if nothing fits, where others have told the system not to wait."""
        return super().write(data)


@contextmanager
def lasting_output() -> Iterator[None]:
    """Have stdout and stderr take whatever is printed, so that the work goes on to its end.

    What their encoding lacks is written as an escape, such as `\\xf6`.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_lasting, before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):  # none there, or closed
                stream.flush()
        sys.stdout, sys.stderr = before


def lost_output() -> OSError | None:
    """Why a part of what was printed is nowhere, if somebody still wants it."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Lasting):
        return None
    sys.stdout.flush()
    return raw.fault


def _lasting(stream: TextIO | None) -> Any:
    if stream is None:  # closed by whoever has begun the process
        return None
    errors = stream.errors or "strict"
    errors = "backslashreplace" if errors in _STRICT else errors
    try:
        descriptor = stream.fileno()
        stream.flush()
    except (OSError, ValueError):  # kept in memory
        return stream
    if os.name == "nt" and stream.isatty():  # Windows writes to its terminals in a way of its own
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(_Lasting(descriptor, "w", closefd=False)),
        encoding=stream.encoding,
        errors=errors,
        line_buffering=bool(stream.line_buffering or getattr(stream, "write_through", False)),
    )
