"""The ancestor's network on MNIST: accuracy against parameters and bytes, five seeds.

784-128-128-128-10, Adam with ONE cosine decay over all epochs; every way trains equally
long on the same samples in the same order:

- dense;
- the ancestor's way: the trained dense network cut at one fraction of full rank in every
  layer, the output layer too, and not trained again;
- the same cut with the ranks of `factorize` (output layer dense), not trained again;
- dense for three quarters of the epochs, cut at once, fine-tuned for the rest;
- `RankScheduler` with a ramp.

Ranks come from spectra, budget and training samples alone; settings were chosen on the
validation split (`--measure validation`), the figures are of the test split.
Bytes of the compact file are compared with the dense `.keras` without optimizer state.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
from common import (
    accuracy,
    command,
    compile_model,
    console,
    deviation,
    finish,
    keras_bytes,
    load,
    network,
    parser,
    show,
    train,
)

from reducible_train import LayerRule, PiecewiseConstant, Ramp, RankScheduler, factorize, save_model
from reducible_train.datasets import Dataset

HIDDEN = (128, 128, 128)
FEWER = (0.66, 0.79)  # fractions of the parameters taken away
LOST = {0.66: 0.1, 0.79: 0.45}  # points that may be lost


def fit(data: Dataset, seed: int, args, callbacks: list) -> keras.Model:
    """One fit, all epochs."""
    return train(
        lambda features: network(features, HIDDEN),
        data,
        seed=seed,
        epochs=args.epochs,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        callbacks=callbacks,
    )


def ancestor_ranks(features: int, budget: float) -> tuple[int, int]:
    """Rank of hidden and of output kernels: the largest common fraction the budget allows."""
    sizes = (features, *HIDDEN, 10)
    biases = sum(sizes[1:])
    shapes = list(pairwise(sizes))
    dense = sum(m * n for m, n in shapes) + biases
    best = (1, 1)
    for hidden in range(1, HIDDEN[0] + 1):
        output = max(1, round(10 * hidden / HIDDEN[0]))
        ranks = [hidden] * len(HIDDEN) + [output]
        cost = sum(r * (m + n) for r, (m, n) in zip(ranks, shapes, strict=True)) + biases
        if cost <= budget * dense:
            best = (hidden, output)
    return best


def ways(
    data: Dataset, seed: int, args, folder: Path
) -> dict[tuple[str, float], tuple[keras.Model, int]]:
    """Every way's model and the bytes of its file."""
    made: dict[tuple[str, float], tuple[keras.Model, int]] = {}

    def keep(name: str, fewer: float, model: keras.Model, report=None) -> None:
        made[name, fewer] = (model, save_model(model, folder / "model.reducible", report).bytes)

    dense = fit(data, seed, args, [])
    made["dense", 0.0] = (dense, keras_bytes(dense, folder))
    for fewer in FEWER:
        budget = 1.0 - fewer
        model = copy_of(dense, data.features)
        hidden, output = ancestor_ranks(data.features, budget)
        report = factorize(
            model, rank=hidden, rules=[LayerRule("output", keep_dense=False, rank=output)]
        )
        keep("ancestor's way", fewer, model, report)
        model = copy_of(dense, data.features)
        keep(
            "cut, not trained again",
            fewer,
            model,
            factorize(
                model,
                budget=budget,
                allocation=args.allocation,
                criterion=args.criterion,
                calibration=None if args.criterion == "frobenius" else data.x_train[:2048],
            ),
        )
        schedules: dict[str, Callable] = {
            "cut, then fine-tuned": lambda b: PiecewiseConstant(
                values=(1.0, b), start_epochs=(0, args.epochs * 3 // 4)
            ),
            "ramp": lambda b: Ramp(1.0, b, args.start_epoch, args.end_epoch, args.shape),
        }
        for name, schedule in schedules.items():
            if args.only and name not in args.only:
                continue
            scheduler = RankScheduler(
                budget=schedule(budget), allocation=args.allocation, criterion=args.criterion
            )
            model = fit(data, seed, args, [scheduler])
            keep(name, fewer, model, scheduler.report)
    return made


def copy_of(model: keras.Model, features: int) -> keras.Model:
    """A dense network with the same weights."""
    copy = compile_model(network(features, HIDDEN))
    copy.set_weights(model.get_weights())
    return copy


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--epochs", type=int, default=16)
    options.add_argument("--batch-size", type=int, default=128)
    options.add_argument("--learning-rate", type=float, default=2e-3)
    options.add_argument("--start-epoch", type=float, default=1)
    options.add_argument("--end-epoch", type=float, default=4)
    options.add_argument("--shape", default="cubic")
    options.add_argument("--allocation", default="knapsack")
    options.add_argument("--criterion", default="activation")
    options.add_argument("--first-seed", type=int, default=0)
    options.add_argument("--measure", default="test", choices=["test", "validation"])
    options.add_argument("--only", nargs="*", help="trained ways to run beside the dense one")
    args = options.parse_args()
    console.print(f"$ {command()}")
    data = load(args.data)
    x, y = (data.x_test, data.y_test) if args.measure == "test" else (data.x_val, data.y_val)
    right: dict[tuple[str, float], list[float]] = {}
    sizes: dict[tuple[str, float], list[tuple[int, int]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            for key, (model, nbytes) in ways(data, seed, args, Path(folder)).items():
                right.setdefault(key, []).append(accuracy(model, x, y))
                sizes.setdefault(key, []).append((model.count_params(), nbytes))
            console.print(
                f"seed {seed}: "
                + ", ".join(f"{name} {fewer:g} {v[-1]:.2f}" for (name, fewer), v in right.items())
            )
            keras.backend.clear_session()
    report(args, right, sizes)


def report(args, right: dict, sizes: dict) -> None:
    """Table and figures."""
    dense = np.array(right["dense", 0.0])
    dense_parameters, dense_bytes = sizes["dense", 0.0][0]
    rows, figures, goals = [], [], {}
    for (name, fewer), values in right.items():
        parameters, nbytes = np.array(sizes[name, fewer]).T
        lost = dense - np.array(values)
        predicted = 1 - parameters / dense_parameters
        actual = 1 - nbytes / dense_bytes
        figures.append(
            {
                "way": name,
                "target": fewer,
                "accuracy": np.mean(values),
                "accuracy_std": deviation(values),
                "points_lost": lost.mean(),
                "points_lost_std": deviation(lost),
                "parameters": parameters.max(),
                "fewer_parameters": predicted.min(),
                "file_bytes": nbytes.max(),
                "smaller_file": actual.min(),
            }
        )
        rows.append(
            [
                name,
                f"{parameters.max():,}",
                f"{100 * predicted.min():.1f}",
                f"{100 * actual.min():.1f}" if fewer else "",
                f"{np.mean(values):.2f} ± {deviation(values):.2f}",
                f"{lost.mean():.2f} ± {deviation(lost):.2f}" if fewer else "",
            ]
        )
        if name == "ramp":
            goals[f"at {fewer:.0%} fewer, at most {LOST[fewer]} points lost"] = bool(
                predicted.min() >= fewer and lost.mean() <= LOST[fewer]
            )
            goals[f"at {fewer:.0%} fewer, file at least as much smaller"] = bool(
                (actual >= predicted).all()
            )
    columns = ["way", "parameters", "% fewer", "file % smaller", "accuracy %", "points lost"]
    show(
        f"{args.data}, {args.measure} split, {args.epochs} epochs, {args.seeds} seeds",
        columns,
        rows,
    )
    for goal, reached in goals.items():
        console.print(f"{'reached' if reached else 'MISSED '}  {goal}")
    finish({"measure": args.measure, "settings": vars(args), "ways": figures, "goals": goals})


if __name__ == "__main__":
    main()
