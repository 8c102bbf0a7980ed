"""Operations of one sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reducible_train.settings.fields import option
from reducible_train.settings.measures.base import (
    SHAPE_HELP,
    CountedMeasure,
    ShapedMeasure,
    ShapeKind,
)
from reducible_train.settings.measures.shapes import InputShape


@dataclass(frozen=True)
class Flops(ShapedMeasure, CountedMeasure, help="FLOPs of one sample."):
    """A budget of work: the FLOPs of one sample in the layers that hold kernels.

    A number weighs 2, for the multiply-add it takes part in, for each of its uses (positions of a
    sequence or of an image; 1 for a plain dense layer).

    Raises:
        ArgumentError: `input_shape` is none; when the fit begins, not that of the model.

    Example:
        >>> Flops(input_shape=(128,))
        Flops(input_shape=(128,))
    """

    name: ClassVar[str] = "flops"
    unit: ClassVar[str] = "FLOPs"
    weighs_uses: ClassVar[bool] = True

    input_shape: InputShape | None = option(ShapeKind(), None, help=SHAPE_HELP)

    def weight(self, itemsize: int, uses: int) -> int:
        return 2 * uses
