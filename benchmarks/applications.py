"""`keras.applications` cut to 50 % of their FLOPs: what is compressible, how long the cut takes.

Random weights, 64 x 64 inputs, the tops included (the first Dense of VGG16 is 2048 x 4096 then; at
`--size 224` it is 25088 x 4096). After the cut, `predict` must equal the call, and a model read
from the compact file must predict the same. Budgets are shared by `allocation="uniform"`,
because there is nothing in random kernels to choose by. The seconds are those that the processor
spends in `factorize` as a whole: singular values, allocation and surgery; the wall clock's are
kept too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from common import command, console, finish, show

from reducible_train import factorize, load_model, save_model

BUDGET = 0.5
APPLICATIONS = keras.applications
MODELS: dict[str, Callable[..., keras.Model]] = {
    "ResNet50": APPLICATIONS.ResNet50,
    "MobileNetV3Large": APPLICATIONS.MobileNetV3Large,
    "EfficientNetV2B0": APPLICATIONS.EfficientNetV2B0,
    "ConvNeXtTiny": APPLICATIONS.ConvNeXtTiny,
    "VGG16": APPLICATIONS.VGG16,
}


def measure(name: str, size: int) -> dict[str, Any]:
    """One network: the cut, then the laws."""
    keras.utils.set_random_seed(1)
    model = MODELS[name](weights=None, input_shape=(size, size, 3))
    started, processor = time.perf_counter(), time.process_time()
    report = factorize(model, budget=BUDGET, measure="flops", allocation="uniform")
    seconds = time.perf_counter() - started
    processor_seconds = time.process_time() - processor
    x = np.random.default_rng(1).uniform(0, 255, (4, size, size, 3)).astype("float32")
    called = np.asarray(model(x, training=False))
    predicted = model.predict(x, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        saved = save_model(model, Path(folder) / "model.reducible", report)
        loaded = load_model(saved.path)
        again = loaded.predict(x, verbose=0)
    left = [k for k in report.kernels if k.rank is None]
    return {
        "model": name,
        "input": size,
        "parameters": report.dense_parameters,
        "kernels": len(report.kernels),
        "factorised": len(report.kernels) - len(left),
        "left": len(left),
        "reasons": Counter(k.reason or "full rank is cheaper" for k in left),
        "cut_seconds": seconds,
        "cut_processor_seconds": processor_seconds,
        "parts_seconds": dict(report.cuts[-1].seconds),
        "flops_fraction": report.flops_fraction,
        "parameters_fraction": report.size_fraction,
        "difference": float(np.abs(predicted - called).max() / np.abs(called).max()),
        "reload_equal": bool(np.array_equal(again, predicted)),
        "file_fraction": saved.size_fraction,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", nargs="+", choices=MODELS, default=list(MODELS))
    options.add_argument("--size", type=int, default=64)
    args = options.parse_args()
    console.print(f"$ {command()}")
    rows = []
    for name in args.only:
        keras.utils.clear_session()
        rows.append(measure(name, args.size))
        console.print(f"{name}: {rows[-1]['cut_processor_seconds']:.1f} s")
    show(
        f"keras.applications, {args.size} x {args.size}, cut to {BUDGET:.0%} of the FLOPs",
        [
            "model",
            "compressible",
            "left",
            "cut, CPU s",
            "FLOPs",
            "params",
            "predict - call",
            "reload",
        ],
        [
            [
                row["model"],
                row["factorised"],
                row["left"],
                f"{row['cut_processor_seconds']:.1f}",
                f"{row['flops_fraction']:.3f}",
                f"{row['parameters_fraction']:.3f}",
                f"{row['difference']:.1e}",
                "equal" if row["reload_equal"] else "DIFFERS",
            ]
            for row in rows
        ],
    )
    for row in rows:
        for reason, count in row["reasons"].items():
            console.print(f"{row['model']}: {count} left: {reason}")
    goals = {
        "FLOPs at most the budget": all(r["flops_fraction"] <= BUDGET for r in rows),
        "predict equals the call": all(r["difference"] <= 1e-4 for r in rows),
        "the file read back predicts the same": all(r["reload_equal"] for r in rows),
        "every kernel left has a reason": all(
            "full rank is cheaper" not in r["reasons"] for r in rows
        ),
    }
    for text, reached in goals.items():
        console.print(f"{'reached' if reached else 'MISSED '}  {text}")
    finish({"rows": rows, "goals": goals, "settings": vars(args) | {"budget": BUDGET}})


if __name__ == "__main__":
    main()
