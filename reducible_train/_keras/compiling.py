"""Compile the call of a single layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras


def compiled(layer: Any, *args: Any, **kwargs: Any) -> Callable[[], Any]:
    """A function that calls a layer, as a compiled model would, and waits for the answer.

    Keras has no public way to compile a single call; its models do it each in their way.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf  # noqa: PLC0415 (of this backend only)

        function = tf.function(lambda *x: layer(*x, **kwargs), autograph=False)
        return lambda: function(*args)
    if backend == "jax":
        import jax  # noqa: PLC0415

        function = jax.jit(lambda *x: layer(*x, **kwargs))
        return lambda: jax.block_until_ready(function(*args))
    import torch  # noqa: PLC0415

    def call() -> Any:
        with torch.no_grad():
            return layer(*args, **kwargs)

    return call
