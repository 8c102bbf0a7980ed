"""Scale the learning rate of a live optimizer, whatever gives it."""

from __future__ import annotations

import functools
from typing import Any

import keras

from reducible_train._keras.optimizers import all_optimizers
from reducible_train._keras.values import host_value

_RATE = "_get_current_learning_rate"


def warm_up_learning_rate(optimizer: Any, steps: int, initial: float) -> None:
    """Let the learning rate climb from a fraction of itself to itself, from now on.

    Whatever gives the rate (a number, a callback, a schedule) stays in its place: assigning
    another would lose it for callbacks, files and schedules. For `steps` steps the method
    that every optimizer asks for its rate is shadowed by one that scales the answer, by a
    function of the iterations, so that the compiled step needs no new trace when it is over.
    """
    for each in all_optimizers(optimizer):
        start = int(host_value(each._iterations))
        each.__dict__[_RATE] = functools.partial(_climbing_rate, each, start, steps, initial)


def end_warm_up(optimizer: Any, *, if_over: bool = False) -> bool:
    """Let an optimizer give its plain learning rate again; a compiled step scales by 1 by then.

    Args:
        optimizer: The optimizer.
        if_over: True to leave a climb alone that is still going on.

    Returns:
        True if a climb was ended before it was over: a compiled step would go on with it.
    """
    is_cut_short = False
    for each in all_optimizers(optimizer):
        climb = each.__dict__.get(_RATE)
        if climb is None:
            continue
        _, start, steps, _ = climb.args
        is_over = int(host_value(each._iterations)) >= start + steps
        if is_over or not if_over:
            del each.__dict__[_RATE]
            is_cut_short = is_cut_short or not is_over
    return is_cut_short


def _climbing_rate(optimizer: Any, start: int, steps: int, initial: float) -> Any:
    rate = getattr(type(optimizer), _RATE)(optimizer)
    if rate is None:  # wrappers without a rate of their own
        return rate
    rate = keras.ops.convert_to_tensor(rate)
    done = keras.ops.cast(keras.ops.subtract(optimizer._iterations, start - 1), rate.dtype) / steps
    missing = keras.ops.maximum(1.0 - done, keras.ops.zeros_like(done))
    return rate * (1.0 - (1.0 - initial) * missing)
