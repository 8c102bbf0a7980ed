"""Arrays of an `.npz` file as training, validation and test data."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reducible_train.errors import ArgumentError, FileAccessError, FormatError

Pair = tuple[np.ndarray, np.ndarray]
_WANTED = (
    "It must hold x_train and y_train (or x and y), and may hold x_val and y_val, x_test and y_test"
)


@dataclass(frozen=True, eq=False)
class Arrays:
    """Samples first on every axis 0; `None` for a part the file does not have."""

    train: Pair
    val: Pair | None
    test: Pair | None

    @property
    def judged(self) -> tuple[str, Pair]:
        """The best part to judge a model by, and its name."""
        if self.test is not None:
            return "test", self.test
        if self.val is not None:
            return "validation", self.val
        return "training", self.train

    def with_validation(self, split: float) -> Arrays:
        """The same; if there is no validation part, the last `split` of training becomes it."""
        x, y = self.train
        kept = math.floor(len(x) * (1 - split))
        if self.val is not None or kept == len(x) or kept == 0:
            return self
        return Arrays((x[:kept], y[:kept]), (x[kept:], y[kept:]), self.test)


def read_arrays(path: Path) -> Arrays:
    """Read the file and check all its arrays.

    Raises:
        FileAccessError: It cannot be read.
        FormatError: It is not an archive of plain arrays, or not of the wanted ones.
    """
    held = _read(path)
    names = ("x_train", "y_train") if "x_train" in held or "y_train" in held else ("x", "y")
    train = _pair(held, *names, path)
    if train is None:
        found = ", ".join(held) or "nothing"
        raise FormatError(f"{path}: {_WANTED}. Received: {found}. Rename the arrays.")
    val, test = (_pair(held, f"x_{part}", f"y_{part}", path) for part in ("val", "test"))
    return Arrays(train, val, test)


def check_inputs(model: Any, arrays: Arrays, path: Path) -> None:
    """Refuse samples that do not have the shape a model takes.

    Raises:
        ArgumentError: They do not, or the model takes more than one input.
    """
    inputs = getattr(model, "inputs", None)
    if not inputs:
        return  # a subclassed model says nothing about its inputs
    if len(inputs) > 1:
        raise ArgumentError(
            f"The model must take one input. Received: a model of {len(inputs)} inputs."
            " Train it from Python, with RankScheduler among the callbacks of model.fit."
        )
    wanted = tuple(inputs[0].shape[1:])
    for part in (arrays.train, arrays.val, arrays.test):
        came = None if part is None else part[0].shape[1:]
        if came is not None and not _fits(came, wanted):
            raise ArgumentError(
                f"Samples must have the shape {wanted} that the model takes. Received: {came}"
                f" in {path}. Reshape the arrays, or choose another model."
            )


def check_labels(model: Any, arrays: Arrays, path: Path) -> None:
    """Refuse what a model compiled for class numbers would stumble over, or silently cut off.

    Raises:
        ArgumentError: Labels are no whole numbers, or no classes of the model.
    """
    if "sparse" not in str(getattr(model.loss, "name", None) or model.loss):
        return
    outputs = getattr(model, "outputs", None) or []
    classes = outputs[0].shape[-1] if len(outputs) == 1 else None
    for part in (arrays.train, arrays.val, arrays.test):
        if part is None or classes is None:
            continue
        labels = np.unique(part[1])
        wrong = labels[(labels % 1 != 0) | (labels < 0) | (labels >= classes)]
        if wrong.size:
            raise ArgumentError(
                f"Labels must be whole numbers from 0 to {classes - 1}, the classes of model"
                f" {model.name!r}. Received: {', '.join(map(str, wrong[:5].tolist()))} in {path}."
                " Number the classes from 0, or name another loss in the configuration."
            )


def _fits(came: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    if len(came) != len(wanted):
        return False
    return all(size in (None, given) for given, size in zip(came, wanted, strict=True))


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise FormatError(
                f"{path} must be an .npz archive. Received: a single array."
                " Save it with np.savez(path, x_train=..., y_train=...)."
            )
        with archive:
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise FileAccessError(
            f"Expected an .npz file that can be read. Received: {str(path)!r}"
            f" ({error.strerror or error}). Check the path and its permissions."
        ) from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(
            f"{path} must be an .npz archive of plain arrays. Received: {error}."
            " Save it with np.savez(path, x_train=..., y_train=...)."
        ) from error


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
    for name, array in ((x_name, x), (y_name, y)):
        if array.dtype.kind not in "biuf":
            raise FormatError(f"{path}: {name} must hold numbers. Received: {array.dtype}.")
        bad = int(np.count_nonzero(~np.isfinite(array))) if array.dtype.kind == "f" else 0
        if bad:
            raise FormatError(
                f"{path}: {name} must hold finite numbers. Received: {bad} NaN or infinite ones."
                " Remove those samples."
            )
    return x, y
