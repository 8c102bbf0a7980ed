"""Weights of a layer under the names of its variables, by which ranks are told in a file."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar

from reducible_train import _keras
from reducible_train.errors import SurgeryError
from reducible_train.layers.keras_types import KerasLayer, Variable

if TYPE_CHECKING:
    from reducible_train.layers.kind import KernelKind

Store = MutableMapping[str, Any]  # of Keras's: what is put in, comes out as an array


class NamedVariables(KerasLayer):
    """Mixin in front of a Keras layer class: its own variables are saved by name, not by number."""

    kernel_kind: ClassVar[KernelKind]

    def save_own_variables(self, store: Store) -> None:
        for variable in _keras.own_variables(self):
            store[variable.name] = variable
        _keras.note_place(store, self, self.kernel_kind.dense_class)

    def load_own_variables(self, store: Store) -> None:
        variables: list[Variable] = _keras.own_variables(self)
        names = {variable.name for variable in variables}
        if set(store.keys()) != names:
            raise SurgeryError(
                f"The weights of layer '{self.name}' do not fit. Expected the variables "
                f"{sorted(names)}. Received: {sorted(store.keys())}. Bring the model to the ranks "
                "of the file first, as reducible_train.load_weights_into does."
            )
        for variable in variables:
            value = store[variable.name]
            if tuple(value.shape) != tuple(variable.shape):
                raise SurgeryError(
                    f"The weights of layer '{self.name}' do not fit: `{variable.name}` has shape "
                    f"{tuple(variable.shape)}. Received: shape {tuple(value.shape)}. Bring the "
                    "model to the ranks of the file first, as "
                    "reducible_train.load_weights_into does."
                )
        for variable in variables:
            variable.assign(store[variable.name])
