"""What torch's own optimizers know of variables: plain values, and arrays on the host.

A tensor is an entry `{"array": its number, "dtype": ..., "device": ...}`, of device `None` where it
lies beside its parameter.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from reducible_train._keras.values import host_value

State = Mapping[str, Any]  # number of a variable -> what an optimizer knows of it


def torch_state(optimizer: Any, variables: Sequence[Any]) -> tuple[State, list[np.ndarray]]:
    """What an optimizer of torch knows of some variables, and the arrays that go with it."""
    arrays: list[np.ndarray] = []
    known = {
        str(number): _packed(optimizer.state[variable._value], variable._value, arrays)
        for number, variable in enumerate(variables)
        if variable._value in optimizer.state
    }
    return known, arrays


def as_torch_state(
    state: State, arrays: Sequence[np.ndarray], variables: Sequence[Any]
) -> dict[Any, Any]:
    """What `torch_state` gave, by parameter, for `put_torch_state`."""
    return {
        (parameter := variables[int(number)]._value): _unpacked(each, parameter, arrays)
        for number, each in state.items()
    }


def put_torch_state(optimizer: Any, variables: Sequence[Any], state: Mapping[Any, Any]) -> None:
    """Let an optimizer of torch know this of variables, and no more."""
    for variable in variables:
        optimizer.state.pop(variable._value, None)
    optimizer.state.update(state)


def _packed(value: Any, parameter: Any, arrays: list[np.ndarray]) -> Any:
    if keras.ops.is_tensor(value):
        arrays.append(np.array(host_value(value)))
        return {
            "array": len(arrays) - 1,
            "dtype": keras.backend.standardize_dtype(value.dtype),
            "device": None if value.device == parameter.device else str(value.device),
        }
    if isinstance(value, Mapping):
        return {"entries": {key: _packed(each, parameter, arrays) for key, each in value.items()}}
    if isinstance(value, (list, tuple)):
        packed = [_packed(each, parameter, arrays) for each in value]
        return packed if isinstance(value, list) else {"tuple": packed}
    return copy.deepcopy(value)


def _unpacked(value: Any, parameter: Any, arrays: Sequence[np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_unpacked(each, parameter, arrays) for each in value]
    if not isinstance(value, Mapping):
        return copy.deepcopy(value)
    if "array" in value:
        array = np.array(arrays[value["array"]])  # torch goes on with the memory it is given
        tensor = keras.ops.convert_to_tensor(array, value["dtype"])
        return tensor.to(parameter.device if value["device"] is None else value["device"])
    if "tuple" in value:
        return tuple(_unpacked(each, parameter, arrays) for each in value["tuple"])
    return {key: _unpacked(each, parameter, arrays) for key, each in value["entries"].items()}
