"""All that a training is asked for, as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reducible_train.settings.adaptive import Adaptive
from reducible_train.settings.aids import Aid
from reducible_train.settings.cadence import Cadence
from reducible_train.settings.guard import Guard
from reducible_train.settings.rules import LayerRule
from reducible_train.settings.search import Search
from reducible_train.settings.targets import Target


@dataclass(frozen=True, eq=False)
class CompressionSettings:
    """What a `RankScheduler` was asked for, checked.

    The arguments are those of the scheduler, `target` for the one of its targets that was given.
    """

    target: Target
    measure: Any
    allocation: str
    criterion: str
    calibration: Any
    rules: Sequence[LayerRule]
    cadence: Cadence
    guard: Guard | None
    aids: Sequence[Aid]
    adaptive: Adaptive | None
    search: Search | None
    min_gain: float
    input_shape: Any
