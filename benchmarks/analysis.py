"""Does the sum of single changes order joint cuts as they are? And how long does a table take?

A LeNet-5-like network is trained and analysed on samples held out; then all its kernels are cut
at once to ranks drawn at random, and the predicted loss is compared with the loss on the same
samples and on the test split (Spearman's rank correlation).

    python benchmarks/analysis.py --data digits
    python benchmarks/analysis.py --data mnist --deep 50  # only the time, of so many kernels
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import keras
import numpy as np
from common import command, console, finish, show

from reducible_train import LayerRule, analyze, factorize
from reducible_train.datasets import Dataset, load


def network(data: Dataset, seed: int) -> Any:
    """Two convolutions, two dense layers."""
    keras.utils.set_random_seed(seed)
    side = round(data.features**0.5)
    model = keras.Sequential(
        [
            keras.Input((data.features,)),
            keras.layers.Reshape((side, side, 1)),
            keras.layers.Conv2D(20, 3, padding="same", activation="relu", name="conv_1"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(50, 3, padding="same", activation="relu", name="conv_2"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(120, activation="relu", name="dense_1"),
            keras.layers.Dense(84, activation="relu", name="dense_2"),
            keras.layers.Dense(data.classes, activation="softmax", name="output"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def deep(data: Dataset, kernels: int) -> Any:
    """A residual network of dense layers."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((data.features,))
    x = keras.layers.Dense(128, activation="relu")(inputs)
    small = keras.initializers.VarianceScaling(0.1)
    for _ in range(kernels - 1):
        branch = keras.layers.Dense(128, activation="relu", kernel_initializer=small)
        x = keras.layers.add([x, branch(x)])
    model = keras.Model(inputs, keras.layers.Dense(data.classes, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def timed(name: str, kernels: int) -> dict[str, float]:
    """Seconds of a whole table beside one epoch."""
    data = load(name)
    model = deep(data, kernels)
    model.fit(data.x_train[:640], data.y_train[:640], verbose=0)  # traced beforehand
    started = time.perf_counter()
    model.fit(data.x_train, data.y_train, verbose=0)
    trained = time.perf_counter()
    table = analyze(model, (data.x_val, data.y_val))
    return {
        "kernels": len(table.kernels),
        "samples": table.samples,
        "standard_error": table.error or 0.0,
        "epoch_seconds": trained - started,
        "analysis_seconds": time.perf_counter() - trained,
    }


def spearman(one: list[float], two: list[float]) -> float:
    """The correlation of the ranks, for numbers that are all different."""
    ranks = [np.argsort(np.argsort(each)) for each in (one, two)]
    return float(np.corrcoef(*ranks)[0, 1])


def measured(name: str, seed: int, epochs: int, count: int) -> dict[str, float]:
    """One seed: correlations and seconds."""
    data = load(name)
    model = network(data, seed)
    model.fit(data.x_train, data.y_train, epochs=epochs - 1, verbose=0)
    started = time.perf_counter()
    model.fit(data.x_train, data.y_train, epochs=1, verbose=0)
    epoch = time.perf_counter() - started
    x, y = data.x_val, data.y_val
    started = time.perf_counter()
    table = analyze(model, (x, y))
    seconds = time.perf_counter() - started
    rng = np.random.default_rng(seed)
    losses: dict[str, list[float]] = {"predicted": [], "same": [], "test": []}
    for _ in range(count):
        ranks = {k.path: int(rng.integers(1, k.break_even_rank + 1)) for k in table.kernels}
        cut = keras.models.clone_model(model)
        cut.set_weights(model.get_weights())
        rules = [LayerRule(path.rpartition("/")[0], rank=rank) for path, rank in ranks.items()]
        factorize(cut, rank=1, rules=rules)
        cut.compile(loss="sparse_categorical_crossentropy")
        losses["predicted"].append(table.predicted(ranks))
        losses["same"].append(cut.evaluate(x, y, verbose=0, return_dict=True)["loss"])
        told = cut.evaluate(data.x_test, data.y_test, verbose=0, return_dict=True)
        losses["test"].append(told["loss"])
    return {
        "seed": seed,
        "spearman": spearman(losses["predicted"], losses["same"]),
        "spearman_test": spearman(losses["predicted"], losses["test"]),
        "epoch_seconds": epoch,
        "analysis_seconds": seconds,
        "kernels": len(table.kernels),
        "samples": table.samples,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", default="digits")
    options.add_argument("--epochs", type=int, default=12)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--cuts", type=int, default=40)
    options.add_argument("--deep", type=int, default=0)
    args = options.parse_args()
    console.print(f"$ {command()}")
    if args.deep:
        found = timed(args.data, args.deep)
        show(f"{args.data}, deep", list(found), [[f"{each:.3g}" for each in found.values()]])
        finish({"data": args.data, "deep": found})
        return
    rows = []
    for seed in range(args.seeds):
        rows.append(measured(args.data, seed, args.epochs, args.cuts))
        console.print(json.dumps(rows[-1]))
    names = ["spearman", "spearman_test", "epoch_seconds", "analysis_seconds", "kernels"]
    show(args.data, ["seed", *names], [[f"{row[n]:.3g}" for n in ("seed", *names)] for row in rows])
    finish({"data": args.data, "epochs": args.epochs, "cuts": args.cuts, "rows": rows})


if __name__ == "__main__":
    main()
