"""An LSTM that reads the rows of a digit one after the other, at half of its size.

python examples/lstm.py
"""

from __future__ import annotations

import argparse

import keras

from reducible_train import RankScheduler
from reducible_train.datasets import load

LOSS = "sparse_categorical_crossentropy"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=15, help="of the training; then a third")
    args = parser.parse_args()
    data = load("digits")
    rows = (-1, 8, data.features // 8)
    x_train, x_val, x_test = (x.reshape(rows) for x in (data.x_train, data.x_val, data.x_test))

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(rows[1:]),
            keras.layers.LSTM(96, name="lstm"),
            keras.layers.Dense(data.classes, activation="softmax", name="output"),
        ]
    )
    model.compile(keras.optimizers.Adam(3e-3), LOSS, metrics=["accuracy"])
    model.fit(x_train, data.y_train, epochs=args.epochs, verbose=0)
    print(f"dense: test accuracy {model.evaluate(x_test, data.y_test, verbose=0)[1]:.4f}")

    # Both kernels of an LSTM are cut, the four gates of each side by side.
    model.compile(keras.optimizers.Adam(1e-3), LOSS, metrics=["accuracy"])
    scheduler = RankScheduler(0.5)
    model.fit(
        x_train,
        data.y_train,
        epochs=max(1, args.epochs // 3),
        validation_data=(x_val, data.y_val),
        callbacks=[scheduler],
        verbose=0,
    )
    print(scheduler.report)
    print(f"half the size: test accuracy {model.evaluate(x_test, data.y_test, verbose=0)[1]:.4f}")


if __name__ == "__main__":
    main()
