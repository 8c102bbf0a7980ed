"""Is a budget better shared by what an analysis has measured?

The LeNet-5-like network of `analysis.py` is trained and analysed on samples held out. Copies of it
are cut once to several budgets, shared by the default or by the analysis, judged by training
samples or, without any, by the kernels alone; nothing is trained afterwards.

    python benchmarks/sharing.py
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import keras
from analysis import network
from common import command, console, finish, show

from reducible_train import analyze, factorize
from reducible_train.datasets import load

BUDGETS = (0.5, 0.35, 0.25, 0.15)


def measured(name: str, seed: int, epochs: int) -> list[dict[str, Any]]:
    """One seed: loss and accuracy on the test split right after each cut."""
    data = load(name)
    model = network(data, seed)
    model.fit(data.x_train, data.y_train, epochs=epochs, verbose=0)
    table = analyze(model, (data.x_val, data.y_val))
    samples = (data.x_train[:2048], data.y_train[:2048])
    rows = []
    for budget in BUDGETS:
        for calibration in (samples, None):
            for criterion in ("auto", "measured"):
                cut = keras.models.clone_model(model)
                cut.set_weights(model.get_weights())
                cut.compile("adam", model.loss, metrics=["accuracy"])
                analysis = table if criterion == "measured" else None
                factorize(
                    cut, budget, criterion=criterion, analysis=analysis, calibration=calibration
                )
                told = cut.evaluate(data.x_test, data.y_test, verbose=0, return_dict=True)
                row = {"seed": seed, "budget": budget, "criterion": criterion}
                row |= {"judged_by_data": calibration is not None}
                rows.append(row | {"loss": told["loss"], "accuracy": 100 * told["accuracy"]})
                console.print(json.dumps(rows[-1]))
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", default="digits")
    options.add_argument("--epochs", type=int, default=12)
    options.add_argument("--seeds", type=int, default=2)
    args = options.parse_args()
    console.print(f"$ {command()}")
    rows = [row for seed in range(args.seeds) for row in measured(args.data, seed, args.epochs)]
    names = ["seed", "budget", "judged_by_data", "criterion", "loss", "accuracy"]
    show(
        args.data,
        names,
        [[f"{row[n]:.3g}" if n in names[4:] else row[n] for n in names] for row in rows],
    )
    finish({"data": args.data, "epochs": args.epochs, "rows": rows})


if __name__ == "__main__":
    main()
