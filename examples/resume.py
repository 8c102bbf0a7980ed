"""A training that is broken off in its middle, and goes on in another process.

Run it twice: the first run stops by itself after --stop epochs, the second one goes on.

    python examples/resume.py --stop 5; python examples/resume.py
"""

from __future__ import annotations

import argparse
import sys

import keras

from reducible_train import (
    Ramp,
    RankBackupAndRestore,
    RankModelCheckpoint,
    RankScheduler,
    load_model,
)
from reducible_train.datasets import load


class Stop(keras.callbacks.Callback):
    """Breaks a training off, as a power cut would."""

    def __init__(self, epoch: int):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if epoch == self.epoch:
            sys.exit(f"broken off before epoch {epoch}; run it again without --stop")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--stop", type=int, help="epoch before which the process ends")
    parser.add_argument("--folder", default="backup")
    args = parser.parse_args()
    data = load("digits")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((data.features,)),
            keras.layers.Dense(256, activation="relu", name="hidden"),
            keras.layers.Dense(data.classes, activation="softmax", name="output"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    scheduler = RankScheduler(Ramp(1.0, 0.4, start_epoch=1, end_epoch=args.epochs // 2))
    callbacks = [
        scheduler,
        RankModelCheckpoint(scheduler, "best.reducible", "val_loss"),
        RankBackupAndRestore(scheduler, args.folder),  # the last one: what it keeps is complete
    ]
    if args.stop is not None:
        callbacks.append(Stop(args.stop))
    history = model.fit(
        data.x_train,
        data.y_train,
        epochs=args.epochs,
        validation_data=(data.x_val, data.y_val),
        callbacks=callbacks,
        verbose=0,
    )
    print(f"epochs trained by this process: {[epoch + 1 for epoch in history.epoch]}")
    print(scheduler.report)
    best = load_model("best.reducible")
    best.compile(loss=model.loss, metrics=["accuracy"])
    print(f"best epoch: test accuracy {best.evaluate(data.x_test, data.y_test, verbose=0)[1]:.4f}")


if __name__ == "__main__":
    main()
