"""The table at the end: before and after, and what changed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from reducible_train.report.records import Report


@dataclass(frozen=True)
class Row:
    """One figure, before and after.

    Args:
        name: What is compared.
        before: The figure before, or of the dense network.
        after: The figure after, or of the compressed network.
        form: How both are written, as in `format`.
        unit: Text behind both.
        relative: True tells the change in per cent, False as a difference.
    """

    name: str
    before: float
    after: float
    form: str = ",.0f"
    unit: str = ""
    relative: bool = True

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """What stands in the table."""
        change = f"{self.after - self.before:+.4f}"
        if self.relative:
            change = f"{100 * (self.after / self.before - 1):+.1f} %" if self.before else ""
        before, after = (f"{value:{self.form}}{self.unit}" for value in (self.before, self.after))
        return self.name, before, after, change


def comparison(rows: Sequence[Row], before: str, after: str) -> Table:
    """The table, its columns named."""
    table = Table("", before, after, "change", header_style="bold", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row.cells)
    return table


def show_report(console: Console, report: Report) -> None:
    """The report: a table where there is a terminal, plain text with whole lines where not."""
    console.print(report, soft_wrap=not console.is_terminal)


def metric_rows(before: Mapping[str, float], after: Mapping[str, float], part: str) -> list[Row]:
    """A row for each metric both have, with the part of the data it was measured on."""
    return [
        Row(
            f"{part} {shown_name(name, after[name])}",
            one_number(before[name]),
            one_number(after[name]),
            ".4f",
            relative=False,
        )
        for name in before
        if name in after
    ]


def one_number(value: Any) -> float:
    """A metric as a number; of one of several, such as F1 for each class, the mean.

    >>> one_number([0.5, 1.0])
    0.75
    """
    return float(np.mean(keras.ops.convert_to_numpy(value)) if np.ndim(value) else value)


def shown_name(name: str, value: Any) -> str:
    """What a metric is called, where `one_number` is shown of it.

    >>> shown_name("loss", 0.5), shown_name("f1_score", [0.5, 1.0])
    ('loss', 'mean f1_score')
    """
    return f"mean {name}" if np.ndim(value) else name


def file_rows(before: int | None, after: int) -> Iterator[Row]:
    """A row of the sizes of both files; none where the first is not known."""
    if before is not None:
        yield Row("file, without optimizer state", before, after, unit=" B")


def dense_file_bytes(model: Any) -> int | None:
    """Bytes of the `.keras` file of a model without optimizer state: the fair comparison.

    `None` where there is no room to write it: that is no reason not to train.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"
            model.save(path)
            if model.compiled:  # written once more, now without what compiling added
                keras.saving.load_model(path, compile=False).save(path)
            return path.stat().st_size
    except OSError:
        return None
