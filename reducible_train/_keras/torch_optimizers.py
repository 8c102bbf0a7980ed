"""Optimizers of torch itself, in training loops of somebody's own: they hold bare parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras.src import backend as _backend


def torch_optimizer_class() -> type | None:
    """The class of all optimizers of torch; `None` on other backends."""
    if _backend.backend() != "torch":
        return None
    import torch  # noqa: PLC0415

    kind: type = torch.optim.Optimizer
    return kind


def steps(optimizer: Any, variables: Sequence[Any]) -> bool:
    """True of an optimizer that has the parameter of one of some variables."""
    ids = {id(variable._value) for variable in variables}
    return any(id(p) in ids for group in optimizer.param_groups for p in group["params"])


def move_parameters(
    optimizers: Sequence[Any], replaced: Sequence[tuple[Sequence[Any], Sequence[Any]]]
) -> None:
    """Put parameters of new variables in the place of old ones; their state begins anew.

    Without it, a loop would go on in silence, and train what is in no layer any more.

    Args:
        optimizers: Optimizers of torch.
        replaced: The variables that left, and those that came, kernel by kernel.
    """
    heirs: dict[int, list[Any]] = {}
    for old, new in replaced:
        heirs.update({id(variable._value): [] for variable in old})
        heirs[id(old[0]._value)] = [variable._value for variable in new]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            before = group["params"]
            group["params"] = [new for p in before for new in heirs.get(id(p), [p])]
            for gone in (p for p in before if id(p) in heirs):
                optimizer.state.pop(gone, None)
