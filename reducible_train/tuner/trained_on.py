"""What all trials of a search are trained on, and how: what must be the same when it goes on."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.selection import fingerprints
from reducible_train.tuner.project import OPTIONAL

_DATA = ("x", "y", "sample_weight", "validation_data", "calibration")
_FIT = ("validation_split", "steps_per_epoch", "validation_steps", "class_weight")
_BATCH = 32  # of arrays, where `fit` is told nothing


def training_of(tuner: str, model: Any | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a search is trained on and how, in plain values that can be compared.

    Args:
        tuner: Name of the tuner's class.
        model: A model of it, or what has its optimizer and its loss, as far as they are known;
            `None` where each trial compiles its own.
        arguments: Those of `model.fit`, by name, and the `calibration` of the hypermodel.

    Returns:
        `tuner`, `training`, a fingerprint of each part of the data that is made of arrays, and
        which of these another search may lack and be the same.
    """
    how = {each: _plain(arguments[each]) for each in _FIT if arguments.get(each)}
    if arguments.get("shuffle") not in (None, True):
        how["shuffle"] = _plain(arguments["shuffle"])
    if "validation_steps" in how and arguments.get("validation_batch_size"):  # which samples count
        how["validation_batch_size"] = _plain(arguments["validation_batch_size"])
    if tuner != "Hyperband":  # which chooses the epochs of each trial
        how["epochs"] = _plain(arguments.get("epochs", 1))
    data = dict(_fingerprints(arguments))
    if "x" not in data:  # a Dataset, which may hold the rest
        data = {name: each for name, each in data.items() if each != "none"}
    batch = arguments.get("batch_size") or (_BATCH if "x" in data else None)
    if batch is not None:
        how["batch_size"] = _plain(batch)
    usual = [] if batch != _BATCH else ["batch_size"]
    if model is not None:
        compiled, more = _compiled(model)
        how |= compiled
        usual += more
    return {"tuner": tuner, "training": how, "arrays": data,
            OPTIONAL: {"training": usual, "arrays": list(_DATA)}}  # fmt: skip


def _fingerprints(arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Of each part of the data that is there and made of arrays; of what is not there, "none"."""
    for name in _DATA:
        parts = _keras.arrays_in(arguments.get(name))
        if not parts:
            yield name, "none"
        elif all(hasattr(each, "shape") and hasattr(each, "__array__") for each in parts):
            with suppress(TypeError, ValueError, RuntimeError):  # of a tensor on another device
                yield name, " ".join(fingerprints.of_values(each) for each in parts)


def _compiled(model: Any) -> tuple[dict[str, Any], list[str]]:
    """The optimizer with its numbers, and the loss, by names that a run does not draw.

    The names of those that the optimizer would have by itself come second: another version of Keras
    may lack them.
    """
    optimizer, loss = getattr(model, "optimizer", None), getattr(model, "loss", None)
    found: dict[str, Any] = {}
    usual: list[str] = []
    if optimizer is not None:
        numbers, usual = _configured(optimizer)
        found = {"optimizer": type(optimizer).__name__, **numbers}
    if loss is not None:
        found["loss"] = _loss(loss)
    if isinstance(loss, keras.losses.Loss):
        numbers, own = _configured(loss)
        found |= {f"loss.{name}": value for name, value in numbers.items() if name not in own}
    with suppress(Exception):  # of a model that compiles in its own way
        weights = model.get_compile_config().get("loss_weights")
        found |= {} if weights is None else {"loss_weights": _plain(weights)}
    return found, usual


def _configured(made: Any) -> tuple[dict[str, Any], list[str]]:
    """What an object of Keras is configured as, and the names of what it would be by itself."""
    told = inspect.signature(type(made)).parameters
    found = {name: value for name, value in made.get_config().items() if name != "name"}
    plain = {name: _plain(value) for name, value in found.items()}
    usual = [each for each in plain if each in told and plain[each] == _plain(told[each].default)]
    return plain, usual


def _loss(loss: Any) -> Any:
    if isinstance(loss, Mapping):
        return {str(name): _loss(each) for name, each in loss.items()}
    if isinstance(loss, list | tuple):
        return [_loss(each) for each in loss]
    if loss is None or isinstance(loss, str):
        return loss
    return getattr(loss, "__name__", type(loss).__name__)


def _plain(value: Any) -> Any:
    """Numbers with as many digits as single precision keeps; of anything unknown, its kind."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        if {"class_name", "config"} <= value.keys():  # an object of Keras, such as a schedule
            inner = {name: each for name, each in value["config"].items() if name != "name"}
            return f"{value['class_name']}({_plain(inner)})"
        return {str(name): _plain(value[name]) for name in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    try:
        return f"{float(value):.5g}"
    except (TypeError, ValueError):
        return type(value).__name__
