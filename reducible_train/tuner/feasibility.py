"""What of a space can be done at all, as far as it is known before the first trial."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from reducible_train import _keras
from reducible_train.compressor import Compression
from reducible_train.errors import RankError, ShortfallWarning
from reducible_train.layers import find_kernels
from reducible_train.selection.call_counts import count_calls
from reducible_train.settings.measures import CountedMeasure, Measure
from reducible_train.settings.objectives import QualityAtSize, SearchObjective
from reducible_train.settings.search_space import SearchSpace
from reducible_train.tuner.evaluation import TrialPlan
from reducible_train.tuner.trial_settings import check_floors, scheduler_of


def check_feasible(plan: TrialPlan, model: Any) -> None:
    """Refuse a space whose smallest budgets no ranks meet; tell where only some floors forbid them.

    Budgets of measures that are tried or encoded, such as latency, are known in a trial alone.

    Args:
        plan: What all trials have in common.
        model: The dense start; of one without weights nothing is known yet.

    Raises:
        RankError: The smallest budgets of the space are met by no ranks above its smallest floors.
        ArgumentError: A floor that changes nothing.
    """
    if not _keras.has_weights(model):
        return
    if not plan.varies:
        check_floors(plan.space, plan.rules, model)
    part = _keras.trained_model(model)
    try:
        _plan(plan, part, min)
    except RankError as error:
        raise RankError(f"`budget` of the search space goes too low: {error}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ShortfallWarning)  # it was told by the first look
            _plan(plan, part, max)
    except RankError as error:
        reason = str(error).splitlines()[0]
        warnings.warn(
            "The smallest budgets of the search space and its largest floors or multiples do not "
            f"go together: trials of both fail. {reason}",
            ShortfallWarning,
            stacklevel=4,
        )


def warn_of_limit(space: SearchSpace, objective: SearchObjective | None) -> None:
    """Tell of a size below all budgets of the same measure, to which no trial is asked to go.

    Args:
        space: What is chosen.
        objective: What is made best.
    """
    if not isinstance(objective, QualityAtSize):
        return
    names = {f"budget/{objective.measure}"}
    names |= {"budget"} if objective.measure == "parameters" else set()
    budgets = [each.values for each in space.domains if each.name in names]
    least = min((float(value) for values in budgets for value in values), default=0.0)
    if objective.limit < least:
        warnings.warn(
            f"No trial is asked to be small enough: the limit is {objective.limit:g} of the "
            f"{objective.measure}, and the smallest budget of the search space {least:g}. Let "
            "`budget` go down to the limit.",
            ShortfallWarning,
            stacklevel=3,
        )


def _plan(plan: TrialPlan, part: Any, floor: Callable[..., Any]) -> None:
    """Look for ranks that meet the smallest budgets with the smallest floors and multiples, or the
    largest.
    """
    told = {each.name: each.values[0] for each in plan.space.domains}
    for each in plan.space.domains:
        if each.name.startswith("budget"):
            told[each.name] = min(each.values)
        elif each.name == "multiple" or each.name.startswith("min_rank/"):
            told[each.name] = floor(each.values)
    given: dict[str, Any] = {"rules": plan.rules, "losses": plan.analysis}
    given["layers_of"] = part if plan.varies else None
    asked = scheduler_of(told, epochs=1, **given).settings
    known = [each for each in asked.measures if _is_known(each, part)]
    if not known:
        return
    names = {each.name for each in known}
    left = {
        name: value
        for name, value in told.items()
        if not name.startswith("budget/") or name.removeprefix("budget/") in names
    }
    asked = scheduler_of(left, epochs=1, **given).settings
    Compression(part, asked.target, measure=known, rules=asked.rules, multiple=asked.multiple)


def _is_known(measure: Measure, model: Any) -> bool:
    """False for what is measured in a trial, or counted by the lengths of its data."""
    if not measure.needs_shapes:
        return True
    known = isinstance(measure, CountedMeasure)
    return known and count_calls(model, find_kernels(model), [])[1] is not None
