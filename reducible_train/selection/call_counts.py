"""How often a sample uses each number of a kernel: counted over the calls of its layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from reducible_train import _keras
from reducible_train.layers import Kernel
from reducible_train.layers.uses import Uses
from reducible_train.selection.input_shapes import InputShapes


def count_calls(
    model: Any,
    kernels: Sequence[Kernel],
    shapes: Sequence[InputShapes],
    look: Callable[[Any], None] | None = None,
) -> tuple[list[_keras.Call] | None, dict[tuple[str, str], Uses] | None, InputShapes | None]:
    """The calls of layers that hold kernels, and how often a sample uses each number of them.

    Args:
        model: The model.
        kernels: Its kernels.
        shapes: What may tell lengths that the model leaves open, the best first.
        look: Is given the outputs of the calls while they are symbolic.

    Returns:
        The calls, the uses by path and split, and the shapes that both are of; `None` for what is
        not known, and for shapes that say no more than the model does.
    """
    layers = list({id(k.layer): k.layer for k in kernels}.values())
    calls = _keras.trace_calls(model, layers, look=look)
    uses = _uses(kernels, calls)
    # What another model was built with says nothing of what it is called on later.
    loose = not _keras.is_graph_model(model)
    for each in shapes:
        if uses is not None and not (loose or each.binding):
            continue
        tries = [(each.inputs, False), *([(each.data, True)] if each.data is not None else [])]
        for inputs, values in tries:
            found = _keras.trace_calls(model, layers, inputs, values=values, look=look)
            used = _uses(kernels, found)
            if used is not None:
                return found, used, None if used == uses else each
    return calls, uses, None


def _uses(
    kernels: Sequence[Kernel], calls: list[_keras.Call] | None
) -> dict[tuple[str, str], Uses] | None:
    """Uses by path and split, summed over the calls of the layer."""
    if calls is None:
        return None
    found = {}
    for kernel in kernels:
        for split in kernel.splits:
            total = Uses.alike(0)
            for call in calls:
                if call.layer is not kernel.layer:
                    continue
                used = kernel.uses(split, call.shape, call.options)
                if used is None or call.repeats is None:
                    return None
                total += used * call.repeats
            found[kernel.path, split] = total
    return found
