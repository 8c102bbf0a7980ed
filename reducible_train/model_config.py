"""A model's Keras configuration: taken out, checked, and built without running its code.

A file may come from a stranger. Before Keras sees its configuration, every class in it
is looked up: Keras's own building blocks, ours, and what the caller names in
`custom_objects`. Anything else, and whatever holds code, is refused. Keras's
`safe_mode` alone has been got around repeatedly (CVE-2024-3660, CVE-2025-1550,
CVE-2025-8747, CVE-2025-9905, CVE-2026-0897).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras

from reducible_train.errors import FormatError

_MODULES = (
    "keras",
    "keras.activations",
    "keras.constraints",
    "keras.dtype_policies",
    "keras.initializers",
    "keras.layers",
    "keras.models",
    "keras.quantizers",
    "keras.random",
    "keras.regularizers",
)
_KERAS_KINDS = (
    keras.Layer,
    keras.Operation,
    keras.constraints.Constraint,
    keras.dtype_policies.DTypePolicy,
    keras.initializers.Initializer,
    keras.quantizers.QuantizationConfig,
    keras.quantizers.Quantizer,
    keras.random.SeedGenerator,
    keras.regularizers.Regularizer,
)
# A layer of `keras.applications` that has no public name.
_UNNAMED = {("keras.src.applications.convnext", "LayerScale")}
# Public layers that run code or open files named in their configuration.
_RUN_CODE = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
_PLAIN = {"__keras_tensor__", "__tensor__", "__numpy__", "__ellipsis__", "__slice__", "__bytes__"}
_OURS = "reducible_train>"


def model_config(model: Any) -> dict[str, Any] | None:
    """The serialized configuration of a model, without how it was compiled.

    Returns:
        Plain JSON values, or `None` if Keras cannot take it out (a subclassed model with
        arguments that are no plain values).
    """
    try:
        config = keras.saving.serialize_keras_object(model)
    except Exception:  # the user's own get_config may fail in any way
        return None
    return _without_compilation(config)


def _without_compilation(value: Any) -> Any:
    if isinstance(value, Mapping):
        dropped = {"compile_config"} if "class_name" in value else set()
        return {k: _without_compilation(v) for k, v in value.items() if k not in dropped}
    if isinstance(value, (list, tuple)):
        return [_without_compilation(v) for v in value]
    return value


def build_model(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Build the model a configuration describes.

    Raises:
        FormatError: It names something that is not allowed, or Keras cannot build it.
    """
    custom = dict(custom_objects or {})
    refuse_missing(config, custom)
    try:
        model = keras.saving.deserialize_keras_object(
            _without_compilation(config), custom_objects=custom, safe_mode=True
        )
    except FormatError:
        raise
    except Exception as error:
        raise FormatError(
            f"The model in the file cannot be rebuilt: {error} Build it by its class and use "
            "load_weights_into(model, file)."
        ) from error
    if not isinstance(model, keras.Model):
        raise FormatError(f"The file does not describe a model. Received: {type(model).__name__}.")
    return model


def check_configuration(config: Any, known: Mapping[str, Any]) -> None:
    """Refuse a configuration that names what is not known, before any of it is built.

    Raises:
        FormatError: It does, or it holds code.
    """
    for entry in _entries(config):
        _check_entry(entry, known)


def missing_errors(config: Any, known: Mapping[str, Any]) -> dict[str, FormatError]:
    """Every name that a configuration needs and `known` lacks, with the refusal it gets.

    Raises:
        FormatError: It holds what no `custom_objects` lets in.
    """
    errors: dict[str, FormatError] = {}
    while True:
        try:
            check_configuration(config, {**known, **dict.fromkeys(errors, object())})
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


def _entries(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        if "class_name" in value:
            yield value
        for each in value.values():
            yield from _entries(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _entries(each)


def _check_entry(entry: Mapping[str, Any], custom: Mapping[str, Any]) -> None:
    name, module = entry.get("class_name"), entry.get("module")
    registered = entry.get("registered_name")
    if not isinstance(name, str):
        raise _refused(name, module, "its class name is not a text")
    if name in _RUN_CODE or name == "__lambda__":
        raise _refused(name, module, "it runs code or opens files named in the configuration")
    if name in _PLAIN or name in custom or registered in custom:
        return
    if name == "function":
        function = entry.get("config")
        if function in custom or isinstance(
            getattr(keras.activations, str(function), None), type(keras.activations.relu)
        ):
            return
        raise _unknown(f"function {function}", module, function)
    if isinstance(registered, str) and registered.startswith(_OURS):
        if keras.saving.get_registered_object(registered) is not None:
            return
        raise _refused(name, module, f"{registered!r} is unknown")
    if registered not in (None, name):
        raise _unknown(name, module, registered)
    if isinstance(module, str) and _is_keras_kind(module, name):
        return
    raise _unknown(name, module, name)


def _is_keras_kind(module: str, name: str) -> bool:
    if (module, name) in _UNNAMED:
        return True
    if module.startswith("keras.src."):  # operations of a Functional model, such as ops.Add
        return module.startswith(("keras.src.ops.", "keras.src.models."))
    if module not in _MODULES:
        return False
    place = keras
    for part in module.split(".")[1:]:
        place = getattr(place, part)
    kind = getattr(place, name, None)
    return isinstance(kind, type) and issubclass(kind, _KERAS_KINDS)


def _unknown(name: Any, module: Any, missing: Any) -> FormatError:
    way_out = f"pass custom_objects={{{str(missing)!r}: ...}} if you trust it"
    error = _refused(name, module, way_out)
    error.missing = str(missing)
    return error


def _refused(name: Any, module: Any, why: str) -> FormatError:
    return FormatError(
        f"The configuration in the file names {name!r} of module {module!r}, which is not one of "
        f"Keras's own building blocks: {why}."
    )
