"""What all trials of a search are trained on, and how: what must be the same when it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import keras

from reducible_train.selection import fingerprints

_DATA = ("x", "y", "sample_weight", "validation_data")


def training_of(tuner: str, model: Any | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a search is trained on and how, in plain values that can be compared.

    Args:
        tuner: Name of the tuner's class.
        model: A model of it, compiled; `None` where each trial compiles its own.
        arguments: Those of `model.fit`, by name.

    Returns:
        `tuner`, `training` and, where they are arrays, a fingerprint of the `data`.
    """
    names = ("batch_size", "validation_split", "steps_per_epoch", "validation_steps")
    how = {each: arguments[each] for each in names if arguments.get(each) is not None}
    if tuner != "Hyperband":  # which chooses the epochs of each trial
        how["epochs"] = arguments.get("epochs", 1)
    told = {"tuner": tuner, "training": how | ({} if model is None else _compiled(model))}
    arrays = keras.tree.flatten([arguments.get(each) for each in _DATA])
    held = [each for each in arrays if each is not None]
    if all(hasattr(each, "shape") and hasattr(each, "__array__") for each in held):
        with suppress(TypeError, ValueError, RuntimeError):  # of a tensor on another device
            told["data"] = fingerprints.of_arrays(held)
    return told


def _compiled(model: Any) -> dict[str, Any]:
    """The optimizer with its numbers, and the loss, by names that a run does not draw."""
    optimizer, loss = model.optimizer, getattr(model, "loss", None)
    found: dict[str, Any] = {"optimizer": type(optimizer).__name__}
    for name, value in optimizer.get_config().items():
        if name == "name" or value is None:
            continue
        plain = isinstance(value, bool | int | str)
        found[name] = value if plain else _number(value)
    if loss is not None:
        told = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
        found["loss"] = told
    return found


def _number(value: Any) -> str:
    """As many digits as single precision keeps; of what is no number, its kind."""
    return f"{value:.5g}" if isinstance(value, float) else type(value).__name__
