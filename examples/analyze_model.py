"""Learn what each kernel of a trained model is worth, before anything is cut.

Run it: python examples/analyze_model.py
"""

from __future__ import annotations

import argparse

import keras

from reducible_train import LayerRule, analyze
from reducible_train.datasets import load


def main() -> None:
    """Train, analyse, and compare a prediction with what came."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    epochs = parser.parse_args().epochs
    data = load("digits")
    model = keras.Sequential(
        [
            keras.Input((data.features,)),
            keras.layers.Dense(128, activation="relu", name="hidden_1"),
            keras.layers.Dense(128, activation="relu", name="hidden_2"),
            keras.layers.Dense(data.classes, activation="softmax", name="output"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(data.x_train, data.y_train, epochs=epochs, verbose=0)

    judged = (data.x_val, data.y_val)
    table = analyze(
        model,
        judged,
        rules=[LayerRule("output", keep_dense=False)],
        file="analysis.json",  # run it again after an interruption, and it goes on
        progress=lambda done, count, path: print(f"{done}/{count} {path}"),
    )
    print(table)
    ranks = {kernel.path: kernel.ranks[3] for kernel in table.kernels}
    print(
        f"all at 40 % of their parameters, predicted {table.metric}: {table.predicted(ranks):.4f}"
    )


if __name__ == "__main__":
    main()
