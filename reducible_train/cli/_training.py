"""A training with falling ranks, from a loaded model to its compact file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import typer
from rich.console import Console
from rich.text import Text

from reducible_train import _keras
from reducible_train.cli._data import Arrays, say_ignored
from reducible_train.cli._exit import DIVERGED, DONE, HELD_BACK, SHORT
from reducible_train.cli._look import address, inspect_line, show_table, tensorboard_line
from reducible_train.cli._progress import EpochLines
from reducible_train.cli._rescue import rescuing
from reducible_train.cli._results import (
    Row,
    comparison,
    dense_file_bytes,
    file_rows,
    metric_rows,
    show_report,
)
from reducible_train.config import Config
from reducible_train.errors import (
    ArgumentError,
    OutputErrorWarning,
    ShortfallWarning,
    first_sentence,
)
from reducible_train.preflight.data import check_data, check_sides
from reducible_train.report.records import Report
from reducible_train.saving.checks import check_savable
from reducible_train.saving.model_file import save_model
from reducible_train.selection import fingerprints
from reducible_train.settings.checkpoint_names import check_filled, fields_of
from reducible_train.settings.monitors import check_validated, direction
from reducible_train.training.backup import RankBackupAndRestore
from reducible_train.training.lost_weights import NAN_REMEDY

UNLOGGED = "Name it in training.metrics, or compile the model with it"
_VALIDATION = "Add x_val and y_val, set training.validation_split: 0.1"


class _Begin(keras.callbacks.Callback):
    """The report of the model as it was given: it stands before a backup, which brings its ranks.

    Args:
        scheduler: The `RankScheduler` of the fit.

    Attributes:
        report: That report; `None` where there was none yet.
    """

    def __init__(self, scheduler: Any):
        super().__init__()
        self.scheduler = scheduler
        self.report: Report | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        with suppress(ArgumentError):  # of a model that is met after its first batch
            self.report = self.scheduler.report


def train(
    console: Console, loaded: Config, network: Any, arrays: Arrays, data: Path, out: Path
) -> None:
    """Train, compare and save, after all has been refused that can be known before.

    Raises:
        typer.Exit: Saved, but not what was asked for; or rescued.
    """
    training = loaded.training
    if training.seed is not None:
        keras.utils.set_random_seed(training.seed)
    arrays = _prepare(console, loaded, network, arrays, data)
    part, judged = arrays.judged
    bytes_before, parameters_before = dense_file_bytes(network), network.count_params()
    before = network.evaluate(*judged, verbose=0, return_dict=True)
    scheduler, *listeners = loaded.callbacks()
    for each in listeners:
        if isinstance(each, RankBackupAndRestore):
            each.start = fingerprints.of_weights(network)
    console.print(Text(f"{network.name}: {parameters_before:,} parameters"))
    begin, lines = _Begin(scheduler), EpochLines(console, scheduler)
    with (
        rescuing(network, out, lambda: lines.has_trained) as lines.check,
        warnings.catch_warnings(),
    ):
        for told_below in (ShortfallWarning, OutputErrorWarning):
            warnings.simplefilter("ignore", told_below)
        with lines:
            network.fit(
                *arrays.train,
                epochs=training.epochs,
                batch_size=training.batch_size,
                validation_data=arrays.val,
                callbacks=[scheduler, begin, *listeners, lines],
                verbose=0,
            )
        report = scheduler.report
        after = network.evaluate(*judged, verbose=0, return_dict=True)
        saved = save_model(network, out, report)
    rows = [
        Row("parameters", parameters_before, report.parameters),
        *metric_rows(before, after, part),
        *file_rows(bytes_before, saved.bytes),
    ]
    flops_before = _flops_before(begin.report, report, parameters_before)
    if flops_before and report.flops:
        rows.append(Row("FLOPs of one sample", flops_before, report.flops))
    console.print()
    show_table(console, comparison(rows, "before", "after"))
    console.print()
    show_report(console, report)
    console.print()
    _say_where(console, loaded, out)
    told = [str(scheduler.shortfall)] if scheduler.shortfall is not None else []
    if scheduler.diverged is not None:
        told.append(f"The training diverged: at its end, {scheduler.diverged}. {NAN_REMEDY}")
    for each in told:
        Console(stderr=True).print(Text(each), soft_wrap=True)
    code = _code(scheduler)
    if code != DONE:
        raise typer.Exit(code)


def _prepare(console: Console, loaded: Config, network: Any, arrays: Arrays, data: Path) -> Arrays:
    """Compile, and refuse what does not fit together; the arrays as Keras takes them."""
    check_sides(network)
    loaded.check(network)
    loaded.compile(network, len(arrays.train[0]))
    for name, pair in arrays.parts.items():
        check_data(network, *pair, f"{data} ({name})")
    for owner, section in _watchers(loaded):
        way = section.monitor, section.mode
        asked = *way, _keras.metrics_to_watch(network, *way)
        check_validated(*asked, arrays.val is not None, owner, remedy=_VALIDATION)
        direction(*asked, owner, remedy=UNLOGGED)
    if loaded.model.checkpoint is not None:
        fields = fields_of(loaded.model.checkpoint.filepath)
        known = _keras.logged_metrics(network)
        check_filled("checkpoint.filepath", fields, known, arrays.val is not None)
    back = check_savable(network)
    if back.needs_more:
        console.print(Text(str(back)), soft_wrap=True)
    say_ignored(console, arrays, data)
    count = loaded.training.batch_size
    arrays = arrays.with_words(keras.ops.convert_to_tensor)
    for name, (x, y) in arrays.parts.items():
        _try(network, x[:count], y[:count], f"{data} ({name})")
    return arrays


def _watchers(loaded: Config) -> Iterator[tuple[str, Any]]:
    if loaded.compression.guard is not None:
        yield "a guard", loaded.compression.guard
    if loaded.model.early_stopping is not None:
        yield "early stopping", loaded.model.early_stopping
    if loaded.model.checkpoint is not None:
        yield "a checkpoint", loaded.model.checkpoint


def _try(network: Any, x: Any, y: Any, where: str) -> None:
    """Let the model meet a batch: what no other check has foreseen shows now, not later."""
    try:
        network.evaluate(x, y, batch_size=len(x), verbose=0)
    except Exception as error:  # Keras and TensorFlow raise whatever they like
        raise ArgumentError(
            f"Model {network.name!r} must be able to judge its data. Received: {where}, samples"
            f" {x.shape[1:]} and labels {y.shape[1:]}: {first_sentence(error)} Check shapes, labels"
            " and loss."
        ) from error


def _code(scheduler: Any) -> int:
    """The exit code for what a training did not bring."""
    shortfall = scheduler.shortfall
    if scheduler.diverged is not None:
        return DIVERGED
    if shortfall is None:
        return DONE
    return HELD_BACK if shortfall.held_back else SHORT


def _flops_before(begun: Report | None, report: Report, parameters: int) -> int | None:
    """FLOPs of the model as it was given, which may have had factors; `None` if not known."""
    if begun is not None and begun.flops:
        return begun.flops
    return report.dense_flops if parameters == report.dense_parameters else None


def _say_where(console: Console, loaded: Config, out: Path) -> None:
    console.print(Text(f"look    {inspect_line(out)}"), soft_wrap=True)
    if loaded.tensorboard is not None:
        line = tensorboard_line(Path(loaded.tensorboard.log_dir))
        console.print(Text(f"logs    {line}\n        {address()}"), soft_wrap=True)
    console.print(Text(f"saved   {out}"), soft_wrap=True)
