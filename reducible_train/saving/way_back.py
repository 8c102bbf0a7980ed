"""How a model comes back from its compact file: tried before the file is written.

The configuration, as the file will hold it, goes through the same gate as in `load_model`
and is built by the same function, with the classes that the model is made of standing in
for `custom_objects`. Its variables get shapes and dtypes but no memory; names and random
numbers of the process go on as if nothing had been built.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from reducible_train import _keras
from reducible_train.errors import FormatError
from reducible_train.saving.model_config import build_model, missing_errors

_LONGEST = 300  # characters of another's message
_DEEPEST = 3  # lists in attributes of layers that are looked through for classes


@dataclass(frozen=True)
class WayBack:
    """How a model comes back.

    Args:
        config: The configuration for the file; `None` if no model can be built from it.
        custom_objects: Names that `load_model` must be given.
        reason: Why `load_model` cannot build it; `None` if it can.
        tried: False if it was not built, for want of an object.
        left_out: Paths of layers beside a graph that keep files of their own, which no compact
            file holds.
        replaced: Paths of layers that have another function in place of their `call`, likewise.
    """

    config: dict[str, Any] | None
    custom_objects: tuple[str, ...] = ()
    reason: str | None = None
    tried: bool = True
    left_out: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()

    @property
    def loads_with(self) -> str:
        """The call that brings the model back."""
        if self.config is None:
            return "load_weights_into(model, path)"
        if not self.custom_objects:
            return "load_model(path)"
        pairs = ", ".join(f"{name!r}: {_last(name)}" for name in self.custom_objects)
        return f"load_model(path, custom_objects={{{pairs}}})"

    @property
    def needs_more(self) -> bool:
        """True if `load_model(path)` alone will not do."""
        return self.config is None or bool(self.custom_objects or self.left_out or self.replaced)

    def __str__(self) -> str:
        named = ", ".join(map(repr, self.left_out))
        less = f" What {named} keeps in files of its own is not in it." if named else ""
        if self.replaced:
            calls = ", ".join(map(repr, self.replaced))
            less += f" The function in place of `call` of {calls} is not in it: set it again."
        if self.config is None:
            return (
                f"load_model cannot build the model again: {self.reason} Build it by its own "
                f"code, call it once on data, and use {self.loads_with}.{less}"
            )
        untried = "" if self.tried else " Whether that succeeds could not be tried here."
        return f"To bring the model back, use {self.loads_with}.{untried}{less}"


@_keras.untouched_process()
def way_back(model: Any, tensors: int, fits: Callable[[Any], str | None]) -> WayBack:
    """Find the call that brings a model back, by doing what it would do.

    It costs the time of building the model once, without memory for its weights.

    Args:
        model: A built model.
        tensors: How many it gives to the file.
        fits: From the model that came back, to why the weights do not fit it.
    """
    config = _keras.file_config(model)
    if config is None:
        return WayBack(None, reason=_culprits(model, {}) or _failure(model, {}))
    try:
        missing = tuple(sorted(missing_errors(config, {})))
    except FormatError as error:
        return WayBack(None, reason=_culprits(model, {}) or str(error))
    objects = _objects(model, missing)
    if len(objects) < len(missing):
        return WayBack(config, missing, tried=False)
    reason = _attempt(config, tensors, objects, fits)
    if reason is None:
        return WayBack(config, missing)
    return WayBack(None, reason=_culprits(model, objects) or reason)


def _attempt(
    config: Any, tensors: int, objects: Mapping[str, Any], fits: Callable[[Any], str | None]
) -> str | None:
    """Why what was built from a configuration is not the model; `None` if it is."""
    try:
        with _keras.bounded_variables(0):
            return fits(build_model(config, tensors, objects))
    except Exception as error:  # a layer's own code may fail in any way
        return _short(error.__cause__ or error)


# --- why not ------------------------------------------------------------------------------


def _culprits(model: Any, objects: Mapping[str, Any]) -> str | None:
    """The layers that keep the model from coming back, the deepest of a branch only."""
    made_anew = [path for path, layer in _keras.walk(model) if not _keras.saves_its_layers(layer)]
    if not _keras.saves_its_layers(model):
        made_anew = [""]
    beside = _keras.beside_graphs(model)
    found: list[tuple[str, str]] = []
    for path, layer in _keras.walk(model):
        if path not in beside and not any(
            path != each and path.startswith(f"{each}/".lstrip("/")) for each in made_anew
        ):
            why = _failure(layer, objects)
            found += [(path, f"layer '{path}' ({type(layer).__name__}): {why}")] if why else []
    paths = [path for path, _ in found]
    deepest = [w for path, w in found if not any(o.startswith(f"{path}/") for o in paths)]
    return "; ".join(deepest) or None


def _failure(layer: Any, objects: Mapping[str, Any]) -> str | None:
    """Why a layer's configuration cannot be taken out, written, let in or read."""
    try:
        with _keras.without_lambda_warnings():
            config = keras.saving.serialize_keras_object(layer)
        json.dumps(config, allow_nan=False)
        if not missing_errors(config, objects):
            with _keras.bounded_variables(0):
                keras.saving.deserialize_keras_object(config, dict(objects), safe_mode=True)
    except Exception as error:  # the user's own get_config may fail in any way
        return _short(error)
    return None


def _short(error: BaseException) -> str:
    """What an error says, without the configuration that Keras repeats in it."""
    text = " ".join(str(error).rpartition("Exception encountered: ")[2].split())
    text = (text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ...") or type(error).__name__
    return text if text.endswith((".", "!", "?")) else f"{text}."


# --- what stands in for custom_objects ----------------------------------------------------


def _objects(model: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Name -> class or function, of those that the model is made of."""
    found = {name: keras.saving.get_registered_object(name) for name in names if ">" in name}
    for thing in _things(model) if set(names) - found.keys() else ():
        name = keras.saving.get_registered_name(thing)
        if name in names:
            found.setdefault(name, thing)
    return {name: thing for name, thing in found.items() if thing is not None}


def _things(model: Any) -> Iterator[Any]:
    for layer in (model, *(layer for _, layer in _keras.walk(model))):
        yield from type(layer).__mro__  # a factorised container is of a class of ours
        yield from _held(vars(layer), 0)


def _held(value: Any, depth: int) -> Iterator[Any]:
    """Classes and functions in attributes."""
    if isinstance(value, type) or (callable(value) and hasattr(value, "__name__")):
        yield value
    elif depth < _DEEPEST and isinstance(value, (Mapping, list, tuple)):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _held(each, depth + 1)
    elif hasattr(type(value), "get_config"):
        yield type(value)


def _last(name: str) -> str:
    return name.rpartition(">")[2]
