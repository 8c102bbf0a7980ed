"""What a loss ignores of the targets, by its `ignore_class`, as sample weights say it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from reducible_train._keras.nested import arrays_in


def weights_of_counted(model: Any, y: Any, weight: Any) -> Any:
    """Sample weights that are 0 where the losses of a model ignore the targets.

    Args:
        model: A model; of one that is not compiled nothing is ignored.
        y: Targets, nested as the model takes them, or `None`.
        weight: Sample weights of these, or `None`.

    Returns:
        The same, where nothing is ignored; else nested as the targets, `None` for those that have
        no weights.
    """
    names = getattr(model, "output_names", None) or []
    losses = _for_each(getattr(model, "loss", None), y, names)
    weights = _for_each(weight, y, names)
    if weight is not None and not arrays_in(weights):  # nobody knows whose they are
        return weight
    flat = [keras.tree.flatten(part) for part in (y, losses, weights)]
    found = [_of_counted(*each) for each in zip(*flat, strict=True)]
    if all(new is old for new, old in zip(found, flat[2], strict=True)):
        return weight
    return keras.tree.pack_sequence_as(y, found)


def _of_counted(target: Any, loss: Any, weight: Any) -> Any:
    """The weights of one target, of the shape of its loss where some of it is ignored."""
    ignored = getattr(loss, "ignore_class", None)
    if target is None or not isinstance(ignored, int | np.integer):  # of a loss of one's own, maybe
        return weight
    counts = np.asarray(target) != ignored
    if counts.all():
        return weight
    axis = getattr(loss, "_fn_kwargs", {}).get("axis", -1)
    if counts.ndim > 1 and -counts.ndim <= axis < counts.ndim and counts.shape[axis] == 1:
        counts = counts.squeeze(axis)
    if weight is None:
        return counts.astype("float32")
    given = np.asarray(weight)
    axes = max(counts.ndim, given.ndim)
    counts, given = (a.reshape(a.shape + (1,) * (axes - a.ndim)) for a in (counts, given))
    return counts * given


def _for_each(value: Any, y: Any, names: Sequence[str]) -> Any:
    """What is given for outputs by place or by name, one for each target, nested as these are.

    What is not nested is for all of them; `None` for those that have none.
    """
    if not keras.tree.is_nested(value):
        return keras.tree.map_structure(lambda _: value, y)
    if isinstance(y, dict):
        parts = value if isinstance(value, dict) else dict(zip(names, value, strict=False))
        own = {name: _for_each(parts.get(name), each, names) for name, each in y.items()}
        return OrderedDict(own) if isinstance(y, OrderedDict) else own  # whose order counts
    if isinstance(value, dict):
        value = [value.get(name) for name in names or value]
    if not keras.tree.is_nested(y):
        return value[0] if len(value) == 1 else None
    places = value if len(value) == len(y) else [None] * len(y)
    return [_for_each(part, each, names) for part, each in zip(places, y, strict=True)]
