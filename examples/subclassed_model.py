"""A model class of your own, with layers in a list; its file is read into a new object.

python examples/subclassed_model.py
"""

from __future__ import annotations

import argparse

import keras
import numpy as np

from reducible_train import (
    LayerRule,
    PiecewiseConstant,
    RankScheduler,
    load_weights_into,
    save_model,
)
from reducible_train.datasets import load


class Residual(keras.Model):
    """A stem, some residual blocks, a head."""

    def __init__(self, classes: int, width: int = 128, depth: int = 3):
        super().__init__()
        self.stem = keras.layers.Dense(width, activation="relu")
        self.blocks = [keras.layers.Dense(width, activation="relu") for _ in range(depth)]
        self.head = keras.layers.Dense(classes)

    def call(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits", help="digits, mnist or fashion_mnist")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", default="residual.reducible")
    args = parser.parse_args()
    data = load(args.data)
    keras.utils.set_random_seed(2)
    model = Residual(data.classes)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])

    third = args.epochs // 3
    scheduler = RankScheduler(
        rank=PiecewiseConstant(values=(128, 32, 12), start_epochs=(0, third, 2 * third)),
        rules=[
            LayerRule("stem", keep_dense=True),  # names are those of the attributes
            LayerRule("blocks/0", min_rank=24),
        ],
    )
    model.fit(
        data.x_train,
        data.y_train,
        epochs=args.epochs,
        validation_data=(data.x_val, data.y_val),
        callbacks=[scheduler],
        verbose=2,
    )
    print(scheduler.report)

    # The class is yours, so you make the object; ranks and weights come from the file.
    save_model(model, args.out, scheduler.report)
    twin = Residual(data.classes)
    twin(data.x_test[:1])
    load_weights_into(twin, args.out)
    same = np.array_equal(
        model.predict(data.x_test, verbose=0), twin.predict(data.x_test, verbose=0)
    )
    print(f"read back into a new object: {'the same predictions' if same else 'it differs!'}")


if __name__ == "__main__":
    main()
