"""The number by which a model is judged: of its compiled loss and metrics, or a function's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.errors import ArgumentError, first_sentence
from reducible_train.selection.samples import Samples, batches_for, count_of, may_sum
from reducible_train.settings.checks import takes

_SPREAD = 4  # batches at least, to tell how far the metric is by chance
_BATCH = 128


@dataclass(frozen=True)
class Measured:
    """A metric of a model on samples.

    Args:
        value: The metric.
        batches: Samples of each batch, and the metric on it alone; empty where not known.
    """

    value: float
    batches: tuple[tuple[int, float], ...] = ()

    def error_beside(self, batches: Sequence[tuple[int, float]]) -> float:
        """The standard error of the difference to another model on the same batches.

        NaN where there are not two of them. Of a metric that is no mean over samples, such as an
        AUC, about that.
        """
        if len(batches) != len(self.batches) or len(batches) < 2:
            return math.nan
        share = np.array([count for count, _ in batches], dtype=float)
        share /= share.sum()
        apart = np.array([b - a for (_, a), (_, b) in zip(batches, self.batches, strict=True)])
        spread = share**2 @ (apart - share @ apart) ** 2
        return float(math.sqrt(spread * len(share) / (len(share) - 1)))


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
            if not callable(self.metric):
                raise ArgumentError(
                    "`metric` must be a name of what model.evaluate tells, or a function: model -> "
                    f"number. Received: {self.metric!r}. Write for example metric='accuracy'."
                )
            if isinstance(self.metric, keras.metrics.Metric) or not takes(self.metric, self.model):
                raise ArgumentError(
                    f"`metric` must be a function: model -> number. Received: {self.name}, which "
                    "takes something else. A metric of Keras, or of targets and outputs, goes into "
                    "model.compile(metrics=[...]); then give its name, metric='accuracy'."
                )
            return
        what = f"metric={self.metric!r} is what model.evaluate tells"
        if self.samples is None:
            raise ArgumentError(f"{what}, so it needs data. Received: data=None. Give (x, y).")
        if not self.model.compiled:
            raise ArgumentError(
                f"{what}, so the model must be compiled. Received: '{self.model.name}', which is "
                "not. Compile it, or give metric= a function: model -> number."
            )
        bare = any(part.y is None for part in (self.samples, *self.samples.more))
        if bare and _keras.needs_targets(self.model, training=False):
            raise ArgumentError(
                f"{what}, so it needs targets. Received: data without y. Give data=(x, y), or "
                "metric= a function of the model that needs none."
            )

    @property
    def better(self) -> str:
        """`"less"` or `"more"`; empty where nobody knows."""
        if not isinstance(self.metric, str):
            return ""
        known = {"up": "more", "down": "less", None: ""}
        told = {"loss": "down"} | _keras.logged_metrics(self.model)
        return known[told.get(self.metric)]

    def __call__(self) -> Measured:
        """The metric now.

        Raises:
            ArgumentError: The model cannot be evaluated, or tells no such metric.
        """
        if not isinstance(self.metric, str):
            return Measured(self._of_function(self.metric))
        batches, seen, value = list[tuple[int, float]](), 0, math.nan
        with _keras.metrics_begun(self.model):
            for x, y, weight in self._batches():
                count, before = count_of(x), value if seen else 0.0
                value = float(self._told(x, y, weight)[self.metric])  # of all so far
                batches.append((count, value + (value - before) * seen / count))
                seen += count
        return Measured(value, tuple(batches))

    def _batches(self) -> Iterator[tuple[Any, Any, Any]]:
        """The samples, in batches as the model takes them; four at least, if there are so many.

        As `model.evaluate` takes them for a loss that may be another on other batches.
        """
        samples = cast(Samples, self.samples)
        if self.name.endswith("loss") and self._may_sum:
            return batches_for(self.model, samples, _keras.EVALUATED)
        size = min(_BATCH, max(1, -(-len(samples) // _SPREAD)))
        return samples.batches(_keras.fixed_batch(self.model), most=size)

    @cached_property
    def _may_sum(self) -> bool:
        """True if the loss may be another on batches of another size; tried once."""
        return may_sum(self.model, cast(Samples, self.samples))

    def _of_function(self, metric: Callable[[Any], float]) -> float:
        """What a function says of the model."""
        told = metric(self.model)
        try:
            return float(keras.ops.convert_to_numpy(told))
        except (TypeError, ValueError) as error:
            raise ArgumentError(
                "`metric` must be a function: model -> one number. Received: a "
                f"{type(told).__name__} of '{self.name}'. Return a float."
            ) from error

    def _told(self, x: Any, y: Any, weight: Any) -> dict[str, Any]:
        try:
            told = self.model.test_on_batch(x, y, weight, return_dict=True)
        except Exception as error:
            raise ArgumentError(
                f"Model '{self.model.name}' cannot be evaluated on `data`; nothing was changed. "
                f"Received: {first_sentence(error)} Give it as you give model.evaluate its data."
            ) from error
        if self.metric not in told:
            raise ArgumentError(
                f"`metric` must be one of {', '.join(map(repr, told))}, or a function: model -> "
                f"number. Received: {self.metric!r}. Compile the model with it, or choose one."
            )
        return cast(dict[str, Any], told)
