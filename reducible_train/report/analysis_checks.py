"""What the file of an analysis must hold beyond the types of its fields."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from reducible_train.report.plain import refused

if TYPE_CHECKING:
    from reducible_train.report.analysis import Analysis, KernelAnalysis

_BETTER = ("", "less", "more")
_SHARES = ("parameters", "flops", "bytes")
_AMOUNTS = (*_SHARES, "break_even_rank", "effective_rank", "noise_edge", "noise_rank")
_ROUNDING = 1e-6  # of the largest singular value, by which one may be above the one before

Law = tuple[str, str, Any, bool]  # a field, what it must be, what it is, whether it is that


def check_analysis(analysis: Analysis, source: str) -> None:
    """Refuse an analysis that contradicts itself, before anything is computed by it.

    Args:
        analysis: One that was read.
        source: Its file, for errors.

    Raises:
        FormatError: It does; says where.
    """
    for where, expected, value, holds in _of_all(analysis):  # each may rest on those before
        if not holds:
            raise refused(f"{source}.{where}", expected, value)
    for place, kernel in enumerate(analysis.kernels):
        for where, expected, value, holds in _of_kernel(kernel, len(analysis.ratios)):
            if not holds:
                raise refused(f"{source}.kernels[{place}].{where}", expected, value)


def _of_all(analysis: Analysis) -> Iterator[Law]:
    ratios, paths = analysis.ratios, analysis.paths
    rise = all(a < b for a, b in pairwise(ratios)) and all(0 < each <= 1 for each in ratios)
    yield "ratios", "numbers in (0, 1] that rise, one at least", ratios, bool(ratios) and rise
    yield "baseline", "a finite number", analysis.baseline, math.isfinite(analysis.baseline)
    each_once = 0 < len(paths) == len(set(paths))
    yield "paths", "kernels, each once, one at least", paths, each_once
    done = tuple(kernel.path for kernel in analysis.kernels)
    in_order = done == paths[: len(done)]
    yield "kernels", "the first of `paths`, in their order", done, in_order
    yield "better", "'less', 'more' or empty", analysis.better, analysis.better in _BETTER
    for name in ("samples", "given"):
        count = getattr(analysis, name)
        yield name, "a count, 0 at least", count, count >= 0
    counts = [count for count, _ in analysis.batches]
    yield "batches", "of samples, one at least in each", counts, all(c > 0 for c in counts)


def _of_kernel(kernel: KernelAnalysis, ratios: int) -> Iterator[Law]:
    shape, spectrum, most = kernel.shape, kernel.spectrum, min(kernel.shape)
    yield "shape", "of 1 at least", shape, most > 0
    sizes = f"finite numbers, 0 at least, from 1 to {most} of them"
    are_sizes = all(0 <= each < math.inf for each in spectrum) and 0 < len(spectrum) <= most
    yield "spectrum", sizes, spectrum, are_sizes
    fall = all(b <= a + _ROUNDING * spectrum[0] for a, b in pairwise(spectrum))
    yield "spectrum", "numbers that fall", spectrum, fall
    for name in ("ranks", "values", "errors"):
        found = getattr(kernel, name)
        is_there = len(found) == ratios or (name == "errors" and not found)
        yield name, f"one for each of {ratios} ratios", found, is_there
    ranks = kernel.ranks
    yield "ranks", f"from 1 to {most}", ranks, all(1 <= rank <= most for rank in ranks)
    yield "errors", "0 at least", kernel.errors, not any(each < 0 for each in kernel.errors)
    for name in _AMOUNTS:
        amount = getattr(kernel, name)
        yield name, "0 at least", amount, amount is None or not amount < 0
