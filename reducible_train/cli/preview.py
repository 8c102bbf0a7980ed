"""`reducible-train preview`: what a configuration's schedules do, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reducible_train.cli._configured import configured
from reducible_train.cli._look import show_table
from reducible_train.config import Config
from reducible_train.settings.schedules import Constant, Schedule

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
    if loaded.compression.search is not None:
        search = loaded.compression.search.build()
        first = search.first_epoch(epochs or loaded.training.epochs)
        how = (
            f"multiplied by {search.factor:g}"
            if search.factor
            else "stepped down by the loss foreseen"
        )
        Console().print(
            Text(
                f"{config}: no schedule to show. From epoch {first} on the budget is "
                f"{how}, as often as the guard lets it."
            )
        )
        return
    adaptive = loaded.compression.cadence.start
    if adaptive is not None:
        late = "half of the training" if adaptive.end_epoch is None else adaptive.end_epoch
        Console().print(
            Text(
                f"{config}: cuts begin once the stable ranks have settled, at epoch {late} at the "
                "latest; schedules count from there."
            )
        )
        if not targets:
            return
    count = loaded.training.epochs or _enough(list(targets.values()))
    console = Console()
    told = f"{config}: {_counted(count, 'epoch')}, {_often(loaded, targets)}"
    console.print(Text(told), soft_wrap=True)
    show_table(console, _table(loaded, targets, count))
    main, *others = targets
    several = f"{main.partition('.')[0]}."
    for name in (main, *(each for each in others if each.startswith(several))):
        drawn = plot(targets[name], count, name, ascii_only=console.options.ascii_only)
        console.print(Text(drawn), soft_wrap=not console.is_terminal)


def _often(loaded: Config, targets: dict[str, Schedule]) -> str:
    """How often the ranks may change, in words."""
    cadence = loaded.compression.cadence
    if cadence.start is None and all(isinstance(each, Constant) for each in targets.values()):
        return "one cut, before the first step"
    count, unit = (cadence.steps, "step") if cadence.steps else (cadence.epochs or 1, "epoch")
    return f"ranks may change every {unit if count == 1 else _counted(count, unit)}"


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit}{'s' * (count != 1)}"


def _enough(schedules: Sequence[Schedule]) -> int:
    return math.ceil(max(schedule.end_epoch for schedule in schedules)) + 3


def _table(loaded: Config, targets: dict[str, Schedule], count: int) -> Table:
    """A row for each epoch; where the targets stay the same, only some of them."""
    table = Table("epoch", *targets, box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        column.justify = "right"
    every = loaded.compression.cadence.epochs or 1
    looked = [*range(0, count - 1, -(-count // _LOOKS)), count - 1]
    seen = {
        epoch: tuple(f"{schedule(epoch - epoch % every):.4g}" for schedule in targets.values())
        for epoch in looked
    }
    new = {0} | {now for before, now in pairwise(looked) if seen[now] != seen[before]}
    changes = sorted(new | {count - 1})
    for epoch in looked if count <= _ROWS else changes[:: -(-len(changes) // _ROWS)]:
        table.add_row(str(epoch), *seen[epoch], style=None if epoch in new else "dim")
    return table


def plot(schedule: Schedule, epochs: int, name: str, *, ascii_only: bool = False) -> str:
    """A small picture of a schedule: a column of blocks for each part of the training.

    >>> from reducible_train.settings.schedules import PiecewiseConstant
    >>> stairs = PiecewiseConstant([1.0, 0.5], [0, 2])
    >>> print(plot(stairs, 4, "budget", ascii_only=True).splitlines()[0][:12])
    1 |#########
    """
    blocks = " #" if ascii_only else " ▁▂▃▄▅▆▇█"
    full = len(blocks) - 1
    wide = max(_WIDTH // epochs, 1) * epochs if epochs <= _WIDTH else _WIDTH
    heights = [schedule(epochs * column / wide) for column in range(wide)]
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
