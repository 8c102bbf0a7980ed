"""The tensors of a model in a compact file: their names, their shapes, their order."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.errors import FormatError, SurgeryError, shortened
from reducible_train.layers import find_kernels
from reducible_train.surgery.plans import Plan, checked

_AUTOMATIC = re.compile(r"variable(_\d+)?")


def places(model: Any, left: Collection[str] = ()) -> Iterator[tuple[str, Any]]:
    """A model and every layer below it but those `left`, with their paths."""
    yield "", model
    yield from ((path, layer) for path, layer in _keras.walk(model) if path not in left)


def tensor_names(layer_path: str, layer: Any) -> dict[str, str]:
    """The layer's own keys -> names in the file: by variable, not by position.

    Names that Keras gave by itself (`variable_7`) count up within a process: there the key
    is all that two processes agree on.
    """
    names: dict[str, str] = {}
    for key, value in _keras.state_of(layer).items():
        name = getattr(value, "name", "") if isinstance(value, keras.Variable) else ""
        name = "" if _AUTOMATIC.fullmatch(name) else name
        base = "/".join(part for part in (layer_path, name or key) if part)
        unique, count = base, 1
        while unique in names.values():
            unique, count = f"{base}_{count}", count + 1
        names[key] = unique
    return names


def renaming(model: Any, names: Sequence[str], left: Collection[str] = ()) -> Callable[[str], str]:
    """From names of tensors in a file to those that a model has for them.

    They differ where Keras has named the layers: it counts up within a process. Layers are
    then matched in their order, if there are as many, each under a name that is the same or
    differs by the number only.

    Args:
        model: The model.
        names: Those in the file.
        left: Paths of the layers of which the file has nothing.
    """
    layers = dict(_keras.walk(model))
    theirs = list(dict.fromkeys(_folder(name) for name in names))
    ours = list(
        dict.fromkeys(
            _folder(name)
            for path, layer in places(model, left)
            for name in tensor_names(path, layer).values()
        )
    )
    pairs = dict(zip(theirs, ours, strict=False))
    if len(theirs) != len(ours) or not all(_alike(a, b, layers) for a, b in pairs.items()):
        return str

    def renamed(name: str) -> str:
        folder, _, last = name.rpartition("/")
        return f"{pairs.get(folder, folder)}/{last}".lstrip("/")

    return renamed


def left_out(model: Any, names: Collection[str]) -> tuple[str, ...]:
    """Paths of the layers beside graphs, where a file has the tensors of none of them.

    Files were written so before they held these layers.

    Args:
        model: The model.
        names: Those of the tensors in the file, as the model names them.
    """
    beside = _keras.beside_graphs(model)
    wanted = {name for path, layer in beside.items() for name in tensor_names(path, layer).values()}
    folders = {_folder(name) for name in names}
    return tuple(beside) if wanted and not folders & {_folder(name) for name in wanted} else ()


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _alike(theirs: str, ours: str, layers: Mapping[str, Any]) -> bool:
    """True for paths whose parts are the same but for the numbers of automatic names."""
    parts, other = ours.split("/"), theirs.split("/")
    if len(parts) != len(other):
        return False
    for end, (part, given) in enumerate(zip(parts, other, strict=True), 1):
        layer = layers.get("/".join(parts[:end]))
        stem = None if layer is None else _keras.automatic_stem(layer)
        if part != given and (stem is None or not re.fullmatch(rf"{stem}(_\d+)?", given)):
            return False
    return True


def tensors_of(model: Any) -> Iterator[tuple[str, np.ndarray]]:
    for layer_path, layer in places(model):
        names = tensor_names(layer_path, layer)
        for key, value in _keras.state_of(layer).items():
            yield names[key], _keras.host_value(value)


def tensor_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor that the model gives to a file."""
    return {
        names[key]: tuple(int(size) for size in value.shape)
        for layer_path, layer in places(model)
        for names in [tensor_names(layer_path, layer)]
        for key, value in _keras.state_of(layer).items()
    }


def expected_shapes(
    model: Any, plan: Plan, path: str | os.PathLike[str], received: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor once the model has the ranks of the plan.

    Where only the file tells a length, it is that of the file.
    """
    shapes = tensor_shapes(model)
    for layer_path, layer in places(model):
        for name in (
            tensor_names(layer_path, layer).values() if _keras.has_free_lengths(layer) else ()
        ):
            given = received.get(name, ())
            shapes[name] = given if len(given) == 1 else (0,)
    kernels = {kernel.path: kernel for kernel in find_kernels(model)}
    for each in plan:
        if each not in kernels:
            raise FormatError(
                f"{path} does not fit model '{shortened(model.name)}': it has ranks for "
                f"{shortened(repr(each), 200)}, and the model's kernels are "
                f"{shortened(', '.join(kernels) or 'none', 500)}. Use the model it was saved from."
            )
    for each, kernel in kernels.items():
        for variable in kernel.variables:
            shapes.pop(f"{kernel.layer_path}/{variable.name}", None)
        if each not in plan:
            shapes[each] = kernel.variable_shape
            continue
        try:
            rank, split = checked(plan[each], kernel)
        except SurgeryError as error:
            raise FormatError(
                f"{path} does not fit model '{shortened(model.name)}': {error}"
            ) from error
        u, v = kernel.view(split).factor_shapes(kernel.variable_shape, rank)
        shapes[f"{each}_u"], shapes[f"{each}_v"] = u, v
    return shapes
