"""Variables that wait for their memory until it is known that they shall have it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras.src.backend.common.stateless_scope import in_stateless_scope

from reducible_train._keras.functions import renew_torch_parameters
from reducible_train._keras.layer_tree import walk
from reducible_train._keras.replacing import replaced
from reducible_train._keras.values import itemsize, size

# The class of the backend, in which Keras makes every variable.
_VARIABLE = keras.Variable
_EACH = 128 << 10  # bytes that a variable counts beside its values: thousands of them take time
_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def bounded_variables(allowance: int) -> Iterator[None]:
    """Within it, variables made in this thread share `allowance` bytes; the rest only wait.

    Keras allocates a variable as soon as a layer is built, of whatever shape its
    configuration asks for; its own way to wait, a stateless scope, forbids layers to assign
    anything. A variable that waits has shape, dtype and initializer; it can be traced, and
    assigned to, and it costs nothing if it is dropped. `allocate` ends the waiting. Torch's
    modules, which a layer has hold its values as soon as it is built, hold them after that.
    """
    owner, left = threading.get_ident(), allowance

    def initialize(method: Callable[..., Any], variable: Any, initializer: Any) -> None:
        nonlocal left
        cost = size(variable) * itemsize(variable) + _EACH
        if threading.get_ident() != owner or variable._initializer is not None or cost <= left:
            left -= cost
            method(variable, initializer)
        else:
            variable._value, variable._initializer = None, initializer

    def assign(method: Callable[..., Any], variable: Any, value: Any) -> None:
        if variable._value is None and not in_stateless_scope():  # there it is only noted
            variable._deferred_initialize()
        method(variable, value)

    with (
        _ONE_AT_A_TIME,
        replaced(_VARIABLE, "_initialize_with_initializer", initialize),
        replaced(_VARIABLE, "assign", assign),
        _torch_parameters_wait(),
    ):
        yield


@contextmanager
def _torch_parameters_wait() -> Iterator[None]:
    """Within it, torch's modules hold no variable that waits (nothing elsewhere).

    They would take its initial value, in memory of its own, as a parameter with a gradient,
    which an integer cannot be.
    """
    if keras.backend.backend() != "torch":
        yield
        return
    import torch  # noqa: PLC0415

    def track_all(method: Callable[..., Any], layer: Any) -> None:
        if any(variable._value is None for variable in layer.variables):
            layer._torch_params = torch.nn.ParameterDict()
        else:
            method(layer)

    def track(method: Callable[..., Any], layer: Any, variable: Any) -> None:
        if variable._value is not None:
            method(layer, variable)

    with (
        replaced(keras.Layer, "_track_variables", track_all),
        replaced(keras.Layer, "_post_track_variable", track),
    ):
        yield


def waiting_bytes(model: Any) -> int:
    """Bytes that variables of a model wait for."""
    return sum(size(variable) * itemsize(variable) for variable in _waiting(model))


def allocate(model: Any) -> None:
    """Give every variable of a model that waits its memory and its initial value."""
    for variable in _waiting(model):
        variable._deferred_initialize()
    renew_torch_parameters(model)


def _waiting(model: Any) -> list[Any]:
    layers = [model, *(layer for _, layer in walk(model))]
    every = {id(variable): variable for layer in layers for variable in layer.variables}
    return [variable for variable in every.values() if variable._value is None]
