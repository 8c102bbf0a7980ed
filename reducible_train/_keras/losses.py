"""Add to what a model trains: a `Distiller` leaves out the losses of its student's layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

_STOCK = keras.distillation.Distiller.compute_loss


def add_to_loss(model: Any, extra: Callable[[], Sequence[Any]]) -> None:
    """Let a `Distiller` add something to its loss; nothing to a model that adds it by itself.

    Args:
        model: The model; one whose `compute_loss` is its own is left as it is.
        extra: Gives, each time, the losses to add.
    """
    if type(model).compute_loss is not _STOCK or "compute_loss" in vars(model):
        return
    vars(model)["compute_loss"] = _WithMore(model, extra)  # where Keras looks first


def add_no_more(model: Any) -> None:
    """Take away what `add_to_loss` has added."""
    if isinstance(vars(model).get("compute_loss"), _WithMore):
        del vars(model)["compute_loss"]


@dataclass(frozen=True, eq=False)
class _WithMore:
    """The `compute_loss` of a `Distiller`, and what is added to it."""

    model: Any
    extra: Callable[[], Sequence[Any]]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        loss = _STOCK(self.model, *args, **kwargs)
        for each in self.extra():
            loss = keras.ops.add(loss, each)
        return loss
