"""Read, without running it, what code takes out of lists of a layer's weights by place.

Steps and losses may keep what they compute, and count how often they are called. Of their code,
chains that begin at what is known are followed: at the object that it belongs to, at variables
around it and of its module, through attributes and constant places. What comes of arguments, or is
computed, is not known.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, MethodType
from typing import Any

import keras

from reducible_train._keras.functions import own_losses
from reducible_train._keras.registry import is_of_keras
from reducible_train._keras.taking import (
    Places,
    asks_for_no_variable,
    places_told,
    steps_of,
)

_STEPS = ("compute_loss", "test_step", "train_step")
_COMPREHENSIONS = ("<dictcomp>", "<genexpr>", "<listcomp>", "<setcomp>")
_Found = tuple[Any, ...]  # what something may be; nothing where that is not known


def read_places(model: Any, told: Callable[[int], None]) -> None:
    """Know which variables the steps and the losses of a model take by their places.

    Args:
        model: The model.
        told: What it is for `places_told`.
    """
    reader = _Reader()
    with places_told(told):
        for name in _STEPS:
            reader.method(model, name)
        for loss in own_losses(model):
            reader.called(loss)


class _Reader:
    """Reads functions, each once for what it belongs to."""

    def __init__(self) -> None:
        self._read: dict[tuple[int, ...], _Found] = {}

    def called(self, thing: Any) -> None:
        """Read what runs where a loss is called."""
        thing = getattr(thing, "fn", thing)
        while isinstance(thing, functools.partial):
            thing = thing.func
        if isinstance(thing, MethodType):
            self.method(thing.__self__, thing.__name__)
        elif isinstance(thing, FunctionType):
            self.function(thing)
        else:
            for name in ("__call__", "call"):
                self.method(thing, name)

    def method(self, thing: Any, name: str) -> None:
        """Read a method, and those that it goes on to with `super`, up to Keras's own."""
        for cls in type(thing).__mro__:
            if name not in vars(cls):
                continue
            function = inspect.unwrap(vars(cls)[name])
            self.function(function, thing)
            if "super" not in getattr(getattr(function, "__code__", None), "co_names", ()):
                return

    def function(self, function: Any, *given: Any) -> _Found:
        """Read a function, and know what it gives back.

        Args:
            function: The function.
            given: What its first arguments are.
        """
        function = inspect.unwrap(function)
        if not isinstance(function, FunctionType) or is_of_keras(function):
            return ()
        code = function.__code__
        read = tuple(map(id, (function, *given)))
        if read not in self._read:
            self._read[read] = ()  # while it is read
            names = {name: (each,) for name, each in _held(function)}
            names.update(
                (name, (each,)) for name, each in zip(code.co_varnames, given, strict=False)
            )
            self._read[read] = _Code(self, function, names).read(code)
        return self._read[read]


def _held(function: Any) -> Iterator[tuple[str, Any]]:
    """The names in a function that stand for something without a call, and what that is."""
    code, defaults = function.__code__, function.__defaults__ or ()
    positional = code.co_varnames[: code.co_argcount]
    yield from zip(positional[len(positional) - len(defaults) :], defaults, strict=True)
    yield from (function.__kwdefaults__ or {}).items()
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # nothing is in it yet
            yield name, cell.cell_contents


class _Code:
    """Goes through code from its beginning to its end, as if nothing jumped.

    Args:
        reader: Reads the functions that it comes upon.
        function: Whose code it is, or is within.
        names: What names stand for.
        iterated: What a loop goes over.
    """

    def __init__(
        self,
        reader: _Reader,
        function: Any,
        names: Mapping[str, _Found],
        iterated: _Found = (),
    ):
        self._reader, self._function = reader, function
        self._names, self._iterated = dict(names), iterated
        self._value: _Found = ()  # what a chain has come to
        self._constants: list[Any] = []  # that came after it
        self._later: list[CodeType] = []  # comprehensions whose first list comes next
        self._returned: _Found = ()

    def read(self, code: CodeType) -> _Found:
        """Read the code, and know what it gives back."""
        steps = steps_of(code)
        for step, after in zip(steps, [*steps[1:], None], strict=True):
            constants = self._constants
            if step.opname == "LOAD_CONST" and not isinstance(step.argval, CodeType):
                constants.append(step.argval)
            elif step.opname == "BUILD_SLICE" and len(constants) == step.arg:
                self._constants = [slice(*constants)]
            else:
                self._value, self._constants = self._after(step, after), []
        return self._returned

    def _after(self, step: dis.Instruction, after: dis.Instruction | None) -> _Found:
        """What the chain comes to with a step."""
        kind, value = step.opname, self._value
        if kind == "STORE_FAST_LOAD_FAST":
            stored, loaded = step.argval
            self._names[stored] = value
            return self._known(self._names.get(loaded, ()))
        if kind in ("STORE_DEREF", "STORE_FAST", "STORE_FAST_STORE_FAST"):
            self._store(step.argval, value)
        elif kind == "LOAD_CONST":
            self._within(step.argval)
        elif kind in ("LOAD_ATTR", "LOAD_METHOD"):
            return self._of_each(lambda each: self._attribute(each, step.argval))
        elif kind.startswith(("LOAD_FAST", "LOAD_DEREF")):
            name = step.argval[-1] if isinstance(step.argval, tuple) else step.argval  # two at once
            return self._known(self._names.get(name, ()))
        elif kind == "LOAD_GLOBAL":
            around = self._function.__globals__
            return self._known((around[step.argval],) if step.argval in around else ())
        elif kind in ("BINARY_SUBSCR", "BINARY_SLICE"):
            return self._subscript(kind, asks_for_no_variable(after))
        elif kind == "CALL":
            return self._called(step.arg)
        elif kind == "GET_ITER":
            self._iterate(after)
        elif kind == "FOR_ITER":
            return self._iterated
        elif kind.startswith("UNPACK") or kind == "CALL_FUNCTION_EX":
            for each in value:
                if isinstance(each, Places):
                    each.tell_handed_out(step)
        elif kind == "RETURN_VALUE":
            self._returned += value
        return ()

    def _store(self, name: Any, value: _Found) -> None:
        if isinstance(name, tuple):  # two at once are parts of something, and so not known
            self._names.update(dict.fromkeys(name, ()))
        else:
            self._names[name] = value

    def _known(self, found: _Found) -> _Found:
        """What a name stands for; functions beside this one are read, for it may call them."""
        for each in found:
            if isinstance(each, FunctionType) and _package(each) == _package(self._function):
                self._reader.function(each)
        return found

    def _within(self, code: CodeType) -> None:
        """Read the code of a function that is made, of a comprehension once its list is known."""
        if code.co_name in _COMPREHENSIONS:
            self._later.append(code)
        else:
            self._inner(code, ())

    def _inner(self, code: CodeType, iterated: _Found) -> None:
        arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        names = {**self._names, **dict.fromkeys(arguments, ())}
        _Code(self._reader, self._function, names, iterated).read(code)

    def _iterate(self, after: dis.Instruction | None) -> None:
        lists = [each for each in self._value if isinstance(each, (list, tuple))]
        found = tuple(item for each in lists for item in each)
        if after is not None and after.opname == "CALL" and self._later:
            self._inner(self._later.pop(), found)
        else:
            self._iterated = found

    def _subscript(self, kind: str, is_idle: bool) -> _Found:
        constants = self._constants
        if len(constants) != (2 if kind == "BINARY_SLICE" else 1):
            return ()
        place = slice(*constants) if kind == "BINARY_SLICE" else constants[0]

        def take(each: Any) -> _Found:
            if isinstance(each, Places):
                if not is_idle:
                    each.tell(place)
                return (list.__getitem__(each, place),)
            return (each[place],) if isinstance(each, (dict, list, tuple)) else ()

        return self._of_each(take)

    def _called(self, count: int | None) -> _Found:
        """What a method that may be called gives for constants."""
        given = tuple(self._constants)
        if len(given) != count:
            return ()
        return self._of_each(lambda each: (each(*given),) if isinstance(each, _Asked) else ())

    def _of_each(self, take: Callable[[Any], _Found]) -> _Found:
        found: _Found = ()
        for each in self._value:
            with contextlib.suppress(Exception):  # what is not there
                found += take(each)
        return found

    def _attribute(self, thing: Any, name: str) -> _Found:
        """An attribute, where nobody's own code makes it; what is read to give it back, else."""
        if isinstance(thing, Places):
            return (_Asked(thing.pop),) if name == "pop" else ()
        found = inspect.getattr_static(thing, name, None)
        if isinstance(found, property) and not is_of_keras(found.fget):
            return self._reader.function(found.fget, thing)
        if isinstance(thing, keras.Layer) and name == "get_weights":
            return (_Asked(lambda: thing.weights),)
        if isinstance(thing, keras.Model) and name == "get_layer":
            return (_Asked(thing.get_layer),)
        if isinstance(found, FunctionType) and not inspect.ismodule(thing):
            self._reader.method(thing, name)
            return ()
        is_plain = found is not None and not hasattr(type(found), "__get__")
        is_kept = is_plain or isinstance(found, property)
        # torch keeps layers where only its own look-up finds them
        is_kept = is_kept or (found is None and isinstance(thing, keras.Layer))
        return (getattr(thing, name),) if is_kept else ()


class _Asked:
    """A method that may be called, since it gives what a layer has."""

    def __init__(self, ask: Callable[..., Any]):
        self._ask = ask

    def __call__(self, *given: Any) -> Any:
        return self._ask(*given)


def _package(function: Any) -> str:
    return str(function.__module__).partition(".")[0]
