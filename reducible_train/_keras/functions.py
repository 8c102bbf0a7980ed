"""Renew the compiled functions of a live model."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import keras

from reducible_train._keras.layer_tree import models_in, walk
from reducible_train._keras.registry import is_of_keras
from reducible_train._keras.trainability import go_on_training, trains_what_it_did


@contextlib.contextmanager
def strategy_scope(model: Any) -> Iterator[None]:
    """Within it, variables are made that can stand beside those of a model.

    That is in the distribution scope that these live in, if any, and outside of torch's inference
    mode.
    """
    strategy = getattr(model, "_distribute_strategy", None)
    scope = strategy.scope() if strategy is not None else contextlib.nullcontext()
    with scope, no_inference_mode(model):
        yield


@contextlib.contextmanager
def no_inference_mode(model: Any) -> Iterator[None]:
    """Within it, torch is not in the inference mode that its caller is in (nothing elsewhere).

    What is made in that mode can never be trained, and nothing has gradients there. A model that
    was made so itself is left in it, for its variables can be assigned to nowhere else.
    """
    if keras.backend.backend() != "torch":
        yield
        return
    import torch  # noqa: PLC0415

    values = [each._value for each in model.variables if each._value is not None]
    if not torch.is_inference_mode_enabled() or any(each.is_inference() for each in values):
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield


def is_distributed(model: Any) -> bool:
    """True for a model whose variables a distribution strategy of TensorFlow holds."""
    return getattr(model, "_distribute_strategy", None) is not None


def compares_with_targets(model: Any) -> bool:
    """False for a compiled model all of whose losses come from its layers."""
    return getattr(model, "_compile_loss", None) is not None


def needs_targets(model: Any, *, training: bool) -> bool:
    """True for a model of which Keras's own steps cannot do without targets.

    Args:
        model: The model.
        training: True to train it, False to evaluate it.
    """
    step = "train_step" if training else "test_step"
    names = (step, "compute_loss")
    stock = all(getattr(type(model), name) is getattr(keras.Model, name) for name in names)
    if not stock or not getattr(model, "compiled", False) or not compares_with_targets(model):
        return False
    losses = [
        each for each in keras.tree.flatten(model.loss) if isinstance(each, keras.losses.Loss)
    ]
    return all(type(each).__call__ is keras.losses.Loss.__call__ for each in losses)


def has_own_losses(model: Any) -> bool:
    """True for a compiled model with a loss that is none of Keras's, or no mean, or that has a
    `compute_loss` of its own.
    """
    return is_own_loss(type(model).compute_loss) or bool(own_losses(model))


def own_losses(model: Any) -> list[Any]:
    """What a model was compiled with of losses that are none of Keras's, or no means."""
    return [loss for loss in keras.tree.flatten(getattr(model, "loss", None)) if is_own_loss(loss)]


def is_own_loss(loss: Any) -> bool:
    """True for a loss that is none of Keras's means, or is made of a function that is none."""
    if loss is None or isinstance(loss, str):
        return False
    fn = getattr(loss, "fn", loss if hasattr(loss, "__code__") else type(loss))
    is_mean = getattr(loss, "reduction", "mean") in ("sum_over_batch_size", "mean")
    return not is_mean or not is_of_keras(fn)


def has_own_step(model: Any) -> bool:
    """True for a model whose training step is not Keras's, so that it may do anything."""
    return type(model).train_step is not keras.Model.train_step


def has_own_test_step(model: Any) -> bool:
    """True for a model whose step of `evaluate` is not Keras's."""
    return type(model).test_step is not keras.Model.test_step


def has_own_predictions(model: Any) -> bool:
    """True for a model whose `predict` may give other numbers than its call."""
    names = ("predict", "predict_step")
    return any(
        getattr(getattr(model, name), "__func__", None) is not getattr(keras.Model, name)
        for name in names
    )


def has_own_loss(model: Any) -> bool:
    """True where nobody but its own training step can tell a model's loss.

    It has neither a compiled loss nor a `compute_loss` of its own.
    """
    stock = type(model).compute_loss is keras.Model.compute_loss
    return has_own_step(model) and stock and not compares_with_targets(model)


def has_call(model: Any) -> bool:
    """False for a model that trains its parts, and cannot be called itself."""
    return type(model).call is not keras.Model.call


def replaced_calls(model: Any) -> list[str]:
    """Paths of a model and of its layers that have another function in place of their `call`.

    No configuration tells of it. The `call` of their own class, compiled, is no other.
    """
    parts = [(model.name, model), *walk(model)]
    return [path for path, layer in parts if "call" in vars(layer) and not _has_own_call(layer)]


def _has_own_call(layer: Any) -> bool:
    """True where in place of a layer's `call` is that of its class, compiled or as it is."""
    call = _uncompiled(vars(layer)["call"])
    own = getattr(call, "__self__", None) is layer
    return own and getattr(call, "__func__", None) is type(layer).call


def _uncompiled(call: Any) -> Any:
    """What a backend has compiled; a function around another is as it is."""
    marks = ("python_function", "get_compiler_config")  # of TensorFlow, of torch
    is_compiled = type(call).__name__ == "PjitFunction" or any(hasattr(call, m) for m in marks)
    return getattr(call, "__wrapped__", call) if is_compiled else call


def rebuild_functions(model: Any, *others: Any, training: bool) -> None:
    """Throw away compiled train, test and predict functions that hold dead variables.

    `compile()` inside a callback crashes `fit`, and `train_function = None` alone does
    too: whoever has a train function gets a new one with `force=True`.

    Args:
        model: The model; those within it are renewed, too.
        others: More models, that have layers in common with it.
        training: True inside a `fit` of the model.
    """
    for each in {id(each): each for each in (*models_in(model), *others)}.values():
        trains = getattr(each, "train_function", None) is not None or (training and each is model)
        heeds_flags = not trains_what_it_did(each)
        _forget_functions(each)
        if trains and keras.backend.backend() == "tensorflow" and "train_step" not in vars(each):
            go_on_training(each, heeds_flags=heeds_flags)
        elif trains:
            each.make_train_function(force=True)
        renew_torch_parameters(each)
    gc.collect(0)


def _forget_functions(model: Any) -> None:
    for name in ("train_function", "test_function", "predict_function"):
        if getattr(model, name, None) is not None:
            setattr(model, name, None)
    let_variables_count(model)


def let_variables_count(model: Any) -> None:
    """Let what the variables hold be the state of a model on JAX, as after a call that failed."""
    if hasattr(model, "_jax_state_synced"):
        model._jax_state_synced = True


def renew_torch_parameters(model: Any) -> None:
    """Let torch's modules hold the variables that are there now (nothing elsewhere).

    Each layer, model and Sequential's hidden Functional keeps a dictionary of parameters
    of its own, made when it was built, by variable path. `zero_grad` goes by it: the
    gradients of variables that came later are never cleared, in silence, and dead ones
    are kept in memory.
    """
    if keras.backend.backend() != "torch":
        return
    layers = [model, *(layer for _, layer in walk(model))]
    modules = {id(module): module for layer in layers for module in layer.modules()}
    for module in modules.values():
        if isinstance(module, keras.Layer) and "_torch_params" in module._modules:
            module._track_variables()


def sync_state(model: Any) -> None:
    """Bring variables up to date where a backend keeps training state elsewhere (JAX)."""
    sync = getattr(model, "jax_state_sync", None)
    if sync is not None:
        sync()


def trained_model(model: Any) -> Any:
    """What of a model is trained: the student of a `Distiller`, otherwise the model itself."""
    return model.student if isinstance(model, keras.distillation.Distiller) else model


def compiled_optimizer(model: Any) -> Any | None:
    """The optimizer of a compiled model, or `None`."""
    return getattr(model, "optimizer", None) if getattr(model, "compiled", False) else None
