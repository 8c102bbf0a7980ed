"""Wide output layers, dense beside a budget or cut with the rest: what is lost by each.

Trained networks whose output layer is a third or more of what a budget leaves are cut once, right
away and then trained on for a quarter of their epochs. Two rules say of the outputs what is done:
`keep_dense=True`, so that the layers before them have to make room, and `keep_dense=False`. Labels
of the classifiers are those of a random network; the autoencoder sees scikit-learn's digits. Of
the networks that predict the next token of a random chain one table is read both ways.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from common import finish, flat_digits, runs_of, show
from keras import layers

from reducible_train import LayerRule, RankScheduler, factorize
from reducible_train.errors import RankError

BUDGETS = (0.8, 0.6, 0.4, 0.3)


@dataclass(frozen=True)
class Task:
    """A network and its data.

    Args:
        build: Makes the network, compiled; its last layer is called `output`.
        x: Samples.
        y: Their targets.
        held: How many of them, at the end, are kept for the figures.
        epochs: Of the training.
    """

    build: Callable[[], keras.Model]
    x: np.ndarray
    y: np.ndarray
    held: int
    epochs: int = 20


def classifier(classes: int, features: int = 32, samples: int = 8000, held: int = 3000) -> Task:
    """Two hidden layers of 64 units, on labels that a random network gives to noise."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(features, 48)), rng.normal(size=(48, classes))
    x = rng.normal(size=(samples + held, features)).astype("float32")
    logits = np.tanh(x @ first / 3) @ second
    y = (logits + 0.5 * rng.normal(size=logits.shape)).argmax(axis=1)

    def build() -> keras.Model:
        hidden = [layers.Dense(64, "relu", name=name) for name in ("first", "second")]
        model = keras.Sequential(
            [keras.Input((features,)), *hidden, layers.Dense(classes, name="output")]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(2e-3), loss)
        return model

    return Task(build, x, y, held)


def autoencoder() -> Task:
    """64-128-16-128-64 on digits."""
    x, _, held = flat_digits()

    def build() -> keras.Model:
        wide = [layers.Dense(128, "relu", name=name) for name in ("encoder", "decoder")]
        code = layers.Dense(16, name="code")
        output = layers.Dense(64, "sigmoid", name="output")
        model = keras.Sequential([keras.Input((64,)), wide[0], code, wide[1], output])
        model.compile(keras.optimizers.Adam(2e-3), "mse")
        return model

    return Task(build, x, x, held=held, epochs=40)


def next_token(tokens: int, length: int = 16, samples: int = 1000, held: int = 400) -> Task:
    """A tied table of 48 features and two hidden layers, on chains of which each token has few."""
    rng = np.random.default_rng(0)
    chances = rng.dirichlet(np.full(tokens, 0.02), tokens).cumsum(axis=1)
    chains = np.zeros((samples + held, length + 1), "int32")
    chains[:, 0] = rng.integers(tokens, size=len(chains))
    for place in range(length):
        drawn = rng.random((len(chains), 1))
        chains[:, place + 1] = np.minimum(
            (chances[chains[:, place]] < drawn).sum(axis=1), tokens - 1
        )

    def build() -> keras.Model:
        table = layers.ReversibleEmbedding(tokens, 48, name="output")
        inputs = keras.Input((length,), dtype="int32")
        hidden = layers.Dense(48)(layers.Dense(128, "gelu")(table(inputs)))
        outputs = table(layers.LayerNormalization()(hidden), reverse=True)
        model = keras.Model(inputs, outputs)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(2e-3), loss)
        return model

    return Task(build, chains[:, :-1], chains[:, 1:], held)


TASKS = {
    "100 classes": lambda: classifier(100),
    "30 classes": lambda: classifier(30),
    "autoencoder": autoencoder,
    "200 tokens, tied": lambda: next_token(200),
    "300 tokens, tied": lambda: next_token(300),
}


def losses(task: Task, seed: int) -> list[dict[str, float | None]]:
    """The loss at each budget by each rule; `None` where there is no room beside the outputs."""
    x, y = task.x[: -task.held], task.y[: -task.held]
    held = task.x[-task.held :], task.y[-task.held :]
    keras.utils.set_random_seed(seed)
    dense = task.build()
    dense.fit(x, y, batch_size=64, epochs=task.epochs, verbose=0)

    def start() -> keras.Model:
        keras.utils.set_random_seed(seed)
        model = task.build()
        model.set_weights(dense.get_weights())
        return model

    def loss(model: keras.Model) -> float:
        return float(model.evaluate(*held, batch_size=512, verbose=0))

    last = dense.get_layer("output")
    size = float(np.prod((last.kernel if hasattr(last, "kernel") else last.embeddings).shape))
    rows = []
    for budget in BUDGETS:
        row: dict[str, float | None] = {
            "budget": budget,
            "outputs": size / (budget * dense.count_params()),  # of what the budget leaves
            "dense": loss(dense),
        }
        for name, keep in (("kept", True), ("cut", False)):
            rules = [LayerRule("output", keep_dense=keep)]
            at_once, later, scheduler = start(), start(), RankScheduler(budget, rules=rules)
            try:
                factorize(at_once, budget, calibration=(x[:2048], y[:2048]), rules=rules)
            except RankError:
                row |= {f"{name}, at once": None, f"{name}, trained on": None}
                continue
            epochs = task.epochs // 4
            later.fit(x, y, batch_size=64, epochs=epochs, verbose=0, callbacks=[scheduler])
            row |= {f"{name}, at once": loss(at_once), f"{name}, trained on": loss(later)}
        rows.append(row)
    return rows


def main() -> None:
    runs = runs_of(__doc__, TASKS, losses)
    columns = list(runs[0])

    def cell(value: object) -> str:
        text = f"{value:.3g}" if isinstance(value, float) else str(value)
        return "no room" if value is None else text

    rows = [[cell(run[column]) for column in columns] for run in runs]
    show("Loss on samples held back", columns, rows)
    finish({"runs": runs})


if __name__ == "__main__":
    main()
