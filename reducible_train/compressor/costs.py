"""What a model costs by a measure of tables: who makes them, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from reducible_train.selection.costs import cost_model_kind
from reducible_train.selection.rank_choice import RankChoice
from reducible_train.selection.survey import MakeCostModel, Survey
from reducible_train.settings.measures import Measure, TabulatedMeasure


def cost_model_of(measure: Measure, state: Mapping[str, Any] | None) -> MakeCostModel | None:
    """What makes the tables of costs of a model; `None` where the measure has a law.

    Args:
        measure: The measure.
        state: Of another fit that will be taken up, whose tables hold on.
    """
    kind = cost_model_kind(measure.name)
    if kind is None:
        return None
    known = (state or {}).get("cost_models", {}).get(measure.name)
    if known is not None:
        return lambda *_: kind.from_plain(known)
    return partial(kind.of, measure)


def keep_dense_costs(survey: Survey, choices: Sequence[RankChoice]) -> None:
    """Let what has factors now remember what only the dense kernel tells, for later fits."""
    for name, costs in survey.cost_models.items():
        for each in choices:
            costs.keep_dense_cost(each.compressible.kernel, each.factorization.dense_cost(name))


def cost_notes(survey: Survey, measure: Measure) -> Iterator[str]:
    """What the model costs by a measure that the report has no figures of.

    Args:
        survey: The kernels, and what they cost.
        measure: What a budget counts.
    """
    if not isinstance(measure, TabulatedMeasure):
        return
    words = measure.words(survey.dense_total(measure.name), survey.total(measure.name))
    counted = survey.counted if measure.needs_shapes else None
    at = "" if counted is None else f"It is that at {counted}."
    remark = survey.cost_models[measure.name].remark
    yield " ".join(filter(None, (words, at, remark)))
