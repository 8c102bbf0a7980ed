"""Has a tuner of keras-tuner try some settings before it chooses by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras_tuner
from keras_tuner.src.distribute.oracle_client import OracleClient

from reducible_train.errors import ArgumentError
from reducible_train.tuner.hypermodel import RankHyperModel


def propose(tuner: Any) -> int:
    """Have a tuner begin with the trials that the analysis of its hypermodel foresees to be good.

    They come first and count as the tuner's own, which goes on from what they have shown. Call it
    once, before `tuner.search`, also where a search goes on; of a worker it does nothing, since its
    chief chooses.

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
    proposals = hypermodel.foresight.proposals
    if not isinstance(tuner.oracle, OracleClient):
        _first(tuner.oracle, proposals)
    return len(proposals)


def _first(oracle: Any, proposals: tuple[Mapping[str, Any], ...]) -> None:
    """Put proposals in place of what an oracle chooses for its first trials."""
    choose = oracle.populate_space

    def populate_space(trial_id: str) -> dict[str, Any]:
        found: dict[str, Any] = choose(trial_id)
        number, values = len(oracle.trials), found.get("values")
        goes_on = "tuner/trial_id" in (values or {})
        if values is not None and number < len(proposals) and not goes_on:
            found["values"] = {**values, **proposals[number]}
        return found

    oracle.populate_space = populate_space
