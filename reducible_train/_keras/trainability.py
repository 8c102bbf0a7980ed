"""What a fit trains, also when its train function is traced once more in the middle of it.

Keras reads the flags `trainable` when it traces: who freezes or unfreezes a layer after that, in
mid-fit or between two fits, changes nothing until the next `compile`. A cut must not change that.
What was trained, the optimizer knows.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import keras

from reducible_train._keras.stand_ins import real_train_function
from reducible_train._keras.traces import is_traced

_GOES_ON = weakref.WeakSet[Any]()  # train functions that train what those before them did


def held_optimizers(model: Any, kind: type = keras.optimizers.Optimizer) -> list[Any]:
    """The optimizers in a model's own attributes, in lists and dictionaries, too."""

    def within(value: Any, depth: int) -> Iterator[Any]:
        if isinstance(value, kind):
            yield value
        elif depth < 3 and isinstance(value, (list, tuple, dict)):
            for item in value.values() if isinstance(value, dict) else value:
                yield from within(item, depth + 1)

    return list({id(each): each for each in within(dict(vars(model)), 0)}.values())


def is_trained(variable: Any) -> bool:
    """False for a variable that steps leave as it is: a frozen one, be it by torch's own flag."""
    return bool(variable.trainable) and getattr(variable._value, "requires_grad", True)


def train_as(variable: Any, other: Any) -> None:
    """Let a variable be trained, or left as it is, as another one is; both may wait for memory."""
    variable.trainable = other.trainable
    wanted = getattr(other._value, "requires_grad", None)
    if getattr(variable._value, "requires_grad", wanted) != wanted:
        variable._value.requires_grad_(wanted)


def trains_what_it_did(model: Any) -> bool:
    """True if the train function of a model no longer heeds the flags: it was traced.

    Only TensorFlow traces a step; on other backends, and where a model runs eagerly, Keras reads
    the flags at every step.
    """
    found = real_train_function(model)
    return "train_step" not in vars(model) and (found in _GOES_ON or is_traced(found))


@contextlib.contextmanager
def flags_of_fit(model: Any) -> Iterator[None]:
    """Within it, `trainable` is true of what the train function of a model trains."""
    with _flags_of_optimizers(model) if trains_what_it_did(model) else contextlib.nullcontext():
        yield


def go_on_training(model: Any, *, heeds_flags: bool) -> None:
    """Make a train function that trains what the model's optimizers know, and nothing else.

    Args:
        model: The model.
        heeds_flags: True if what has been frozen since is not trained, as where Keras reads the
            flags at the next step. What was thawed is trained in no case: Keras would end there.
    """
    own_step: Callable[..., Any] = model.train_step

    @functools.wraps(own_step)
    def train_step(*args: Any, **kwargs: Any) -> Any:
        with _flags_of_optimizers(model, heeded=heeds_flags):
            return own_step(*args, **kwargs)

    model.__dict__["train_step"] = train_step
    try:
        model.make_train_function(force=True)
    finally:
        del model.__dict__["train_step"]
    if not heeds_flags:
        _GOES_ON.add(model.train_function)


def _known(model: Any) -> set[int]:
    """What the model's optimizers were built on; nothing while that is not settled."""
    held = held_optimizers(model)
    own = getattr(model, "optimizer", None)
    if len(held) > 1 and own is not None and not own.built:
        held = [each for each in held if each is not own]  # Keras's default, beside a GAN's two
    if not all(each.built for each in held):
        return set()
    return {id(v) for each in held for v in each._trainable_variables}


@contextlib.contextmanager
def _flags_of_optimizers(model: Any, *, heeded: bool = False) -> Iterator[None]:
    """Within it, `trainable` is true of what optimizers know; flags set within it stay.

    Not of what is frozen, where the flags are heeded.
    """
    changed = []
    for each, wanted in list(_wanted_flags(model, _known(model))):
        if heeded and wanted:
            continue
        if each._trainable != wanted:
            each._trainable = wanted
            changed.append((each, wanted))
    try:
        yield
    finally:
        for each, wanted in changed:
            if each._trainable == wanted:
                each._trainable = not wanted


def _wanted_flags(model: Any, known: set[int]) -> Iterator[tuple[Any, bool]]:
    """Layers and variables that can be trained, and whether they shall be.

    What no optimizer knows shall not; what was frozen since `compile` shall, what was before it
    (and an older optimizer may know it) shall not.
    """
    compiled = getattr(model, "_compiled_trainable_state", {})
    for layer in model._flatten_layers() if known else ():
        began = compiled.get(layer, False)
        for v in layer._trainable_variables:
            yield v, id(v) in known and (began or v._trainable)
        could = [v for v in layer.variables if v.trainable or id(v) in known]
        if could:  # BatchNormalization, too, computes by the flag of the layer
            yield layer, any(id(v) in known for v in could) and (began or layer._trainable)
