"""How the command line says what went wrong: on stderr, without a traceback, exit code 1."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from reducible_train.errors import ReducibleError


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """The command, which tells errors of the package to a person and exits with 1."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except ReducibleError as error:
            show_error(error)
            raise typer.Exit(1) from error

    return run


def show_error(error: ReducibleError) -> None:
    """A panel in a terminal; plain lines that can be searched where the output is a file."""
    console = Console(stderr=True)
    title = type(error).__name__
    if console.is_terminal:
        console.print(Panel(Text(str(error)), title=title, border_style="red", expand=False))
    else:
        console.print(Text(f"{title}: {error}"), soft_wrap=True)
