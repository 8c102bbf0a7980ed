"""Has a tuner of keras-tuner try sizes at which the quality just holds, the best settings so far.

The tuner goes on to choose: one setting of each trial is its own. What it would choose by itself is
spread over all sizes, of which most lose too much or are larger than what has held already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.src.distribute.oracle_client import OracleClient
from keras_tuner.src.engine.hyperparameters.hp_types import Choice, Fixed, Float, Int
from keras_tuner.src.engine.trial import TrialStatus

from reducible_train.errors import ArgumentError, ArgumentTypeError
from reducible_train.settings.objectives import SizeAtQuality
from reducible_train.tuner.boundary import Aim, Shown, aim, nothing_smaller
from reducible_train.tuner.errors import SearchError
from reducible_train.tuner.foresight import COUNTED, Foresight
from reducible_train.tuner.hypermodel import RankHyperModel
from reducible_train.tuner.keras_tuner_side import unwrapped
from reducible_train.tuner.project import Project

_EPOCHS = "tuner/epochs"  # of a trial of Hyperband; shorter ones show something else


def propose(tuner: Any) -> bool:
    """Have a tuner that searches the smallest model try sizes at which the quality just holds.

    Each finished trial tells at which size its settings would just hold the quality. The next one
    repeats the best settings at that size, with one of them as the tuner chooses it. The first is
    of the middle of the range; with an analysis, where that foresees the answer. Where nothing but
    the budget is searched and the least one holds, the search ends.

    Call it once, before `tuner.search`, also where a search goes on; of a worker it does nothing,
    since its chief chooses.

    Args:
        tuner: A tuner of keras-tuner over a `RankHyperModel` with objective `SizeAtQuality`, whose
            space has one range of budgets, of the measure of the objective.

    Returns:
        False where there is an analysis and the search is of another kind; or where the
        tuner's own `hyperparameters=` leave no range of budgets. Of all that they say, other
        ends and fixed values too, nothing else is tried.

    Raises:
        ArgumentTypeError: It is no tuner.
        ArgumentError: It is no such tuner and has no analysis; or a `GridSearch`, which goes by
            the trials before.

    Example:
        >>> # goal = SizeAtQuality("val_accuracy", max_drop=0.003)
        >>> # hypermodel = RankHyperModel(model, SearchSpace(budget=(0.05, 0.5)), objective=goal)
        >>> # tuner = keras_tuner.BayesianOptimization(hypermodel, hypermodel.objective)
        >>> # propose(tuner)
        >>> # tuner.search(x, y, validation_data=(x_val, y_val), epochs=6)
    """
    hypermodel = unwrapped(getattr(tuner, "hypermodel", None))
    if not isinstance(tuner, BaseTuner):
        raise ArgumentTypeError(
            f"`propose` needs a tuner of keras-tuner. Received: {tuner!r}. Write "
            "propose(keras_tuner.RandomSearch(hypermodel, hypermodel.objective))."
        )
    if isinstance(tuner, keras_tuner.GridSearch):
        raise ArgumentError(
            "`propose` needs a tuner that can begin anywhere. Received: a GridSearch, which goes "
            "from each trial to its neighbour. Leave `propose` out, or take RandomSearch, "
            "BayesianOptimization or Hyperband."
        )
    if not _is_for_proposals(tuner, hypermodel):
        raise ArgumentError(
            "`propose` needs a tuner that searches the smallest model. Received: a "
            f"{type(tuner).__name__} of {tuner.oracle.objective.name!r} over {_what(hypermodel)}. "
            "Write RankHyperModel(..., objective=SizeAtQuality('val_accuracy', max_drop=0.003)) "
            "with one range of budgets of the same measure, as budget=(0.05, 0.5), and give "
            "hypermodel.objective to the tuner."
        )
    goal = hypermodel.foresight.goal
    if goal is None:
        return False
    if not isinstance(tuner.oracle, OracleClient):
        sign = hypermodel.plan.sign(hypermodel.start.model)
        proposals = _Proposals(tuner.oracle, hypermodel.foresight, goal, sign)
        if proposals.ends is None:
            return False
        _steer(tuner.oracle, proposals)
    return True


def _is_for_proposals(tuner: Any, hypermodel: Any) -> bool:
    """Whether it searches the smallest model, or has an analysis that serves it otherwise."""
    if not isinstance(hypermodel, RankHyperModel):
        return False
    goal = hypermodel.foresight.goal
    if goal is None:
        return hypermodel.plan.analysis is not None
    return bool(getattr(tuner.oracle.objective, "name", "") == goal.name)


def _what(hypermodel: Any) -> str:
    if not isinstance(hypermodel, RankHyperModel):
        return f"a {type(hypermodel).__name__}"
    objective, budget = hypermodel.plan.objective, hypermodel.space.budget
    return f"a RankHyperModel of budget {budget!r} with objective {objective!r}"


def _steer(oracle: Any, proposals: _Proposals) -> None:
    """Put other settings in place of those that an oracle chooses."""
    choose = oracle.populate_space
    if hasattr(choose, "proposals"):
        return

    def populate_space(trial_id: str) -> dict[str, Any]:
        found: dict[str, Any] = choose(trial_id)
        values = found.get("values")
        if values is None or "tuner/trial_id" in values:  # which goes on with another
            return found
        if proposals.are_over(values):
            return {"status": TrialStatus.STOPPED, "values": None}
        proposed = {**values, **proposals.instead_of(values)}
        return found if proposals.are_done(proposed) else {**found, "values": proposed}

    populate_space.proposals = proposals  # type: ignore[attr-defined]
    oracle.populate_space = populate_space


@dataclass(frozen=True)
class _Proposals:
    """What is tried in place of what a tuner has chosen.

    Args:
        oracle: That of the tuner.
        foresight: Where its search begins.
        goal: What it searches.
        sign: 1 if the quality should be large, -1 if small.
    """

    oracle: Any
    foresight: Foresight
    goal: SizeAtQuality
    sign: int

    def instead_of(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Settings for all that the tuner searches."""
        name, ends = self.foresight.budget, self.ends
        if ends is None:
            return {}
        first = {**self.foresight.first, name: self.foresight.begins_within(ends)}
        trials = self._shown(values.get(_EPOCHS))
        if not trials:
            return self._within(first, values)
        found = aim(trials, ends, self.goal.max_drop) or Aim(first[name], {})
        budget = found.budget
        if budget not in ends or any(each.budget == budget for each in trials):
            low, high = ends
            share = float(np.log(values[name] / low) / np.log(high / low))
            budget = found.moved(min(max(share, 0.0), 1.0), ends)
        others = found.exchanged(self._others(values), len(self.oracle.trials))
        return self._within({**others, name: budget}, values)

    def are_over(self, values: Mapping[str, Any]) -> bool:
        """True if nothing but the budget is searched, and the least one has held.

        `Hyperband` ends by itself: it trains the best of its short trials on.
        """
        if self.ends is None or set(self._searched) != {self.foresight.budget}:
            return False
        return _EPOCHS not in values and nothing_smaller(self._shown(None), self.ends)

    def are_done(self, values: Mapping[str, Any]) -> bool:
        """True if a trial has had the same: where a range has steps, or all is a choice."""
        told = {
            name: value
            for name, value in values.items()
            if name == _EPOCHS or not name.startswith("tuner/")
        }.items()
        return any(told <= each.hyperparameters.values.items() for each in self._trials)

    @property
    def _trials(self) -> list[Any]:
        """All trials, in the order in which they began."""
        found = map(self.oracle.trials.get, dict.fromkeys(self.oracle.start_order))
        return [each for each in found if each is not None]

    @property
    def ends(self) -> tuple[float, float] | None:
        """The least and the largest budget that the tuner may choose; `None` of no range."""
        budget = self._searched.get(self.foresight.budget)
        if not isinstance(budget, Float):
            return None
        return float(budget.min_value), float(budget.max_value)

    @property
    def _searched(self) -> dict[str, Any]:
        """What the tuner chooses, by name: the space, but for what it was told otherwise."""
        space = self.oracle.get_space().space
        return {each.name: each for each in space if not _is_settled(each)}

    def _within(self, wanted: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
        """What is wanted, as far as the tuner may choose it."""
        searched = self._searched
        return {
            name: _nearest(searched[name], value, values[name])
            for name, value in wanted.items()
            if name in searched and name in values
        }

    def _others(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """All settings but the budget that the tuner chooses."""
        names = [name for name in self._searched if name in self.foresight.first]
        names.remove(self.foresight.budget)
        return {name: values[name] for name in names if name in values}

    def _shown(self, epochs: int | None) -> list[Shown]:
        """What the trials of a length have shown, in the order in which they began."""
        trials = [(each, each.hyperparameters.values) for each in self._trials]
        return [self._of(each, values) for each, values in trials if values.get(_EPOCHS) == epochs]

    def _of(self, trial: Any, values: Mapping[str, Any]) -> Shown:
        budget = float(values[self.foresight.budget])
        if trial.status != "COMPLETED":
            return Shown(budget)
        self._check_reported(trial)
        return Shown(budget, self._others(values), self._size(trial, budget), self._margin(trial))

    def _check_reported(self, trial: Any) -> None:
        """Refuse to go by a trial whose file has lost what it has reported."""
        for name in (self.goal.name, self.goal.monitor, self.goal.size_name):
            if trial.metrics.exists(name):
                continue
            raise SearchError(
                f"A finished trial must have reported {name!r}. Received: trial {trial.trial_id} "
                f"with {', '.join(trial.metrics.metrics)}. Remove its folder in "
                f"{self.oracle._project_dir}, and another runs in its place."
            )

    def _size(self, trial: Any, budget: float) -> float:
        """What it reached, as budgets count; a file may be a quarter smaller than its budget."""
        if self.goal.measure not in COUNTED:
            return budget
        return float(trial.metrics.get_best_value(self.goal.size_name))

    def _margin(self, trial: Any) -> float:
        """By how much its quality is better than it must be; as little as is known, if it holds."""
        value = float(trial.metrics.get_best_value(self.goal.name))
        if value > 1.0:
            return 1.0 - value
        dense = Project(Path(self.oracle._project_dir), {}).dense.get(self.goal.monitor)
        if dense is None and self.goal.needs_dense:  # the file that says it is lost
            return 0.0
        quality = float(trial.metrics.get_best_value(self.goal.monitor))
        return max(self.sign * (quality - self.goal.bound(self.sign, dense)), 0.0)


def _is_settled(domain: Any) -> bool:
    return isinstance(domain, Fixed) or (isinstance(domain, Choice) and len(domain.values) == 1)


def _nearest(domain: Any, value: Any, chosen: Any) -> Any:
    """What comes nearest to a value in what a tuner may choose; where nothing does, its choice."""
    if not isinstance(domain, Float | Int):
        return value if value in domain.values else chosen
    value = min(max(value, domain.min_value), domain.max_value)
    return value if domain.step is None else domain.prob_to_value(domain.value_to_prob(value))


__all__ = ["propose"]
