"""Values of JSON that anybody may have written: each as what it should be, or nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def number(value: Any) -> float | None:
    """A finite number.

    Example:
        >>> number(3), number(float("nan")), number("3"), number(True)
        (3, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


def text(value: Any) -> str:
    """A text; empty for anything else."""
    return value if isinstance(value, str) else ""


def texts(value: Any) -> list[str]:
    """The texts of a list."""
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def numbers(value: Any) -> dict[str, float]:
    """The numbers of an object, by name."""
    plain = value if isinstance(value, Mapping) else {}
    return {str(k): each for k, v in plain.items() if (each := number(v)) is not None}


def is_same_size(size: float | None, other: float | None) -> bool:
    """True for two sizes that are one, as far as float32 tells, in which scalars are logged.

    Example:
        >>> is_same_size(20_000_001, 20_000_000), is_same_size(20_000, 20_001)
        (True, False)
    """
    return size is not None and other is not None and math.isclose(size, other, rel_tol=1e-6)
