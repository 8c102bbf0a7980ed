"""Ranks in multiples of a number, as hardware likes them: the next one up, or down.

Matrix units work on tiles of 8, 16 or more columns, and a product of rank 13 takes as long as one
of rank 16 (NVIDIA, *Matrix multiplication background user's guide*, 2023).
"""

from __future__ import annotations

import math

_ROUND_OFF = 1e-9  # of a rank


def whole_rank(value: float) -> int:
    """The largest rank that is not above a number, but for what rounding has taken off it.

    >>> 0.7 * 96 * 30 / 126, whole_rank(0.7 * 96 * 30 / 126), whole_rank(15.99)
    (15.999999999999996, 16, 15)
    """
    return math.floor(value + _ROUND_OFF)


def whole_rank_above(value: float) -> int:
    """The smallest rank that is not below a number, but for what rounding has added to it.

    >>> 0.07 * 100, whole_rank_above(0.07 * 100), whole_rank_above(7.01)
    (7.000000000000001, 7, 8)
    """
    return math.ceil(value - _ROUND_OFF)


def rounded_down(rank: float, multiple: int) -> int:
    """The largest multiple that is not above a rank; 0 if there is none.

    >>> rounded_down(23, 8), rounded_down(7, 8), rounded_down(23, 1)
    (16, 0, 23)
    """
    return int(rank // multiple) * multiple


def rounded_up(rank: float, multiple: int) -> int:
    """The smallest multiple that is not below a rank.

    >>> rounded_up(17, 8), rounded_up(16, 8), rounded_up(1, 1)
    (24, 16, 1)
    """
    return -int(-rank // multiple) * multiple
