"""Trace the calls of layers through a model without data."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
from keras.src import backend as _backend

from reducible_train._keras.batch_loss import loss_of
from reducible_train._keras.functions import trained_model
from reducible_train._keras.keeping import as_it_was, notes_kept
from reducible_train._keras.layer_tree import children, has_graph, is_graph_model, walk
from reducible_train._keras.loops import cells_called, stepwise
from reducible_train._keras.nested import arrays_in
from reducible_train._keras.taking import places_told
from reducible_train._keras.tracking import held_variables

_STEPPERS = (keras.layers.RNN, keras.layers.TimeDistributed)


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer in a forward pass: its input shape, and how often it is repeated.

    Cells of recurrent layers, and layers in TimeDistributed, are called once for each step
    of a sequence; `repeats` is `None` where its length is not known. `options` are the
    switches among the arguments of the call, by name, those left out included.
    """

    layer: Any
    shape: tuple[Any, ...]
    repeats: int | None
    options: Mapping[str, Any] = field(default_factory=dict)


class _Reads(keras.StatelessScope):
    """A scope that tells which variables are read in it."""

    def __init__(self, told: Callable[[Any], None]):
        super().__init__()
        self._told = told

    def get_current_value(self, variable: Any) -> Any:
        self._told(variable)
        return super().get_current_value(variable)


@dataclass(eq=False)
class _Loop:
    """A call of a layer that calls another one for each step of a sequence.

    A backend may trace a step once, try it before its loop begins, or call all of them: the first
    tells of all.

    Args:
        stepped: What is called for each step.
        steps: How many there are; `None` where that is not known.
        begun: Steps that were called so far.
        inside: True within one.
    """

    stepped: Any
    steps: int | None
    begun: int = 0
    inside: bool = False

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        self.begun, self.inside = self.begun + 1, True
        try:
            yield
        finally:
            self.inside = False

    def counts(self, layer: Any) -> bool:
        """True for a call of a layer in the first step, or of what the loop has beside its steps.

        Keras calls the cells in a stack once before the first step, and drops what they give.
        """
        parts = (self.stepped, *(part for _, part in walk(self.stepped)))
        return self.begun == 1 if self.inside else all(part is not layer for part in parts)


def trace_calls(
    model: Any,
    layers: Sequence[Any],
    inputs: Any = None,
    *,
    values: bool = False,
    look: Callable[[Any], None] | None = None,
    beside: Callable[[int], None] | None = None,
    taken: Callable[[int], None] | None = None,
) -> list[Call] | None:
    """The calls of `layers` in one forward pass, in order.

    Runs the model on symbolic inputs of batch size 1, without touching its graph; `None`
    where the input of the model is not known or it cannot be traced.

    Args:
        model: A built model.
        layers: The layers.
        inputs: What it is called on, as `one_sample` makes them; left out, what it is known to
            take, with lengths that it leaves open.
        values: True for inputs that are a batch of data, for a model that makes lengths of values.
        look: Is given the outputs while they are symbolic.
        beside: Is given the id of each variable that is read while no layer runs that holds it.
        taken: Is given the id of each variable that must stay where it is in its layer's lists,
            since the calls go by places there.
    """
    stepping = [layer for _, layer in walk(model) if isinstance(layer, _STEPPERS)]
    watched = {id(each): each for each in [*layers, *stepping, *map(_stepped, stepping)]}.values()
    wanted = {id(layer) for layer in layers}
    calls: list[Call] = []
    loops: list[_Loop] = []  # that are running, the outermost first
    running: list[set[int]] = []  # what layers hold that are
    held = {id(layer): {id(v) for v in held_variables(layer)} for layer in layers}

    def read(variable: Any) -> None:
        if beside is not None and not any(id(variable) in own for own in running):
            beside(id(variable))

    def watch(layer: Any) -> Callable[..., Any]:
        original = getattr(layer, called[id(layer)])
        signature = inspect.signature(layer.call)  # the other one may be wrapped

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            with contextlib.ExitStack() as stack:
                if loops and loops[-1].stepped is layer and not loops[-1].inside:
                    stack.enter_context(loops[-1].step())
                if id(layer) in wanted:
                    note(layer, args, kwargs)
                    running.append(held[id(layer)])
                    stack.callback(running.pop)
                if isinstance(layer, _STEPPERS):
                    loops.append(_Loop(_stepped(layer), shape_in(args, kwargs)[1]))
                    stack.callback(loops.pop)
                return original(*args, **kwargs)

        def note(layer: Any, args: Any, kwargs: Any) -> None:
            if not all(loop.counts(layer) for loop in loops):
                return
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            options = _switches(given.arguments)
            calls.append(Call(layer, shape_in(args, kwargs), _repeats(loops), options))

        return call

    def shape_in(args: Any, kwargs: Any) -> tuple[Any, ...]:
        inputs = args[0] if args else next(iter(kwargs.values()))
        return known(tuple(arrays_in(inputs)[0].shape))

    made_up = inputs is None and keras.backend.backend() == "torch" and _leaves_open(model)

    def known(shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """Sizes that are numbers, of one sample where the batch is known."""
        sizes = [size if isinstance(size, int) else None for size in shape]  # JAX's are symbols
        if made_up:  # torch has no unknown size, and is called on some number or other
            sizes[1:-1] = [None] * len(sizes[1:-1])
        return (1, *sizes[1:]) if values else tuple(sizes)

    called = {id(layer): _called(layer) for layer in watched}
    replaced = {
        id(layer): vars(layer)[called[id(layer)]]
        for layer in watched
        if called[id(layer)] in vars(layer)
    }
    try:
        for layer in watched:
            layer.__dict__[called[id(layer)]] = watch(layer)
        with places_told(taken or (lambda _: None)):
            if values:
                if not _run(model, inputs):
                    return None
                found = list(calls)
                if beside is not None:  # after it: what a call compiles must not be made in a scope
                    _run(model, inputs, _Reads(read))
                return found
            with cells_called(stepping):
                traced = _traced(model, training=False, specs=inputs, look=look, read=read)
            return calls if traced is not None else None
    finally:
        for layer in watched:
            layer.__dict__.pop(called[id(layer)])
            if id(layer) in replaced:
                layer.__dict__[called[id(layer)]] = replaced[id(layer)]


def _stepped(layer: Any) -> Any:
    """What a recurrent layer, or TimeDistributed, calls for each step."""
    return layer.cell if isinstance(layer, keras.layers.RNN) else layer.layer


def _repeats(loops: Sequence[_Loop]) -> int | None:
    """How often the step of loops in each other is called; `None` if that is not known."""
    repeats = 1
    for loop in loops:
        if loop.inside:
            if loop.steps is None:
                return None
            repeats *= loop.steps
    return repeats


def _called(layer: Any) -> str:
    """The method that Keras calls in place of the layer."""
    return "call" if getattr(layer, "quantization_mode", None) is None else "quantized_call"


def shape_of(make: Callable[[], Any]) -> tuple[int, ...]:
    """The shape of what a function makes, without making it."""
    return tuple(int(size) for size in _backend.compute_output_spec(make).shape)


def _switches(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call that are neither tensors nor structures of them."""
    return {name: value for name, value in arguments.items() if isinstance(value, (bool, str))}


def assigned_in_calls(model: Any, taken: Callable[[int], None]) -> set[int]:
    """Ids of the variables that a model's own code gives values to in a training step.

    Keras's own layers do so with statistics and states, never with another layer's kernel:
    a model of nothing else is not traced, and one that cannot be traced tells nothing.

    Args:
        model: A built model.
        taken: What it is for `trace_calls`.
    """
    layers = [model, *(layer for _, layer in walk(model))]
    foreign = any(type(layer).__module__.partition(".")[0] != "keras" for layer in layers)
    if not foreign:
        return set()
    with places_told(taken):
        return _traced(model, training=True) or set()


def _leaves_open(model: Any) -> bool:
    """True for a model that takes any length, or any size of image."""
    specs = input_specs(model)
    return specs is not None and any(None in each.shape for each in keras.tree.flatten(specs))


def _run(
    model: Any, inputs: Any, scope: contextlib.AbstractContextManager[Any] | None = None
) -> bool:
    """Call a model on data, cells of recurrent layers step by step; False where it refuses."""
    layers = [layer for _, layer in walk(model)]
    try:
        with as_it_was(model), stepwise(layers, layers), scope or contextlib.nullcontext():
            model(inputs, training=False)
    except Exception:  # any user code may refuse these
        return False
    return True


def _traced(
    model: Any,
    *,
    training: bool,
    specs: Any = None,
    look: Callable[[Any], None] | None = None,
    read: Callable[[Any], None] | None = None,
) -> set[int] | None:
    """Ids of the variables assigned in a symbolic forward pass; `None` if there is none."""
    specs = input_specs(model) if specs is None else specs
    if specs is None:
        return None
    assigned: set[int] = set()

    def run(x: Any) -> Any:
        with _Reads(read or (lambda _: None)) as scope:
            outputs = model(x, training=training)
        assigned.update(scope.state_mapping)
        if look is not None:
            look(outputs)
        return outputs

    try:
        with notes_kept(model):
            _backend.compute_output_spec(run, specs)
    except Exception:  # any user code may refuse to be traced
        return None
    return assigned


def input_specs(model: Any) -> Any | None:
    """Symbolic inputs of a model, nested as it takes them, of one sample or as many as it is bound
    to; `None` where not known, and `None` for sizes that it leaves open.
    """
    if has_graph(model):
        return keras.tree.map_structure(
            lambda t: one_sample(t.shape[1:], t.dtype, t.shape[0] or 1), _inputs_struct(model)
        )
    shapes = getattr(model, "_build_shapes_dict", None)
    if not shapes or len(shapes) != 1:
        return None
    return _specs_of(next(iter(shapes.values())), model.input_dtype)


def _specs_of(shapes: Any, dtype: Any) -> Any | None:
    """Inputs of the shapes that a model was built with; `None` for what are no shapes."""
    if isinstance(shapes, dict):
        found: Any = {name: _specs_of(each, dtype) for name, each in shapes.items()}
        return None if None in found.values() else found
    if not isinstance(shapes, (tuple, list)):
        return None
    if all(isinstance(size, int) or size is None for size in shapes):
        return one_sample(shapes[1:], dtype) if shapes else None
    found = [_specs_of(each, dtype) for each in shapes]
    return None if any(each is None for each in found) else found


def one_sample(shape: Sequence[int | None], dtype: Any, batch: int = 1) -> Any:
    """A symbolic input of one sample, of whatever kind of array `dtype` is.

    Args:
        shape: Of a sample.
        dtype: A type of numpy's, or of any backend.
        batch: Samples, for a model that takes so many only.
    """
    is_text = getattr(dtype, "kind", None) in ("U", "S", "O")
    dtype = "string" if is_text else keras.backend.standardize_dtype(dtype)
    return keras.KerasTensor((batch, *shape), dtype=dtype)


def inputs_of_shapes(
    model: Any, shapes: Sequence[Any], names: Sequence[str] | None, *, single: bool
) -> Any:
    """Inputs of one sample for a model, of given shapes.

    Args:
        model: The model.
        shapes: Of one sample of each input.
        names: Their names; `None` where they are in the model's order.
        single: True for a shape that was not in a list.
    """
    if has_graph(model):
        order = [tensor.name for tensor in model.inputs]
        told = dict(zip(names or order, shapes, strict=True))
        made = [one_sample(told[t.name], t.dtype, t.shape[0] or 1) for t in model.inputs]
        struct = _inputs_struct(model)
        flat = {id(t): new for t, new in zip(model.inputs, made, strict=True)}
        return keras.tree.map_structure(lambda tensor: flat[id(tensor)], struct)
    made = [one_sample(shape, model.input_dtype) for shape in shapes]
    if names is not None:
        return dict(zip(names, made, strict=True))
    return made[0] if single else made


def _inputs_struct(model: Any) -> Any:
    """The inputs of a graph model, nested as it takes them."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0]
    struct = getattr(model, "_inputs_struct", None)
    return model.inputs if struct is None else struct


def fixed_batch(model: Any) -> int | None:
    """The only batch size that a model, or a student, takes; `None` if it takes any."""
    inputs = keras.tree.flatten(getattr(trained_model(model), "inputs", None) or [])
    return next((x.shape[0] for x in inputs if x.shape and x.shape[0] is not None), None)


def numbers_of_sample(model: Any) -> int | None:
    """How many numbers the layers of a model, or of a student, give of one sample.

    Returns:
        `None` where no graph tells: of other models, of open lengths, and where layers are made of
        others. Recurrent ones count what they give at every step, whether they return it or not.
    """
    part = trained_model(model)
    if not has_graph(part):
        return None
    found = 0
    within: set[int] = set()
    for _, layer in walk(part):
        if is_graph_model(layer) or id(layer) in within:
            continue
        is_loop = isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional))
        within.update(id(each) for _, each in walk(layer) if is_loop)
        gives_last = is_loop and not layer.return_sequences
        numbers = [_numbers_of(node, gives_last) for node in layer._inbound_nodes]
        if (children(layer) and not is_loop) or not numbers or None in numbers:
            return None
        found += max(each for each in numbers if each is not None)
    return found


def _numbers_of(node: Any, gives_last: bool) -> int | None:
    """The numbers of the largest output of one call of a layer; `None` for open lengths.

    Args:
        node: The call.
        gives_last: True for a recurrent layer that returns of all steps the last.
    """
    shapes = [tuple(each.shape[1:]) for each in node.outputs]
    if gives_last:
        shapes.append((node.input_tensors[0].shape[1], *shapes[0]))
    if any(None in shape for shape in shapes):
        return None
    return max(map(math.prod, shapes))


def known_inputs(model: Any, names: Sequence[str] | None = None) -> list[tuple[Any, ...]] | None:
    """Shapes of the inputs of a model, or of a student, flat, the batch axis first; `None` where
    not known.

    Sizes are those that a graph is bound to. Of other models Keras knows what they were built
    with, which binds them to as many inputs and axes.

    Args:
        model: The model.
        names: Names of its inputs, to have them in this order, if it has them.
    """
    part = trained_model(model)
    specs = input_specs(part)
    if specs is None:
        return None
    bound = has_graph(part)
    known = keras.tree.flatten(specs)
    by_name = {t.name: t for t in part.inputs} if bound else specs
    if names is not None and isinstance(by_name, dict) and set(names) <= set(by_name):
        known = [by_name[name] for name in names]
    return [(None, *(size if bound else None for size in each.shape[1:])) for each in known]


def input_names(model: Any) -> list[str] | None:
    """The names of a model's inputs, in the order of `known_inputs`; `None` where it has none."""
    part = trained_model(model)
    if has_graph(part):
        return [tensor.name for tensor in part.inputs]
    specs = input_specs(part)
    return list(specs) if isinstance(specs, dict) else None


def in_order(inputs: Any, model: Any) -> list[Any]:
    """The arrays of inputs in the order of `known_inputs`: those in a dictionary by name."""
    names = input_names(model)
    if isinstance(inputs, dict) and names and set(names) <= set(inputs):
        return [inputs[name] for name in names]
    return list(keras.tree.flatten(inputs))


def trace_loss(model: Any, x: Any, y: Any, weight: Any) -> None:
    """Have the loss of a batch traced, of which only shapes are known, as `fit` will trace it.

    Raises:
        Exception: Whatever Keras and its backend find.
    """

    def loss(x: Any, y: Any, weight: Any) -> Any:
        outputs = model(x, training=False)
        return loss_of(model, (x, y, weight), outputs)

    with as_it_was(model):
        _backend.compute_output_spec(loss, x, y, weight)
