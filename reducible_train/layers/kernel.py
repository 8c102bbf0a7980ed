"""One kernel of one layer of a model, dense or factorised, under its path."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.layers.base import LowRank, dense_classes, low_rank_class


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
        return [getattr(self.layer, self.kind.kernel_attributes[self.name])]

    @property
    def rank(self) -> int | None:
        """Rank in force; `None` while dense."""
        variables = self.variables
        return int(variables[0].shape[-1]) if len(variables) == 2 else None

    @property
    def variable_shape(self) -> tuple[int, ...]:
        """Shape of the dense kernel variable."""
        shapes = [tuple(int(size) for size in v.shape) for v in self.variables]
        return shapes[0] if len(shapes) == 1 else self.kind.kernel_shape(*shapes)

    @property
    def shape(self) -> tuple[int, int]:
        """`(m, n)` of the kernel matrix."""
        return self.kind.matrix_shape(self.variable_shape)

    @property
    def refusal(self) -> str | None:
        """Why the kernel must stay dense, or `None`."""
        return None if self.rank is not None else self.kind.refusal(self.layer)

    @property
    def itemsize(self) -> int:
        """Bytes of one number."""
        return _keras.itemsize(self.variables[0])

    def matrices(self) -> list[np.ndarray]:
        """`[W (m, n)]` or `[U (m, r), V (r, n)]` on the host, float32 or float64."""
        return self.matrix_view()([_keras.host_float(v) for v in self.variables])

    def matrix_view(self) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
        """A function that sees arrays shaped as the present variables as matrices.

        For optimizer slots; it stays valid after the variables are replaced.
        """
        shape, rank = self.shape, self.rank

        def as_matrices(values: list[np.ndarray]) -> list[np.ndarray]:
            if rank is None:
                return [values[0].reshape(shape)]
            return [values[0].reshape(-1, rank), values[1].reshape(rank, -1)]

        return as_matrices

    def install(self, matrices: Sequence[np.ndarray]) -> tuple[list[Any], list[Any]]:
        """Put `[U, V]` in place of what is there, or `[W]` in place of the factors.

        Returns:
            The variables that left, and those that came.
        """
        if len(matrices) == 1:
            old, new = self.layer.install_kernel(self.name, _keras.constant(matrices[0]))
            if not self.layer.ranks:
                _keras.become(self.layer, self.kind.dense_class)
            return old, new
        if not isinstance(self.layer, LowRank):
            _keras.become(self.layer, self.kind)
        u, v = matrices
        return self.layer.install_factors(
            self.name, u.shape[1], _keras.constant(u), _keras.constant(v)
        )


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
    return getattr(layer, kind.kernel_attributes[name], None) is None


def unknown_kernels(model: Any) -> Iterator[tuple[str, str, tuple[int, int], str]]:
    """Weights of two and more axes in layers of no known kind, with the reason.

    Yields:
        Path, class name, shape as a matrix `(m, n)`, and why it stays as it is.
    """
    known = dense_classes()
    for path, layer in _keras.walk(model):
        if low_rank_class(layer) is not None:
            continue
        parent = next((kind for kind in known if isinstance(layer, kind)), None)
        for variable in _keras.own_variables(layer):
            if len(variable.shape) < 2 or not isinstance(variable, keras.Variable):
                continue
            name = type(layer).__name__
            reason = f"no low-rank form of {name} is known"
            if parent is not None:
                reason = f"{name} is a subclass of {parent.__name__} and may compute otherwise"
            shape = tuple(int(size) for size in variable.shape)
            yield f"{path}/{variable.name}", name, (math.prod(shape[:-1]), shape[-1]), reason
