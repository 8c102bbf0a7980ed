"""The `reducible-train` command: one module of this package for each of its commands.

A module without a leading underscore is a command; the function that bears its name is run.
Commands import Keras only when they run, so `--help` is instant.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from typing import Annotated

import typer

from reducible_train.cli._errors import guarded
from reducible_train.cli._paths import at_home
from reducible_train.cli._streams import lasting_output

_HELP = """\
Lower the ranks of a Keras model while it trains, and save a file that is smaller.

Begin with demo. For a model of your own: let init write a configuration, look at it with preview,
train with finetune, and look at the result with inspect."""

app = typer.Typer(
    name="reducible-train",
    epilog="What goes wrong is told in a sentence and by the exit code: see finetune --help.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

for _module in pkgutil.iter_modules(__path__):
    if not _module.name.startswith("_"):
        _home = importlib.import_module(f"{__name__}.{_module.name}")
        _told = getattr(_home, "EPILOG", None)
        app.command(_module.name, epilog=_told)(guarded(at_home(getattr(_home, _module.name))))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"reducible-train {importlib.metadata.version('reducible-train')}")
        raise typer.Exit


@app.callback(help=_HELP)
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """What holds for every command."""


def main() -> None:
    """Run the command line; for the exit codes see `_exit`."""
    with lasting_output():
        app()
