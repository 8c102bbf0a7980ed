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


class TorchWarmUp:
    """Lets the rates of one of torch's own optimizers climb, as `warm_up_learning_rate` does.

    Within a step its groups have other rates; between two of them all that look at these, or set
    them, such as schedules, meet the plain ones.

    Args:
        optimizer: The optimizer.
        steps: How many of its steps the climb takes.
        initial: The fraction that it begins from.
    """

    def __init__(self, optimizer: Any, steps: int, initial: float):
        self._steps = steps
        self._initial = initial
        self._done = 0
        self._rates: list[tuple[dict[str, Any], Any, Any]] = []  # within a step: plain, and scaled
        self._hooks = (
            optimizer.register_step_pre_hook(self._begin_step),
            optimizer.register_step_post_hook(self._end_step),
        )

    @property
    def is_over(self) -> bool:
        """True once the rates are the plain ones in all steps to come."""
        return self._done >= self._steps

    def end(self) -> None:
        """Let the optimizer make its steps with the plain rates again."""
        for hook in self._hooks:
            hook.remove()
        self._end_step()

    def _begin_step(self, optimizer: Any, *_: Any) -> None:
        self._end_step()  # one that failed has not come to its end
        self._done += 1
        missing = max(1.0 - self._done / self._steps, 0.0)
        for group in optimizer.param_groups:
            if "lr" in group:
                plain = group["lr"]
                group["lr"] = plain * (1.0 - (1.0 - self._initial) * missing)
                self._rates.append((group, plain, group["lr"]))

    def _end_step(self, *_: Any) -> None:
        for group, plain, scaled in self._rates:
            if group["lr"] is scaled:  # not set by somebody else since
                group["lr"] = plain
        self._rates.clear()
