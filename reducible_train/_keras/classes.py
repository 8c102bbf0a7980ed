"""Change the class of a live layer."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras.src.quantizers.quantization_config import validate_and_resolve_config


def become(layer: Any, kind: type) -> None:
    """Give a live layer another class, so that every graph that holds it keeps it.

    Keras wraps `build` and `quantize` of each object when it is made; the wrappers hold
    the old class's methods, so they are replaced.
    """
    object.__setattr__(layer, "__class__", kind)
    layer.__dict__["build"] = functools.partial(_build, layer)
    layer.__dict__["quantize"] = functools.partial(_quantize, layer)


def _build(layer: Any, input_shape: Any) -> None:
    with layer._open_name_scope():
        type(layer).build(layer, input_shape)
    layer._build_shapes_dict = {"input_shape": input_shape}
    layer.built = True
    layer._post_build()
    layer._lock_state()


def _quantize(layer: Any, mode: Any = None, config: Any = None, **kwargs: Any) -> None:
    config = validate_and_resolve_config(mode, config)
    layer._check_quantize_args(config.mode, layer.compute_dtype)
    layer._tracker.unlock()
    try:
        type(layer).quantize(layer, mode=config.mode, config=config, **kwargs)
    finally:
        layer._tracker.lock()


def reclass(layer: Any, kind: type) -> None:
    """Give a live layer a class that builds as its own does: see `become` for others."""
    object.__setattr__(layer, "__class__", kind)


@contextlib.contextmanager
def seen_as(layer: Any, kind: type) -> Iterator[None]:
    """Within it, a layer is of another class, whatever Keras asks of it."""
    own = type(layer)
    reclass(layer, kind)
    try:
        yield
    finally:
        reclass(layer, own)


def unpickler() -> Callable[..., Any]:
    """What Keras calls to unpickle a model, as a function that pickles by its name.

    Keras uses the method of the model's own class, which must then be importable.
    """
    unpickle: Callable[..., Any] = keras.Model._unpickle_model
    return unpickle
