"""Let a recurrent cell add something to what its kernels give, to take gradients by that."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

_GATES = {keras.layers.SimpleRNNCell: 1, keras.layers.LSTMCell: 4, keras.layers.GRUCell: 3}


def is_cell(layer: Any) -> bool:
    """True for recurrent cells of Keras's, dense or factorised."""
    return isinstance(layer, tuple(_GATES))


@contextlib.contextmanager
def projections_watched(
    cell: Any, samples: int, watch: Callable[[Any], Any] | None
) -> Iterator[Any]:
    """Within it, one call of a cell adds zeros of every sample to what its kernels give.

    They go in with the bias, which is then of every sample too: all gates side by side, as the
    default implementation computes them; the other one gives the same but for dropout. The sum
    `x W + h R` is one number with one gradient; a GRU with `reset_after` keeps two, with a bias
    each, since its last gate weighs `h R` by the reset gate.

    Args:
        cell: The cell.
        samples: Of the call.
        watch: The zeros -> what to go on with; `None`, and nothing is changed.

    Yields:
        The zeros, `(samples, 1, n)`, or `(samples, 2, n)`, of `x W` and of `h R`.
    """
    if watch is None:
        yield None
        return
    ops, own = keras.ops, vars(cell)
    gates = next(count for each, count in _GATES.items() if isinstance(cell, each))
    terms = 2 if getattr(cell, "reset_after", False) else 1
    zeros = watch(ops.zeros((samples, terms, gates * cell.units), cell.compute_dtype))
    bias = ops.transpose(zeros, (1, 0, 2))
    if own.get("bias") is not None:
        shape = (terms, 1, gates * cell.units)
        bias = bias + ops.reshape(ops.cast(own["bias"], cell.compute_dtype), shape)
    plain = {"use_bias": True, "bias": bias if terms == 2 else bias[0], "implementation": 2}
    before = {name: own[name] for name in plain if name in own}
    own.update({name: plain[name] for name in plain})
    try:
        yield zeros
    finally:
        for name in plain:
            own.pop(name)
        own.update(before)
