"""What a model costs by a measure of tables: who makes them, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from reducible_train.errors import ArgumentError, shortened
from reducible_train.selection.costs import CostModel, cost_model_kind
from reducible_train.selection.rank_choice import RankChoice
from reducible_train.selection.survey import MakeCostModel, Survey
from reducible_train.settings.measures import Measure, TabulatedMeasure


def cost_models_of(
    measures: Sequence[Measure], state: Mapping[str, Any] | None
) -> dict[str, MakeCostModel]:
    """What makes the tables of costs of a model, by those of the measures that have no law.

    Args:
        measures: The measures.
        state: Of another fit that will be taken up, whose tables hold on.

    Raises:
        ArgumentError: A measure has neither a law nor what makes tables of it.
    """
    told, made = (state or {}).get("cost_models", {}), dict[str, MakeCostModel]()
    for measure in measures:
        kind, known = cost_model_kind(measure.name), told.get(measure.name)
        if kind is None and isinstance(measure, TabulatedMeasure):
            raise ArgumentError(
                "A measure of tables must have a cost model, which makes them. Received: "
                f"measure={measure.name!r}, which has none. Write one with measure = "
                f"{measure.name!r}, a subclass of CostModel of reducible_train.selection.costs: a "
                f"module {measure.name}.py there, as file.py is."
            )
        if kind is not None:
            make = partial(kind.of, measure)
            made[measure.name] = make if known is None else partial(_told, kind, known)
    return made


def _told(kind: type[CostModel], known: Mapping[str, Any], *_: Any) -> CostModel:
    """The tables of another fit."""
    return kind.from_plain(known)


def keep_dense_costs(survey: Survey, choices: Sequence[RankChoice]) -> None:
    """Let what has factors now remember what only the dense kernel tells, for later fits."""
    for name, costs in survey.cost_models.items():
        for each in choices:
            costs.keep_dense_cost(each.compressible.kernel, each.factorization.dense_cost(name))


def cost_notes(survey: Survey, measures: Sequence[Measure]) -> Iterator[str]:
    """What the model costs by measures that the report has no figures of.

    Args:
        survey: The kernels, and what they cost.
        measures: What budgets count.
    """
    for measure in measures:
        if not isinstance(measure, TabulatedMeasure):
            continue
        words = measure.words(survey.dense_total(measure.name), survey.total(measure.name))
        counted = survey.counted if measure.needs_shapes else None
        at = "" if counted is None else f"It is that at {counted}."
        remark = survey.cost_models[measure.name].remark
        quantized = [kernel for kernel in survey.kernels if kernel.is_quantized]
        fixed = [*(kernel.path for kernel in (*quantized, *survey.fixed)), *survey.uncounted]
        fixed += [f"what is done beside its layer with {path}" for path in survey.partly_counted]
        without = f"It is without {shortened(', '.join(fixed), 300)}."
        untimed = without if measure.needs_shapes and fixed else ""
        yield " ".join(filter(None, (words, untimed, at, remark)))
