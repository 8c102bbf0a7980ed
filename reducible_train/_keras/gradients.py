"""Gradients of the loss by values within a forward pass, and by variables, on every backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from reducible_train._keras.layer_tree import walk

Watch = Callable[[Any], Any]  # a value that is met in the pass -> the one to go on with

_OCTAVES = 12  # of a step of the scale; float16 has 30, and 10 more of less precision
_SMALL = 2.0**-7  # largest gradients below it lie in the lower half of these
_TRIES = 4


class Overlay(keras.StatelessScope):
    """A scope in which no state is overwritten, and every variable has a value.

    Keras asks the scope for those that have a regularizer, and knows there only the values that
    the scope was given; here the others keep their own.

    Args:
        pairs: Variables and the values that stand in for theirs.
    """

    def __init__(self, pairs: Sequence[tuple[Any, Any]] = ()):
        super().__init__(state_mapping=list(pairs), collect_losses=True)

    def get_current_value(self, variable: Any) -> Any:
        """The value of a variable; `None` if it has none yet."""
        value = super().get_current_value(variable)
        return variable._value if value is None else value


def by_values(run: Callable[[Watch], Any], again: Callable[[Watch, type], Any]) -> list[Any]:
    """The gradient of a loss by each value that was watched on its way, in order.

    JAX takes gradients of functions only: there the pass runs a second time, with zeros added to
    each value, and the gradient is that by the zeros.

    Args:
        run: Runs the pass, gives each value to a function and goes on with what that returns;
            returns the loss.
        again: Does the same once more, overwriting no state; is also given the class of the
            tracers that have values.

    Returns:
        `None` where the loss does not depend on a value; on JAX zeros.
    """
    return _OF_VALUES[keras.backend.backend()](run, again)


def by_variables(run: Callable[[], Any], variables: Sequence[Any]) -> list[Any]:
    """The gradient of a loss by variables; `None` where it does not depend on one.

    Args:
        run: Returns the loss.
        variables: The variables.
    """
    return _OF_VARIABLES[keras.backend.backend()](run, variables)


def in_range(scaled: Callable[[float], Sequence[Any]], model: Any) -> tuple[Sequence[Any], float]:
    """Gradients of a loss times a scale at which they can be held, and that scale.

    It is 1 but where a layer computes in float16: of a loss of 1e8 gradients are infinite there,
    and of one of 1e-8 they are 0, though training goes on by a scale of its optimizer.

    Args:
        scaled: A scale -> gradients of the loss times it, `None` among them. What it gave last is
            what is returned.
        model: The model.
    """
    scale, found = 1.0, scaled(1.0)
    is_half = any(getattr(each, "compute_dtype", "") == "float16" for _, each in walk(model))
    way = _way(found) if is_half else 0
    if not way:
        return found, scale
    for _ in range(_TRIES):
        scale *= 2.0 ** (_OCTAVES * way)
        found, before = scaled(scale), way
        way = _way(found)
        if way < 0 < before:  # some are as large as others are small
            scale /= 2.0**_OCTAVES
            return scaled(scale), scale
        if way != before:
            return found, scale
    return scaled(1.0), 1.0  # none is better


def _way(gradients: Sequence[Any]) -> int:
    """-1 for gradients that must be smaller, 1 for those that can be larger by a step, or 0."""
    largest = max(map(_largest, gradients), default=0.0)
    if not np.isfinite(largest):
        return -1
    return int(largest < _SMALL)


def _largest(gradient: Any) -> float:
    """The largest size of its numbers; infinite where one of them is no number."""
    if gradient is None or 0 in gradient.shape:
        return 0.0
    found = float(keras.ops.max(keras.ops.abs(keras.ops.cast(gradient, "float32"))))
    return found if np.isfinite(found) else np.inf


def _tensorflow_values(run: Callable[[Watch], Any], again: Any) -> list[Any]:
    import tensorflow as tf  # noqa: PLC0415

    found: list[Any] = []
    with tf.GradientTape() as tape:

        def watch(value: Any) -> Any:
            tape.watch(value)
            found.append(value)
            return value

        loss = run(watch)
    return list(tape.gradient(loss, found))


def _tensorflow_variables(run: Callable[[], Any], variables: Sequence[Any]) -> list[Any]:
    import tensorflow as tf  # noqa: PLC0415

    values = [variable.value for variable in variables]
    with tf.GradientTape() as tape:
        loss = run()
    found = tape.gradient(loss, values)
    return [None if each is None else tf.convert_to_tensor(each) for each in found]


def _torch_values(run: Callable[[Watch], Any], again: Any) -> list[Any]:
    import torch  # noqa: PLC0415

    found: list[Any] = []

    def watch(value: Any) -> Any:
        found.append(value if value.requires_grad else value.clone().requires_grad_())
        return found[-1]

    with torch.enable_grad():
        return _torch_gradients(run(watch), found)


def _torch_variables(run: Callable[[], Any], variables: Sequence[Any]) -> list[Any]:
    import torch  # noqa: PLC0415

    values = [variable.value for variable in variables]
    frozen = [value for value in values if not value.requires_grad]
    try:
        for value in frozen:
            value.requires_grad_(True)
        with torch.enable_grad(), Overlay():
            return _torch_gradients(run(), values)
    finally:
        for value in frozen:
            value.requires_grad_(False)


def _torch_gradients(loss: Any, values: Sequence[Any]) -> list[Any]:
    import torch  # noqa: PLC0415

    if not values or not getattr(loss, "requires_grad", False):
        return [None] * len(values)
    return list(torch.autograd.grad(loss, values, allow_unused=True))


def _jax_values(run: Callable[[Watch], Any], again: Callable[[Watch, type], Any]) -> list[Any]:
    import jax  # noqa: PLC0415

    zeros: list[Any] = []

    def note(value: Any) -> Any:
        zeros.append(keras.ops.zeros_like(value))
        return value

    run(note)

    def loss(added: Sequence[Any]) -> Any:
        left = iter(added)
        return again(lambda value: value + next(left), type(added[0]))

    return list(jax.grad(loss)(zeros)) if zeros else []


def _jax_variables(run: Callable[[], Any], variables: Sequence[Any]) -> list[Any]:
    import jax  # noqa: PLC0415

    def loss(values: Sequence[Any]) -> Any:
        with Overlay(list(zip(variables, values, strict=True))):
            return run()

    if not variables:
        run()
        return []
    return list(jax.grad(loss)([variable.value for variable in variables]))


_OF_VALUES = {
    "tensorflow": _tensorflow_values,
    "jax": _jax_values,
    "torch": _torch_values,
}
_OF_VARIABLES = {
    "tensorflow": _tensorflow_variables,
    "jax": _jax_variables,
    "torch": _torch_variables,
}

DIFFERENTIABLE = tuple(_OF_VALUES)  # backends that have gradients


def has_gradient_hooks(variable: Any) -> bool:
    """True for a variable with hooks of torch, which see its gradient, and may change it."""
    hooks = ("_backward_hooks", "_post_accumulate_grad_hooks")
    return keras.backend.backend() == "torch" and any(
        getattr(variable._value, name, None) for name in hooks
    )
