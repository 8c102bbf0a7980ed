"""How variables are spread over devices, where a distribution of Keras's says so.

Keras asks for the layout of a variable by its path. Nobody who writes a map of layouts knows of
factors: `.*kernel` does not match `kernel_u`, and `.*kernel.*` would split the ranks.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

Inherit = Callable[[Sequence[Any]], Sequence[Sequence[Any]]]


@dataclass(frozen=True)
class _Asking:
    """What a distribution looks at to give a variable a layout, before there is one."""

    path: str
    shape: tuple[int, ...]


def factor_layouts(
    kernel: tuple[str, tuple[int, ...]],
    factors: Mapping[str, tuple[int, ...]],
    inherit: Inherit,
) -> dict[str, Any]:
    """Layouts for the factors of a kernel, by path; none where nothing is distributed.

    A factor is split along the axes it has from its kernel, as the kernel would be, and not along
    its rank: so any rank will do. Where the map has an entry of its own for a factor, that holds,
    but for axes that the mesh does not divide.

    Args:
        kernel: Path and shape of the dense kernel.
        factors: Shapes of the factors, by path.
        inherit: From what the kernel's axes have, what the axes of each factor have.

    Raises:
        ValueError: The map has several entries for a path, or one with other axes.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        return {}
    whole = distribution.get_variable_layout(_Asking(*kernel))
    if whole is None:
        return {}
    layouts = {}
    shared = distribution.get_tensor_layout(kernel[0])
    inherited = inherit(whole.axes)
    for (path, shape), axes in zip(factors.items(), inherited, strict=True):
        own = distribution.get_tensor_layout(path)
        asked = axes if own is None or own is shared else _told(own, path, shape)
        layouts[path] = keras.distribution.TensorLayout(asked, whole.device_mesh)
    return layouts


def _told(layout: Any, path: str, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """The axes of a layout that was told for a factor itself, but for those it cannot have."""
    if len(layout.axes) != len(shape):
        raise ValueError(
            f"the layout {tuple(layout.axes)} has {len(layout.axes)} axes, and '{path}' has shape "
            f"{shape}"
        )
    mesh = layout.device_mesh
    sizes = dict(zip(mesh.axis_names, mesh.shape, strict=True)) | {None: 1}
    axes = tuple(
        None if length % sizes[axis] else axis
        for axis, length in zip(layout.axes, shape, strict=True)
    )
    if axes != tuple(layout.axes):
        warnings.warn(
            f"'{path}' of shape {shape} cannot be split as {tuple(layout.axes)} over a mesh of "
            f"{dict(zip(mesh.axis_names, mesh.shape, strict=True))}; it is split as {axes}.",
            stacklevel=2,
        )
    return axes


@contextlib.contextmanager
def laid_out(layouts: Mapping[str, Any]) -> Iterator[None]:
    """Within it, variables that are made at these paths have these layouts.

    `add_weight` takes none: a variable asks the distribution when it is made.
    """
    distribution = keras.distribution.distribution()
    if not layouts:
        yield
        return
    asked = distribution.get_variable_layout

    def known(variable: Any) -> Any:
        return layouts.get(variable.path) or asked(variable)

    distribution.get_variable_layout = known
    try:
        yield
    finally:
        del distribution.get_variable_layout


@contextlib.contextmanager
def undistributed() -> Iterator[None]:
    """Within it, what is made belongs to this process alone, on one device."""
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)
