"""Find the layers of a model."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.models.functional import Functional, functional_like_constructor
from keras.src.utils.naming import to_snake_case


def is_graph_model(layer: Any) -> bool:
    """True for Sequential and Functional models, whose children carry saved names."""
    return isinstance(layer, keras.Sequential) or hasattr(layer, "operations")


def has_graph(model: Any) -> bool:
    """True for a graph model whose graph is there, so that it tells its inputs and outputs.

    A Sequential model has none before it is built, nor if a layer in it cannot be called without
    data: it calls its layers one after the other then.
    """
    return is_graph_model(model) and bool(getattr(model, "inputs", None))


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


def makes_layers_beside(model: Any) -> bool:
    """True if a Functional model has an `__init__` of its own, and layers beside its graph.

    What is made from its configuration has them anew, if that `__init__` makes them.
    """
    own = itertools.takewhile(lambda kind: kind is not Functional, type(model).__mro__)
    return bool(_beside_graph(model)) and any("__init__" in vars(kind) for kind in own)


def children(layer: Any, *, saved_names: bool = True, beside: bool = True) -> list[tuple[str, Any]]:
    """Direct sublayers as `(name, layer)`, in Keras's own order.

    The name is the child's own name in Sequential and Functional models (it is saved
    with them, if `saved_names`) and the attribute that holds it elsewhere (`"blocks/0"`,
    `"query_dense"`): automatic layer names count up within a process and would not
    survive a reload. Where names are not saved, an automatic one gives its stem only.
    No public way lists the sublayers of a plain layer, nor those that a Functional model
    holds `beside` its graph, which come last.
    """
    if not is_graph_model(layer):
        return _by_attribute(layer, [each for each in layer._layers if _is_layer(each)])
    in_graph = [(c.name if saved_names else _stable_name(c), c) for c in layer.layers]
    return in_graph + (_by_attribute(layer, _beside_graph(layer)) if beside else [])


def _is_layer(thing: Any) -> bool:
    return isinstance(thing, keras.Layer)


def _by_attribute(layer: Any, held: list[Any]) -> list[tuple[str, Any]]:
    names = _attribute_names(layer) if held else {}
    return [(names.get(id(child)) or _stable_name(child), child) for child in held]


def _beside_graph(model: Any) -> list[Any]:
    """The layers that a Functional model holds in attributes, and its graph does not call.

    Keras trains, counts and saves them as it does those of its graph. Of a Sequential model it
    trains none but those in its stack.
    """
    if isinstance(model, keras.Sequential) or not is_graph_model(model):
        return []
    called = {id(each) for each in model.operations}
    return [each for each in model._layers if _is_layer(each) and id(each) not in called]


def _stable_name(layer: Any) -> str:
    """The name of a layer, without the number that Keras gave it by itself."""
    return automatic_stem(layer) or layer.name


def automatic_stem(layer: Any) -> str | None:
    """What all automatic names of layers like this one begin with; `None` if its is chosen."""
    kinds = {to_snake_case(kind.__name__) for kind in type(layer).__mro__}
    name: str = layer.name
    stem, _, count = name.rpartition("_")
    if count.isdigit() and stem in kinds:
        return stem
    return name if name in kinds else None


def walk(model: Any) -> Iterator[tuple[str, Any]]:
    """Every layer below `model` with its path, each once, parents before children.

    The same model has the same paths in every process.
    """
    return ((path, layer) for path, layer, _ in _found_below(model))


def beside_graphs(model: Any) -> dict[str, Any]:
    """Those of `walk` that a Functional model holds beside its graph, and what is below them.

    What is made from its configuration alone has none of them.
    """
    return {path: layer for path, layer, beside in _found_below(model) if beside}


def _found_below(model: Any) -> Iterator[tuple[str, Any, bool]]:
    seen: set[int] = {id(model)}

    def visit(
        layer: Any, prefix: str, saved_names: bool, aside: bool
    ) -> Iterator[tuple[str, Any, bool]]:
        used: set[str] = set()
        saved_names = saved_names and saves_its_layers(layer)
        beside = {id(each) for each in _beside_graph(layer)}
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
            is_beside = id(child) in beside
            yield path, child, aside or is_beside
            yield from visit(child, path, saved_names and not is_beside, aside or is_beside)

    yield from visit(model, "", True, False)


def models_in(model: Any) -> list[Any]:
    """A model, and all models below it, each of which may be trained and evaluated alone."""
    return [model, *(layer for _, layer in walk(model) if isinstance(layer, keras.Model))]


def has_weights(model: Any) -> bool:
    """True once a model, or parts of it, have their weights.

    Keras sets `built` when the model itself is called; one whose `train_step` calls only its
    parts never is.
    """
    return bool(model.built or model.weights)


@contextlib.contextmanager
def seen_as_built(model: Any) -> Iterator[None]:
    """Within it, Keras does with a model whose parts have weights what it does with a built one."""
    built = model.built
    model.built = True
    try:
        yield
    finally:
        model.built = built


def unbuilt_parts(model: Any) -> list[str]:
    """Paths of the parts of a model that have no weights yet but may get some; of itself, "".

    A model that is not built has itself for a part as long as no part of it is. Tables of words
    never get any, and Keras does not always say that they are built.
    """
    layers = [(path, layer) for path, layer in walk(model) if not isinstance(layer, _LOOKUPS)]
    found = [path for path, layer in layers if not layer.built and not _is_made_of_built(layer)]
    return found if found or has_weights(model) else [""]


_LOOKUPS = (keras.layers.StringLookup, keras.layers.IntegerLookup)


def _is_made_of_built(layer: Any) -> bool:
    """True for what is not built itself but holds layers, all of which are."""
    below = children(layer)
    return bool(below) and all(c.built or _is_made_of_built(c) for _, c in below)


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
