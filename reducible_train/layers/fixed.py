"""Kernels that have no low-rank form, and take part in the work of a model all the same.

Those of subclasses and of quantized layers are multiplied as often as the class says that they are
made of; a depthwise kernel is, at every position of its outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import keras

from reducible_train import _keras
from reducible_train.layers.base import dense_classes
from reducible_train.layers.conv import AXES, ImageLayer, spatial_axes
from reducible_train.layers.keras_types import Options, PartialShape, Shape
from reducible_train.layers.kernel import Kernel, whole_shape
from reducible_train.layers.kind import KernelKind, alike
from reducible_train.layers.uses import Uses
from reducible_train.linalg.matricization import Matricization


class FixedKernel(Kernel):
    """A kernel that stays as it is: only counted."""

    @cached_property
    def variable_shape(self) -> Shape:
        """Shape of what is multiplied, of which a quantized layer may hold less."""
        return whole_shape(self.layer, self.name, self.kind)


def _matricization(layer: ImageLayer, kernel: str, split: str) -> Matricization:
    axes, ones = AXES[-len(layer.kernel_size) :], "1" * len(layer.kernel_size)
    return Matricization(axes + "io", axes + "ir", ones + "ro")


def _uses(
    layer: ImageLayer, kernel: str, split: str, inputs: PartialShape, options: Options
) -> Uses | None:
    return alike(spatial_axes(layer, layer.compute_output_shape(inputs)))


def _depthwise(dense_class: type, name: str = "kernel") -> KernelKind:
    return KernelKind(
        dense_class, kernel_attributes={name: name}, matricization=_matricization, uses=_uses
    )


_DEPTHWISE = [
    _depthwise(keras.layers.DepthwiseConv1D),
    _depthwise(keras.layers.DepthwiseConv2D),
    _depthwise(keras.layers.SeparableConv1D, "depthwise_kernel"),
    _depthwise(keras.layers.SeparableConv2D, "depthwise_kernel"),
]


def find_fixed(model: Any, kernels: Sequence[Kernel]) -> list[FixedKernel]:
    """The kernels of a built model of which no factors are known, and the work is.

    Args:
        model: The model.
        kernels: Those of known kinds.
    """
    known = {(id(kernel.layer), kernel.name) for kernel in kernels}
    return [
        FixedKernel(f"{path}/{name}", layer, name, kind)
        for path, layer in _keras.walk(model)
        for kind in _kinds_of(layer)
        for name in kind.kernel_attributes
        if (id(layer), name) not in known and _has(layer, name, kind)
    ]


def _kinds_of(layer: Any) -> Iterator[KernelKind]:
    """What is known of the class that a layer is of, or made of."""
    low_rank = dense_classes()
    nearest = next((low_rank[base] for base in type(layer).__mro__ if base in low_rank), None)
    if nearest is not None:
        yield nearest.kernel_kind
    yield from (kind for kind in _DEPTHWISE if isinstance(layer, kind.dense_class))


def _has(layer: Any, name: str, kind: KernelKind) -> bool:
    """True for a kernel that is there, of some numbers, and of as many axes as the class has."""
    held = vars(layer).get(kind.kernel_attributes[name], vars(layer).get(f"quantized_{name}"))
    if not layer.built or held is None:
        return False
    try:
        shape, split = whole_shape(layer, name, kind), kind.splits_of(layer, name)[0]
        kind.matricization(layer, name, split).stack_shape(shape)
    except Exception:  # the code of a subclass may do anything
        return False
    return 0 not in shape


def uncounted(model: Any, counted: Sequence[Kernel]) -> list[str]:
    """Paths of weights that may be multiplied, of which nobody knows how often.

    A single row is none, nor is a bias, a state, or what a quantized layer keeps beside a kernel.

    Args:
        model: The model.
        counted: The kernels whose work is known.
    """
    held = {id(variable) for k in counted for variable in k.held}
    quantized = {id(k.layer) for k in counted if k.is_quantized}
    return [
        f"{path}/{variable.name}".lstrip("/")
        for path, layer in [("", model), *_keras.walk(model)]
        if id(layer) not in quantized and not isinstance(layer, keras.layers.RNN)
        for variable in _keras.own_variables(layer)
        if id(variable) not in held and "bias" not in variable.name and _has_rows(variable)
    ]


def _has_rows(variable: Any) -> bool:
    """True for a weight of several rows."""
    shape = tuple(variable.shape)
    return isinstance(variable, keras.Variable) and len(shape) > 1 and math.prod(shape[:-1]) > 1
