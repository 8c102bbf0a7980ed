"""What Keras finds by a name while it builds from a configuration."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
from keras.src.api_export import get_symbol_from_name
from keras.src.ops import core, einops, image, linalg, math, nn, numpy

_OPERATIONS = {module.__name__: module for module in (core, einops, image, linalg, math, nn, numpy)}
_SOURCE = "keras.src"
_UNNAMED = {
    "keras.src.applications.convnext.LayerScale",
    "keras.src.applications.convnext.StochasticDepth",
    "keras.src.applications.inception_resnet_v2.CustomScaleLayer",
    "keras.src.layers.preprocessing.feature_space.TFDConcat",
    "keras.src.layers.preprocessing.feature_space.TFDIdentity",
    "keras.src.models.functional.Functional",
}
_ONE_AT_A_TIME = threading.RLock()


def is_of_keras(thing: Any) -> bool:
    """True for a class or a function that Keras itself defines, whatever its public name is."""
    return str(getattr(thing, "__module__", None)).startswith(f"{_SOURCE}.")


def found_at(module: Any, name: Any) -> Any | None:
    """What Keras takes for a public name of its own in a configuration; `None` if it is none."""
    return get_symbol_from_name(f"{module}.{name}")


def is_unnamed_class(module: str, name: str) -> bool:
    """True for the exact place of a class of Keras that files name and that has no public name.

    Those of operations, such as `keras.ops.add` makes, and some of Keras's models and layers.
    """
    return f"{module}.{name}" in _UNNAMED or _is_operation(module, name)


def _is_operation(module: str, name: str) -> bool:
    kind = vars(_OPERATIONS[module]).get(name) if module in _OPERATIONS else None
    return (
        isinstance(kind, type)
        and issubclass(kind, keras.Operation)
        and (kind.__module__, kind.__name__) == (module, name)
    )


@contextmanager
def only_registered(known: Mapping[str, Any], text: str) -> Iterator[None]:
    """Within it, a text finds nothing in Keras's registry of custom objects but `known`.

    Keras looks every name up there, plain strings included, whoever has registered it. What the
    text does not name can be asked for only by the code of the classes themselves (a sampler that
    a model makes for itself), and is found. What is registered meanwhile stays.

    Args:
        known: Registered name -> what it stands for.
        text: All that Keras is going to read.
    """
    registry, said = keras.saving.get_custom_objects(), _words(text)
    with _ONE_AT_A_TIME, keras.saving.custom_object_scope({}):
        before = dict(registry)
        unnamed = {name: x for name, x in before.items() if not _words(_own(name)) <= said}
        during = unnamed | dict(known)
        registry.clear()
        registry.update(during)
        try:
            yield
        finally:
            new = {name: each for name, each in registry.items() if during.get(name) is not each}
            registry.clear()
            registry.update(before | new)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def _own(name: str) -> str:
    """What is left of a registered name without its package, which Keras may guess."""
    return name.rpartition(">")[2]
