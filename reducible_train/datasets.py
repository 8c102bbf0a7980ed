"""Small classification data for the demo, the examples and the benchmarks.

`digits` ships with scikit-learn and needs no network. `mnist` and `fashion_mnist` come
from the folder named by the environment variable `REDUCIBLE_DATA` if it is set, and
through `keras.datasets` (which downloads them once) if it is not.
"""

from __future__ import annotations

import gzip
import importlib
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reducible_train.errors import ArgumentError, FileAccessError, FormatError

FOLDER_VARIABLE = "REDUCIBLE_DATA"
_KEYS = ("x_train", "y_train", "x_test", "y_test")
_IDX_NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
_Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Flat images and their classes, in three parts that share no sample.

    Args:
        name: Name it was loaded by.
        x_train: `(samples, features)` float32 in [0, 1].
        y_train: `(samples,)` int64 classes.
        x_val: Held out of the training data, to choose by.
        y_val: Its classes.
        x_test: For the final figure only.
        y_test: Its classes.
        source: Where it was read from, for people.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    source: str

    @property
    def features(self) -> int:
        """Numbers in one sample."""
        return int(self.x_train.shape[1])

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(max(self.y_train.max(), self.y_test.max())) + 1


def load(name: str = "digits") -> Dataset:
    """Load one of the data sets by name: `digits`, `mnist` or `fashion_mnist`.

    The split is the same each time: of digits one fifth is for the test and a tenth of the
    rest for validation, both drawn at random; of the others the last 5,000 training
    samples are for validation.

    Raises:
        ArgumentError: There is no data set of that name.
        FileAccessError: It cannot be found, installed or downloaded.
        FormatError: A file of that name holds something else.
    """
    loader = _LOADERS.get(name)
    if loader is None:
        raise ArgumentError(
            f"data must be one of {', '.join(_LOADERS)}. Received: {name!r}. Choose one of them."
        )
    return loader()


def _digits() -> Dataset:
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise FileAccessError(
            "The data set 'digits' ships with scikit-learn, which must be installed."
            f" Received: {error}. Run: pip install 'reducible-train[demo]'"
        ) from error
    images, classes = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    x, y = (images[order] / 16).astype("float32"), classes[order].astype("int64")
    test = len(x) // 5
    val = (len(x) - test) // 10
    return Dataset(
        "digits",
        x[test + val :],
        y[test + val :],
        x[test : test + val],
        y[test : test + val],
        x[:test],
        y[:test],
        "scikit-learn",
    )


def _mnist_like(name: str) -> Callable[[], Dataset]:
    def loader() -> Dataset:
        folder = os.environ.get(FOLDER_VARIABLE)
        if folder:
            arrays, source = _from_folder(Path(folder), name)
        else:
            arrays, source = _from_keras(name), "keras.datasets"
        _check(arrays, source)
        x_train, y_train, x_test, y_test = arrays
        x_train, x_test = (_flat(images) for images in (x_train, x_test))
        y_train, y_test = (classes.astype("int64") for classes in (y_train, y_test))
        val = min(5000, len(x_train) // 10)
        return Dataset(
            name,
            x_train[:-val],
            y_train[:-val],
            x_train[-val:],
            y_train[-val:],
            x_test,
            y_test,
            source,
        )

    return loader


def _flat(images: np.ndarray) -> np.ndarray:
    return (images.reshape(len(images), -1) / np.float32(255)).astype("float32")


def _from_keras(name: str) -> _Arrays:
    module = importlib.import_module("keras").datasets
    try:
        (x_train, y_train), (x_test, y_test) = getattr(module, name).load_data()
    except Exception as error:  # urllib, ssl and Keras each raise their own kinds
        raise FileAccessError(
            f"The data set {name!r} could not be downloaded by keras.datasets."
            f" Received: {error}. Connect to the network, or name a folder that holds"
            f" {name}.npz in the environment variable {FOLDER_VARIABLE}."
        ) from error
    return x_train, y_train, x_test, y_test


def _from_folder(folder: Path, name: str) -> tuple[_Arrays, str]:
    """`{name}.npz`, or the four gzipped IDX files in a folder of that name or the folder itself."""
    archive = folder / f"{name}.npz"
    if archive.is_file():
        return _read_npz(archive), str(archive)
    for inner in (folder / name, folder / name.replace("_", "-"), folder):
        paths = [inner / idx for idx in _IDX_NAMES]
        if all(path.is_file() for path in paths):
            x_train, y_train, x_test, y_test = (_read_idx(path) for path in paths)
            return (x_train, y_train, x_test, y_test), str(inner)
    raise FileAccessError(
        f"{FOLDER_VARIABLE} must name a folder with {name}.npz, or with {_IDX_NAMES[0]} and"
        f" its three companions in {name}/. Received: {str(folder)!r}, which has neither."
        " Put the data there, or unset the variable to let keras.datasets download it."
    )


def _read_npz(path: Path) -> _Arrays:
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in _KEYS if key not in archive]
            if not missing:
                x_train, y_train, x_test, y_test = (archive[key] for key in _KEYS)
                return x_train, y_train, x_test, y_test
    except OSError as error:
        raise FileAccessError(f"{path} must be readable. Received: {error}.") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _not_data(path, "an .npz archive of plain arrays", str(error)) from error
    raise _not_data(path, f"the arrays {', '.join(_KEYS)}", f"{', '.join(missing)} missing")


def _read_idx(path: Path) -> np.ndarray:
    """One IDX file: two zero bytes, type 8 (bytes), the axes, big-endian sizes, the bytes."""
    try:
        with gzip.open(path) as stream:
            content = stream.read()
    except (OSError, EOFError) as error:
        raise FileAccessError(f"{path} must be readable as gzip. Received: {error}.") from error
    axes = content[3] if len(content) > 3 else 0
    start = 4 + 4 * axes
    if content[:3] != b"\0\0\x08" or not 1 <= axes <= 3 or len(content) < start:
        raise _not_data(path, "an IDX file of bytes", f"a file that begins {content[:4]!r}")
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes)]
    count = int(np.prod(shape, dtype=object))
    if len(content) - start != count:
        raise _not_data(path, f"{count} bytes for shape {shape}", f"{len(content) - start}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _check(arrays: _Arrays, source: str) -> None:
    x_train, y_train, x_test, y_test = arrays
    for x, y in ((x_train, y_train), (x_test, y_test)):
        fits = x.ndim in (2, 3) and y.ndim == 1 and len(x) == len(y) and len(x) >= 10
        if not (fits and x.dtype == np.uint8 and y.dtype.kind in "iu"):
            raise _not_data(
                Path(source),
                "uint8 images and one whole-number class for each",
                f"images {x.dtype}{x.shape}, classes {y.dtype}{y.shape}",
            )
    if x_train.shape[1:] != x_test.shape[1:]:
        shapes = f"{x_train.shape[1:]} and {x_test.shape[1:]}"
        raise _not_data(Path(source), "images of one size for training and test", shapes)


def _not_data(path: Path, wanted: str, came: str) -> FormatError:
    return FormatError(f"{path} must hold {wanted}. Received: {came}. Get the file again.")


_LOADERS: dict[str, Callable[[], Dataset]] = {
    "digits": _digits,
    "mnist": _mnist_like("mnist"),
    "fashion_mnist": _mnist_like("fashion_mnist"),
}
