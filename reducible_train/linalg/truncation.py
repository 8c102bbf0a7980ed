"""The rank of one kernel, from its spectrum and named limits, with the limit that decided."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reducible_train.errors import ArgumentError
from reducible_train.linalg.multiples import rounded_down, rounded_up
from reducible_train.linalg.svd import cumulative_energy, relative_errors


@dataclass(frozen=True)
class Truncation:
    """A rank, what it keeps, and what decided it.

    Args:
        rank: Singular directions kept, in `[1, k]`.
        energy: Energy kept, a fraction in [0, 1].
        relative_error: `sqrt(1 - energy)`, the relative Frobenius error.
        binding: `"full_rank"`, `"max_rank"`, `"min_rank"`, `"energy"` or `"rtol"`.
    """

    rank: int
    energy: float
    relative_error: float
    binding: str


def choose_rank(
    spectrum: npt.ArrayLike,
    *,
    max_rank: int | None = None,
    min_rank: int | None = None,
    energy: float | None = None,
    rtol: float | None = None,
    multiple: int = 1,
) -> Truncation:
    """The smallest rank that keeps what is asked for, cut off at `max_rank`.

    `energy`, `rtol` and `min_rank` say how much must stay; the largest rank among theirs wins.
    Without `energy` and `rtol` everything stays. `max_rank` then caps the rank, even where that
    breaks `energy` or `rtol`: `binding` says so, and `energy` and `relative_error` of the answer
    are what the rank really keeps. At least one direction stays, at most full rank (a `min_rank`
    above it means full rank). Where two limits ask for the same rank, the one named first in the
    list `energy`, `rtol`, `min_rank`, `max_rank` is the binding one. In multiples, what must stay
    is rounded up and `max_rank` down; full rank is allowed as it is.

    Args:
        spectrum: Singular values `(k,)`, non-increasing.
        max_rank: Largest rank allowed, at least 1.
        min_rank: Smallest rank allowed, at least 1.
        energy: Energy to keep at least, a fraction in (0, 1].
        rtol: Relative Frobenius error to stay within, in [0, 1).
        multiple: What the rank is a multiple of, at least 1.

    Raises:
        ArgumentError: A limit is out of range, `min_rank` is greater than `max_rank`, or no
            multiple is as small as `max_rank`.
        SpectrumError: Not a spectrum.

    Example:
        >>> choose_rank([2.0, 1.0, 1.0, 1.0, 1.0], energy=0.7)
        Truncation(rank=3, energy=0.75, relative_error=0.5, binding='energy')
        >>> choose_rank([2.0, 1.0, 1.0, 1.0, 1.0], energy=0.7, max_rank=2).binding
        'max_rank'
    """
    _check_limits(max_rank, min_rank, energy, rtol, multiple)
    kept, lost = cumulative_energy(spectrum), relative_errors(spectrum)
    full = len(kept) - 1
    asked: dict[str, int] = {}
    if energy is not None:
        asked["energy"] = int(np.argmax(kept >= energy))
    if rtol is not None:
        asked["rtol"] = int(np.argmax(lost <= rtol))
    if not asked:
        asked["full_rank"] = full
    if min_rank is not None:
        asked["min_rank"] = int(min_rank)
    binding = max(asked, key=lambda name: asked[name])  # the first of equals
    rank = rounded_up(max(1, asked[binding]), multiple)
    if rank > full:
        rank, binding = full, "full_rank"
    if max_rank is not None and rank > max_rank:
        rank, binding = rounded_down(max_rank, multiple), "max_rank"
    return Truncation(rank, float(kept[rank]), float(lost[rank]), binding)


def _check_limits(
    max_rank: int | None,
    min_rank: int | None,
    energy: float | None,
    rtol: float | None,
    multiple: int,
) -> None:
    if not (multiple >= 1 and multiple % 1 == 0):
        raise ArgumentError(
            f"`multiple` must be a whole number, at least 1. Received: multiple={multiple}. "
            "Write 1 for any rank."
        )
    for name, limit in (("max_rank", max_rank), ("min_rank", min_rank)):
        if limit is not None and not (limit >= 1 and limit % 1 == 0):
            raise ArgumentError(
                f"`{name}` must be a whole number, at least 1. Received: {name}={limit}. "
                "For a fraction of the model's size give a budget instead."
            )
    if max_rank is not None and min_rank is not None and min_rank > max_rank:
        raise ArgumentError(
            "`min_rank` must not be greater than `max_rank`. "
            f"Received: min_rank={min_rank}, max_rank={max_rank}. Lower the one or raise the other."
        )
    if max_rank is not None and max_rank < multiple:
        raise ArgumentError(
            "`max_rank` must not be below `multiple`. "
            f"Received: max_rank={max_rank}, multiple={multiple}. Raise it, or lower `multiple`."
        )
    if energy is not None and not 0 < energy <= 1:
        raise ArgumentError(
            f"`energy` must be in (0, 1]. Received: energy={energy}. For 95 % write 0.95."
        )
    if rtol is not None and not 0 <= rtol < 1:
        raise ArgumentError(
            f"`rtol` must be in [0, 1). Received: rtol={rtol}. "
            "An error of 1 would keep nothing; for 10 % write 0.1."
        )
