"""What a model was compiled with, and by what that measures."""

from __future__ import annotations

import contextlib
import inspect
import re
from typing import Any

import keras

from reducible_train._keras.registry import is_of_keras
from reducible_train._keras.traceless import untouched_process

_BY_SHAPES = ("accuracy", "acc", "crossentropy", "ce")  # metrics that Keras chooses by shapes
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # of an object that has no text of its own


def compiled_with(model: Any) -> dict[str, Any]:
    """What a model was compiled with, by argument, as it was given; nothing where nobody knows."""
    if not getattr(model, "compiled", False):
        return {}
    return dict(getattr(getattr(model, "_compile_config", None), "config", {}))


def measured_with(model: Any) -> dict[str, Any]:
    """What the loss and the metrics of a compiled model are, to be compared with another time.

    Objects of a class that tells how they were made are alike by that, texts and numbers by what
    they are; functions, and all else, only where they are the same. Of a class with a `compile` of
    its own, such as a `Distiller`, nothing is alike that was compiled at another time.
    """
    given = compiled_with(model)
    names = ("loss", "loss_weights", "metrics", "weighted_metrics")
    found = {name: keras.tree.map_structure(_known_by, given.get(name)) for name in names}
    if type(model).compile is not keras.Model.compile:  # which may keep losses where it likes
        found["compiled"] = getattr(model, "_compile_config", None)
    return found


def measured_as(model: Any, monitor: str) -> str:
    """By what a metric of the logs is measured, in words that are alike in another process.

    Functions, and objects that do not tell how they were made, are told by their names alone. Of
    what the model was compiled with only that counts by which the logs may have the name.

    Args:
        model: The model, compiled or not.
        monitor: The name in the logs.
    """
    name, given = monitor.removeprefix("val_"), compiled_with(model)
    found: dict[str, Any] = {}
    with untouched_process():
        if _ends_with(name, "loss"):
            for kind in ("loss", "loss_weights"):
                found[kind] = keras.tree.map_structure(_loss_told_by, given.get(kind))
        for kind in ("metrics", "weighted_metrics"):
            found[kind] = _told_metrics(given.get(kind), name)
    return ", ".join(f"{each}={told}" for each, told in found.items() if told not in ("None", []))


def _told_metrics(given: Any, name: str) -> list[str]:
    """Those of them that the logs may call so."""
    metrics = [(each, _meant(each, keras.metrics)) for each in keras.tree.flatten(given)]
    return sorted({_told_by(meant) for each, meant in metrics if _logs(each, meant, name)})


def _logs(given: Any, meant: Any, name: str) -> bool:
    """True for a metric that the logs may call so, with its output or more before its own name."""
    own = (given, getattr(given, "__name__", None), getattr(meant, "name", None))
    return any(isinstance(each, str) and _ends_with(name, each) for each in own)


def _ends_with(name: str, last: str) -> bool:
    return f"_{name}".endswith(f"_{last}")


def _meant(given: Any, home: Any) -> Any:
    """What `compile` takes a name, or a function of Keras's, for: an object, if there is a class.

    Args:
        given: A loss or a metric, as it was given.
        home: Where Keras has its kind, `keras.losses` or `keras.metrics`.
    """
    if given in _BY_SHAPES:
        return given
    with contextlib.suppress(Exception):  # of a name of one's own, or a class that wants more
        found = home.get(given) if isinstance(given, str) else given
        if not inspect.isfunction(found) or not is_of_keras(found):
            return found
        kinds = {name.lower(): each for name, each in vars(home).items() if isinstance(each, type)}
        return kinds[found.__name__.replace("_", "").lower()]()
    return given


def _loss_told_by(given: Any) -> str:
    return _told_by(_meant(given, keras.losses))


def _known_by(given: Any) -> Any:
    config = _config_of(given)
    if config is not None:
        return type(given), repr(config)
    return given if callable(given) else repr(given)


def _told_by(given: Any) -> str:
    if not callable(given):
        return _ADDRESS.sub("", repr(given))
    name = getattr(given, "__qualname__", type(given).__qualname__)
    config = _config_of(given)
    return name if config is None else _ADDRESS.sub("", f"{name}({_lasting(config)})")


def _config_of(given: Any) -> Any | None:
    """What an object tells of how it was made; `None` where its class does not."""
    if "get_config" in vars(type(given)):  # one that is inherited leaves out what is new
        with contextlib.suppress(Exception):
            return given.get_config()
    return None


def _lasting(config: Any) -> Any:
    """A config without what differs from process to process: names, and where code stands."""
    if isinstance(config, list | tuple):
        return [_lasting(each) for each in config]
    if isinstance(config, set | frozenset):  # in no order that lasts
        return sorted(map(str, config))
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "__lambda__":
        return "a lambda"
    return {key: _lasting(each) for key, each in config.items() if key not in ("name", "module")}
