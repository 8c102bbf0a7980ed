"""Records of what was decided for each kernel, and the text that tells it.

The callback and the one-shot functions write these records; the TensorBoard
companion, the file and the command line read them. Nothing here knows Keras.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from reducible_train.report.figures import finished, report_figure, spectra_figure
from reducible_train.report.page import RULES, report_page
from reducible_train.report.plain import from_plain
from reducible_train.report.tables import (
    html_lines,
    html_table,
    on_terminal,
    text_table,
)

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

# How notes begin that hold of the end of a training alone.
AT_THE_END = "At the end of the training, "
UNREACHED = "RankScheduler did not reach "
_SHARED = ("budget", "cost")  # quantities of the whole model
_LARGE = 1 / 3  # of the parameters left: by its size alone a kernel is worth a rule


@dataclass(frozen=True)
class KernelRecord:
    """What one kernel is now, and why.

    Args:
        path: Layer path and kernel attribute, such as `"encoder/d1/kernel"`.
        kind: Class of the dense layer, such as `"Dense"`.
        shape: `(m, n)` of the kernel matrix, inputs x outputs.
        rank: Rank in force; `None` while the kernel is dense.
        break_even_rank: Largest rank whose factors are smaller than the kernel.
        parameters: Parameters stored for it now.
        energy: Energy kept since the start, the product over its cuts, a fraction;
            `None` before any cut.
        reason: Why it stays dense; `None` if it is compressible.
        count: Matrices of this shape, one for each group of a convolution.
        split: How it is split in two, where there is a choice.
        remark: Why it is dense though it is compressible.
        output_error: Share of the variance of its outputs lost since the start, `1 - prod(1 - e)`
            over its cuts, a fraction; `None` where no data has told.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    rank: int | None
    break_even_rank: int
    parameters: int
    energy: float | None = None
    reason: str | None = None
    count: int = 1
    split: str = ""
    remark: str = ""
    output_error: float | None = None

    @property
    def dense_parameters(self) -> int:
        """Parameters of the dense kernel."""
        return int(np.prod(self.shape, dtype=object)) * self.count


@dataclass(frozen=True)
class KernelCut:
    """One kernel in one cut.

    Args:
        path: As in `KernelRecord`.
        shape: `(m, n)` of the kernel matrix.
        rank_before: Rank before the cut; `None` if it was dense.
        rank: Rank after the cut.
        energy: Energy of the kernel kept by this cut alone, a fraction.
        relative_error: `sqrt(1 - energy)`, relative Frobenius error of this cut.
        binding: What decided the rank (`"budget"`, `"energy"`, `"max_rank"`, ...).
        spectrum: Singular values before the cut, non-increasing, as the criterion weighs them. Of a
            large kernel whose rank was asked for, those after it are all their root mean square.
        criterion: What said which directions to lose.
        output_error: What this cut alone does to the outputs of the kernel, on inputs as they were
            before it: `E||x W - x W'||^2` over the variance of `x W`, less what the bias makes up
            for; `None` where the moments of `x` are not known.
        effective_rank: That of the kernel before its first cut, where a multiple of it was asked.
    """

    path: str
    shape: tuple[int, int]
    rank_before: int | None
    rank: int
    energy: float
    relative_error: float
    binding: str
    spectrum: np.ndarray = field(repr=False, compare=False)
    criterion: str = "frobenius"
    output_error: float | None = None
    effective_rank: float | None = None


@dataclass(frozen=True)
class Cut:
    """One cut of one model: when, towards what, and what it did.

    Args:
        epoch: Epoch (0-based) before or in which the cut was made.
        step: Training steps done before the cut.
        quantity: What fell (or rose): `"budget"`, `"cost"`, `"energy"`, `"rtol"`, `"rank"`,
            `"effective_rank"`, or `"stable_rank"`, by which `Adaptive` alone cuts each kernel.
        target: The schedule's value.
        kernels: The kernels whose rank changed.
        parameters_before: Parameters of the whole model before.
        parameters: Parameters of the whole model after.
        seconds: Wall time of each part: `"spectra"`, `"allocation"`, `"surgery"`.
        certificate: Objective, bound and gap of the allocation, if one was solved.
        output_error: How far the outputs of the model right after it are from those right before:
            `||g - f||^2 / ||f - mean f||^2` over samples, of several outputs the largest. At 1 they
            are no better than their mean. `None` where that was not measured.
        output_error_since_start: The same, from those right before the first cut; of a model that
            was not trained by then, this holds what it has learnt since, too.
        metrics_before: Loss and metrics right before it, on the same samples; empty where they
            were not measured.
        metrics_after: The same, right after it.
        budgets: Of several budgets met at once the value of each, by its measure; `target` is the
            first of them.
        epoch_step: Training steps of its epoch done before the cut: 0 for one before it; `None`
            where that is not known, as in files of before.
    """

    epoch: int
    step: int
    quantity: str
    target: float
    kernels: tuple[KernelCut, ...]
    parameters_before: int
    parameters: int
    seconds: Mapping[str, float] = field(compare=False)
    certificate: Mapping[str, float] | None = field(default=None, hash=False)
    output_error: float | None = None
    output_error_since_start: float | None = None
    metrics_before: Mapping[str, float] = field(default_factory=dict, hash=False)
    metrics_after: Mapping[str, float] = field(default_factory=dict, hash=False)
    budgets: Mapping[str, float] | None = field(default=None, hash=False)
    epoch_step: int | None = None

    @property
    def by_rules(self) -> bool:
        """True if a budget asked for nothing, and rules for single layers alone did."""
        bindings = {kernel.binding for kernel in self.kernels}
        return self.quantity in _SHARED and bool(bindings) and "budget" not in bindings


@dataclass(frozen=True)
class Answers:
    """What became of the answers of a model, measured on the same samples throughout.

    Args:
        samples: How many.
        source: Where they come from, in words.
        output_error: How far the outputs are, at the end, from those right before the first cut, as
            `Cut.output_error` counts it; `None` while training goes on, and where no samples
            could tell.
        metrics: Loss and metrics at the end.
    """

    samples: int
    source: str
    output_error: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def measured_on(self) -> str:
        """The samples, in words."""
        return f"{self.samples:,} samples of {self.source}"


@dataclass(frozen=True)
class UndoneCut:
    """A cut that a guard had undone, or several of one epoch.

    Args:
        epoch: Epoch (0-based) before or in which it was made.
        undone_epoch: Epoch before or in which it was undone; the number of epochs if that
            was after the last one.
        quantity: What fell (or rose): `"budget"`, `"cost"`, `"energy"`, `"rtol"`, `"rank"`,
            `"effective_rank"`, or `"stable_rank"`, by which `Adaptive` alone cuts each kernel.
        target: The value that was aimed at.
        parameters_before: Parameters of the whole model before it, and since.
        parameters: Parameters while it was on trial.
        monitor: The metric that was watched.
        reference: Its best value on accepted ranks.
        worst: The worst value that would have been accepted.
        value: Its last value under this cut; `None` if there was none.
        reason: Why it was undone, in words.
        budgets: Of several budgets that were aimed at the value of each, by its measure.
        by_rules: True if a budget asked for nothing, and rules for single layers alone did.
    """

    epoch: int
    undone_epoch: int
    quantity: str
    target: float
    parameters_before: int
    parameters: int
    monitor: str
    reference: float
    worst: float
    value: float | None
    reason: str
    budgets: Mapping[str, float] | None = field(default=None, hash=False)
    by_rules: bool = False

    def __str__(self) -> str:
        asked = self.budgets or {"": self.target}
        aims = (f"{f'{self.quantity}.{m}'.rstrip('.')} {v:.4g}" for m, v in asked.items())
        wanted = f"by {RULES}" if self.by_rules else f"to {' and '.join(aims)}"
        return (
            f"The cut of epoch {self.epoch} {wanted} "
            f"({self.parameters_before:,} -> {self.parameters:,} parameters) was undone at epoch "
            f"{self.undone_epoch}: {self.reason}."
        )


@dataclass(frozen=True)
class Report:
    """All that was done to one model: sizes, kernels, cuts.

    Its `str` is the table people read; `to_dict` is what files keep. Two reports are equal if
    all but spectra and wall times is, which files do not hold: one that is read back equals the
    one that was saved.

    Args:
        dense_parameters: Parameters of the whole dense model.
        parameters: Parameters of the whole model now.
        dense_bytes: Bytes of the variables of the dense model.
        bytes: Bytes of the variables now.
        dense_flops: FLOPs of one sample through the kernels of the dense model
            (two for each multiply-add); `None` where shapes are not known.
        flops: The same, now.
        kernels: Every kernel that was looked at, compressible or not.
        cuts: Every cut so far, in order.
        notes: Sentences the reader should see.
        undone: Cuts that a guard had undone; they are not among `cuts`.
        flops_at: The input shape that FLOPs are counted for and where it comes from, in words;
            `None` for a model that leaves no length open.
        answers: What became of the model's answers; `None` where that was not measured.
    """

    dense_parameters: int
    parameters: int
    dense_bytes: int
    bytes: int
    dense_flops: int | None
    flops: int | None
    kernels: tuple[KernelRecord, ...]
    cuts: tuple[Cut, ...] = ()
    notes: tuple[str, ...] = ()
    undone: tuple[UndoneCut, ...] = ()
    flops_at: str | None = None
    answers: Answers | None = None

    @property
    def size_fraction(self) -> float:
        """Parameters now over parameters dense, in (0, 1]."""
        return self.parameters / self.dense_parameters if self.dense_parameters else 1.0

    @property
    def flops_fraction(self) -> float | None:
        """FLOPs now over FLOPs dense, in (0, 1]; `None` where not known."""
        if self.flops is None or not self.dense_flops:
            return None
        return self.flops / self.dense_flops

    @property
    def ranks(self) -> dict[str, int]:
        """Rank of every factorised kernel, by path."""
        return {k.path: k.rank for k in self.kernels if k.rank is not None}

    def following(self, before: Report) -> Report:
        """With what was done before, to the model that this one began as.

        Args:
            before: The report of that. What it has measured of the answers at its end, and what
                its notes say of that end, no longer holds.

        Example:
            >>> from dataclasses import replace
            >>> cut = KernelRecord("hidden/kernel", "Dense", (64, 64), 8, 32, 1024, energy=0.9)
            >>> now = Report(4160, 1088, 16640, 4352, None, None, (replace(cut, energy=None),))
            >>> now.following(replace(now, kernels=(cut,))).kernels[0].energy
            0.9
            >>> ended = replace(now, notes=("h is cut as well.", AT_THE_END + "it was NaN."))
            >>> now.following(ended).notes
            ('h is cut as well.',)
        """
        known = {each.path: each for each in before.kernels}
        kernels = [_following(each, known.get(each.path)) for each in self.kernels]
        answers = before.answers and replace(before.answers, output_error=None, metrics={})
        lasting = [note for note in before.notes if not note.startswith((AT_THE_END, UNREACHED))]
        return replace(
            self,
            kernels=tuple(kernels),
            cuts=before.cuts + self.cuts,
            notes=tuple(dict.fromkeys([*lasting, *self.notes])),
            undone=before.undone + self.undone,
            answers=self.answers or answers,
        )

    def to_dict(self, *, spectra: bool = False) -> dict[str, Any]:
        """Plain JSON values, without the spectra, if not asked for, and the wall times.

        So equal trainings with equal results say the same. `None` stands for a number that is
        not finite.

        Args:
            spectra: True to keep the singular values that each cut met, for `plot_spectra`:
                about 20 bytes each.
        """
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain["kernels"] = [asdict(k) | {"shape": list(k.shape)} for k in self.kernels]
        plain["cuts"] = [lasting_dict(c, spectra=spectra) for c in self.cuts]
        plain["notes"] = list(self.notes)
        plain["undone"] = [_undone_to_dict(u) for u in self.undone]
        plain["answers"] = None if self.answers is None else asdict(self.answers)
        return {name: _strict(value) for name, value in plain.items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Report:
        """The report that `to_dict` made these values of; what it left out is empty.

        Raises:
            FormatError: They are no report, or one of a newer version.

        Example:
            >>> report = Report(100, 40, 400, 160, None, None, ())
            >>> Report.from_dict(report.to_dict()).size_fraction
            0.4
        """
        return from_plain(cls, plain, "The report")

    def __str__(self) -> str:
        return "\n".join([*text_table(self._rows()), *self._lines()])

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """A table for a terminal; plain lines in a file."""
        yield from on_terminal(self._rows(), self._lines(), console)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return html_table(self._rows()) + html_lines(self._lines())

    def to_html(self, title: str = "Ranks") -> str:
        """One page with tables and, where matplotlib is installed, pictures; it needs no network.

        Args:
            title: Its heading.

        Example:
            >>> Report(100, 40, 400, 160, None, None, ()).to_html()[:15]
            '<!DOCTYPE html>'
        """
        return report_page(self, title)

    def plot(self, path: str | os.PathLike[str] | None = None, *, ax: Any = None) -> Any:
        """Draw the parameters of each kernel, dense and now, and its rank over the epochs.

        Args:
            path: File to write, such as `"report.png"`; none if not given.
            ax: Axes of matplotlib to draw the parameters on, in place of a figure of its own.

        Returns:
            The figure of matplotlib.

        Raises:
            ArgumentError: matplotlib is not installed, or makes no such file.
            FileAccessError: The file cannot be written.
        """
        return finished(report_figure(self, ax), path)

    def plot_spectra(
        self, layer: str, path: str | os.PathLike[str] | None = None, *, ax: Any = None
    ) -> Any:
        """Draw the singular values of a kernel before each of its cuts, and where it was cut.

        They are in the report of a fit or of `factorize`, not in one that a compact file kept.
        The first of several is dotted.

        Args:
            layer: Path of the layer, or of the kernel where the layer has several.
            path: File to write, such as `"spectra.png"`; none if not given.
            ax: Axes of matplotlib to draw on, in place of a figure of its own.

        Returns:
            The figure of matplotlib.

        Raises:
            ArgumentError: The kernel was never cut, or its spectra are not in the report; or
                matplotlib is not installed, or makes no such file.
            FileAccessError: The file cannot be written.
        """
        return finished(spectra_figure(self, layer, ax), path)

    def _rows(self) -> list[tuple[str, ...]]:
        """The table, a row for each kernel after the head."""
        told = any(k.output_error is not None for k in self.kernels)
        names = ("kernel", "shape", "rank", "energy", "output error", "parameters", "remark")
        rows = [names, *(_row(k, self._share(k)) for k in self.kernels)]
        return rows if told else [row[:4] + row[5:] for row in rows]

    def _share(self, kernel: KernelRecord) -> float:
        """Of what is left, the part of a kernel that a rule would take in; 0 of a small one."""
        waits = "keep_dense=False" in (kernel.reason or "")
        if not waits or all(k.rank is None for k in self.kernels):
            return 0.0
        share = kernel.parameters / self.parameters
        return share if share >= _LARGE else 0.0

    def _lines(self) -> list[str]:
        """What stands below it."""
        line = f"parameters {self.dense_parameters:,} -> {self.parameters:,}"
        line += f" ({_less(self.size_fraction)})"
        if self.flops_fraction is not None:
            line += f", FLOPs {_less(self.flops_fraction)}"
            line += f" (at {self.flops_at})" if self.flops_at else ""
        return [line, *answer_lines(self.cuts, self.answers), *map(str, self.undone), *self.notes]


def _following(kernel: KernelRecord, before: KernelRecord | None) -> KernelRecord:
    """A kernel, with what it had lost before."""
    if before is None:
        return kernel
    energies = [each.energy for each in (before, kernel) if each.energy is not None]
    errors = [each.output_error for each in (before, kernel) if each.output_error is not None]
    return replace(
        kernel,
        energy=math.prod(energies) if energies else None,
        output_error=1 - math.prod(max(1 - each, 0.0) for each in errors) if errors else None,
    )


def _undone_to_dict(undone: UndoneCut) -> dict[str, Any]:
    plain = asdict(undone)
    if undone.budgets is None:
        del plain["budgets"]
    if not undone.by_rules:
        del plain["by_rules"]
    return plain


def _less(left: float) -> str:
    """How many fewer, or more, where this fraction is left: a thin table costs a product."""
    fewer = 100 * (1 - left)
    return f"{abs(fewer):.1f} % {'fewer' if fewer >= 0 else 'more'}"


def _strict(value: Any) -> Any:
    """A value as JSON has it: it knows neither NaN and infinity nor numbers of numpy."""
    if isinstance(value, Mapping):
        return {str(name): _strict(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def empty_report(note: str) -> Report:
    """The report of a model that has no weights yet, with a sentence on why."""
    return Report(0, 0, 0, 0, None, None, (), notes=(note,))


def _row(k: KernelRecord, share: float) -> tuple[str, ...]:
    full = min(k.shape) if k.shape else 0
    rank = "dense" if k.rank is None else f"{k.rank}/{full}"
    energy = "" if k.energy is None else f"{k.energy:.3f}"
    shape = " x ".join(map(str, k.shape))
    if k.count > 1:
        shape = f"{k.count} of {shape}"
    count = f"{k.parameters:,}"
    if k.rank is not None:
        count = f"{k.dense_parameters:,} -> {count}"
    remark = f"{k.split} split" if k.split else ""
    error = "" if k.output_error is None else f"{k.output_error:.3f}"
    told = f"{100 * share:.0f} % of what is left: " if share else ""
    return k.path, shape, rank, energy, error, count, told + (k.reason or k.remark or remark)


def answer_lines(cuts: Sequence[Cut], answers: Answers | None) -> list[str]:
    """What became of the answers of a model, in lines: the error of its outputs, its metrics.

    Example:
        >>> cut = Cut(2, 40, "budget", 0.5, (), 9, 5, {}, None, 0.25, 0.25, {"loss": 0.5},
        ...           {"loss": 0.875})
        >>> print(*answer_lines([cut], Answers(64, "the validation data", 0.125, {"loss": 0.375})),
        ...       sep="\\n")
        output error 0.25 right after the cut, 0.125 at the end, of the variance of the outputs \
before it (64 samples of the validation data)
        loss 0.5 before the cut, 0.875 right after it, 0.375 at the end
    """
    if not cuts:
        return []
    many = len(cuts) > 1
    first, last = ("the first cut", "the last") if many else ("the cut", "it")
    lines = _error_line(cuts[-1], answers, many)
    for name, before in cuts[0].metrics_before.items():
        after = cuts[-1].metrics_after.get(name)
        now = None if answers is None else answers.metrics.get(name)
        line = f"{name} {before:.4g} before {first}"
        line += "" if after is None else f", {after:.4g} right after {last}"
        lines.append(line + ("" if now is None else f", {now:.4g} at the end"))
    return lines


def _error_line(cut: Cut, answers: Answers | None, many: bool) -> list[str]:
    """The error of the outputs since the first cut, or that of the last alone, or neither.

    Without answers, as after a resume with no more cuts, it is that of the fit before.
    """
    error, since_start = cut.output_error, cut.output_error_since_start
    if since_start is not None:
        line = f"output error {since_start:.3g} right after the {'last cut' if many else 'cut'}"
        if answers is not None and answers.output_error is not None:
            line += f", {answers.output_error:.3g} at the end"
        what = "the first" if many else "it"
    elif error is not None:
        line, what = f"output error {error:.3g} by the last cut alone", "it"
    else:
        return []
    where = "" if answers is None else f" ({answers.measured_on})"
    return [f"{line}, of the variance of the outputs before {what}{where}"]


def cut_to_dict(cut: Cut, *, spectra: bool = False) -> dict[str, Any]:
    """A cut in plain JSON values, its spectra left out if not asked for."""
    plain = {f.name: getattr(cut, f.name) for f in fields(cut)}
    plain["seconds"] = dict(cut.seconds)
    plain["certificate"] = None if cut.certificate is None else dict(cut.certificate)
    del plain["budgets"]  # left out where there is one, as files of before do
    if cut.budgets is not None:
        plain["budgets"] = dict(cut.budgets)
    plain["metrics_before"] = dict(cut.metrics_before)
    plain["metrics_after"] = dict(cut.metrics_after)
    plain["kernels"] = [
        {f.name: getattr(k, f.name) for f in fields(k) if f.name != "spectrum"}
        | {"shape": list(k.shape)}
        | ({"spectrum": k.spectrum.tolist()} if spectra else {})
        for k in cut.kernels
    ]
    return plain


def lasting_dict(cut: Cut, *, spectra: bool = False) -> dict[str, Any]:
    """Plain JSON values of a cut, without what differs from one run to the next."""
    return cut_to_dict(cut, spectra=spectra) | {"seconds": {}}


def cut_from_dict(plain: Mapping[str, Any]) -> Cut:
    """The cut that `cut_to_dict` made these values of; without spectra they are empty."""
    kernels = tuple(
        KernelCut(
            **{
                **k,
                "shape": tuple(k["shape"]),
                "spectrum": np.asarray(k.get("spectrum", []), float),
            }
        )
        for k in plain["kernels"]
    )
    return Cut(**{**plain, "kernels": kernels})
