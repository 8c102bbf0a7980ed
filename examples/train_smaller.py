"""One callback: train a classifier while its ranks fall, watch it, save it small.

python examples/train_smaller.py                  # digits, seconds
python examples/train_smaller.py --data mnist --epochs 16
"""

from __future__ import annotations

import argparse

import keras

from reducible_train import Ramp, RankScheduler, RankTensorBoard, load_model, save_model
from reducible_train.datasets import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits", help="digits, mnist or fashion_mnist")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--out", default="smaller.reducible")
    parser.add_argument("--logs", default="logs/train_smaller")
    args = parser.parse_args()

    data = load(args.data)
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((data.features,)),
            keras.layers.Dense(256, activation="relu", name="hidden_1"),
            keras.layers.Dense(256, activation="relu", name="hidden_2"),
            keras.layers.Dense(data.classes, activation="softmax", name="output"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

    # Dense for two epochs; then down to a quarter of the parameters over four; then recover.
    scheduler = RankScheduler(budget=Ramp(initial=1.0, final=0.25, start_epoch=2, end_epoch=6))
    model.fit(
        data.x_train,
        data.y_train,
        epochs=args.epochs,
        validation_data=(data.x_val, data.y_val),
        callbacks=[scheduler, RankTensorBoard(scheduler, args.logs)],
        verbose=2,
    )
    print(scheduler.report)

    saved = save_model(model, args.out, scheduler.report)
    print(f"{saved.path}: {saved.bytes:,} bytes, {saved.size_fraction:.0%} of the dense weights")

    again = load_model(args.out)
    again.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    _, accuracy = again.evaluate(data.x_test, data.y_test, verbose=0)
    print(f"test accuracy of the file: {accuracy:.4f}")
    print(f"look at it: tensorboard --logdir {args.logs}")


if __name__ == "__main__":
    main()
