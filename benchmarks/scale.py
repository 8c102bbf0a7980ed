"""How long a cut of a large model takes, and how much memory beside the model.

A stack like BERT base, 110 M parameters: an `Embedding(30522, 768)` and twelve blocks of four
`Dense(768)`, a `Dense(3072)` and a `Dense(768)`, whose singular values fall by a power law. The
second cut is of the same weights in another model, by the `DecompositionCache` of the first. Peak
memory is that of the process (`VmHWM`, counted anew before each cut), above what it holds then.
Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from common import command, console, finish, show

from reducible_train import DecompositionCache, factorize

WIDTH, INNER, WORDS = 768, 3072, 30522
BUDGETS = (0.5, 0.25)
MIB = 2**20


def build(blocks: int) -> keras.Model:
    """The stack, with the kernels of a transformer encoder and without its attention."""
    x = inputs = keras.Input((8,), dtype="int32")
    x = keras.layers.Embedding(WORDS, WIDTH, name="words")(x)
    for block in range(blocks):
        for name in ("query", "key", "value", "output"):
            x = keras.layers.Dense(WIDTH, name=f"{name}_{block}")(x)
        x = keras.layers.Dense(INNER, activation="relu", name=f"wide_{block}")(x)
        x = keras.layers.Dense(WIDTH, name=f"narrow_{block}")(x)
    return keras.Model(inputs, x)


def with_falling_spectra(model: keras.Model) -> None:
    """Scale the columns of every kernel, in a turned basis, so that its values fall."""
    rng = np.random.default_rng(1)
    turn, _ = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))
    fall = (turn * (1 + np.arange(WIDTH)) ** -0.5).astype("float32")
    for weight in model.weights:
        if len(weight.shape) == 2:
            value = rng.standard_normal(weight.shape, dtype="float32") * 0.05
            weight.assign(value @ fall if value.shape[1] == WIDTH else fall @ value)


def of_process(key: str) -> float:
    """A line of the process's status, in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def measure(model: keras.Model, budget: float, cache: DecompositionCache) -> dict[str, Any]:
    """One cut."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed is not there to be used unseen
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before, started, processor = of_process("VmRSS"), time.perf_counter(), time.process_time()
    report = factorize(model, budget, cache=cache)
    seconds = time.perf_counter() - started
    return {
        "budget": budget,
        "seconds": seconds,
        "processor_seconds": time.process_time() - processor,
        "parts_seconds": dict(report.cuts[-1].seconds),
        "peak_mib": of_process("VmHWM") - before,
        "parameters_fraction": report.size_fraction,
        "mean_energy": float(np.mean([cut.energy for cut in report.cuts[-1].kernels])),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--blocks", type=int, default=12)
    args = options.parse_args()
    console.print(f"$ {command()}")
    first = build(args.blocks)
    with_falling_spectra(first)
    second = build(args.blocks)
    for ours, theirs in zip(second.weights, first.weights, strict=True):
        ours.assign(theirs)
    sizes = [int(np.prod(w.shape)) * 4 / MIB for w in first.weights]
    parameters = first.count_params()
    cache = DecompositionCache()
    rows = []
    for model, budget in zip((first, second), BUDGETS, strict=True):
        rows.append(measure(model, budget, cache))
        console.print(f"budget {budget:g}: {rows[-1]['seconds']:.1f} s")
    show(
        f"{parameters / 1e6:.0f} M parameters: {sum(sizes):.0f} MiB, the largest kernel "
        f"{max(sizes):.0f} MiB",
        ["budget", "seconds", "CPU s", "spectra", "allocation", "surgery", "peak, MiB", "energy"],
        [
            [
                row["budget"],
                f"{row['seconds']:.1f}",
                f"{row['processor_seconds']:.1f}",
                *(f"{row['parts_seconds'][p]:.1f}" for p in ("spectra", "allocation", "surgery")),
                f"{row['peak_mib']:.0f}",
                f"{row['mean_energy']:.3f}",
            ]
            for row in rows
        ],
    )
    goals = {
        "a cut takes at most 20 s": rows[0]["seconds"] <= 20,
        "another budget of the same weights at most 2 s": rows[1]["seconds"] <= 2,
        "memory beside the model at most 4 x the largest kernel": all(
            row["peak_mib"] <= 4 * max(sizes) for row in rows
        ),
    }
    for text, reached in goals.items():
        console.print(f"{'reached' if reached else 'MISSED '}  {text}")
    model = {"parameters": parameters, "mib": sum(sizes), "largest_kernel_mib": max(sizes)}
    finish({"rows": rows, "model": model, "goals": goals, "settings": vars(args)})


if __name__ == "__main__":
    main()
