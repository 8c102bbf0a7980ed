"""How many layers, calls and outputs of them Keras may make."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

from reducible_train._keras.replacing import replaced
from reducible_train.errors import FormatError

_LAYER = 20  # what a layer or an operation counts: of work, and of memory
_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def bounded_making(most: int) -> Iterator[None]:
    """Within it, what Keras makes in this thread counts, and no more than `most` is made.

    A few bytes of a configuration make it build any number of layers (a list of equal entries),
    or give a call any number of outputs (as `keras.ops.split` has, by its argument or by the
    length of an axis). Each layer and operation counts as twenty, each symbolic output as one: of
    every call there is at least one.

    Raises:
        FormatError: It is more, whatever Keras makes of that meanwhile.
    """
    owner, left = threading.get_ident(), most
    error = FormatError(
        f"The configuration in the file must make no more than {most} layers and outputs (a layer "
        "counts as twenty, each call of it as one). Received: more. Build it by its class and use "
        "load_weights_into(model, file)."
    )

    def counted(cost: int) -> Callable[..., Any]:
        def make(method: Callable[..., Any], *given: Any, **named: Any) -> Any:
            nonlocal left
            if threading.get_ident() == owner:
                left -= cost
                if left < 0:
                    raise error
            return method(*given, **named)

        return make

    with (  # Keras reads the signature of `Operation.__init__`
        _ONE_AT_A_TIME,
        replaced(keras.Operation, "__new__", counted(_LAYER)),
        replaced(keras.KerasTensor, "__init__", counted(1)),
    ):
        try:
            yield
        except Exception:
            if left >= 0:
                raise
    if left < 0:
        raise error
