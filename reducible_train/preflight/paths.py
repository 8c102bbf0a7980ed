"""Names of files and folders that will be written, asked before the work that fills them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from reducible_train.errors import ArgumentError, FileAccessError

KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
_READ = (".npz", ".npy", ".yaml", ".yml", ".json")  # what finetune takes in


def check_file_name(path: Path) -> None:
    """Refuse names by which Keras would take a compact file for one of its own.

    Raises:
        ArgumentError: It is one.
    """
    if path.suffix.lower() in KERAS_SUFFIXES:
        raise ArgumentError(
            f"A compact file must not be named like one of Keras's. Received: {path}. Name it "
            f"{path.with_suffix('.reducible').name}, or use model.save for a {path.suffix} file."
        )


def check_output(path: Path, name: str, inputs: Iterable[Path] = ()) -> None:
    """Refuse a compact file that could not be written, or that would do harm.

    Args:
        path: The file to write.
        name: What it is given as, such as `"--out"`.
        inputs: The files that are read; none of them is written over.

    Raises:
        ArgumentError: It is named like a file of another kind, or is one of those that are read.
        FileAccessError: There is no such folder, it cannot be written into, or the name is taken
            by a folder or a device.
    """
    check_apart(path, name, inputs)
    check_file_name(path)
    if path.suffix.lower() in _READ:
        raise ArgumentError(
            f"{name} must be the name of a compact file. Received: {str(path)!r}, like a file of"
            f" another kind. Name it {path.with_suffix('.reducible').name}."
        )
    _check_free(path, name)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise FileAccessError(
            f"{name} must be in a folder that can be written. Received: {str(path)!r}"
            f" ({error.strerror or error}). Choose another place."
        ) from error


def check_apart(path: Path, name: str, others: Iterable[Path]) -> None:
    """Refuse a file to write that is one of those that must not be lost.

    Args:
        path: The file to write.
        name: What it is given as, such as `"--out"`.
        others: Files that are read, or that are written besides.

    Raises:
        ArgumentError: It is one of them.
    """
    for other in others:
        if _is_same(path, other):
            raise ArgumentError(
                f"{name} must be another file than those that are read, or written besides. "
                f"Received: {str(path)!r}, which would be lost. Choose another name, such as "
                "small.reducible."
            )


def _check_free(path: Path, name: str) -> None:
    try:
        if path.is_dir() or not path.parent.is_dir():
            raise FileAccessError(
                f"{name} must be a file in a folder that exists. Received: {str(path)!r}."
                " Make the folder, or choose another place."
            )
        if os.path.lexists(path) and path.exists() and not path.is_file():
            raise FileAccessError(
                f"{name} must be a file. Received: {str(path)!r}, which is a device or a pipe."
                " Choose another name."
            )
        path.exists()
    except FileAccessError:
        raise
    except (OSError, ValueError) as error:  # too long, or not a name at all
        raise FileAccessError(
            f"{name} must be a name that a file can have. Received: {str(path)!r:.200}"
            f" ({getattr(error, 'strerror', None) or error}). Choose another name."
        ) from error


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.resolve() == other.resolve() or path.samefile(other)
    except (OSError, ValueError, RuntimeError):  # one of them is not there
        return False


def check_folder(folder: str | os.PathLike[str], name: str, advice: str) -> None:
    """Refuse a folder that could not be made, or not be written into.

    Args:
        folder: The folder; it need not exist yet.
        name: What it is for, such as `"The log folder"`.
        advice: How to choose another.

    Raises:
        FileAccessError: It cannot be.
    """
    path = Path(folder)
    if "://" in str(folder):
        return  # of a bucket, which only TensorFlow knows
    try:
        nearest = next(each for each in (path, *path.absolute().parents) if each.exists())
        good = nearest.is_dir() and os.access(nearest, os.W_OK)
    except (OSError, ValueError):
        nearest, good = path, False
    if not good:
        raise FileAccessError(
            f"{name} must be one that can be written. Received: {str(path)!r}, but"
            f" {str(nearest)!r} cannot be written into. {advice}"
        )
