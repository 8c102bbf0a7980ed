"""Measures that are tabulated: where their prices come from, and what cuts add to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reducible_train.layers import keep_dense_file_bytes
from reducible_train.selection.costs.counted import Prices
from reducible_train.selection.costs.file import FileSize, story_bytes
from reducible_train.selection.costs.latency import Latency
from reducible_train.selection.rank_choice import RankChoice
from reducible_train.selection.survey import Pricer, Survey

PRICED: dict[str, FileSize | Latency] = {"file": FileSize(), "latency": Latency()}


def tabulated(measure: str | Latency) -> FileSize | Latency | None:
    """What tabulates a measure; `None` for one that has a law."""
    return measure if isinstance(measure, Latency) else PRICED.get(measure)


def name_of(measure: str | Latency) -> str:
    """The name of a measure, of whatever settings."""
    return "latency" if isinstance(measure, Latency) else measure


def pricer_of(measure: str | Latency, state: Mapping[str, Any] | None) -> Pricer | None:
    """What prices the kernels of a model; `None` where the measure has a law.

    Args:
        measure: The measure.
        state: Of another fit that will be taken up, whose prices hold on.
    """
    prices = (state or {}).get("prices", {}).get(name_of(measure))
    by = tabulated(measure)
    if by is None:
        return None
    return by.prices if prices is None else lambda *_: Prices.from_plain(prices)


def with_cuts(survey: Survey, cuts: Sequence[Any], coming: Sequence[str] = ()) -> Survey:
    """A survey whose file pays for the cuts it tells of.

    Args:
        survey: The survey.
        cuts: All so far.
        coming: Paths of the kernels that one more may change; none if there will be no more.
    """
    if "file" not in survey.prices:
        return survey
    return survey.with_story("file", story_bytes(cuts, coming))


def keep_dense_sizes(survey: Survey, choices: Sequence[RankChoice]) -> None:
    """Let what has factors now remember what only the dense kernel tells, for later fits."""
    for each in choices if "file" in survey.prices else ():
        keep_dense_file_bytes(each.compressible.kernel, each.factorization.dense_cost("file"))


def price_notes(survey: Survey, by: FileSize | Latency | None) -> Iterator[str]:
    """What the model costs by a measure that the report has no figures of.

    Args:
        survey: The kernels, and what they cost.
        by: What tabulated the measure; `None` if it has a law.
    """
    if by is None:
        return
    for name, prices in survey.prices.items():
        counted = survey.counted if name == "latency" else None
        at = "" if counted is None else f"It is that at {counted}."
        words = by.words(survey.dense_total(name), survey.total(name))
        yield " ".join(filter(None, (words, at, prices.remark)))
