"""Build a model without memory for its weights."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state

_WAITING = "uninitialized_variables"
_NAME_COUNTS = "object_name_uids"


@contextmanager
def untouched_process() -> Iterator[None]:
    """Whatever is built within it, automatic names and random numbers go on as if it were not.

    Keras counts names, and draws the seeds of initializers from Python's generator, in every
    layer that is made; there is no public way to make one without.
    """
    counts = global_state.get_global_attribute(_NAME_COUNTS)
    kept = None if counts is None else counts.copy()
    python, arrays = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        global_state.set_global_attribute(_NAME_COUNTS, kept)
        random.setstate(python)
        np.random.set_state(arrays)


@contextmanager
def without_values() -> Iterator[None]:
    """Within it, variables that are made have shapes and dtypes, and never get values.

    `keras.StatelessScope` puts their values off, but keeps a list of them, and the next such
    scope of anybody would make the values after all.
    """
    waiting = global_state.get_global_attribute(_WAITING)
    global_state.set_global_attribute(_WAITING, [])
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        global_state.set_global_attribute(_WAITING, waiting)


def dtype_of(variable: Any) -> str:
    """Name of the dtype of a variable or an array."""
    return str(keras.backend.standardize_dtype(variable.dtype))
