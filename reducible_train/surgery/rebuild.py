"""Containers: layers that rebuild their own sublayers, and take ranks with them.

Keras rebuilds a Sequential or Functional model from the configuration of its layers, and
a low-rank layer has its rank in there. Every other parent (a subclassed model, a custom
layer with an inner Dense, MultiHeadAttention) makes its sublayers anew, dense. While
there are factorised kernels below it, the topmost such parent is therefore a container:
of a subclass of its own class, whose configuration is

    {"contained": the serialized original, "plan": the ranks below it}

and which is made from it by building the original and bringing it to the plan.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import keras

from reducible_train import _keras
from reducible_train.errors import FormatError, SurgeryError
from reducible_train.layers import find_kernels
from reducible_train.surgery.plans import Plan, plan_of, planned

_KEYS = {"contained", "plan"}


@keras.saving.register_keras_serializable("reducible_train", "Container")  # as files name it
class PlanCarrier:
    """Mixin in front of the class of a layer that rebuilds its own sublayers."""

    carried_class: ClassVar[type]
    name: str  # of the Keras layer

    def get_config(self) -> dict[str, Any]:
        with _keras.seen_as(self, self.carried_class):
            contained = keras.saving.serialize_keras_object(self)
        contained.pop("compile_config", None)  # the container itself is compiled, once
        return {"contained": contained, "plan": self._waiting_plan or plan_of(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        if set(config) != _KEYS:  # of the original class
            return cls.carried_class.from_config(config)  # type: ignore[attr-defined]
        contained, plan = config["contained"], config["plan"]
        if not isinstance(contained, Mapping) or "class_name" not in contained:
            raise FormatError(f"A container must hold a layer. Received: {contained!r}.")
        if not isinstance(plan, Mapping):
            raise FormatError(f"A container must hold a rank plan. Received: {plan!r}.")
        layer = keras.saving.deserialize_keras_object(contained)
        if not isinstance(layer, keras.Layer):
            raise FormatError(f"A container must hold a layer. Received: {layer!r}.")
        _keras.reclass(layer, container_class(carried_class(layer)))
        layer.__dict__["_plan_to_come"] = dict(plan)
        layer.take_plan()
        return layer

    @property
    def _waiting_plan(self) -> dict[str, Any] | None:
        return self.__dict__.get("_plan_to_come")

    def take_plan(self) -> None:
        """Bring sublayers to the plan; those built by the first call only wait for it."""
        plan = self.__dict__["_plan_to_come"]
        if not self._missing(plan):
            for kernel, zeros, split in planned(self, plan):
                kernel.install(zeros, split)
            del self.__dict__["_plan_to_come"]
            mark_containers(self)

    def _missing(self, plan: Plan) -> list[str]:
        return sorted(set(plan) - {kernel.path for kernel in find_kernels(self)})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        outputs = super().__call__(*args, **kwargs)  # type: ignore[misc]
        if self._waiting_plan is not None:
            self.take_plan()
        return outputs

    def load_own_variables(self, store: Any) -> None:
        if self._waiting_plan is not None:
            raise SurgeryError(
                f"The rank plan does not fit layer '{self.name}', in which there is no "
                f"{', '.join(self._missing(self._waiting_plan))}. Use the class it was saved from, "
                "and let its `build` build its sublayers."
            )
        super().load_own_variables(store)  # type: ignore[misc]

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = super().__reduce__()[1]
        return _keras.unpickler(), arguments


def mark_containers(*models: Any) -> None:
    """Make containers of the parents in some models that need it, and of no others.

    The topmost ones below every model, so that a model within a model can be saved, too.
    """
    below = [layer for model in models for _, layer in _keras.walk(model)]
    layers = list({id(layer): layer for layer in (*models, *below)}.values())
    roots = [layer for layer in layers if isinstance(layer, keras.Model)]
    roots = [*roots, *models]  # a container may be a layer
    wanted = {id(parent) for root in roots for parent in _parents(root) if plan_of(parent)}
    for layer in layers:
        if (id(layer) in wanted) != isinstance(layer, PlanCarrier):
            own = carried_class(layer)
            _keras.reclass(layer, container_class(own) if id(layer) in wanted else own)


def _parents(layer: Any) -> Iterator[Any]:
    """The topmost layers whose configuration does not hold all of their sublayers."""
    if not _keras.saves_its_layers(layer) or _keras.makes_layers_beside(layer):
        yield layer
        return
    for _, child in _keras.children(layer):
        yield from _parents(child)


def carried_class(layer: Any) -> type:
    """The class of a layer that it would have if it were no container."""
    kind = type(layer)
    return kind.carried_class if issubclass(kind, PlanCarrier) else kind


@functools.cache
def container_class(kind: type) -> type:
    """The container class for a layer class; it keeps its name, by which weights are saved."""
    members = {"carried_class": kind, "__module__": __name__, "__qualname__": kind.__qualname__}
    made = type(kind.__name__, (PlanCarrier, kind), members)
    register = keras.saving.register_keras_serializable("reducible_train", "Container")
    register(made)
    register(PlanCarrier)  # all are found by one name, and read by one class
    return made
