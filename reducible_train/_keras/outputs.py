"""Find the layers that give a model its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras

from reducible_train._keras.calls import Call
from reducible_train._keras.layer_tree import beside_graphs, has_graph, is_graph_model, walk
from reducible_train._keras.tracking import own_variables

# How an operation of a TensorFlow graph begins that multiplies data with a kernel, or looks rows
# of it up; a loop does so within. All others (sums, shapes, activations) pass data on.
_CONTRACTIONS = ("MatMul", "BatchMatMul", "Einsum", "Conv", "DepthwiseConv", "Gather", "While")
_LOOPS = ("While", "StatelessWhile")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall", "If", "StatelessIf", "Case")
_SIZES = ("Shape", "ShapeN", "Rank", "Size")


class Outputs:
    """Which layers give a model its outputs: the last that hold a kernel on the way to each.

    Found by the data, back from the outputs of a traced call, through whatever holds no kernel
    (activations, merges, attention): so the code of a layer may call its sublayers in any order,
    and a table that makes logits outside of its layer counts. What a residual stream carries past
    a later layer is not last. Where there is no such trace (a
    backend other than TensorFlow, a model that cannot be traced) graph models are followed from
    layer to layer; of others it is the layer called last, or the one defined last.

    Args:
        model: The model.
        data: Shapes of one sample of what the model is fed; none if they are not known.

    Attributes:
        notes: What a reader of a report should know of them.
    """

    def __init__(self, model: Any, data: Iterable[tuple[int, ...]] = ()):
        self._model = model
        self._data = set(data)
        self.notes: tuple[str, ...] = ()
        self._traced: list[Any] | None = None

    def look(self, outputs: Any) -> None:
        """Take a look at what a symbolic call of the model gives, while its graph is there."""
        tensors = [t for t in keras.tree.flatten(outputs) if hasattr(t, "op")]
        self._traced = _makers(self._model, tensors) if tensors else None

    def layers(self, calls: Sequence[Call] | None) -> dict[int, str]:
        """By id of the layer, what is said of it."""
        if self._traced is not None:
            return {id(layer): "output layer" for layer in self._traced}
        if calls is None and not is_graph_model(self._model):
            return self._of_parts()
        return {id(layer): "output layer" for layer in output_layers(self._model, calls)}

    def _of_parts(self) -> dict[int, str]:
        """Of a model whose call is not known: of each of its models, as what it gives may leave it.

        Not of one whose output a later one takes, by its shape. A model of no models has its last
        layer taken.
        """
        parts = [
            (path, part)
            for path, part in walk(self._model)
            if isinstance(part, keras.Model)
            and "/" not in path
            and any(carries_kernel(layer) for _, layer in walk(part))
        ]
        if not parts:
            told = "taken for the output layer, as the last defined, since no call can be traced"
            return {id(layer): told for layer in output_layers(self._model)}
        within = dict(self._within(parts))
        self.notes = tuple(
            f"The output of '{path}' is taken for the input of '{reader}', which has its shape, as "
            "no data has, so its last layers count as hidden ones; a rule with keep_dense=True "
            "keeps them."
            for path, reader in within.items()
        )
        return {
            id(layer): f"output layer of '{path}', whose output may leave the model: no call of "
            "the whole model can be traced"
            for path, part in parts
            if path not in within
            for layer in output_layers(part)
        }

    def _within(self, parts: Sequence[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
        """Parts that only make what another part reads, by their shapes, with the path of that.

        What has the shape of data may be what the model is for, as the output of a generator.
        """
        for path, part in parts:
            made = set(_shapes(getattr(part, "outputs", None)))
            readers = [
                other
                for other, each in parts
                if each is not part and made <= set(_shapes(getattr(each, "inputs", None)))
            ]
            if self._data and made and readers and not made & self._data:
                yield path, readers[0]


def _shapes(tensors: Any) -> list[tuple[int | None, ...]]:
    """Shapes of one sample of symbolic tensors."""
    return [tuple(each.shape[1:]) for each in keras.tree.flatten(tensors or [])]


def output_layers(model: Any, calls: Sequence[Call] | None = None) -> list[Any]:
    """The last layers that hold a kernel on the way to each output, by graph or order alone.

    Args:
        model: A model, or a layer of one.
        calls: What `trace_calls` gives, of it or of a model that it is a part of.
    """
    if not _gives_of_its_graph(model, calls):
        below = [model, *(layer for _, layer in walk(model))]
        known = {id(layer) for layer in below}
        order = [call.layer for call in calls or () if id(call.layer) in known] or below
        return [layer for layer in order if carries_kernel(layer)][-1:]
    found: list[Any] = []
    for output in keras.tree.flatten(model.outputs):
        for tensor in _last_makers(output, _inputs_of, _has_kernel):
            layer = tensor._keras_history.operation
            found += [layer] if carries_kernel(layer) else output_layers(layer, calls)
    return list({id(layer): layer for layer in found}.values())


def _gives_of_its_graph(model: Any, calls: Sequence[Call] | None) -> bool:
    """True for a graph model whose own code calls nothing beside its graph, as far as is known."""
    if not has_graph(model):
        return False
    beside = {id(layer) for layer in beside_graphs(model).values()}
    return all(id(call.layer) not in beside for call in calls or ())


def _inputs_of(tensor: Any) -> Sequence[Any]:
    """The tensors that a tensor of a graph was made of; none for an input."""
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index].input_tensors if operation._inbound_nodes else ()


def _has_kernel(tensor: Any) -> bool:
    """True if what made a tensor of a graph holds a kernel, in itself or below."""
    layer = tensor._keras_history.operation
    below = [each for _, each in walk(layer)] if isinstance(layer, keras.Layer) else []
    return any(carries_kernel(each) for each in (layer, *below))


def _last_makers(
    output: Any, sources: Callable[[Any], Iterable[Any]], makers: Callable[[Any], Any]
) -> list[Any]:
    """The nodes of a graph that hold a kernel and have no other such between them and an output.

    What a residual stream carries past a later one is not among them.

    Args:
        output: A node.
        sources: From a node to those that it is made of.
        makers: What of a node holds a kernel, if anything does.
    """
    found: list[Any] = []

    def back(todo: list[Any], stops: Callable[[Any], Any]) -> set[int]:
        seen: set[int] = set()
        while todo:
            node = todo.pop()
            if id(node) not in seen:
                seen.add(id(node))
                if stops(node):
                    found.append(node)
                else:
                    todo += sources(node)
        return seen

    back([output], makers)
    if len(found) < 2:
        return found
    before = back([source for node in found for source in sources(node)], lambda node: False)
    return [node for node in found if id(node) not in before]


def carries_kernel(layer: Any) -> bool:
    """True if the layer itself holds a weight of two or more axes."""
    return isinstance(layer, keras.Layer) and any(
        len(variable.shape) > 1 for variable in own_variables(layer)
    )


# --- in a graph of TensorFlow -----------------------------------------------------------------


class _UnseenError(Exception):
    """What an operation multiplies data with is not certain."""


def _makers(model: Any, outputs: Sequence[Any]) -> list[Any] | None:
    """The layers whose kernels the outputs were last multiplied with; `None` if not certain."""
    owners = _owners(model)
    graph = outputs[0].graph
    held = {
        id(inside.op): {id(outside)} if outside.dtype.name == "resource" else set()
        for outside, inside in graph.captures  # a variable's handle, or a constant
    }
    fed, weights = _origins(graph, held)

    def sources(op: Any) -> list[Any]:
        inputs = [each.op for each in op.inputs]
        return [each for each in inputs if id(each) in fed and each.type not in _SIZES]

    def makers(op: Any) -> list[Any]:
        inputs = [id(each.op) for each in op.inputs]
        multiplied = [handle for each in inputs for handle in weights.get(each, ())]
        contracts = op.type.startswith((*_CONTRACTIONS, *_LOOPS, *_CALLS))
        if contracts and any(handle not in owners for handle in multiplied):
            raise _UnseenError  # by a variable that is no weight of a layer
        found = [layer for handle in multiplied for layer in owners.get(handle, ())]
        if op.type in _CALLS and (not found or any(held.get(each) for each in inputs)):
            raise _UnseenError  # what happens within is not seen
        return found if contracts else []

    ends = [each.op for each in outputs if id(each.op) in fed and each.op.type not in _SIZES]
    try:
        last = [op for end in ends for op in _last_makers(end, sources, makers)]
    except _UnseenError:
        return None
    return list({id(layer): layer for op in last for layer in makers(op)}.values())


def _owners(model: Any) -> dict[int, list[Any]]:
    """By what graphs hold a weight by, the layer that it is a kernel of; none for a bias."""
    owners: dict[int, list[Any]] = {}
    for layer in [model, *(layer for _, layer in walk(model))]:
        for variable in own_variables(layer):
            for handle in _handles(variable):
                own = [layer] if len(variable.shape) > 1 else []
                owners.setdefault(id(handle), []).extend(own)
    return owners


def _handles(variable: Any) -> list[Any]:
    """What graphs hold a variable by; of one that a strategy mirrors, one for each device."""
    value = getattr(variable, "_value", None)
    copies = getattr(value, "values", None)
    held = copies if isinstance(copies, tuple) else (value,)
    return [each.handle for each in held if hasattr(each, "handle")]


def _origins(graph: Any, held: dict[int, set[int]]) -> tuple[set[int], dict[int, set[int]]]:
    """Ids of the operations that data reaches; of all others, the variables they come from."""
    fed: set[int] = set()
    weights = dict(held)
    for op in graph.get_operations():  # in the order they were made in
        key, sources = id(op), [id(each.op) for each in op.inputs]
        if key in held:
            continue
        if op.type == "Placeholder" or any(source in fed for source in sources):
            fed.add(key)
        else:
            weights[key] = set().union(*(weights.get(source, set()) for source in sources))
    return fed, weights
