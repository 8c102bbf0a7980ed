"""What Keras finds by a name while it builds from a configuration."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
from keras.src.ops import core, einops, image, linalg, math, nn, numpy

_OPERATIONS = {module.__name__: module for module in (core, einops, image, linalg, math, nn, numpy)}
_ONE_AT_A_TIME = threading.RLock()


def is_operation(module: str, name: str) -> bool:
    """True for the exact place of an operation of Keras, such as `keras.ops.add` makes.

    Functional models are written with these classes, which have no public names.
    """
    kind = vars(_OPERATIONS[module]).get(name) if module in _OPERATIONS else None
    return (
        isinstance(kind, type)
        and issubclass(kind, keras.Operation)
        and (kind.__module__, kind.__name__) == (module, name)
    )


@contextmanager
def only_registered(known: Mapping[str, Any]) -> Iterator[None]:
    """Within it, Keras's registry of custom objects holds `known` and nothing else.

    Keras looks every name up there, plain strings included, whoever has registered it.
    What is registered meanwhile stays.
    """
    registry = keras.saving.get_custom_objects()
    with _ONE_AT_A_TIME, keras.saving.custom_object_scope({}):
        before = dict(registry)
        registry.clear()
        registry.update(known)
        try:
            yield
        finally:
            new = {name: each for name, each in registry.items() if known.get(name) is not each}
            registry.clear()
            registry.update(before | new)
