"""What a configuration from a file may name: exact pairs of module and class, nothing else.

Known are the public building blocks of Keras, the operations of its Functional models, our
own low-rank layers and containers, and what the caller names in `custom_objects`. A class
that any library of the process has registered with Keras is not known by that alone: while
a model is built, Keras's registry holds only what is known and what no text of the file names,
so a name in a plain string (`bias_initializer="lib>Init"`) finds no more than an entry with a
class name does.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from reducible_train import _keras
from reducible_train.container.codecs.dtypes import DTYPE_NAMES
from reducible_train.errors import FormatError, shortened
from reducible_train.layers import dense_classes
from reducible_train.surgery.rebuild import PlanCarrier

DEPTH_CAP = 200
"""Levels of a configuration, one in another: a model in a model takes about six."""

# Public module -> kinds of classes in it that configurations hold.
_BLOCKS: dict[str, tuple[type, ...]] = {
    "keras": (keras.Layer, keras.dtype_policies.DTypePolicy),
    "keras.constraints": (keras.constraints.Constraint,),
    "keras.dtype_policies": (
        keras.dtype_policies.DTypePolicy,
        keras.dtype_policies.DTypePolicyMap,
    ),
    "keras.initializers": (keras.initializers.Initializer,),
    "keras.layers": (keras.Layer,),
    "keras.models": (keras.Model,),
    "keras.quantizers": (keras.quantizers.Quantizer, keras.quantizers.QuantizationConfig),
    "keras.random": (keras.random.SeedGenerator,),
    "keras.regularizers": (keras.regularizers.Regularizer,),
}
_FUNCTIONS = {
    "builtins": keras.activations,  # how Keras itself writes its activations
    "keras.activations": keras.activations,
    "keras.ops": keras.ops,
}
# Public layers that run code or open files named in their configuration.
_RUN_CODE = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
# Arguments of Keras's layers that it loops over in Python or makes a list of -> the most that they
# may add up to. `test_counts_of_layers.py` looks in Keras for others.
COUNTS = {
    "chain_depth": 1000,
    "ngrams": 1000,
    "num_chains": 1000,
    "num_oov_indices": 100_000,
    "num_ops": 1000,
    "power_iterations": 1000,
}
_LAYERS = "keras.layers"
_ARRAYS = {"__tensor__", "__numpy__"}
_PLAIN = {"__keras_tensor__", "__ellipsis__", "__slice__", "__bytes__"}

LATER: Any = object()
"""Stands for what the caller has not given yet, while it is learnt what else is missing."""

Known = Mapping[str, Any]  # registered name -> class or function


def known_objects(custom: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Every registered name that a file may use, with what it stands for.

    Args:
        custom: Name -> class or function, as the caller gives them. What is registered with
            Keras is known by that name, too. A class of Keras itself that is no building block is
            let in by its own name, where a file names that very class.
    """
    known: dict[str, Any] = {"reducible_train>Container": PlanCarrier}
    known |= {keras.saving.get_registered_name(kind): kind for kind in dense_classes().values()}
    for thing in (custom or {}).values():
        registered = keras.saving.get_registered_name(thing) if hasattr(thing, "__name__") else ""
        if ">" in registered:
            known[registered] = thing
    return known | dict(custom or {})


def entries(config: Any) -> Iterator[Mapping[str, Any]]:
    """Every object with a class name in a configuration of plain JSON values.

    Raises:
        FormatError: It is nested too deeply.
    """
    waiting = [(config, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > DEPTH_CAP:
            raise FormatError(
                f"The configuration in the file must be nested at most {DEPTH_CAP} levels deep. "
                "Received: more. The file was altered; get it again."
            )
        if isinstance(value, Mapping):
            if "class_name" in value:
                yield value
            waiting += [(each, depth + 1) for each in value.values()]
        elif isinstance(value, (list, tuple)):
            waiting += [(each, depth + 1) for each in value]


def check_counts(config: Any) -> None:
    """Refuse a configuration whose layers of Keras ask for endless work, one or all together.

    Raises:
        FormatError: They do.
    """
    left: dict[str, float] = dict(COUNTS)
    for entry in entries(config):
        arguments = entry.get("config")
        if entry.get("module") != _LAYERS or not isinstance(arguments, Mapping):
            continue
        for argument, most in COUNTS.items():
            number = arguments.get(argument)
            if isinstance(number, (int, float)) and number > 0:
                left[argument] -= min(number, most + 1)
            if left[argument] < 0:
                why = f"{argument} of all layers together must be at most {most}"
                raise _refused(entry["class_name"], _LAYERS, why)


def check_entry(entry: Mapping[str, Any], known: Known) -> None:
    """Refuse an entry that names what is not known, before anything is built.

    Args:
        entry: An object with a class name.
        known: As `known_objects` gives them.

    Raises:
        FormatError: It does, or it holds code, or names a file.
    """
    name, module = entry["class_name"], entry.get("module")
    registered = entry.get("registered_name", name)
    for each in (name, module, registered):
        if each is not None and not isinstance(each, str):
            raise _refused(name, module, "its names are not texts")
    config = entry.get("config")
    if name in _ARRAYS:
        _check_array(name, config)
    elif name == "function":
        _check_function(config, module, known)
    elif name not in _PLAIN:
        _check_class(name, module, registered, known)
        _check_arguments(name, module, config)
    _check_nodes(entry)


def _check_class(name: Any, module: Any, registered: Any, known: Known) -> None:
    if name in _RUN_CODE or name == "__lambda__":
        raise _refused(name, module, "it runs code or opens files named in the configuration")
    thing = known.get(registered) if registered is not None else None
    if thing is not None:
        if thing is PlanCarrier or not _is_ours(registered) or thing.__name__ == name:
            return
        raise _refused(name, module, f"{registered!r} is another class")
    if registered is not None and _is_ours(registered):
        raise _refused(
            name, module, f"{registered!r} is unknown; a newer version of reducible-train has it"
        )
    if registered not in (None, name):
        raise _unknown(name, module, registered)
    given = known.get(name)
    is_given = given is LATER or (given is not None and given is _keras.found_at(module, name))
    if not is_given and not is_block(module, name):
        raise _unknown(name, module, name)


def is_block(module: Any, name: Any) -> bool:
    """True for the exact name of a class of Keras that a model can be built of."""
    if not isinstance(module, str) or not isinstance(name, str):
        return False
    if _keras.is_unnamed_class(module, name):
        return True
    if module not in _BLOCKS:
        return False
    place = keras
    for part in module.split(".")[1:]:
        place = getattr(place, part)
    kind = vars(place).get(name)
    return isinstance(kind, type) and issubclass(kind, _BLOCKS[module]) and _keras.is_of_keras(kind)


def _check_function(function: Any, module: Any, known: Known) -> None:
    if isinstance(function, str):
        if function in known:
            return
        public = vars(_FUNCTIONS[module]).get(function) if module in _FUNCTIONS else None
        if isinstance(public, types.FunctionType) and _keras.is_of_keras(public):
            return
    raise _unknown(f"function {function}", module, function)


def _check_array(name: str, config: Any) -> None:
    """Numbers only: a text or an object may ask for any number of bytes."""
    if not isinstance(config, Mapping) or config.get("dtype") not in DTYPE_NAMES:
        raise _refused(name, None, f"its dtype must be one of {', '.join(DTYPE_NAMES)}")
    waiting = [config.get("value")]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif not isinstance(value, (bool, int, float)):
            raise _refused(name, None, "it must hold numbers only")


def _check_arguments(name: str, module: Any, config: Any) -> None:
    """Refuse arguments of Keras's layers that name a file."""
    if module != _LAYERS or not isinstance(config, Mapping):
        return
    if isinstance(config.get("vocabulary"), str):
        raise _refused(name, module, "its vocabulary is the name of a file")


def _check_nodes(entry: Mapping[str, Any]) -> None:
    """Refuse calls of a Functional model without a symbolic input: they would compute at once."""
    nodes = entry.get("inbound_nodes", [])
    if not isinstance(nodes, list) or not all(map(_has_tensor, nodes)):
        raise _refused(entry["class_name"], entry.get("module"), "a call of it has no input")


def _has_tensor(node: Any) -> bool:
    return isinstance(node, Mapping) and any(
        each["class_name"] == "__keras_tensor__" for each in entries(node)
    )


def _is_ours(registered: str) -> bool:
    return registered.startswith("reducible_train>")


def _unknown(name: Any, module: Any, missing: Any) -> FormatError:
    way_out = f"pass custom_objects={{{_shown(missing)}: ...}} if you trust it"
    error = _refused(name, module, way_out)
    error.missing = missing if isinstance(missing, str) else None
    return error


def _shown(value: Any) -> str:
    return shortened(repr(value))


def _refused(name: Any, module: Any, why: str) -> FormatError:
    return FormatError(
        f"The configuration in the file names {_shown(name)} of module {_shown(module)}, which is "
        f"not one of Keras's own building blocks: {why}."
    )
