"""One trained network and some data for all tests of the tuner room."""

from __future__ import annotations

import keras
import keras_tuner
import numpy as np

from reducible_train import RankHyperModel, SearchSpace, load_model

L = keras.layers
RNG = np.random.default_rng(3)
X = RNG.normal(size=(64, 12)).astype("float32")
Y = X[:, :4].argmax(1)
SPACE = SearchSpace(budget=(0.45, 0.8), start=(0.0, 0.4), ramp=(0.0, 0.5), criterion="frobenius")
FIT = {"validation_split": 0.5, "batch_size": 32, "epochs": 3, "verbose": 0}


def network(units=24):
    model = keras.Sequential(
        [
            keras.Input((12,)),
            L.Dense(units, "relu", name="hidden"),
            L.Dense(4, "softmax", name="output"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def hypermodel(model=None, space=SPACE, **more):
    return RankHyperModel(network() if model is None else model, space, **more)


def random_search(folder, hyper, objective="val_accuracy", trials=2, **more):
    given = {"max_trials": trials, "seed": 1, "directory": folder, "project_name": "s"} | more
    return keras_tuner.RandomSearch(hyper, objective, **given)


def search(folder, hyper, objective="val_accuracy", trials=2, fit=(), **more):
    tuner = random_search(folder, hyper, objective, trials, **more)
    tuner.search(X, Y, **(FIT | dict(fit)))
    return tuner


def trials_of(tuner, status="COMPLETED"):
    found = [each for each in tuner.oracle.trials.values() if each.status == status]
    return sorted(found, key=lambda each: each.trial_id)


def file_of(tuner, trial):
    return load_model(f"{tuner.get_trial_dir(trial.trial_id)}/model.reducible")


def metrics_of(trial):
    return {name: trial.metrics.get_best_value(name) for name in trial.metrics.metrics}


def ranks(model):
    return {each.name: each.rank for each in model.layers if getattr(each, "rank", None)}


def answers(model):
    return np.asarray(model(X))
