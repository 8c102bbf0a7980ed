"""`reducible-train report`: what was done to a model, or found out about it, as table or page."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from reducible_train.container import read_header
from reducible_train.container.files import accessing, check_regular, read_whole, write_text
from reducible_train.errors import FormatError, shortened
from reducible_train.preflight.paths import check_apart, check_writable
from reducible_train.report.analysis import Analysis
from reducible_train.report.records import Report

_WANTED = (
    "must be a compact file that was saved with its report, the JSON of report.to_dict(), or that "
    "of an analysis"
)
_BEGIN = 256  # bytes by which JSON is known
_HOW = 'Save the model with save_model(model, "model.reducible", scheduler.report).'


def report(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Compact file, JSON of a report, or JSON of an analysis."
        ),
    ],
    html: Annotated[
        Path | None, typer.Option("--html", help="Page to write, such as report.html.")
    ] = None,
) -> None:
    """Show what was done to a model and why, as a table, or as one page with pictures.

    The page needs neither a network nor another file. Pictures need matplotlib.

    Example: reducible-train report small.reducible --html report.html
    """
    if html is not None:
        check_apart(html, "--html", (file,), "report.html")
        check_writable(html, "--html")
    found = _read(file)
    console = Console()
    if html is None:
        console.print(found, soft_wrap=not console.is_terminal)
        return
    try:
        page = found.to_html(file.name)
    except (ArithmeticError, ValueError) as error:  # sizes no computer has
        raise _refused(
            file, f"one with numbers that cannot be ({shortened(str(error))})"
        ) from error
    write_text(html, page)
    console.print(Text(f"written {html}; open it in a browser"), soft_wrap=True)


def _read(file: Path) -> Report | Analysis:
    """What a file holds, whatever its name is.

    Raises:
        FileAccessError: It cannot be read.
        FormatError: It holds no report and no analysis.
    """
    check_regular(file, "read")
    with accessing(file, "read"), file.open("rb") as stream:
        first = stream.read(_BEGIN).removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    if first == b"{":
        return _of_json(file)
    if first == b"P":  # a zip archive
        raise _refused(file, "an archive, such as a .keras file, which keeps no report")
    plain = read_header(file).content.get("report")
    if plain is None:
        raise _refused(file, "a compact file that was saved without one")
    return _of_plain(file, plain)


def _of_json(file: Path) -> Report | Analysis:
    content = read_whole(file)
    try:
        text = content.decode("utf-8-sig")
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused(file, f"no JSON ({shortened(str(error))})") from error
    if not isinstance(plain, Mapping):
        raise _refused(file, "JSON of something else")
    if "format" in plain:
        return Analysis.from_json(text, str(file))
    inspected = plain.get("report")  # of `inspect --json`
    return _of_plain(file, plain if inspected is None else inspected)


def _of_plain(file: Path, plain: Any) -> Report:
    try:
        return Report.from_dict(plain)
    except FormatError as error:
        raise FormatError(f"{file} {_WANTED}. {error} {_HOW}") from error
    except (ArithmeticError, ValueError) as error:  # sizes no computer has
        raise _refused(file, f"one with numbers that cannot be ({error})") from error


def _refused(file: Path, came: str) -> FormatError:
    return FormatError(f"{file} {_WANTED}. Received: {came}. {_HOW}")
