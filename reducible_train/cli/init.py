"""`reducible-train init`: a configuration to begin from, with comments."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from reducible_train.cli._look import program
from reducible_train.config.beginnings import DEFAULT, beginning, names
from reducible_train.container.files import write_text
from reducible_train.errors import ArgumentError, FileAccessError
from reducible_train.preflight.paths import check_writable


def init(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File to write; one that is there stays.")
    ] = Path("reducible.yaml"),
    like: Annotated[
        str,
        typer.Option(
            help=f"Example to begin from: {', '.join(names())}.",
            autocompletion=names,
        ),
    ] = DEFAULT,
) -> None:
    """Write a configuration with comments, to begin from.

    Its first line leads an editor to the schema, so that it completes and checks.

    Example: reducible-train init guarded.yaml --like guard
    """
    text = beginning(like, file.parent)
    _check_new(file)
    check_writable(file, "FILE")
    write_text(file, text)
    command, name = program("reducible-train"), shlex.quote(str(file))
    given = f"MODEL.keras DATA.npz --config {name} --out"
    run = f"train   {command} finetune {given} small.reducible"
    if any(line.startswith("search_space:") for line in text.splitlines()):
        run = f"search  {command} tune {given} best.reducible"
    told = (
        f"written {file}, the example {like!r} (--like takes {', '.join(names())})",
        f"look    {command} preview {name}",
        run,
    )
    for line in told:
        Console().print(Text(line), soft_wrap=True)


def _check_new(file: Path) -> None:
    """Refuse what is there already, and names by which no editor knows a configuration."""
    if file.is_dir():
        raise FileAccessError(
            f"FILE must be the name of a new file. Received: {str(file)!r}, a folder. "
            f"Write {str(file / 'reducible.yaml')!r}."
        )
    if os.path.lexists(file):
        raise FileAccessError(
            f"FILE must be the name of a new file. Received: {str(file)!r}, which is there "
            "already. Choose another name, or remove it first."
        )
    if file.suffix.lower() not in (".yaml", ".yml"):
        raise ArgumentError(
            f"FILE must end in .yaml or .yml, by which editors know it. Received: {str(file)!r}. "
            f"Name it {file.with_suffix('.yaml').name!r}."
        )
