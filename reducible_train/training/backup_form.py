"""What the state of a backup must be, seen before a model is touched."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from reducible_train.compressor.history import History
from reducible_train.selection.costs.tables import cost_model_kind
from reducible_train.training.comparisons import Way

_ABSENT = object()


def form_fault(backup: Any) -> str | None:
    """What of a backup is not as it must be, in words; `None` if all is.

    Args:
        backup: What was read from JSON.
    """
    for path, (form, must_be) in _FORMS.items():
        value = _at(backup, path)
        try:
            fits = form(value)
        except Exception:  # generators and records fail in any way
            fits = False
        if not fits:
            came = "nothing" if value is _ABSENT else f"{type(value).__name__} {value!r:.60}"
            return f"`{path}` must be {must_be}. Received: {came}"
    return None


def python_numbers(kept: Any) -> tuple[Any, ...]:
    """The state of Python's random numbers, as `random.setstate` takes it."""
    version, numbers, following = kept
    return version, tuple(numbers), following


def numpy_numbers(kept: Any) -> tuple[Any, ...]:
    """The state of numpy's random numbers, as `np.random.set_state` takes it."""
    name, keys, *rest = kept
    return (name, np.asarray(keys, np.uint32), *rest)


def _at(backup: Any, path: str) -> Any:
    value = backup
    for name in path.split("."):
        value = value.get(name, _ABSENT) if isinstance(value, Mapping) else _ABSENT
    return value


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_count_if_any(value: Any) -> bool:
    """True also for nothing, as in older backups."""
    return value is _ABSENT or _is_count(value)


def _is_number_if_any(value: Any) -> bool:
    return value is _ABSENT or value is None or isinstance(value, int | float)


def _is_mark(value: Any) -> bool:
    if isinstance(value, Mapping):
        return _is_count(value.get("arrays"))
    return value is None or isinstance(value, int | float)


def _is_memory(value: Any) -> bool:
    """True for a callback and its marks; older backups have no more."""
    lasting, way = value.get("lasting", {}), value.get("way")
    kept = all(each is None or isinstance(each, str | int) for each in lasting.values())
    marks = all(map(_is_mark, value["marks"].values()))
    return isinstance(value["of"], str) and marks and kept and (way is None or _is_way(way))


def _is_way(value: Any) -> bool:
    kinds = {name: type(each) for name, each in asdict(Way(**value)).items()}
    kinds["mode"] = str if value["mode"] is None else kinds["mode"]
    return kinds == {"monitor": str, "mode": str, "restores": bool, "measured": str}


def _is_shape(value: Any) -> bool:
    """True for a shape and who told it; older backups have none."""
    if value is _ABSENT or value is None:
        return True
    shape, source = value
    return isinstance(shape, list | dict) and isinstance(source, str)


def _is_compression(value: Any) -> bool:
    """True for what a history, its notes and the tables of its costs can be made of."""
    remarks = History.from_state(value).remarks.values()
    for name, plain in value.get("cost_models", {}).items():
        kind = cost_model_kind(name)
        if kind is not None:
            kind.from_plain(plain)
    notes, taken_in = value["notes"], value.get("taken_in")
    texts = isinstance(notes, list) and all(isinstance(each, str) for each in [*notes, *remarks])
    return texts and (taken_in is None or isinstance(taken_in, Mapping))


def _is_optimizer(value: Any) -> bool:
    """True for what one of torch's optimizers knew."""
    groups, known, arrays = value["groups"], value["known"], value["arrays"]
    settings = isinstance(groups, list) and all(isinstance(each, Mapping) for each in groups)
    packed = all(key.isdigit() and is_packed(each, arrays) for key, each in known.items())
    return isinstance(value["of"], str) and settings and _is_count(arrays) and packed


def is_packed(value: Any, arrays: int) -> bool:
    """True for what `torch_state` makes of numbers, texts and tensors.

    Args:
        value: What it gave, or a part of it.
        arrays: How many arrays go with it.
    """
    if isinstance(value, list):
        return all(is_packed(each, arrays) for each in value)
    if not isinstance(value, Mapping):
        return value is None or type(value) in (bool, int, float, str)
    if "array" in value:
        return _is_count(value["array"]) and value["array"] < arrays and len(value) == 3
    if "tuple" in value:
        return isinstance(value["tuple"], list) and is_packed(value["tuple"], arrays)
    entries = value["entries"].items()
    return all(isinstance(key, str) and is_packed(each, arrays) for key, each in entries)


def _sets_python(value: Any) -> bool:
    random.Random().setstate(python_numbers(value))
    return True


def _sets_numpy(value: Any) -> bool:
    np.random.RandomState().set_state(numpy_numbers(value))
    return True


def _list_of(form: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(form, value))


# Path in a backup -> what it must pass, and what that is called.
_FORMS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "epochs": (_is_count, "a whole number from 0"),
    "has_stopped": (lambda v: v is _ABSENT or isinstance(v, bool), "true or false"),
    "averages": (_list_of(lambda each: isinstance(each, bool)), "a list of true and false"),
    "scheduler.step": (_is_count, "a whole number from 0"),
    "scheduler.epoch": (_is_count_if_any, "a whole number from 0"),
    "scheduler.trained": (_is_count_if_any, "a whole number from 0"),
    "scheduler.looked": (_is_number_if_any, "null or a number"),
    "scheduler.loss": (_is_number_if_any, "null or a number"),
    "scheduler.last_turn": (lambda v: v is None or _is_count(v), "null or a whole number from 0"),
    "scheduler.input_shape": (_is_shape, "null, or a shape and where it is from"),
    "scheduler.compression": (_is_compression, "cuts, what they kept, and notes"),
    "state.callbacks": (_list_of(_is_memory), "a list of callbacks and what they remember"),
    "state.torch": (
        lambda v: v is _ABSENT or _list_of(_is_optimizer)(v),
        "a list of optimizers of torch and what they knew",
    ),
    "state.python": (_sets_python, "a state of Python's random numbers"),
    "state.numpy": (_sets_numpy, "a state of numpy's random numbers"),
}
