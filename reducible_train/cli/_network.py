"""The model that a command begins with: looked at, then loaded."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

from reducible_train.errors import FileAccessError, FormatError, first_sentence


def check_model_file(path: Path) -> None:
    """Refuse what is no model, before Keras is loaded to say so.

    Raises:
        FileAccessError: There is no such file.
        FormatError: It is of another kind.
    """
    if path.is_dir():
        raise FileAccessError(
            f"Expected a .keras file. Received: {str(path)!r}, a folder. A SavedModel, as"
            " model.export writes it, cannot be trained on; save the model itself with"
            " model.save('model.keras')."
        )
    if not path.is_file():
        raise FileAccessError(
            f"Expected a .keras file. Received: {str(path)!r}, which is not a file. Check the path."
        )
    if path.suffix == ".npz":
        raise _not_a_model(path, "an archive of arrays; MODEL comes first, then DATA.")
    if path.suffix == ".reducible":
        raise _not_a_model(path, "a compact file, which holds no optimizer and no loss.")
    if path.name.endswith((".weights.h5", ".weights.json")):
        raise _not_a_model(path, "weights without their model.")
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        raise FormatError(
            f"{path} must be a model that Keras can load. Received: no zip archive; it was cut"
            " short, or is another kind of file. Fetch or save it again."
        )


def load_network(path: Path) -> Any:
    """Load the model.

    Raises:
        FormatError: Keras cannot.
    """
    import keras  # noqa: PLC0415 (so that --help does not wait for it)

    try:
        with warnings.catch_warnings():  # a model compiled but never trained; its state is new
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            model = keras.saving.load_model(path)
    except Exception as error:  # Keras and h5py raise whatever they like for a damaged file
        if _loads_uncompiled(path):
            raise FormatError(
                f"{path} must be a model whose loss and metrics Keras can load. Received: "
                f"{first_sentence(error)} Load it with keras.saving.load_model({str(path)!r},"
                " compile=False), compile it anew, and save it with model.save('model.keras'); a"
                " loss with code of its own is trained from Python."
            ) from error
        raise _not_a_model(path, first_sentence(error)) from error
    if not isinstance(model, keras.Model):
        raise _not_a_model(path, f"a {type(model).__name__}.")
    return model


def _loads_uncompiled(path: Path) -> bool:
    """Whether Keras can load all but how a model was compiled, such as `loss="mse"` of an .h5."""
    import keras  # noqa: PLC0415 (so that --help does not wait for it)

    try:
        return isinstance(keras.saving.load_model(path, compile=False), keras.Model)
    except Exception:  # the same
        return False


def _not_a_model(path: Path, came: str) -> FormatError:
    remedy = "a model with code of its own is trained from Python."
    if path.suffix == ".reducible":
        remedy = "a compact file is brought there by reducible_train.load_model(path)."
    return FormatError(
        f"{path} must be a model that Keras can load. Received: {came} Save it with"
        f" model.save('model.keras'); {remedy}"
    )
