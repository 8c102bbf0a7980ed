"""Watch data pass through a model."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras.src import backend as _backend

from reducible_train._keras.fits import has_unknown_length
from reducible_train._keras.functions import is_distributed, part_in_training
from reducible_train._keras.layer_tree import walk
from reducible_train._keras.loops import stepwise
from reducible_train._keras.values import host_float, host_value, values_kept


@contextlib.contextmanager
def tapped(
    model: Any, layers: Sequence[Any], tell: Callable[[Any, Any, Any], None], *, watch: Any = None
) -> Iterator[None]:
    """Within it, every eager call of a layer is told: the layer, its arguments, its output.

    Arguments are in the order of the call's signature; of a cell, those of the samples that have
    this step. Keras has no hooks on a layer's call; attributes of the object shadow the method,
    whatever graph holds the layer.

    Args:
        model: The model that is called.
        layers: The layers.
        tell: Called after each call of one of them.
        watch: A gradient tape, to watch the outputs; told are then those before the activation.
    """

    def listen(layer: Any, present: Callable[[Any], np.ndarray | None]) -> None:
        original, activation = layer.call, getattr(layer, "activation", None)
        signature = inspect.signature(original)
        raw: list[Any] = []

        def activated(output: Any) -> Any:
            raw.append(_watched(output))
            return activation(raw[-1])  # type: ignore[misc]

        def _watched(output: Any) -> Any:
            if watch is not None and not _is_symbolic(output):
                watch.watch(output)
            return output

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            given = [*signature.bind(*args, **kwargs).arguments.values()]
            if any(map(_is_symbolic, keras.tree.flatten(given))):
                return original(*args, **kwargs)
            raw.clear()
            result = original(*args, **kwargs)
            having = present(layer)
            if having is not None:
                given = keras.tree.map_structure(lambda each: _taken(each, having), given)
            if having is None or having.any():
                tell(layer, given, raw[-1] if raw else _watched(result))
            return result

        layer.__dict__["call"] = call
        if activation is not None and watch is not None:
            layer.__dict__["activation"] = activated
            undo.append((layer, activation))

    undo: list[tuple[Any, Any]] = []
    with stepwise([each for _, each in walk(model)], layers) as present:
        try:
            for layer in layers:
                listen(layer, present)
            yield
        finally:
            for layer in layers:
                layer.__dict__.pop("call", None)
            for layer, activation in undo:
                layer.__dict__["activation"] = activation


def _taken(value: Any, having: np.ndarray) -> Any:
    """The rows of some samples, of what has a row for each."""
    shape: tuple[Any, ...] = tuple(getattr(value, "shape", ()))
    return host_value(value)[having] if shape[:1] == (len(having),) else value


def _is_symbolic(tensor: Any) -> bool:
    """True within a function or a loop that is being traced, where a tensor has no value."""
    if isinstance(tensor, keras.KerasTensor):
        return True
    if _backend.backend() == "jax":
        import jax  # noqa: PLC0415

        return isinstance(tensor, jax.core.Tracer)
    if _backend.backend() != "tensorflow":
        return False
    import tensorflow as tf  # noqa: PLC0415

    return tf.is_symbolic_tensor(tensor)


def output_gradients(model: Any, layers: Sequence[Any], batch: Any) -> list[tuple[Any, Any, Any]]:
    """Every call of the layers on one batch: layer, arguments, gradient of the loss by its output.

    The gradient is that of a sample's own loss, before the layer's activation; `None`
    where the loss does not depend on it. TensorFlow only. Metrics stay as they are.

    Args:
        model: A compiled model.
        layers: The layers.
        batch: Inputs, targets and sample weights (or `None`).
    """
    import tensorflow as tf  # noqa: PLC0415

    calls: list[tuple[Any, Any, Any]] = []
    with values_kept(_state(model)), tf.GradientTape() as tape:
        with tapped(model, layers, lambda *call: calls.append(call), watch=tape):
            predicted = model(batch[0], training=False)
        loss = _summed_loss(model, batch, predicted)
    gradients = tape.gradient(loss, [output for _, _, output in calls])
    return [(layer, given, g) for (layer, given, _), g in zip(calls, gradients, strict=True)]


def loss_gradients(model: Any, variables: Sequence[Any], batch: Any) -> list[np.ndarray | None]:
    """The gradient of the loss of one batch by each variable, as `output_gradients` takes it.

    Summed over the samples; `None` where the loss does not depend on a variable.
    """
    import tensorflow as tf  # noqa: PLC0415

    values = [variable.value for variable in variables]
    with values_kept(_state(model)), tf.GradientTape() as tape:
        loss = _summed_loss(model, batch, model(batch[0], training=False))
    found = tape.gradient(loss, values)
    return [None if each is None else host_float(tf.convert_to_tensor(each)) for each in found]


def _summed_loss(model: Any, batch: Any, predicted: Any) -> Any:
    """The loss of a batch's samples, added up: Keras's mean, undone."""
    x, y, weight = batch
    loss = model.compute_loss(x=x, y=y, y_pred=predicted, sample_weight=weight, training=False)
    return loss * len(keras.tree.flatten(x)[0])


def _state(model: Any) -> list[Any]:
    """What a call may change: metrics, statistics, states, seeds; no weight, frozen or not."""
    part = part_in_training(model)
    layers = [part, *(layer for _, layer in walk(part))]
    own = [variable for layer in layers for variable in layer._non_trainable_variables]
    seeds = [seed.state for layer in layers for seed in getattr(layer, "_seed_generators", ())]
    found = [*model.metrics_variables, *own, *seeds]
    return list({id(variable): variable for variable in found}.values())


def sample_batches(model: Any, take: Callable[[Any], bool]) -> Callable[[], None] | None:
    """Show the batches of a running `fit` to `take`, before each step, until it returns False.

    Callbacks do not see data. The compiled step is given an iterator over the very
    batches that were shown, of the same signature, so nothing is traced again and
    training goes on as it would have. TensorFlow on one device only.

    Returns:
        A function that ends it early; `None` where it cannot be done.
    """
    original = getattr(model, "train_function", None)
    if _backend.backend() != "tensorflow" or original is None:
        return None
    if is_distributed(model):
        return None

    def restore() -> None:
        if model.train_function is shown:
            model.train_function = original

    def shown(iterator: Any) -> Any:
        batches, same = _next_step(model, iterator)
        if not all(take(batch) for batch in batches):
            restore()
        return original(same)

    model.train_function = shown
    return restore


def before_step(callback: Any, act: Callable[[], None]) -> None:
    """Call `act` before the step that a running `fit` has announced, if there is one.

    Where TensorFlow's data has an unknown length, Keras announces one step more at an epoch's
    end, and finds no data for it. There the batches are fetched first, and trained on
    afterwards; elsewhere `act` is called at once.
    """
    model = callback.model
    if not has_unknown_length(callback):
        act()
        return
    original = model.train_function

    def waiting(iterator: Any) -> Any:
        model.train_function = original
        _, same = _next_step(model, iterator)  # raises at the end of the data
        act()
        return model.train_function(same)

    model.train_function = waiting


def _next_step(model: Any, iterator: Any) -> tuple[list[Any], Any]:
    """The batches of a training step, and an iterator over them of the same signature.

    Nothing is traced again for it, but under a distribution strategy.
    """
    import tensorflow as tf  # noqa: PLC0415

    batches = [next(iterator)]
    while len(batches) < model.steps_per_execution:
        more = next(iterator, None)
        if more is None:
            break
        batches.append(more)
    if not isinstance(iterator, tf.data.Iterator):
        return batches, iter(batches)
    replay = tf.data.Dataset.from_tensors(batches[0])
    for batch in batches[1:]:
        replay = replay.concatenate(tf.data.Dataset.from_tensors(batch))
    variant = tf.data.experimental.to_variant(replay)
    same = tf.data.experimental.from_variant(variant, structure=iterator.element_spec)
    return batches, iter(same)
