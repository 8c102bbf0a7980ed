"""A model's configuration as a compact file holds it: no compilation, tables or counted names."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras

from reducible_train._keras.layer_state import without_tables
from reducible_train._keras.layer_tree import automatic_stem
from reducible_train._keras.traceless import plainly_named

# How a model was compiled; and numbers of objects that Keras would look up in other files.
_DROPPED = {"compile_config", "shared_object_id"}


def file_config(model: Any) -> dict[str, Any] | None:
    """The configuration as `json` gives it back; `None` if it cannot be taken out or written.

    Keras cannot take out that of a subclassed model with arguments that are no plain values.
    """
    try:
        with without_lambda_warnings(), plainly_named(model):
            plain = without_tables(_serialized(model))
        config: dict[str, Any] | None = json.loads(json.dumps(plain, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return None
    stem = automatic_stem(model)
    if config is not None and stem is not None and config.get("config", {}).get("name"):
        config["config"]["name"] = stem  # Keras counts it up within a process
    return config


def _serialized(model: Any) -> Any:
    try:
        return without_compilation(keras.saving.serialize_keras_object(model))
    except Exception:  # the user's own get_config may fail in any way
        return None


def without_compilation(value: Any) -> Any:
    """A configuration without how the models in it were compiled."""
    if isinstance(value, Mapping):
        dropped = _DROPPED if "class_name" in value else set()
        return {k: without_compilation(v) for k, v in value.items() if k not in dropped}
    if isinstance(value, (list, tuple)):
        return [without_compilation(v) for v in value]
    return value


@contextmanager
def without_lambda_warnings() -> Iterator[None]:
    """Keras warns of a `lambda` that it writes; a save tells it with the way round it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The object being serialized includes a `lambda`")
        yield
