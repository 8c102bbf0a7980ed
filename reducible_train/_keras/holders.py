"""Find what holds variables, or functions compiled over them, wherever it is kept.

A model does not know who else works on its layers: an optimizer in an attribute or a closure,
a parent, a second Functional model, a `tf.function` of somebody's own. Python's garbage
collector knows all of them, so they are looked for there; a kind of holder is a row of `_KINDS`.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, compress
from operator import call
from typing import Any

import keras

from reducible_train._keras import traces
from reducible_train._keras.optimizers import inner_optimizers, trained_by
from reducible_train._keras.torch_optimizers import steps, torch_optimizer_class
from reducible_train._keras.trainability import held_optimizers


@dataclass(frozen=True, eq=False)
class Sought:
    """Variables, the layers that hold them, and what TensorFlow's graphs know the variables by."""

    variables: Sequence[Any]
    layers: Sequence[Any]
    ids: frozenset[int] = field(init=False)
    handles: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        ids = frozenset(id(each) for each in (*self.variables, *self.layers))
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "handles", traces.handles_of(self.variables))


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of holder.

    Args:
        root: Gives the class that all of its objects have; `None` where there are none.
        holds: Whether such an object holds what is sought.
    """

    root: Callable[[], type | None]
    holds: Callable[[Any, Sought], bool]


@dataclass(frozen=True, eq=False)
class Holders:
    """What holds the variables of some layers.

    Args:
        optimizers: Those that train one of the variables or, not built yet, may do so. None
            that another one of them drives.
        models: Every model that one of the layers is in.
        functions: TensorFlow's functions that were traced with one of the variables.
        graphs: Single traces, as `get_concrete_function` gives them.
        torch_optimizers: Those of torch's own optimizers that step one of the variables.
    """

    optimizers: Sequence[Any] = ()
    models: Sequence[Any] = ()
    functions: Sequence[Any] = ()
    graphs: Sequence[Any] = ()
    torch_optimizers: Sequence[Any] = ()


def find_holders(layers: Sequence[Any], variables: Sequence[Any]) -> Holders:
    """Everything alive that holds variables of some layers.

    Args:
        layers: The layers.
        variables: Those of their variables that matter.
    """
    sought = Sought(variables, layers)
    found: dict[str, list[Any]] = {name: [] for name in _KINDS}
    for name, each in _alive():
        if _KINDS[name].holds(each, sought):
            found[name].append(each)
    waiting = [o for model in found["models"] for o in held_optimizers(model) if not o.built]
    unique = {id(each): each for each in (*found["optimizers"], *waiting)}
    driven = {id(inner) for each in unique.values() for inner in inner_optimizers(each)}
    found["optimizers"] = [each for key, each in unique.items() if key not in driven]
    return Holders(**found)


def torch_optimizers_of(model: Any) -> list[Any]:
    """Torch's own optimizers that step a model, in an order that another process finds, too.

    Those in its attributes come first, then others by the first variable that they step.
    """
    kind = torch_optimizer_class()
    if kind is None:
        return []
    gc.collect()  # one that is in a cycle, as with a schedule, outlives those who held it
    held = held_optimizers(model, kind)
    found = find_holders([], model.weights).torch_optimizers
    place = {id(each): number for number, each in enumerate(held)}
    number = {id(each._value): len(held) + i for i, each in enumerate(model.weights)}

    def order(optimizer: Any) -> int:
        stepped = (id(p) for group in optimizer.param_groups for p in group["params"])
        return place.get(id(optimizer), min(number[p] for p in stepped if p in number))

    return sorted(found, key=order)


def _alive() -> Iterator[tuple[str, Any]]:
    """Every live object of a kind of holder, with the name of the kind."""
    roots = {name: root for name, kind in _KINDS.items() if (root := kind.root()) is not None}
    names = {id(each): name for name, root in roots.items() for each in _with_subclasses(root)}
    for found in _objects_of(names):
        yield names[id(type(found))], found


def _objects_of(types: Container[int]) -> list[Any]:
    """Every live object of some types, given by their ids.

    Of half a million objects all are looked at within the interpreter, which lets no other thread
    run before those that are not wanted are let go: a tuple that one is still building must not be
    held by anybody, or it fails there.
    """
    every: list[list[Any]] = []
    found: list[Any] = []
    objects, same = (chain.from_iterable(every) for _ in range(2))
    wanted = map(types.__contains__, map(id, map(type, same)))
    steps: tuple[Callable[[], Any], ...] = (
        partial(every.extend, map(gc.get_objects, [None])),
        partial(found.extend, compress(objects, wanted)),
        every.clear,
        partial(list, wanted),  # at its end by now, which lets go of them, too
    )
    deque(map(call, steps), maxlen=0)
    return found


def _with_subclasses(kind: type) -> Iterator[type]:
    yield kind
    made: list[type] = type.__subclasses__(kind)
    for each in made:
        yield from _with_subclasses(each)


def _has_layer(model: Any, sought: Sought) -> bool:
    made = "_layers" in vars(model)  # a model whose `__init__` failed may still be alive
    return made and any(id(layer) in sought.ids for layer in model._flatten_layers())


_KINDS = {
    "optimizers": Kind(
        lambda: keras.optimizers.Optimizer,
        lambda each, sought: trained_by(each, sought.variables),
    ),
    "models": Kind(lambda: keras.Model, _has_layer),
    "functions": Kind(
        traces.function_class, lambda each, sought: traces.was_traced_with(each, sought.handles)
    ),
    "graphs": Kind(traces.graph_class, lambda each, sought: traces.captures(each, sought.handles)),
    "torch_optimizers": Kind(
        torch_optimizer_class, lambda each, sought: steps(each, sought.variables)
    ),
}
