"""Whether a report is of the model that it shall be saved with."""

from __future__ import annotations

import warnings
from typing import Any

from reducible_train import _keras
from reducible_train.errors import shortened
from reducible_train.layers import find_kernels
from reducible_train.report.records import Report


def is_fitting(model: Any, report: Report) -> bool:
    """True for a report of the model as it is, or of a model in it; or else there is a warning.

    No error: a model that was trained for long is worth more than what is said of it. Stock layers
    in place of factors have the parameters of the report, and no ranks. One of a training that
    did nothing says nothing.
    """
    parts = (_keras.trained_model(model), *_keras.models_in(model))
    told = [_misreported(part, report) for part in parts]
    if not report.dense_parameters or not all(told) or _is_of_larger(model, report):
        return True
    warnings.warn(
        "The file is written without its `report`, which is not of the model as it is. Received: "
        f"{told[0]}. Give scheduler.report of the fit that left model '{shortened(model.name)}' "
        "so, or what factorize returned.",
        stacklevel=4,
    )
    return False


def _is_of_larger(model: Any, report: Report) -> bool:
    """True for the report of a model that holds this one, with its ranks."""
    own = [kernel for kernel in find_kernels(model) if kernel.rank is not None]
    ends = [path.removesuffix(own[0].path) for path in report.ranks] if own else []
    return any(all(report.ranks.get(f"{end}{k.path}") == k.rank for k in own) for end in ends)


def _misreported(model: Any, report: Report) -> str | None:
    """In what a report is not of a model; `None` if it is."""
    count = sum(map(_keras.size, model.weights))
    if report.parameters != count:
        return f"one of {report.parameters:,} parameters, where there are {count:,}"
    ranks = {kernel.path: kernel.rank for kernel in find_kernels(model) if kernel.rank is not None}
    other = [
        path for path in {**ranks, **report.ranks} if ranks.get(path) != report.ranks.get(path)
    ]
    if not ranks or not other:
        return None
    was, now = (each.get(other[0]) for each in (report.ranks, ranks))
    said, found = ("is dense" if each is None else f"has rank {each}" for each in (was, now))
    return f"one by which {other[0]} {said}, where it {found}"
