"""Search how a model is best compressed: many trainings from one trained start.

`RankHyperModel` is for the tuners of keras-tuner, `evaluate_settings` for any other engine.
Names are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reducible_train.settings.objectives import QualityAtSize, SizeAtQuality
    from reducible_train.settings.search_space import SearchSpace
    from reducible_train.tuner.evaluation import evaluate_settings
    from reducible_train.tuner.front import ParetoFront, pareto
    from reducible_train.tuner.hypermodel import RankHyperModel
    from reducible_train.tuner.proposals import propose
    from reducible_train.tuner.start import Start

_HOMES = {
    "ParetoFront": "tuner.front",
    "QualityAtSize": "settings.objectives",
    "RankHyperModel": "tuner.hypermodel",
    "SearchSpace": "settings.search_space",
    "SizeAtQuality": "settings.objectives",
    "Start": "tuner.start",
    "evaluate_settings": "tuner.evaluation",
    "pareto": "tuner.front",
    "propose": "tuner.proposals",
}

__all__ = [
    "ParetoFront",
    "QualityAtSize",
    "RankHyperModel",
    "SearchSpace",
    "SizeAtQuality",
    "Start",
    "evaluate_settings",
    "pareto",
    "propose",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"reducible_train.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
