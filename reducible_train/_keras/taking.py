"""Know which variables are taken out of lists of a layer's weights by their places there.

Factors come at the end of their layer's variables: `layer.weights[0]` is then the bias. Code that
goes through a whole list takes whatever is in it.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, SupportsIndex

import keras

from reducible_train._keras.layer_tree import walk
from reducible_train._keras.tracking import held_variables

LISTS = (
    "non_trainable_variables",
    "non_trainable_weights",
    "trainable_variables",
    "trainable_weights",
    "variables",
    "weights",
)
IDLE = ("CACHE", "EXTENDED_ARG", "NOP", "PRECALL", "PUSH_NULL")  # of the instructions of code
_HANDING_OUT = ("CALL_FUNCTION_EX", "UNPACK_EX", "UNPACK_SEQUENCE")
_OF_EACH = ("dtype", "ndim", "shape")  # who asks for these alone computes nothing with a variable
_ONE_AT_A_TIME = threading.RLock()  # what is patched is of all threads


class Places(list[Any]):
    """A list of a layer's that tells which of its variables somebody takes by their places.

    A place stays what it is while nothing before it changes, counted from where the code counts.

    Args:
        items: What is in it.
        variables: Of which these are, or are the values.
        layer: Whose list it is.
        told: Is given the id of each variable that must stay for the place to mean the same.
    """

    def __init__(
        self,
        items: Sequence[Any],
        variables: Sequence[Any],
        layer: Any,
        told: Callable[[int], None],
    ):
        super().__init__(items)
        self._ids, self._layer, self._told = list(map(id, variables)), layer, told

    def __getitem__(self, place: Any) -> Any:
        _, after = _running(sys._getframe(1))
        if not asks_for_no_variable(after):
            self.tell(place)
        return super().__getitem__(place)

    def __iter__(self) -> Iterator[Any]:
        frame = sys._getframe(1)
        if dis.opname[frame.f_code.co_code[frame.f_lasti]] in _HANDING_OUT:
            self.tell_handed_out(_running(frame)[0])
        return super().__iter__()

    def pop(self, place: SupportsIndex = -1) -> Any:
        self.tell(place)
        return super().pop(place)

    def tell(self, place: Any) -> None:
        """Tell what must stay for a place, or a slice, to mean the same."""
        if not isinstance(place, slice):
            place = int(place)
            self._tell(*((place + 1, 0) if place >= 0 else (0, -place)))
        elif place.step not in (None, 1, -1):
            self._tell(len(self._ids), 0)
        else:
            bounds = [each for each in (place.start, place.stop) if each is not None]
            for each in map(int, bounds):
                self._tell(max(each, 0), max(-each, 0))

    def tell_handed_out(self, step: dis.Instruction | None) -> None:
        """Tell what must stay for an instruction that hands out the list, if it does."""
        if step is not None and step.opname == "UNPACK_EX":  # a, *rest, z = list
            self._tell((step.arg or 0) & 0xFF, (step.arg or 0) >> 8)
        elif step is not None and step.opname in _HANDING_OUT:  # a, b = list; f(*list)
            self._tell(len(self._ids), 0)

    def _tell(self, front: int, back: int) -> None:
        """Tell of the first so many, and of layers that reach into the last so many.

        No list ends where more than all of it is asked for.
        """
        if front <= len(self._ids):
            for each in self._ids[:front]:
                self._told(each)
        if not 0 < back <= len(self._ids):
            return
        last = set(self._ids[-back:])
        for part in [self._layer, *(layer for _, layer in walk(self._layer))]:
            own = {id(variable) for variable in held_variables(part)}
            for each in own if own & last else ():
                self._told(each)


def asks_for_no_variable(after: dis.Instruction | None) -> bool:
    """True where what follows a subscript asks for what all variables of a layer have alone."""
    return after is not None and after.opname == "LOAD_ATTR" and after.argval in _OF_EACH


def steps_of(code: Any) -> list[dis.Instruction]:
    """The instructions of code that do something."""
    return [step for step in dis.get_instructions(code) if step.opname not in IDLE]


def _running(frame: Any) -> tuple[dis.Instruction | None, dis.Instruction | None]:
    """The instruction that a frame is at, and the next one; `None` where there is none."""
    steps = steps_of(frame.f_code)
    at = next((n for n, step in enumerate(steps) if step.offset == frame.f_lasti), None)
    if at is None:
        return None, None
    return steps[at], steps[at + 1] if at + 1 < len(steps) else None


@contextlib.contextmanager
def places_told(told: Callable[[int], None]) -> Iterator[None]:
    """Within it, lists of the variables of layers, and of their values, tell who goes by places.

    Args:
        told: Is given the id of each variable but for which another one would be there.
    """
    known = {name: vars(keras.Layer)[name] for name in (*LISTS, "get_weights")}

    def listing(get: Callable[[Any], list[Any]]) -> Any:
        @functools.wraps(get)
        def variables(layer: Any) -> Any:
            found = get(layer)
            return Places(found, found, layer, told)

        return property(variables)

    @functools.wraps(known["get_weights"])
    def get_weights(layer: Any) -> Any:
        return Places(known["get_weights"](layer), layer.weights, layer, told)

    with _ONE_AT_A_TIME:
        try:
            for name in LISTS:
                setattr(keras.Layer, name, listing(known[name].fget))
            keras.Layer.get_weights = get_weights
            yield
        finally:
            for name, original in known.items():
                setattr(keras.Layer, name, original)
