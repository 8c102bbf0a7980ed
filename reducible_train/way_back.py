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
from reducible_train.layer_state import without_tables
from reducible_train.model_config import build_model, missing_errors, model_config

_LARGEST = 256 << 20  # bytes of weights that are made a second time, where it must be
_DEEPEST = 3  # lists in attributes of layers that are looked through for classes


@dataclass(frozen=True)
class WayBack:
    """How a model comes back.

    Args:
        config: The configuration for the file; `None` if no model can be built from it.
        custom_objects: Names that `load_model` must be given.
        reason: Why `load_model` cannot build it; `None` if it can.
        tried: False if it was not built, for want of an object or of memory.
    """

    config: dict[str, Any] | None
    custom_objects: tuple[str, ...] = ()
    reason: str | None = None
    tried: bool = True

    @property
    def loads_with(self) -> str:
        """The call that brings the model back."""
        if self.config is None:
            return "load_weights_into(model, path)"
        if not self.custom_objects:
            return "load_model(path)"
        pairs = ", ".join(f"{name!r}: {_last(name)}" for name in self.custom_objects)
        return f"load_model(path, custom_objects={{{pairs}}})"

    def __str__(self) -> str:
        if self.config is None:
            return (
                f"load_model cannot build the model again: {self.reason} Build it by its own "
                f"code, call it once on data, and use {self.loads_with}."
            )
        untried = "" if self.tried else " Whether that succeeds could not be tried here."
        return f"To bring the model back, use {self.loads_with}.{untried}"


def way_back(model: Any, fits: Callable[[Any], str | None]) -> WayBack:
    """Find the call that brings a model back, by doing what it would do.

    It costs the time of building the model once, without memory for its weights. A layer that
    cannot be built so is given memory, if all weights take no more than 256 MiB.

    Args:
        model: A built model.
        fits: From the model that came back, to why the weights do not fit it.
    """
    config = _as_in_file(model)
    if config is None:
        return WayBack(None, reason=_named(_culprits(model)) or _failure(model))
    try:
        missing = tuple(missing_errors(config, {}))
    except FormatError as error:
        return WayBack(None, reason=_named(_culprits(model)) or str(error))
    objects = _objects(model, missing)
    if len(objects) < len(missing):
        return WayBack(config, missing, tried=False)
    small = sum(_keras.size(v) * _keras.itemsize(v) for v in model.weights) <= _LARGEST
    tried, reason = _attempt(config, objects, fits, small)
    if reason is None:
        return WayBack(config, missing, tried=tried)
    return WayBack(None, reason=reason)


def _as_in_file(model: Any) -> dict[str, Any] | None:
    """The configuration as `json` gives it back; `None` if it cannot be taken out or written."""
    try:
        config: dict[str, Any] | None = json.loads(
            json.dumps(without_tables(model_config(model)), allow_nan=False)
        )
    except (TypeError, ValueError, RecursionError):
        return None
    stem = _keras.automatic_stem(model)
    if config is not None and stem is not None and config.get("config", {}).get("name"):
        config["config"]["name"] = stem  # Keras counts it up within a process
    return config


def _attempt(
    config: Any, objects: Mapping[str, Any], fits: Callable[[Any], str | None], small: bool
) -> tuple[bool, str | None]:
    """Whether it was built, and why it does not come back."""
    try:
        with _keras.untouched_process(), _keras.without_values():
            return True, fits(build_model(config, objects))
    except Exception as error:  # a layer may ask for values while it is built
        if not small:
            return False, None
        refusal = error
    try:
        with _keras.untouched_process():
            return True, fits(build_model(config, objects))
    except FormatError as error:
        return True, str(error.__cause__ or error)
    except Exception:  # what the layer saves cannot be read back
        return True, str(refusal)


# --- why not ------------------------------------------------------------------------------


def _named(problems: Iterator[str]) -> str | None:
    return "; ".join(problems) or None


def _culprits(model: Any) -> Iterator[str]:
    """The layers that keep the model from coming back, the deepest of a branch only."""
    made_anew = [path for path, layer in _keras.walk(model) if not _keras.saves_its_layers(layer)]
    if not _keras.saves_its_layers(model):
        made_anew = [""]
    found: list[tuple[str, str]] = []
    for path, layer in _keras.walk(model):
        if not any(path != each and path.startswith(f"{each}/".lstrip("/")) for each in made_anew):
            why = _failure(layer)
            found += [(path, f"layer '{path}' ({type(layer).__name__}): {why}")] if why else []
    for path, why in found:
        if not any(other.startswith(f"{path}/") for other, _ in found):
            yield why


def _failure(layer: Any) -> str | None:
    """Why a layer's configuration cannot be taken out, written or let in."""
    try:
        config = keras.saving.serialize_keras_object(layer)
        json.dumps(config, allow_nan=False)
        missing_errors(config, {})
    except Exception as error:  # the user's own get_config may fail in any way
        return f"{' '.join(str(error).split())[:300] or type(error).__name__}"
    return None


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
        yield type(layer)
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
