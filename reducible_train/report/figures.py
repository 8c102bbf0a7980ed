"""Pictures of reports and analyses: matplotlib, where it is installed, without its global state.

Names of layers are drawn as they are: neither mathematics nor a leading underscore means anything.
"""

from __future__ import annotations

import functools
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reducible_train.errors import (
    ArgumentError,
    ArgumentTypeError,
    FileAccessError,
    missing_package,
)
from reducible_train.report.places import when
from reducible_train.report.tables import printable

if TYPE_CHECKING:
    from reducible_train.report.analysis import Analysis
    from reducible_train.report.records import Cut, KernelCut, Report

_NAMES = 60  # more kernels than this cannot be read beside their bars
_LEGEND = 12  # more lines than this cannot be told apart
_POINTS = 512  # of a spectrum


def new_figure(width: float, height: float, owner: str, instead: str) -> Any:
    """An empty figure, known to nobody else; a notebook shows it.

    Raises:
        ArgumentError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 (optional)
    except ImportError as error:
        raise missing_package(owner, "matplotlib", "plot", instead) from error
    return _shown_in_notebooks(Figure(figsize=(width, height), layout="constrained"))


def _shown_in_notebooks(figure: Any) -> Any:
    """The figure, which a notebook shows even if pyplot has never been imported."""
    figure._repr_png_ = functools.partial(_png, figure)
    return figure


def _png(figure: Any) -> bytes:
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return written.getvalue()


def svg(figure: Any) -> str:
    """A figure as an element of a page."""
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue().partition("<svg")[2].join(["<svg", ""])


def finished(figure: Any, path: str | os.PathLike[str] | None) -> Any:
    """The figure, written to a file if one was named.

    Raises:
        ArgumentTypeError: The path is none.
        ArgumentError: matplotlib makes no such file.
        FileAccessError: It cannot be written.
    """
    if path is None:
        return figure
    _check_name(path)
    _check_kind(figure, path, "A picture must be of a kind that matplotlib makes")
    try:
        figure.savefig(path)
    except OSError as error:
        raise FileAccessError(
            f"A picture must go where a file can be written. Received: {os.fspath(path)!r}: "
            f"{error.strerror or error}. Make its folder, or choose another place."
        ) from error
    return figure


def _check_name(path: object) -> None:
    """Refuse what names no file.

    Raises:
        ArgumentTypeError: It is neither a text nor a path.
        ArgumentError: It holds a character that no name of a file has.
    """
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(name, str):
        raise ArgumentTypeError(
            f"`path` must be the name of a picture, a text or a Path. Received: {path!r}. Write "
            'for example "report.png"; without a path, the figure is given back.'
        )
    if "\0" in name:
        raise ArgumentError(
            f"`path` must have no null character. Received: {path!r}. Write for example "
            '"report.png".'
        )


def check_picture(path: str | os.PathLike[str], name: str) -> None:
    """Refuse a picture of a kind that cannot be written, before the work that fills it.

    Args:
        path: The file to write.
        name: What it is given as, such as `"--plot"`.

    Raises:
        ArgumentError: Nothing writes files of this suffix, or matplotlib is not installed.
    """
    _check_kind(new_figure(1, 1, name, "leave it out"), path, f"{name} must be a picture")


def _check_kind(figure: Any, path: str | os.PathLike[str], wanted: str) -> None:
    kinds, kind = figure.canvas.get_supported_filetypes(), Path(path).suffix[1:].lower()
    if kind and kind not in kinds:
        raise ArgumentError(
            f"{wanted}: {', '.join(sorted(kinds))}. Received: {os.fspath(path)!r}. Name it "
            f"{Path(path).with_suffix('.png').name}."
        )


# --- a report -------------------------------------------------------------------------


def report_figure(report: Report, ax: Any = None) -> Any:
    """Parameters of each kernel, before and now; and, with room, its rank over the cuts."""
    if ax is not None:
        _draw_sizes(report, ax)
        return ax.figure
    height = min(max(3.0, 1.2 + 0.28 * len(report.kernels)), 14.0)
    figure = new_figure(11, height, "report.plot()", "print the table: print(report)")
    sizes, ranks = figure.subplots(1, 2)
    _draw_sizes(report, sizes)
    _draw_ranks(report, ranks)
    return figure


def _draw_sizes(report: Report, ax: Any) -> None:
    kernels = report.kernels
    places = range(len(kernels))
    ax.barh(places, [k.dense_parameters for k in kernels], color="lightgrey", label="dense")
    ax.barh(places, [k.parameters for k in kernels], height=0.5, color="C0", label="now")
    ax.set(xlabel="parameters", ylim=(max(len(kernels), 1) - 0.5, -0.5))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.tick_params(labelsize="small")
    fraction = f"{report.parameters:,} of {report.dense_parameters:,} parameters"
    ax.set_title(f"{fraction} ({report.size_fraction:.1%})", fontsize="medium")
    if len(kernels) > _NAMES:
        ax.set_ylabel(f"{len(kernels)} kernels, in the model's order")
        return
    ax.set_yticks(list(places))
    ax.set_yticklabels([printable(k.path) for k in kernels], parse_math=False)
    if kernels:
        ax.legend(fontsize="small", loc="lower right")


def _draw_ranks(report: Report, ax: Any) -> None:
    """The share of its full rank that each kernel keeps, a step for each cut."""
    end = max([cut.epoch for cut in report.cuts], default=0) + 1
    lines, names = [], []
    for kernel in report.kernels:
        steps = [(c.epoch, k.rank) for c in report.cuts for k in c.kernels if k.path == kernel.path]
        if not steps or not min(kernel.shape, default=0):
            continue
        epochs = [0, *(epoch for epoch, _ in steps), end]
        ranks = [min(kernel.shape), *(rank for _, rank in steps), steps[-1][1]]
        shares = [rank / min(kernel.shape) for rank in ranks]
        lines += ax.plot(epochs, shares, drawstyle="steps-post")
        names.append(kernel.path)
    for undone in report.undone:
        ax.axvline(undone.epoch, color="grey", linestyle=":")
    told = ", dotted: undone" if report.undone else ""
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="epoch", ylabel="rank over full rank", ylim=(0, 1.05))
    ax.set_title(f"{len(report.cuts)} cuts{told}", fontsize="medium")
    _legend(ax, lines, names)


def spectra_figure(report: Report, layer: str, ax: Any = None) -> Any:
    """The singular values of one kernel before each of its cuts, and where each was cut."""
    cuts = cuts_of(report, layer)
    if ax is None:
        told = "look at the table: print(report)"
        ax = new_figure(6, 4, "report.plot_spectra()", told).subplots()
    lines, names = [], []
    for index, (cut, kernel) in enumerate(cuts):
        shade = 0.8 * (len(cuts) - index - 1) / len(cuts)
        first = index == 0 and len(cuts) > 1
        style = {"color": (shade, shade, 1.0), "linestyle": ":" if first else "-"}
        positions = _thinned(len(kernel.spectrum), kernel.rank)
        lines += ax.semilogy(positions + 1, _positive(kernel.spectrum[positions]), **style)
        ax.axvline(kernel.rank + 0.5, color=style["color"], linewidth=0.8)
        names.append(f"{when(cut.epoch_step)} epoch {cut.epoch}, cut to {kernel.rank}")
    ax.set(xlabel="index", ylabel="singular value")
    ax.set_title(printable(cuts[0][1].path), fontsize="medium", parse_math=False)
    _legend(ax, lines, names)
    return ax.figure


def cuts_of(report: Report, layer: str) -> list[tuple[Cut, KernelCut]]:
    """The cuts of a kernel, named by its own path or its layer's, with the spectra they met.

    Raises:
        ArgumentError: There are none, or they do not hold spectra.
    """
    held = [(cut, kernel) for cut in report.cuts for kernel in cut.kernels]
    paths = list(dict.fromkeys(kernel.path for _, kernel in held))
    meant = [path for path in paths if layer in (path, path.rpartition("/")[0])]
    if len(meant) != 1:
        raise ArgumentError(
            f"`layer` must name one kernel that was cut: {', '.join(paths) or 'there is none'}. "
            f"Received: {layer!r}{', which has several' if meant else ''}. Name one of them."
        )
    found = [(cut, kernel) for cut, kernel in held if kernel.path == meant[0]]
    found = [(cut, kernel) for cut, kernel in found if len(kernel.spectrum)]
    if not found:
        raise ArgumentError(
            f"The spectra of {meant[0]!r} must be in the report. Received: one that was read back "
            "from a file, which does not hold them. Plot the report of the fit itself "
            "(scheduler.report), keep it with report.to_dict(spectra=True), or analyze the model."
        )
    return found


def _thinned(length: int, rank: int) -> np.ndarray:
    """Places of a spectrum worth drawing: all of a short one, else spread, and the cut."""
    if length <= _POINTS:
        return np.arange(length)
    spread = np.concatenate([np.arange(64), np.linspace(0, length - 1, _POINTS - 64)])
    edges = np.clip([rank - 1, rank], 0, length - 1)
    return np.unique(np.concatenate([spread, edges]).round().astype(int))


def _positive(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Values as a logarithmic scale has them: what is not above 0 is left out."""
    array = np.asarray(values, float)
    return np.where(array > 0, array, math.nan)


# --- an analysis ----------------------------------------------------------------------


def analysis_figure(analysis: Analysis, ax: Any = None) -> Any:
    """The metric over the kept ratio, a line for each kernel; and, with room, the spectra."""
    measured = ax
    if ax is None:
        instead = "print the table: print(analysis)"
        figure = new_figure(11, 4.5, "analysis.plot()", instead)
        measured, spectra = figure.subplots(1, 2)
        _draw_spectra(analysis, spectra)
    lines: list[Any] = []
    for kernel in analysis.kernels:
        lines += measured.plot(analysis.ratios, kernel.values, marker="o")
    measured.axhline(analysis.baseline, color="grey", linestyle=":")
    measured.set_xlabel("parameters kept of the kernel, as a fraction")
    measured.set_ylabel(printable(analysis.metric), parse_math=False)
    _legend(measured, lines, [kernel.path for kernel in analysis.kernels])
    return measured.figure


def _draw_spectra(analysis: Analysis, ax: Any) -> None:
    for kernel in analysis.kernels:
        positions = _thinned(len(kernel.spectrum), kernel.noise_rank)
        ax.semilogy(positions + 1, _positive(np.asarray(kernel.spectrum, float)[positions]))
    ax.set(xlabel="index", ylabel="singular value")


def _legend(ax: Any, lines: Sequence[Any], names: Sequence[str]) -> None:
    """A legend where it can be read; names are set later, for a legend leaves some out."""
    if not 0 < len(lines) <= _LEGEND:
        return
    legend = ax.legend(lines, [str(index) for index in range(len(lines))], fontsize="x-small")
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(printable(name))
