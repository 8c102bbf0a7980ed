"""Measure what every kernel of a model is worth: cut each alone to ten ranks, and put it back."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from reducible_train import _keras
from reducible_train.analysis.evaluation import Evaluation, Measured
from reducible_train.analysis.truncations import Truncations
from reducible_train.container.files import check_path, read_whole, start_of_name, write_text
from reducible_train.container.holding import holding_file
from reducible_train.errors import (
    ArgumentError,
    ArgumentTypeError,
    FileAccessError,
    SpectrumError,
)
from reducible_train.linalg.multiples import whole_rank
from reducible_train.linalg.noise import effective_rank, noise_edge
from reducible_train.preflight.paths import check_writable
from reducible_train.report.analysis import FORMAT, Analysis, KernelAnalysis
from reducible_train.selection.calibration import samples_of
from reducible_train.selection.compressible import CompressibleKernel
from reducible_train.selection.costs import break_even_rank
from reducible_train.selection.feasibility import check_finite
from reducible_train.selection.fingerprints import of_samples, of_weights
from reducible_train.selection.input_shapes import shapes_of_samples
from reducible_train.selection.sample_checks import check_inputs, check_samples
from reducible_train.selection.samples import HARDLY, Samples
from reducible_train.selection.scoring import decomposition
from reducible_train.selection.survey import Survey, survey
from reducible_train.settings.checks import checked_all, checked_count, checked_sequence, takes
from reducible_train.settings.rules import LayerRule
from reducible_train.surgery.merge import check_built

MEASURES = ("parameters", "flops", "bytes")
RATIOS = tuple(round(0.1 * tenth, 1) for tenth in range(1, 11))

_PASSES = 128_000  # of single samples; an epoch of MNIST takes as long, forward and backward
_FEWEST, _MOST = 256, 2048
_KEPT = "They are the parameters that a kernel keeps, such as (0.1, 0.2, 0.5)."
_RULES = "rules=[LayerRule('output', keep_dense=False)]"
_ROUNDING = 0.01  # of a metric: what another machine may make of the same
_FLIPPED = 3  # samples that it may judge otherwise
_LEAST = 1e-6  # of any metric, as losses of a model that fits its samples are hardly more
_LUCK = 100.0  # times what two values are apart that a metric with chance in it has told

Progress = Callable[[int, int, str], None]


def analyze(
    model: Any,
    data: Any = None,
    *,
    metric: str | Callable[[Any], float] = "loss",
    ratios: Sequence[float] = RATIOS,
    rules: Sequence[LayerRule] = (),
    samples: int | None = None,
    file: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Analysis:
    """Measure a model with each of its kernels alone cut to each of ten ranks.

    Each kernel is decomposed once. The model stays as it is, bit for bit: a kernel has the values
    of its truncation while it is measured, in the same variables, so nothing is traced anew.

    It takes `len(ratios)` evaluations for each kernel, on so few samples that the table of ten
    kernels or of a hundred takes about as long as an epoch of 60,000. What a value then is by
    chance, the table says: the standard error of a change.

    Args:
        model: A built Keras model. Of a `Distiller`, the student is measured, by what the
            distiller tells.
        data: Samples to measure on, as `factorize` takes its `calibration`: `(x, y)`,
            `(x, y, sample_weight)` or a source of batches. May be left out where `metric` is a
            function, which brings its own: of these, only shapes are told by then.
        metric: A name of what `model.evaluate` tells, such as `"loss"` or `"accuracy"`, or a
            function: model -> number. A function must leave the model as it is.
        ratios: Kept parameters of a kernel, as a fraction of its own, rising in (0, 1].
        rules: Rules for single layers; `keep_dense=False` takes an output layer in.
        samples: How many of `data` to measure on, drawn evenly from first to last. Left out, as
            many as make 128,000 passes through the model, 256 at least and 2048 at most. Those of
            weight 0 are of them, as `model.evaluate` counts them, unless it cannot take them.
        file: JSON file that keeps the analysis, written after every kernel. One that is there, of
            the same weights, data, metric and ratios, is gone on with. The metric is known again
            by its name, and by what it says of the model as it is. One analysis at a time writes
            to a file.
        progress: Is told kernels done, kernels in all, and the path of the last.

    Returns:
        The table.

    Raises:
        ArgumentError: Unusable arguments; data of the wrong shape or without targets; a file of
            other weights, data, metric, ratios or kernels, or that another analysis writes to.
        ArgumentTypeError: Arguments of a wrong type.
        FormatError: A file that holds something else.
        FileAccessError: A file that cannot be read or written.
        RankError: There is nothing to cut.
        SpectrumError: A weight holds NaN or infinity.
        SurgeryError: The model is not built.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, name="hidden"),
        ...                           keras.layers.Dense(10, name="output")])
        >>> model.compile(loss="mse")
        >>> table = analyze(model, (np.ones((8, 64)), np.zeros((8, 10))))
        >>> [kernel.ranks[4] for kernel in table.kernels]
        [16]

    Reference: the single-layer sensitivity of AIMET's *evaluation dictionary* (Qualcomm, 2020).
    """
    check_built(model)
    checked = _checked_ratios(ratios)
    rules = checked_all("`rules` must hold LayerRule objects", rules, LayerRule, _RULES)
    _check_progress(progress)
    if file is not None:
        check_path(file)
        check_writable(Path(file), "file")
    wanted = None if samples is None else checked_count("samples", samples, "an analysis")
    given = None if data is None else _samples(data, model)
    Evaluation(model, given, metric).check()
    if samples is not None and not isinstance(metric, str):
        raise ArgumentError(
            "`samples` says on how many of `data` a metric of model.evaluate is measured. "
            f"Received: samples={samples} beside a function, which brings its own. Leave it out."
        )
    shapes = [] if given is None else [shapes_of_samples(given.counting, "data")]
    part = _keras.trained_model(model)
    found = survey(part, rules, shapes=shapes)
    check_finite(found)
    drawn = None
    if given is not None and isinstance(metric, str):
        few = _PASSES // (len(checked) * len(found.compressible))
        drawn = _drawn(given, wanted or min(max(few, _FEWEST), _MOST), model, metric)
    evaluation = Evaluation(model, drawn, metric)
    begun = Analysis(
        format=FORMAT,
        model=part.name,
        weights=of_weights(part),
        data=of_samples(drawn),
        metric=evaluation.name,
        ratios=checked,
        baseline=float("nan"),
        paths=tuple(each.kernel.path for each in found.compressible),
        kernels=(),
        samples=0 if drawn is None else len(drawn),
        given=0 if given is None or drawn is None else len(given),
        better=evaluation.better,
    )
    with _alone_with(file, begun) as kept, _keras.as_it_was(model):
        analysis = _with_baseline(begun, evaluation())
        if kept is not None:
            _check_baseline(kept, analysis.baseline, evaluation, str(file))
            analysis = kept
        return _completed(analysis, found, evaluation, file, progress)


def _with_baseline(begun: Analysis, now: Measured) -> Analysis:
    """The analysis with the metric of the model as it is.

    Raises:
        ArgumentError: It is no number, so nothing can be compared with it.
    """
    if not math.isfinite(now.value):
        raise ArgumentError(
            f"The {begun.metric} of model '{begun.model}' must be finite as it is. Received: "
            f"{now.value}. Look for what makes it so in `data` or in the metric."
        )
    return replace(begun, baseline=now.value, batches=now.batches)


def _completed(
    analysis: Analysis,
    found: Survey,
    evaluation: Evaluation,
    file: str | os.PathLike[str] | None,
    progress: Progress | None,
) -> Analysis:
    """The analysis with the kernels that it lacks, kept after each."""
    totals = _totals(found)
    done = {kernel.path for kernel in analysis.kernels}
    if file is not None and not done:
        write_text(file, analysis.to_json())
    for compressible in found.compressible:
        path = compressible.kernel.path
        if path not in done:
            row = _row(compressible, totals, analysis, evaluation)
            analysis = replace(analysis, kernels=(*analysis.kernels, row))
            if file is not None:
                write_text(file, analysis.to_json())
        if progress is not None:
            progress(found.compressible.index(compressible) + 1, len(found.compressible), path)
    return analysis


def _row(
    compressible: CompressibleKernel,
    totals: Mapping[str, float],
    analysis: Analysis,
    evaluation: Evaluation,
) -> KernelAnalysis:
    """Decompose one kernel, and measure the model at each of its ranks."""
    kernel = compressible.kernel
    split = compressible.factorization.split
    parts = decomposition(kernel, split)
    m, n = shape = compressible.factorization.shape
    most = kernel.rank or min(shape)
    meant = (whole_rank(ratio * m * n / (m + n)) for ratio in analysis.ratios)
    ranks = tuple(min(max(1, rank), most) for rank in meant)
    measured: dict[int, Measured] = {}
    with Truncations(kernel, parts, split) as truncations:
        for rank in sorted(set(ranks)):
            truncations.put(rank)
            measured[rank] = evaluation()
    matrices = kernel.matrices(split)
    edge = noise_edge(matrices[0] if len(matrices) == 1 else matrices[0] @ matrices[1])
    return KernelAnalysis(
        path=kernel.path,
        kind=kernel.kind.dense_class.__name__,
        shape=shape,
        **{each: _share(compressible, each, totals[each]) for each in MEASURES},
        break_even_rank=break_even_rank(shape),
        effective_rank=effective_rank(parts.values),
        noise_edge=edge,
        noise_rank=int(np.sum(parts.values > edge)),
        spectrum=tuple(float(value) for value in parts.values),
        ranks=ranks,
        values=tuple(measured[rank].value for rank in ranks),
        errors=_errors([measured[rank] for rank in ranks], analysis),
    )


def _errors(measured: Sequence[Measured], analysis: Analysis) -> tuple[float, ...]:
    """The standard errors of what was measured, beside the model as it is."""
    found = [each.error_beside(analysis.batches) for each in measured]
    return () if any(map(math.isnan, found)) else tuple(found)


def _totals(found: Survey) -> dict[str, float]:
    """What the whole dense model costs, by measure; 0 where that is not known."""
    known = [each for each in MEASURES if each != "flops" or found.uses is not None]
    return dict.fromkeys(MEASURES, 0.0) | {each: found.dense_total(each) for each in known}


def _share(compressible: CompressibleKernel, measure: str, total: float) -> float | None:
    """What a kernel costs of the whole dense model; `None` where that is not known."""
    return float(compressible.dense_cost(measure) / total) if total else None


def _samples(data: Any, model: Any) -> Samples:
    """The samples of `data`; the model can be run on those of weight above 0."""
    try:
        samples = samples_of(data, every=True)
        check_samples(samples.counting, model, None, run=True)
        check_inputs(samples.counting, model)
    except (ArgumentError, SpectrumError) as error:  # they call data by its name elsewhere
        told = str(error).replace("`calibration`", "`data`").replace("calibration samples", "data")
        raise type(error)(told) from error
    return samples


def _drawn(given: Samples, count: int, model: Any, metric: str | Callable[[Any], float]) -> Samples:
    """Samples to measure on: those of weight 0 too, for Keras divides by the number of all.

    Those alone that weigh something where it cannot evaluate the others, such as inputs of NaN or
    targets of no class, or where they are so many that hardly any other would be drawn.
    """
    found, counting = given.spread(count), given.counting
    if len(counting) == len(given):
        return found
    alone = counting.spread(count)
    if not isinstance(metric, str) or len(found.counting) < HARDLY * len(alone):
        return alone
    return found if _can_be_told(Evaluation(model, found, metric)) else alone


def _can_be_told(evaluation: Evaluation) -> bool:
    """False for a metric that is no number on its samples, or not had of them."""
    with _keras.as_it_was(evaluation.model):
        try:
            return math.isfinite(evaluation().value)
        except ArgumentError:
            return False


def _checked_ratios(ratios: Sequence[float]) -> tuple[float, ...]:
    given = checked_sequence("ratios", ratios)
    try:
        found = tuple(float(ratio) for ratio in given)
    except (TypeError, ValueError, OverflowError) as error:
        raise ArgumentTypeError(
            f"`ratios` must be numbers in (0, 1]. Received: ratios={ratios!r}. {_KEPT}"
        ) from error
    rises = all(a < b for a, b in pairwise(found))
    if not rises or not all(0 < ratio <= 1 for ratio in found):
        raise ArgumentError(
            f"`ratios` must rise, each in (0, 1]. Received: ratios={ratios!r}. {_KEPT}"
        )
    return found


def _check_progress(progress: Progress | None) -> None:
    """Refuse what cannot be told how far it is, before anything is measured."""
    if progress is None or (callable(progress) and takes(progress, 1, 1, "path")):
        return
    what = ", which takes something else" if callable(progress) else ""
    raise ArgumentTypeError(
        "`progress` must be a function of kernels done, kernels in all, and the path of the last. "
        f"Received: {progress!r}{what}. Write for example "
        "progress=lambda done, count, path: print(done, count, path)."
    )


@contextmanager
def _alone_with(file: str | os.PathLike[str] | None, begun: Analysis) -> Iterator[Analysis | None]:
    """What a file holds of this analysis; until it is whole, no other analysis writes to it.

    Raises:
        ArgumentError: Another does, or it is of something else.
    """
    if file is None:
        yield None
        return
    kept, lock = _kept(file, begun), os.fspath(_lock_of(file))

    def refusal(other: str) -> str:
        return (
            f"{file} must have one analysis at a time. Received: a second one, while {other} "
            "writes to it. Wait for it, end it, or give another file=."
        )

    if kept is not None and kept.is_whole:  # nothing will be written
        if os.path.exists(lock):  # of a process that was killed, unless another holds it
            with (
                suppress(ArgumentError, FileAccessError),
                holding_file(lock, refusal, removed=True),
            ):
                pass
        yield kept
        return
    with holding_file(lock, refusal, removed=True):
        yield _kept(file, begun)  # another may just have ended


def _lock_of(file: str | os.PathLike[str]) -> Path:
    """What is held while a file is written: beside it, of a name that is never too long."""
    real = Path(os.path.realpath(file))
    number = zlib.crc32(os.fsencode(real.name))
    return real.with_name(f".{start_of_name(real.name)}.{number:08x}.lock")


def _kept(file: str | os.PathLike[str], begun: Analysis) -> Analysis | None:
    """What a file holds of this analysis; `None` if there is no file.

    Raises:
        ArgumentError: It is of something else; says of what.
    """
    if not Path(file).exists():
        return None
    held = Analysis.from_json(read_whole(file).decode("utf-8", "replace"), str(file))
    for name in ("weights", "paths", "data", "metric", "ratios"):
        came, expected = getattr(held, name), getattr(begun, name)
        if came != expected:
            what = "kernels" if name == "paths" else name
            raise ArgumentError(
                f"{file} must be an analysis of the same {what}. Received: one of model "
                f"'{held.model}' with other {what} ({_short(came)}, not {_short(expected)}). "
                "Give another file=, or remove that one to begin anew."
            )
    return held


def _check_baseline(kept: Analysis, now: float, evaluation: Evaluation, file: str) -> None:
    """Refuse a file whose metric says something else of the model as it is.

    A loss that was compiled since has the same name, and so may a function. Apart by rounding, as
    on another machine, they are the same; so they are where the metric is another each time.

    Raises:
        ArgumentError: It does.
    """
    apart = abs(kept.baseline - now)
    some = _FLIPPED / kept.samples if kept.samples and 0.0 <= now <= 1.0 else 0.0
    if apart <= max(_ROUNDING * max(abs(kept.baseline), abs(now)), some, _LEAST):
        return
    if apart > _LUCK * abs(evaluation().value - now):
        raise ArgumentError(
            f"{file} must be an analysis of the same {kept.metric}. Received: one in which that of "
            f"model '{kept.model}' as it is was {kept.baseline:.4g}, and now it is {now:.4g}: the "
            "model was compiled anew since, or a function of that name is another. Give another "
            "file=, or remove that one to begin anew."
        )


def _short(value: Any) -> str:
    """A value for a message."""
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{text[:12]}..." if len(text) == 64 else text[:200] or "none"
