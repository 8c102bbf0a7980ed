"""What a kernel costs, dense and for each rank, in parameters, bytes or FLOPs.

A kernel matrix `W (m, n)` holds `m * n` numbers; factors of rank `r` hold `r * (m + n)`: the cost
of a rank is the same for every rank. A measure weighs each number:

- `"parameters"`: 1.
- `"bytes"`: its size in memory, `itemsize`.
- `"flops"`: 2 for the multiply-add it takes part in, for each of its `applications` to one sample
  (positions of a sequence or of an image; 1 for a plain dense layer).

Biases cost the same either way, and are no part of it.
"""

from __future__ import annotations

from reducible_train.errors import ArgumentError

MEASURES = ("parameters", "bytes", "flops")


def break_even_rank(m: int, n: int) -> int:
    """The largest rank whose factors are smaller than the kernel: `r * (m + n) < m * n`.

    Returns:
        A rank in `[0, min(m, n) - 1]`; 0 if no rank saves anything.

    Raises:
        ArgumentError: `m` or `n` is not a whole number, at least 1.

    Example:
        >>> break_even_rank(784, 512)
        309
        >>> break_even_rank(784, 1)
        0
    """
    _check_whole(m=m, n=n)
    return int((m * n - 1) // (m + n))


def dense_cost(
    shape: tuple[int, int], measure: str = "parameters", itemsize: int = 4, applications: int = 1
) -> int:
    """Cost of the dense kernel: `m * n` times the weight of one number.

    Args:
        shape: `(m, n)` of the kernel matrix.
        measure: `"parameters"`, `"bytes"` or `"flops"`.
        itemsize: Bytes of one number; counts for `"bytes"`.
        applications: Times the kernel is applied to one sample; counts for `"flops"`.

    Raises:
        ArgumentError: An unknown measure, or a number that is not whole and at least 1.

    Example:
        >>> dense_cost((784, 512)), dense_cost((784, 512), "flops")
        (401408, 802816)
    """
    m, n = _checked_shape(shape)
    return m * n * _weight(measure, itemsize, applications)


def rank_cost(
    shape: tuple[int, int], measure: str = "parameters", itemsize: int = 4, applications: int = 1
) -> int:
    """Cost of one rank: `m + n` times the weight of one number. Factors of rank r cost r of it.

    Args:
        shape: `(m, n)` of the kernel matrix.
        measure: `"parameters"`, `"bytes"` or `"flops"`.
        itemsize: Bytes of one number; counts for `"bytes"`.
        applications: Times the kernel is applied to one sample; counts for `"flops"`.

    Raises:
        ArgumentError: An unknown measure, or a number that is not whole and at least 1.

    Example:
        >>> 20 * rank_cost((784, 512), "bytes")
        103680
    """
    m, n = _checked_shape(shape)
    return (m + n) * _weight(measure, itemsize, applications)


def _weight(measure: str, itemsize: int, applications: int) -> int:
    _check_whole(itemsize=itemsize, applications=applications)
    weights = {"parameters": 1, "bytes": int(itemsize), "flops": 2 * int(applications)}
    if measure not in weights:
        raise ArgumentError(
            f"`measure` must be one of {', '.join(map(repr, MEASURES))}. "
            f"Received: measure={measure!r}. To count numbers, write 'parameters'."
        )
    return weights[measure]


def _checked_shape(shape: tuple[int, int]) -> tuple[int, int]:
    if len(shape) != 2:
        raise ArgumentError(
            "`shape` must be that of a kernel matrix, (m, n). "
            f"Received: shape={tuple(shape)}. Matricize the kernel first, inputs x outputs."
        )
    m, n = shape
    _check_whole(m=m, n=n)
    return int(m), int(n)


def _check_whole(**numbers: int) -> None:
    for name, value in numbers.items():
        if not (value >= 1 and value % 1 == 0):
            raise ArgumentError(
                f"`{name}` must be a whole number, at least 1. Received: {name}={value}. "
                "Give the size of the kernel as it is built."
            )
