"""`reducible-train finetune`: a trained model in, a smaller one out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from reducible_train.cli._data import Arrays, check_inputs, read_arrays
from reducible_train.cli._quiet import load_keras
from reducible_train.config import Config, load_config
from reducible_train.errors import FileAccessError, FormatError


def finetune(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Trained model, a .keras file.")],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Arrays x_train, y_train (or x, y); also x_val, y_val, x_test, y_test: an .npz.",
        ),
    ],
    config: Annotated[Path, typer.Option("--config", "-c", help="Configuration, a YAML file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Compact file to write.")],
    log_dir: Annotated[
        str | None, typer.Option(help="Folder for TensorBoard logs; else as configured.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs to train; else as configured.")
    ] = None,
) -> None:
    """Train a model while its ranks fall, and save it as a compact file."""
    console = Console()
    overrides: dict[str, Any] = {"training.epochs": epochs, "tensorboard.log_dir": log_dir}
    given = {key: value for key, value in overrides.items() if value is not None}
    loaded = load_config(config, given)
    if loaded.training.epochs is None:
        message = "epochs is needed to train. Received: nothing. Add it here, or give --epochs."
        loaded.refuse([(("training", "epochs"), message)])
    _check_writable(out)
    arrays = read_arrays(data).with_validation(loaded.training.validation_split)
    load_keras()
    network = _load(model)
    check_inputs(network, arrays, data)
    _train(console, loaded, network, arrays, out)


def _check_writable(out: Path) -> None:
    """Learn before the training, not after it, that the file cannot be written."""
    if out.is_dir() or not out.parent.is_dir():
        raise FileAccessError(
            f"--out must be a file in a folder that exists. Received: {str(out)!r}."
            " Make the folder, or choose another place."
        )


def _load(path: Path) -> Any:
    import keras  # noqa: PLC0415 (so that --help does not wait for it)

    if not path.is_file():
        raise FileAccessError(
            f"Expected a .keras file. Received: {str(path)!r}, which is not a file. Check the path."
        )
    try:
        return keras.saving.load_model(path)
    except Exception as error:  # Keras and h5py raise whatever they like for a damaged file
        raise FormatError(
            f"{path} must be a model that Keras can load. Received: {error} Save it with"
            " model.save('model.keras'); a model with code of its own is trained from Python."
        ) from error


def _train(console: Console, loaded: Config, network: Any, arrays: Arrays, out: Path) -> None:
    # Keras and TensorFlow come with these, so they wait until the arguments are known to be good.
    import keras  # noqa: PLC0415

    from reducible_train.cli._progress import EpochLines  # noqa: PLC0415
    from reducible_train.cli._results import (  # noqa: PLC0415
        Row,
        comparison,
        dense_file_bytes,
        metric_rows,
    )
    from reducible_train.saving import save_model  # noqa: PLC0415

    training = loaded.training
    if training.seed is not None:
        keras.utils.set_random_seed(training.seed)
    loaded.check(network)
    loaded.compile(network, len(arrays.train[0]))
    part, judged = arrays.judged
    bytes_before, parameters_before = dense_file_bytes(network), network.count_params()
    before = network.evaluate(*judged, verbose=0, return_dict=True)
    scheduler, *listeners = loaded.callbacks()
    console.print(Text(f"{network.name}: {parameters_before:,} parameters"))
    with EpochLines(console, scheduler) as lines:
        network.fit(
            *arrays.train,
            epochs=training.epochs,
            batch_size=training.batch_size,
            validation_data=arrays.val,
            callbacks=[scheduler, *listeners, lines],
            verbose=0,
        )
    after = network.evaluate(*judged, verbose=0, return_dict=True)
    report = scheduler.report
    saved = save_model(network, out, report)
    rows = [
        Row("parameters", parameters_before, report.parameters),
        *metric_rows(before, after, part),
        Row("file, without optimizer state", bytes_before, saved.bytes, unit=" B"),
    ]
    if report.dense_flops and report.flops:
        rows.append(Row("FLOPs of one sample", report.dense_flops, report.flops))
    console.print()
    console.print(comparison(rows, "before", "after"))
    console.print()
    console.print(Text(str(report)), soft_wrap=True)
    console.print()
    _say_where(console, loaded, out)


def _say_where(console: Console, loaded: Config, out: Path) -> None:
    console.print(Text(f"saved   reducible-train inspect {out}"), soft_wrap=True)
    if loaded.tensorboard is not None:
        folder = loaded.tensorboard.log_dir
        console.print(Text(f"logs    tensorboard --logdir {folder}"), soft_wrap=True)
