"""Know, in every call of a layer, which positions of its data a mask hides."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras.src.backend.common.masking import get_keras_mask, set_keras_mask

from reducible_train._keras.layer_tree import walk
from reducible_train._keras.values import host_value, is_symbolic


@dataclass(eq=False)
class _Frame:
    """A call that is running: its masks, of inputs and of attention, and the step it is in."""

    layer: Any
    masks: list[np.ndarray]
    attended: list[np.ndarray]
    step: int = -1  # of a TimeDistributed


class Masks:
    """The masks of one forward pass.

    The mask of an array is the one attached to it; else that of the innermost call around it
    that has one for its axes; else the one that was seen in this pass for these axes, as long as
    no layer has taken it for good, as pooling does. Where several are as near, a position counts
    if one of them lets it.
    """

    def __init__(self) -> None:
        self._frames: list[_Frame] = []
        self._passed: dict[tuple[int, ...], np.ndarray] = {}

    def enter(self, layer: Any, given: Mapping[str, Any]) -> None:
        """A call of a layer begins."""
        if self._frames and isinstance(self._frames[-1].layer, keras.layers.TimeDistributed):
            self._frames[-1].step += 1
        masks = [*_attached(given), *_named(given)]
        self.note(masks)
        self._frames.append(_Frame(layer, masks, _attended(given)))

    def leave(self, given: Mapping[str, Any], output: Any) -> None:
        """It ends; a mask that its output has no axes for is not handed on."""
        self._frames.pop()
        shapes = [tuple(each.shape) for each in keras.tree.flatten(output) if _is_array(each)]
        for mask in _attached(given):
            if not any(shape[: mask.ndim] == mask.shape for shape in shapes):
                self._passed.pop(mask.shape, None)
        self.note(_attached({"": output}))

    def note(self, masks: Sequence[np.ndarray]) -> None:
        """Remember masks for arrays that lose theirs on the way."""
        for mask in masks:
            known = self._passed.get(mask.shape)
            self._passed[mask.shape] = mask if known is None else known | mask

    def present(self, layer: Any, given: Any) -> tuple[list[list[np.ndarray]], tuple[int, ...]]:
        """The masks that may be those of a layer's arguments, nearest first, and where they are.

        A table makes its mask of its own arguments, after the call.

        Returns:
            Groups of masks, and the steps of the `TimeDistributed` around the call, outermost
            first; masks from outside of them are those of the step.
        """
        own = _attached({"": given})
        if not own and isinstance(layer, keras.layers.Embedding):
            own = _as_mask(layer.compute_mask(given[0], None))
        groups = [own]
        steps: list[int] = []
        for frame in reversed(self._frames):
            if isinstance(frame.layer, keras.layers.TimeDistributed):
                steps.insert(0, frame.step)
            groups += [_at(frame.masks, steps), _at(frame.attended, steps)]
        return [*groups, _at([*self._passed.values()], steps)], tuple(steps)


def attach_mask(tensor: Any, mask: Any) -> None:
    """Let a tensor carry a mask, for a layer that sets it in its call; Keras keeps its own way."""
    set_keras_mask(tensor, mask)


def fitting(groups: Sequence[Sequence[np.ndarray]], shape: Sequence[int]) -> np.ndarray | None:
    """The mask for an array whose first axes have this shape, of groups in order of nearness.

    Returns:
        `(samples,)` or `(samples, positions...)`; `None` if there is none.
    """
    shape = tuple(shape)
    for masks in groups:
        found = [mask for mask in masks if mask.shape == shape[: mask.ndim]]
        found = found or [mask.ravel() for mask in masks if shape[:1] == (mask.size,)]
        if found:
            return functools.reduce(np.logical_or, found)
    return None


def at_step(weights: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """Masks or weights `(samples, positions, ...)` at the steps of the calls around."""
    for step in steps:
        if weights.ndim > 1 and step < weights.shape[1]:
            weights = weights[:, step]
    return weights


@contextlib.contextmanager
def followed(model: Any) -> Iterator[Masks]:
    """Within it, masks are followed through every eager call of a model's layers."""
    masks = Masks()
    with contextlib.ExitStack() as stack:
        for layer in [model, *(layer for _, layer in walk(model))]:
            stack.callback(_follow(layer, masks))
        yield masks


def _follow(layer: Any, masks: Masks) -> Callable[[], None]:
    """Note the masks in every call of a layer; the answer ends it."""
    own = vars(layer)
    before = {name: own[name] for name in ("call", "compute_mask") if name in own}
    original, compute = layer.call, layer.compute_mask
    signature = inspect.signature(original)

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        if any(map(is_symbolic, keras.tree.flatten([*given.values()]))):
            return original(*args, **kwargs)
        masks.enter(layer, given)
        output = None
        try:
            output = original(*args, **kwargs)
        finally:
            masks.leave(given, output)
        return output

    @functools.wraps(compute)
    def compute_mask(*args: Any, **kwargs: Any) -> Any:
        found = compute(*args, **kwargs)
        masks.note([m for each in keras.tree.flatten(found) for m in _as_mask(each)])
        return found

    def end() -> None:
        for name in ("call", "compute_mask"):
            own.pop(name, None)
        own.update(before)

    own.update(call=call, compute_mask=compute_mask)
    return end


def _attached(given: Mapping[str, Any]) -> list[np.ndarray]:
    """The masks that Keras has attached to tensors."""
    tensors = keras.tree.flatten([*given.values()])
    return [m for each in tensors for m in _as_mask(get_keras_mask(each))]


def _named(given: Mapping[str, Any]) -> list[np.ndarray]:
    """The masks that arguments, or inputs in a dictionary, are by their names."""
    found = []
    for name, value in given.items():
        if isinstance(value, dict):
            found += _named(value)
        elif isinstance(name, str) and (name == "mask" or name.endswith("_mask")):
            found += [m for each in keras.tree.flatten(value) for m in _as_mask(each)]
    return found


def _attended(given: Mapping[str, Any]) -> list[np.ndarray]:
    """Which positions any other looks at, `(samples, positions)`, of masks of attention."""
    found: list[np.ndarray] = []
    for name, value in given.items():
        if name.endswith("attention_mask") and _is_array(value) and len(value.shape) > 2:
            mask = host_value(value).astype(bool)
            looked_at = np.asarray(mask.any(axis=tuple(range(1, mask.ndim - 1))))
            if not looked_at.all():
                found.append(looked_at)
    return found


def _as_mask(value: Any) -> list[np.ndarray]:
    """A mask of samples and positions, if a value is one: true or false, or 1 and 0."""
    if not _is_array(value) or len(value.shape) != 2 or is_symbolic(value):
        return []
    array = host_value(value)
    if array.dtype != np.dtype(bool) and not np.isin(array, (0, 1)).all():
        return []
    mask: np.ndarray = np.equal(array, 1)
    return [mask]


def _at(masks: Sequence[np.ndarray], steps: Sequence[int]) -> list[np.ndarray]:
    return [at_step(mask, steps) for mask in masks]


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")
