"""Schedules: pure functions from the epoch to a target (a budget, an energy, an error or a rank).

Every module in this package is imported, so a new kind of schedule is one new file.
"""

from __future__ import annotations

import importlib
import pkgutil

from reducible_train.settings.schedules.base import Schedule, schedule_from_config, schedule_kinds
from reducible_train.settings.schedules.constant import Constant
from reducible_train.settings.schedules.join import Join
from reducible_train.settings.schedules.piecewise_constant import PiecewiseConstant
from reducible_train.settings.schedules.ramp import Ramp

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = [
    "Constant",
    "Join",
    "PiecewiseConstant",
    "Ramp",
    "Schedule",
    "schedule_from_config",
    "schedule_kinds",
]
