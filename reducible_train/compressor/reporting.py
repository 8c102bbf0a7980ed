"""The report of a model: as it is, and what was done to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from reducible_train.compressor.history import History
from reducible_train.errors import shortened
from reducible_train.report.records import Answers, Cut, Report
from reducible_train.selection.judge import Judge
from reducible_train.selection.kernel_records import kernel_records
from reducible_train.selection.survey import Survey

_UNKNOWN = 0.05  # of the parameters, in kinds that are not known: a reader should hear of it


def report_of(
    survey: Survey,
    history: History,
    *,
    notes: Sequence[str],
    costs: Iterable[str],
    answers: Answers | None = None,
) -> Report:
    """The report of a model.

    Args:
        survey: Its kernels, and what they cost.
        history: What was done to it.
        notes: What the looks at it have told.
        costs: What it costs by measures that a report has no figures of, in sentences.
        answers: What became of its answers, where that was measured.
    """
    traced = bool(survey.uses)
    return Report(
        dense_parameters=int(survey.dense_total("parameters")),
        parameters=int(survey.total("parameters")),
        dense_bytes=int(survey.dense_total("bytes")),
        bytes=int(survey.total("bytes")),
        dense_flops=int(survey.dense_total("flops")) if traced else None,
        flops=int(survey.total("flops")) if traced else None,
        kernels=tuple(
            replace(each, output_error=history.output_errors.get(each.path))
            for each in kernel_records(survey, history.kept, history.remarks)
        ),
        cuts=history.cuts,
        notes=(
            *notes,
            *survey.notes,
            *_taken_in(survey),
            *_unknown(survey),
            *_uncounted(survey),
            *_growth(history),
            *costs,
        ),
        flops_at=None if survey.counted is None else str(survey.counted),
        answers=answers,
    )


def shared_by(judge: Judge, cuts: Sequence[Cut]) -> Iterator[str]:
    """By which analysis a budget was shared, and how old that was then."""
    measured = judge.measured
    if measured is None or not cuts:
        return
    analysis = measured.analysis
    on = f" ({analysis.measured_on})" if analysis.samples else ""
    steps = sorted({cut.step for cut in cuts})
    age = "as they were at the cut"
    if steps[-1]:
        told = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
        age = f"which training had moved by {told} steps at the cut{'s' * (len(cuts) > 1)}"
    yield (
        f"The budget was shared by criterion 'measured': by the {analysis.metric} with each kernel "
        f"alone cut{on}, in {measured.source}, of the weights at the start, {age}. Directions "
        f"within a kernel were judged by {judge.criterion.name!r}."
    )


def _taken_in(survey: Survey) -> Iterator[str]:
    """Why outputs are made by factors, where no rule has asked for that."""
    factorised = {kernel.path for kernel in survey.kernels if kernel.rank is not None}
    for path, sentence in survey.taken_in.items():
        if path in factorised:
            yield sentence


def _unknown(survey: Survey) -> Iterator[str]:
    """What share of the model is in layers of no known kind, where it is a large one."""
    total = survey.dense_total("parameters")
    paths, held = survey.unknown
    if held >= _UNKNOWN * total:
        yield (
            f"Layers of kinds that have no low-rank form hold {100 * held / total:.0f} % of "
            f"the parameters, and stay as they are: {', '.join(paths)}."
        )


def _uncounted(survey: Survey) -> Iterator[str]:
    """Which weights FLOPs leave out, wholly or in part, where they are told."""
    paths = survey.uncounted if survey.uses else []
    if paths:
        yield (
            "FLOPs count the kernels of known layers and of their subclasses, but not what is done "
            f"with {shortened(', '.join(paths), 300)}."
        )
    paths = survey.partly_counted
    if paths:
        yield (
            "FLOPs count what layers do with their own kernels, but not what is done beside them, "
            f"as where weights are tied, with {shortened(', '.join(paths), 300)}."
        )


def _growth(history: History) -> Iterator[str]:
    """When kernels grew, and by how much."""
    if history.growths:
        epochs = ", ".join(f"{epoch:g}" for epoch, _ in history.growths)
        added = sum(count for _, count in history.growths)
        yield (
            f"Kernels grew along the gradient of the loss before epoch {epochs}, each time "
            f"until the next cut, by {added} directions in all."
        )
