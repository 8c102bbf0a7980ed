"""What the benchmarks share: the networks, the data, the way results are shown."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from reducible_train.datasets import Dataset, load

console = Console(width=110)

Task = TypeVar("Task")


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options every benchmark has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--data", default="mnist", help="digits, mnist or fashion_mnist")
    made.add_argument("--seeds", type=int, default=5)
    return made


def command() -> str:
    """The command that started this run, from the top of the repository."""
    script = Path(sys.argv[0]).resolve()
    return shlex.join(["python", str(script.relative_to(script.parents[1])), *sys.argv[1:]])


def environment() -> dict[str, Any]:
    """What the timings depend on."""
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": tf.config.threading.get_intra_op_parallelism_threads()
        or int(os.environ.get("TF_NUM_INTRAOP_THREADS", 0))
        or os.cpu_count(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def use_threads(count: int) -> None:
    """Let one operation of TensorFlow run on so many threads; call it before any."""
    tf.config.threading.set_intra_op_parallelism_threads(count)


def runs_of(
    description: str | None,
    tasks: Mapping[str, Callable[[], Task]],
    rows_of: Callable[[Task, int], Sequence[Mapping[str, Any]]],
) -> list[dict[str, Any]]:
    """The rows of each task, made anew for each seed; two of them, if `--seeds` asks for no more.

    Args:
        description: Of the script.
        tasks: By name, what makes each.
        rows_of: Task and seed -> its rows.
    """
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--seeds", type=int, default=2)
    seeds = range(options.parse_args().seeds)
    return [
        {"network": name, "seed": seed, **row}
        for name, make in tasks.items()
        for seed in seeds
        for row in rows_of(make(), seed)
    ]


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name == columns[0] else "right")
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)


def finish(figures: dict[str, Any]) -> None:
    """Print the figures as one line of JSON, the last of the output."""
    print(
        json.dumps({"command": command(), **figures, "environment": environment()}, default=float),
        flush=True,
    )


def flat_digits() -> tuple[np.ndarray, np.ndarray, int]:
    """Scikit-learn's digits, `(samples, 64)`, their classes, how many at the end are to test."""
    data = load("digits")
    x = np.concatenate([data.x_train, data.x_test]).reshape(-1, 64)
    return x, np.concatenate([data.y_train, data.y_test]), len(data.x_test)


def network(features: int, hidden: Sequence[int], classes: int = 10) -> keras.Sequential:
    """A multi-layer perceptron with ReLU, its output layer giving logits."""
    layers = [
        keras.layers.Dense(units, activation="relu", name=f"hidden_{i + 1}")
        for i, units in enumerate(hidden)
    ]
    return keras.Sequential(
        [keras.Input((features,)), *layers, keras.layers.Dense(classes, name="output")]
    )


def compile_model(model: keras.Model, optimizer: Any = "adam", **kwargs: Any) -> keras.Model:
    """Compile for sparse classes and logits."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], **kwargs)
    return model


def adam(learning_rate: float, epochs: int, samples: int, batch_size: int) -> keras.Optimizer:
    """Adam with one cosine decay over all epochs."""
    steps = epochs * math.ceil(samples / batch_size)
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(learning_rate, steps))


def train(
    build: Callable[[int], keras.Model],
    data: Dataset,
    *,
    seed: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    validate: bool = False,
) -> keras.Model:
    """One fit, one cosine decay over all of it; `build` is given the number of features.

    Equal seeds begin with the same weights and see the same samples in the same order.
    """
    keras.utils.set_random_seed(seed)
    optimizer = adam(learning_rate, epochs, len(data.x_train), batch_size)
    model = compile_model(build(data.features), optimizer)
    model.fit(
        data.x_train,
        data.y_train,
        batch_size=batch_size,
        epochs=epochs,
        validation_data=(data.x_val, data.y_val) if validate else None,
        callbacks=list(callbacks),
        verbose=0,
    )
    return model


def accuracy(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    """In percent."""
    return 100 * model.evaluate(x, y, batch_size=1000, verbose=0, return_dict=True)["accuracy"]


def deviation(values: Sequence[float]) -> float:
    """Standard deviation of a sample; zero for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def keras_bytes(model: keras.Model, folder: Path, *, optimizer: bool = False) -> int:
    """Size of the `.keras` file of a model, without optimizer state if not asked for."""
    path = folder / "model.keras"
    if not optimizer:
        uncompiled = type(model).from_config(model.get_config())
        uncompiled.set_weights(model.get_weights())
        model = uncompiled
    model.save(path)
    return path.stat().st_size


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and standard deviation, for a table."""
    return f"{np.mean(values):.{digits}f} ± {deviation(values):.{digits}f}"


__all__ = [
    "accuracy",
    "adam",
    "command",
    "compile_model",
    "console",
    "deviation",
    "environment",
    "finish",
    "keras_bytes",
    "load",
    "network",
    "parser",
    "show",
    "spread",
    "train",
    "use_threads",
]
