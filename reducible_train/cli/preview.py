"""`reducible-train preview`: what a configuration's schedules do, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reducible_train.cli._configured import configured
from reducible_train.cli._look import show_table
from reducible_train.settings.compression import CompressionSettings
from reducible_train.settings.schedules import Constant, Schedule
from reducible_train.settings.timing import first_turn

_ROWS = 40  # more epochs than this are thinned
_LOOKS = 10_000  # of more epochs than this only so many are looked at
_HEIGHT = 8  # lines of the plot
_WIDTH = 60  # columns of the plot


def preview(
    config: Annotated[Path, typer.Argument(help="Configuration, a YAML file.", show_default=False)],
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs to show; else those of the configuration.")
    ] = None,
) -> None:
    """Show the schedules of a configuration over the epochs, without a model or data."""
    loaded = configured(config, epochs)
    targets = loaded.schedules()
    asked = loaded.settings()
    first = first_turn(asked, loaded.training.epochs)
    if asked.search is not None:
        how = (
            f"multiplied by {asked.search.factor:g}"
            if asked.search.factor
            else "stepped down by the loss foreseen"
        )
        Console().print(
            Text(
                f"{config}: no schedule to show. From epoch {first} on the budget is "
                f"{how}, as often as the guard lets it."
            )
        )
        return
    adaptive = asked.adaptive
    if adaptive is not None:
        end = adaptive.end_epoch
        late = "half of the training" if end is None else max(end, first)
        seen = "" if asked.guard is None else f" and the guard has seen {asked.guard.monitor}"
        Console().print(
            Text(
                f"{config}: cuts begin once the stable ranks have settled{seen}, at epoch {late} "
                "at the latest; schedules count from there."
            )
        )
        if not targets:
            return
        first = 0  # of the epochs that schedules count
    count = loaded.training.epochs or _enough(list(targets.values()), first)
    console = Console()
    told = f"{config}: {_counted(count, 'epoch')}, {_often(asked, first)}"
    console.print(Text(told), soft_wrap=True)
    if not _asks(asked):
        return
    show_table(console, _table(asked.cadence.epochs or 1, targets, first, count))
    main, *others = targets
    several = f"{main.partition('.')[0]}."
    for name in (main, *(each for each in others if each.startswith(several))):
        drawn = plot(targets[name], count, name, first, ascii_only=console.options.ascii_only)
        console.print(Text(drawn), soft_wrap=not console.is_terminal)


def _asks(asked: CompressionSettings) -> bool:
    """False where no target changes a rank."""
    return any(each.idle_until is not None for each in asked.targets)


def _often(asked: CompressionSettings, first: int) -> str:
    """How often the ranks may change, and from which epoch on, in words."""
    cadence, guard = asked.cadence, asked.guard
    if not _asks(asked):
        return "no cut, for nothing is asked for"
    constant = all(isinstance(each.schedule, Constant) for each in asked.targets)
    if constant and asked.adaptive is None and guard is None:
        return "one cut, before the first step"
    count, unit = (cadence.steps, "step") if cadence.steps else (cadence.epochs or 1, "epoch")
    often = f"ranks may change every {unit if count == 1 else _counted(count, unit)}"
    if guard is None or not first:
        return often
    return f"{often}, but not before epoch {first}, when the guard has seen {guard.monitor}"


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit}{'s' * (count != 1)}"


def _enough(schedules: Sequence[Schedule], first: int) -> int:
    return math.ceil(max(first, *(schedule.end_epoch for schedule in schedules))) + 3


def _table(every: int, targets: Mapping[str, Schedule], first: int, count: int) -> Table:
    """A row for each epoch; where the targets stay the same, only some of them.

    Args:
        every: Ranks may change before every so many epochs.
        targets: Schedules by what falls.
        first: The first epoch before which they may.
        count: Epochs.
    """
    table = Table("epoch", *targets, box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        column.justify = "right"
    looked = [*range(0, count - 1, -(-count // _LOOKS)), count - 1]
    seen = {
        epoch: tuple(
            f"{schedule(epoch - epoch % every):.4g}" if epoch >= first else "-"
            for schedule in targets.values()
        )
        for epoch in looked
    }
    new = {0} | {now for before, now in pairwise(looked) if seen[now] != seen[before]}
    changes = sorted(new | {count - 1})
    for epoch in looked if count <= _ROWS else changes[:: -(-len(changes) // _ROWS)]:
        table.add_row(str(epoch), *seen[epoch], style=None if epoch in new else "dim")
    return table


def plot(
    schedule: Schedule, epochs: int, name: str, first: int = 0, *, ascii_only: bool = False
) -> str:
    """A small picture of a schedule: a column of blocks for each part of the training.

    Args:
        schedule: The schedule.
        epochs: Epochs of the training.
        name: What falls.
        first: The epoch from which it is followed.
        ascii_only: True for a terminal that has no other blocks.

    >>> from reducible_train.settings.schedules import PiecewiseConstant
    >>> stairs = PiecewiseConstant([1.0, 0.5], [0, 2])
    >>> print(plot(stairs, 4, "budget", ascii_only=True).splitlines()[0][:12])
    1 |#########
    """
    blocks = " #" if ascii_only else " ▁▂▃▄▅▆▇█"
    full = len(blocks) - 1
    wide = max(_WIDTH // epochs, 1) * epochs if epochs <= _WIDTH else _WIDTH
    times = [epochs * column / wide for column in range(wide)]
    heights = [schedule(time) if time >= first else 0.0 for time in times]
    top = max(heights) or 1.0
    label = f"{top:.4g}"
    lines = []
    for row in reversed(range(_HEIGHT)):
        filled = [round((value / top * _HEIGHT - row) * full) for value in heights]
        line = "".join(blocks[min(max(level, 0), full)] for level in filled)
        side = label if row == _HEIGHT - 1 else "0" if row == 0 else ""
        lines.append(f"{side:>{len(label)}} |{line}")
    last = str(epochs)
    axis = "0" + f"epoch ({name})".center(wide - 1 - len(last)) + last
    return "\n".join([*lines, " " * (len(label) + 2) + axis])
