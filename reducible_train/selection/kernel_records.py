"""What a survey tells of each kernel, as the records of a report."""

from __future__ import annotations

from collections.abc import Mapping

from reducible_train import _keras
from reducible_train.layers import Kernel
from reducible_train.report.records import KernelRecord
from reducible_train.selection.costs import break_even_rank
from reducible_train.selection.survey import Survey


def kernel_records(
    survey: Survey, kept: Mapping[str, float], remarks: Mapping[str, str]
) -> tuple[KernelRecord, ...]:
    """A record of every kernel, those of known kinds first, in the model's order.

    Args:
        survey: The kernels.
        kept: Energy kept since the start, by path.
        remarks: Why kernels that may change are dense, by path.
    """
    reasons = {path: reason for path, _, _, reason in survey.skipped}
    known = {kernel.path for kernel in survey.kernels}
    rows = [
        _record(
            kernel,
            kept.get(kernel.path),
            reasons.get(kernel.path),
            remarks.get(kernel.path, "no cut of it so far"),
        )
        for kernel in survey.kernels
    ]
    rows += [
        KernelRecord(
            path, kind, shape, None, break_even_rank(shape), shape[0] * shape[1], None, reason
        )
        for path, kind, shape, reason in survey.skipped
        if path not in known
    ]
    return tuple(rows)


def _record(kernel: Kernel, energy: float | None, reason: str | None, remark: str) -> KernelRecord:
    """Of one kernel: its remark counts while it is dense, and could be otherwise."""
    rank = kernel.rank
    return KernelRecord(
        path=kernel.path,
        kind=kernel.kind.dense_class.__name__,
        shape=kernel.shape,
        rank=rank,
        break_even_rank=break_even_rank(kernel.shape),
        parameters=sum(_keras.size(v) for v in kernel.variables),
        energy=energy,
        reason=reason,
        count=kernel.count,
        split=kernel.splits[0] if rank is not None else "",
        remark=remark if rank is None and reason is None else "",
    )
