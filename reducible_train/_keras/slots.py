"""What every list of slots in an optimizer of Keras means: a new optimizer is a row here.

Keras keeps slots in attributes, most of them private, and says nowhere what stands in them; a
change of variables must know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np

from reducible_train._keras.values import host_float, host_value

Meaning = Literal[
    "momentum",  # a mean of gradients: the signal in the noise that "square" tells of
    "gradient",  # anything else that follows the chain rule as a gradient does
    "square",  # a mean or a sum of squared gradients
    "root",  # the root of such
    "step square",  # a mean of squared updates of the weight
    "weight",  # the weight itself, or a mean of it
    "derived",  # a function of other slots or of the weight: see `align_derived`
]

# By the class that makes them, attribute -> meaning; subclasses have those of their base, too.
SLOTS: Mapping[str, Mapping[str, Meaning]] = {
    "Optimizer": {
        "_accumulated_gradients": "gradient",
        "_model_variables_moving_average": "weight",
    },
    "SGD": {"momentums": "momentum"},
    "RMSprop": {
        "_velocities": "square",
        "_momentums": "momentum",
        "_average_gradients": "gradient",
    },
    "Adam": {"_momentums": "momentum", "_velocities": "square", "_velocity_hats": "square"},
    "Adamax": {"_m": "momentum", "_u": "root"},
    "Nadam": {"_momentums": "momentum", "_velocities": "square"},
    "Lamb": {"_momentums": "momentum", "_velocities": "square"},
    "Lion": {"_momentums": "momentum"},
    "Muon": {"momentums": "momentum", "adam_velocities": "square"},
    "Adagrad": {"_accumulators": "square"},
    "Adadelta": {"_accumulated_grads": "square", "_accumulated_delta_vars": "step square"},
    "Adafactor": {"_v": "square", "_r": "derived", "_c": "derived"},
    "Ftrl": {"_accumulators": "square", "_linears": "derived"},
    "ScheduleFreeAdamW": {"_momentums": "weight", "_velocities": "square"},
}
_NO_SLOTS = ("_variables", "_trainable_variables", "_inner_optimizers")


def slots(optimizer: Any) -> dict[str, list[Any]]:
    """An optimizer's slot lists by attribute: one entry for each trainable variable."""
    count = len(optimizer._trainable_variables)
    return {
        name: list(value)
        for name, value in vars(optimizer).items()
        if isinstance(value, (list, tuple))
        and name not in _NO_SLOTS
        and count
        and len(value) == count
        and all(item is None or isinstance(item, keras.Variable) for item in value)
        and any(item is not None for item in value)
    }


def meaning_of(optimizer: Any, slot: str) -> Meaning | None:
    """What a slot of an optimizer means; `None` where nobody knows, so that it starts anew.

    In an optimizer that is not Keras's, a slot means what one of that name means in Keras.
    """
    known = (SLOTS.get(kind.__name__, {}) for kind in type(optimizer).__mro__)
    return next((row[slot] for row in (*known, *SLOTS.values()) if slot in row), None)


def align_derived(
    optimizer: Any, slots: Mapping[str, Sequence[Any]], weights: Sequence[np.ndarray]
) -> None:
    """Bring slots in line with the slots and the weights that they are functions of, or bound by.

    Args:
        optimizer: A built optimizer.
        slots: Name -> its slots of some variables.
        weights: The values of these variables, in the same order.
    """
    for place, weight in enumerate(weights):
        here = {name: values[place] for name, values in slots.items() if values[place] is not None}
        for needed, align in _ALIGNED.items():
            if here.keys() >= set(needed):
                align(optimizer, here, weight)


def _centre(optimizer: Any, slot: Mapping[str, Any], weight: np.ndarray) -> None:
    """Centred RMSprop divides by the root of mean square less squared mean."""
    _bound(slot["_average_gradients"], slot["_velocities"])


def _centre_of_torch(optimizer: Any, slot: Mapping[str, Any], weight: np.ndarray) -> None:
    _bound(slot["grad_avg"], slot["square_avg"])


def _bound(mean: Any, square: Any) -> None:
    """Let mean squares be no less than squared means."""
    square.assign(np.maximum(_double(square), _double(mean) ** 2 * 1.000001))


def _solve(optimizer: Any, slot: Mapping[str, Any], weight: np.ndarray) -> None:
    """Ftrl makes the weight of its linear slot: the one for which that gives what is there."""
    rate = float(host_value(optimizer.learning_rate))
    l1, l2 = optimizer.l1_regularization_strength, optimizer.l2_regularization_strength
    power = _double(slot["_accumulators"]) ** (-optimizer.learning_rate_power)
    quadratic = power / rate + 2.0 * (l2 + optimizer.beta / (2.0 * rate))
    slot["_linears"].assign(-(weight * quadratic + l1 * np.sign(weight)))


def _factorize(optimizer: Any, slot: Mapping[str, Any], weight: np.ndarray) -> None:
    """Adafactor keeps means of rows and columns, of a matrix at least."""
    if weight.ndim > 1:
        square = _double(slot["_v"])
        slot["_r"].assign(square.mean(-1))
        slot["_c"].assign(square.mean(-2))


_ALIGNED: Mapping[tuple[str, ...], Callable[[Any, Mapping[str, Any], np.ndarray], None]] = {
    ("_average_gradients", "_velocities"): _centre,
    ("grad_avg", "square_avg"): _centre_of_torch,
    ("_linears", "_accumulators"): _solve,
    ("_r", "_c", "_v"): _factorize,
}


def _double(slot: Any) -> np.ndarray:
    return host_float(slot).astype(np.float64)
