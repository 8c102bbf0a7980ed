"""What the tab is told in JSON: the model as it is, and what was decided, in plain values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from reducible_train.report.analysis import Analysis
from reducible_train.report.page import RULES
from reducible_train.report.places import when
from reducible_train.report.records import Cut, KernelRecord, Report, UndoneCut

# What is told of each kernel in each cut, in this order: a row a kernel keeps it short.
CUT_COLUMNS = ("path", "rank_before", "rank", "energy", "output_error", "binding", "criterion")


def outcome(report: Report, scheduler: Any, metrics: Iterable[str]) -> dict[str, Any]:
    """The model as it is, what was asked for, what was reached.

    Args:
        report: The model as it is.
        scheduler: What was asked, a `RankScheduler` in practice.
        metrics: Names of the metrics that are logged.
    """
    settings = getattr(scheduler, "settings", scheduler)
    guard, search = getattr(settings, "guard", None), getattr(settings, "search", None)
    shortfall = getattr(scheduler, "shortfall", None)
    sizes = ("parameters", "bytes", "flops")
    return {
        "kernels": [_kernel(kernel) for kernel in report.kernels],
        **{name: getattr(report, name) for name in sizes},
        **{f"dense_{name}": getattr(report, f"dense_{name}") for name in sizes},
        "flops_at": report.flops_at,
        "asked": [] if search is not None else list(_asked(settings, report)),
        "asks": search is not None or any(map(_cuts_something, _targets(settings))),
        "guard": None if guard is None else str(guard),
        "search": None if search is None else str(search),
        "monitor": getattr(guard, "monitor", None),
        "directions": _directions(metrics, scheduler, guard),
        "notes": list(report.notes),
        "shortfall": None if shortfall is None else str(shortfall),
        "held_back": bool(getattr(shortfall, "held_back", False)),
        "diverged": getattr(scheduler, "diverged", None),
    }


def _kernel(kernel: KernelRecord) -> dict[str, Any]:
    return vars(kernel) | {"dense_parameters": kernel.dense_parameters}


def _asked(settings: Any, report: Report) -> Iterator[dict[str, Any]]:
    """Each target, with the value it ends at and, where a report tells it, the one reached."""
    target = getattr(settings, "target", None)
    several = len(getattr(target, "parts", ())) > 1
    for part in getattr(target, "parts", ()):
        name, _, measure = part.name.partition(".")
        measure = measure or _measure_of(settings)
        fraction = _fraction(report, measure) if name == "budget" else None
        yield {
            "name": f"{name} of {measure}" if name in ("budget", "cost") else part.name,
            "schedule": str(part.schedule),
            "value": part(math.inf),
            "reached": fraction,
            "one_of_several": several,
        }


def _measure_of(settings: Any) -> str:
    measure = getattr(settings, "measure", "parameters")
    return str(getattr(measure, "name", measure))


def _fraction(report: Report, measure: str) -> float | None:
    if measure == "bytes":
        return report.bytes / report.dense_bytes if report.dense_bytes else None
    fractions = {"parameters": report.size_fraction, "flops": report.flops_fraction}
    return fractions.get(measure)


def _targets(settings: Any) -> Iterator[Any]:
    """Of the model, and of rules for single layers."""
    yield from getattr(getattr(settings, "target", None), "parts", ())
    rules = getattr(settings, "rules", ())
    yield from (rule.target for rule in rules if rule.target is not None)


def _cuts_something(target: Any) -> bool:
    """True unless a target leaves every kernel as it is, as a budget of all does."""
    return not target.leaves_dense(target(math.inf))


def _directions(metrics: Iterable[str], scheduler: Any, guard: Any) -> dict[str, int]:
    """1 for a metric that should be large, -1 if small; none for one that nobody has told of.

    The word of the guard counts, then that of Keras.
    """
    known = getattr(scheduler, "metric_directions", {})
    told = {name: known.get(name.partition("_")[2]) for name in metrics}  # after val, or train
    if getattr(guard, "mode", "auto") != "auto" and guard.monitor in told:
        told[guard.monitor] = "up" if guard.mode == "max" else "down"
    return {name: 1 if way == "up" else -1 for name, way in told.items() if way is not None}


def decisions(epoch: int, cuts: Sequence[Cut], undone: Sequence[UndoneCut]) -> dict[str, Any]:
    """What was decided in one epoch: the cuts made, and those of before that were undone."""
    return {
        "epoch": epoch,
        "columns": CUT_COLUMNS,
        "cuts": [_cut(cut) for cut in cuts],
        "undone": [asdict(each) for each in undone],
    }


def _cut(cut: Cut) -> dict[str, Any]:
    names = ("epoch", "step", "epoch_step", "quantity", "target", "parameters_before", "parameters")
    more = ("output_error", "metrics_before", "metrics_after", "budgets")
    told = {name: getattr(cut, name) for name in (*names, *more)}
    rows = [[getattr(kernel, name) for name in CUT_COLUMNS] for kernel in cut.kernels]
    return told | {"kernels": rows}


def sentences(cuts: Sequence[Cut], undone: Sequence[UndoneCut]) -> str:
    """The same in words, as a Markdown list."""
    lines = [_sentence(cut) for cut in cuts]
    lines += [f"**Undone.** {each}" for each in undone]
    return "\n".join(f"- {line}" for line in lines)


def _sentence(cut: Cut) -> str:
    asked: Mapping[str, float] = cut.budgets or {"": cut.target}
    aims = " and ".join(f"{f'{cut.quantity} {m}'.rstrip()} {v:.4g}" for m, v in asked.items())
    wanted = f"by {RULES}" if cut.by_rules else f"to {aims}"
    line = f"The cut {when(cut.epoch_step)} epoch {cut.epoch} {wanted} changed "
    line += (
        f"{len(cut.kernels)} kernels: {cut.parameters_before:,} -> {cut.parameters:,} parameters"
    )
    if cut.output_error is not None:
        line += f", output error {cut.output_error:.3g}"
    return f"{line}."


def sensitivity(analysis: Analysis) -> dict[str, Any]:
    """An analysis as the tab shows it, without the spectra."""
    plain = asdict(analysis)
    plain["kernels"] = [_without_spectrum(each) for each in plain["kernels"]]
    plain["direction"] = -1 if analysis.less_is_better else 1
    del plain["format"]
    return plain


def _without_spectrum(kernel: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kernel.items() if name != "spectrum"}
