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
    fixed: Sequence[Kernel] = (),
    beside: Callable[[int], None] | None = None,
    taken: Callable[[int], None] | None = None,
) -> tuple[list[_keras.Call] | None, dict[tuple[str, str], Uses] | None, InputShapes | None]:
    """The calls of layers that hold kernels, and how often a sample uses each number of them.

    Args:
        model: The model.
        kernels: Its kernels.
        shapes: What may tell lengths that the model leaves open, the best first.
        look: Is given the outputs of the calls while they are symbolic.
        fixed: Kernels that stay as they are; without uses where these are not known.
        beside: Is given the id of each variable that something reads beside the calls of its layer.
        taken: Is given that of each that something goes by the place of, in its layer's lists.

    Returns:
        The calls, the uses by path and split, and the shapes that both are of; `None` for what is
        not known, and for shapes that say no more than the model does.
    """
    layers = list({id(k.layer): k.layer for k in (*kernels, *fixed)}.values())

    def counted(inputs: Any = None, values: bool = False) -> tuple[Any, Any]:
        calls = _keras.trace_calls(
            model, layers, inputs, values=values, look=look, beside=beside, taken=taken
        )
        return _of_kernels(kernels, calls), _uses(kernels, fixed, calls)

    calls, uses = counted()
    # What another model was built with says nothing of what it is called on later.
    loose = not _keras.has_graph(model)
    whole = uses is not None and all((k.path, k.splits[0]) in uses for k in fixed)
    for each in shapes:
        if whole and not (loose or each.binding):
            continue
        tries = [(each.inputs, False), *([(each.data, True)] if each.data is not None else [])]
        for inputs, values in tries:
            found, used = counted(inputs, values)
            if used is not None:
                return found, used, None if used == uses else each
    return calls, uses, None


def _of_kernels(
    kernels: Sequence[Kernel], calls: list[_keras.Call] | None
) -> list[_keras.Call] | None:
    """The calls of the layers of kernels that may change."""
    layers = {id(kernel.layer) for kernel in kernels}
    return calls if calls is None else [call for call in calls if id(call.layer) in layers]


def _uses(
    kernels: Sequence[Kernel], fixed: Sequence[Kernel], calls: list[_keras.Call] | None
) -> dict[tuple[str, str], Uses] | None:
    """Uses by path and split, summed over the calls of the layer."""
    if calls is None:
        return None
    found = {}
    for kernel in kernels:
        for split in kernel.splits:
            used = _used(kernel, split, calls)
            if used is None:
                return None
            found[kernel.path, split] = used
    for kernel in fixed:
        try:
            used = _used(kernel, kernel.splits[0], calls)
        except Exception:  # the code of a subclass may do anything
            continue
        if used is not None:
            found[kernel.path, kernel.splits[0]] = used
    return found


def _used(kernel: Kernel, split: str, calls: Sequence[_keras.Call]) -> Uses | None:
    """Uses of a kernel, summed over the calls of its layer; `None` if one of them is not known."""
    total = Uses.alike(0)
    for call in calls:
        if call.layer is not kernel.layer:
            continue
        used = kernel.uses(split, call.shape, call.options)
        if used is None or call.repeats is None:
            return None
        total += used * call.repeats
    return total
