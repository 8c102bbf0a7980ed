"""One table in three forms: plain text, a terminal's, HTML. Its first row is the head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TypeAlias

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

Rows: TypeAlias = Sequence[Sequence[str]]

_NARROWEST = 16  # a first column that can still be read, in letters
_STYLE = (
    "<style>table.reducible{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "table.reducible th,table.reducible td{text-align:right;padding:.2em .7em}"
    "table.reducible th:first-child,table.reducible td:first-child{text-align:left}"
    "table.reducible thead th{border-bottom:1px solid}</style>"
)


def printable(text: object) -> str:
    """Text that anybody may have written, safe for a terminal and a picture: one line of it.

    >>> printable("layer\\x1b[31m")
    'layer\ufffd[31m'
    """
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def text_table(rows: Rows) -> list[str]:
    """Lines of plain text, in columns; the last is as wide as it likes.

    >>> text_table([("kernel", "rank"), ("d/kernel", "4/8")])
    ['kernel    rank', 'd/kernel  4/8']
    """
    *widths, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)).rstrip()
        for row in rows
    ]


def on_terminal(rows: Rows, lines: Sequence[str], console: Console) -> Iterator[RenderableType]:
    """A table with lines below it, for `__rich_console__`: nothing in it is read as markup.

    Plain text where there is no terminal, and where that is too narrow for the numbers.
    """
    head, *body = rows
    table = Table(*head, header_style="bold", box=None, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"  # a path is of use only whole
    for column in table.columns[1:-1]:
        column.no_wrap = True
    table.columns[0].min_width = min(_NARROWEST, max(len(row[0]) for row in rows))
    for row in body:
        table.add_row(*(Text(printable(cell)) for cell in row))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    least = min(_NARROWEST, widths[0]) + sum(widths[1:-1]) + min(_NARROWEST, widths[-1])
    if console.is_terminal and least + 2 * len(widths) <= console.width:
        yield table
    else:
        yield Text("\n".join(map(printable, text_table(rows))))
    for line in lines:
        yield Text(printable(line))


def html_table(rows: Rows) -> str:
    """A table for a page or a notebook, every cell escaped.

    >>> html_table([("kernel",), ("<b>",)])[-50:]
    '<tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """
    head, *body = rows
    names = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in body)
    told = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'{_STYLE}<table class="reducible"><thead><tr>{names}</tr></thead>'
        f"<tbody>{told}</tbody></table>"
    )


def html_lines(lines: Sequence[str]) -> str:
    """Sentences for a page or a notebook, escaped, one below the other."""
    return "".join(f"<p>{escape(line)}</p>" for line in lines)
