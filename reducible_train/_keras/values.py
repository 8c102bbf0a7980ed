"""Move values between variables and the host."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np


def constant(value: np.ndarray) -> Callable[..., Any]:
    """An initializer that gives a value, of any shape with as many entries."""

    def initialize(shape: Any, dtype: Any = None) -> Any:
        return keras.ops.convert_to_tensor(np.ascontiguousarray(value).reshape(shape), dtype)

    return initialize


def itemsize(variable: Any) -> int:
    """Bytes of one number of a variable in memory; a bool, or a character, takes a whole one."""
    bits = re.search(r"\d+", keras.backend.standardize_dtype(variable.dtype))
    return max(int(bits[0]) // 8, 1) if bits else 1


def size(variable: Any) -> int:
    """How many numbers a variable holds."""
    return math.prod(int(length) for length in variable.shape)


def host_value(variable: Any) -> np.ndarray:
    """A variable's value as a numpy array (any dtype, bfloat16 included)."""
    value = getattr(variable, "value", variable)
    if callable(value):  # of a variable that is TensorFlow's own
        value = value()
    return np.asarray(keras.ops.convert_to_numpy(value))


def copied(value: Any) -> Any:
    """The value of a variable or a tensor that is in use, to assign to another variable.

    On JAX a variable holds the very array that it was assigned, and a training step or a
    prediction gives the memory of what it was called with away: of two variables that hold one
    array, the other would have none. Anything that is no variable or tensor of these is as it is.
    """
    may_share = keras.backend.backend() != "tensorflow" and keras.ops.is_tensor(value)
    is_live = may_share or isinstance(value, keras.Variable)
    return keras.ops.copy(value) if is_live else value


def host_float(variable: Any) -> np.ndarray:
    """A variable's value as float32 or float64, for linear algebra on the host: to be read only.

    What TensorFlow holds in the host's memory is copied once.
    """
    if keras.backend.backend() == "tensorflow" and isinstance(variable, keras.Variable):
        value = np.asarray(keras.ops.convert_to_tensor(variable))
    else:
        value = host_value(variable)
    return value if value.dtype in (np.float32, np.float64) else value.astype(np.float32)


def not_finite(variable: Any) -> int:
    """How many numbers of a variable are NaN or infinite; counted where it lies.

    Infinity is as it should be in what is not trained, such as a mask: there NaN alone counts.
    """
    if not keras.backend.is_float_dtype(variable.dtype):
        return 0
    value = variable.value
    nan = keras.ops.isnan(value)
    bad = keras.ops.logical_or(nan, keras.ops.isinf(value)) if variable.trainable else nan
    return int(host_value(keras.ops.sum(keras.ops.cast(bad, "int32"))))


def lost_numbers(variables: Iterable[Any]) -> tuple[str, int, int] | None:
    """Of the first variable that holds NaN or infinity its path, how many, and how many it has."""
    for variable in variables:
        if bad := not_finite(variable):
            return variable.path, bad, size(variable)
    return None


@contextlib.contextmanager
def values_kept(variables: Sequence[Any]) -> Iterator[None]:
    """Whatever happens within it, variables have their values again in the end."""
    kept = [(variable, np.array(host_value(variable))) for variable in variables]
    try:
        yield
    finally:
        for variable, value in kept:
            if host_value(variable).tobytes() != value.tobytes():
                variable.assign(value)


def is_symbolic(tensor: Any) -> bool:
    """True within a function or a loop that is being traced, where a tensor has no value."""
    if isinstance(tensor, keras.KerasTensor):
        return True
    if keras.backend.backend() == "jax":
        import jax  # noqa: PLC0415

        return isinstance(tensor, jax.core.Tracer)
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf  # noqa: PLC0415

    return bool(tf.is_symbolic_tensor(tensor))
