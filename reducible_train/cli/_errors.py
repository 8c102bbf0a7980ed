"""How the command line says what went wrong: on stderr, without a traceback, by exit code."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from reducible_train.cli._exit import BAD_INPUT, INTERRUPTED
from reducible_train.cli._streams import lost_output
from reducible_train.errors import FileAccessError, ReducibleError, first_sentence

_DEBUG = "REDUCIBLE_DEBUG"  # set to have the traceback of what nobody has foreseen
_KEPT = ("demo", "finetune", "init", "tune")  # what these make is in files, whatever is printed


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """The command, which tells a person what went wrong and exits with a code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
            if command.__name__ not in _KEPT:
                _check_shown()
        except ReducibleError as error:
            show_error(type(error).__name__, str(error))
            raise typer.Exit(BAD_INPUT) from error
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:  # where nothing is kept that a command would have told of
            Console(stderr=True).print("Broken off; run the same command again.")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if _DEBUG in os.environ:
                raise
            told = f"{first_sentence(error)} Set {_DEBUG}=1 to see where."
            show_error("Unforeseen", told)
            raise typer.Exit(BAD_INPUT) from error

    return run


def _check_shown() -> None:
    """Refuse to have printed a result that could not be written.

    Raises:
        FileAccessError: It could not.
    """
    fault = lost_output()
    if fault is not None:
        raise FileAccessError(
            "Expected an output that takes what is printed. Received: "
            f"{fault.strerror or fault}. Check the disk and its free space."
        )


def show_error(title: str, told: str) -> None:
    """A panel in a terminal; plain lines that can be searched where the output is a file."""
    console = Console(stderr=True)
    if console.is_terminal:
        console.print(Panel(Text(told), title=title, border_style="red", expand=False))
    else:
        console.print(Text(f"{title}: {told}"), soft_wrap=True)
