"""Name the metrics that training logs."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.utils.naming import get_object_name

from reducible_train._keras.functions import has_own_step
from reducible_train._keras.metric_names import compiled_names, own_names


def logged_metrics(model: Any) -> dict[str, str | None]:
    """The metrics that a compiled model puts into the logs of training.

    Returns:
        By name: `"up"`, `"down"` or `None` where nobody knows; nothing at all for a model
        whose own `train_step` may log what it likes, or whose outputs nobody knows before a step.
    """
    if not _trains_as_keras(model):
        return {}
    told = compiled_names(model)
    if told is None:
        return {}
    return {"loss": "down"} | told | _beside_compiled(model) | {"loss": "down"}


def metrics_to_watch(model: Any, monitor: str, mode: str) -> dict[str, str | None]:
    """The same, for what goes by one of them.

    Where only a step will tell the outputs, those that the model holds, and the one that is asked
    for if it may be one of theirs. Where nobody can name them all, the one that is asked for, if
    Keras knows whether it should be large or small: it is held by the model, or called as a metric
    of Keras's.

    Args:
        model: The model, compiled or not.
        monitor: The name in the logs.
        mode: `"auto"` where its direction is asked for.
    """
    known, name = logged_metrics(model), monitor.removeprefix("val_")
    if known or mode != "auto":
        return known
    held = _held_metrics(model) if getattr(model, "compiled", False) else {}
    if _trains_as_keras(model):
        return held | _of_an_output(name, held)
    found = held.get(name) or metric_of_name(name).get(name)
    return {} if found is None else {name: found}


def is_judged_by_keras(model: Any, monitor: str) -> bool:
    """False if it is sure that no callback of Keras's knows whether a metric should be large.

    They go by the names that metrics of `compile` have themselves, which of several outputs, and
    of their losses, are others than those of the logs.

    Args:
        model: A compiled model.
        monitor: The name in the logs.
    """
    name = monitor.removeprefix("val_")
    if name == "loss" or not _trains_as_keras(model):
        return True
    told = own_names(model)
    return told is None or told.get(name) is not None


def _held_metrics(model: Any) -> dict[str, str | None]:
    """The metrics of a compiled model, by names of their own and those that Keras gives them."""
    compiled = model._compile_metrics
    own = [] if compiled is None else [compiled._user_metrics, compiled._user_weighted_metrics]
    metrics = [m for m in keras.tree.flatten(own) if m is not None]
    told = compiled_names(model) or {}
    named = dict(map(_name_and_direction, metrics))
    return {"loss": "down"} | named | told | _beside_compiled(model) | {"loss": "down"}


def _of_an_output(name: str, held: dict[str, str | None]) -> dict[str, str | None]:
    """A name of logs, if it may be that of a held metric of one of several outputs.

    Keras writes the output's name before it, or a number behind it where another is called so.

    >>> _of_an_output("u_mae_1", {"loss": "down", "mae": "down"}), _of_an_output("of", {"f": None})
    ({'u_mae_1': 'down'}, {})
    """
    names = (name, re.sub(r"[_]\d+$", "", name))
    ends = [each for each in held if any(f"_{own}".endswith(f"_{each}") for own in names)]
    return {name: held[max(ends, key=len)]} if ends else {}


def _trains_as_keras(model: Any) -> bool:
    """True for a compiled model without a `train_step` of its own."""
    return not has_own_step(model) and model.compiled


def _beside_compiled(model: Any) -> dict[str, str | None]:
    """The metrics of a model that `compile` was not given, nor made of its losses."""
    known = {id(each) for each in getattr(model._compile_loss, "metrics", ())}
    others = [m for m in model.metrics if m is not model._compile_metrics and id(m) not in known]
    return {each.name: getattr(each, "_direction", None) for each in others}


def several_numbers(model: Any) -> dict[str, int]:
    """The compiled metrics that are more than one number, with how many they are.

    Nothing where that is not known yet: on TensorFlow, before a first step.
    """
    compiled = getattr(model, "_compile_metrics", None)
    if compiled is None or not compiled.built:
        return {}
    try:
        told = compiled.result()
    except Exception:  # whatever a metric does before it has seen anything
        return {}
    return {name: count for name, value in told.items() if (count := numbers_in(value)) > 1}


def numbers_in(value: Any) -> int:
    """How many numbers a metric is; 0 for what is no array and no number."""
    shape = getattr(value, "shape", None)
    return int(isinstance(value, int | float)) if shape is None else math.prod(shape)


def metric_of_name(name: str) -> dict[str, str | None]:
    """The metric of Keras that has a name, with its direction; nothing where there is none."""
    try:
        return dict([_name_and_direction(name)])
    except (TypeError, ValueError):
        return {}


def metric_names(model: Any) -> list[str]:
    """The names of metrics that are surely in the logs of training.

    Those that it holds, where only a step will tell the outputs; without those of `compile` where
    the model's own `train_step` may log what it likes.
    """
    if _trains_as_keras(model):
        return list(logged_metrics(model) or _held_metrics(model))
    compiled = getattr(model, "_compile_metrics", None)
    return [each.name for each in getattr(model, "metrics", ()) if each is not compiled]


@contextlib.contextmanager
def metrics_begun(model: Any) -> Iterator[None]:
    """Metrics begin anew, and count on from batch to batch: `test_on_batch` resets them each time.

    Args:
        model: A compiled model.
    """
    model.reset_metrics()
    vars(model)["reset_metrics"] = lambda: None  # where Keras looks first
    try:
        yield
    finally:
        del vars(model)["reset_metrics"]


def answers_once(model: Any) -> bool:
    """True for a model that is known to give one row of numbers for a sample, and no more."""
    outputs = getattr(model, "outputs", None)
    return outputs is not None and len(outputs) == 1 and len(outputs[0].shape) == 2


def _name_and_direction(metric: Any) -> tuple[str, str | None]:
    if metric in ("accuracy", "acc"):
        return metric, "up"
    if metric in ("crossentropy", "ce"):
        return metric, "down"
    found = keras.metrics.get(metric)
    name = metric if isinstance(metric, str) else get_object_name(found)
    return name, getattr(found, "_direction", None)
