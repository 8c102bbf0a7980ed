"""`reducible-train analyze`: what each kernel of a trained model is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from reducible_train.cli._data import read_arrays, say_ignored
from reducible_train.cli._exit import RESCUED
from reducible_train.cli._interrupts import noticed_interrupts
from reducible_train.cli._network import check_model_file, load_network
from reducible_train.cli._quiet import load_keras
from reducible_train.errors import ArgumentError
from reducible_train.preflight.paths import check_apart, check_writable
from reducible_train.report.figures import check_picture

EPILOG = """\
Exit codes: 0 done; 1 bad input; 2 a wrong command line; 5 broken off: what was measured is kept \
in --file, and the same command goes on."""


def analyze(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Trained model, a .keras or .h5 file.")
    ],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="An .npz of x_train, y_train (or x, y); also x_val, y_val."
        ),
    ],
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="JSON file that keeps it; one begun is gone on with."),
    ] = None,
    metric: Annotated[
        str, typer.Option(help="What is measured, as model.evaluate calls it.")
    ] = "loss",
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Samples to measure on; else so many that it takes an epoch."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Picture to write, such as analysis.png.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Measure a model with each of its kernels alone cut to each of ten ranks.

    Measured on the validation data, else on the training data. The model stays as it is.

    Example: reducible-train analyze model.keras data.npz --file analysis.json
    """
    written = (file, "--file", "analysis.json"), (plot, "--plot", "analysis.png")
    for path, name, example in written:
        if path is not None:
            check_apart(path, name, (model, data), example)
            check_writable(path, name)
    if plot is not None:
        check_picture(plot, "--plot")
    check_model_file(model)
    arrays = read_arrays(data)
    load_keras()
    import keras  # noqa: PLC0415 (so that --help does not wait for it)

    from reducible_train.analysis import analyze as measured  # noqa: PLC0415 (it needs Keras)

    console = Console(stderr=True)
    say_ignored(console, arrays, data)

    arrays = arrays.with_words(keras.ops.convert_to_tensor)
    pair: Any = arrays.val or arrays.train
    network = load_network(model)
    if not network.compiled:
        raise ArgumentError(
            f"{model} must be compiled, as `--metric {metric}` is what model.evaluate tells. "
            "Received: one that is not. Call model.compile(loss=..., metrics=[...]) in Python and "
            "save it again: analyze takes no configuration that names a loss."
        )
    with _told_if_broken_off(console, file), noticed_interrupts() as check:

        def progress(done: int, count: int, path: str) -> None:
            console.print(f"{done}/{count} {path}", markup=False, highlight=False, soft_wrap=True)
            check()

        found = measured(
            network, pair, metric=metric, samples=samples, file=file, progress=progress
        )
    typer.echo(found.to_json() if as_json else str(found))
    if plot is not None:
        found.plot(plot)


@contextmanager
def _told_if_broken_off(console: Console, file: Path | None) -> Iterator[None]:
    """Say what a person who breaks off has of it.

    Raises:
        typer.Exit: Broken off.
    """
    try:
        yield
    except KeyboardInterrupt:
        told = "Nothing is kept; give --file, and what is measured is."
        if file is not None:
            told = f"What was measured is kept in {file}; run the same command again to go on."
            told = told if file.exists() else "Nothing was measured yet."
        console.print(Text(f"Broken off. {told}"), soft_wrap=True)
        raise typer.Exit(RESCUED) from None
