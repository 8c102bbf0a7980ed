"""Losses without the penalties that an aid has added."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from reducible_train import _keras
from reducible_train.layers.base import LowRank


@contextlib.contextmanager
def unpenalized(model: Any) -> Iterator[None]:
    """For a while, nothing of `LowRank.penalize_product` is in the losses of a model."""
    layers = [each for _, each in _keras.walk(model) if isinstance(each, LowRank)]
    kept = [(vars(each), vars(each).pop("_product_weight", None)) for each in layers]
    try:
        yield
    finally:
        for attributes, weight in kept:
            if weight is not None:
                attributes["_product_weight"] = weight
