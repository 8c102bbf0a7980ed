"""A factorised model in stock Keras layers only, for where this package is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from reducible_train import _keras
from reducible_train.errors import SurgeryError
from reducible_train.layers import LowRank, StockLayer
from reducible_train.surgery.merge import check_built
from reducible_train.surgery.rebuild import carried_class


def to_stock_layers(model: Any) -> Any:
    """Make a new model of stock Keras layers, as small and as fast as the factorised one.

    Use it to hand a model to a process in which this package is not installed. Each
    factorised layer becomes two: a `Dense` with kernel `U (m, r) V (r, n)` becomes
    `Dense(r, use_bias=False, name="<name>_u")`, then `Dense(n, name="<name>")`:

        (x U) V + b

    A convolution becomes two convolutions, an `EinsumDense` two of its kind, an `Embedding`
    one and a `Dense`. Other layers are copied. Sequential and Functional models, nested and
    with shared layers, keep their structure and what they compute, to round-off. The new
    model is not compiled. A `kernel_regularizer` stays behind, since no stock layer can
    regularize a product, and so does a `train_step` or `test_step` of the model's own, with the
    layers that a Functional model holds for it beside its graph.

    Args:
        model: A built Sequential or Functional model.

    Returns:
        The new model; the one given stays as it is and shares nothing with it.

    Raises:
        SurgeryError: The model is not built; a factorised layer stands where no two can
            take its place (in a subclassed model, in a layer that makes its own layers,
            in a recurrent cell, in a Sequential model that Keras can build no graph of); a layer
            cannot be copied; or the model has a `predict` or a `predict_step` of its own, or a
            layer whose `call` was replaced.

    Example:
        >>> import keras
        >>> from reducible_train import factorize
        >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, name="hidden"),
        ...                           keras.layers.Dense(10, name="output")])
        >>> _ = factorize(model, rank=8)
        >>> [(layer.name, layer.units) for layer in to_stock_layers(model).layers]
        [('hidden_u', 8), ('hidden', 64), ('output', 10)]
    """
    check_built(model)
    reasons = list(_reasons(model, ""))
    if reasons:
        raise SurgeryError(
            f"Model '{model.name}' has factorised layers that cannot be written as stock Keras "
            f"layers: {'; '.join(reasons)}. Expected them as layers of Sequential and Functional "
            "models. To load it without this package, multiply the factors out with "
            "reducible_train.merge(model), which makes it as large as it was, or export it: "
            "model.export keeps the factors."
        )
    if _keras.has_own_predictions(model):
        is_stack = isinstance(model, keras.Sequential)
        ends = "inputs[0], model.outputs[0]" if is_stack else "input, model.output"
        raise SurgeryError(
            f"Model '{model.name}' must predict what its layers give. Received: a "
            f"{type(model).__name__} with a predict or predict_step of its own, which no stock "
            f"model has. Write its layers alone, with to_stock_layers(keras.Model(model.{ends})), "
            "and do the rest there."
        )
    replaced = _keras.replaced_calls(model)
    if replaced:
        raise SurgeryError(
            f"The layers of model '{model.name}' must compute what their classes do. Received: "
            f"{', '.join(map(repr, replaced))} with another function in place of `call`, which no "
            "stock layer has. Export the model instead: model.export keeps the factors, and what "
            "is computed."
        )
    rebuild = _Rebuild({layer.name for _, layer in _keras.walk(model)})
    made = rebuild.layers(model)[-1]
    rebuild.fill()
    return made


def _reasons(layer: Any, path: str) -> Iterator[str]:
    """Why a layer, or layers below it, have no stock form."""
    if isinstance(layer, LowRank):
        if layer.kernel_kind.stock is None:
            yield f"'{path}' ({layer.kernel_kind.dense_class.__name__}) has no such form"
        elif _keras.takes_ragged(layer):
            yield f"'{path}' is called on ragged tensors, which the second of two layers cannot be"
    elif _keras.runs_its_graph(layer) or _is_time_distributed(layer):
        for name, child in _keras.children(layer, beside=False):
            yield from _reasons(child, f"{path}/{name}" if path else name)
    else:
        kind = type(layer).__name__
        why = f"is called by the code of {kind}"
        if isinstance(layer, keras.Sequential) and not _keras.has_graph(layer):
            why = f"is in a {kind} model of which Keras can build no graph"
        for below, inner in _keras.walk(layer):
            if isinstance(inner, LowRank):
                yield f"'{path}/{below}' {why}" if path else f"'{below}' {why}"


def _is_time_distributed(layer: Any) -> bool:
    return carried_class(layer) is keras.layers.TimeDistributed


class _Rebuild:
    """One copy of a model; each layer is made once, however often it is called.

    Args:
        names: The names that layers of the model have.
    """

    def __init__(self, names: set[str]):
        self._names = names
        self._made: dict[int, tuple[Any, list[Any]]] = {}  # with the original: keeps its id
        self._copies: list[tuple[Any, Any]] = []
        self._stock: list[StockLayer] = []

    def layers(self, layer: Any) -> list[Any]:
        """The layers to call, one after the other, in place of a layer."""
        if id(layer) not in self._made:
            self._made[id(layer)] = (layer, self._make(layer))
        return self._made[id(layer)][1]

    def fill(self) -> None:
        """Give the new layers, which are built by now, the weights of the old."""
        for stock in self._stock:
            for variable, value in zip(stock.layer.weights, stock.weights, strict=True):
                variable.assign(_keras.copied(value))
        for source, copy in self._copies:
            try:
                _keras.copy_state(source, copy)
            except Exception as error:
                raise _not_copied(source, error) from error

    def _make(self, layer: Any) -> list[Any]:
        if isinstance(layer, LowRank) and layer.kernel_kind.stock is not None:
            stock = [
                StockLayer(self._named(each.layer, layer.name), each.weights)
                for each in layer.kernel_kind.stock(layer)
            ]
            self._stock += stock
            return [each.layer for each in stock]
        if isinstance(layer, keras.Sequential) and _keras.runs_its_graph(layer):
            return [self._sequential(layer)]
        if _keras.is_graph_model(layer) and _keras.runs_its_graph(layer):
            return [self._functional(layer)]
        if _is_time_distributed(layer):
            return self._time_distributed(layer)
        return [self._copy(layer)]

    def _sequential(self, model: Any) -> Any:
        layers = [each for layer in model.layers for each in self.layers(layer)]
        return keras.Sequential(
            [*_keras.fresh_input_layers(model), *layers],
            name=model.name,
            trainable=model.trainable,
        )

    def _functional(self, model: Any) -> Any:
        def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
            *first, last = self.layers(operation)
            if first and not args:
                args = (kwargs.pop("inputs"),)
            for layer in first:
                args = (layer(*args, **kwargs), *args[1:])
            return last(*args, **kwargs)

        inputs, outputs = _keras.rerun_graph(model, call)
        made = keras.Model(inputs, outputs, name=model.name)
        if not model.trainable:
            made.trainable = False
        return made

    def _time_distributed(self, wrapper: Any) -> list[Any]:
        kind = keras.layers.TimeDistributed
        with _keras.seen_as(wrapper, kind):
            config = wrapper.get_config()
        del config["layer"]
        *first, last = self.layers(wrapper.layer)
        config_u = config | {"name": f"{wrapper.name}_u"}
        return [
            *(self._named(kind(layer, **config_u), wrapper.name) for layer in first),
            kind(last, **config),
        ]

    def _copy(self, layer: Any) -> Any:
        try:
            copy = type(layer).from_config(layer.get_config())
        except Exception as error:
            raise _not_copied(layer, error) from error
        if isinstance(layer, keras.Layer):
            self._copies.append((layer, copy))
        return copy

    def _named(self, made: Any, name: str) -> Any:
        """A layer that is not built yet, under a name that no other has."""
        if made.name == name:
            return made
        unique, count = made.name, 1
        while unique in self._names:
            unique, count = f"{made.name}_{count}", count + 1
        self._names.add(unique)
        config = made.get_config() | {"name": unique}
        return made if unique == made.name else type(made).from_config(config)


def _not_copied(layer: Any, error: Exception) -> SurgeryError:
    return SurgeryError(
        f"Layer '{layer.name}' ({type(layer).__name__}) cannot be copied from its configuration: "
        f"{type(error).__name__}: {error} Expected a layer whose from_config(get_config()) makes "
        "one like it. Otherwise use reducible_train.merge(model), which changes factorised layers "
        "only."
    )
