"""Keras and TensorFlow loaded without the notices TensorFlow writes for its developers."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def load_keras() -> None:
    """Import Keras in silence; `TF_CPP_MIN_LOG_LEVEL=0` lets everything through.

    TensorFlow 2.21 heeds that variable only once it is loaded, so what it writes while
    loading is held back, and shown if loading fails.
    """
    if "keras" in sys.modules:
        return
    os.environ.setdefault(_LEVEL, "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    if os.environ[_LEVEL] == "0":
        importlib.import_module("keras")
        return
    with _stderr_held_back():
        importlib.import_module("keras")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # each cut retraces, and means to


@contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Keep what the process writes to stderr, C++ included; show it only after an error."""
    try:
        stderr = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
