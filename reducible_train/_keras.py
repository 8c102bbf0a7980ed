"""The one door to Keras's private attributes: a function for each need.

Everything here reaches behind Keras's public interface because the public way
does not do what surgery on a live model needs; each function says why. When
Keras moves, only this file and its test have to follow.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras.src import backend as _backend
from keras.src.models.functional import Functional, functional_like_constructor
from keras.src.quantizers.quantization_config import validate_and_resolve_config
from keras.src.saving import saving_lib as _saving_lib
from keras.src.saving.keras_saveable import KerasSaveable
from keras.src.utils.dtype_utils import dtype_size
from keras.src.utils.naming import get_object_name, to_snake_case
from keras.src.utils.tracking import DotNotTrackScope

_STORES = ("trainable_variables", "non_trainable_variables")
_CLOCKS = ("_iterations", "_learning_rate")  # of an optimizer


# --- finding layers -------------------------------------------------------------------


def is_graph_model(layer: Any) -> bool:
    """True for Sequential and Functional models, whose children carry saved names."""
    return isinstance(layer, keras.Sequential) or hasattr(layer, "operations")


def saves_its_layers(layer: Any) -> bool:
    """True if a model's configuration holds its layers, each under its own class and name.

    So it is for Sequential and Functional models; other parents, graph models that build
    their graph in an `__init__` of their own among them, make their sublayers anew when
    they are made from their configuration. There is no public way to ask.
    """
    kind = type(layer)
    if isinstance(layer, keras.Sequential):
        return kind.get_config is keras.Sequential.get_config
    return (
        isinstance(layer, Functional)
        and kind.get_config is Functional.get_config
        and functional_like_constructor(kind)
    )


def children(layer: Any, *, saved_names: bool = True) -> list[tuple[str, Any]]:
    """Direct sublayers as `(name, layer)`, in Keras's own order.

    The name is the child's own name in Sequential and Functional models (it is saved
    with them, if `saved_names`) and the attribute that holds it elsewhere (`"blocks/0"`,
    `"query_dense"`): automatic layer names count up within a process and would not
    survive a reload. Where names are not saved, an automatic one gives its stem only.
    No public way lists the sublayers of a plain layer.
    """
    if is_graph_model(layer):
        return [(c.name if saved_names else _stable_name(c), c) for c in layer.layers]
    own = [child for child in layer._layers if isinstance(child, keras.Layer)]
    names = _attribute_names(layer)
    return [(names.get(id(child)) or _stable_name(child), child) for child in own]


def _stable_name(layer: Any) -> str:
    """The name of a layer, without the number that Keras gave it by itself."""
    stem, _, count = layer.name.rpartition("_")
    if count.isdigit() and stem in {to_snake_case(kind.__name__) for kind in type(layer).__mro__}:
        return stem
    return layer.name


def walk(model: Any) -> Iterator[tuple[str, Any]]:
    """Every layer below `model` with its path, each once, parents before children.

    The same model has the same paths in every process.
    """
    seen: set[int] = {id(model)}

    def visit(layer: Any, prefix: str, saved_names: bool) -> Iterator[tuple[str, Any]]:
        used: set[str] = set()
        saved_names = saved_names and saves_its_layers(layer)
        for name, child in children(layer, saved_names=saved_names):
            if id(child) in seen:
                continue
            seen.add(id(child))
            unique = name
            count = 1
            while unique in used:
                unique = f"{name}_{count}"
                count += 1
            used.add(unique)
            path = f"{prefix}/{unique}" if prefix else unique
            yield path, child
            yield from visit(child, path, saved_names)

    yield from visit(model, "", True)


def _attribute_names(layer: Any) -> dict[int, str]:
    names: dict[int, str] = {}

    def note(value: Any, name: str, depth: int) -> None:
        if isinstance(value, keras.Layer):
            known = names.get(id(value))
            if known is None or (known.startswith("_") and not name.startswith("_")):
                names[id(value)] = name
        elif depth < 4 and isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                note(item, f"{name}/{index}", depth + 1)
        elif depth < 4 and isinstance(value, dict):
            for key, item in value.items():
                note(item, f"{name}/{key}", depth + 1)

    bookkeeping = {"_layers", "_functional", "_tracker", "_metrics", "_inbound_nodes", "_modules"}
    modules = vars(layer).get("_modules", {})  # where torch keeps attributes that are layers
    for attribute, value in {**vars(layer), **modules}.items():
        if attribute not in bookkeeping and not attribute.startswith("_self_"):
            note(value, attribute, 0)
    return {key: name.lstrip("_") for key, name in names.items()}


def own_variables(layer: Any) -> list[Any]:
    """The variables a layer holds itself, without its sublayers' (public: only all)."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


# --- changing a layer -----------------------------------------------------------------


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
    tracker = layer._tracker
    test, _ = tracker.config[store]
    tracking = getattr(layer, "_self_setattr_tracking", True)
    layer._self_setattr_tracking = False
    try:
        with DotNotTrackScope():
            setattr(layer, f"_{store}", variables)
    finally:
        layer._self_setattr_tracking = tracking
    tracker.config[store] = (test, getattr(layer, f"_{store}"))
    tracker.stored_ids[store] = {id(v) for v in variables}


def become(layer: Any, kind: type) -> None:
    """Give a live layer another class, so that every graph that holds it keeps it.

    Keras wraps `build` and `quantize` of each object when it is made; the wrappers hold
    the old class's methods, so they are replaced.
    """
    object.__setattr__(layer, "__class__", kind)
    layer.__dict__["build"] = functools.partial(_build, layer)
    layer.__dict__["quantize"] = functools.partial(_quantize, layer)


def _build(layer: Any, input_shape: Any) -> None:
    with layer._open_name_scope():
        type(layer).build(layer, input_shape)
    layer._build_shapes_dict = {"input_shape": input_shape}
    layer.built = True
    layer._post_build()
    layer._lock_state()


def _quantize(layer: Any, mode: Any = None, config: Any = None, **kwargs: Any) -> None:
    config = validate_and_resolve_config(mode, config)
    layer._check_quantize_args(config.mode, layer.compute_dtype)
    layer._tracker.unlock()
    try:
        type(layer).quantize(layer, mode=config.mode, config=config, **kwargs)
    finally:
        layer._tracker.lock()


def reclass(layer: Any, kind: type) -> None:
    """Give a live layer a class that builds as its own does: see `become` for others."""
    object.__setattr__(layer, "__class__", kind)


@contextlib.contextmanager
def seen_as(layer: Any, kind: type) -> Iterator[None]:
    """Within it, a layer is of another class, whatever Keras asks of it."""
    own = type(layer)
    reclass(layer, kind)
    try:
        yield
    finally:
        reclass(layer, own)


def unpickler() -> Callable[..., Any]:
    """What Keras calls to unpickle a model, as a function that pickles by its name.

    Keras uses the method of the model's own class, which must then be importable.
    """
    return keras.Model._unpickle_model


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


def constant(value: np.ndarray) -> Callable[..., Any]:
    """An initializer that gives a value, of any shape with as many entries."""

    def initialize(shape: Any, dtype: Any = None) -> Any:
        return keras.ops.convert_to_tensor(np.ascontiguousarray(value).reshape(shape), dtype)

    return initialize


def itemsize(variable: Any) -> int:
    """Bytes of one number of a variable."""
    return dtype_size(keras.backend.standardize_dtype(variable.dtype)) // 8


def release(variables: Sequence[Any]) -> None:
    """Empty the memory of dead variables, and let go of the graphs that held them.

    TensorFlow keeps every abandoned train function's graph, and with it its variables,
    alive: the optimizer's all-reduce registers a gradient function for each graph, for
    good. An empty value frees the memory and makes stale use a loud error; without its
    entry in the registry, which only the gradient of a gradient would look up, the graph
    goes too. JAX frees the values itself, and keeps what it compiled for their shapes,
    for good: with the caches cleared, what is still in use is compiled once more.
    """
    if _backend.backend() == "jax":
        import jax  # noqa: PLC0415

        jax.clear_caches()
    if _backend.backend() != "tensorflow":
        return
    import tensorflow as tf  # noqa: PLC0415

    dead = [v.value for v in variables if hasattr(getattr(v, "value", None), "handle")]
    for value in dead:
        empty = tf.zeros([0] * len(value.shape), value.dtype)
        tf.raw_ops.AssignVariableOp(resource=value.handle, value=empty, validate_shape=False)
    _forget_gradients({id(value) for value in dead})


def _forget_gradients(dead: set[int]) -> None:
    from tensorflow.python.framework import ops as tf_ops  # noqa: PLC0415

    registry = tf_ops.gradient_registry._registry
    for name in [name for name in registry if name.startswith("CustomGradient-")]:
        graph = _graph_of(registry[name].get("type"))
        if graph is None:
            continue
        try:
            stale = any(id(variable) in dead for variable in graph.variables)
        except AssertionError:  # its variables are gone already
            stale = True
        if stale:
            del registry[name]


def _graph_of(gradient: Any) -> Any:
    """The graph whose tensors the gradient of an all-reduce holds, or `None`."""
    for cell in getattr(gradient, "__closure__", None) or ():
        inner = getattr(cell.cell_contents, "__closure__", None) or ()
        for nested in inner:
            tensors = nested.cell_contents
            if isinstance(tensors, list) and tensors and hasattr(tensors[0], "graph"):
                return tensors[0].graph
    return None


def host_value(variable: Any) -> np.ndarray:
    """A variable's value as a numpy array (any dtype, bfloat16 included)."""
    return np.asarray(keras.ops.convert_to_numpy(getattr(variable, "value", variable)))


def host_float(variable: Any) -> np.ndarray:
    """A variable's value as float32 or float64, for linear algebra on the host."""
    value = host_value(variable)
    return value if value.dtype in (np.float32, np.float64) else value.astype(np.float32)


# --- changing a model -----------------------------------------------------------------


@contextlib.contextmanager
def strategy_scope(model: Any) -> Iterator[None]:
    """The distribution scope a model's variables live in (nothing without one)."""
    strategy = getattr(model, "_distribute_strategy", None)
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        yield


def renew_functions(model: Any, *, training: bool) -> None:
    """Throw away compiled train, test and predict functions that hold dead variables.

    `compile()` inside a callback crashes `fit`, and `train_function = None` alone does
    too: while training, the function is made anew with `force=True`.
    """
    for inner in [layer for _, layer in walk(model) if isinstance(layer, keras.Model)]:
        _forget_functions(inner)
    had_train_function = getattr(model, "train_function", None) is not None
    _forget_functions(model)
    if training or had_train_function:
        model.make_train_function(force=True)
    _renew_torch_parameters(model)
    gc.collect(0)


def _forget_functions(model: Any) -> None:
    for name in ("train_function", "test_function", "predict_function"):
        if getattr(model, name, None) is not None:
            setattr(model, name, None)
    if hasattr(model, "_jax_state_synced"):
        model._jax_state_synced = True


def _renew_torch_parameters(model: Any) -> None:
    """Let torch's modules hold the variables that are there now (nothing elsewhere).

    Each layer, model and Sequential's hidden Functional keeps a dictionary of parameters
    of its own, made when it was built, by variable path. `zero_grad` goes by it: the
    gradients of variables that came later are never cleared, in silence, and dead ones
    are kept in memory.
    """
    if _backend.backend() != "torch":
        return
    layers = [model, *(layer for _, layer in walk(model))]
    modules = {id(module): module for layer in layers for module in layer.modules()}
    for module in modules.values():
        if isinstance(module, keras.Layer) and "_torch_params" in module._modules:
            module._track_variables()


def settle(model: Any) -> None:
    """Bring variables up to date where a backend keeps training state elsewhere (JAX)."""
    sync = getattr(model, "jax_state_sync", None)
    if sync is not None:
        sync()


def compiled_optimizer(model: Any) -> Any | None:
    """The optimizer of a compiled model, or `None`."""
    return getattr(model, "optimizer", None) if getattr(model, "compiled", False) else None


def output_layers(model: Any, calls: Sequence[Call] | None = None) -> list[Any]:
    """The last layers that hold a kernel on the way to each output of the model.

    Graph models are followed back from their outputs, through layers without a kernel
    (activations, dropout, merges). Of other models it is the layer called last, if
    `calls` (of `trace_calls`) tells, or the one defined last.
    """
    if not is_graph_model(model) or not getattr(model, "outputs", None):
        order = [call.layer for call in calls or ()] or [layer for _, layer in walk(model)]
        return [layer for layer in order if carries_kernel(layer)][-1:]
    found: list[Any] = []
    seen: set[int] = set()

    def back(tensor: Any) -> None:
        history = tensor._keras_history
        operation = history.operation
        if id(tensor) in seen:
            return
        seen.add(id(tensor))
        if carries_kernel(operation):
            found.append(operation)
        elif isinstance(operation, keras.Layer) and any(
            carries_kernel(layer) for _, layer in walk(operation)
        ):
            found.extend(output_layers(operation))
        elif operation._inbound_nodes:
            for source in operation._inbound_nodes[history.node_index].input_tensors:
                back(source)

    for tensor in keras.tree.flatten(model.outputs):
        back(tensor)
    return found


def carries_kernel(layer: Any) -> bool:
    """True if the layer itself holds a weight of two or more axes."""
    return isinstance(layer, keras.Layer) and any(
        len(variable.shape) > 1 for variable in own_variables(layer)
    )


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer in a forward pass: its input shape, and how often it is repeated.

    Cells of recurrent layers, and layers in TimeDistributed, are called once for each step
    of a sequence; `repeats` is `None` where its length is not known.
    """

    layer: Any
    shape: tuple[Any, ...]
    repeats: int | None


def trace_calls(model: Any, layers: Sequence[Any]) -> list[Call] | None:
    """The calls of `layers` in one forward pass, in order.

    Runs the model on symbolic inputs of batch size 1, without touching its graph; `None`
    where the input of the model is not known or it cannot be traced.
    """
    specs = _input_specs(model)
    if specs is None:
        return None
    steppers = (keras.layers.RNN, keras.layers.TimeDistributed)
    stepping = [layer for _, layer in walk(model) if isinstance(layer, steppers)]
    watched = list({id(layer): layer for layer in [*layers, *stepping]}.values())
    wanted = {id(layer) for layer in layers}
    calls: list[Call] = []
    frames: list[tuple[int | None, set[int]]] = []  # repeats, and what was called already

    def watch(layer: Any) -> Callable[..., Any]:
        original = layer.call
        steps = isinstance(layer, steppers)

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            inputs = args[0] if args else next(iter(kwargs.values()))
            shape = tuple(keras.tree.flatten(inputs)[0].shape)
            if id(layer) in wanted and not (frames and id(layer) in frames[-1][1]):
                calls.append(Call(layer, shape, frames[-1][0] if frames else 1))
                if frames:
                    frames[-1][1].add(id(layer))
            if not steps:
                return original(*args, **kwargs)
            outer = frames[-1][0] if frames else 1
            unknown = outer is None or shape[1] is None
            frames.append((None if unknown else outer * shape[1], set()))
            try:
                return original(*args, **kwargs)
            finally:
                frames.pop()

        return call

    try:
        for layer in watched:
            layer.__dict__["call"] = watch(layer)
        _backend.compute_output_spec(lambda x: model(x, training=False), specs)
    except Exception:  # any user code may refuse to be traced; sizes are then unknown
        return None
    finally:
        for layer in watched:
            layer.__dict__.pop("call", None)
    return calls


def _input_specs(model: Any) -> Any | None:
    if is_graph_model(model) and getattr(model, "inputs", None):
        struct = getattr(model, "_inputs_struct", None)
        struct = model.inputs if struct is None else struct
        if isinstance(model, keras.Sequential):
            struct = model.inputs[0]
        return keras.tree.map_structure(
            lambda t: keras.KerasTensor((1, *t.shape[1:]), dtype=t.dtype), struct
        )
    shapes = getattr(model, "_build_shapes_dict", None)
    if not shapes or len(shapes) != 1:
        return None
    (shape,) = shapes.values()
    if not isinstance(shape, (tuple, list)) or not all(
        isinstance(size, int) or size is None for size in shape
    ):
        return None
    return keras.KerasTensor((1, *shape[1:]), dtype=model.input_dtype)


def known_inputs(model: Any) -> list[tuple[Any, ...]] | None:
    """Shapes of the inputs of a model, flat, the batch axis first; `None` where not known."""
    specs = _input_specs(model)
    if specs is None:
        return None
    return [(None, *spec.shape[1:]) for spec in keras.tree.flatten(specs)]


# --- watching data pass ---------------------------------------------------------------


@contextlib.contextmanager
def tapped(
    layers: Sequence[Any], tell: Callable[[Any, Any, Any], None], *, watch: Any = None
) -> Iterator[None]:
    """Within it, every eager call of a layer is told: the layer, its input, its output.

    Calls without values, as in loops that TensorFlow traces, are not. The output is the one
    before the layer's activation. Keras has no hooks on a layer's call; attributes of the
    object shadow the method, whatever graph holds the layer.

    Args:
        layers: The layers.
        tell: Called after each call of one of them.
        watch: A gradient tape, to watch the outputs.
    """

    def listen(layer: Any) -> None:
        original, activation = layer.call, getattr(layer, "activation", None)
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
            inputs = args[0] if args else next(iter(kwargs.values()))
            if any(map(_is_symbolic, keras.tree.flatten(inputs))):
                return original(*args, **kwargs)
            raw.clear()
            result = original(*args, **kwargs)
            tell(layer, inputs, raw[-1] if raw else _watched(result))
            return result

        layer.__dict__["call"] = call
        if activation is not None:
            layer.__dict__["activation"] = activated
            undo.append((layer, activation))

    undo: list[tuple[Any, Any]] = []
    try:
        for layer in layers:
            listen(layer)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("call", None)
        for layer, activation in undo:
            layer.__dict__["activation"] = activation


def compiled(layer: Any, *args: Any, **kwargs: Any) -> Callable[[], Any]:
    """A function that calls a layer, as a compiled model would, and waits for the answer.

    Keras has no public way to compile a single call; its models do it each in their way.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf  # noqa: PLC0415 (of this backend only)

        function = tf.function(lambda *x: layer(*x, **kwargs), autograph=False)
        return lambda: function(*args)
    if backend == "jax":
        import jax  # noqa: PLC0415

        function = jax.jit(lambda *x: layer(*x, **kwargs))
        return lambda: jax.block_until_ready(function(*args))
    import torch  # noqa: PLC0415

    def call() -> Any:
        with torch.no_grad():
            return layer(*args, **kwargs)

    return call


def _is_symbolic(tensor: Any) -> bool:
    """True within a function or a loop that is being traced, where a tensor has no value."""
    if isinstance(tensor, keras.KerasTensor):
        return True
    if _backend.backend() != "tensorflow":
        return False
    import tensorflow as tf  # noqa: PLC0415

    return tf.is_symbolic_tensor(tensor)


def output_gradients(model: Any, layers: Sequence[Any], batch: Any) -> list[tuple[Any, Any, Any]]:
    """Every call of the layers on one batch: layer, input, gradient of the loss by its output.

    The gradient is that of a sample's own loss, before the layer's activation; `None`
    where the loss does not depend on it. TensorFlow only. Metrics stay as they are.

    Args:
        model: A compiled model.
        layers: The layers.
        batch: Inputs, targets and sample weights (or `None`).
    """
    import tensorflow as tf  # noqa: PLC0415

    x, y, weight = batch
    kept = [(v, host_value(v)) for v in model.metrics_variables]
    calls: list[tuple[Any, Any, Any]] = []
    with tf.GradientTape() as tape:
        with tapped(layers, lambda *call: calls.append(call), watch=tape):
            predicted = model(x, training=False)
        loss = model.compute_loss(x=x, y=y, y_pred=predicted, sample_weight=weight, training=False)
        loss = loss * len(keras.tree.flatten(x)[0])  # the mean over the batch, undone
    gradients = tape.gradient(loss, [output for _, _, output in calls])
    for variable, value in kept:
        variable.assign(value)
    return [(layer, x, g) for (layer, x, _), g in zip(calls, gradients, strict=True)]


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
    if getattr(model, "_distribute_strategy", None) is not None:
        return None
    import tensorflow as tf  # noqa: PLC0415

    def restore() -> None:
        if model.train_function is shown:
            model.train_function = original

    def shown(iterator: Any) -> Any:
        batches = [next(iterator)]
        while len(batches) < model.steps_per_execution:
            more = next(iterator, None)
            if more is None:
                break
            batches.append(more)
        replay = tf.data.Dataset.from_tensors(batches[0])
        for batch in batches[1:]:
            replay = replay.concatenate(tf.data.Dataset.from_tensors(batch))
        variant = tf.data.experimental.to_variant(replay)
        same = tf.data.experimental.from_variant(variant, structure=iterator.element_spec)
        if not all(take(batch) for batch in batches):
            restore()
        return original(iter(same))

    model.train_function = shown
    return restore


def logged_metrics(model: Any) -> dict[str, str | None]:
    """The metrics that a compiled model puts into the logs of training.

    With several outputs, before a first step, some that will not be there as well. Keras
    itself names them only after a step.

    Returns:
        By name: `"up"`, `"down"` or `None` where nobody knows; nothing at all for a model
        whose own `train_step` may log what it likes.
    """
    if type(model).train_step is not keras.Model.train_step or not model.compiled:
        return {}
    compiled = model._compile_metrics
    own = [] if compiled is None else [compiled._user_metrics, compiled._user_weighted_metrics]
    metrics = [m for m in keras.tree.flatten(own) if m is not None]
    named = dict(map(_name_and_direction, metrics))
    others = [m for m in model.metrics if m is not compiled]
    named |= {m.name: getattr(m, "_direction", None) for m in others}
    outputs = getattr(model, "output_names", None) or []
    if len(outputs) > 1:
        named |= {f"{output}_{name}": named[name] for name in list(named) for output in outputs}
        named |= {f"{output}_loss": "down" for output in outputs}
    return {"loss": "down"} | named | {"loss": "down"}


def _name_and_direction(metric: Any) -> tuple[str, str | None]:
    if metric in ("accuracy", "acc"):
        return metric, "up"
    if metric in ("crossentropy", "ce"):
        return metric, "down"
    found = keras.metrics.get(metric)
    name = metric if isinstance(metric, str) else get_object_name(found)
    return name, getattr(found, "_direction", None)


# --- changing an optimizer ------------------------------------------------------------


def inner_optimizers(optimizer: Any) -> list[Any]:
    """The optimizers a wrapper (LossScaleOptimizer, MultiOptimizer) drives."""
    inner = getattr(optimizer, "inner_optimizer", None)
    return [inner] if inner is not None else list(getattr(optimizer, "_inner_optimizers", []))


def all_optimizers(optimizer: Any) -> list[Any]:
    """An optimizer and all that it wraps."""
    inner = [o for one in inner_optimizers(optimizer) for o in all_optimizers(one)]
    return [optimizer, *inner]


def slots(optimizer: Any) -> dict[str, list[Any]]:
    """An optimizer's slot lists by attribute: one entry for each trainable variable."""
    count = len(optimizer._trainable_variables)
    return {
        name: list(value)
        for name, value in vars(optimizer).items()
        if isinstance(value, (list, tuple))
        and name not in ("_variables", "_trainable_variables", "_inner_optimizers")
        and count
        and len(value) == count
        and all(item is None or isinstance(item, keras.Variable) for item in value)
        and any(item is not None for item in value)
    }


def trainable_of(optimizer: Any) -> list[Any]:
    """The variables an optimizer was built on, in its order."""
    return list(optimizer._trainable_variables)


def timeless_state(optimizer: Any) -> Iterator[tuple[str, Any]]:
    """All variables of an optimizer and of those it wraps, but step counts and learning rates.

    Each with a name for its place: the paths of some (Adafactor's, Nadam's) depend on
    where the optimizer was built, and wrappers name those of the inner optimizers twice.

    Yields:
        Name and variable.
    """
    for number, each in enumerate(all_optimizers(optimizer)):
        for attribute, values in slots(each).items():
            for of, value in zip(each._trainable_variables, values, strict=True):
                if value is not None:
                    yield f"{number}/{attribute}/{of.path}", value
        for attribute, value in vars(each).items():
            if isinstance(value, keras.Variable) and attribute not in _CLOCKS:
                yield f"{number}/{attribute}", value


def unbuild(optimizer: Any) -> Callable[[], None]:
    """Empty an optimizer's bookkeeping in place, so that `build` may run once more.

    Keeps the object, `iterations` and the learning-rate variable, which callbacks and
    schedules hold. The answer restores scalar state (`Nadam`'s, the loss scale) after
    the new build.
    """
    scalars = {
        name: host_value(value)
        for name, value in vars(optimizer).items()
        if isinstance(value, keras.Variable) and name not in _CLOCKS
    }
    keep_ids = {id(optimizer._iterations), id(getattr(optimizer, "_learning_rate", None))}
    kept = [v for v in optimizer._variables if id(v) in keep_ids]
    test, _ = optimizer._tracker.config["variables"]
    with DotNotTrackScope():
        optimizer._variables = kept
        optimizer._trainable_variables = []
        optimizer._trainable_variables_indices = {}
        optimizer.built = False
    optimizer._tracker.config["variables"] = (test, optimizer._variables)
    optimizer._tracker.stored_ids["variables"] = {id(v) for v in kept}

    def restore_scalars() -> None:
        for name, value in scalars.items():
            getattr(optimizer, name).assign(value)

    return restore_scalars


@contextlib.contextmanager
def same_inner_optimizers(optimizer: Any, replaced: Sequence[tuple[Any, Sequence[Any]]]) -> Any:
    """Within it, a MultiOptimizer gives every variable the optimizer it had.

    Its own map may be a function that makes a new optimizer at each call, which would
    lose all state when the optimizer is built again. Other optimizers are left alone.
    """
    if not hasattr(optimizer, "_var_to_optimizer_idx"):
        yield
        return
    inner = list(optimizer._inner_optimizers)
    chosen = {
        id(v): inner[optimizer._var_to_optimizer_idx[optimizer._var_key(v)]]
        for v in optimizer._trainable_variables
    }
    for old, new in replaced:
        if id(old) in chosen:
            chosen.update({id(v): chosen[id(old)] for v in new})
    original = optimizer._optimizer_map
    optimizer.__dict__["_optimizer_map"] = lambda v: chosen.get(id(v)) or original(v)
    try:
        yield
    finally:
        optimizer.__dict__["_optimizer_map"] = original


def build_scope(optimizer: Any) -> contextlib.AbstractContextManager[Any]:
    """The name scope a built optimizer was built in, for the next `build`: paths stay.

    A wrapper opens one for the optimizer inside at a first step, and none where Keras
    builds it before that (JAX, torch, any MultiOptimizer): its slots' paths tell.
    """
    inner = [slot for one in all_optimizers(optimizer)[1:] for slot in _all_slots(one)]
    if any(variable.path.startswith(f"{optimizer.name}/") for variable in inner):
        return _backend.name_scope(optimizer.name, caller=optimizer)
    return contextlib.nullcontext()


def _all_slots(optimizer: Any) -> list[Any]:
    return [slot for each in slots(optimizer).values() for slot in each if slot is not None]


def remap_weight_decay_exclusions(
    optimizer: Any, replaced: Sequence[tuple[Any, Sequence[Any]]]
) -> None:
    """Let factors inherit a kernel's exclusion from weight decay.

    Keras keeps the keys of excluded variables, which say nothing of new ones.
    """
    for inner in inner_optimizers(optimizer):
        remap_weight_decay_exclusions(inner, replaced)
    excluded = getattr(optimizer, "_exclude_from_weight_decay", None)
    if excluded:
        before = set(excluded)
        after = set(before)
        for old, new in replaced:
            if optimizer._var_key(old) in before:
                after.discard(optimizer._var_key(old))
                after.update(optimizer._var_key(variable) for variable in new)
        optimizer._exclude_from_weight_decay = type(excluded)(after)
    if hasattr(optimizer, "_exclude_from_weight_decay_cache"):
        optimizer._exclude_from_weight_decay_cache = {}


# --- copying a model ------------------------------------------------------------------


def runs_its_graph(layer: Any) -> bool:
    """True for Sequential and Functional models that compute their graph and no more."""
    return type(layer).call in (keras.Sequential.call, Functional.call)


def rerun_graph(model: Any, call: Callable[..., Any]) -> tuple[Any, Any]:
    """Run the graph of a Functional model on fresh inputs, each operation through `call`.

    The public `clone_model` takes no function for the calls in a Sequential model, shares
    no layer between a model and another one nested in it, and compiles what it makes.

    Returns:
        The inputs and outputs of the new graph, in the structure of the model's.
    """
    inputs = keras.tree.map_structure(_fresh_input, model._inputs_struct)

    def call_operation(operation: Any, *args: Any, **kwargs: Any) -> Any:
        return call(operation, *args, **kwargs)

    return inputs, model._run_through_graph(inputs, call_fn=call_operation)


def _fresh_input(tensor: Any) -> Any:
    source = tensor._keras_history.operation
    return type(source).from_config(source.get_config()).output


def fresh_input_layers(model: Any) -> list[Any]:
    """An input layer like that of a Sequential model, whose `layers` leave it out."""
    first = model._layers[0]
    is_input = isinstance(first, keras.layers.InputLayer)
    return [type(first).from_config(first.get_config())] if is_input else []


def copy_state(source: Any, target: Any) -> None:
    """Give a built copy of a layer the state of the original: variables, vocabularies.

    `set_weights` leaves the state of random numbers out, and what layers derive from
    their weights when they load them (`Normalization`).
    """
    for old, new in zip(source.variables, target.variables, strict=True):
        new.assign(old)
    pairs = zip([source, *_below(source)], [target, *_below(target)], strict=True)
    for old, new in pairs:
        store: dict[str, Any] = {}
        old.save_own_variables(store)
        new.load_own_variables(store)
        if hasattr(old, "save_assets"):
            with tempfile.TemporaryDirectory() as folder:
                old.save_assets(folder)
                new.load_assets(folder)


def _below(layer: Any) -> list[Any]:
    return [inner for _, inner in walk(layer)]


# --- weights files --------------------------------------------------------------------

_PLACE = "place_among_siblings"


def note_place(store: Any, layer: Any, dense_class: type) -> None:
    """Note in a weights file how many layers of its kind come before a low-rank layer.

    Keras keys the layers of a list by class name and a count for each class, which does not
    tell where among dense layers a low-rank one stands. Layers of its kind are those of
    its class and of `dense_class`; Keras has written those before it in the list already.
    Only where a store is one HDF5 file can they be counted.
    """
    if type(store) is not _saving_lib.H5IOStore:
        return
    folder, _, own = store._h5_entry_path.rpartition("/")
    kinds = "|".join(to_snake_case(kind.__name__) for kind in (type(layer), dense_class))
    before = [name for name in store.h5_file[folder or "/"] if name != own]
    count = sum(re.fullmatch(rf"({kinds})(_\d+)?", name) is not None for name in before)
    store._h5_entry_group.attrs[_PLACE] = count


@dataclass(frozen=True)
class StoredVariables:
    """What a weights file holds of one layer.

    Args:
        shapes: Key -> shape.
        place: What `note_place` has noted; `None` for layers that are not low-rank.
    """

    shapes: dict[str, tuple[int, ...]]
    place: int | None


def stored_variables(path: Any) -> dict[str, StoredVariables]:
    """What a weights file holds, by the path of each layer in it.

    Raises:
        OSError: It is no HDF5 file, or cannot be read.
        ValueError: The file refers to others, or holds what is no array of numbers.
    """
    found: dict[str, StoredVariables] = {}

    def visit(name: str, item: Any) -> None:
        folder, _, last = name.rpartition("/")
        if last != "vars" or hasattr(item, "shape"):
            return
        datasets = {key: _saving_lib.safe_get_h5_dataset(item, key) for key in item}
        for key, dataset in datasets.items():
            if dataset.dtype.kind in "OSU":
                raise ValueError(f"{name}/{key} holds {dataset.dtype}, not numbers")
        place = item.attrs.get(_PLACE)
        shapes = {key: tuple(dataset.shape) for key, dataset in datasets.items()}
        found[folder] = StoredVariables(shapes, None if place is None else int(place))

    store = _saving_lib.H5IOStore(str(path))
    try:
        store.h5_file.visititems(visit)
    finally:
        store.close()
    return found


def snake_case(class_name: str) -> str:
    """A class name as Keras writes it in weights files and automatic layer names."""
    return to_snake_case(class_name)


def walk_state(
    model: Any, class_name: Callable[[Any, str, str | None], str]
) -> Iterator[tuple[str, Any]]:
    """Whatever of a model Keras saves variables of, in its order, with its path in the file.

    Keras walks through a model only to save or to load it, and only under the paths that
    the present classes of its layers give.

    Args:
        model: A built model.
        class_name: Called for each member of a list with the member, the path of the list, and
            the path where it was met before, if it was: the name of its class in the file.
    """
    met: dict[int, str] = {}

    def visit(saveable: Any, path: str) -> Iterator[tuple[str, Any]]:
        if id(saveable) in met:
            return
        met[id(saveable)] = path
        if hasattr(saveable, "save_own_variables"):
            yield path, saveable
        for name, child in _saving_lib._walk_saveable(saveable):
            below = f"{path}/{name}" if path else name
            if isinstance(child, KerasSaveable):
                yield from visit(child, below)
            elif isinstance(child, (list, dict, tuple)):
                yield from members(child, below, set())

    def members(container: Any, path: str, entered: set[int]) -> Iterator[tuple[str, Any]]:
        if id(container) in entered:
            return
        entered.add(id(container))
        used: dict[str, int] = {}
        for child in container.values() if isinstance(container, dict) else container:
            if isinstance(child, KerasSaveable):
                name = to_snake_case(class_name(child, path, met.get(id(child))))
                name = _saving_lib._get_unique_name(name, used)
                yield from visit(child, f"{path}/{name}")
            elif isinstance(child, (list, dict, tuple)):
                name = _saving_lib._get_unique_name("container", used)
                yield from members(child, f"{path}/{name}", entered)

    return visit(model, "")
