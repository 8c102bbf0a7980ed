"""What a backup keeps of a training beside its weights and ranks.

The state of random layers and of stateful RNN layers, that of Python's, numpy's and Keras's
own random numbers and the backend's, that of torch's own optimizers, and what callbacks remember
of the epochs so far.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from reducible_train import _keras
from reducible_train.errors import ArgumentError
from reducible_train.training.backup_form import is_packed, numpy_numbers, python_numbers
from reducible_train.training.comparisons import Way, lasting_marks, marks_of, set_marks, way_of

Arrays = dict[str, np.ndarray]
State = dict[str, Any]  # plain JSON values

_GLOBAL = "global_seed"
_BACKEND = "backend/"  # before the devices of its generators


def state_of(
    model: Any, callbacks: Sequence[Any], optimizers: Sequence[Any]
) -> tuple[State, Arrays]:
    """All there is to keep.

    Args:
        model: The model, its variables up to date.
        callbacks: Those that compare epochs, in their order.
        optimizers: Torch's own optimizers that step the model, in their order.

    Returns:
        Plain JSON values, and the arrays that go with them.

    Raises:
        ArgumentError: An optimizer knows what no file can hold.
    """
    arrays = {f"state/{i}": _plain(v) for i, v in enumerate(_keras.passing_state(model))}
    if _keras.global_seed() is not None:
        arrays[_GLOBAL] = _plain(_keras.global_seed())
    arrays |= {_BACKEND + name: each for name, each in _keras.backend_numbers().items()}
    memories = []
    for number, callback in enumerate(callbacks):
        marks: dict[str, Any] = {}
        for name, value in marks_of(callback).items():
            if isinstance(value, list):
                marks[name] = {"arrays": len(value)}
                arrays |= {_mark(number, name, i): _plain(v) for i, v in enumerate(value)}
            else:
                marks[name] = value if value is None or isinstance(value, int) else float(value)
        memories.append(
            {
                "of": type(callback).__name__,
                "marks": marks,
                "lasting": lasting_marks(callback),
                "way": asdict(way_of(callback, model)),
            }
        )
    torch = []
    for number, optimizer in enumerate(optimizers):
        known, more = _keras.torch_state(optimizer, model.weights)
        _check_packed(optimizer, known, len(more))
        torch.append(
            {
                "of": type(optimizer).__name__,
                "groups": _keras.torch_settings(optimizer),
                "known": known,
                "arrays": len(more),
            }
        )
        arrays |= {_of_torch(number, i): _plain(v) for i, v in enumerate(more)}
    version, numbers, following = random.getstate()
    name, keys, *rest = np.random.get_state()
    return {
        "callbacks": memories,
        "torch": torch,
        "python": [version, list(numbers), following],
        "numpy": [name, np.asarray(keys).tolist(), *rest],
    }, arrays


def _check_packed(optimizer: Any, known: Mapping[str, Any], arrays: int) -> None:
    """Refuse what an optimizer knows if it is more than numbers and tensors."""
    if not all(is_packed(each, arrays) for each in known.values()):
        raise ArgumentError(
            "RankBackupAndRestore can keep numbers, texts, lists and tensors of torch's optimizers."
            f" Received: {type(optimizer).__name__}, whose state has other objects. Leave the "
            "backup out, or keep them elsewhere."
        )


def misfit_of(
    model: Any,
    callbacks: Sequence[Any],
    state: Mapping[str, Any],
    arrays: Arrays,
    optimizers: Sequence[Any],
) -> str | None:
    """Why a state cannot be put back, as a sentence; `None` if it can."""
    fault = _other_comparison(model, callbacks, state.get("callbacks", ()))
    if fault is not None:
        return fault
    kept = [_told(each["of"], each["groups"]) for each in state.get("torch", ())]
    there = [_told(type(each).__name__, each.param_groups) for each in optimizers]
    if kept != there:
        return (
            f"the optimizers of torch.optim that stepped it were {', '.join(kept) or 'none'}. "
            f"Received: {', '.join(there) or 'none'}. Make the same before fit begins, or remove "
            "the folder to begin anew."
        )
    shapes = [tuple(int(n) for n in v.shape) for v in _keras.passing_state(model)]
    found = [value.shape for name, value in arrays.items() if name.startswith("state/")]
    if shapes != found:
        return (
            f"its random and stateful layers had states of shapes {found}. Received: a model "
            f"with {shapes}. Use the same model, or remove the folder to begin anew."
        )
    if not arrays.keys() >= _remembered(state):
        return (
            "what callbacks and optimizers remember is not all there. Received: a file of state "
            f"with {', '.join(arrays) or 'nothing in it'}. Remove the folder to begin anew."
        )
    for device, numbers in _keras.backend_numbers().items():
        came = _numbers_in(arrays).get(device, numbers)
        if (came.dtype, came.shape) != (numbers.dtype, numbers.shape):
            return (
                f"the random numbers of its {device} had a state of {came.dtype} in a shape of "
                f"{came.shape}, where {numbers.dtype} in {numbers.shape} is expected. Use the "
                "same version of the backend, or remove the folder to begin anew."
            )
    return None


def _other_comparison(model: Any, callbacks: Sequence[Any], memories: Sequence[Any]) -> str | None:
    """That callbacks would compare epochs with what they remember of other values, if so."""
    remedy = "Give the same, or remove the folder to begin anew."
    kept = [str(each.get("of")) for each in memories]
    there = [type(each).__name__ for each in callbacks]
    if kept != there:
        return (
            f"the callbacks that compare epochs were {', '.join(kept) or 'none'}. "
            f"Received: {', '.join(there) or 'none'}. {remedy}"
        )
    for name, callback, memory in zip(there, callbacks, memories, strict=True):
        if memory.get("way") is None:  # of an older backup
            continue
        was, now = Way(**memory["way"]), way_of(callback, model)
        if not was.is_like(now):
            if str(was) == str(now):
                one, two = (each.measured or "nothing of compile" for each in (was, now))
                return f"its {was.monitor} was measured by {one}. Received: {two}. {remedy}"
            return (
                f"the callbacks that compare epochs were others: {name} went by {was}. "
                f"Received: {name} by {now}. {remedy}"
            )
    return None


def _told(name: str, groups: Sequence[Any]) -> str:
    return f"{name} ({len(groups)} group{'s' * (len(groups) != 1)})"


def _numbers_in(arrays: Arrays) -> Arrays:
    """The states of the backend's generators by device; none in an older backup."""
    return {
        name.removeprefix(_BACKEND): value
        for name, value in arrays.items()
        if name.startswith(_BACKEND)
    }


def _remembered(state: Mapping[str, Any]) -> set[str]:
    """The names of the arrays that callbacks, and optimizers of torch, remember."""
    return {
        _of_torch(number, index)
        for number, optimizer in enumerate(state.get("torch", ()))
        for index in range(optimizer["arrays"])
    } | {
        _mark(number, name, index)
        for number, memory in enumerate(state.get("callbacks", ()))
        for name, value in memory["marks"].items()
        if isinstance(value, Mapping)
        for index in range(value["arrays"])
    }


def put_back(
    model: Any,
    callbacks: Sequence[Any],
    state: Mapping[str, Any],
    arrays: Arrays,
    optimizers: Sequence[Any],
) -> None:
    """Put back what `state_of` gave, once `misfit_of` knows nothing against it."""
    for number, variable in enumerate(_keras.passing_state(model)):
        variable.assign(arrays[f"state/{number}"])
    if _GLOBAL in arrays:
        _keras.global_seed(make=True).assign(arrays[_GLOBAL])
    _keras.set_backend_numbers(_numbers_in(arrays))
    for number, optimizer in enumerate(optimizers):
        kept = state["torch"][number]
        values = [arrays[_of_torch(number, i)] for i in range(kept["arrays"])]
        known = _keras.as_torch_state(kept["known"], values, model.weights)
        _keras.put_torch_state(optimizer, model.weights, known)
        _keras.put_torch_settings(optimizer, kept["groups"])
    for number, (callback, memory) in enumerate(zip(callbacks, state["callbacks"], strict=True)):
        marks = {
            name: [arrays[_mark(number, name, i)] for i in range(value["arrays"])]
            if isinstance(value, Mapping)
            else value
            for name, value in memory["marks"].items()
        }
        set_marks(callback, marks)
        kept = memory.get("lasting", {})
        set_marks(callback, {name: kept[name] for name in lasting_marks(callback) if name in kept})
    random.setstate(python_numbers(state["python"]))
    np.random.set_state(numpy_numbers(state["numpy"]))


def _mark(number: int, name: str, index: int) -> str:
    return f"callback/{number}/{name}/{index}"


def _of_torch(number: int, index: int) -> str:
    return f"torch/{number}/{index}"


def _plain(variable: Any) -> np.ndarray:
    """A value in a dtype that numpy can write; bfloat16 goes as float32 without loss."""
    value = _keras.host_value(variable)
    return value if value.dtype.kind in "biuf" else value.astype(np.float32)
