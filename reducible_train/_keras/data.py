"""Watch data pass through a model."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from reducible_train._keras.batch_loss import loss_of
from reducible_train._keras.cells import is_cell, projections_watched
from reducible_train._keras.gradients import Overlay, Watch, by_values, by_variables, in_range
from reducible_train._keras.keeping import as_it_was
from reducible_train._keras.layer_tree import walk
from reducible_train._keras.loops import Step, stepwise
from reducible_train._keras.masks import Masks, at_step, fitting, followed
from reducible_train._keras.nested import arrays_in, map_arrays
from reducible_train._keras.values import host_float, host_value, is_symbolic
from reducible_train.linalg.weighting import aligned, of_samples

_REPLACED = ("activation", "call")  # attributes of a layer that is observed


@contextlib.contextmanager
def observing(
    model: Any,
    layers: Sequence[Any],
    tell: Callable[[Any, Any, Any, Step | None], None] | None,
    *,
    watch: Watch | None = None,
    symbolic: Callable[[Any], bool] = is_symbolic,
) -> Iterator[None]:
    """Within it, every eager call of a layer is told: the layer, its arguments, its output, and
    the step of the sequence that a cell is in.

    Arguments are in the order of the call's signature; of a cell, those of the samples that have
    this step. Keras has no hooks on a layer's call; attributes of the object shadow the method,
    whatever graph holds the layer.

    Args:
        model: The model that is called.
        layers: The layers.
        tell: Called after each call of one of them; `None` for nobody to be told.
        watch: Is given each output, and returns what to go on with; told are then those before
            the activation, and of a recurrent cell what its kernels give.
        symbolic: True for tensors without a value.
    """

    def observe(layer: Any, present: Callable[[Any], Step | None]) -> None:
        original = layer.call
        activation: Any = getattr(layer, "activation", None)
        signature = inspect.signature(original)
        raw: list[Any] = []

        def activated(output: Any) -> Any:
            raw.append(_watched(output))
            return activation(raw[-1])

        def _watched(output: Any) -> Any:
            return output if watch is None or symbolic(output) else watch(output)

        def called(args: Any, kwargs: Any, first: Any) -> tuple[Any, Any]:
            """What the layer returns, and what is told of it."""
            if is_cell(layer):
                samples = keras.tree.flatten(first)[0].shape[0]
                with projections_watched(layer, samples, watch) as told:
                    return original(*args, **kwargs), told
            raw.clear()
            result = original(*args, **kwargs)
            if raw or watch is None:
                return result, raw[-1] if raw else result
            watched = _watched(result)
            return watched, watched

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            given = [*signature.bind(*args, **kwargs).arguments.values()]
            if any(map(symbolic, keras.tree.flatten(given))):
                return original(*args, **kwargs)
            result, told = called(args, kwargs, given[0])
            if tell is None:
                return result
            step = present(layer)
            having = None if step is None else step.having
            if having is not None:
                given = keras.tree.map_structure(lambda each: _taken(each, having), given)
            if having is None or having.any():
                tell(layer, given, told, step)
            return result

        undo.append((layer, {n: vars(layer)[n] for n in _REPLACED if n in vars(layer)}))
        layer.__dict__["call"] = call
        if activation is not None and watch is not None and not is_cell(layer):
            layer.__dict__["activation"] = activated

    undo: list[tuple[Any, dict[str, Any]]] = []
    with stepwise([each for _, each in walk(model)], layers) as present:
        try:
            for layer in layers:
                observe(layer, present)
            yield
        finally:
            for layer, own in undo:
                for name in _REPLACED:
                    layer.__dict__.pop(name, None)
                layer.__dict__.update(own)


def _taken(value: Any, having: np.ndarray) -> Any:
    """The rows of some samples, of what has a row for each."""
    shape: tuple[Any, ...] = tuple(getattr(value, "shape", ()))
    return host_value(value)[having] if shape[:1] == (len(having),) else value


@dataclass(frozen=True, eq=False)
class Observation:
    """One call of a layer on data.

    Args:
        layer: The layer.
        given: Its arguments, in the order of the call's signature.
        gradient: Of the loss by its output, before the activation; `None` where it was not asked
            for, or the loss does not depend on it.
        weigh: The shape of an array's first axes, samples first -> how much each of its samples,
            or of their positions, counts; `None` if all count alike.
        having: Of a cell, which samples have the step; `None` if all of them.
    """

    layer: Any
    given: Sequence[Any]
    gradient: Any
    weigh: Callable[[Sequence[int]], np.ndarray | None]
    having: np.ndarray | None = None


def layer_calls(
    model: Any, layers: Sequence[Any], inputs: Any, weights: np.ndarray | None
) -> list[Observation]:
    """Every call of the layers on one batch, as for predictions; the model stays as it was.

    Args:
        model: A built model.
        layers: The layers.
        inputs: Of the model.
        weights: Of the samples, `(samples,)`, or of their positions too; `None` if all are 1.
    """
    observed: list[Observation] = []
    with as_it_was(model), _listening(model, layers, weights, observed):
        model(inputs, training=False)
    return [replace(each, gradient=None) for each in observed]


def output_gradients(
    model: Any,
    layers: Sequence[Any],
    batch: Any,
    weights: np.ndarray | None = None,
    *,
    others: float = 0.0,
) -> list[Observation]:
    """The same, with the gradient of the loss by each output.

    The gradient is that of a sample's own loss (see `others`), before the layer's activation;
    `None` where the loss does not depend on it. Of a recurrent cell it is that by what its
    kernels give, all gates side by side: `(samples, 1, n)`; `(samples, 2, n)` of a GRU with
    `reset_after`, of the input kernel and of the recurrent one.

    Args:
        model: A compiled model.
        layers: The layers.
        batch: Inputs, targets and the weights within the loss of a sample (or `None`).
        weights: As `layer_calls` takes them.
        others: How much the loss counts beside, that each sample has with the target of another
            one: where the sample's own is met and has no gradient, it tells of every output. None
            of a batch in which that loss cannot be told.
    """
    observed: list[Observation] = []
    watched: list[Any] = []
    exchanged = _exchanged(batch, _ignored(model)) if others else None
    scale = 1.0

    def loss_of(predicted: Any) -> Any:
        loss = _summed_loss(model, batch, predicted)
        if exchanged is not None:
            loss = loss + others * _summed_loss(model, exchanged, predicted)
        return loss * scale

    def run(watch: Watch) -> Any:
        def noted(value: Any) -> Any:
            watched.append(watch(value))
            return watched[-1]

        with _listening(model, layers, weights, observed, watch=noted):
            predicted = model(batch[0], training=False)
        return loss_of(predicted)

    def again(watch: Watch, having_values: type) -> Any:
        def symbolic(tensor: Any) -> bool:
            return is_symbolic(tensor) and type(tensor) is not having_values

        with (
            observing(model, layers, None, watch=watch, symbolic=symbolic),
            Overlay(),
        ):
            return loss_of(model(batch[0], training=False))

    def scaled(by: float) -> Sequence[Any]:
        nonlocal scale
        scale = by
        observed.clear()
        watched.clear()
        return by_values(run, again)

    try:
        with as_it_was(model):
            gradients, scale = in_range(scaled, model)
        is_told = exchanged is None or _all_finite(gradients)
    except Exception:
        if exchanged is None:
            raise
        is_told = False
    if not is_told:  # as by a CTC loss where a word is longer than the sound of another
        return output_gradients(model, layers, batch, weights)
    gradients = [_over(each, scale) for each in gradients]
    of_value = {id(value): g for value, g in zip(watched, gradients, strict=True)}
    found = [replace(each, gradient=of_value[id(each.gradient)]) for each in observed]
    reached = {
        id(e.layer) for e in found if e.gradient is not None and host_value(e.gradient).any()
    }
    return [_of_present(e if id(e.layer) in reached else replace(e, gradient=None)) for e in found]


def _over(gradient: Any, scale: float) -> Any:
    """A gradient of the loss, by that of the loss times a scale."""
    if gradient is None or scale == 1.0:
        return gradient
    return keras.ops.cast(gradient, "float32") / scale


def _all_finite(gradients: Sequence[Any]) -> bool:
    return all(keras.ops.all(keras.ops.isfinite(each)) for each in gradients if each is not None)


def _exchanged(batch: Any, ignored: Sequence[Any]) -> Any:
    """The batch with targets of other samples of it; `None` where there are none to exchange.

    In no order of theirs, for samples may lie in one; what a loss ignores stays where it is.
    """
    x, y, weights = batch
    count = len(arrays_in(x)[0])
    targets = arrays_in(y)
    if not targets or any(tuple(each.shape[:1]) != (count,) for each in targets):
        return None
    drawn = np.random.default_rng(0).permutation(count)
    places = np.empty_like(drawn)
    places[drawn] = np.roll(drawn, 1)  # nobody's own

    def of_another(target: Any) -> Any:
        other = keras.ops.take(target, places, axis=0)
        for label in ignored:
            hidden = keras.ops.logical_or(keras.ops.equal(target, label), other == label)
            other = keras.ops.where(hidden, target, other)
        return other

    try:
        return x, map_arrays(of_another, y), weights
    except Exception:  # of a kind that is not reordered, as ragged ones
        return None


def _ignored(model: Any) -> list[Any]:
    """Labels by which losses of a model know positions that do not count."""
    losses = keras.tree.flatten(getattr(model, "loss", None))
    found = [getattr(each, "ignore_class", None) for each in losses]
    return [each for each in dict.fromkeys(found) if each is not None]


def _of_present(observed: Observation) -> Observation:
    """The gradients of the samples that have a step, as the arguments are."""
    if observed.gradient is None or observed.having is None:
        return observed
    return replace(observed, gradient=_taken(observed.gradient, observed.having))


@contextlib.contextmanager
def _listening(
    model: Any,
    layers: Sequence[Any],
    weights: np.ndarray | None,
    observed: list[Observation],
    watch: Watch | None = None,
) -> Iterator[None]:
    """Within it, calls are added to a list, each with its output in the gradient's place."""
    with followed(model) as masks:

        def tell(layer: Any, given: Any, output: Any, step: Step | None) -> None:
            weigher = _weigher(masks, layer, given, step, weights)
            having = None if step is None else step.having
            observed.append(Observation(layer, given, output, weigher, having))

        with observing(model, layers, tell, watch=watch):
            yield


def _weigher(
    masks: Masks, layer: Any, given: Any, step: Step | None, weights: np.ndarray | None
) -> Callable[[Sequence[int]], np.ndarray | None]:
    """What `Observation.weigh` is for the call that has just ended."""
    groups, around = masks.present(layer, given)
    counts = None if weights is None else at_step(weights, around)
    if step is not None:  # of a cell: what hides its steps has been left out already
        rows = slice(None) if step.having is None else step.having
        groups = [[mask[rows] for mask in group if mask.ndim == 1] for group in groups]
        if counts is not None:
            in_steps = counts.ndim > 1 and counts.shape[1] == step.length
            counts = of_samples(counts[:, step.index] if in_steps else counts)[rows]

    def weigh(shape: Sequence[int]) -> np.ndarray | None:
        mask = fitting(groups, shape)
        found = None if counts is None else aligned(counts, shape)
        if mask is None or found is None:
            return found if mask is None else mask.astype(np.float64)
        axes = max(mask.ndim, found.ndim)
        mask, found = (a.reshape(a.shape + (1,) * (axes - a.ndim)) for a in (mask, found))
        return found * mask

    return weigh


def loss_gradients(model: Any, variables: Sequence[Any], batch: Any) -> list[np.ndarray | None]:
    """The gradient of the loss of one batch by each variable; the model stays as it was.

    Summed over the samples; `None` where the loss does not depend on a variable.
    """

    def scaled(by: float) -> Sequence[Any]:
        def loss() -> Any:
            return _summed_loss(model, batch, model(batch[0], training=False)) * by

        return by_variables(loss, variables)

    with as_it_was(model):
        found, scale = in_range(scaled, model)
    return [None if each is None else host_float(each) / scale for each in found]


def outputs_without_loss(model: Any, batch: Any) -> list[tuple[int | None, ...]] | None:
    """The shapes of a model's outputs on a batch of which its loss cannot be computed.

    `None` where it can, or where not even the model can be run on it.
    """
    with as_it_was(model):
        try:
            predicted = model(batch[0], training=False)
        except Exception:
            return None
        try:
            _summed_loss(model, batch, predicted)
        except Exception:  # whatever a loss does with targets that are not its own
            told = (each for each in keras.tree.flatten(predicted) if hasattr(each, "shape"))
            return [tuple(each.shape) for each in told]
    return None


def _summed_loss(model: Any, batch: Any, predicted: Any) -> Any:
    """The loss of a batch's samples, added up: Keras's mean, undone."""
    return loss_of(model, batch, predicted) * len(arrays_in(batch[0])[0])
