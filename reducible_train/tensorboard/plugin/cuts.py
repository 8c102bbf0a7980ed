"""What each cut did to each metric, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reducible_train.report.places import EITHER
from reducible_train.settings.metric_names import direction_by_name


def main_metric(names: Iterable[str], monitor: str = "") -> str | None:
    """The metric to show first: the one a guard watches, else one that is no loss.

    Example:
        >>> main_metric(["val_loss", "val_accuracy"]), main_metric(["val_loss"]), main_metric([])
        ('val_accuracy', 'val_loss', None)
    """
    known = list(names)
    if monitor in known:
        return monitor
    return next((each for each in known if not each.endswith("loss")), next(iter(known), None))


def direction_of(name: str, told: Mapping[str, float]) -> int:
    """1 if a metric should be large, -1 if small; logs that do not say so are told by the name."""
    if name in told:
        return 1 if told[name] > 0 else -1
    return direction_by_name(name)


def cost_of_cuts(
    steps: Sequence[int], values: Sequence[float | None], cuts: Iterable[int], direction: int
) -> list[dict[str, Any]]:
    """By how much a metric was worse after the epoch of a cut than before it.

    Args:
        steps: Epochs.
        values: The metric at their ends.
        cuts: Epochs before or in which a cut was made.
        direction: 1 if the metric should be large, -1 if small.

    Returns:
        Of each cut `step`, `before`, `after` and `cost`, above 0 if it was worse after.

    Example:
        >>> cost_of_cuts([0, 1, 2], [0.5, 0.875, 0.75], [2], 1)
        [{'step': 2, 'before': 0.875, 'after': 0.75, 'cost': 0.125}]
    """
    found, known = [], dict(zip(steps, values, strict=True))
    for cut in sorted(set(cuts)):
        earlier = [s for s in steps if s < cut and known[s] is not None]
        before, after = known[earlier[-1]] if earlier else None, known.get(cut)
        if before is not None and after is not None:
            cost = direction * (before - after)
            found.append({"step": cut, "before": before, "after": after, "cost": cost})
    return found


def costliest(costs: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The cut with the largest cost; `None` if none cost anything."""
    found = max(costs, key=lambda each: each["cost"], default=None)
    return found if found is not None and found["cost"] > 0 else None


def when_of(cuts: Iterable[Mapping[str, Any]], at: int) -> str:
    """The word of `when` for all cuts of an epoch; if they differ, the one that holds for all.

    Example:
        >>> when_of([{"at": 3, "when": "before"}, {"at": 4, "when": "in"}], 4), when_of([], 4)
        ('in', 'before or in')
    """
    words = {each["when"] for each in cuts if each["at"] == at}
    return str(words.pop()) if len(words) == 1 else EITHER


def is_part(cut: Mapping[str, Any], undone: Mapping[str, Any]) -> bool:
    """True for a cut that was undone, alone or with others of its epoch.

    Args:
        cut: One cut.
        undone: What was undone, from the size before its first cut to that after its last.

    Example:
        >>> undone = {"at": 2, "parameters_before": 900, "parameters": 300}
        >>> is_part({"at": 2, "parameters_before": 900, "parameters": 500}, undone)
        True
        >>> is_part({"at": 2, "parameters_before": 950, "parameters": 900}, undone)
        False
    """
    if cut["at"] != undone["at"]:
        return False
    sizes = [each[name] for name in ("parameters_before", "parameters") for each in (undone, cut)]
    if None in sizes:
        return bool(cut["parameters"] == undone["parameters"])
    return bool(sizes[0] >= sizes[1] >= sizes[3] >= sizes[2])


def falls(ranks: Iterable[Sequence[float | None]], steps: Sequence[int]) -> list[int]:
    """The epochs in which a rank fell, where nothing else tells of cuts.

    Example:
        >>> falls([[8, 8, 4], [8, 6, 6]], [0, 1, 2])
        [1, 2]
    """
    found = set()
    for row in ranks:
        for i in range(1, len(row)):
            before, after = row[i - 1], row[i]
            if before is not None and after is not None and after < before:
                found.add(steps[i])
    return sorted(found)
