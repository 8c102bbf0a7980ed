"""Configurations to begin from: those of `configs/`, which a wheel holds beside this module."""

from __future__ import annotations

import os
import re
from pathlib import Path

from reducible_train.errors import ArgumentError, FileAccessError

_HOME = Path(__file__).parent
_EXAMPLES = _HOME / "examples"  # in a clone, a link to `configs/`
SCHEMA = _HOME / "schema.json"
DEFAULT = "fine_tune"

_SCHEMA_LINE = re.compile(r"\A# yaml-language-server: \$schema=.*\n")


def names() -> list[str]:
    """Names of all examples."""
    return sorted(path.stem for path in _EXAMPLES.glob("*.yaml"))


def beginning(name: str, folder: Path) -> str:
    """The text of an example, its first line leading to the schema from a file in this folder.

    Raises:
        ArgumentError: There is no example of that name.
        FileAccessError: It cannot be read.

    Example:
        >>> beginning("ramp", Path("/tmp")).splitlines()[2]
        '# rest of the training at the final ranks to recover.'
    """
    known = names()
    if not known:
        raise FileAccessError(
            f"Expected the examples of this package in {str(_EXAMPLES)!r}. Received: none. Install "
            "it anew, or write a file with `compression:` and `training:` yourself."
        )
    if name not in known:
        raise ArgumentError(
            f"An example must be one of {', '.join(known)}. Received: {name!r}. Choose one of them."
        )
    path = _EXAMPLES / f"{name}.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileAccessError(
            f"Expected an example that can be read. Received: {str(path)!r} "
            f"({error.strerror or error}). Install the package anew."
        ) from error
    return f"{schema_line(folder)}\n{_SCHEMA_LINE.sub('', text)}"


def schema_line(folder: Path) -> str:
    """The comment by which an editor finds the schema from a file in this folder.

    A path from there if the package lies below, such as in `.venv`; the whole address if not.
    """
    place = SCHEMA.as_uri()
    if SCHEMA.is_relative_to(folder.absolute()):
        near = Path(os.path.relpath(SCHEMA, folder.absolute())).as_posix()
        place = near if " " not in near else place  # the comment ends at a space
    return f"# yaml-language-server: $schema={place}"
