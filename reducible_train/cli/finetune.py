"""`reducible-train finetune`: a trained model in, a smaller one out."""

from __future__ import annotations

import os
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from reducible_train.cli._data import Arrays, check_inputs, check_labels, read_arrays
from reducible_train.cli._look import ADDRESS, inspect_line, tensorboard_line
from reducible_train.cli._quiet import load_keras
from reducible_train.config import Config, load_config
from reducible_train.errors import ArgumentError, FileAccessError, FormatError


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
    _check_keeps(out, (model, data, config))
    if loaded.tensorboard is not None:
        _check_log_dir(Path(loaded.tensorboard.log_dir))
    arrays = read_arrays(data).with_validation(loaded.training.validation_split)
    load_keras()
    network = _load(model)
    check_inputs(network, arrays, data)
    _train(console, loaded, network, arrays, data, out)


def _check_writable(out: Path) -> None:
    """Learn before the training, not after it, that the file cannot be written."""
    if out.is_dir() or not out.parent.is_dir():
        raise FileAccessError(
            f"--out must be a file in a folder that exists. Received: {str(out)!r}."
            " Make the folder, or choose another place."
        )
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise FileAccessError(
            f"--out must be in a folder that can be written. Received: {str(out)!r}"
            f" ({error.strerror or error}). Choose another place."
        ) from error


def _check_keeps(out: Path, read: tuple[Path, ...]) -> None:
    """Never write over what was read: the compact file holds less than the model it came from."""
    for path in read:
        if out.exists() and path.exists() and out.samefile(path):
            raise ArgumentError(
                f"--out must be another file than those that are read. Received: {str(out)!r},"
                " which would be lost. Choose another name, such as small.reducible."
            )


def _check_log_dir(folder: Path) -> None:
    """The same for the logs; the folder itself is made when training begins."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise FileAccessError(
            f"The log folder must be one that can be written. Received: {str(folder)!r}, but"
            f" {str(nearest)!r} cannot be written into. Choose another place with --log-dir."
        )


def _load(path: Path) -> Any:
    import keras  # noqa: PLC0415 (so that --help does not wait for it)

    if not path.is_file():
        raise FileAccessError(
            f"Expected a .keras file. Received: {str(path)!r}, which is not a file. Check the path."
        )
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        raise FormatError(
            f"{path} must be a model that Keras can load. Received: no zip archive; it was cut"
            " short, or is another kind of file. Fetch or save it again."
        )
    try:
        with warnings.catch_warnings():  # a model compiled but never trained; its state is new
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            return keras.saving.load_model(path)
    except Exception as error:  # Keras and h5py raise whatever they like for a damaged file
        remedy = "a model with code of its own is trained from Python."
        if path.suffix == ".reducible":
            remedy = "a compact file is brought there by reducible_train.load_model(path)."
        raise FormatError(
            f"{path} must be a model that Keras can load. Received: {_first_sentence(error)} Save"
            f" it with model.save('model.keras'); {remedy}"
        ) from error


def _first_sentence(error: Exception) -> str:
    """Enough to know what Keras or TensorFlow found; they go on for a page."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0].partition('. ')[0]}."


def _train(
    console: Console, loaded: Config, network: Any, arrays: Arrays, data: Path, out: Path
) -> None:
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
    check_labels(network, arrays, data)
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
    console.print(Text(f"saved   {inspect_line(out)}"), soft_wrap=True)
    if loaded.tensorboard is not None:
        line = tensorboard_line(Path(loaded.tensorboard.log_dir))
        console.print(Text(f"logs    {line}\n        {ADDRESS}"), soft_wrap=True)
