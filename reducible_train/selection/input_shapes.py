"""Shapes of a model's inputs where the model leaves lengths open: told, or read off data.

What a kernel costs grows with the length of a sequence and the size of an image, and most text
models take any. Lengths come, in this order, from the `input_shape` of the measure, from the
calibration set (the mean over its samples as they are, padding included, for that is computed too),
and from the data of the fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reducible_train import _keras
from reducible_train.errors import ArgumentError
from reducible_train.selection.samples import Samples, shapes_fit
from reducible_train.settings.measures import InputShape, measure_kinds
from reducible_train.settings.measures.shapes import is_shape


@dataclass(frozen=True, eq=False)
class InputShapes:
    """The inputs of a model, one sample of them, and where that was learned.

    Args:
        inputs: Symbolic tensors of batch size 1, nested as the model takes them.
        source: Where they come from, in words.
        data: A batch of values, for a model that makes lengths of them, as of words in a text.
        binding: True where they were asked for, and count for a model of fixed shapes too.
    """

    inputs: Any
    source: str
    data: Any = None
    binding: bool = False

    @property
    def plain(self) -> Any:
        """The shapes as `input_shape` takes them, in lists of numbers."""
        if isinstance(self.inputs, dict):
            there = {name: each for name, each in self.inputs.items() if each is not None}
            return {name: list(each.shape[1:]) for name, each in there.items()}
        shapes = [list(each.shape[1:]) for each in _keras.arrays_in(self.inputs)]
        return shapes if isinstance(self.inputs, list | tuple) else shapes[0]

    def __str__(self) -> str:
        shapes = [str(tuple(each.shape[1:])) for each in _keras.arrays_in(self.inputs)]
        return f"input shape {', '.join(shapes)}, from {self.source}"


def shapes_of_samples(samples: Samples, source: str) -> InputShapes:
    """The mean shape of samples.

    Args:
        samples: One at least.
        source: Where they come from.
    """
    batch, _, _ = next(samples.batches())
    return InputShapes(samples.mean_inputs, source, batch)


def shapes_of_fit(spec: Any) -> InputShapes | None:
    """The shapes of a fit's data, as `_keras.data_of_fit` tells them; `None` where it cannot."""
    if spec is None:
        return None
    found = [_sizes(each.shape) for each in _keras.arrays_in(spec[0])]
    if any(not shape or None in shape[1:] for shape in found):
        return None
    inputs = _keras.map_arrays(
        lambda each: _keras.one_sample(_sizes(each.shape)[1:], each.dtype), spec[0]
    )
    return InputShapes(inputs, "the data of the fit")


def shapes_told(input_shape: InputShape, model: Any) -> InputShapes:
    """The shapes that `input_shape` tells of a model.

    Raises:
        ArgumentError: They are not those of the model's inputs.
    """
    single = is_shape(input_shape)
    names = list(input_shape) if isinstance(input_shape, Mapping) else None
    several = input_shape.values() if isinstance(input_shape, Mapping) else input_shape
    shapes = [input_shape] if single else list(several)
    known = _keras.known_inputs(model, names)
    unknown = set(names or ()) - set(_keras.input_names(model) or names or ())
    if unknown or (known is not None and not shapes_fit([(1, *each) for each in shapes], known)):
        raise ArgumentError(
            f"`input_shape` must be that of one sample of each input of model '{model.name}': "
            f"{_told(model)}. Received: "
            f"input_shape={input_shape!r}. Give a size for each None, as in input_shape=(128,)."
        )
    inputs = _keras.inputs_of_shapes(model, shapes, names, single=single)
    return InputShapes(inputs, "input_shape", binding=True)


def no_shapes(measure: str, model: Any, where: str = "") -> ArgumentError:
    """The error to raise where a measure needs shapes that nothing tells.

    Args:
        measure: Its name.
        model: The model.
        where: A shape that is not known, and of what.
    """
    open_axes = "leaves lengths open" if where else "cannot be traced without data"
    received = f"measure={measure!r}" + (f", and {where}" if where else "")
    return ArgumentError(
        f"A budget of {measure} needs the whole input shapes of every layer, and model "
        f"'{model.name}' {open_axes}. Received: {received}. Give the shape of one sample, "
        f"measure={measure_kinds()[measure].__name__}(input_shape=(128,)), or samples, "
        "calibration=x; or use measure='parameters'."
    )


def _told(model: Any) -> str:
    """The inputs of a model, in words."""
    names = _keras.input_names(model)
    shapes = [str(each[1:]) for each in _keras.known_inputs(model, names) or []]
    named = zip(names, shapes, strict=True) if names else [("", each) for each in shapes]
    return ", ".join(f"{name} {shape}".strip() for name, shape in named)


def _sizes(shape: Any) -> tuple[int | None, ...]:
    """A shape in plain numbers; none for one of unknown axes, as TensorFlow's may be."""
    return () if getattr(shape, "rank", 0) is None else tuple(shape)
