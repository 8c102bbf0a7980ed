"""The options of the commands as tables, made from the commands themselves.

python docs/options.py            # what belongs into docs/configuration.md, which a test compares
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import Enum

import typer.main

from reducible_train.cli import app

COMMANDS = ("finetune", "tune")


def tables() -> str:
    """A table for each command that trains."""
    return "\n\n".join("\n".join(table(name)) for name in COMMANDS)


def table(name: str) -> Iterator[str]:
    """A row for each argument and option of a command."""
    yield f"| `{name}` | left out | what it says |\n|---|---|---|"
    for each in typer.main.get_command(app).commands[name].params:
        names = each.opts if each.opts[0].startswith("-") else [each.metavar]
        shown = ", ".join(f"`{option}`" for option in names)
        about = " ".join(each.help.split())
        default = each.default
        if default is None and isinstance(getattr(each, "show_default", None), str):
            default = each.show_default
        if isinstance(default, Enum):
            about += f" One of {', '.join(f'`{member.value}`' for member in type(default))}."
            default = default.value
        left_out = "" if default is None else f"`{default}`"
        yield f"| {shown} | {'must be given' if each.required else left_out} | {about} |"


if __name__ == "__main__":
    sys.stdout.write(f"{tables()}\n")
