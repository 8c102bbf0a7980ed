"""Change which variables a live layer holds."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras.src import backend as _backend
from keras.src.utils.tracking import DotNotTrackScope

_STORES = {  # name for the tracker -> attribute of the layer
    "trainable_variables": "_trainable_variables",
    "non_trainable_variables": "_non_trainable_variables",
}


def snapshot(obj: Any) -> Callable[[], None]:
    """Remember a layer's or an optimizer's bookkeeping; the answer puts it back.

    Surgery is all or nothing; Keras has no way to undo tracking.
    """
    kind, tracker = type(obj), obj._tracker
    state = {  # TensorFlow's own lists of dependencies, and torch's modules, change in place
        name: copy.copy(value) if name.startswith("_self_") or name == "_modules" else value
        for name, value in vars(obj).items()
    }
    config, stored = dict(tracker.config), {k: set(v) for k, v in tracker.stored_ids.items()}
    contents = {k: list(v[1]) for k, v in config.items()}
    locked = tracker.locked

    def restore() -> None:
        object.__setattr__(obj, "__class__", kind)
        obj.__dict__.clear()
        obj.__dict__.update(state)
        tracker.config, tracker.stored_ids, tracker.locked = config, stored, locked
        for name, (_, store) in config.items():
            if list(store) != contents[name]:
                store[:] = contents[name]

    return restore


def own_variables(layer: Any) -> list[Any]:
    """The variables a layer holds itself, without its sublayers' (public: only all)."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def held_variables(layer: Any) -> list[Any]:
    """The variables a layer holds itself, and those in its attributes that it does not track.

    Keras tracks a variable that is set as an attribute of an unlocked layer; what is put
    elsewhere, as in a list within a list, is not.
    """

    def within(value: Any, depth: int) -> Iterator[Any]:
        if isinstance(value, keras.Variable):
            yield value
        elif isinstance(value, (list, tuple, dict)) and depth < 3:
            for item in value.values() if isinstance(value, dict) else value:
                yield from within(item, depth + 1)

    return [*own_variables(layer), *within(dict(vars(layer)), 0)]


@contextlib.contextmanager
def variable_scope(layer: Any) -> Iterator[None]:
    """The name scope a layer was built in, opened part by part, so that paths stay.

    `add_weight` called after `build` would drop the parents' names.
    """
    path = getattr(layer, "_path", None) or layer.name
    with contextlib.ExitStack() as stack:
        for part in path.split("/")[:-1]:
            stack.enter_context(_backend.name_scope(part))
        yield


def replace_variables(layer: Any, old: Sequence[Any], make: Callable[[], list[Any]]) -> list[Any]:
    """Untrack `old` and create new variables by `make`, in the scope of the layer.

    The stores are NEW lists: TensorFlow refuses to export an object whose tracked list
    was mutated other than by appending, which is what the public `del layer.attribute`
    does.
    """
    tracker = layer._tracker
    gone = {id(variable) for variable in old}
    for store in _STORES:
        kept = [v for v in tracker.config[store][1] if id(v) not in gone]
        _new_store(layer, store, kept)
    locked, tracker.locked = tracker.locked, False
    try:
        with variable_scope(layer):
            return make()
    finally:
        tracker.locked = locked


def _new_store(layer: Any, store: str, variables: list[Any]) -> None:
    """Put a new list in the place of a tracked one, so that all who look at it see the same.

    Keras's tracker and TensorFlow's both wrap what is assigned to a layer. Theirs are switched off
    while the attribute is set, or the variables would be tracked twice; then the tracker is told
    of the list as it stands now, since it keeps the object and the ids of what is in it.
    """
    tracker = layer._tracker
    test, _ = tracker.config[store]
    tracking = getattr(layer, "_self_setattr_tracking", True)
    layer._self_setattr_tracking = False
    try:
        with DotNotTrackScope():
            setattr(layer, _STORES[store], variables)
    finally:
        layer._self_setattr_tracking = tracking
    tracker.config[store] = (test, getattr(layer, _STORES[store]))
    tracker.stored_ids[store] = {id(v) for v in variables}


def drop_attribute(layer: Any, name: str) -> None:
    """Set an attribute that held a variable to `None`, for TensorFlow's tracking too.

    `del` would mutate the tracked lists, see `replace_variables`; plain assignment keeps
    the dead variable as a dependency of checkpoints and exports.
    """
    layer.__dict__[name] = None
    forget = getattr(layer, "_delete_tracking", None)
    if forget is not None:
        forget(name)


def set_unlocked(layer: Any, name: str, value: Any) -> None:
    """Set an attribute of a built layer, whose state Keras has locked."""
    locked, layer._tracker.locked = layer._tracker.locked, False
    try:
        setattr(layer, name, value)
    finally:
        layer._tracker.locked = locked


def order_variables(layer: Any, *, first: Sequence[Any] = (), last: Sequence[Any] = ()) -> None:
    """Move variables of a layer to the front or the end of its order.

    Saved files and fresh layers must agree on the order of the variables, whatever the
    order of the cuts was. Entries that are `None` are left out.
    """
    ends = [[v for v in end if v is not None] for end in (first, last)]
    moved = {id(v) for end in ends for v in end}
    for store in _STORES:
        present = layer._tracker.config[store][1]
        here = {id(v) for v in present}
        front, back = ([v for v in end if id(v) in here] for end in ends)
        if front or back:
            middle = [v for v in present if id(v) not in moved]
            _new_store(layer, store, [*front, *middle, *back])
