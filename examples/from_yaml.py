"""Everything from a YAML file: optimizer, schedule, rules, TensorBoard.

python examples/from_yaml.py configs/layer_rules.yaml
"""

from __future__ import annotations

import argparse

import keras

from reducible_train import ConfigError, load_config
from reducible_train.datasets import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", default="configs/ramp.yaml")
    parser.add_argument("--data", default="digits", help="digits, mnist or fashion_mnist")
    args = parser.parse_args()
    try:
        config = load_config(args.config)
    except ConfigError as error:  # every mistake of the file, each with its place
        parser.exit(2, f"{error}\n")

    data = load(args.data)
    keras.utils.set_random_seed(config.training.seed or 0)
    model = keras.Sequential(
        [
            keras.Input((data.features,)),
            keras.layers.Dense(256, activation="relu", name="hidden_1"),
            keras.layers.Dense(256, activation="relu", name="hidden_2"),
            keras.layers.Dense(data.classes, activation="softmax", name="output"),
        ]
    )
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    config.compile(model, samples=len(data.x_train))  # adds the file's optimizer
    scheduler, *listeners = config.callbacks()
    model.fit(
        data.x_train,
        data.y_train,
        epochs=config.training.epochs,
        batch_size=config.training.batch_size,
        validation_data=(data.x_val, data.y_val),
        callbacks=[scheduler, *listeners],
        verbose=2,
    )
    print(scheduler.report)


if __name__ == "__main__":
    main()
