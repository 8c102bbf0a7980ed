"""Who says what a lost direction costs, and how a budget is shared then, where it is left open.

`"auto"` takes the best judge that model and data allow. After one cut of a trained network, and
also after some epochs of fine-tuning, `"fisher"` loses least, then `"activation"`, and both share a
budget best by `"knapsack"`; without data, plain energy is compared by `"equal_energy"`, because
the least sum of energies says little of what a model does (`benchmarks/finetune.py`).

The knapsack goes by what a cut loses at once. Where a budget is tight it makes bottlenecks of one
or two ranks, which no training gets over, so by default every kernel keeps a few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from reducible_train import _keras
from reducible_train.errors import ArgumentError
from reducible_train.linalg.weighting import checked_weights
from reducible_train.preflight.values import check_values
from reducible_train.selection.compressible import CompressibleKernel
from reducible_train.selection.criteria import Criterion, criterion_named
from reducible_train.selection.measured import MeasuredLosses
from reducible_train.selection.sample_checks import check_asking, check_samples
from reducible_train.selection.samples import Samples
from reducible_train.selection.statistics import can_be_observed
from reducible_train.settings.compression import AUTO, MEASURED
from reducible_train.settings.targets import LossTarget, SharedTargets, Target

JUDGES = ("fisher", "activation")  # the best first
WITHOUT_DATA = "frobenius"

FEW = 4  # ranks that a kernel keeps where a budget is shared by default, if there is room
_UNSEEN = 0.1  # of the parameters, by which a better judge may see less than another

NO_DATA = (
    "The kernels were judged by themselves alone (criterion 'frobenius'), because there is no "
    "data. With samples of the training set, calibration=(x, y), what the data does not use goes "
    "first, and the same size loses far less."
)
UNWATCHED = (
    "The kernels are judged by themselves alone (criterion 'frobenius'), because the batches of "
    "this fit cannot be watched: that takes model.fit on one device. With samples of the training "
    "set, calibration=(x, y), what the data does not use goes first, and the same size loses far "
    "less."
)


@dataclass(frozen=True, eq=False)
class Judge:
    """What a lost direction costs, and how a budget is shared.

    Args:
        criterion: The first.
        allocation: Name of the second.
        notes: Sentences for the reader of a report, where it is not the best there is.
        measured: What kernels lose by measurement, where a budget is shared by that.
        least: The ranks that every kernel keeps, if there is room.
    """

    criterion: Criterion
    allocation: str
    notes: tuple[str, ...] = ()
    measured: MeasuredLosses | None = None
    least: int = 1

    @property
    def remedy(self) -> str:
        """What may lose less at the same size, as more advice; empty if nothing is known."""
        return "" if self.criterion.needs else ", judge by the data (criterion='auto')"


def takes_samples(criterion: str, target: Target | SharedTargets) -> bool:
    """True if a judge will look at samples, where there are any."""
    if criterion in (AUTO, MEASURED):
        return not isinstance(target, LossTarget)
    return bool(criterion_named(criterion).needs)


def asking_of(criterion: str) -> dict[str, tuple[str, ...]]:
    """What must be known of the data, by who asks: the criterion; `"auto"` takes what there is."""
    if criterion in (AUTO, MEASURED):
        return {}
    return {f"criterion={criterion!r}": criterion_named(criterion).needs}


def judge_for(
    criterion: str,
    allocation: str,
    *,
    model: Any,
    kernels: Sequence[CompressibleKernel],
    target: Target | SharedTargets,
    samples: Samples | None,
    measured: MeasuredLosses | None = None,
    without: str = NO_DATA,
) -> Judge:
    """The judge that was asked for, or the best one there can be.

    An energy or an error that is asked for is one of the kernels themselves, so that the number
    means the same for any data; who wants it weighed by data names a criterion.

    Args:
        criterion: Its name, or `"auto"`, or `"measured"`, which is that within a kernel.
        allocation: Name of the way to share a budget, or `"auto"`: the one that goes with it.
        model: The model in training.
        kernels: The kernels that may change.
        target: What the model is brought to.
        samples: The data; `None` where there is none.
        measured: What an analysis says of the kernels. Where that tells none apart, energies
            decide alone, as by `"auto"`.
        without: What to tell where there is no data, and why there is none.

    Raises:
        ArgumentError: The criterion that was asked for needs data, and weights of the samples
            cannot say how often they are there.
    """
    found, notes, is_open = criterion, list[str](), allocation == AUTO
    if criterion in (AUTO, MEASURED):
        found = WITHOUT_DATA
        if takes_samples(criterion, target):
            found, notes = _best(model, kernels, samples, without)
    judged = criterion_named(found)
    if samples is not None and judged.needs:
        notes = [*notes, *_unweighted(samples, is_asked=criterion not in (AUTO, MEASURED))]
    if measured is not None and not measured.tells_apart:
        notes = [*notes, _flat(measured, judged)]
        measured = None
    if measured is not None:
        allocation = "knapsack" if allocation == AUTO else allocation
        notes = [*notes, *_unmeasured(measured, kernels)]
    if allocation == AUTO:
        hears = bool(judged.needs) and _unseen(kernels, judged) < 1.0
        allocation = "knapsack" if hears else "equal_energy"
    least = FEW if is_open and measured is None and allocation == "knapsack" else 1
    return Judge(judged, allocation, tuple(notes), measured, least)


def _unweighted(samples: Samples, *, is_asked: bool) -> Iterator[str]:
    """That the weights of samples are not heard, if so; refused where a criterion is asked for."""
    try:
        for part in (samples, *samples.more):
            checked_weights(_keras.arrays_in(part.weight))
    except ArgumentError as error:
        if is_asked:
            raise
        yield f"The kernels are judged by samples that count once each. {error}"


def _flat(measured: MeasuredLosses, judged: Criterion) -> str:
    """That an analysis says nothing of any kernel, and who shares the budget then."""
    analysis = measured.analysis
    on = f" ({analysis.measured_on})" if analysis.samples else ""
    return (
        f"The budget was not shared by criterion 'measured' but by {judged.name!r}, for in "
        f"{measured.source} no cut of a kernel changes the {analysis.metric} by more than chance "
        f"does{on}. Analyse by another metric, such as the loss, or on more samples."
    )


def _unmeasured(measured: MeasuredLosses, kernels: Sequence[CompressibleKernel]) -> Iterator[str]:
    """That an analysis lacks some kernels, and what they count then."""
    paths = measured.without(kernels)
    if paths:
        yield (
            "Not in the analysis, so each share of their energy counts as much as it does, by what "
            f"was measured, in the others on average: {', '.join(paths)}."
        )


def _best(
    model: Any, kernels: Sequence[CompressibleKernel], samples: Samples | None, without: str
) -> tuple[str, list[str]]:
    """The best judge, and why better ones are none."""
    if samples is None:
        return WITHOUT_DATA, [without]
    reasons: list[str] = []
    known = {name: criterion_named(name) for name in JUDGES}
    unseen = {name: _unseen(kernels, each) for name, each in known.items()}
    for name, each in known.items():
        reason = _hindrance(model, each, samples)
        if reason is None and unseen[name] > min(unseen.values()) + _UNSEEN:
            share = f"{100 * unseen[name]:.0f} % of the parameters that may change"
            reason = f"{name!r}, which cannot tell of kernels with {share}."
        if reason is None:
            return name, [f"Judged by {name!r}, not by {told}" for told in reasons]
        reasons.append(reason)
    return WITHOUT_DATA, [f"Judged by {WITHOUT_DATA!r}, not by {told}" for told in reasons]


def _hindrance(model: Any, criterion: Criterion, samples: Samples) -> str | None:
    """Why a criterion cannot learn what it asks for of this model and these samples."""
    try:
        who = check_asking(model, asking_of(criterion.name), None)
        check_samples(samples, model, who, run=True)
        for part in (samples, *samples.more):
            y = None if who is None else part.y
            check_values(model, part.x, y, "the samples", part.weight)
    except ArgumentError as error:
        return f"{criterion.name!r}: {error}"
    return None


def _unseen(kernels: Sequence[CompressibleKernel], criterion: Criterion) -> float:
    """The share of the parameters whose kernels a criterion cannot judge."""
    sizes = {m.kernel.path: m.dense_cost("parameters") for m in kernels}
    unseen = (
        sizes[m.kernel.path] for m in kernels if not can_be_observed(m.kernel, criterion.needs)
    )
    return sum(unseen) / (sum(sizes.values()) or 1.0)
