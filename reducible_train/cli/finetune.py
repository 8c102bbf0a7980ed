"""`reducible-train finetune`: a trained model in, a smaller one out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from reducible_train.cli._configured import configured
from reducible_train.cli._data import read_arrays
from reducible_train.cli._exit import CODES
from reducible_train.cli._network import check_model_file, load_network
from reducible_train.cli._quiet import load_keras
from reducible_train.config import Config
from reducible_train.preflight.paths import check_apart, check_folder, check_output
from reducible_train.settings.checkpoint_names import folder_of

EPILOG = CODES


def finetune(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Trained model, a .keras or .h5 file.")
    ],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="An .npz of x_train, y_train (or x, y); also x_val, y_val, x_test, y_test.",
        ),
    ],
    config: Annotated[
        Path, typer.Option("--config", "-c", help="Settings, a YAML file; init writes one.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Compact file to write, by custom *.reducible.")
    ],
    log_dir: Annotated[
        str | None, typer.Option(help="Folder for TensorBoard logs; else as configured.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs to train; else as configured.")
    ] = None,
) -> None:
    """Train a model while its ranks fall, and save it as a compact file.

    Samples go along the first axis of every array. What cannot work is refused before training.
    The model is judged on the test data, else on the validation, else on the training data.

    Example: reducible-train finetune model.keras data.npz -c fine_tune.yaml -o small.reducible
    """
    console = Console()
    loaded = configured(config, epochs, log_dir)
    if loaded.training.epochs is None:
        message = "epochs is needed to train. Received: nothing. Add it here, or give --epochs."
        loaded.refuse([(("training", "epochs"), message)])
    check_output(out, "--out", (model, data, config))
    if loaded.model.checkpoint is not None:
        best = Path(loaded.model.checkpoint.filepath)
        read = (model, data, config, out)
        check_apart(best, "checkpoint.filepath", read, f"best{best.suffix}")
        advice = "Choose another place in checkpoint.filepath."
        check_folder(folder_of(str(best)), "The checkpoint's folder", advice)
    _check_folders(loaded, out)
    check_model_file(model)
    arrays = read_arrays(data).with_validation(loaded.training.validation_split)
    load_keras()
    from reducible_train.cli._training import train  # noqa: PLC0415 (it needs Keras)

    train(console, loaded, load_network(model), arrays, data, out)


def _check_folders(loaded: Config, out: Path) -> None:
    """Learn before the training that a folder cannot be written; it is made when it begins.

    None of them is where the compact file goes.
    """
    board, guard, backup = loaded.tensorboard, loaded.compression.guard, loaded.model.backup
    advice = "Choose another place"
    named = [
        None if board is None else board.log_dir,
        None if guard is None else guard.folder,
        None if backup is None else backup.backup_dir,
    ]
    check_apart(out, "--out", [Path(each) for each in named if each is not None])
    if board is not None:
        check_folder(board.log_dir, "The log folder", f"{advice} with --log-dir.")
    if guard is not None and guard.folder is not None:
        check_folder(guard.folder, "The guard's folder", f"{advice} in compression.guard.folder.")
    if backup is not None:
        check_folder(backup.backup_dir, "The backup folder", f"{advice} in backup.backup_dir.")
