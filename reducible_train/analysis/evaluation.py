"""The number by which a model is judged: of its compiled loss and metrics, or a function's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from reducible_train.errors import ArgumentError, first_sentence
from reducible_train.selection.samples import Samples


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A metric of a model on samples.

    Args:
        model: The model.
        samples: The data; `None` for a function that brings its own.
        metric: A name of what `model.evaluate` tells, or a function: model -> number.
    """

    model: Any
    samples: Samples | None
    metric: str | Callable[[Any], float]

    @property
    def name(self) -> str:
        """What is measured, in a word."""
        if isinstance(self.metric, str):
            return self.metric
        return getattr(self.metric, "__name__", type(self.metric).__name__)

    def check(self) -> None:
        """Refuse what cannot be measured, before anything is computed.

        Raises:
            ArgumentError: No data or no targets, or a model that is not compiled.
        """
        if not isinstance(self.metric, str):
            return
        what = f"metric={self.metric!r} is what model.evaluate tells"
        if self.samples is None:
            raise ArgumentError(f"{what}, so it needs data. Received: data=None. Give (x, y).")
        if not self.model.compiled:
            raise ArgumentError(
                f"{what}, so the model must be compiled. Received: '{self.model.name}', which is "
                "not. Compile it, or give metric= a function: model -> number."
            )
        if any(part.y is None for part in (self.samples, *self.samples.more)):
            raise ArgumentError(
                f"{what}, so it needs targets. Received: data without y. Give data=(x, y), or "
                "metric= a function of the model that needs none."
            )

    def __call__(self) -> float:
        """The metric now.

        Raises:
            ArgumentError: The model cannot be evaluated, or tells no such metric.
        """
        if not isinstance(self.metric, str):
            return float(keras.ops.convert_to_numpy(self.metric(self.model)))
        told = self._told()
        if self.metric not in told:
            raise ArgumentError(
                f"`metric` must be one of {', '.join(map(repr, told))}, or a function: model -> "
                f"number. Received: {self.metric!r}. Compile the model with it, or choose one."
            )
        return float(told[self.metric])

    def _told(self) -> dict[str, Any]:
        told: dict[str, Any] = {}
        self.model.reset_metrics()
        try:
            for x, y, weight in () if self.samples is None else self.samples.batches():
                told = self.model.test_on_batch(x, y, weight, return_dict=True)
        except Exception as error:
            raise ArgumentError(
                f"Model '{self.model.name}' cannot be evaluated on `data`; nothing was changed. "
                f"Received: {first_sentence(error)} Give it as you give model.evaluate its data."
            ) from error
        return told
