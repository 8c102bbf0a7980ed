"""Arrays of an `.npz` file as training, validation and test data."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from reducible_train.container.files import check_regular
from reducible_train.errors import ArgumentError, FileAccessError, FormatError

Pair = tuple[np.ndarray, np.ndarray]
_WIDEST = 8  # bytes of a number that Keras takes
_PARTS = ("train", "val", "test")
_WANTED = (
    "It must hold x_train and y_train (or x and y), and may hold x_val and y_val, x_test and y_test"
)


@dataclass(frozen=True, eq=False)
class Arrays:
    """Samples first on every axis 0; `None` for a part the file does not have.

    Attributes:
        ignored: Names of arrays that are no part.
    """

    train: Pair
    val: Pair | None
    test: Pair | None
    ignored: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, Pair]:
        """The parts there are, by name."""
        pairs = zip(_PARTS, (self.train, self.val, self.test), strict=True)
        return {name: pair for name, pair in pairs if pair is not None}

    @property
    def judged(self) -> tuple[str, Pair]:
        """The best part to judge a model by, and its name."""
        if self.test is not None:
            return "test", self.test
        if self.val is not None:
            return "validation", self.val
        return "training", self.train

    def with_validation(self, split: float) -> Arrays:
        """The same; if there is no validation part, the last `split` of training becomes it.

        Raises:
            ArgumentError: One of the two would be empty.
        """
        x, y = self.train
        if self.val is not None or split == 0:
            return self
        kept = math.floor(len(x) * (1 - split))
        if kept in (0, len(x)):
            raise ArgumentError(
                "training.validation_split must leave samples to train on and to judge by."
                f" Received: {split} of {len(x)} samples. Choose another, or add x_val and y_val."
            )
        return replace(self, train=(x[:kept], y[:kept]), val=(x[kept:], y[kept:]))

    def with_words(self, tensor: Callable[[Any], Any]) -> Arrays:
        """The same, with samples that are text as tensors, for Keras takes no arrays of it."""
        pairs: dict[str, Any] = {
            name: (x if x.dtype.kind in "biuf" else tensor(x), y)
            for name, (x, y) in self.parts.items()
        }
        return replace(self, **pairs)


def read_arrays(path: Path) -> Arrays:
    """Read the file and check all its arrays.

    Raises:
        FileAccessError: It cannot be read.
        FormatError: It is not an archive of plain arrays, or not of the wanted ones.
    """
    found, held = _read(path)
    names = _named(found)
    train = _pair(held, *names, path)
    if train is None:
        told = ", ".join(found) or "nothing"
        raise FormatError(
            f"{path}: {_WANTED}. Received: {told}. Rename the arrays, as in"
            " np.savez(path, x_train=x, y_train=y)."
        )
    val, test = (_pair(held, f"x_{part}", f"y_{part}", path) for part in ("val", "test"))
    return Arrays(train, val, test, tuple(name for name in found if name not in held))


def say_ignored(console: Console, arrays: Arrays, path: Path) -> None:
    """Name the arrays of a file of which a command takes nothing."""
    if arrays.ignored:
        told = f"not used of {path}: {', '.join(arrays.ignored)}"
        console.print(Text(told), soft_wrap=True)


def _named(found: Sequence[str]) -> tuple[str, str]:
    """What the training data are called among the names of a file."""
    return ("x_train", "y_train") if {"x_train", "y_train"} & set(found) else ("x", "y")


def _used(found: Sequence[str]) -> list[str]:
    """Those of the names of a file that are a part."""
    parts = [*_named(found), *(f"{axis}_{part}" for part in _PARTS[1:] for axis in "xy")]
    return [name for name in found if name in parts]


def _read(path: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """The names of all arrays, and those that are a part; the others are not even looked at."""
    read = ""
    if path.is_dir():
        raise FileAccessError(
            f"Expected an .npz file that can be read. Received: {str(path)!r}, a folder."
            " Save the arrays with np.savez(path, x_train=..., y_train=...)."
        )
    check_regular(path, "read")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise FormatError(
                f"{path} must be an .npz archive. Received: a single array."
                " Save it with np.savez(path, x_train=..., y_train=...)."
            )
        with archive:
            held = {}
            for read in _used(archive.files):
                held[read] = archive[read]
            return archive.files, held
    except OSError as error:
        raise FileAccessError(
            f"Expected an .npz file that can be read. Received: {str(path)!r}"
            f" ({error.strerror or error}). Check the path and its permissions."
        ) from error
    except MemoryError as error:
        raise FormatError(
            f"{path} must hold arrays that fit into memory. Received: {error}. Give fewer samples."
        ) from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(
            f"{path} must be an .npz archive of plain arrays. Received: {_told(error)}"
            f"{f' in {read}' if read else ''}."
            " Save it with np.savez(path, x_train=..., y_train=...)."
        ) from error


def _told(error: Exception) -> str:
    """What numpy found, without its advice to trust the file."""
    text = str(error).rstrip(".")
    if "pickle" in text and "Object arrays" in text:
        return "an array of Python objects (dtype=object)"
    if isinstance(error, EOFError):
        return "an empty file"
    return "a file of another kind" if "pickle" in text else text


def _pair(held: dict[str, np.ndarray], x_name: str, y_name: str, path: Path) -> Pair | None:
    if x_name not in held and y_name not in held:
        return None
    if x_name not in held or y_name not in held:
        missing = y_name if x_name in held else x_name
        raise FormatError(f"{path}: {_WANTED}. Received: no {missing}. Add it.")
    x, y = held[x_name], held[y_name]
    if x.ndim < 1 or y.ndim < 1 or len(x) != len(y) or len(x) == 0:
        raise FormatError(
            f"{path}: {x_name} and {y_name} must have equally many samples, at least one."
            f" Received: shapes {x.shape} and {y.shape}. Samples go along the first axis."
        )
    for name, array, kinds in ((x_name, x, "biufUS"), (y_name, y, "biuf")):
        if array.dtype.kind not in kinds:  # whether a model takes words, it says itself
            raise FormatError(
                f"{path}: {name} must hold numbers. Received: {array.dtype}. {_numbering(name)}"
            )
        if array.dtype.kind == "f" and array.dtype.itemsize > _WIDEST:
            raise FormatError(
                f"{path}: {name} must hold numbers of at most {_WIDEST} bytes, as Keras takes them."
                f" Received: {array.dtype}. Save {name}.astype('float32')."
            )
        bad = int(np.count_nonzero(~np.isfinite(array))) if array.dtype.kind == "f" else 0
        if bad:
            raise FormatError(
                f"{path}: {name} must hold finite numbers. Received: {bad} NaN or infinite ones."
                " Remove those samples."
            )
    return x, y


def _numbering(name: str) -> str:
    if name.startswith("y"):
        return "Number the classes: classes, y = np.unique(y, return_inverse=True)."
    return "Turn it into numbers, such as x.astype('float32')."
