"""What the directions of each kernel are worth, as a criterion scores them on the data."""

from __future__ import annotations

import time as clock
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from reducible_train.errors import SpectrumError
from reducible_train.layers import Kernel
from reducible_train.linalg.leading import pays
from reducible_train.linalg.metric import Metric
from reducible_train.linalg.moments import Moments, Variances
from reducible_train.linalg.noise import effective_rank
from reducible_train.linalg.weighted_svd import WeightedStack, weigh_stack
from reducible_train.selection.compressible import CompressibleKernel
from reducible_train.selection.criteria import Criterion, Statistics
from reducible_train.selection.decomposition_cache import DecompositionCache
from reducible_train.selection.factorizations import Factorization
from reducible_train.selection.samples import Samples
from reducible_train.selection.statistics import LARGEST, can_be_observed, collect, seen_in
from reducible_train.selection.survey import Survey

_LARGE = 0.5  # of the parameters, scored by plain energy
_UNTOLD = "layers of their kind do not tell what passes through them"
_UNMET = "no call on the samples gave them values"
_UNCOUNTED = "no sample counts: each has weight 0, or a target that the loss ignores"
_UNMOVED = "the loss on the samples has no gradient by their outputs, as before kernels of 0"
_STILL = "their inputs are 0 on all samples or, where a bias takes up the mean, the same"


class DirectionScorer:
    """Decomposes the kernels of a model as it is now, under the metrics of a criterion.

    What the data says is learned at the first question, and holds until the model changes: each
    look at the model takes a new scorer.

    Args:
        model: The model in training, whose loss counts; it may be more than what is surveyed.
        survey: The kernels.
        criterion: What a lost direction costs.
        samples: Data for a criterion that asks for it; without, kernels are scored by their energy.
        cache: Decompositions of earlier looks, which hold for kernels of the same numbers.
        once: False where other ranks will be asked of what the cache keeps: all directions are
            found then, where the leading ones would do for now.

    Attributes:
        seconds: What the decompositions took so far, the look at the data included.
        notes: Sentences for the reader of a report.
        silent: Paths of the kernels of which the criterion tells nothing, so that their directions
            are scored by plain energy, which is of another unit.
        idle: Paths of the kernels of which no cut changes anything on the samples: their inputs
            are 0, or a bias takes up what they are. None, where that is so of all of them.
    """

    def __init__(
        self,
        model: Any,
        survey: Survey,
        criterion: Criterion,
        samples: Samples | None,
        cache: DecompositionCache | None = None,
        *,
        once: bool = True,
    ):
        self.criterion = criterion
        self.seconds = 0.0
        self.notes: tuple[str, ...] = ()
        self.silent: Collection[str] = ()
        self.idle: Collection[str] = ()
        self._model = model
        self._survey = survey
        self._samples = samples
        self._cache = DecompositionCache() if cache is None else cache
        self._once = once
        self._parts: dict[tuple[str, str], Decomposition] = {}  # of this look, by path and split
        self._statistics: dict[str, tuple[Statistics, ...]] | None = None  # before a question
        self._effective_ranks: dict[str, float] = {}  # of this look, by path

    def parts(
        self, compressible: CompressibleKernel, form: Factorization, rank: int | None = None
    ) -> Decomposition:
        """The decomposition of a kernel in one of its forms, up to the largest rank it may get.

        Args:
            compressible: The kernel.
            form: The form.
            rank: The rank it gets, where that is known before its spectrum is: of a large kernel
                only the leading directions are then looked for.
        """
        kernel, split, most = compressible.kernel, form.split, _most(compressible, form)
        asked = kernel.path, split
        if asked in self._parts:
            return self._parts[asked]
        leading = False
        if rank is not None and kernel.rank is None and self._once and pays(form.shape, rank):
            leading, most, asked = True, rank, (kernel.path, f"{split}, leading {rank}")
            if asked in self._parts:
                return self._parts[asked]
        seen = self._seen(compressible, split)
        started = clock.perf_counter()
        metrics = None if seen is None else [self.criterion.metric_of(each) for each in seen]
        parts = self._parts[asked] = self._cache.get(
            asked,
            partial(kernel.matrices, split),
            metrics,
            most,
            partial(decomposition, kernel, split, metrics, most=most, leading=leading),
        )
        self.seconds += clock.perf_counter() - started
        return parts

    def effective_rank(self, compressible: CompressibleKernel) -> float:
        """That of a kernel as it is, whatever the criterion says of its directions."""
        path, split = compressible.kernel.path, compressible.factorization.split
        if path not in self._effective_ranks:
            started = clock.perf_counter()
            self._effective_ranks[path] = effective_rank_of(compressible.kernel, split)
            self.seconds += clock.perf_counter() - started
        return self._effective_ranks[path]

    def means(
        self, compressible: CompressibleKernel, form: Factorization
    ) -> list[np.ndarray] | None:
        """The means of a kernel's inputs that its offset shall make up for."""
        seen = self._seen(compressible, form.split) or ()
        means = [mean for each in seen if (mean := each.mean) is not None]
        return means if means and len(means) == len(seen) else None

    def statistics(self, compressible: CompressibleKernel) -> tuple[Statistics, ...] | None:
        """What the data says of a kernel, in its usual split; `None` if it says nothing."""
        self._seen(compressible, compressible.forms[0].split)
        return (self._statistics or {}).get(compressible.kernel.path)

    def _seen(self, compressible: CompressibleKernel, split: str) -> tuple[Statistics, ...] | None:
        """What the data says of a kernel in a split; `None` if it says nothing."""
        if self._statistics is None:
            started = clock.perf_counter()
            self._statistics = self._collected()
            self.seconds += clock.perf_counter() - started
        statistics = self._statistics.get(compressible.kernel.path)
        return None if statistics is None else seen_in(compressible.kernel, split, statistics)

    def _collected(self) -> dict[str, tuple[Statistics, ...]]:
        """What passes through the kernels, by path; a note tells of those it says nothing of."""
        if not self.criterion.needs or self._samples is None:
            return {}
        compressible = self._survey.compressible
        kernels, needs = [m.kernel for m in compressible], self.criterion.needs
        statistics = collect(self._model, kernels, self._samples, needs)
        self.silent = silent = self._unheard(statistics)
        idle = [path for path, told in statistics.items() if all(map(_is_idle, told))]
        self.idle = idle if len(idle) < len(statistics) else ()
        if silent:
            self.notes = (self._by_energy(silent),)
        self.notes = (
            *self.notes,
            *self._by_outputs(statistics, silent),
            *self._by_few(statistics, len(self._samples)),
            *_by_variances(statistics),
        )
        return {path: told for path, told in statistics.items() if silent.get(path) != _UNMOVED}

    def _unheard(self, statistics: Mapping[str, Sequence[Statistics]]) -> dict[str, str]:
        """Why the criterion tells nothing of kernels, by path of those of which it does not."""
        needs, reasons = self.criterion.needs, dict[str, str]()
        unmet = _UNMET if self._samples else _UNCOUNTED
        for kernel in (each.kernel for each in self._survey.compressible):
            told = statistics.get(kernel.path)
            if told is None:
                reasons[kernel.path] = unmet if can_be_observed(kernel, needs) else _UNTOLD
            elif "gradients" in needs and told[0].gradients is None:
                reasons[kernel.path] = _UNMOVED
            elif all(each.is_still and self.criterion.metric_of(each).plain for each in told):
                reasons[kernel.path] = _STILL
        return reasons

    def _by_outputs(
        self, statistics: Mapping[str, Sequence[Statistics]], silent: Collection[str]
    ) -> Iterator[str]:
        """That all directions of some inputs count alike, for nothing tells them apart."""
        weigh = self.criterion.metric_of
        paths = [
            path
            for path, told in statistics.items()
            if path not in silent
            and all(each.is_still and weigh(each).inputs is None for each in told)
        ]
        if paths:
            yield (
                f"All directions of the inputs of {', '.join(paths)} count alike, because {_STILL}."
            )

    def _by_few(
        self, statistics: Mapping[str, Sequence[Statistics]], samples: int
    ) -> Iterator[str]:
        """That there are too few samples to tell of every direction of some inputs."""
        thin = {
            path: len(each.inputs.mean)
            for path, (each, *_) in statistics.items()
            if isinstance(each.inputs, Moments) and each.inputs.is_thin
        }
        if thin:
            paths = ", ".join(f"{path} ({count} inputs)" for path, count in thin.items())
            yield (
                f"Judged by {samples} samples, which are fewer, with all their positions, than the "
                f"inputs of {paths}: the errors that are told hold for these samples, not for "
                "others. Give more, a few thousand of the training set."
            )

    def _by_energy(self, silent: Mapping[str, str]) -> str:
        """That the criterion does not score some kernels, why, and what follows from it."""
        paths: dict[str, list[str]] = {}  # by the reason
        for path, reason in silent.items():
            paths.setdefault(reason, []).append(path)
        reasons = (f"because {reason}: {', '.join(each)}" for reason, each in paths.items())
        costs = {m.kernel.path: m.dense_cost("parameters") for m in self._survey.compressible}
        share = sum(costs[path] for path in silent) / sum(costs.values())
        note = f"By plain energy, not {self.criterion.name!r}, {'; '.join(reasons)}."
        if share > _LARGE:
            note += (
                f" They hold {100 * share:.0f} % of what may change, so a budget is mostly shared "
                "by energy. If they matter, give them ranks of their own by rules."
            )
        return note


def _is_idle(told: Statistics) -> bool:
    """True where the inputs of a kernel stay the same, as those of one sample would anyway."""
    known = told.inputs
    return isinstance(known, Moments | Variances) and told.is_still and known.count > 1


def _by_variances(statistics: Mapping[str, Sequence[Statistics]]) -> Iterator[str]:
    """That of many inputs nothing is known of what they have in common."""
    wide = {
        path: len(each.inputs.mean)
        for path, (each, *_) in statistics.items()
        if isinstance(each.inputs, Variances)
    }
    if wide:
        paths = ", ".join(f"{path} ({count} inputs)" for path, count in wide.items())
        yield (
            f"Of more than {LARGEST} inputs it is known how much each varies, not what they have "
            f"in common, so no error of the outputs is told of {paths}."
        )


Decomposition = WeightedStack


def effective_rank_of(kernel: Kernel, split: str | None = None) -> float:
    """The effective rank of a kernel, dense or factorised, as `analyze` tells it."""
    return effective_rank(decomposition(kernel, split, most=1).values)


def _most(compressible: CompressibleKernel, form: Factorization) -> int:
    """The largest rank that a kernel may get in a form."""
    rank = compressible.kernel.rank
    return max(form.max_rank, form.least) if rank is None else rank


def decomposition(
    kernel: Kernel,
    split: str | None = None,
    metrics: Sequence[Metric] | None = None,
    *,
    most: int | None = None,
    leading: bool = False,
) -> Decomposition:
    """The singular value decomposition of a kernel, dense or factorised.

    It reads the kernel again where factors are asked of it, so ask before the kernel changes.

    Args:
        kernel: The kernel.
        split: How it is split; the usual way if not given.
        metrics: How errors of each of its matrices are measured; left out, by their energy.
        most: The largest rank that will be asked for; left out, any.
        leading: True where values after the first `most` need not be told apart.

    Raises:
        SpectrumError: It holds NaN or infinity, or does not converge; names the kernel.
    """
    read = partial(kernel.matrices, split)
    try:
        return weigh_stack(read(), metrics, most=most, read=read, leading=leading)
    except SpectrumError as error:
        raise SpectrumError(f"{kernel.path}: {error}") from error
