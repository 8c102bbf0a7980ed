"""Reports, analyses and schedules as people look at them: pictures, notebooks, terminals, pages."""

from __future__ import annotations

import copy
import io
import json
import pickle
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from reducible_train import ArgumentError, Join, PiecewiseConstant, Ramp, Report
from reducible_train.errors import ArgumentTypeError, FileAccessError
from reducible_train.report.analysis import FORMAT, Analysis, KernelAnalysis
from reducible_train.report.records import Cut, KernelCut, KernelRecord, UndoneCut

HOSTILE = "_a$x^$<script>alert(1)</script>\x1b[31m"
NAMES = ("d1", HOSTILE, "two/words")


def cut_of(name, epoch, before, rank, length=40):
    values = np.linspace(5, 0, length)
    return KernelCut(f"{name}/kernel", (60, 40), before, rank, 0.9, 0.3, "budget", values)


def report_of(names=NAMES, note="a <b>note</b>"):
    kernels = [KernelRecord(f"{n}/kernel", "Dense", (60, 40), 8, 23, 800, 0.5) for n in names]
    kernels.append(KernelRecord("out/kernel", "Dense", (40, 3), None, 2, 120, reason="<output>"))
    first = tuple(cut_of(name, 1, None, 20) for name in names)
    second = tuple(cut_of(name, 3, 20, 8, length=20) for name in names)
    cuts = (
        Cut(1, 10, "budget", 0.5, first, 9000, 5000, {"spectra": 1.0}),
        Cut(3, 30, "budget", 0.3, second, 5000, 3000, {}, None, 0.1, 0.1, {"loss": 1}, {"loss": 2}),
    )
    undone = UndoneCut(5, 6, "budget", 0.1, 3000, 900, "acc", 0.9, 0.8, 0.5, "<it> fell")
    return Report(9000, 3000, 4, 4, 10, 3, tuple(kernels), cuts, (note,), (undone,))


def analysis_of(names=NAMES):
    kernels = tuple(
        KernelAnalysis(
            *(f"{name}/kernel", "Dense", (60, 40), 0.5, None, 0.5, 23, 9.5, 0.1, 7),
            spectrum=(3.0, 1.0, 0.0),
            ranks=(5, 2),
            values=(0.5, 0.9),
        )
        for name in names
    )
    paths = tuple(kernel.path for kernel in kernels)
    return Analysis(FORMAT, "net", "", "", "lo$s^$s", (0.5, 0.2), 0.25, paths, kernels)


@pytest.fixture
def figure_of():
    """Draws a figure of matplotlib as a file would have it, so that what is wrong with it shows."""
    pytest.importorskip("matplotlib")

    def drawn(figure):
        figure.savefig(io.BytesIO(), format="png")
        return figure

    return drawn


# --- pictures -------------------------------------------------------------------------


@pytest.mark.parametrize("names", [(), ("d1",), NAMES, [f"d{i}" for i in range(70)]], ids=len)
def test_a_report_is_drawn_whatever_its_layers_are_called(names, figure_of):
    sizes, ranks = figure_of(report_of(names).plot()).axes
    assert len(sizes.patches) == 2 * (len(names) + 1)
    assert [bar.get_width() for bar in sizes.patches[len(names) + 1 :]] == [
        *(800 for _ in names),
        120,
    ]
    steps = [list(line.get_ydata()) for line in ranks.lines[: len(names)]]
    assert steps == [[1.0, 0.5, 0.2, 0.2] for _ in names]
    if names == NAMES:
        assert [label.get_text() for label in sizes.get_yticklabels()] == [
            "d1/kernel",
            "_a$x^$<script>alert(1)</script>\N{REPLACEMENT CHARACTER}[31m/kernel",
            "two/words/kernel",
            "out/kernel",
        ]
        assert len(ranks.get_legend().get_texts()) == 3


def test_spectra_are_drawn_with_the_cuts(figure_of):
    (ax,) = figure_of(report_of().plot_spectra(HOSTILE)).axes
    first, second = (line for line in ax.lines if len(line.get_xdata()) > 2)
    assert first.get_linestyle() == ":"
    assert list(first.get_xdata()) == list(range(1, 41))
    assert len(second.get_xdata()) == 20
    edges = sorted(line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 2)
    assert edges == [8.5, 20.5]
    assert figure_of(report_of().plot_spectra("two/words/kernel")).axes


@pytest.mark.parametrize(("step", "word"), [(0, "before"), (5, "in"), (None, "before or in")])
def test_the_legend_of_spectra_tells_where_in_its_epoch_a_cut_was(step, word, figure_of):
    report = report_of()
    cuts = tuple(replace(cut, epoch_step=step) for cut in report.cuts)
    (ax,) = figure_of(replace(report, cuts=cuts).plot_spectra(HOSTILE)).axes
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == [f"{word} epoch 1, cut to 20", f"{word} epoch 3, cut to 8"]


def test_spectra_of_any_number_of_cuts_are_drawn(figure_of):
    cuts = [
        Cut(epoch, 0, "rank", 60 - epoch, (cut_of("d", epoch, None, 60 - epoch),), 9, 9, {})
        for epoch in range(53)
    ]
    for count in range(1, 54):
        report = Report(9, 9, 4, 4, None, None, (), tuple(cuts[:count]))
        figure = report.plot_spectra("d")
        assert len(figure.axes[0].lines) == 2 * count
    assert figure_of(figure)


def test_a_long_spectrum_keeps_its_ends_and_the_cut(figure_of):
    kernel = cut_of("d", 0, None, 900, length=4096)
    report = Report(9, 9, 4, 4, None, None, (), (Cut(0, 0, "rank", 900, (kernel,), 9, 9, {}),))
    (line, _) = figure_of(report.plot_spectra("d")).axes[0].lines
    drawn = set(line.get_xdata())
    assert len(drawn) <= 520
    assert {1, 2, 63, 64, 900, 901, 4096} <= drawn


def test_spectra_that_are_not_there_are_told():
    report = report_of()
    with pytest.raises(ArgumentError, match=r"one kernel that was cut: d1/kernel, .*'out'"):
        report.plot_spectra("out")
    with pytest.raises(ArgumentError, match=r"read back.*report.to_dict\(spectra=True\)"):
        Report.from_dict(report.to_dict()).plot_spectra("d1")
    both = [cut_of("l", 0, None, 8), cut_of("l", 0, None, 8)]
    both[1] = KernelCut(**{**vars(both[1]), "path": "l/recurrent_kernel"})
    cut = Cut(0, 0, "rank", 8, tuple(both), 9, 9, {})
    with pytest.raises(ArgumentError, match="has several"):
        Report(9, 9, 4, 4, None, None, (), (cut,)).plot_spectra("l")


def test_spectra_come_through_json_where_they_are_asked_for(figure_of):
    report = report_of()
    assert "spectrum" not in json.dumps(report.to_dict())
    again = Report.from_dict(json.loads(json.dumps(report.to_dict(spectra=True))))
    assert again == report
    kept = again.cuts[1].kernels[0].spectrum
    np.testing.assert_array_equal(kept, report.cuts[1].kernels[0].spectrum)
    assert figure_of(again.plot_spectra("d1"))


def test_an_analysis_is_drawn_whatever_its_layers_are_called(figure_of):
    measured, spectra = figure_of(analysis_of().plot()).axes
    assert len(measured.lines) == 4
    assert np.isnan(spectra.lines[0].get_ydata()[2]), "a logarithm has no place for zero"
    assert measured.get_legend().get_texts()[1].get_text().startswith("_a$x^$<script>")
    figure_of(analysis_of(()).plot())


@pytest.mark.parametrize("epochs", [None, 1, 12])
def test_a_schedule_is_drawn(epochs, figure_of):
    for schedule in (Ramp(1.0, 0.2, 2, 6), Join([0.0, Ramp(1.0, 0.5)], [3])):
        (ax,) = figure_of(schedule.plot(epochs)).axes
        curve, dots = ax.lines
        assert list(dots.get_ydata()) == [schedule(epoch) for epoch in dots.get_xdata()]
        assert len(dots.get_xdata()) == (epochs or np.ceil(schedule.end_epoch) + 3)
        assert curve.get_ydata()[-1] == schedule(curve.get_xdata()[-1])


def test_a_schedule_is_not_drawn_over_no_epochs():
    for epochs in (0, True, 2.5):
        with pytest.raises(ArgumentError, match="`epochs` must be a whole number"):
            Ramp(1.0, 0.2).plot(epochs)


def plots(axes=(None,) * 4):
    report = report_of()
    yield report.plot(ax=axes[0])
    yield report.plot_spectra("d1", ax=axes[1])
    yield analysis_of().plot(ax=axes[2])
    yield Ramp(1.0, 0.2, 2, 6).plot(ax=axes[3])


def test_pictures_go_where_they_are_wanted_and_nowhere_else(figure_of, tmp_path):
    from matplotlib.figure import Figure

    loaded = set(sys.modules)
    mine = Figure()
    axes = mine.subplots(4)
    for figure in plots(axes):
        assert figure_of(figure) is mine
    assert mine.axes == list(axes)
    assert all(ax.lines or ax.patches for ax in axes)
    for figure in plots():
        assert figure._repr_png_().startswith(b"\x89PNG"), "a notebook shows it"
        assert pickle.loads(pickle.dumps(figure)).axes
        assert copy.deepcopy(figure) is not figure
    new = sys.modules.keys() - loaded
    assert "matplotlib.pyplot" not in new, "which would keep figures and choose a display"
    report_of().plot(tmp_path / "report.svg")
    report_of().plot_spectra("d1", tmp_path / "spectra.pdf")
    assert {path.name for path in tmp_path.iterdir()} == {"report.svg", "spectra.pdf"}


def test_a_picture_that_cannot_be_written_is_told_with_what_to_do(tmp_path):
    with pytest.raises(FileAccessError, match=r"no/x\.png': No such file .* Make its folder"):
        report_of().plot(tmp_path / "no" / "x.png")
    with pytest.raises(ArgumentError, match=r"svg, .* Received: .*x\.xyz'\. Name it x\.png"):
        analysis_of().plot(tmp_path / "x.xyz")
    for path in (b"x.png", io.BytesIO(), 3):
        with pytest.raises(ArgumentTypeError, match="a text or a Path"):
            report_of().plot(path)
    with pytest.raises(ArgumentError, match="no null character"):
        report_of().plot(tmp_path / "a\0b.png")
    report_of().plot(tmp_path / "named")  # matplotlib adds what it makes by itself
    assert [path.name for path in tmp_path.iterdir()] == ["named.png"]


def test_without_matplotlib_a_picture_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    report = report_of()
    calls = (
        report.plot,
        lambda: report.plot_spectra("d1"),
        analysis_of().plot,
        Ramp(1.0, 0.2).plot,
    )
    for call in calls:
        with pytest.raises(ArgumentError, match=r"pip install matplotlib.*extra 'plot'"):
            call()
    page = report.to_html()
    assert "<svg" not in page
    assert "pip install matplotlib" in page
    assert "two/words/kernel" in page


# --- notebooks, terminals, pages ------------------------------------------------------


class Seen(HTMLParser):
    """Which elements a browser would see, and the text in them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.links = [], "", []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize(
    "shown", [report_of(), analysis_of(), PiecewiseConstant([1.0, 0.5], [0, 2])], ids=type
)
def test_a_notebook_shows_it_with_nothing_that_runs(shown):
    seen = Seen(shown._repr_html_())
    assert not {"script", "b", "output", "it"} & set(seen.tags)
    told = ("PiecewiseConstant(values=(1.0, 0.5)",)
    if not isinstance(shown, PiecewiseConstant):
        told = ("two/words/kernel", "<script>alert(1)</script>")
    for text in told:
        assert text in seen.text


def test_a_notebook_draws_a_schedule_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    html = Ramp(1.0, 0.2, 2, 6)._repr_html_()
    points = html.partition('points="')[2].partition('"')[0].split()
    heights = [float(point.split(",")[1]) for point in points]
    assert heights == sorted(heights), "downwards is more"
    assert heights[0] < heights[-1]


@pytest.mark.parametrize("shown", [report_of(), analysis_of()], ids=type)
def test_a_page_needs_nothing_but_itself(shown):
    pytest.importorskip("matplotlib")
    page = shown.to_html("My <model>")
    seen = Seen(page)
    assert seen.tags.count("svg") == (1 + len(NAMES) if isinstance(shown, Report) else 1)
    assert not {"script", "link", "iframe", "img", "it"} & set(seen.tags)
    assert all(link.startswith("#") for link in seen.links)
    assert "My <model>" in seen.text
    assert "<?xml" not in page
    if isinstance(shown, Report):
        assert "1 → 2" in seen.text
        assert "<it> fell" in seen.text


@pytest.mark.parametrize("shown", [report_of(), analysis_of()], ids=type)
def test_a_terminal_has_a_table_and_a_file_plain_lines(shown):
    written = io.StringIO()
    Console(file=written, width=60).print(shown, soft_wrap=True)
    assert written.getvalue().rstrip("\n").replace("\N{REPLACEMENT CHARACTER}", "\x1b") == str(
        shown
    )
    for width in (100, 60):
        terminal = io.StringIO()
        console = Console(file=terminal, width=width, force_terminal=True, color_system=None)
        console.print(shown)
        told = terminal.getvalue()
        assert max(map(len, told.splitlines())) <= width
        assert "two/words" in told
        assert "\x1b[31m" not in told + written.getvalue(), "a name does not command the terminal"
