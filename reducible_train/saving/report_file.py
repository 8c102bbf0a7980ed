"""The report that a compact file keeps, without the model."""

from __future__ import annotations

import os

from reducible_train.container import read_header
from reducible_train.errors import FormatError
from reducible_train.report.records import Report


def read_report(path: str | os.PathLike[str]) -> Report | None:
    """Read the report that `save_model` was given with a model.

    Only the first bytes of the file are read, and neither Keras nor TensorFlow is needed.
    It is the report of that day but for the spectra and the wall times of its cuts, which
    the file does not hold.

    Args:
        path: A compact file, by custom `*.reducible`.

    Returns:
        The report; `None` if the model was saved without one.

    Raises:
        FormatError: The file is not one of ours, or its report is damaged.
        FileAccessError: It cannot be read.

    Example:
        >>> import keras, tempfile
        >>> from reducible_train import factorize, read_report, save_model
        >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, name="hidden"),
        ...                           keras.layers.Dense(10, name="output")])
        >>> report = factorize(model, rank=8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = save_model(model, f"{folder}/model.reducible", report)
        ...     again = read_report(f"{folder}/model.reducible")
        >>> again.ranks
        {'hidden/kernel': 8}
        >>> str(again) == str(report)
        True
    """
    plain = read_header(path).content.get("report")
    if plain is None:
        return None
    try:
        return Report.from_dict(plain)
    except FormatError as error:
        raise FormatError(f"{os.fspath(path)}: {error}") from error
