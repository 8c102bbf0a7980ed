"""From which rank on all singular directions of a matrix are found sooner than the leading ones.

Matrices of random numbers, as they are (the worst case, a spectrum with nothing in it to find) or
with values that fall by a power law. For each share of full rank: how many times as long the whole
decomposition takes in processor time, and how far the truncation by sketches is from the matrix
over how far the best one is. The ways take turns; each time is the least of three.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import command, console, finish, parser, show

from reducible_train.linalg.leading import LARGEST_SHARE, leading_side, pays
from reducible_train.linalg.small_side import small_side

SHAPES = ((768, 768), (3072, 768), (1024, 1024))
SHARES = (1 / 64, 1 / 16, 1 / 10, 1 / 6, 1 / 4)
FALLS = {"noise": 0.0, "values as 1/sqrt(i)": 0.5, "values as 1/i": 1.0}
REPEATS = 3


def matrix(shape: tuple[int, int], power: float) -> np.ndarray:
    """Random numbers, in single precision, whose singular values fall."""
    rng = np.random.default_rng(1)
    noise = rng.standard_normal(shape, dtype=np.float32)
    if not power:
        return noise
    turn, _ = np.linalg.qr(rng.standard_normal((shape[1], shape[1])))
    return (noise @ (turn * (1.0 + np.arange(shape[1])) ** -power)).astype(np.float32)


def seconds(work: Callable[[], Any]) -> float:
    """Processor time."""
    started = time.process_time()
    work()
    return time.process_time() - started


def measure(given: np.ndarray, rank: int) -> dict[str, Any]:
    """Both ways to the leading directions of one matrix."""
    ways = {"whole": lambda: small_side(given), "leading": lambda: leading_side(given, rank)}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, work in ways.items():
            taken[name].append(seconds(work))
    row: dict[str, Any] = {name: min(each) for name, each in taken.items()}
    found = leading_side(given, rank)
    row["error_ratio"] = None
    if found is not None:
        exact = given.astype(np.float64)
        off = np.linalg.norm(exact - exact @ found[1] @ found[1].T)
        row["error_ratio"] = float(off / np.linalg.norm(small_side(given)[0][rank:]))
    return row


def main() -> None:
    parser(__doc__).parse_args()
    console.print(f"$ {command()}")
    rows = []
    for shape in SHAPES:
        for fall, power in FALLS.items():
            given = matrix(shape, power)
            for share in SHARES:
                rank = max(1, int(share * min(shape)))
                row = {"shape": shape, "fall": fall, "share": share, "rank": rank}
                rows.append(row | measure(given, rank))
            console.print(f"{shape}, {fall}: done")
    show(
        "whole decomposition over sketches, seconds; error over the least",
        ["shape", "spectrum", *(f"1/{round(1 / share)}" for share in SHARES)],
        [
            [
                f"{shape[0]} x {shape[1]}",
                fall,
                *(
                    f"{r['whole'] / r['leading']:.1f}, {r['error_ratio'] or 0:.4f}"
                    for r in rows
                    if (r["shape"], r["fall"]) == (shape, fall)
                ),
            ]
            for shape in SHAPES
            for fall in FALLS
        ],
    )
    used = [row for row in rows if pays(row["shape"], row["rank"])]
    goals = {
        "sooner wherever it is used, but for noise": all(
            row["leading"] < row["whole"] for row in used if row["fall"] != "noise"
        ),
        "at most 0.5 % above the least error": all(
            row["error_ratio"] is None or row["error_ratio"] <= 1.005
            for row in used  # `None`: all directions are taken in its place
        ),
    }
    for text, reached in goals.items():
        console.print(f"{'reached' if reached else 'MISSED '}  {text}")
    finish({"rows": rows, "largest_share": LARGEST_SHARE, "goals": goals})


if __name__ == "__main__":
    main()
