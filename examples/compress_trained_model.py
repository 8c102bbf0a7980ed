"""A network that is trained already: cut without training, cut and fine-tuned, and by a ramp.

All get the same budget, and the fine-tuned ones the same further epochs.

    python examples/compress_trained_model.py
"""

from __future__ import annotations

import argparse

import keras

from reducible_train import Ramp, RankScheduler, factorize
from reducible_train.datasets import Dataset, load


def trained(data: Dataset, epochs: int) -> keras.Model:
    """Stands for the model you have; `keras.saving.load_model("yours.keras")` otherwise."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((data.features,))
    x = keras.layers.Dense(256, activation="relu", name="wide")(inputs)
    x = keras.layers.Dense(128, activation="relu", name="narrow")(x)
    outputs = keras.layers.Dense(data.classes, activation="softmax", name="output")(x)
    model = keras.Model(inputs, outputs, name="trained")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(data.x_train, data.y_train, epochs=epochs, verbose=0)
    return model


def recompiled(model: keras.Model) -> keras.Model:
    """A copy with the same weights and a gentle, fresh optimizer."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    copy.compile(keras.optimizers.Adam(3e-4), model.loss, metrics=["accuracy"])
    return copy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits", help="digits, mnist or fashion_mnist")
    parser.add_argument("--epochs", type=int, default=12, help="before, and again after")
    parser.add_argument("--budget", type=float, default=0.2)
    args = parser.parse_args()
    if args.epochs < 2:
        parser.error("--epochs must be at least 2: the ramp needs an epoch to fall in")
    data = load(args.data)
    model = trained(data, args.epochs)

    def accuracy(model: keras.Model) -> float:
        return model.evaluate(data.x_test, data.y_test, verbose=0, return_dict=True)["accuracy"]

    print(f"dense: test accuracy {accuracy(model):.4f}")

    at_once = recompiled(model)
    print(factorize(at_once, args.budget, calibration=(data.x_train, data.y_train)))
    print(f"cut at once: test accuracy {accuracy(at_once):.4f}")

    ways = {
        "cut at once, then trained on": args.budget,
        "cut slowly while it trains on": Ramp(1.0, args.budget, 0, args.epochs // 2),
    }
    for name, budget in ways.items():
        student = recompiled(model)
        callbacks = [RankScheduler(budget)]
        student.fit(data.x_train, data.y_train, epochs=args.epochs, callbacks=callbacks, verbose=0)
        print(f"{name}: test accuracy {accuracy(student):.4f}")


if __name__ == "__main__":
    main()
