"""Training as a person watches it: one line for each epoch, a bar where there is a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from reducible_train.cli._results import one_number, shown_name
from reducible_train.report.records import Report

_METRICS = 4  # more columns than this do not fit


class EpochLines(keras.callbacks.Callback):
    """Prints a line after each epoch: metrics, parameters, ranks.

    Put it after the `RankScheduler`, whose report it reads. Use it as a context manager
    around `fit`, so that the bar is gone whatever happens.

    Args:
        console: Where to print.
        scheduler: Anything with a current `report`; `None` for a training without cuts.
        lines: False shows the bar alone.

    Attributes:
        check: Called after each step; what it raises ends the training.
    """

    def __init__(self, console: Console, scheduler: Any = None, *, lines: bool = True):
        super().__init__()
        self.console = console
        self.scheduler = scheduler
        self.lines = lines
        self.has_trained = False  # a step at least, now or in the backup that it went on from
        self.check: Callable[[], None] = lambda: None
        self._columns: dict[str, str] | None = None  # what each metric is called
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> EpochLines:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        text = f"epoch {epoch + 1} of {self.params['epochs']}"
        self._bar.reset(self._task, description=text, total=self.params.get("steps"))

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.has_trained = True
        self._bar.update(self._task, completed=batch + 1)
        self.check()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.has_trained = True  # where a backup held all epochs, it is removed now

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not self.lines:
            return
        logs = dict(logs or {})
        report = None if self.scheduler is None else self.scheduler.report
        if self._columns is None:
            self._columns = {name: shown_name(name, logs[name]) for name in _metric_names(logs)}
            head = _head(self._columns.values(), report)
            self.console.print(Text(head), style="bold", soft_wrap=True)
        line = _line(epoch, logs, self._columns, report)
        self.console.print(Text(line), soft_wrap=True)


def _metric_names(logs: Mapping[str, Any]) -> list[str]:
    names = [name for name in logs if not name.startswith(("params", "rank/", "learning_rate"))]
    names.sort(key=lambda name: not name.endswith("loss"))  # it comes first, as in Keras's own bar
    trained = [name for name in names if not name.startswith("val_")]
    held_out = [name for name in names if name.startswith("val_")]
    half = _METRICS // 2 if held_out else _METRICS
    return [*trained[:half], *held_out[:half]]


def _head(columns: Iterable[str], report: Report | None) -> str:
    head = "epoch" + "".join(f"  {name:>{_width(name)}}" for name in columns)
    return head if report is None else f"{head}  parameters   size  ranks"


def _line(
    epoch: int, logs: Mapping[str, Any], columns: Mapping[str, str], report: Report | None
) -> str:
    line = f"{epoch + 1:>5}"
    for name, shown in columns.items():
        value = logs.get(name)
        line += f"  {'' if value is None else f'{one_number(value):.4f}':>{_width(shown)}}"
    if report is None:
        return line
    return f"{line}  {report.parameters:>10,}  {report.size_fraction:>4.0%}  {rank_text(report)}"


def _width(name: str) -> int:
    return max(len(name), 7)


def rank_text(report: Report) -> str:
    """The ranks in force in a few words: each of a few kernels, or the range of many.

    A kernel is called by its layer, unless that has several.
    """
    ranks = report.ranks
    if not ranks:
        return "dense"
    if len(ranks) <= 4:
        layers = {path: path.rpartition("/")[0] or path for path in ranks}
        shared = Counter(layers.values())
        names = {path: path if shared[name] > 1 else name for path, name in layers.items()}
        return ", ".join(f"{names[path]} {rank}" for path, rank in ranks.items())
    return f"{min(ranks.values())} to {max(ranks.values())} in {len(ranks)} kernels"
