"""`reducible-train tune`: many fine-tunings of one trained model, and the best of them."""

from __future__ import annotations

from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console
from rich.text import Text

from reducible_train.cli._configured import configured
from reducible_train.cli._data import read_arrays, say_ignored
from reducible_train.cli._goal import DROP, goal
from reducible_train.cli._network import check_model_file, load_network
from reducible_train.cli._quiet import load_keras
from reducible_train.cli._workers import (
    PROJECT,
    Workers,
    alone_in,
    check_place,
    check_workers,
    follow_parent,
    is_watched,
    role,
)
from reducible_train.config import Config
from reducible_train.preflight.paths import check_folder, check_output
from reducible_train.settings.compression import MEASURED
from reducible_train.settings.search_space import SearchSpace

EPILOG = """\
Exit codes: 0 done; 1 bad input, told before training; 2 a wrong command line; 3 saved, but no \
trial kept to the bound on quality or size; 5 broken off: finished trials are kept, and the same \
command goes on."""


class Tuner(StrEnum):
    """Which tuner of keras-tuner chooses the trials."""

    BAYESIAN = "bayesian"
    RANDOM = "random"
    GRID = "grid"


def tune(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Trained model, a .keras or .h5 file.")
    ],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="An .npz of x_train, y_train (or x, y), and x_val, y_val."
        ),
    ],
    config: Annotated[
        Path,
        typer.Option(
            "--config",
            "-c",
            help="Settings, a YAML file; its section search_space says what is searched, and"
            " init --like search writes one.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Compact file for the best trial.")],
    trials: Annotated[int, typer.Option(min=1, help="How many trainings in all.")] = 20,
    folder: Annotated[
        Path, typer.Option(help="Where trials are kept; the same folder goes on with them.")
    ] = Path("search"),
    tuner: Annotated[
        Tuner,
        typer.Option(
            help="How trials are chosen; bayesian tries sizes at which the quality just holds,"
            " where the smallest is searched by one range of budgets of parameters."
        ),
    ] = Tuner.BAYESIAN,
    monitor: Annotated[
        str, typer.Option(help="The metric that tells how good a model is.")
    ] = "val_accuracy",
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="What it may be worse than the model as it is.", show_default=f"{DROP}"
        ),
    ] = None,
    max_size: Annotated[
        float | None,
        typer.Option(
            help="In place of --max-drop: the largest fraction of the parameters, in (0, 1]; then"
            " the best quality within it is searched."
        ),
    ] = None,
    analysis: Annotated[
        Path | None,
        typer.Option(
            help="File of `reducible-train analyze --metric accuracy`: the search begins where it"
            " foresees that the quality holds, and tries nothing larger."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of a trial; else as configured.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that train at once on this machine.")
    ] = 1,
) -> None:
    """Search how a trained model is best compressed: the smallest that keeps its quality.

    Finished trials stay in the folder; run the same command again to go on after a break.

    Example: reducible-train tune model.keras data.npz -c search.yaml -o best.reducible
    """
    follow_parent()
    check_workers(workers)
    console, asked = Console(), goal(monitor, max_drop, max_size)
    loaded = configured(config, epochs)
    missing: list[tuple[tuple[str, ...], str]] = []
    if loaded.training.epochs is None:
        message = "epochs is needed to train. Received: nothing. Add it here, or give --epochs."
        missing.append((("training", "epochs"), message))
    space = loaded.search_space
    if space is None:
        message = (
            "search_space says what is searched. Received: none. Add for example"
            " search_space: {budget: [0.1, 0.5]}."
        )
        missing.append((("search_space",), message))
    elif analysis is None and MEASURED in (space.criterion, *space.criterion):
        message = (
            "criterion may be 'measured' where there is an analysis. Received: none. Give "
            "--analysis, the file of reducible-train analyze, or name 'fisher' in its place."
        )
        missing.append((("search_space", "criterion"), message))
    falls = loaded.training.learning_rate_schedule
    if space is not None and space.learning_rate is not None and falls != "constant":
        message = (
            "learning_rate_schedule would overrule the learning rate that is searched. Received: "
            f"{falls}. Remove it, or learning_rate of search_space."
        )
        missing.append((("training", "learning_rate_schedule"), message))
    loaded.refuse(missing)
    check_output(out, "--out", (model, data, config, folder))
    check_folder(str(folder), "The folder of the search", "Choose another place with --folder.")
    check_model_file(model)
    arrays = read_arrays(data).with_validation(loaded.training.validation_split)
    if not is_watched():
        check_place(console)
    _say_unused(console, loaded)
    if role() is None:
        say_ignored(console, arrays, data)
    with ExitStack() as held:
        if (folder / PROJECT).is_dir():  # known before TensorFlow is loaded
            held.enter_context(alone_in(folder))
        load_keras()
        if is_watched():  # a chief is on its way, and loads it too
            check_place(console)
        from reducible_train.cli._tuning import Tuning  # noqa: PLC0415 (it needs Keras)

        searched, network = cast(SearchSpace, space), load_network(model)
        tuning = Tuning(
            loaded, searched, network, arrays, folder, tuner.value, trials, asked, analysis
        )
        held.enter_context(alone_in(folder))
        tuning.open()
        if role() is not None:  # the chief, or a worker, of a search of several processes
            tuning.run(console)
            return
        if workers > 1:
            Workers(workers, folder).run(console, tuning.progress(console))
        else:
            tuning.run(console)
        tuning.finish(console, out)


def _say_unused(console: Console, loaded: Config) -> None:
    """Name what a configuration asks for and a search does not take."""
    if role() is not None:
        return
    compression = loaded.compression.model_fields_set - {"rules"}
    sections = loaded.model.model_fields_set - {"compression", "training", "search_space"}
    names = [*(f"compression.{each}" for each in sorted(compression)), *sorted(sections)]
    if names:
        told = "a search takes search_space, training and the rules of compression"
        console.print(Text(f"not used: {', '.join(names)} ({told})"), soft_wrap=True)
