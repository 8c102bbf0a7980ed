"""The closed list of dtypes a file can hold, by name."""

from __future__ import annotations

from importlib import import_module

import numpy as np

from reducible_train.errors import FormatError

FLOATS = ("bfloat16", "float16", "float32", "float64")
INTEGERS = tuple(f"{sign}int{bits}" for bits in (8, 16, 32, 64) for sign in ("", "u"))
DTYPE_NAMES = (*FLOATS, *INTEGERS, "bool")


def dtype_name(dtype: np.dtype) -> str:
    """Name of `dtype` in a file.

    Raises:
        FormatError: The dtype is not on the list.
    """
    if dtype.name not in DTYPE_NAMES:
        raise FormatError(
            f"The dtype must be one of {', '.join(DTYPE_NAMES)}. Received: {dtype.name}. "
            "Cast the variable to one of these before saving."
        )
    return dtype.name


def dtype_named(name: str) -> np.dtype:
    """The dtype that a file names.

    `ml_dtypes`, which comes with TensorFlow, is imported only for bfloat16.

    Raises:
        FormatError: The name is not on the list, or needs a package that is missing.
    """
    if name not in DTYPE_NAMES:
        raise FormatError(
            f"The dtype must be one of {', '.join(DTYPE_NAMES)}. Received: {name[:60]!r}. "
            "The file needs a newer version of reducible-train, or is damaged."
        )
    scalar: type | str = name
    if name == "bfloat16":
        try:
            scalar = import_module("ml_dtypes").bfloat16
        except ImportError as error:
            raise FormatError(
                "Reading bfloat16 needs the package ml_dtypes. Received: no such package. "
                "Install it with `pip install ml_dtypes`."
            ) from error
    dtype: np.dtype = np.dtype(scalar)
    return dtype
