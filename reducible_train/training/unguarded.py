"""In the place of a guard where there is none: every cut stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reducible_train.report.records import UndoneCut
from reducible_train.training.guard_run import Cutter, Hindrance, Rhythm
from reducible_train.training.target_controllers import TargetController


class Unguarded:
    """Cuts whenever the controller says so, and never goes back.

    Args:
        cutter: What makes the cuts.
        controller: How far each goes.
    """

    is_on_duty = False
    end: str | None = None
    hindrance: Hindrance | None = None
    delay: Hindrance | None = None
    rarity: Rhythm | None = None
    is_unvalidated_only = False
    undone: tuple[UndoneCut, ...] = ()

    def __init__(self, cutter: Cutter, controller: TargetController):
        self._cutter = cutter
        self._controller = controller

    @property
    def notes(self) -> list[str]:
        """What the reader of a report should know."""
        return [] if self._controller.note is None else [self._controller.note]

    def act(self, time: float, step: int, epoch_step: int = 0) -> None:
        """Cut as far as the controller says."""
        wanted = self._controller.target_value
        self._cutter.cut(time, wanted, step=step, epoch_step=epoch_step, training=True)

    def see_loss(self, logs: Mapping[str, Any] | None, epoch: int) -> None:
        """A loss undoes nothing."""

    def see(self, epoch: int, logs: Mapping[str, Any] | None) -> None:
        """Nor do metrics."""

    def go_back(self, time: float) -> None:
        """There is no way back."""

    def close(self, epochs: float) -> None:
        """What was cut stays."""

    def tell_end(self, told: str) -> None:
        """It stops no training."""
