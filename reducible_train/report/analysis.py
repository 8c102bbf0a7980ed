"""What an analysis has found: of each kernel its spectrum, its costs, the metric at each rank."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reducible_train.errors import ArgumentError, FormatError
from reducible_train.report.analysis_checks import check_analysis
from reducible_train.report.figures import analysis_figure, finished
from reducible_train.report.page import analysis_page
from reducible_train.report.plain import from_plain
from reducible_train.report.tables import (
    html_lines,
    html_table,
    on_terminal,
    text_table,
)

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

FORMAT = "reducible_train analysis 1"

Array = npt.NDArray[np.float64]


def along(discarded: npt.ArrayLike, at: Array, changes: npt.ArrayLike) -> Array:
    """What changes where some energy of a kernel is discarded, on straight lines between known.

    Beyond the last it goes on in proportion to the energy; where none is discarded nothing changes.

    Args:
        discarded: Shares of the energy.
        at: `(ranks,)`, those at which changes are known, in any order.
        changes: `(ranks,)`.

    Example:
        >>> along([1.0, 0.5, 0.1, 0.0], np.array([0.2]), [0.4]).round(3).tolist()
        [2.0, 1.0, 0.2, 0.0]
    """
    wanted = np.asarray(discarded, dtype=np.float64)
    order = np.argsort(at, kind="stable")
    known, found = at[order], np.asarray(changes, dtype=np.float64)[order]
    some = known > 0
    known, found = np.append(0.0, known[some]), np.append(0.0, found[some])
    beyond = np.maximum(wanted / (known[-1] or 1.0), 1.0)
    return np.asarray(np.interp(wanted, known, found) * beyond)


@dataclass(frozen=True)
class KernelAnalysis:
    """One kernel `W (m, n)`, alone cut to each of some ranks.

    Args:
        path: Layer path and kernel name.
        kind: Class of its layer.
        shape: `(m, n)`.
        parameters, flops, bytes: Its share of the whole dense model's, in [0, 1]; `None` where
            the model does not tell.
        break_even_rank: The largest rank whose factors are smaller.
        effective_rank: The exponential of the entropy of the spectrum (Roy and Vetterli, 2007).
        noise_edge: Singular values of the shuffled kernel end there (Marchenko and Pastur, 1967).
        noise_rank: How many values lie above it.
        spectrum: Singular values, falling.
        ranks: What it was cut to, one for each ratio.
        values: The metric of the model then.
        errors: The standard error of what each adds to the baseline, as the same samples tell both;
            empty where single batches are not known.
    """

    path: str
    kind: str
    shape: tuple[int, int]
    parameters: float | None
    flops: float | None
    bytes: float | None
    break_even_rank: int
    effective_rank: float
    noise_edge: float
    noise_rank: int
    spectrum: tuple[float, ...]
    ranks: tuple[int, ...]
    values: tuple[float, ...]
    errors: tuple[float, ...] = ()

    def discarded(self) -> Array:
        """The share of the kernel's energy `sum(s[r:]**2) / sum(s**2)` beyond rank r = 0, 1, ...

        0 everywhere for a kernel of zeros.
        """
        squares = np.square(np.asarray(self.spectrum, dtype=np.float64))
        tails = np.append(np.cumsum(squares[::-1])[::-1], 0.0)
        return tails / (tails[0] or 1.0)

    def discarded_at_ranks(self) -> Array:
        """The same at each of `ranks`."""
        own = self.discarded()
        return own[np.minimum(self.ranks, len(own) - 1)]

    def change(self, rank: int, baseline: float) -> float:
        """The metric at a rank less the baseline.

        Between measured ranks it goes by the energy that is discarded, which a small error of a
        kernel costs in proportion; so it does below the least of them.
        """
        own, changes = self.discarded(), np.asarray(self.values) - baseline
        return float(along(own[min(rank, len(own) - 1)], self.discarded_at_ranks(), changes))


@dataclass(frozen=True)
class Analysis:
    """What `analyze` has found.

    `str` of it is a table, a row for each kernel.

    Args:
        format: Name and version of the file's format.
        model: Name of the model.
        weights: Fingerprint of the model's weights.
        data: Fingerprint of the samples.
        metric: Name of what was measured.
        ratios: Kept parameters of a kernel, as a fraction of its own, in (0, 1].
        baseline: The metric of the model as it is.
        paths: Kernels to analyse, in the model's order.
        kernels: Those done so far, in that order.
        samples: How many samples it was measured on; 0 where a function brings its own.
        given: How many there were to draw them from.
        better: `"less"` or `"more"`, where the metric tells; else the table does, since cuts do
            harm.
        batches: Of each batch of them how many it holds, and the metric of the model as it is; of
            one that is no mean over samples, what makes up the whole by these numbers.
    """

    format: str
    model: str
    weights: str
    data: str
    metric: str
    ratios: tuple[float, ...]
    baseline: float
    paths: tuple[str, ...]
    kernels: tuple[KernelAnalysis, ...]
    samples: int = 0
    given: int = 0
    better: str = ""
    batches: tuple[tuple[int, float], ...] = ()

    @property
    def is_whole(self) -> bool:
        """True if all kernels are done."""
        return len(self.kernels) == len(self.paths)

    @property
    def less_is_better(self) -> bool:
        """True for a metric that cuts make larger."""
        if self.better:
            return self.better == "less"
        least = [kernel.values[int(np.argmin(kernel.ranks))] for kernel in self.kernels]
        return bool(np.nansum(np.asarray(least) - self.baseline) >= 0)

    @property
    def error(self) -> float | None:
        """The standard error of a change, the median of all; `None` if not known."""
        told = [each for kernel in self.kernels for each in kernel.errors if math.isfinite(each)]
        return float(np.median(told)) if told else None

    @property
    def measured_on(self) -> str:
        """The samples, in words; nothing where a function brings its own."""
        if not self.samples:
            return ""
        of = f" of {self.given:,}" if self.given > self.samples else ""
        error = "" if self.error is None else f", standard error of a change {self.error:.2g}"
        return f"{self.samples:,}{of} samples{error}"

    def predicted(self, ranks: Mapping[str, int]) -> float:
        """The metric to expect when several kernels are cut at once: the single changes added up.

        Args:
            ranks: Rank by path; kernels that are left out stay as they are.

        Raises:
            ArgumentError: A path that is not in the table, or what is no rank.
        """
        wrong = {path: rank for path, rank in ranks.items() if not _is_rank(rank)}
        if wrong:
            raise ArgumentError(
                "`ranks` must be whole numbers from 1 on, by path of the kernel. "
                f"Received: {wrong}. Leave out kernels that stay as they are."
            )
        known = {kernel.path: kernel for kernel in self.kernels}
        strange = [path for path in ranks if path not in known]
        if strange:
            raise ArgumentError(
                f"`ranks` must be of kernels in the analysis: {', '.join(known)}. "
                f"Received: {', '.join(strange)}. Correct the path, or analyse that model."
            )
        changes = (known[path].change(rank, self.baseline) for path, rank in ranks.items())
        return self.baseline + sum(changes)

    def to_json(self) -> str:
        """The text of its file; a number that is not finite is `null`."""
        return json.dumps(_finite(asdict(self)), indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, source: str = "the analysis") -> Analysis:
        """The analysis of a file's text.

        Raises:
            FormatError: It is not one, or contradicts itself.
        """
        try:
            plain = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _no_analysis(source, f"no JSON ({error})") from error
        named = plain.get("format") if isinstance(plain, Mapping) else None
        if named != FORMAT:
            raise _no_analysis(source, f"format {named!r}"[:200])
        found = from_plain(cls, plain, source)
        check_analysis(found, source)
        return found

    def __str__(self) -> str:
        return "\n".join([*text_table(self._rows()), self._baseline()])

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """A table for a terminal; plain lines in a file."""
        yield from on_terminal(self._rows(), [self._baseline()], console)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return html_table(self._rows()) + html_lines([self._baseline()])

    def to_html(self, title: str = "Analysis") -> str:
        """One page with the table and, where matplotlib is installed, a picture.

        Args:
            title: Its heading.
        """
        return analysis_page(self, title)

    def plot(self, path: str | os.PathLike[str] | None = None, *, ax: Any = None) -> Any:
        """Draw the metric over the kept ratio, and the spectra, a line for each kernel.

        Args:
            path: File to write, such as `"analysis.png"`; none if not given.
            ax: Axes of matplotlib to draw the metric on, in place of a figure of its own.

        Returns:
            The figure of matplotlib.

        Raises:
            ArgumentError: matplotlib is not installed, or makes no such file.
            FileAccessError: The file cannot be written.
        """
        return finished(analysis_figure(self, ax), path)

    def _baseline(self) -> str:
        on = f" ({self.measured_on})" if self.samples else ""
        return f"{self.metric} as it is: {self.baseline:.4g}{on}"

    def _rows(self) -> list[list[str]]:
        """The table, a row for each kernel after the head."""
        head = ["kernel", "shape", "params", "FLOPs", "effective", "above noise", "break-even"]
        rows = [[*head, *(f"{100 * ratio:g} %" for ratio in self.ratios)]]
        for kernel in self.kernels:
            m, n = kernel.shape
            shares = [_percent(kernel.parameters), _percent(kernel.flops)]
            ranks = [f"{kernel.effective_rank:.1f}", f"{kernel.noise_rank}"]
            measured = [f"{value:.4g}" for value in kernel.values]
            row = [kernel.path, f"{m} x {n}", *shares, *ranks, f"{kernel.break_even_rank}"]
            rows.append([*row, *measured])
        return rows


def _is_rank(value: Any) -> bool:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and value >= 1


def _finite(value: Any) -> Any:
    """The same with `None` for numbers that JSON has no word for."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _no_analysis(source: str, came: str) -> FormatError:
    return FormatError(
        f"{source} must be an analysis, as analyze(model, data, file=...) writes it. "
        f"Received: {came}. Give another path."
    )
