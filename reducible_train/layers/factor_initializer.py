"""What draws a factor of a layer that is made low-rank, by what draws its dense kernel."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

import keras
import numpy as np

from reducible_train.layers.keras_types import Initializer, Shape, Tensor


class FactorInitializer:
    """The initializer of a kernel for one of its factors, Keras's default where it cannot draw it.

    One that holds an array, such as a pretrained table, gives the shape of the kernel alone; so
    do some of a user's own, and others refuse a shape.

    Args:
        of_kernel: The initializer of the kernel, if it has one.
    """

    def __init__(self, of_kernel: Initializer | None):
        self._of_kernel = of_kernel

    def __call__(self, shape: Shape, dtype: Any = None) -> Tensor:
        """The values of the factor."""
        value = None
        if self._of_kernel is not None:
            # What fails here has made the kernel, so it is the shape that it cannot make.
            with suppress(Exception):
                value = self._of_kernel(shape, dtype=dtype)
        if value is None or tuple(np.shape(value)) != tuple(shape):
            # Made only now: Keras draws its seed from Python's generator.
            value = keras.initializers.GlorotUniform()(shape, dtype=dtype)
        return cast("Tensor", value)
