"""A base trained on five digits, a new head for the other five, then all of it made small.

In a fit, frozen kernels are left alone: they could not learn to make up for a cut.

    python examples/transfer_learning.py
"""

from __future__ import annotations

import argparse

import keras

from reducible_train import RankScheduler
from reducible_train.datasets import load

LOSS = "sparse_categorical_crossentropy"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    args = parser.parse_args()
    data = load("digits")
    old, new, test = data.y_train < 5, data.y_train >= 5, data.y_test >= 5
    x_new, y_new = data.x_train[new], data.y_train[new] - 5
    x_test, y_test = data.x_test[test], data.y_test[test] - 5

    keras.utils.set_random_seed(0)
    inputs = keras.Input((data.features,))
    x = keras.layers.Dense(256, activation="relu", name="dense_1")(inputs)
    x = keras.layers.Dense(256, activation="relu", name="dense_2")(x)
    base = keras.Model(inputs, x, name="base")
    first = keras.Sequential([base, keras.layers.Dense(5, activation="softmax")])
    first.compile("adam", LOSS)
    first.fit(data.x_train[old], data.y_train[old], epochs=args.epochs, verbose=0)

    base.trainable = False
    x = keras.layers.Dense(64, activation="relu", name="head_1")(base(inputs))
    outputs = keras.layers.Dense(5, activation="softmax", name="head_2")(x)
    model = keras.Model(inputs, outputs)
    model.compile("adam", LOSS, metrics=["accuracy"])
    model.fit(x_new, y_new, epochs=args.epochs, verbose=0)
    print(f"frozen base: test accuracy {model.evaluate(x_test, y_test, verbose=0)[1]:.4f}")

    base.trainable = True
    model.compile(keras.optimizers.Adam(3e-4), LOSS, metrics=["accuracy"])
    scheduler = RankScheduler(0.2)
    callbacks = [scheduler]
    model.fit(x_new, y_new, epochs=max(1, args.epochs // 2), callbacks=callbacks, verbose=0)
    print(scheduler.report)
    print(f"a fifth of it: test accuracy {model.evaluate(x_test, y_test, verbose=0)[1]:.4f}")


if __name__ == "__main__":
    main()
