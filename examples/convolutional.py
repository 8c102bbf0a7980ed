"""A convolutional network with BatchNorm, at a third of its parameters and half of its FLOPs.

python examples/convolutional.py                        # digits, seconds
python examples/convolutional.py --data fashion_mnist --epochs 9
"""

from __future__ import annotations

import argparse

import keras
import numpy as np

from reducible_train import RankScheduler, save_model
from reducible_train.datasets import Dataset, load


def images(flat: np.ndarray) -> np.ndarray:
    """`(samples, side * side)` as `(samples, side, side, 1)`."""
    side = round(flat.shape[1] ** 0.5)
    return flat.reshape(-1, side, side, 1)


def network(data: Dataset) -> keras.Model:
    """Three convolutions, and a dense layer."""
    inputs = x = keras.Input(images(data.x_test).shape[1:])
    for block, filters in enumerate((32, 64, 64), start=1):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv_{block}")(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
        x = keras.layers.MaxPooling2D()(x) if block < 3 else x
    x = keras.layers.Dense(64, activation="relu", name="hidden")(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(data.classes, name="output")(x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits", help="digits, mnist or fashion_mnist")
    parser.add_argument("--epochs", type=int, default=9, help="of the training; then a third of it")
    parser.add_argument("--out", default="convolutional.reducible")
    args = parser.parse_args()
    data = load(args.data)
    x_train, x_val, x_test = map(images, (data.x_train, data.x_val, data.x_test))
    keras.utils.set_random_seed(0)
    model = network(data)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    model.fit(x_train, data.y_train, epochs=args.epochs, batch_size=64, verbose=0)
    print(f"dense: test accuracy {model.evaluate(x_test, data.y_test, verbose=0)[1]:.4f}")

    # Both budgets are met by one cut, before the first step; then half of the learning rate.
    model.compile(keras.optimizers.Adam(5e-4), loss, metrics=["accuracy"])
    scheduler = RankScheduler(budget={"parameters": 0.33, "flops": 0.5})
    model.fit(
        x_train,
        data.y_train,
        epochs=max(1, args.epochs // 3),
        batch_size=64,
        validation_data=(x_val, data.y_val),
        callbacks=[scheduler],
        verbose=0,
    )
    print(scheduler.report)
    print(f"small: test accuracy {model.evaluate(x_test, data.y_test, verbose=0)[1]:.4f}")
    print(f"{save_model(model, args.out, scheduler.report).bytes:,} bytes in {args.out}")


if __name__ == "__main__":
    main()
