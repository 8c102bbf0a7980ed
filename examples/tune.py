"""A search by keras-tuner: the smallest network that loses at most half a point, and the front.

python examples/tune.py                           # digits, a minute
python examples/tune.py --data mnist --trials 20 --epochs 4
"""

from __future__ import annotations

import argparse

import keras
import keras_tuner

from reducible_train import RankHyperModel, SearchSpace, SizeAtQuality, load_model
from reducible_train.datasets import load
from reducible_train.tuner import pareto


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits", help="digits, mnist or fashion_mnist")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3, help="of each trial")
    args = parser.parse_args()

    data = load(args.data)
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((data.features,)),
            keras.layers.Dense(128, activation="relu", name="hidden_1"),
            keras.layers.Dense(128, activation="relu", name="hidden_2"),
            keras.layers.Dense(data.classes, activation="softmax", name="output"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(data.x_train, data.y_train, epochs=2 * args.epochs, verbose=2)

    # Each trial copies the trained model, lowers its ranks as it is told, and trains on.
    hypermodel = RankHyperModel(
        model,
        SearchSpace(budget=(0.15, 0.7), ramp=(0.0, 0.5), allocation=("knapsack", "equal_energy")),
        objective=SizeAtQuality("val_accuracy", max_drop=0.005),
    )
    tuner = keras_tuner.RandomSearch(
        hypermodel, hypermodel.objective, max_trials=args.trials, seed=1, overwrite=True
    )
    tuner.search(
        data.x_train,
        data.y_train,
        epochs=args.epochs,
        validation_data=(data.x_val, data.y_val),
        verbose=0,
    )
    front = pareto(tuner)
    print(front)

    best = tuner.oracle.get_best_trials(1)[0]
    small = load_model(f"{tuner.get_trial_dir(best.trial_id)}/model.reducible")
    small.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    _, accuracy = small.evaluate(data.x_test, data.y_test, verbose=0)
    print(
        f"best: {small.count_params():,} of {model.count_params():,} parameters, "
        f"test accuracy {accuracy:.4f}"
    )


if __name__ == "__main__":
    main()
