"""A report or an analysis as one page of HTML, which needs no network and no other file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from reducible_train.errors import ArgumentError
from reducible_train.report.figures import (
    analysis_figure,
    report_figure,
    spectra_figure,
    svg,
)
from reducible_train.report.tables import html_lines, html_table

if TYPE_CHECKING:
    from reducible_train.report.analysis import Analysis
    from reducible_train.report.records import Cut, Report

_SPECTRA = 12  # kernels whose spectra are drawn, the largest
_PAGE_STYLE = """\
body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:72em;padding:0 1em;
color:#222;background:#fff}
figure{margin:1em 0;display:inline-block;max-width:100%}svg{max-width:100%;height:auto}
div.wide{overflow-x:auto}"""

RULES = "rules for single layers"  # which asked for a cut, where a budget did not


def report_page(report: Report, title: str) -> str:
    """The page of a report: its table, its pictures, its cuts, what was undone."""
    parts = [f"<h2>Kernels</h2>{_wide(report._repr_html_())}"]
    parts.append(_figures(lambda: _report_pictures(report)))
    if report.cuts:
        parts.append(f"<h2>Cuts</h2>{_wide(html_table(_cut_rows(report.cuts)))}")
    return _page(title, parts)


def analysis_page(analysis: Analysis, title: str) -> str:
    """The page of an analysis: its table and its picture."""
    drawn = _figures(lambda: iter([analysis_figure(analysis)]))
    return _page(title, [_wide(analysis._repr_html_()), drawn])


def _report_pictures(report: Report) -> Iterator[Any]:
    yield report_figure(report)
    spectra = {k.path for cut in report.cuts for k in cut.kernels if len(k.spectrum)}
    known = [kernel for kernel in report.kernels if kernel.path in spectra]
    known.sort(key=lambda kernel: -kernel.dense_parameters)
    yield from (spectra_figure(report, kernel.path) for kernel in known[:_SPECTRA])


def _figures(pictures: Any) -> str:
    """Pictures within the page; without matplotlib a sentence in their place."""
    try:
        return "".join(f"<figure>{svg(each)}</figure>" for each in pictures())
    except ArgumentError as error:
        return html_lines([f"No pictures. {error}"])


def _cut_rows(cuts: Sequence[Cut]) -> list[list[str]]:
    names = ["epoch", "step", "towards", "parameters", "output error", "loss"]
    rows = [names]
    for cut in cuts:
        asked = cut.budgets or {"": cut.target}
        aims = (f"{f'{cut.quantity}.{m}'.rstrip('.')} {v:.4g}" for m, v in asked.items())
        before, after = cut.metrics_before.get("loss"), cut.metrics_after.get("loss")
        known = before is not None and after is not None
        rows.append(
            [
                f"{cut.epoch}",
                f"{cut.step:,}",
                RULES if cut.by_rules else " and ".join(aims),
                f"{cut.parameters_before:,} → {cut.parameters:,}",
                "" if cut.output_error is None else f"{cut.output_error:.3g}",
                f"{before:.4g} → {after:.4g}" if known else "",
            ]
        )
    return rows


def _wide(html: str) -> str:
    return f'<div class="wide">{html}</div>'


def _page(title: str, parts: Sequence[str]) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_PAGE_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{''.join(parts)}</body></html>\n"
    )
