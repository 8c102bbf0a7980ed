"""What torch's own optimizers keep of each parameter, as slots that can follow a change.

Torch keeps a dictionary for each parameter, whose names mean the same in all of its optimizers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from reducible_train._keras.slots import Meaning
from reducible_train._keras.torch_optimizers import is_joint

TORCH_SLOTS: Mapping[str, Meaning] = {
    "exp_avg": "momentum",
    "momentum_buffer": "momentum",
    "grad_avg": "gradient",
    "exp_avg_sq": "square",
    "max_exp_avg_sq": "square",
    "square_avg": "square",
    "sum": "square",
    "exp_inf": "root",
    "acc_delta": "step square",
    "ax": "weight",
}


class TorchSlot:
    """A tensor, met as a slot of an optimizer of Keras is.

    Args:
        value: The tensor.
    """

    def __init__(self, value: Any):
        self.value = value

    def assign(self, array: np.ndarray) -> None:
        """Overwrite it."""
        self.value.copy_(keras.ops.convert_to_tensor(array))


@dataclass(frozen=True, eq=False)
class TorchSlots:
    """What an optimizer of torch keeps of the variables of one kernel.

    Args:
        before: Name -> the slots of the old variables.
        after: Name -> slots of the new ones, which hold zeros.
        others: What else it keeps of each new variable, as it was: numbers, such as steps.
    """

    before: Mapping[str, Sequence[TorchSlot]]
    after: Mapping[str, Sequence[TorchSlot]]
    others: Sequence[Mapping[str, Any]]

    def put(self, optimizer: Any, new: Sequence[Any]) -> None:
        """Let the optimizer know new variables by what the slots hold now."""
        for place, variable in enumerate(new):
            tensors = {name: slots[place].value for name, slots in self.after.items()}
            optimizer.state[variable._value] = {**self.others[place], **tensors}


def torch_slots(optimizer: Any, old: Sequence[Any], new: Sequence[Any]) -> TorchSlots | None:
    """The slots of new variables that take the place of old ones.

    `None` where an optimizer knows nothing of an old one, or something that nobody knows the
    meaning of: an optimizer looks for all of it, or for nothing.
    """
    import torch  # noqa: PLC0415

    states = [optimizer.state.get(variable._value) for variable in old]
    if is_joint(optimizer) or not all(isinstance(state, Mapping) for state in states):
        return None
    first, *more = [_names(state, v) for state, v in zip(states, old, strict=True)]
    if first is None or any(names != first for names in more):
        return None
    like = states if len(old) == len(new) else [states[0]] * len(new)
    return TorchSlots(
        {name: [TorchSlot(state[name]) for state in states] for name in first},
        {
            name: [
                TorchSlot(torch.zeros_like(variable._value, dtype=state[name].dtype))
                for variable, state in zip(new, like, strict=True)
            ]
            for name in first
        },
        [
            {name: _copied(each) for name, each in state.items() if name not in first}
            for state in like
        ],
    )


def _names(state: Mapping[str, Any], variable: Any) -> list[str] | None:
    """The names of a parameter's slots; `None` if there is one that nobody knows."""
    tensors = [name for name, each in state.items() if getattr(each, "ndim", 0)]
    shape = tuple(variable.shape)
    is_known = all(name in TORCH_SLOTS and tuple(state[name].shape) == shape for name in tensors)
    numbers = (each for name, each in state.items() if name not in tensors)
    is_plain = all(each is None or _is_number(each) for each in numbers)
    return tensors if is_known and is_plain else None


def _copied(value: Any) -> Any:
    return value.detach().clone() if keras.ops.is_tensor(value) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float, np.generic)) or keras.ops.is_tensor(value)
