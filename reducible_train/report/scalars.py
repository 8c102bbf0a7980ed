"""What happened, as flat dictionaries of numbers, which any tracker of experiments takes.

Keys: `epoch`, `step`, `params`, `params_fraction` as in the logs of a fit; `rank/<layer>`,
`energy/<layer>`, `output_error/<layer>` for single kernels. What is not known is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from reducible_train.report.records import Cut, Report, UndoneCut

Scalars: TypeAlias = dict[str, float]


def cut_scalars(cut: Cut, report: Report) -> Scalars:
    """A cut: when, towards what, the ranks of the kernels that it cut, what it did.

    `undone` is 0; `loss_before_cut` and `loss_after_cut` (and each metric) are measured on the
    same samples.
    """
    found: dict[str, Any] = {
        "epoch": cut.epoch,
        "step": cut.step,
        "undone": 0,
        "target": cut.target,
        "params_before": cut.parameters_before,
        **_sizes(cut.parameters, report),
        "output_error": cut.output_error,
        "seconds": sum(cut.seconds.values()),
    }
    for side, metrics in (("before", cut.metrics_before), ("after", cut.metrics_after)):
        found |= {f"{name}_{side}_cut": value for name, value in metrics.items()}
    for kernel in cut.kernels:
        layer = layer_of(kernel.path)
        found[f"rank/{layer}"] = kernel.rank
        found[f"energy/{layer}"] = kernel.energy
        found[f"output_error/{layer}"] = kernel.output_error
    return numbers(found)


def undone_scalars(undone: UndoneCut, report: Report) -> Scalars:
    """A cut that was undone: `epoch` is when, `cut_epoch` when it was made; `undone` is 1.

    `value` is the metric that failed, `worst` the worst that would have been accepted; sizes and
    ranks are those after it was undone. The reason in words is in `report.undone`.
    """
    found: dict[str, Any] = {
        "epoch": undone.undone_epoch,
        "cut_epoch": undone.epoch,
        "undone": 1,
        "target": undone.target,
        "params_before": undone.parameters,
        **_sizes(undone.parameters_before, report),
        "value": undone.value,
        "worst": undone.worst,
        "reference": undone.reference,
    }
    return numbers(found | dict(_ranks(report)))


def epoch_scalars(epoch: int, logs: Mapping[str, Any], report: Report) -> Scalars:
    """An epoch: its logs, and the size and ranks in force while it ran."""
    found: dict[str, Any] = {"epoch": epoch} | dict(logs) | _sizes(report.parameters, report)
    return numbers(found | {"flops_fraction": report.flops_fraction} | dict(_ranks(report)))


def layer_of(kernel_path: str) -> str:
    """The layer's path; a kernel that is not the layer's only one keeps its own name.

    >>> layer_of("encoder/d1/kernel"), layer_of("lstm/recurrent_kernel")
    ('encoder/d1', 'lstm/recurrent_kernel')
    """
    return kernel_path.removesuffix("/kernel")


def _sizes(parameters: int, report: Report) -> dict[str, float]:
    dense = report.dense_parameters
    return {"params": parameters, "params_fraction": parameters / dense if dense else 1.0}


def _ranks(report: Report) -> Iterator[tuple[str, int]]:
    """Rank of each kernel that can be cut; the full one while it is dense."""
    for kernel in report.kernels:
        if kernel.rank is not None or kernel.reason is None:
            full = min(kernel.shape, default=0)
            yield f"rank/{layer_of(kernel.path)}", full if kernel.rank is None else kernel.rank


def numbers(found: Mapping[str, Any]) -> Scalars:
    """What of these are numbers, as numbers of Python.

    >>> numbers({"loss": 0.5, "note": "text", "lost": None, "params": 3})
    {'loss': 0.5, 'params': 3}
    """
    plain: Scalars = {}
    for name, value in found.items():
        if isinstance(value, int) and not isinstance(value, bool):
            plain[name] = value
            continue
        try:
            plain[name] = float(value)
        except (TypeError, ValueError):  # callbacks leave other things in the logs
            continue
    return plain
