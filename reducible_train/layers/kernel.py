"""One kernel of one layer of a model, dense or factorised, under its path."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.layers.base import LowRank, dense_classes, low_rank_class
from reducible_train.layers.install import Swap, install_factors, install_kernel
from reducible_train.layers.keras_types import Options, PartialShape, Shape
from reducible_train.layers.kind import Assigned, KernelKind
from reducible_train.layers.offset import Offset, offset_of
from reducible_train.layers.uses import Uses
from reducible_train.layers.values import as_matrices, as_variables
from reducible_train.linalg.matricization import Matricization

_NO_GAIN = dict.fromkeys(
    ("DepthwiseConv1D", "DepthwiseConv2D", "depthwise_kernel"),
    "a depthwise kernel has one input channel for each filter, so factors cannot be smaller",
)


@dataclass(frozen=True, eq=False)
class Kernel:
    """A handle on one kernel of a live model.

    Args:
        path: Layer path and kernel name, such as `"encoder/d1/kernel"`.
        layer: The layer that holds it.
        name: Name of the kernel, such as `"kernel"`.
        kind: What is known of the layer's class.
        offset: What can take up the mean of what a cut loses; `None` if nothing can.
    """

    path: str
    layer: Any
    name: str
    kind: KernelKind
    offset: Offset | None = None

    @property
    def layer_path(self) -> str:
        """Path of the layer."""
        return self.path.rpartition("/")[0]

    @property
    def variables(self) -> list[Any]:
        """`[W]` while dense, `[U, V]` when factorised."""
        factors = self.layer.factors(self.name) if isinstance(self.layer, LowRank) else None
        if factors is not None:
            return [*factors]
        return [vars(self.layer)[self.kind.kernel_attributes[self.name]]]

    @property
    def held(self) -> list[Any]:
        """The same; none where a quantized layer holds it elsewhere."""
        is_there = vars(self.layer).get(self.kind.kernel_attributes[self.name]) is not None
        return self.variables if is_there or self.rank is not None else []

    @property
    def rank(self) -> int | None:
        """Rank in force; `None` while dense."""
        return self.layer.ranks.get(self.name) if isinstance(self.layer, LowRank) else None

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits it can have; when factorised, the one it has."""
        if isinstance(self.layer, LowRank) and self.rank is not None:
            return (self.layer.split_of(self.name),)
        return self.kind.splits_of(self.layer, self.name)

    def view(self, split: str | None = None) -> Matricization:
        """How it is seen as matrices; in its first split if none is given."""
        view = self.kind.matricization(self.layer, self.name, split or self.splits[0])
        made: Matricization = self.kind.returned(
            "matricization", view, Matricization, "a Matricization"
        )
        return made

    @property
    def variable_shape(self) -> Shape:
        """Shape of the dense kernel variable."""
        shapes = [tuple(int(size) for size in v.shape) for v in self.variables]
        return shapes[0] if len(shapes) == 1 else self.view().kernel_shape(*shapes)

    @property
    def shape(self) -> tuple[int, int]:
        """`(m, n)` of the kernel matrix, or of each of them."""
        return self.shape_in()

    def shape_in(self, split: str | None = None) -> tuple[int, int]:
        """`(m, n)` in a split."""
        _, m, n = self.view(split).stack_shape(self.variable_shape)
        return m, n

    @property
    def count(self) -> int:
        """Matrices it consists of: 1 for all but grouped kernels."""
        return self.view().stack_shape(self.variable_shape)[0]

    @property
    def refusal(self) -> str | None:
        """Why the kernel must stay dense, or `None`."""
        return None if self.rank is not None else self.kind.refusal(self.layer, self.name)

    @property
    def is_quantized(self) -> bool:
        """True if its layer holds it in fewer bits, and multiplies in a way of its own."""
        return getattr(self.layer, "quantization_mode", None) is not None

    @property
    def itemsize(self) -> int:
        """Bytes of one number."""
        return _keras.itemsize(self.variables[0])

    @property
    def takes_mean(self) -> bool:
        """True if something can take up the mean of what a cut loses."""
        if self.offset is None:
            return False
        variable, usual = self.offset.variable, self.kind.splits_of(self.layer, self.name)[0]
        self.kind.returned("bias", variable, Assigned, "a variable or None")
        count, _, n = self.view(usual).stack_shape(self.variable_shape)
        if self.offset.is_bias and _keras.size(variable) != count * n:
            raise self.kind.misfit(
                "bias", variable, f"a variable with a number for each of {count * n} outputs"
            )
        return True

    @property
    def gives_output(self) -> bool:
        """True if it makes the outputs of its layer, and is not for inputs alone."""
        gives = self.kind.gives_output
        return gives is None or gives(self.layer, self.name)

    def uses(self, split: str, inputs: PartialShape, options: Options | None = None) -> Uses | None:
        """How often a sample of this input shape uses each number; `None` if not known.

        Args:
            split: How the kernel is split.
            inputs: Shape of the inputs of one call, the batch first.
            options: Switches of that call, by name, such as `reverse`.
        """
        uses = self.kind.uses(self.layer, self.name, split, inputs, options or {})
        told: Uses | None = self.kind.returned("uses", uses, Uses | None, "Uses or None")
        return told

    def matrices(self, split: str | None = None) -> list[np.ndarray]:
        """`[W (g, m, n)]` or `[U (g, m, r), V (g, r, n)]` on the host, float32 or float64."""
        return as_matrices(self, split)([_keras.host_float(v) for v in self.variables])

    def install(self, matrices: Sequence[np.ndarray], split: str | None = None) -> Swap:
        """Put `[U, V]` in place of what is there, or `[W]` in place of the factors.

        Returns:
            The variables that left, and those that came.
        """
        layer, low_rank = self.layer, low_rank_class(self.layer)
        values = [_keras.constant(value) for value in as_variables(self, split)(matrices)]
        if len(values) == 1:
            swap = install_kernel(layer, self.name, values[0])
            if not layer.ranks:
                _keras.become(layer, self.kind.dense_class)
            return swap
        split = split or self.splits[0]
        if low_rank is not None and not isinstance(layer, LowRank):
            _keras.become(layer, low_rank)
        u, v = values
        return install_factors(layer, self.name, matrices[0].shape[-1], u, v, split)


def find_kernels(model: Any) -> list[Kernel]:
    """Every kernel of a known kind in a built model, in the model's order."""
    graphs, found = _keras.GraphsOf(model), list[Kernel]()
    for path, layer in _keras.walk(model):
        low_rank = low_rank_class(layer)
        if low_rank is None or not layer.built:
            continue
        kind = low_rank.kernel_kind
        for name in kind.kernel_attributes:
            if not _is_missing(layer, name, kind):
                offset = offset_of(layer, name, kind, graphs)
                found.append(Kernel(f"{path}/{name}", layer, name, kind, offset))
    return found


def _is_missing(layer: Any, name: str, kind: KernelKind) -> bool:
    if isinstance(layer, LowRank) and name in layer.ranks:
        return False
    variable = vars(layer).get(kind.kernel_attributes[name])
    if variable is None or 0 in variable.shape:  # of no numbers, as on an input of width 0
        return True
    if not getattr(layer, "quantization_mode", None):
        return False
    return tuple(variable.shape) != whole_shape(layer, name, kind)  # packed


def whole_shape(layer: Any, name: str, kind: KernelKind) -> Shape:
    """Shape of a dense kernel, of which a quantized layer may hold several numbers in one."""
    if getattr(layer, "quantization_mode", None):
        return _keras.shape_of(lambda: getattr(layer, name))
    return tuple(int(size) for size in vars(layer)[kind.kernel_attributes[name]].shape)


def dense_file_bytes(kernel: Kernel) -> float | None:
    """What a factorised kernel took in the compact file while dense; `None` if nobody has said."""
    count: float | None = vars(kernel.layer).get(f"_dense_file_bytes_of_{kernel.name}")
    return count


def keep_dense_file_bytes(kernel: Kernel, count: float) -> None:
    """Have the layer of a factorised kernel remember that, until it is dense again."""
    vars(kernel.layer)[f"_dense_file_bytes_of_{kernel.name}"] = count


def unknown_kernels(model: Any) -> Iterator[tuple[str, str, tuple[int, int], str]]:
    """Weights of two and more axes that are no kernel of a known kind, with the reason.

    In layers of a known kind they are what is left beside the kernels: the depthwise half
    of a separable convolution, the table of the way back. Biases never count.

    Yields:
        Path, class name, shape as a matrix `(m, n)`, and why it stays as it is.
    """
    known = dense_classes()
    kernels = {id(variable) for kernel in find_kernels(model) for variable in kernel.variables}
    for path, layer in _keras.walk(model):
        is_known = low_rank_class(layer) is not None
        parent = next((each for each in known if isinstance(layer, each)), None)
        for variable in _keras.own_variables(layer):
            if len(variable.shape) < 2 or not isinstance(variable, keras.Variable):
                continue
            if 0 in variable.shape:
                continue  # holds nothing
            if id(variable) in kernels or (is_known and "bias" in variable.name):
                continue
            name = type(layer).__name__
            reason = _NO_GAIN.get(name, f"no low-rank form of {name} is known")
            if is_known and getattr(layer, "quantization_mode", None):
                reason = f"quantized to {layer.quantization_mode}"
            elif is_known:
                reason = _NO_GAIN.get(variable.name, f"not a kernel of {name} that can be split")
            elif parent is not None:
                reason = f"{name} is a subclass of {parent.__name__} and may compute otherwise"
            shape = tuple(int(size) for size in variable.shape)
            yield f"{path}/{variable.name}", name, (math.prod(shape[:-1]), shape[-1]), reason
