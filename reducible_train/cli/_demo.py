"""The demo's two trainings: equal in everything but the ranks."""

from __future__ import annotations

import shlex
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.text import Text

from reducible_train import datasets
from reducible_train.cli._look import address, inspect_line, program, show_table, tensorboard_line
from reducible_train.cli._progress import EpochLines
from reducible_train.cli._results import (
    Row,
    comparison,
    dense_file_bytes,
    file_rows,
    metric_rows,
    show_report,
)
from reducible_train.config import Config, parse_config
from reducible_train.container.files import replacing_by
from reducible_train.errors import FileAccessError
from reducible_train.saving.model_file import load_model, save_model

_FINAL = {"digits": 0.25, "mnist": 0.1, "fashion_mnist": 0.2}  # fraction of the parameters
_LOGS = "logs"  # of all runs
_WIDTH = {"digits": 256}
_BATCH = {"digits": 32}


def run(name: str, epochs: int, out_dir: Path) -> None:
    """Train, compare, save, and say how to look at what was saved."""
    console = Console()
    data = datasets.load(name)
    log_dir, path = _new_run(out_dir, f"{name}-budget-{_FINAL[name]:g}-epochs-{epochs}")
    config = _config(name, epochs, log_dir / "compressed", _ramp(name, epochs))
    ramp = config.schedules()["budget"]
    console.print(Text(f"{name} ({data.source}): {len(data.x_train):,} samples to train on"))

    console.print(Text(f"\n1. The dense network, {epochs} epochs"), style="bold")
    control = _config(name, epochs, log_dir / "dense", 1.0)  # a budget that cuts nothing
    dense, _ = _trained(console, control, data, lines=False)
    before = dense.evaluate(data.x_test, data.y_test, verbose=0, return_dict=True)
    console.print(Text(f"test accuracy {before['accuracy']:.4f}"))
    kept = _kept(dense, data, path)

    head = Text(f"\n2. The same network, {epochs} epochs, with {ramp}", "bold")
    console.print(head, soft_wrap=True)
    small, scheduler = _trained(console, config, data, lines=True)
    after = small.evaluate(data.x_test, data.y_test, verbose=0, return_dict=True)
    saved = save_model(small, path, scheduler.report)
    same = _reloads(small, path, data.x_test)

    report = scheduler.report
    dense_step, small_step = _step_times([dense, small], data, config)
    rows = [
        Row("parameters", report.dense_parameters, report.parameters),
        *metric_rows(before, after, "test"),
        *file_rows(dense_file_bytes(dense), saved.bytes),
        Row("training step, batch 256", 1000 * dense_step, 1000 * small_step, ".2f", " ms"),
    ]
    console.print("\n[bold]3. Both, trained equally long[/bold]")
    show_table(console, comparison(rows, "dense", "compressed"))
    console.print()
    show_report(console, report)
    told = "predicts the same, bit for bit" if same else "predicts the same to round-off"
    console.print(Text(f"\nRead back, the compact file {told}."))
    console.print("\n[bold]Fine-tune the dense network yourself[/bold]")
    command = program("reducible-train")
    console.print(Text(f"  {command} init"), soft_wrap=True)
    line = shlex.join([*map(str, kept), "--config", "reducible.yaml", "--out", "small.reducible"])
    console.print(Text(f"  {command} finetune {line}"), soft_wrap=True)
    console.print("\n[bold]Look at both[/bold]")
    console.print(Text(f"  {inspect_line(path)}"), soft_wrap=True)
    console.print(Text(f"  and in a browser, at {address()}:"), soft_wrap=True)
    console.print(Text(f"  {tensorboard_line(out_dir / _LOGS)}"), soft_wrap=True)


def _kept(dense: Any, data: datasets.Dataset, path: Path) -> tuple[Path, Path]:
    """The dense network and its data as files beside the compact one, as `finetune` takes them."""
    model, arrays = path.with_name(f"{path.stem}-dense.keras"), path.with_name(f"{data.name}.npz")
    with replacing_by(model) as beside:
        dense.save(beside)
    if not arrays.exists():
        parts = [f"{axis}_{part}" for part in ("train", "val", "test") for axis in "xy"]
        with replacing_by(arrays) as beside:
            np.savez_compressed(beside, **{part: getattr(data, part) for part in parts})
    return model, arrays


def _ramp(name: str, epochs: int) -> dict[str, Any]:
    """Two dense epochs, a ramp over a quarter of the training, the rest to recover."""
    end = 2 + max(4, epochs // 4)
    return {
        "schedule": "ramp",
        "initial": 1.0,
        "final": _FINAL[name],
        "start_epoch": 2,
        "end_epoch": min(end, epochs - 1),
    }


def _config(name: str, epochs: int, log_dir: Path, budget: Any) -> Config:
    """What both trainings are told; they differ in the budget alone."""
    return parse_config(
        {
            "compression": {"budget": budget},
            "training": {
                "epochs": epochs,
                "batch_size": _BATCH.get(name, 256),
                "optimizer": "adam",
                "learning_rate": 0.001,
                "learning_rate_schedule": "cosine",
                "loss": "sparse_categorical_crossentropy",
                "metrics": ["accuracy"],
                "seed": 1,
            },
            "tensorboard": {"log_dir": str(log_dir)},
        },
        "demo",
    )


def _new_run(out_dir: Path, wanted: str) -> tuple[Path, Path]:
    """A folder for logs and a file, both named after the run, neither there yet.

    What was done before stays, so that runs can be compared; the second of a name ends in `-2`.
    """
    logs = out_dir / _LOGS
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileAccessError(
            f"--out-dir must be a folder that can be written. Received: {str(out_dir)!r}"
            f" ({error.strerror or error}). Choose another place."
        ) from error
    name, count = wanted, 1
    while (logs / name).exists() or (out_dir / f"{name}.reducible").exists():
        count += 1
        name = f"{wanted}-{count}"
    return logs / name, out_dir / f"{name}.reducible"


def _trained(
    console: Console, config: Config, data: datasets.Dataset, *, lines: bool
) -> tuple[Any, Any]:
    """One training from the same start; the model, and its scheduler."""
    training = config.training
    keras.utils.set_random_seed(training.seed)
    model = _network(data)
    config.compile(model, len(data.x_train))
    callbacks = config.callbacks()
    with EpochLines(console, callbacks[0], lines=lines) as shown:
        model.fit(
            data.x_train,
            data.y_train,
            epochs=training.epochs,
            batch_size=training.batch_size,
            validation_data=(data.x_val, data.y_val),
            callbacks=[*callbacks, shown],
            verbose=0,
        )
    return model, callbacks[0]


def _network(data: datasets.Dataset) -> Any:
    width = _WIDTH.get(data.name, 512)
    return keras.Sequential(
        [
            keras.Input((data.features,)),
            keras.layers.Dense(width, activation="relu", name="hidden_1"),
            keras.layers.Dense(width, activation="relu", name="hidden_2"),
            keras.layers.Dense(data.classes, activation="softmax", name="output"),
        ],
        name=data.name,
    )


def _reloads(model: Any, path: Path, x: np.ndarray) -> bool:
    """True if the file read back predicts exactly what the model predicts."""
    again = load_model(path)
    return bool(np.array_equal(model.predict(x, verbose=0), again.predict(x, verbose=0)))


def _step_times(models: Sequence[Any], data: datasets.Dataset, config: Config) -> list[float]:
    """Median seconds of a training step of each model, taken in turn.

    Done last: the steps train on, at a learning rate that has reached zero.
    """
    x, y = (np.resize(part, (256, *part.shape[1:])) for part in (data.x_train, data.y_train))
    for model in models:
        for _ in range(5):
            model.train_on_batch(x, y)
    seconds: list[list[float]] = [[] for _ in models]
    for _ in range(40):
        for model, taken in zip(models, seconds, strict=True):
            started = time.perf_counter()
            model.train_on_batch(x, y)
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in seconds]
