"""Names of files and folders that will be written, asked before the work that fills them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from reducible_train.container.files import accessing, check_regular, place_of
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
        FileAccessError: There is no such folder, it cannot be written into, or what is there is
            no regular file, or protected.
    """
    check_apart(path, name, inputs)
    check_file_name(path)
    if path.suffix.lower() in _READ:
        raise ArgumentError(
            f"{name} must be the name of a compact file. Received: {str(path)!r}, like a file of"
            f" another kind. Name it {path.with_suffix('.reducible').name}."
        )
    check_writable(path, name)


def check_writable(path: Path, name: str) -> None:
    """Refuse a file that could not be written.

    Raises:
        FileAccessError: There is no such folder, also where a link leads, it cannot be written
            into, or what is there is no regular file, or protected.
    """
    check_regular(path, "write", name)
    with accessing(path, "write", name), tempfile.TemporaryFile(dir=place_of(path).parent):
        pass


def check_apart(
    path: Path, name: str, others: Iterable[Path], example: str = "small.reducible"
) -> None:
    """Refuse a file to write that is one of those that must not be lost.

    Args:
        path: The file to write.
        name: What it is given as, such as `"--out"`.
        others: Files that are read, or that are written besides.
        example: A name that it could have.

    Raises:
        ArgumentError: It is one of them.
    """
    example = example if path.name != example else f"new-{example}"
    for other in others:
        if path.absolute() == other.absolute() or is_same(path, other):
            raise ArgumentError(
                f"{name} must be another file than those that are read, or written besides. "
                f"Received: {str(path)!r}, which would be lost. Choose another name, such as "
                f"{example}."
            )


def is_same(path: Path, other: Path) -> bool:
    """True if two names are those of one file."""
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
        places = (path, *path.absolute().parents)
        nearest = next(each for each in places if each.exists() or each.is_symlink())
    except (OSError, ValueError):
        nearest = path
    if not takes_files(nearest):
        raise FileAccessError(
            f"{name} must be one that can be written. Received: {str(path)!r}, but"
            f" {str(nearest)!r} cannot be written into. {advice}"
        )


def takes_files(folder: str | os.PathLike[str]) -> bool:
    """True for a folder that a file can be written into; none stays there.

    Permissions alone do not tell of `/proc`, or of a disk that is only read.
    """
    try:
        if not os.access(folder, os.W_OK | os.X_OK):
            return False
        with tempfile.TemporaryFile(dir=folder):
            return True
    except (OSError, ValueError):
        return False
