"""One kernel of one layer of a model, dense or factorised, under its path."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.layers.base import LowRank, dense_classes, low_rank_class
from reducible_train.layers.uses import Uses
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
        kind: The low-rank class of the layer.
    """

    path: str
    layer: Any
    name: str
    kind: type[LowRank]

    @property
    def layer_path(self) -> str:
        """Path of the layer."""
        return self.path.rpartition("/")[0]

    @property
    def variables(self) -> list[Any]:
        """`[W]` while dense, `[U, V]` when factorised."""
        if isinstance(self.layer, LowRank):
            u, v = self.layer.factors(self.name)
            if u is not None:
                return [u, v]
        return [vars(self.layer)[self.kind.kernel_attributes[self.name]]]

    @property
    def rank(self) -> int | None:
        """Rank in force; `None` while dense."""
        return self.layer.ranks.get(self.name) if isinstance(self.layer, LowRank) else None

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits it can have; when factorised, the one it has."""
        if self.rank is not None:
            return (self.layer.split_of(self.name),)
        return self.kind.splits_of(self.layer, self.name)

    def view(self, split: str | None = None) -> Matricization:
        """How it is seen as matrices; in its first split if none is given."""
        return self.kind.matricization(self.layer, self.name, split or self.splits[0])

    @property
    def variable_shape(self) -> tuple[int, ...]:
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
    def dense_file_bytes(self) -> float | None:
        """What it took in the compact file while dense; `None` if nobody has said."""
        return self.layer.dense_file_bytes(self.name) if isinstance(self.layer, LowRank) else None

    def keep_dense_file_bytes(self, count: float) -> None:
        """Have its low-rank layer remember what it took while dense, until it is dense again."""
        self.layer.keep_dense_file_bytes(self.name, count)

    @property
    def itemsize(self) -> int:
        """Bytes of one number."""
        return _keras.itemsize(self.variables[0])

    @property
    def gives_output(self) -> bool:
        """True if it makes the outputs of its layer, and is not for inputs alone."""
        return self.kind.gives_output(self.layer, self.name)

    @property
    def bias(self) -> Any | None:
        """The variable with a number for each of its outputs; `None` without one."""
        return self.kind.output_bias(self.layer, self.name)

    def uses(
        self, split: str, inputs: tuple[int, ...], options: Mapping[str, Any] | None = None
    ) -> Uses | None:
        """How often a sample of this input shape uses each number; `None` if not known.

        Args:
            split: How the kernel is split.
            inputs: Shape of the inputs of one call, the batch first.
            options: Switches of that call, by name, such as `reverse`.
        """
        shaped = self.kind.uses(self.layer, self.name, split, inputs)
        told = self.kind.uses_of_call(self.layer, self.name, inputs, options or {})
        return shaped if told is None else told

    def factor_shapes(self, rank: int, split: str | None = None) -> list[tuple[int, ...]]:
        """Shapes of the variables `U` and `V` it would have."""
        return [*self.view(split).factor_shapes(self.variable_shape, rank)]

    def matrices(self, split: str | None = None) -> list[np.ndarray]:
        """`[W (g, m, n)]` or `[U (g, m, r), V (g, r, n)]` on the host, float32 or float64."""
        return self.as_matrices(split)([_keras.host_float(v) for v in self.variables])

    def as_matrices(self, split: str | None = None) -> Callable[[list[np.ndarray]], list[Any]]:
        """A function that sees arrays shaped as the present variables as matrices.

        For optimizer slots; it stays valid after the variables are replaced.
        """
        view, dense = self.view(split if self.rank is None else None), self.rank is None

        def stacked(values: list[np.ndarray]) -> list[Any]:
            return [view.stack(*values)] if dense else [*view.stack_factors(*values)]

        return stacked

    def as_variables(self, split: str | None = None) -> Callable[[Sequence[np.ndarray]], list[Any]]:
        """A function that gives `[W (g, m, n)]` or `[U, V]` the shapes of the variables."""
        view, shape = self.view(split), self.variable_shape

        def unstacked(matrices: Sequence[np.ndarray]) -> list[Any]:
            if len(matrices) == 1:
                return [view.unstack(matrices[0], shape)]
            u, v = matrices
            return [*view.unstack_factors(u, v, shape)]

        return unstacked

    @contextlib.contextmanager
    def as_one_variable(self) -> Iterator[tuple[Any, Callable[[np.ndarray], np.ndarray]]]:
        """Within it, a factorised kernel is computed with as `W I` or `I W`, whichever is thinner.

        So its layer has a `W = U V` to take a gradient by, whatever its kind makes of factors.

        Yields:
            The variable that holds `W`, and a function that sees arrays of its shape as
            matrices `(g, m, n)`.
        """
        layer, names = self.layer, (f"{self.name}_u", f"{self.name}_v")
        u, v = (matrix.astype(np.float64) for matrix in self.matrices())
        product = u @ v
        g, m, n = product.shape
        whole = 0 if n <= m else 1  # which of the two holds `W`
        eye = np.broadcast_to(np.eye(min(m, n)), (g, min(m, n), min(m, n)))
        values = self.as_variables()([product, eye] if whole == 0 else [eye, product])
        factors = [vars(layer)[name] for name in names]
        wide = [
            keras.Variable(value, dtype=factor.dtype, trainable=factor.trainable, name=factor.name)
            for value, factor in zip(values, factors, strict=True)
        ]

        def as_matrices(value: np.ndarray) -> np.ndarray:
            both = [value if i == whole else np.zeros(w.shape) for i, w in enumerate(wide)]
            return self.view().stack_factors(*both)[whole]

        try:
            vars(layer).update(zip(names, wide, strict=True))
            yield wide[whole], as_matrices
        finally:
            vars(layer).update(zip(names, factors, strict=True))

    def install(
        self, matrices: Sequence[np.ndarray], split: str | None = None
    ) -> tuple[list[Any], list[Any]]:
        """Put `[U, V]` in place of what is there, or `[W]` in place of the factors.

        Returns:
            The variables that left, and those that came.
        """
        rank = matrices[0].shape[-1]
        values = [_keras.constant(value) for value in self.as_variables(split)(matrices)]
        if len(values) == 1:
            old, new = self.layer.install_kernel(self.name, values[0])
            if not self.layer.ranks:
                _keras.become(self.layer, self.kind.dense_class)
            return old, new
        split = split or self.splits[0]
        if not isinstance(self.layer, LowRank):
            _keras.become(self.layer, self.kind)
        return self.layer.install_factors(self.name, rank, *values, split)


def find_kernels(model: Any) -> list[Kernel]:
    """Every kernel of a known kind in a built model, in the model's order."""
    return [
        Kernel(f"{path}/{name}", layer, name, kind)
        for path, layer in _keras.walk(model)
        if (kind := low_rank_class(layer)) is not None and layer.built
        for name in kind.kernel_attributes
        if not _is_missing(layer, kind, name)
    ]


def _is_missing(layer: Any, kind: type[LowRank], name: str) -> bool:
    if isinstance(layer, LowRank) and layer.factors(name)[0] is not None:
        return False
    return vars(layer).get(kind.kernel_attributes[name]) is None


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
        kind = low_rank_class(layer)
        parent = next((each for each in known if isinstance(layer, each)), None)
        for variable in _keras.own_variables(layer):
            if len(variable.shape) < 2 or not isinstance(variable, keras.Variable):
                continue
            if 0 in variable.shape:
                continue  # holds nothing
            if id(variable) in kernels or (kind is not None and "bias" in variable.name):
                continue
            name = type(layer).__name__
            reason = _NO_GAIN.get(name, f"no low-rank form of {name} is known")
            if kind is not None:
                reason = _NO_GAIN.get(variable.name, f"not a kernel of {name} that can be split")
            elif parent is not None:
                reason = f"{name} is a subclass of {parent.__name__} and may compute otherwise"
            shape = tuple(int(size) for size in variable.shape)
            yield f"{path}/{variable.name}", name, (math.prod(shape[:-1]), shape[-1]), reason
