"""In the place of a `RankControl` before a fit has met its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from reducible_train.compressor import Compression
from reducible_train.errors import ArgumentError
from reducible_train.report.records import Report, empty_report
from reducible_train.selection.input_shapes import InputShapes
from reducible_train.selection.samples import Samples
from reducible_train.training.guard_run import GuardRun
from reducible_train.training.shortfall import Shortfall
from reducible_train.training.target_controllers import TargetController
from reducible_train.training.unguarded import Unguarded


class NoModel:
    """A model that has no weights yet: nothing can be done to it."""

    compression: Compression | None = None
    controller: TargetController | None = None
    guard: GuardRun | Unguarded | None = None
    began: float | None = None
    counts_uses = False
    ranks: Mapping[str, int] = {}
    ranks_of_factors: Mapping[str, int] = {}
    diverged: str | None = None

    def open(self, epoch: int) -> None:
        """An epoch has its first step, which will build the model."""

    def act(self, time: float, step: int, steps_per_epoch: int | None) -> None:
        """Nothing is cut."""

    def before_epoch(self, epoch: int, schedule_end: float) -> None:
        """No aid has begun."""

    def see_loss(self, logs: Mapping[str, Any] | None, epoch: int) -> None:
        """There was no cut before it."""

    def see(self, epoch: int, logs: dict[str, Any] | None) -> None:
        """Nor before these metrics."""

    def learn(self, enough: Callable[[], Samples | None]) -> None:
        """Nobody wants samples yet."""

    def count_uses(self, shapes: InputShapes) -> None:
        """Shapes are asked for when the model is met."""

    def close(
        self, epoch: int, step: int, epoch_step: int, as_left: AbstractContextManager[None]
    ) -> None:
        """Nothing was begun."""

    def abandon(self) -> None:
        """Nor is there anything to take away."""

    def report(self, shortfall: Shortfall | None) -> Report | None:
        """Nothing but why there is none, once the fit is over."""
        return None if shortfall is None else empty_report(str(shortfall))

    def get_state(self) -> dict[str, Any]:
        """Refused: there is none."""
        raise ArgumentError(
            "There is no state before `fit` has met a built model. Received: a scheduler that "
            "has not. Build the model first, by calling it once on data."
        )
