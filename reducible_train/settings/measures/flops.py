"""Operations of one sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reducible_train.settings.measures.base import CountedMeasure, ShapedMeasure
from reducible_train.settings.measures.shapes import InputShape


@dataclass(frozen=True)
class Flops(ShapedMeasure, CountedMeasure):
    """A budget of work: the FLOPs of one sample in the layers that hold kernels.

    A number weighs 2, for the multiply-add it takes part in, for each of its uses (positions of a
    sequence or of an image; 1 for a plain dense layer).

    Args:
        input_shape: Shape of one sample, for a model that leaves lengths open: `(128,)`, or a list
            or dictionary of shapes. Left out, it is the mean of the calibration set, else that of
            the fit's data, or of its first batch where lengths vary; a budget that waits for that
            batch makes its first cut after it.

    Raises:
        ArgumentError: `input_shape` is none; when the fit begins, not that of the model.

    Example:
        >>> Flops(input_shape=(128,))
        Flops(input_shape=(128,))
    """

    name: ClassVar[str] = "flops"
    unit: ClassVar[str] = "FLOPs"
    weighs_uses: ClassVar[bool] = True

    input_shape: InputShape | None = None

    def weight(self, itemsize: int, uses: int) -> int:
        return 2 * uses
