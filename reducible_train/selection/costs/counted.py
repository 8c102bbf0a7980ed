"""What a kernel costs, dense and for each rank, by a measure that counts its numbers.

A kernel matrix `W (m, n)` holds `m * n` numbers; factors of rank `r` hold `r * (m + n)`: the cost
of a rank is the same for every rank. A kernel of `count` matrices costs that many times as much.
A `CountedMeasure` says what each number weighs. Biases cost the same either way, and are no part of
it. A measure without such a law has a `CostModel`, with a table for each kernel.
"""

from __future__ import annotations

import math

from reducible_train.errors import ArgumentError
from reducible_train.layers.uses import Uses
from reducible_train.settings.measures import CountedMeasure, counted_measure


def break_even_rank(
    shape: tuple[int, int],
    measure: str | CountedMeasure = "parameters",
    uses: Uses | None = None,
    min_gain: float = 0.0,
) -> int:
    """The largest rank whose factors cost less than the dense kernel.

    Args:
        shape: `(m, n)` of the kernel matrix.
        measure: A measure that counts numbers, or the name of one without options.
        uses: How often each number is used by one sample; counts for `"flops"`.
        min_gain: Fraction of the dense cost that must be saved at least, in [0, 1).

    Returns:
        A rank in `[0, min(m, n)]`; 0 if no rank saves enough.

    Raises:
        ArgumentError: An unknown measure, or a number that is not whole and at least 1.

    Example:
        >>> break_even_rank((784, 512)), break_even_rank((784, 512), min_gain=0.2)
        (309, 247)
        >>> break_even_rank((784, 1))
        0
    """
    dense, one = dense_cost(shape, measure, uses=uses), rank_cost(shape, measure, uses=uses)
    if dense == 0:
        return 0  # what costs nothing cannot cost less
    limit = min(shape) if one == 0 else math.ceil((1 - min_gain) * dense / one) - 1
    if min_gain == 0 and one:
        limit = (dense - 1) // one  # in whole numbers, however large
    return max(0, min(limit, *shape))


def dense_cost(
    shape: tuple[int, int],
    measure: str | CountedMeasure = "parameters",
    itemsize: int = 4,
    uses: Uses | None = None,
    count: int = 1,
) -> int:
    """Cost of the dense kernel: `m * n` times the weight of one number.

    Args:
        shape: `(m, n)` of the kernel matrix.
        measure: A measure that counts numbers, or the name of one without options.
        itemsize: Bytes of one number; counts for `"bytes"`.
        uses: How often each number is used by one sample, once if not given; counts for
            `"flops"`.
        count: Matrices of this shape.

    Raises:
        ArgumentError: An unknown measure, or a number that is not whole and at least 1.

    Example:
        >>> dense_cost((784, 512)), dense_cost((784, 512), "flops")
        (401408, 802816)
    """
    m, n = _checked_shape(shape)
    used = (uses or Uses()).dense
    return m * n * count * _weight(measure, itemsize, used)


def rank_cost(
    shape: tuple[int, int],
    measure: str | CountedMeasure = "parameters",
    itemsize: int = 4,
    uses: Uses | None = None,
    count: int = 1,
) -> int:
    """Cost of one rank: `m + n` times the weight of one number. Factors of rank r cost r of it.

    Args:
        shape: `(m, n)` of the kernel matrix.
        measure: A measure that counts numbers, or the name of one without options.
        itemsize: Bytes of one number; counts for `"bytes"`.
        uses: How often each number is used by one sample, once if not given; counts for
            `"flops"`.
        count: Matrices of this shape.

    Raises:
        ArgumentError: An unknown measure, or a number that is not whole and at least 1.

    Example:
        >>> 20 * rank_cost((784, 512), "bytes")
        103680
    """
    m, n = _checked_shape(shape)
    uses = uses or Uses()
    left, right = (_weight(measure, itemsize, used) for used in (uses.u, uses.v))
    return (m * left + n * right) * count


def _weight(measure: str | CountedMeasure, itemsize: int, used: int) -> int:
    _check_whole(itemsize=itemsize)
    law = counted_measure(measure) if isinstance(measure, str) else measure
    return law.weight(int(itemsize), int(used))


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
