"""The accuracy is given, not the size: a guard beside a schedule, and a search in its place.

python examples/accuracy_first.py
"""

from __future__ import annotations

import argparse

import keras

from reducible_train import Guard, Ramp, RankScheduler, Search
from reducible_train.datasets import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits", help="digits, mnist or fashion_mnist")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--max-drop", type=float, default=0.01, help="of the validation accuracy")
    args = parser.parse_args()
    data = load(args.data)
    keras.utils.set_random_seed(0)
    dense = keras.Sequential([keras.Input((data.features,))])
    for index in (1, 2):
        dense.add(keras.layers.Dense(256, activation="relu", name=f"hidden_{index}"))
    dense.add(keras.layers.Dense(data.classes, activation="softmax", name="output"))
    dense.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    dense.fit(data.x_train, data.y_train, epochs=args.epochs, verbose=0)

    guard = Guard("val_accuracy", max_drop=args.max_drop)
    ways = {
        "a ramp that the guard may stop": RankScheduler(
            Ramp(1.0, 0.05, start_epoch=1, end_epoch=max(2, args.epochs // 2)), guard=guard
        ),
        "a search": RankScheduler(search=Search(start_epoch=1), guard=guard),
    }
    for name, scheduler in ways.items():
        model = keras.models.clone_model(dense)
        model.set_weights(dense.get_weights())
        model.compile(keras.optimizers.Adam(5e-4), dense.loss, metrics=["accuracy"])
        model.fit(
            data.x_train,
            data.y_train,
            epochs=args.epochs,
            validation_data=(data.x_val, data.y_val),
            callbacks=[scheduler],
            verbose=0,
        )
        accuracy = model.evaluate(data.x_test, data.y_test, verbose=0)[1]
        print(scheduler.report)
        print(f"{name}: test accuracy {accuracy:.4f}\n")


if __name__ == "__main__":
    main()
