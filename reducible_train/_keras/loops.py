"""Follow recurrent layers step by step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np

from reducible_train._keras.values import host_value, values_kept


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a sequence: its place, how many there are, and which samples have it.

    Args:
        index: From 0, the first of the sequence.
        length: Steps of the sequence.
        having: `(samples,)`; `None` if all of them.
    """

    index: int
    length: int
    having: np.ndarray | None


@contextlib.contextmanager
def stepwise(layers: Sequence[Any], cells: Sequence[Any]) -> Iterator[Callable[[Any], Step | None]]:
    """Within it, recurrent layers call their cells once for each step, with values.

    Otherwise a backend may trace the loop, try the cell once before it begins, or hand all of
    it to cuDNN. States that outlive a call are put back at the end.

    Args:
        layers: Layers, of which those matter that are recurrent and hold one of the cells.
        cells: Cells, and other layers.

    Yields:
        A function to be asked once in each call of a cell: the step it is in; `None` for
        another layer.
    """
    wanted = {id(cell) for cell in cells}
    steps: dict[int, Iterator[Step]] = {}

    def follow(loop: Any) -> Callable[[], None]:
        original, own = loop.inner_loop, vars(loop)
        plain = {"unroll": True, "use_cudnn": False}
        before = {name: own[name] for name in plain if name in own}

        def inner_loop(sequences: Any, initial_state: Any, mask: Any, **kwargs: Any) -> Any:
            steps.update((id(cell), iter(_present(loop, sequences, mask))) for cell in held(loop))
            if loop.stateful:  # torch would assign to what a gradient is yet to be taken of
                initial_state = keras.tree.map_structure(keras.ops.copy, initial_state)
            if not loop.go_backwards or mask is None:
                return original(sequences, initial_state, mask, **kwargs)
            # Unrolled, Keras zeroes outputs of a backward loop by the mask of the forward order,
            # and fails on torch: what is reversed runs forward.
            own["go_backwards"] = False
            try:
                reversed_sequences, reversed_mask = keras.tree.map_structure(
                    lambda each: keras.ops.flip(each, axis=1), (sequences, mask)
                )
                return original(reversed_sequences, initial_state, reversed_mask, **kwargs)
            finally:
                own["go_backwards"] = True

        def restore() -> None:
            del own["inner_loop"]
            own.update(before)

        own.update({name: plain[name] for name in before}, inner_loop=inner_loop)
        return restore

    def held(loop: Any) -> list[Any]:
        return [cell for cell in _cells(loop.cell) if id(cell) in wanted]

    loops = [layer for layer in layers if isinstance(layer, keras.layers.RNN) and held(layer)]
    with contextlib.ExitStack() as stack:
        for loop in loops:
            stack.enter_context(values_kept(keras.tree.flatten(loop.states or [])))
            stack.callback(follow(loop))
        yield lambda cell: next(steps.get(id(cell), iter(())), None)


@contextlib.contextmanager
def in_graphs(layers: Sequence[Any]) -> Iterator[None]:
    """Within it, recurrent layers run each loop as one operation, where nobody looks at its steps.

    Outside of a function TensorFlow runs every operation of every step by itself, which takes
    longer than an epoch of training. Other backends have loops of their own.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf  # noqa: PLC0415

    loops = [layer for layer in layers if isinstance(layer, keras.layers.RNN)]
    loops = [loop for loop in loops if "inner_loop" not in vars(loop)]
    try:
        for loop in loops:
            own = partial(loop.inner_loop)  # else TensorFlow counts, and warns of, all such traces
            vars(loop)["inner_loop"] = tf.function(own, autograph=False, reduce_retracing=True)
        yield
    finally:
        for loop in loops:
            vars(loop).pop("inner_loop", None)


@contextlib.contextmanager
def cells_called(loops: Iterable[Any]) -> Iterator[None]:
    """Within it, recurrent layers call their cells, in whose place a backend may do all of it.

    Args:
        loops: Recurrent layers, and others, which stay as they are.
    """
    given = [(vars(loop), vars(loop)["use_cudnn"]) for loop in loops if "use_cudnn" in vars(loop)]
    try:
        for own, _ in given:
            own["use_cudnn"] = False
        yield
    finally:
        for own, value in given:
            own["use_cudnn"] = value


def _present(loop: Any, sequences: Any, mask: Any) -> list[Step]:
    """The steps in the order of the calls."""
    length = sequences.shape[1]
    having: list[np.ndarray | None] = [None] * length
    masks = [each for each in keras.tree.flatten(mask) if each is not None]
    if masks:
        present = host_value(masks[0]).astype(bool)
        having = [*present.reshape(len(present), -1).T]
    steps = [Step(index, length, each) for index, each in enumerate(having)]
    return steps[::-1] if loop.go_backwards else steps


def _cells(cell: Any) -> list[Any]:
    """A cell, and those stacked in it."""
    return [cell, *(inner for each in getattr(cell, "cells", ()) for inner in _cells(each))]
