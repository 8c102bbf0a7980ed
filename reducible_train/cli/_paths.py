"""Paths of a command line: `~` is the home of the user wherever it stands."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def at_home(command: Callable[..., None]) -> Callable[..., None]:
    """The command with `~` followed in its paths, which shells leave behind `=` and in quotes."""

    @functools.wraps(command)
    def run(**given: Any) -> None:
        command(**{name: _followed(value) for name, value in given.items()})

    return run


def _followed(value: Any) -> Any:
    return Path(os.path.expanduser(value)) if isinstance(value, Path) else value
