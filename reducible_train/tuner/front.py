"""The trials of a search that no other one beats in everything: a true front, not a sum."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_tuner.engine.trial import Trial

from reducible_train import _keras
from reducible_train.errors import ArgumentError, ArgumentTypeError
from reducible_train.report.figures import finished, new_figure
from reducible_train.settings.checks import checked_sequence
from reducible_train.settings.monitors import direction
from reducible_train.settings.objectives import QualityAtSize, SizeAtQuality
from reducible_train.tuner.evaluation import COMPACT, LATENCY, SIZE_METRICS, with_tuners
from reducible_train.tuner.kept_files import TRIAL, read_trial

# What a trial may cost, in the order of the table; the smaller the better.
COSTS = ("params_fraction", "flops_fraction", "file_bytes", "latency")


@dataclass(frozen=True)
class TrialPoint:
    """One finished trial.

    Args:
        trial_id: Its name in the search.
        metrics: All that it has reported.
        settings: What was chosen for it.
        file: Its compact file; `None` where there is none.
        is_best: True if no other trial is at least as good in everything, and better in something.
    """

    trial_id: str
    metrics: Mapping[str, float]
    settings: Mapping[str, Any]
    file: Path | None
    is_best: bool


@dataclass(frozen=True)
class ParetoFront:
    """The finished trials of a search, and which of them none beats in everything.

    Its `str` is a table of these, the smallest first.

    Args:
        trials: All that have finished, in the order of the first cost.
        quality: The metric that tells how good a model is.
        sign: 1 if it should be large, -1 if small.
        costs: The metrics that should be small.
    """

    trials: tuple[TrialPoint, ...]
    quality: str
    sign: int
    costs: tuple[str, ...]

    @property
    def best(self) -> tuple[TrialPoint, ...]:
        """The trials that none beats in everything, the smallest first."""
        return tuple(each for each in self.trials if each.is_best)

    def data(self) -> list[dict[str, Any]]:
        """A row for each trial in plain values, for a table or a plot of one's own."""
        return [
            {
                "trial": each.trial_id,
                "best": each.is_best,
                **{name: each.metrics[name] for name in (self.quality, *self.costs)},
                "settings": dict(each.settings),
                "file": None if each.file is None else str(each.file),
            }
            for each in self.trials
        ]

    def __str__(self) -> str:
        names = ("trial", self.quality, *self.costs, "settings")
        rows = [names, *(tuple(self._cells(each)) for each in self.best)]
        *widths, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True))
            for row in rows
        ]
        told = f"{len(self.best)} of {len(self.trials)} trials that none beats in everything"
        return "\n".join([*(line.rstrip() for line in lines), told])

    def _cells(self, point: TrialPoint) -> Iterator[str]:
        yield point.trial_id
        yield f"{point.metrics[self.quality]:.4f}"
        for name in self.costs:
            value = point.metrics[name]
            yield f"{value:.1%}" if name.endswith("_fraction") else f"{value:,.5g}"
        yield ", ".join(
            f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in point.settings.items()
        )

    def plot(self, path: str | os.PathLike[str] | None = None, cost: str | None = None) -> Any:
        """Draw all trials, quality against one cost, the front as a line.

        Args:
            path: A file for the picture; left out, none is written.
            cost: One of `costs`; the first, if not given.

        Returns:
            The figure of matplotlib.

        Raises:
            ArgumentError: matplotlib is not installed, no trial has this cost, or matplotlib makes
                no such file.
            FileAccessError: The file cannot be written.
        """
        name = cost if cost is not None or not self.costs else self.costs[0]
        if name not in self.costs:
            known = ", ".join(map(repr, self.costs)) or "the costs of the front, which has none"
            raise ArgumentError(f"`cost` must be one of {known}. Received: {cost!r}.")
        figure = new_figure(6, 4, "front.plot()", "take the numbers of front.data()")
        axes = figure.add_subplot()
        rest = [each for each in self.trials if not each.is_best]
        # On a front over more than two numbers, the line of these two is a part of it.
        values = [[each.metrics[name] for each in some] for some in (rest, self.best)]
        qualities = [[each.metrics[self.quality] for each in some] for some in (rest, self.best)]
        axes.plot(values[0], qualities[0], "o", color="0.7", label="trials")
        axes.plot(values[1], qualities[1], "o", color="C0", label="none beats them in everything")
        line = non_dominated(
            [(-self.sign * q, c) for q, c in zip(qualities[1], values[1], strict=True)]
        )
        steps = sorted((values[1][i], qualities[1][i]) for i in line)
        axes.plot([x for x, _ in steps], [y for _, y in steps], "-", color="C0")
        axes.set(xlabel=name.replace("_", " "), ylabel=self.quality)
        axes.legend(frameon=False)
        return finished(figure, path)


def pareto(
    tuner: Any,
    quality: str | None = None,
    *,
    mode: str = "auto",
    costs: str | Sequence[str] | None = None,
) -> ParetoFront:
    """The trials of a search that no other one beats in quality and in every cost.

    It looks at what a search has reported, whatever its objective was, also while it runs.

    Args:
        tuner: Any tuner of keras-tuner over a `RankHyperModel`, a worker's too.
        quality: The metric that tells how good a model is; left out, that of the search.
        mode: `"max"` or `"min"`; left out, that of the search, or as Keras knows it.
        costs: Metrics that should be small, or one of them; left out, all of `params_fraction`,
            `flops_fraction`, `file_bytes` and `latency` that every finished trial has reported.

    Returns:
        All finished trials, and which of them none beats.

    Raises:
        ArgumentError: No trial has finished, one lacks the metric, nobody knows its direction, or
            they are of another search; or `costs` is empty.
        ArgumentTypeError: It is no tuner, or `costs` are no names.

    Example:
        >>> # front = pareto(tuner)
        >>> # print(front)
        >>> # front.plot("front.png", cost="flops_fraction")

    Reference: Deb, *Multi-objective optimization using evolutionary algorithms*, Wiley 2001.
    """
    _check_tuner(tuner)
    if hasattr(tuner.hypermodel, "check_folder"):
        tuner.hypermodel.check_folder(tuner.project_dir)
    done = _finished(tuner)
    if not done:
        raise ArgumentError(
            "A front is there once a trial has finished. Received: a search with none. Call "
            "tuner.search(...) first."
        )
    usual, sign = _quality_of(tuner)
    name = usual if quality is None else quality
    rows = [{key: float(each.metrics.get_best_value(key)) for key in each.metrics.metrics}
            for each in done]  # fmt: skip
    if costs is None:
        wanted: Sequence[str] = [each for each in COSTS if all(each in row for row in rows)]
    else:
        wanted = checked_sequence("costs", [costs] if isinstance(costs, str) else costs)
    for each, row in zip(done, rows, strict=True):
        lacking = [key for key in (name, *wanted) if key not in row]
        if lacking:
            raise ArgumentError(
                f"Every trial must have reported {lacking[0]!r}. Received: trial {each.trial_id} "
                f"with {', '.join(row)}. Choose among these."
            )
    if name != usual or mode != "auto":
        sign = _sign(name, mode, tuner.hypermodel)
    best = set(non_dominated([(-sign * row[name], *(row[key] for key in wanted)) for row in rows]))
    points = [
        TrialPoint(each.trial_id, row, _settings(each), _file(tuner, each), index in best)
        for index, (each, row) in enumerate(zip(done, rows, strict=True))
    ]
    points.sort(key=lambda point: point.metrics[wanted[0] if wanted else name])
    return ParetoFront(tuple(points), name, sign, tuple(wanted))


def non_dominated(rows: Sequence[Sequence[float]]) -> list[int]:
    """The rows that no other one is below or level with in all, and below in one.

    Of equal rows all are kept; one with NaN or infinity is none of them.

    >>> non_dominated([(1, 5), (2, 2), (3, 3), (2, 2), (5, 1), (math.nan, 0)])
    [0, 1, 3, 4]
    """
    known = {index: tuple(row) for index, row in enumerate(rows) if all(map(math.isfinite, row))}
    return [
        index
        for index, row in known.items()
        if not any(other != row and _all_below(other, row) for other in known.values())
    ]


def _all_below(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True))


def _check_tuner(tuner: Any) -> None:
    if not hasattr(tuner, "oracle") or not hasattr(tuner, "hypermodel"):
        raise ArgumentTypeError(
            f"`tuner` must be a tuner of keras-tuner. Received: a {type(tuner).__name__}. Give the "
            "one that has searched, such as keras_tuner.RandomSearch(hypermodel, ...)."
        )


def _finished(tuner: Any) -> list[Any]:
    """The finished trials of a search; those of a worker lie in the folder that it shares."""
    known = getattr(tuner.oracle, "trials", None)
    if known is None:  # its chief, which knows them, may have left
        files = Path(tuner.project_dir).glob(f"trial_*/{TRIAL}")
        states = sorted(filter(None, map(read_trial, files)), key=_in_order)
        known = {each["trial_id"]: Trial.from_state(each) for each in states}
    return [each for each in known.values() if each.status == "COMPLETED"]


def _in_order(state: Mapping[str, Any]) -> tuple[int, str]:
    """By the number of a trial, as its tuner has them."""
    name = state["trial_id"]
    return len(name), name


def _quality_of(tuner: Any) -> tuple[str, int]:
    """The metric that tells the quality in a search, and 1 if it should be large, -1 if small."""
    plan = getattr(tuner.hypermodel, "plan", None)
    asked = getattr(plan, "objective", None)
    if isinstance(asked, SizeAtQuality | QualityAtSize):
        return asked.monitor, tuner.hypermodel.plan.sign(tuner.hypermodel.start.model)
    wanted = tuner.oracle.objective
    if wanted.name in (*SIZE_METRICS, LATENCY):
        return "val_loss", -1
    return wanted.name, 1 if wanted.direction == "max" else -1


def _sign(name: str, mode: str, hypermodel: Any) -> int:
    """1 if a metric of the trials should be large, -1 if small."""
    if name in (*SIZE_METRICS, LATENCY) and mode == "auto":
        return -1
    start = getattr(hypermodel, "start", None)
    known = {} if start is None else _keras.metrics_to_watch(start.model, name, mode)
    named = with_tuners(known, name)
    own = {each: way for each, way in named.items() if each == name.removeprefix("val_")}
    return direction(name, mode, own, "a front")


def _settings(trial: Any) -> dict[str, Any]:
    """What was chosen, without what a tuner notes for itself."""
    values = trial.hyperparameters.values
    return {name: value for name, value in values.items() if not name.startswith("tuner/")}


def _file(tuner: Any, trial: Any) -> Path | None:
    path = Path(tuner.project_dir) / f"trial_{trial.trial_id}" / COMPACT
    return path if path.is_file() else None
