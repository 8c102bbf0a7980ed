"""Call a model, and leave it as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.backend.common import global_state

from reducible_train._keras.functions import is_distributed, no_inference_mode
from reducible_train._keras.layer_tree import has_weights, seen_as_built, walk
from reducible_train._keras.random_numbers import random_numbers_kept
from reducible_train._keras.states import global_seed
from reducible_train._keras.values import values_kept

_SCOPES = ("name_scope_stack", "current_call_ctx")  # what Keras is in the middle of, a list or one


@contextlib.contextmanager
def scopes_kept() -> Iterator[None]:
    """Within it, calls may fail; no scope that Keras has opened for one of them outlives it.

    It leaves the scope of a layer open whose name TensorFlow refuses, as it does in graphs alone,
    and every later model of the process would be taken for a part of that layer.
    """
    found = [(name, global_state.get_global_attribute(name)) for name in _SCOPES]
    kept = [(name, list(value) if isinstance(value, list) else value) for name, value in found]
    try:
        yield
    finally:
        for name, value in kept:
            global_state.set_global_attribute(name, value)


@contextlib.contextmanager
def as_it_was(model: Any) -> Iterator[None]:
    """Within it a model may be called; whatever that changes is put back in the end.

    Statistics, states of recurrent layers, seeds and random numbers, metrics (those that it
    builds begin anew), counters (variables or plain numbers) and the losses that layers have
    added. Weights too where code that is not Keras's runs, for it may give them values; Keras's
    own layers do not outside of training.

    Args:
        model: The model that is called; of a `Distiller`, teacher and student.
    """
    layers = [model, *(layer for _, layer in walk(model))]
    foreign = [layer for layer in layers if not _is_keras(layer)]
    variables = [v for layer in layers for v in _state(layer, weights=bool(foreign))]
    if not is_distributed(model):  # there each replica has a part of a metric's value
        variables += [v for metric in _held_metrics(model) for v in metric.variables]
    if global_seed() is not None:  # for layers that draw without one of their own
        variables.append(global_seed())
    kept = list({id(each): each for each in variables}.values())
    with no_inference_mode(model), values_kept(kept), _new_metrics_reset(model), notes_kept(model):
        yield


@contextlib.contextmanager
def _new_metrics_reset(model: Any) -> Iterator[None]:
    """Metrics that get their variables within it, as those of `compile` do, begin anew after it."""
    known = {id(v): v for metric in _held_metrics(model) for v in metric.variables}
    try:
        yield
    finally:
        for metric in _held_metrics(model):
            if any(id(v) not in known for v in metric.variables):
                metric.reset_state()


@contextlib.contextmanager
def notes_kept(model: Any) -> Iterator[None]:
    """Within it, layers may note down what a call, or its tracing, has them note.

    The losses that they have added, and numbers that code which is not Keras's counts in, or
    draws. A model whose parts alone have weights is not built by it.
    """
    layers = [model, *(layer for _, layer in walk(model))]
    losses = [(each, list(each._losses), set(each._loss_ids)) for each in layers]
    known = [(vars(layer), _numbers(layer)) for layer in layers if not _is_keras(layer)]
    try:
        built = seen_as_built(model) if has_weights(model) else contextlib.nullcontext()
        with scopes_kept(), random_numbers_kept(), built:
            yield
    finally:
        for layer, added, ids in losses:
            layer._losses[:], layer._loss_ids = added, ids
        for attributes, numbers in known:
            attributes.update(numbers)


def _held_metrics(model: Any) -> list[Any]:
    """All metrics that a model or a part of it holds, each once.

    Also those that `metrics` leaves out: of models within it, and of `compile` where a model tells
    others.
    """
    found = list(getattr(model, "metrics", ()))
    for layer in (model, *(layer for _, layer in walk(model))):
        names = ("_loss_tracker", "_compile_metrics")
        found += [*layer._metrics, *(getattr(layer, name, None) for name in names)]
        found += getattr(getattr(layer, "_compile_loss", None), "metrics", ())
    return list({id(each): each for each in found if each is not None}.values())


def _is_keras(layer: Any) -> bool:
    return type(layer).__module__.partition(".")[0] in ("keras", "reducible_train")


def _state(layer: Any, *, weights: bool) -> list[Any]:
    """The variables of a layer that a call may change, its sublayers' left out."""
    found = list(layer._non_trainable_variables)
    if weights:
        found += layer._trainable_variables
    found += [seed.state for seed in getattr(layer, "_seed_generators", ())]
    if isinstance(layer, keras.layers.RNN):
        found += keras.tree.flatten(layer.states or [])
    return found + [each for each in vars(layer).values() if _is_plain_variable(each)]


def _is_plain_variable(value: Any) -> bool:
    """True for a variable of TensorFlow's own, which Keras does not know of."""
    return type(value).__module__.startswith("tensorflow") and hasattr(value, "assign")


def _numbers(layer: Any) -> dict[str, Any]:
    """Plain numbers that a layer holds, as counters are; flags such as `built` are left alone."""
    return {
        name: value
        for name, value in vars(layer).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
