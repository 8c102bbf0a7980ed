"""A model's Keras configuration: checked, and built without running its code.

A file may come from a stranger. Before Keras sees its configuration, every name in it is
looked up in the `allow_list`, and Keras then finds no others. Its `safe_mode` alone has
been got around repeatedly (CVE-2024-3660, CVE-2025-1550, CVE-2025-8747, CVE-2025-9905,
CVE-2026-0897).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras

from reducible_train import _keras
from reducible_train.errors import FileAccessError, FormatError, shortened
from reducible_train.saving.allow_list import (
    LATER,
    check_counts,
    check_entry,
    entries,
    known_objects,
)

_LONGEST = 1000  # characters of Keras's own message, which may repeat the configuration
# How much a configuration may make, as `bounded_making` counts: whatever the file holds, for each
# tensor in it, and the tensors that count. A Sequential calls its layers anew with each that it
# gets, and so makes the square of what it holds: 300 in any case, 700 with a weight each.
_MADE, _MADE_BY_TENSOR, _TENSORS = 50_000, 300, 2000


def build_model(config: Any, tensors: int, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Build the model a configuration describes.

    Args:
        config: As Keras writes it.
        tensors: How many the file has, or will have.
        custom_objects: Name -> class or function.

    Raises:
        FormatError: It names something that is not allowed, asks for more layers than a model
            of so many tensors has, or Keras cannot build it.
    """
    known = known_objects(custom_objects)
    refuse_missing(config, known)
    text = json.dumps(config, ensure_ascii=False)
    most = _MADE + _MADE_BY_TENSOR * min(tensors, _TENSORS)
    with (
        only_format_errors(),
        _keras.only_registered(known, text),
        _keras.bounded_making(most),
    ):
        model = keras.saving.deserialize_keras_object(
            _keras.without_compilation(config), custom_objects=dict(known), safe_mode=True
        )
    if not isinstance(model, keras.Model):
        raise FormatError(f"The file does not describe a model. Received: {type(model).__name__}.")
    return model


def check_configuration(config: Any, known: Mapping[str, Any]) -> None:
    """Refuse a configuration that names what is not known, before any of it is built.

    Raises:
        FormatError: It does, or it holds code.
    """
    for entry in entries(config):
        check_entry(entry, known)
    check_counts(config)


def missing_errors(config: Any, known: Mapping[str, Any]) -> dict[str, FormatError]:
    """Every name that a configuration needs and `known` lacks, with the refusal it gets.

    Raises:
        FormatError: It holds what no `custom_objects` lets in.
    """
    errors: dict[str, FormatError] = {}
    while True:
        try:
            check_configuration(config, {**known_objects(known), **dict.fromkeys(errors, LATER)})
        except FormatError as error:
            if error.missing is None or error.missing in errors:
                raise
            errors[error.missing] = error
        else:
            return errors


def refuse_missing(config: Any, known: Mapping[str, Any]) -> None:
    """Name everything that is missing at once.

    Raises:
        FormatError: Something is, or is not allowed.
    """
    errors = missing_errors(config, known)
    if len(errors) == 1:
        raise next(iter(errors.values()))
    if errors:
        pairs = ", ".join(f"{name!r}: ..." for name in errors)
        raise FormatError(
            f"The configuration in the file names {', '.join(map(repr, errors))}, which are not "
            f"among Keras's own building blocks: pass custom_objects={{{pairs}}} if you trust "
            "them."
        )


@contextmanager
def only_format_errors() -> Iterator[None]:
    """Turn whatever fails within it into a `FormatError`.

    A forged configuration makes Keras fail in any way, and gives models that fail in any way.
    """
    try:
        yield
    except (FormatError, FileAccessError):
        raise
    except Exception as error:
        told = shortened(str(error) or type(error).__name__, _LONGEST)
        raise FormatError(
            f"The model in the file cannot be rebuilt: {told} Build it by its class and use "
            "load_weights_into(model, file)."
        ) from error
