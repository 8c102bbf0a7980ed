"""What each rank of a kernel loses by measurement: an analysis as the allocation takes it.

Measured losses say of each kernel alone what the user's own metric says, where an energy or a
second-order law only estimates it. They are of the weights that were analysed, and so of the begin
of a training: what a training brings back of them, nobody has measured.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from reducible_train.container.files import read_whole
from reducible_train.errors import ArgumentError
from reducible_train.linalg.svd import Array, cumulative_energy
from reducible_train.report.analysis import Analysis, KernelAnalysis, along
from reducible_train.selection.compressible import CompressibleKernel
from reducible_train.selection.fingerprints import of_weights
from reducible_train.settings.compression_kinds import AnalysisKind

_ANEW = "Analyse this model: analyze(model, data, file=...)."
_TIE = 1e-6  # of the most that was measured: what energies count by where measured losses are equal


@dataclass(frozen=True, eq=False)
class MeasuredLosses:
    """What each rank of each kernel loses, of an analysis.

    Args:
        analysis: The analysis, whole.
        source: Its file, or what to call it.
    """

    analysis: Analysis
    source: str

    def losses(self, path: str, spectrum: npt.ArrayLike, most: int) -> Array:
        """`(most + 1,)`: what a kernel loses at rank 0, 1, ..., never rising, in [0, 1].

        On top of what it has lost, if it has factors. It was measured where plain truncations
        discard so much of its energy; a criterion that knows the data finds directions that matter
        less, so a rank counts by the energy that it discards as the criterion weighs it.

        Args:
            path: The kernel.
            spectrum: Its singular values, as the criterion weighs them, in the form it shall have.
            most: The largest rank.

        Returns:
            In the unit of all: 1 is the most that any kernel loses.
        """
        known = self._known.get(path)
        discarded = _of_ranks(np.maximum(1.0 - cumulative_energy(spectrum), 0.0), most)
        lost = self._usual * discarded if known is None else self._curve(known, discarded)
        return np.clip(lost / self.unit, 0.0, 1.0)

    def without(self, kernels: Sequence[CompressibleKernel]) -> list[str]:
        """Paths of the kernels that were not analysed."""
        return [each.kernel.path for each in kernels if each.kernel.path not in self._known]

    @cached_property
    def tells_apart(self) -> bool:
        """False if no cut changed the metric by more than chance does."""
        values = np.concatenate([each.values for each in self.analysis.kernels])
        return bool(self._worst > self._error or not np.isfinite(values).all())

    @cached_property
    def _known(self) -> dict[str, KernelAnalysis]:
        return {each.path: each for each in self.analysis.kernels}

    @cached_property
    def unit(self) -> float:
        """The most that a kernel loses at rank 0, as the metric counts it."""
        whole = [self._curve(each, np.ones(1))[0] for each in self.analysis.kernels]
        return max(float(max(whole)), self._usual) or 1.0

    @cached_property
    def _usual(self) -> float:
        """What a kernel loses by its energy: as much, for each share of it, as the others do."""
        lost = gone = 0.0
        for each in self.analysis.kernels:
            at = each.discarded_at_ranks()
            lost, gone = lost + float(self._curve(each, at).sum()), gone + float(at.sum())
        return lost / gone if gone else 1.0

    def _curve(self, kernel: KernelAnalysis, discarded: Array) -> Array:
        """What a kernel loses where so much of its energy is discarded: never less for more.

        What was measured, smoothed so that it never falls, for a gain from less of a kernel is
        luck; and, below what chance does, in proportion to the energy. Where no chance is seen, as
        of a metric that is the same at many ranks, the energy breaks ties.
        """
        at = kernel.discarded_at_ranks()
        order = np.argsort(at, kind="stable")
        measured = self._worse(kernel)[order]
        rising = np.maximum(isotonic(measured), 0.0)
        chance = float(np.sqrt(np.mean((rising - measured) ** 2)))
        chance = max(chance, self._error, _TIE * (self._worst or 1.0))
        return along(discarded, at[order], rising) + chance * discarded

    def _worse(self, kernel: KernelAnalysis) -> Array:
        """By how much the metric was worse at each measured rank; not a number is the worst."""
        sign = 1.0 if self.analysis.less_is_better else -1.0
        worse = sign * (np.asarray(kernel.values, dtype=np.float64) - self.analysis.baseline)
        return np.where(np.isfinite(worse), worse, self._worst or 1.0)

    @cached_property
    def _error(self) -> float:
        """The standard error of a change, the median of all; 0 if not known.

        Of those that are not 0: a cut by which no sample fared otherwise tells of no chance, and
        not that there is none.
        """
        errors = (each for kernel in self.analysis.kernels for each in kernel.errors)
        told = [each for each in errors if 0 < each < math.inf]
        return float(np.median(told)) if told else 0.0

    @cached_property
    def _worst(self) -> float:
        values = np.concatenate([each.values for each in self.analysis.kernels])
        finite = values[np.isfinite(values)]
        return float(np.abs(finite - self.analysis.baseline).max(initial=0.0))


def isotonic(values: Sequence[float] | Array) -> Array:
    """The nearest values, by least squares, that never fall.

    Example:
        >>> isotonic([0.0, 0.2, 0.1, 0.5]).round(3).tolist()
        [0.0, 0.15, 0.15, 0.5]

    Reference: Barlow et al., *Statistical inference under order restrictions*, 1972 (the pooling of
    adjacent violators).
    """
    blocks: list[tuple[float, int]] = []
    for value in map(float, values):
        mean, count = value, 1
        while blocks and blocks[-1][0] > mean:
            before, many = blocks.pop()
            mean, count = (before * many + mean * count) / (many + count), many + count
        blocks.append((mean, count))
    return np.repeat([mean for mean, _ in blocks], [count for _, count in blocks])


def losses_of(analysis: Any) -> MeasuredLosses | None:
    """What an analysis, or its file, says; `None` without one.

    Raises:
        ArgumentError: It was interrupted, or has no kernels.
        ArgumentTypeError: It is neither.
        FormatError: The file holds something else.
        FileAccessError: It cannot be read.
    """
    if analysis is None or isinstance(analysis, MeasuredLosses):
        return analysis
    AnalysisKind().checked("analysis", analysis, "")
    source = "the analysis"
    if not isinstance(analysis, Analysis):
        source = os.fspath(analysis)
        text = read_whole(analysis, "analysis").decode("utf-8", "replace")
        analysis = Analysis.from_json(text, source)
    if not analysis.kernels or not analysis.is_whole:
        raise ArgumentError(
            f"`analysis` must be whole. Received: {source} of model '{analysis.model}', with "
            f"{len(analysis.kernels)} of {len(analysis.paths)} kernels. Call analyze again with "
            "the same file=, which goes on with it."
        )
    return MeasuredLosses(analysis, source)


def check_kernels(losses: MeasuredLosses, model: Any, kernels: Mapping[str, Any]) -> None:
    """Refuse an analysis of another architecture.

    Args:
        losses: The analysis.
        model: The model.
        kernels: All its kernels, by path.

    Raises:
        ArgumentError: It names a kernel that the model does not have, or has in another shape.
    """
    for each in losses.analysis.kernels:
        kernel = kernels.get(each.path)
        shapes = [] if kernel is None else [kernel.shape_in(split) for split in kernel.splits]
        if each.shape not in shapes:
            has = f"has it of shape {shapes[0]}" if shapes else "has none of that name"
            raise ArgumentError(
                f"`analysis` must be of this model. Received: {losses.source} of model "
                f"'{losses.analysis.model}', with {each.path} of shape {each.shape}; model "
                f"'{model.name}' {has}. {_ANEW}"
            )


def check_weights(losses: MeasuredLosses, model: Any) -> None:
    """Refuse an analysis of other weights.

    Raises:
        ArgumentError: It is one.
    """
    now = of_weights(model)
    if losses.analysis.weights != now:
        raise ArgumentError(
            f"`analysis` must be of the weights that model '{model.name}' has at the start. "
            f"Received: {losses.source} of model '{losses.analysis.model}' with others "
            f"({losses.analysis.weights[:12]}..., not {now[:12]}...): another model, or one that "
            f"was trained since. {_ANEW}"
        )


def _of_ranks(discarded: Array, most: int) -> Array:
    """For ranks 0 ... `most`; beyond the last nothing is discarded."""
    found = np.zeros(most + 1)
    found[: len(discarded)] = discarded[: most + 1]
    return found
