"""Allocation: the loss that the knapsack saves, what it takes, and how sure it is.

Made-up networks of 3 to 1000 dense kernels, their spectra decaying by power laws of different
exponents, each given a fraction of its dense parameters. The objective is the relative energy
discarded, summed over the kernels; the bound is proven, so no allocation of any kind loses less.
Each time is the best of three. Needs neither Keras nor data.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from reducible_train.selection.allocation import Allocation, Candidate, allocate
from reducible_train.selection.costs.counted import break_even_rank, dense_cost, rank_cost

METHODS = ("uniform", "equal_energy", "knapsack")
SIZES = (64, 128, 256, 300, 317, 500, 512, 768, 784, 911, 1024)


def network(kernels: int, rng: np.random.Generator) -> list[Candidate]:
    """Dense kernels of mixed sizes, each with its own decay."""
    made = []
    for i in range(kernels):
        shape = (int(rng.choice(SIZES)), int(rng.choice(SIZES)))
        places = np.arange(1, min(shape) + 1)
        noise = np.exp(0.05 * rng.standard_normal(len(places)))
        spectrum = np.sort(places ** -rng.uniform(0.1, 1.5) * noise)[::-1]
        made.append(
            Candidate(
                path=f"hidden_{i + 1}/kernel",
                spectrum=spectrum,
                rank_cost=rank_cost(shape),
                dense_cost=dense_cost(shape),
                min_rank=1,
                max_rank=break_even_rank(shape),
            )
        )
    return made


def timed(made: list[Candidate], capacity: float, method: str) -> tuple[Allocation, float]:
    """The answer and the seconds it took, the best of three."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        found = allocate(made, capacity, method)
        seconds.append(time.perf_counter() - started)
    return found, min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernels", type=int, nargs="+", default=[3, 30, 300, 1000])
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.5, 0.25, 0.1])
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    script = Path(sys.argv[0]).resolve()
    command = shlex.join(["python", str(script.relative_to(script.parents[1])), *sys.argv[1:]])
    console = Console(width=110)
    console.print(f"$ {command}")
    columns = [
        "kernels, fraction",
        *METHODS,
        "gap",
        "proven",
        *("seconds" for _ in METHODS),
    ]
    title = (
        f"loss: mean of {args.seeds} networks; largest gap of the knapsack; how often it\n"
        "is proven to be the best; seconds of the slowest, in the same order"
    )
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name == columns[0] else "right")
    records = []
    for kernels in args.kernels:
        for fraction in args.fractions:
            record = measure(kernels, fraction, args.seeds)
            records.append(record)
            table.add_row(
                f"{kernels}, {fraction:g}",
                *(f"{record[method]['objective']:.4f}" for method in METHODS),
                f"{record['gap']:.0e}",
                f"{record['proven']}/{args.seeds}",
                *(f"{record[method]['seconds']:.3f}" for method in METHODS),
            )
    console.print(table)
    print(json.dumps({"command": command, "runs": records}, default=float), flush=True)


def measure(kernels: int, fraction: float, seeds: int) -> dict:
    """Figures of all methods on the same networks."""
    record: dict = {"kernels": kernels, "fraction": fraction, "seeds": seeds}
    for method in METHODS:
        runs = []
        for seed in range(seeds):
            made = network(kernels, np.random.default_rng(seed))
            capacity = fraction * sum(m.dense_cost or 0.0 for m in made)
            runs.append(timed(made, capacity, method))
        record[method] = {
            "objective": np.mean([found.objective for found, _ in runs]),
            "seconds": max(seconds for _, seconds in runs),
        }
        if method == "knapsack":
            record["gap"] = max(found.gap for found, _ in runs)
            record["relative_gap"] = max(found.gap / found.objective for found, _ in runs)
            record["proven"] = sum(found.gap == 0 for found, _ in runs)
    return record


if __name__ == "__main__":
    main()
