"""`reducible-train schema`: the JSON schema of a configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from reducible_train.config import config_schema
from reducible_train.container.files import write_text


def schema(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write instead of the terminal.")
    ] = None,
) -> None:
    """Print the JSON schema of a configuration, for editors that complete and check."""
    text = json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"
    if out is None:
        typer.echo(text, nl=False)
        return
    write_text(out, text)
