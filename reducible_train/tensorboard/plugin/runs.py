"""The answers of the tab's server: all runs, one run, the spectra of one layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from reducible_train.errors import FormatError
from reducible_train.report.places import when
from reducible_train.settings.metric_names import is_fraction_by_name
from reducible_train.tensorboard import tags as form
from reducible_train.tensorboard.plugin.advice import advice
from reducible_train.tensorboard.plugin.cuts import (
    cost_of_cuts,
    direction_of,
    falls,
    is_part,
    main_metric,
    when_of,
)
from reducible_train.tensorboard.plugin.logs import Logs, Series, json_of
from reducible_train.tensorboard.plugin.values import (
    is_same_size,
    number,
    numbers,
    objects,
    text,
    texts,
)

_OLD_ENERGY_GROUP = "reducible_energy"  # of a cut, in logs of before
_LONGEST = 120  # letters of a name in a message
_READ = (form.PLUGIN_NAME, form.RANK_GROUP, _OLD_ENERGY_GROUP)
_NO_RUN = (
    "No run here was written by RankTensorBoard. Add it to the callbacks of fit, after the "
    'RankScheduler: RankTensorBoard(scheduler, "logs"). Data appear after the first epoch.'
)
_OLD = (
    "An older version wrote these logs: what was asked for, decisions of the guard, the size of "
    "the file and remarks on layers are not in them."
)
_CROSSED = (
    "Two trainings have written into this run at the same time, so what is shown mixes them. Give "
    "each a log folder of its own."
)


def runs_answer(logs: Logs) -> dict[str, Any]:
    """Every run with its sizes and metrics over the epochs, for the selector and the frontier."""
    tags = {run: _model_tags(found) for run, found in logs.scalar_tags().items()}
    tags = {run: found for run, found in tags.items() if form.PARAMS in found}
    if not tags:
        return {"runs": [], "problem": _NO_RUN}
    series = logs.scalars(tags, {tag for found in tags.values() for tag in found})
    last = logs.tensors(tags, [form.OUTCOME], most=1)
    runs = []
    for run in sorted(tags):
        outcome, _ = _outcome(last.get(run, {}).get(form.OUTCOME, []))
        if series.get(run):
            runs.append(_run_in_short(run, series[run], outcome))
    return {"runs": runs}


def _model_tags(tags: Iterable[str]) -> list[str]:
    """Of the whole model, not of one layer."""
    return [tag for tag in tags if tag.startswith(f"{form.PLUGIN_NAME}/")]


def _run_in_short(run: str, series: Mapping[str, Series], outcome: Any) -> dict[str, Any]:
    params = series.get(form.PARAMS, Series({}, {}))
    steps = _epochs(params, outcome)
    metrics = _metrics(series)
    final = _final_step(params, steps, outcome)
    fraction = series.get(form.PARAMS_FRACTION, Series({}, {}))
    flops = _flops(series, outcome, final)
    least = min((v for v in fraction.values.values() if v is not None), default=1.0)
    done = outcome.get("done") is True
    return {
        "run": run,
        "steps": steps,
        "params": params.at(steps),
        "metrics": {name: each.at(steps) for name, each in metrics.items()},
        "main": main_metric(metrics, text(outcome.get("monitor"))),
        "directions": _directions(metrics, outcome),
        "fractions": list(filter(is_fraction_by_name, metrics)),
        "dense": least >= 1.0 and (not outcome or (done and not _asks(outcome))),
        "final": {
            "step": final,
            "put_back": final is not None and number(outcome.get("kept_step")) == final,
            "params": None if final is None else params.values.get(final),
            "flops": flops,
            "file": number(outcome.get("file_bytes")),
            "latency": number(outcome.get("latency")),
            "metrics": {
                name: None if final is None else each.values.get(final)
                for name, each in metrics.items()
            },
        },
        "done": done,
    }


def _epochs(params: Series, outcome: Mapping[str, Any]) -> list[int]:
    """The steps of epochs: after those of a fit comes one where a cut was undone after its last."""
    last, added = number(outcome.get("last_step")), outcome.get("added_steps")
    others = added if isinstance(added, list) else []
    return [s for s in params.values if (last is None or s <= last) and s not in others]


def _final_step(params: Series, steps: Sequence[int], outcome: Mapping[str, Any]) -> int | None:
    """The epoch whose weights were put back at the end; else the last one of the final size.

    A cut may have been undone after the last epoch.
    """
    kept = number(outcome.get("kept_step"))
    if kept is not None and kept in steps:
        return int(kept)
    size = number(outcome.get("parameters"))
    same = [step for step in steps if is_same_size(params.values[step], size)]
    return next(reversed(same or steps), None)


def _asks(outcome: Mapping[str, Any]) -> bool:
    """True if anything was to be cut; logs of before tell it by the final value of each target."""
    told = outcome.get("asks")
    if isinstance(told, bool):
        return told
    idle = {"budget": 1.0, "energy": 1.0, "rtol": 0.0}
    asked = objects(outcome.get("asked"))
    ends = [(text(each.get("name")).partition(" ")[0], number(each.get("value"))) for each in asked]
    return bool(text(outcome.get("search"))) or any(idle.get(name) != end for name, end in ends)


def _flops(series: Mapping[str, Series], outcome: Any, step: int | None) -> float | None:
    dense = number(outcome.get("dense_flops"))
    fractions = series.get(form.FLOPS_FRACTION, Series({}, {})).values
    fraction = None if step is None else fractions.get(step)
    return None if dense is None or fraction is None else round(dense * fraction)


def _metrics(series: Mapping[str, Series]) -> dict[str, Series]:
    """Those of validation, and of training where nothing was validated, by name."""
    names = {tag: tag.partition("/")[2] for tag in series}
    return {
        name: series[tag]
        for tag, name in sorted(names.items())
        if tag.startswith(f"{form.PLUGIN_NAME}/") and name.startswith(("val_", "train_"))
    }


def _directions(metrics: Iterable[str], outcome: Any) -> dict[str, int]:
    told = numbers(outcome.get("directions"))
    return {name: direction_of(name, told) for name in metrics}


def _outcome(points: Sequence[tuple[int, Any]]) -> tuple[dict[str, Any], str | None]:
    """The last outcome, and what is wrong with it."""
    if not points:
        return {}, _OLD
    try:
        return json_of(points[-1][1]), None
    except FormatError as error:
        return {}, f"{form.OUTCOME}: {error}"


# --- one run --------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Read:
    """All that is logged of one run.

    Args:
        series: Scalars by tag.
        outcome: The last one.
        decisions: Step and JSON of each epoch with decisions.
        analysis: JSON of it; empty where none was made.
        problems: What could not be read, in sentences.
    """

    series: Mapping[str, Series]
    outcome: Mapping[str, Any]
    decisions: Sequence[tuple[int, Mapping[str, Any]]]
    analysis: Mapping[str, Any]
    problems: list[str]


def run_answer(logs: Logs, run: str) -> dict[str, Any]:
    """All of one run but its spectra."""
    tags = logs.scalar_tags().get(run, [])
    if form.PARAMS not in tags:
        return {"run": run, "gone": True, "problem": _gone(run)}
    read = _read(logs, run, tags)
    layers = _layers(read)
    steps = _epochs(read.series[form.PARAMS], read.outcome)
    ranks = [_of_layer(read, form.RANK_GROUP, each["name"]).held(steps) for each in layers]
    cuts = _cuts(read)
    undone = _undone(read, cuts)
    for cut in cuts:
        cut["undone"] = next((each for each in undone if is_part(cut, each)), None)
    at = sorted({each["at"] for each in cuts} | {each["at"] for each in undone})
    at = at or falls(ranks, steps)
    metrics, outcome = _metrics(read.series), read.outcome
    directions = _directions(metrics, outcome)
    costs = {
        name: cost_of_cuts(steps, each.at(steps), at, directions[name])
        for name, each in metrics.items()
    }
    analysis = _analysis(read.analysis)
    named = [*metrics, *(name for cut in cuts for name in cut["metrics_before"])]
    named += [] if analysis is None else [analysis["metric"]]
    found = {
        **_run_in_short(run, read.series, outcome),
        "fractions": sorted(set(filter(is_fraction_by_name, named))),
        "steps": steps,
        "params": read.series[form.PARAMS].at(steps),
        "metrics": {name: each.at(steps) for name, each in metrics.items()},
        "layers": layers,
        "ranks": ranks,
        "cut_steps": at,
        "when": {step: when_of([*cuts, *undone], step) for step in at},
        "cuts": cuts,
        "undone": undone,
        "costs": costs,
        "outcome": _told(outcome, read.series),
        "analysis": analysis,
        "problems": read.problems,
    }
    return found | {"advice": advice(found)}


def _gone(run: str) -> str:
    name = run if len(run) <= _LONGEST else f"{run[:_LONGEST]}..."
    return (
        f"The run {name!r} is no longer there: its logs were removed, or TensorBoard has not read "
        "them yet. Choose another run, or refresh."
    )


def _read(logs: Logs, run: str, tags: Sequence[str]) -> _Read:
    series = logs.scalars([run], filter(_is_shown, tags)).get(run, {})
    tensors = logs.tensors([run], [form.OUTCOME], most=1).get(run, {})
    more = logs.tensors([run], [form.DECISIONS, form.ANALYSIS]).get(run, {})
    outcome, wrong = _outcome(tensors.get(form.OUTCOME, []))
    problems = [] if wrong is None else [wrong]
    decisions = _texts_of(more.get(form.DECISIONS, []), form.DECISIONS, problems)
    analyses = _texts_of(more.get(form.ANALYSIS, [])[-1:], form.ANALYSIS, problems)
    if _is_crossed(series.get(form.PARAMS)):
        problems.append(_CROSSED)
    return _Read(series, outcome, decisions, analyses[-1][1] if analyses else {}, problems)


def _is_shown(tag: str) -> bool:
    """True for a scalar that the tab reads; of each layer there are more, which cost time."""
    return tag.startswith(tuple(f"{group}/" for group in _READ))


def _texts_of(
    points: Iterable[tuple[int, Any]], tag: str, problems: list[str]
) -> list[tuple[int, dict[str, Any]]]:
    """JSON by step; what is none of ours is left out, with a word."""
    found: list[tuple[int, dict[str, Any]]] = []
    for step, array in points:
        try:
            found.append((step, json_of(array)))
        except FormatError as error:
            problems.append(f"{tag}, step {step}: {error}")
    del problems[6:]
    return found


def _is_crossed(series: Series | None) -> bool:
    """True if a later epoch was written before an earlier one."""
    times = list(series.times.values()) if series is not None else []
    return any(later < earlier for earlier, later in pairwise(times))


def _of_layer(read: _Read, group: str, name: str) -> Series:
    return read.series.get(f"{group}/{name}", Series({}, {}))


def _layers(read: _Read) -> list[dict[str, Any]]:
    """The kernels that may change, in the model's order; those that may not come after them.

    Of logs that do not tell that order, by name: a server lists tags in any.
    """
    told = {form.layer_of(text(k.get("path"))): k for k in objects(read.outcome.get("kernels"))}
    prefix = f"{form.RANK_GROUP}/"
    logged = sorted(tag.removeprefix(prefix) for tag in read.series if tag.startswith(prefix))
    names = [n for n in told if n in logged] + [n for n in logged if n not in told]
    kept = [name for name in told if name and name not in names]
    layers = [_layer(read, name, told.get(name, {})) for name in names]
    return layers + [_layer(read, name, told[name]) for name in kept]


def _layer(read: _Read, name: str, kernel: Mapping[str, Any]) -> dict[str, Any]:
    ranks = _of_layer(read, form.RANK_GROUP, name)
    shape = [n for each in kernel.get("shape") or () if (n := number(each))]
    known = [rank for rank in ranks.values.values() if rank is not None]
    full = min(shape) if len(shape) == 2 else max(known, default=None)
    return {
        "name": name,
        "path": text(kernel.get("path")) or name,
        "kind": text(kernel.get("kind")),
        "shape": shape,
        "full": full,
        "rank": number(kernel.get("rank")),
        "last_rank": ranks.last,
        "energy": _energy(read, name, kernel),
        "output_error": number(kernel.get("output_error")),
        "parameters": number(kernel.get("parameters")),
        "dense_parameters": number(kernel.get("dense_parameters")),
        "break_even": number(kernel.get("break_even_rank")),
        "reason": text(kernel.get("reason")),
        "remark": text(kernel.get("remark")),
    }


def _energy(read: _Read, name: str, kernel: Mapping[str, Any]) -> float | None:
    """Kept since the start; of logs that do not tell it, the product over the cuts."""
    if kernel:
        return number(kernel.get("energy"))
    kept = 1.0
    old = [v for v in _of_layer(read, _OLD_ENERGY_GROUP, name).values.values() if v is not None]
    for each in old:
        kept *= each
    return kept if old else None


def _cuts(read: _Read) -> list[dict[str, Any]]:
    """Every cut that stood at the end of its epoch, with its step (`at`)."""
    return [
        _in_common(cut, at, ("output_error", "epoch_step"))
        | {"when": when(number(cut.get("epoch_step")))}
        | {side: numbers(cut.get(side)) for side in ("metrics_before", "metrics_after")}
        | {"kernels": _kernels_of(cut, told)}
        for told, cut, at in _decided(read, "cuts")
    ]


def _decided(read: _Read, kind: str) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any], int]]:
    """Of each decision of a kind: all that was told with it, itself, and its step."""
    for step, told in read.decisions:
        epoch = number(told.get("epoch"))
        for each in objects(told.get(kind)):
            own = number(each.get("epoch"))
            if epoch is not None and own is not None:
                yield told, each, int(step - epoch + own)


def _in_common(each: Mapping[str, Any], at: int, more: Sequence[str]) -> dict[str, Any]:
    """What is told of a cut, whether it stood or was undone, and `more` numbers."""
    names = ("epoch", "target", "parameters_before", "parameters", *more)
    return {name: number(each.get(name)) for name in names} | {
        "at": at,
        "quantity": text(each.get("quantity")),
        "budgets": numbers(each.get("budgets")),
    }


def _kernels_of(cut: Mapping[str, Any], told: Mapping[str, Any]) -> list[dict[str, Any]]:
    columns, rows = texts(told.get("columns")), cut.get("kernels")
    named = [dict(zip(columns, r, strict=False)) for r in rows or () if isinstance(r, list)]
    return [
        {
            "name": form.layer_of(text(each.get("path"))),
            "before": number(each.get("rank_before")),
            "rank": number(each.get("rank")),
            "energy": number(each.get("energy")),
            "binding": text(each.get("binding")),
            "criterion": text(each.get("criterion")),
        }
        for each in named
    ]


def _undone(read: _Read, cuts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every cut that was undone, or several of one epoch; of those no one step is known."""
    more = ("undone_epoch", "reference", "worst", "value")
    found = [
        _in_common(each, at, more) | {name: text(each.get(name)) for name in ("monitor", "reason")}
        for _, each, at in _decided(read, "undone")
    ]
    for each in found:
        taken = [cut for cut in cuts if is_part(cut, each)]
        each["when"] = when_of(taken, each["at"])
        each["epoch_step"] = taken[0]["epoch_step"] if len(taken) == 1 else None
    return found


def _told(outcome: Mapping[str, Any], series: Mapping[str, Series]) -> dict[str, Any]:
    """The outcome, as far as it is of the kinds it should be."""
    names = ("dense_parameters", "parameters", "dense_bytes", "bytes", "dense_flops", "flops")
    asked = [
        {"name": text(a.get("name")), "schedule": text(a.get("schedule"))}
        | {name: number(a.get(name)) for name in ("value", "reached")}
        for a in objects(outcome.get("asked"))
    ]
    found: dict[str, Any] = {n: number(outcome.get(n)) for n in (*names, "file_bytes", "latency")}
    fraction, params = (series.get(tag) for tag in (form.PARAMS_FRACTION, form.PARAMS))
    if found["parameters"] is None and params is not None and params.last:
        found["parameters"] = params.last
        if fraction is not None and fraction.last:
            found["dense_parameters"] = round(params.last / fraction.last)
    told = ("flops_at", "guard", "search", "shortfall", "diverged")
    words = {name: text(outcome.get(name)) for name in told}
    return (
        found
        | words
        | {"asked": asked, "notes": texts(outcome.get("notes"))}
        | {"epochs": number(outcome.get("epochs")), "done": outcome.get("done") is True}
        | {"held_back": outcome.get("held_back") is True, "known": bool(outcome)}
        | {"asks": _asks(outcome)}
    )


def _analysis(plain: Mapping[str, Any]) -> dict[str, Any] | None:
    """The table of an analysis; `None` where none was made."""
    ratios = [number(each) for each in plain.get("ratios") or ()]
    kernels = objects(plain.get("kernels"))
    if not ratios or not kernels:
        return None
    return {
        "metric": text(plain.get("metric")),
        "direction": number(plain.get("direction")) or -1,
        "baseline": number(plain.get("baseline")),
        "ratios": ratios,
        "kernels": [_analysed(each, len(ratios)) for each in kernels],
    }


def _analysed(kernel: Mapping[str, Any], count: int) -> dict[str, Any]:
    def row(name: str) -> list[float | None]:
        values = kernel.get(name)
        listed = [number(each) for each in values] if isinstance(values, list) else []
        return (listed + [None] * count)[:count]

    return {
        "name": form.layer_of(text(kernel.get("path"))),
        "share": number(kernel.get("parameters")),
        "effective_rank": number(kernel.get("effective_rank")),
        "ranks": row("ranks"),
        "values": row("values"),
    }


# --- spectra --------------------------------------------------------------------------


def spectra_answer(logs: Logs, run: str, layer: str) -> dict[str, Any]:
    """The singular values of one layer before each of its cuts."""
    tag = form.spectrum_tag(layer)
    points = logs.tensors([run], [tag]).get(run, {}).get(tag, [])
    if not points and run not in logs.scalar_tags():
        return {"run": run, "layer": layer, "spectra": [], "problem": _gone(run)}
    spectra, problems = [], []
    for step, array in points:
        try:
            spectra.append(_spectrum(step, form.ThinnedSpectrum.from_tensor(array)))
        except (FormatError, TypeError, ValueError) as error:
            problems.append(f"{tag}, step {step}: {error}")
    return {"run": run, "layer": layer, "spectra": spectra, "problems": problems[:3]}


def _spectrum(step: int, spectrum: form.ThinnedSpectrum) -> dict[str, Any]:
    return {
        "step": step,
        "rank": spectrum.rank,
        "length": spectrum.length,
        "positions": spectrum.positions.tolist(),
        "values": [number(each) for each in spectrum.values.tolist()],
        "effective_rank": number(spectrum.effective_rank),
        "noise_edge": number(spectrum.noise_edge),
    }
