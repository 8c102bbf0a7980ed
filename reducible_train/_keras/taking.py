"""Know which variables are taken out of lists of a layer's weights by their places there.

Factors come at the end of their layer's variables: `layer.weights[0]` is then the bias. Code that
goes through a whole list takes whatever is in it.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import inspect
import itertools
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import CodeType
from typing import Any

import keras

from reducible_train._keras.batch_loss import loss_of
from reducible_train._keras.functions import is_own_loss, own_losses
from reducible_train._keras.registry import is_of_keras

_LISTS = (
    "non_trainable_variables",
    "non_trainable_weights",
    "trainable_variables",
    "trainable_weights",
    "variables",
    "weights",
)
_IDLE = ("CACHE", "EXTENDED_ARG", "NOP", "PRECALL", "PUSH_NULL")
_READING = ("LOAD_ATTR", "LOAD_METHOD")
_UNPACKING = ("UNPACK_EX", "UNPACK_SEQUENCE")
_ONE_AT_A_TIME = threading.RLock()  # what is patched is of all threads


class _Places(list[Any]):
    """A list of a layer's that tells which of its variables somebody takes by their places.

    Args:
        items: What is in it.
        variables: Of which these are, or are the values.
        told: Is given the id of each variable that must stay for the place to mean the same.
    """

    def __init__(self, items: Sequence[Any], variables: Sequence[Any], told: Callable[[int], None]):
        super().__init__(items)
        self._variables, self._told = variables, told

    def __getitem__(self, place: Any) -> Any:
        is_whole = isinstance(place, slice) and place.start is None and place.stop is None
        if not is_whole:
            counted = not isinstance(place, slice) and int(place) >= 0  # from the front
            self._tell(int(place) + 1 if counted else None)
        return super().__getitem__(place)

    def __iter__(self) -> Iterator[Any]:
        code, place = sys._getframe(1).f_code.co_code, sys._getframe(1).f_lasti
        if dis.opname[code[place]] in _UNPACKING:
            self._tell(None)
        return super().__iter__()

    def _tell(self, count: int | None) -> None:
        for variable in list(self._variables)[:count]:
            self._told(id(variable))


@contextlib.contextmanager
def places_told(told: Callable[[int], None]) -> Iterator[None]:
    """Within it, lists of the variables of layers, and of their values, tell who goes by places.

    Args:
        told: Is given the id of each variable but for which another one would be there.
    """
    known = {name: vars(keras.Layer)[name] for name in (*_LISTS, "get_weights")}

    def listing(get: Callable[[Any], list[Any]]) -> Any:
        def variables(layer: Any) -> Any:
            found = get(layer)
            return _Places(found, found, told)

        return property(variables)

    def get_weights(layer: Any) -> Any:
        return _Places(known["get_weights"](layer), layer.weights, told)

    with _ONE_AT_A_TIME:
        try:
            for name in _LISTS:
                setattr(keras.Layer, name, listing(known[name].fget))
            keras.Layer.get_weights = get_weights
            yield
        finally:
            for name, original in known.items():
                setattr(keras.Layer, name, original)


def ask_as_step_does(model: Any) -> None:
    """Take from lists of variables what a `train_step` of one's own takes by a place it names.

    As in `self.first.weights[0]` or `kernel, bias = self.first.weights`: a step may do anything,
    so it is read, not called.
    """
    if not isinstance(model, keras.Model):
        return
    step = inspect.unwrap(type(model).train_step)
    if is_of_keras(step) or not inspect.isfunction(step):
        return
    for names, listed, place in _takes(step.__code__, "".join(step.__code__.co_varnames[:1])):
        with contextlib.suppress(Exception):  # what is not there
            found = getattr(functools.reduce(getattr, names, model), listed)
            found = found() if callable(found) else found
            if place is None:
                _, *_ = found
            else:
                found[place]


def _takes(code: CodeType, owner: str) -> Iterator[tuple[list[str], str, int | None]]:
    """What a function takes by place from lists of variables: the attributes of its `owner` on the
    way, the name of the list, and the place; `None` where all of it is unpacked.
    """
    steps = [i for i in dis.get_instructions(code) if i.opname not in _IDLE]
    for at, step in enumerate(steps[:-2]):
        if step.opname not in _READING or step.argval not in (*_LISTS, "get_weights"):
            continue
        first = at
        while steps[first - 1].opname in _READING:
            first -= 1
        after = at + 1 + (steps[at + 1].opname == "CALL")
        names = [each.argval for each in steps[first:at]]
        read = steps[first - 1].argval
        if (read[-1] if isinstance(read, tuple) else read) != owner:  # 3.13 loads two at once
            continue
        if steps[after].opname in _UNPACKING:
            yield names, step.argval, None
        elif steps[after].opname == "LOAD_CONST" and steps[after + 1].opname == "BINARY_SUBSCR":
            yield names, step.argval, steps[after].argval
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _takes(inner, owner)


def try_losses(model: Any, inputs: Any, outputs: Any) -> None:
    """Have the losses of a model that are none of Keras's compute something, whatever that is.

    Targets are made up: as the outputs are, and labels of them. Nothing is kept of it.

    Args:
        model: The model.
        inputs: What it was called on.
        outputs: What it gave.
    """
    if not getattr(model, "compiled", False):
        return
    predicted = [each for each in keras.tree.flatten(outputs) if keras.ops.is_tensor(each)]
    for like in (keras.ops.zeros_like, _labels):
        for loss, each in itertools.product(own_losses(model), predicted):
            with _nothing_kept():
                loss(like(each), each)
        if is_own_loss(type(model).compute_loss):
            with _nothing_kept(), _compiled_loss_left_out(model):
                targets = keras.tree.map_structure(like, outputs)
                loss_of(model, (inputs, targets, None), outputs)


@contextlib.contextmanager
def _nothing_kept() -> Iterator[None]:
    """Within it a loss may fail on what is made up, and assigns values to nothing."""
    with contextlib.suppress(Exception), keras.StatelessScope():
        yield


def _labels(predicted: Any) -> Any:
    return keras.ops.argmax(predicted, axis=-1)


@contextlib.contextmanager
def _compiled_loss_left_out(model: Any) -> Iterator[None]:
    """Within it, a model has none: it would be built for the targets that it is given first."""
    compiled, own = vars(model).get("_compile_loss"), vars(model)
    own["_compile_loss"] = None if compiled is None else lambda _, y, __: keras.ops.mean(y)
    try:
        yield
    finally:
        own["_compile_loss"] = compiled
