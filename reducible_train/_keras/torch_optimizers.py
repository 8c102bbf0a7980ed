"""Optimizers of torch itself, in training loops of somebody's own: they hold bare parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import keras

_SIZE_OF_ALL = "_numel_cache"  # of LBFGS, which has one state of all parameters, end to end


# What a group has a list of, one entry for each parameter -> the entry of a new variable: of the
# old entry, the old variable and the new one.
PER_PARAMETER: dict[str, Callable[[Any, Any, Any], Any]] = {
    "params": lambda parameter, old, new: new._value,
    "param_names": lambda name, old, new: f"{name.removesuffix(old.name)}{new.name}",
}


def torch_optimizer_class() -> type | None:
    """The class of all optimizers of torch; `None` on other backends."""
    if keras.backend.backend() != "torch":
        return None
    import torch  # noqa: PLC0415

    kind: type = torch.optim.Optimizer
    return kind


def steps(optimizer: Any, variables: Sequence[Any]) -> bool:
    """True of an optimizer that has the parameter of one of some variables."""
    ids = {id(variable._value) for variable in variables}
    return any(id(p) in ids for group in optimizer.param_groups for p in group["params"])


def remember_parameters(optimizer: Any) -> Callable[[], None]:
    """Remember which parameters an optimizer of torch steps, and their state.

    The answer puts them back, unless tensors have other numbers by then.
    """
    groups = [(group, _lists_of(group)) for group in optimizer.param_groups]
    state = {parameter: copy.copy(each) for parameter, each in optimizer.state.items()}

    def restore() -> None:
        for group, lists in groups:
            for name, values in lists.items():
                group[name][:] = values
        optimizer.state.clear()
        optimizer.state.update(state)
        _count_anew(optimizer)

    return restore


def move_parameters(optimizer: Any, heirs: Sequence[tuple[Any, Sequence[Any]]]) -> None:
    """Put parameters of new variables in the place of old ones; their state begins anew.

    Without it, a loop would go on in silence, and train what is in no layer any more. The lists
    stay the objects that they are, which an optimizer may hold beside its groups.

    Args:
        optimizer: An optimizer of torch.
        heirs: Each new variable, with the old ones whose place it takes.
    """
    successors: dict[int, list[tuple[Any, Any]]] = {}  # by id of a parameter: old and new variables
    for new, old in heirs:
        for variable in old:
            successors.setdefault(id(variable._value), [])
        successors[id(old[0]._value)].append((old[0], new))
    for group in optimizer.param_groups:
        lists = _lists_of(group)
        found = [successors.get(id(each)) for each in lists["params"]]
        for name, values in lists.items():
            of_new = PER_PARAMETER[name]
            group[name][:] = [
                each
                for value, pairs in zip(values, found, strict=True)
                for each in ([value] if pairs is None else [of_new(value, *p) for p in pairs])
            ]
    gone = [each for each in optimizer.state if id(each) in successors]
    for parameter in list(optimizer.state) if is_joint(optimizer) else gone:
        del optimizer.state[parameter]
    _count_anew(optimizer)


def is_joint(optimizer: Any) -> bool:
    """True of an optimizer whose state is one of all its parameters, of one length with them."""
    return hasattr(optimizer, _SIZE_OF_ALL)


def _count_anew(optimizer: Any) -> None:
    if is_joint(optimizer):
        setattr(optimizer, _SIZE_OF_ALL, None)


def _lists_of(group: dict[str, Any]) -> dict[str, list[Any]]:
    return {name: list(group[name]) for name in PER_PARAMETER if name in group}
