"""What something falls to, as an option: a number or a schedule of a quantity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from reducible_train.settings.checks import is_number, plain
from reducible_train.settings.faults import Fault, Path, argument_text
from reducible_train.settings.fields import Kind, Value
from reducible_train.settings.schedules import Schedule, schedule_from_config
from reducible_train.settings.schedules.base import leaves, schedule_faults
from reducible_train.settings.targets import misfit, retreat_fault


@dataclass(frozen=True)
class Goal(Kind):
    """A number or a schedule of a quantity."""

    quantity: str

    def read(self, path: Path, value: Any, owner: str, found: list[Fault]) -> Any:
        faults = goal_faults(self.quantity, value)
        found += [replace(each.within(*path), alone=True) for each in faults]
        return (
            schedule_from_config(value)
            if isinstance(value, Mapping) and not faults
            else plain(value)
        )


def goal_faults(quantity: str, value: Any) -> list[Fault]:
    """All that is wrong with what a quantity shall fall to.

    Args:
        quantity: What falls, such as `"budget"`.
        value: A number, a schedule, or what `schedule_from_config` takes for one.

    >>> halves = {"kind": "piecewise_constant", "values": [1, 50], "start_epochs": [0, 3]}
    >>> [(fault.argument, fault.message) for fault in goal_faults("budget", halves)]
    [(('values', 1), '`values[1]` must be in (0, 1]. Received: 50. For 50 % write 0.5.')]
    """
    if isinstance(value, Schedule | Mapping):
        found = schedule_faults(value)
    else:
        found = []
        if not is_number(value):
            Value().read((quantity,), value, "", found)
        found = [replace(fault, argument=()) for fault in found]
    told = {fault.argument for fault in found}
    values = [(path, number) for path, number, kind in leaves(value) if isinstance(kind, Value)]
    for path, number in values:
        wrong = misfit(quantity, number)
        if wrong is not None and path not in told:
            name = argument_text(path) or quantity
            words = f"`{name}` must be {wrong[0]}. Received: {number!r}.{wrong[1]}"
            found.append(Fault(path, words))
    if not found:
        schedule = schedule_from_config(value)
        fault = retreat_fault(quantity, schedule)
        found += [] if fault is None else [Fault((), f"the schedule {fault}")]
    return found
