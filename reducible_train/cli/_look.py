"""How to look at what a command left: lines to paste, right for the environment in use; tables."""

from __future__ import annotations

import importlib.metadata
import shlex
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

# The first setting is of the Time Series tab, the last of the Custom Scalars one.
_SITE = "http://localhost:6006/?smoothing=0#"
_STOCK = "custom_scalars&_smoothingWeight=0"
_WIDE = 10_000  # columns that no table has


def address() -> str:
    """Where TensorBoard shows what was logged: the tab of this package where it is installed."""
    tabs = importlib.metadata.entry_points(group="tensorboard_plugins")
    own = any(each.module.startswith("reducible_train.") for each in tabs)
    return _SITE + ("reducible" if own else _STOCK)


def program(name: str) -> str:
    """What to type to run a program of this environment: its name, or its path if not found.

    A virtual environment that was not activated (`make` activates none) is not on the path.
    """
    home = Path(sys.executable).parent.absolute()
    found = shutil.which(name)
    beside = shutil.which(name, path=str(home))
    if beside is None or (found is not None and Path(found).samefile(beside)):
        return name
    here = Path.cwd()
    near = [folder for folder in (home, home.resolve()) if folder.is_relative_to(here)]
    folder = near[0].relative_to(here) if near else home
    return shlex.quote(str(folder / Path(beside).name))


def inspect_line(file: Path) -> str:
    """The command that shows a compact file."""
    return f"{program('reducible-train')} inspect {shlex.quote(str(file))}"


def tensorboard_line(log_dir: Path) -> str:
    """The command that shows logs."""
    return f"{program('tensorboard')} --logdir {shlex.quote(str(log_dir))}"


def show_table(console: Console, table: Table) -> None:
    """Print a table; where there is no terminal, its lines are whole and can be searched."""
    (console if console.is_terminal else Console(width=_WIDE)).print(table)
