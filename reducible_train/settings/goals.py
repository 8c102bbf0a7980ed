"""What something falls to, as an option: a number or a schedule of a quantity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from reducible_train.settings.checks import plain
from reducible_train.settings.faults import Fault, Path
from reducible_train.settings.fields import Kind
from reducible_train.settings.schedules import schedule_from_config
from reducible_train.settings.targets import target_kinds


@dataclass(frozen=True)
class Goal(Kind):
    """A number or a schedule of a quantity."""

    quantity: str

    def read(self, path: Path, value: Any, owner: str, found: list[Fault]) -> Any:
        faults = target_kinds()[self.quantity].faults_of(value)
        found += [replace(each.within(*path), alone=True) for each in faults]
        if isinstance(value, Mapping) and not faults:
            return schedule_from_config(value)
        return plain(value)
