"""Kernels of thousands of inputs, told of by variances, by moments or not at all: what is lost.

Of up to 4,096 inputs a matrix of moments says what a kernel's directions are worth, of more only
how much each input varies. Trained networks that are led by such a kernel are cut once: by
variances (the default), by moments however large they are, and by the kernel's own energy, which
is in another unit than what the data says of the other kernels, once shared by the knapsack and
once as equal energy; at last all kernels by their own energy. The networks: scikit-learn's digits
among 4,040 features that are noise, counts of 5,000 words drawn from eight topics, and the digits
by a convolution of 464 channels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from unittest import mock

import keras
import numpy as np
from common import finish, flat_digits, runs_of, show
from keras import layers

from reducible_train import factorize
from reducible_train.selection import judge, scoring, statistics

BUDGETS = (0.5, 0.3)


@dataclass(frozen=True)
class Task:
    """A network and its data.

    Args:
        stack: Makes its layers, but for the output.
        x: Samples.
        y: Their classes.
        held: How many of them, at the end, are kept for the figures.
        epochs: Of the training.
    """

    stack: Callable[[], list[keras.Layer]]
    x: np.ndarray
    y: np.ndarray
    held: int = 500
    epochs: int = 5

    def build(self) -> keras.Model:
        """The network, compiled."""
        output = layers.Dense(int(self.y.max()) + 1, name="output")
        model = keras.Sequential([keras.Input(self.x.shape[1:]), *self.stack(), output])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, metrics=["accuracy"])
        return model


def dense() -> list[keras.Layer]:
    """A wide first layer, and two after it."""
    return [layers.Dense(units, "relu") for units in (32, 96, 96)]


def among_noise() -> Task:
    """Digits among features that say nothing."""
    x, y, _ = flat_digits()
    noise = 0.05 * np.random.default_rng(2).normal(size=(len(x), 4040))
    return Task(dense, np.concatenate([x, noise], axis=1).astype("float32"), y)


def words(size: int = 5000, topics: int = 8, samples: int = 3500) -> Task:
    """The most frequent topic of a text, by its counts of words."""
    rng = np.random.default_rng(0)
    of_topics = rng.dirichlet(np.full(size, 0.05), topics)
    shares = rng.dirichlet(np.full(topics, 0.3), samples)
    counts = np.stack([rng.multinomial(40, each) for each in shares @ of_topics])
    return Task(dense, np.log1p(counts).astype("float32"), shares.argmax(axis=1))


def convolution() -> Task:
    """Digits by a convolution of 3 x 3 x 464 inputs."""

    def stack() -> list[keras.Layer]:
        same = {"padding": "same", "activation": "relu"}
        return [
            layers.Conv2D(24, 3, **same),
            layers.Conv2D(48, 3, **same),
            layers.MaxPooling2D(),
            layers.Conv2D(464, 1, **same),
            layers.MaxPooling2D(),
            layers.Conv2D(48, 3, **same),
            layers.GlobalAveragePooling2D(),
            layers.Dense(48, "relu"),
        ]

    x, y, _ = flat_digits()
    return Task(stack, x.reshape(-1, 8, 8, 1), y, epochs=10)


TASKS = {
    "digits among 4,104 features": among_noise,
    "counts of 5,000 words": words,
    "convolution of 4,176 inputs": convolution,
}


@contextlib.contextmanager
def moments_of_all() -> Iterator[None]:
    """Within it moments are kept of however many inputs."""
    with mock.patch.object(statistics, "LARGEST", 10**6):
        yield


@contextlib.contextmanager
def nothing_of_the_wide() -> Iterator[None]:
    """Within it the data says nothing of kernels of more inputs than moments are kept of."""
    heard = statistics.can_be_observed

    def is_heard(kernel: object, needs: object) -> bool:
        inputs = int(np.prod(kernel.variable_shape[:-1]))
        return inputs <= statistics.LARGEST and heard(kernel, needs)

    with contextlib.ExitStack() as patches:
        for module in (statistics, scoring, judge):
            patches.enter_context(mock.patch.object(module, "can_be_observed", is_heard))
        yield


WAYS = {
    "variances (the default)": (contextlib.nullcontext, {}),
    "moments": (moments_of_all, {}),
    "own energy, knapsack": (nothing_of_the_wide, {"allocation": "knapsack"}),
    "own energy, equal energy": (nothing_of_the_wide, {"allocation": "equal_energy"}),
    "all by their own energy": (contextlib.nullcontext, {"criterion": "frobenius"}),
}


def losses(task: Task, seed: int) -> list[dict[str, float]]:
    """Loss and accuracy, in percent, at each budget by each way."""
    x, y = task.x[: -task.held], task.y[: -task.held]
    held = task.x[-task.held :], task.y[-task.held :]
    keras.utils.set_random_seed(seed)
    dense = task.build()
    dense.fit(x, y, batch_size=64, epochs=task.epochs, verbose=0)

    def told(model: keras.Model) -> tuple[float, float]:
        loss, accuracy = model.evaluate(*held, batch_size=500, verbose=0)
        return float(loss), 100 * float(accuracy)

    rows = []
    for budget in BUDGETS:
        row: dict[str, float] = {"budget": budget}
        row["dense"], row["dense, accuracy"] = told(dense)
        for name, (within, given) in WAYS.items():
            model = task.build()
            model.set_weights(dense.get_weights())
            with within():
                factorize(model, budget, calibration=(x[:2048], y[:2048]), **given)
            row[name], row[f"{name}, accuracy"] = told(model)
        rows.append(row)
    return rows


def main() -> None:
    runs = runs_of(__doc__, TASKS, losses)
    columns = [name for name in runs[0] if not name.endswith("accuracy")]

    def cell(run: dict[str, float], name: str) -> str:
        value, accuracy = run[name], run.get(f"{name}, accuracy")
        text = f"{value:.3g}" if isinstance(value, float) else str(value)
        return text if accuracy is None else f"{text} ({accuracy:.1f} %)"

    rows = [[cell(run, column) for column in columns] for run in runs]
    show("Loss right after one cut, and accuracy, on samples held back", columns, rows)
    finish({"runs": runs})


if __name__ == "__main__":
    main()
