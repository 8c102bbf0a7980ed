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

from reducible_train._keras.torch_optimizers import PER_PARAMETER
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


def torch_settings(optimizer: Any) -> list[State]:
    """The settings of each group of an optimizer of torch, such as `lr`; tensors as numbers.

    What is no plain value is left out.
    """
    settings: list[State] = []
    for group in optimizer.param_groups:
        values = {name: _as_number(each) for name, each in group.items()}
        names = [name for name in values if name not in PER_PARAMETER and _is_plain(values[name])]
        settings.append({name: values[name] for name in names})
    return settings


def put_torch_settings(optimizer: Any, settings: Sequence[State]) -> None:
    """Give the groups of an optimizer of torch what `torch_settings` told of one like it."""
    for group, kept in zip(optimizer.param_groups, settings, strict=True):
        for name, value in kept.items():
            present = group.get(name)
            if keras.ops.is_tensor(present):
                present.fill_(value)
            else:
                group[name] = tuple(value) if isinstance(present, tuple) else value


def _as_number(value: Any) -> Any:
    is_number = isinstance(value, np.generic) or (keras.ops.is_tensor(value) and not value.ndim)
    return value.item() if is_number else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


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
    return value.item() if isinstance(value, np.generic) else copy.deepcopy(value)


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
