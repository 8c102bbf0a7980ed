"""Pictures of schedules: on axes of matplotlib, where it is installed, and as a small SVG."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable
from html import escape
from typing import Any

from reducible_train.errors import ArgumentError, missing_package

_POINTS = 400
_WIDTH, _HEIGHT, _LEFT, _BELOW = 320, 120, 44, 28  # of the SVG, in pixels

Course = Callable[[float], float]


def length_of(epochs: int | None, end_epoch: float) -> int:
    """Epochs that a picture shows: those of the training, or a few beyond the schedule's end.

    Raises:
        ArgumentError: `epochs` is not a whole number, at least 1.

    >>> length_of(None, 6), length_of(16, 6)
    (9, 16)
    """
    if epochs is None:
        return math.ceil(end_epoch) + 3
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise ArgumentError(
            f"`epochs` must be a whole number, at least 1. Received: epochs={epochs!r}. "
            "Give the `epochs` of the fit, or leave it out."
        )
    return epochs


def draw(course: Course, epochs: int, title: str, ax: Any = None) -> Any:
    """Draw a schedule, and mark what the first step of each epoch sees; the figure.

    Raises:
        ArgumentError: matplotlib is not installed.
    """
    ax = _axes() if ax is None else ax
    times, values = _sampled(course, epochs)
    (line,) = ax.plot(times, values)
    looks = range(0, epochs, max(epochs // _POINTS, 1))  # all, or as many as can be told apart
    ax.plot(looks, [course(epoch) for epoch in looks], ".", color=line.get_color())
    ax.set(xlabel="epoch", ylabel="target", xlim=(0, epochs), ylim=(0, max(values) * 1.05 or 1))
    ax.set_title(title, fontsize="small", parse_math=False)
    return ax.figure


def _axes() -> Any:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 (optional)
    except ImportError as error:
        instead = "print its values: schedule.preview(epochs)"
        raise missing_package("schedule.plot()", "matplotlib", "plot", instead) from error
    return _shown_in_notebooks(Figure(figsize=(6, 3), layout="constrained")).subplots()


def _shown_in_notebooks(figure: Any) -> Any:
    """The figure, which a notebook shows even if pyplot has never been imported."""
    figure._repr_png_ = functools.partial(_png, figure)
    return figure


def _png(figure: Any) -> bytes:
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return written.getvalue()


def _sampled(course: Course, epochs: int) -> tuple[list[float], list[float]]:
    times = [epochs * i / _POINTS for i in range(_POINTS)]
    return times, [course(time) for time in times]


def html_of(course: Course, epochs: int, title: str) -> str:
    """A schedule for a notebook: its text and a small picture, with nothing but the browser.

    >>> html_of(lambda epoch: 0.5, 3, "<i>")[:34]
    '<div><code>&lt;i&gt;</code><br><sv'
    """
    times, values = _sampled(course, epochs)
    top = max(values) or 1.0
    wide, high = _WIDTH - _LEFT, _HEIGHT - _BELOW
    points = " ".join(
        f"{_LEFT + wide * time / epochs:.1f},{8 + (high - 8) * (1 - value / top):.1f}"
        for time, value in zip(times, values, strict=True)
    )
    axis = f"M{_LEFT} 8V{high}H{_WIDTH}"
    return (
        f"<div><code>{escape(title)}</code><br>"
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" font-size="11" fill="currentColor">'
        f"<title>{escape(title)}</title>"
        f'<path d="{axis}" fill="none" stroke="currentColor" stroke-opacity="0.4"/>'
        f'<polyline points="{points}" fill="none" stroke="#1f77b4" stroke-width="2"/>'
        f'<text x="{_LEFT - 4}" y="14" text-anchor="end">{top:.4g}</text>'
        f'<text x="{_LEFT - 4}" y="{high}" text-anchor="end">0</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 12}">0</text>'
        f'<text x="{_LEFT + wide / 2}" y="{_HEIGHT - 12}" text-anchor="middle">epoch</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT - 12}" text-anchor="end">{epochs}</text></svg></div>'
    )
