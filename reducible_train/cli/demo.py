"""`reducible-train demo`: the whole way on data that is already there, in under a minute."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from reducible_train.cli._quiet import load_keras


class Data(StrEnum):
    """The data sets of `reducible_train.datasets`."""

    DIGITS = "digits"
    MNIST = "mnist"
    FASHION_MNIST = "fashion_mnist"


def demo(
    data: Annotated[Data, typer.Option(help="Data to train on.")] = Data.DIGITS,
    epochs: Annotated[
        int | None,
        typer.Option(min=7, help="Epochs: 30 for digits, 12 for the others if left out."),
    ] = None,
    out_dir: Annotated[Path, typer.Option(help="Folder for the logs and the compact file.")] = Path(
        "demo-output"
    ),
) -> None:
    """Train a network twice, dense and with falling ranks, and compare the two."""
    load_keras()
    from reducible_train.cli._demo import run  # noqa: PLC0415 (it needs Keras)

    run(data.value, epochs or (30 if data is Data.DIGITS else 12), out_dir)
