"""Has a tuner of keras-tuner go by what an analysis foresees: where it begins, how large it tries.

After the first trials the tuner chooses by itself. But each trial has shown what share of its
foreseen loss training leaves, and how small a model holds the quality: between the budget at which
the best share so far, and a little better, would just hold it, and that size, lies what can win.
There the budget of the tuner is moved, as far up or down as the tuner chose it in the whole space.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.src.distribute.oracle_client import OracleClient

from reducible_train.errors import ArgumentError
from reducible_train.settings.objectives import SizeAtQuality
from reducible_train.tuner.foresight import APART, Foresight
from reducible_train.tuner.hypermodel import RankHyperModel

_BETTER = 0.7  # of the smallest share of a loss that training has left: what others may leave


def propose(tuner: Any) -> int:
    """Have a tuner begin with the trials that the analysis of its hypermodel foresees to be good.

    They come first and count as the tuner's own. Of those after them the tuner chooses everything
    but the size, which it chooses within what can still win. Call it once, before `tuner.search`,
    also where a search goes on; of a worker it does nothing, since its chief chooses.

    Args:
        tuner: A tuner of keras-tuner over a `RankHyperModel`.

    Returns:
        How many trials it begins with; 0 where nothing is foreseen.

    Raises:
        ArgumentError: Its hypermodel has no analysis, or it is a `GridSearch`, which goes by the
            trials before.

    Example:
        >>> # hypermodel = RankHyperModel(model, space, objective=goal, analysis="analysis.json")
        >>> # tuner = keras_tuner.BayesianOptimization(hypermodel, hypermodel.objective)
        >>> # propose(tuner)
        >>> # tuner.search(x, y, validation_data=(x_val, y_val), epochs=3)
    """
    hypermodel = tuner.hypermodel
    hypermodel = getattr(hypermodel, "hypermodel", hypermodel)
    if not isinstance(hypermodel, RankHyperModel) or hypermodel.foresight is None:
        raise ArgumentError(
            "`propose` needs a tuner whose hypermodel was given an analysis. Received: a "
            f"{type(tuner).__name__} over a {type(hypermodel).__name__} without one. Write "
            "RankHyperModel(..., analysis='analysis.json')."
        )
    if isinstance(tuner, keras_tuner.GridSearch):
        raise ArgumentError(
            "`propose` needs a tuner that can begin anywhere. Received: a GridSearch, which goes "
            "from each trial to its neighbour. Leave `propose` out, or take RandomSearch, "
            "BayesianOptimization or Hyperband."
        )
    foresight = hypermodel.foresight
    if foresight.proposals and not isinstance(tuner.oracle, OracleClient):
        _steer(tuner.oracle, foresight)
    return len(foresight.proposals)


def _steer(oracle: Any, foresight: Foresight) -> None:
    """Put proposals in place of what an oracle chooses first, and later budgets where they win."""
    choose, proposals = oracle.populate_space, foresight.proposals

    def populate_space(trial_id: str) -> dict[str, Any]:
        found: dict[str, Any] = choose(trial_id)
        number, values = len(oracle.trials), found.get("values")
        goes_on = "tuner/trial_id" in (values or {})
        if values is None or goes_on:
            return found
        if number < len(proposals):
            found["values"] = {**values, **proposals[number]}
        else:
            place = moved(values[foresight.budget], window(oracle.trials, foresight), foresight)
            found["values"] = {**values, foresight.budget: place}
        return found

    oracle.populate_space = populate_space


def window(trials: Mapping[str, Any], foresight: Foresight) -> tuple[float, float]:
    """The least and the largest budget that can still win, by what trials have shown."""
    least, largest = (float(each[0]) for each in (foresight.curve[0], foresight.curve[-1]))
    shares = []
    for each in trials.values():
        if each.status != "COMPLETED":
            continue
        value = float(each.metrics.get_best_value(SizeAtQuality.name))
        budget = float(each.hyperparameters.values[foresight.budget])
        held, lost = value <= 1.0, foresight.lost(budget)
        if held:
            largest = min(largest, value)
        if lost > foresight.allowed:
            shares.append((foresight.allowed + (0.0 if held else value - 1.0)) / lost)
    if foresight.allowed > 0 and shares and min(shares) > 0:
        least = max(least, foresight.losing(foresight.allowed / (_BETTER * min(shares))))
    return max(min(least, largest / APART), foresight.curve[0][0]), largest


def moved(budget: float, ends: tuple[float, float], foresight: Foresight) -> float:
    """A budget, as far up between two ends as it was in the whole range, in equal ratios."""
    low, high = (each[0] for each in (foresight.curve[0], foresight.curve[-1]))
    share = float(np.clip(np.log(budget / low) / np.log(high / low), 0.0, 1.0))
    least, largest = ends
    return min(max(float(least * (largest / least) ** share), low), high)
