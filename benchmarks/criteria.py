"""Criteria after fine-tuning: the same fit, its cuts decided by energy, activations or Fisher.

A criterion chooses directions within a kernel, and through its spectra the ranks of the kernels
(allocation by knapsack); with uniform allocation only the directions.

784-128-128-128-10, or an LSTM that reads images row by row; two dense epochs, down to the budget
over the next four, the rest at the final ranks. All start alike; data comes from the fit itself.
Beside it, the same dense network cut once to the budget and not trained on, which is what a
criterion is usually judged by.
"""

from __future__ import annotations

import itertools
import math
import time

import keras
import numpy as np
from common import (
    accuracy,
    command,
    compile_model,
    console,
    finish,
    load,
    network,
    parser,
    show,
    spread,
    train,
)

from reducible_train import Ramp, RankScheduler, factorize
from reducible_train.datasets import Dataset
from reducible_train.selection.criteria import criterion_names

BATCH = 128


def lstm(features: int) -> keras.Sequential:
    """An LSTM of 96 units that reads a square image a row at a time."""
    side = math.isqrt(features)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((features,)),
            layers.Reshape((side, side)),
            layers.LSTM(96, name="rows"),
            layers.Dense(10, name="output"),
        ]
    )


NETWORKS = {"mlp": lambda features: network(features, (128, 128, 128)), "lstm": lstm}


def cut_once(dense: keras.Model, data: Dataset, budget: float, **how: str) -> float:
    """Test accuracy of a copy, right after one cut."""
    model = compile_model(keras.models.clone_model(dense))
    model.set_weights(dense.get_weights())
    sample = (data.x_train[:2048], data.y_train[:2048])
    factorize(model, budget=budget, calibration=sample, **how)
    return accuracy(model, data.x_test, data.y_test)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--epochs", type=int, default=16)
    options.add_argument("--budgets", type=float, nargs="+", default=[0.34, 0.21, 0.1])
    options.add_argument("--allocations", nargs="+", default=["knapsack", "uniform"])
    options.add_argument("--network", choices=list(NETWORKS), default="mlp")
    options.add_argument("--criteria", nargs="+", default=list(criterion_names()))
    options.set_defaults(seeds=3)
    args = options.parse_args()
    console.print(f"$ {command()}")
    data = load(args.data)
    build = NETWORKS[args.network]
    figures: dict[str, dict[str, list[float]]] = {}

    def fit(seed: int, callbacks: list) -> keras.Model:
        recipe = {"epochs": args.epochs, "batch_size": BATCH, "learning_rate": 1e-3}
        return train(build, data, seed=seed, callbacks=callbacks, **recipe)

    def note(key: str, **values: float) -> None:
        for name, value in values.items():
            figures.setdefault(key, {}).setdefault(name, []).append(value)

    for seed in range(args.seeds):
        dense = fit(seed, [])
        note("dense", test_accuracy=accuracy(dense, data.x_test, data.y_test))
        for budget in args.budgets:
            for allocation, name in itertools.product(args.allocations, args.criteria):
                key = f"{name}, {allocation}, budget {budget:g}"
                how = {"criterion": name, "allocation": allocation}
                note(key, after_one_cut=cut_once(dense, data, budget, **how))
                scheduler = RankScheduler(
                    budget=Ramp(1.0, budget, start_epoch=2, end_epoch=6), **how
                )
                started = time.perf_counter()
                model = fit(seed, [scheduler])
                note(
                    key,
                    test_accuracy=accuracy(model, data.x_test, data.y_test),
                    seconds=time.perf_counter() - started,
                    seconds_of_cuts=scheduler.seconds,
                    **{
                        f"rank of {path.removesuffix('/kernel')}": rank or 0
                        for path, rank in (
                            (k.path, k.rank) for k in scheduler.report.kernels if not k.reason
                        )
                    },
                )
                console.print(f"seed {seed}, {key}: {figures[key]['test_accuracy'][-1]:.2f}")
    rows = [
        [
            key,
            spread(values["test_accuracy"], 2),
            spread(values["after_one_cut"], 2) if "after_one_cut" in values else "",
            f"{np.mean(values.get('seconds_of_cuts', [0.0])):.1f}",
        ]
        for key, values in figures.items()
    ]
    title = (
        f"test accuracy, %, {args.network}, {args.data}, {args.epochs} epochs, {args.seeds} seeds"
    )
    show(title, ["", "fine-tuned", "cut once, not trained", "s of cuts"], rows)
    finish({"epochs": args.epochs, "seeds": args.seeds, "figures": figures})


if __name__ == "__main__":
    main()
