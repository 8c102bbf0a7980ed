"""Targets: what a model is brought to (a budget, a cost, an energy, an error or a rank).

Every module in this package is imported, so a new kind of target is one new file.
"""

from __future__ import annotations

import importlib
import pkgutil

from reducible_train.settings.targets.asked import (
    choice_faults,
    goal,
    goal_faults,
    one_target,
    target,
)
from reducible_train.settings.targets.base import (
    LossTarget,
    RankTarget,
    SharedTarget,
    Target,
    target_kinds,
)
from reducible_train.settings.targets.budget import Budget
from reducible_train.settings.targets.several import SharedTargets
from reducible_train.settings.targets.stable_rank import StableRank

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = [
    "Budget",
    "LossTarget",
    "RankTarget",
    "SharedTarget",
    "SharedTargets",
    "StableRank",
    "Target",
    "choice_faults",
    "goal",
    "goal_faults",
    "one_target",
    "target",
    "target_kinds",
]
