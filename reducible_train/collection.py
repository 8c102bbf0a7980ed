"""Statistics of the data that passes through the kernels of a live model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from reducible_train import _keras
from reducible_train.calibration import Samples, cannot_be_run
from reducible_train.criteria import Separated, Statistics
from reducible_train.errors import SpectrumError
from reducible_train.layers import Kernel, LowRank
from reducible_train.moments import Counts, Moments

LARGEST = 4096  # of the sides of a kernel: a second moment of that size takes 128 MiB
_ROWS = 2048  # of one call


def collect(
    model: Any, kernels: Sequence[Kernel], samples: Samples, needs: Sequence[str]
) -> dict[str, tuple[Statistics, ...]]:
    """Run samples through a model, as for predictions, and listen at the kernels.

    Tables are told by how often each of their rows is chosen, all other kernels by moments.
    Kernels of a kind whose data cannot be told, those larger than `LARGEST` on a side that
    matters, and those that no sample reached, are left out.

    Args:
        model: A built model, or a `Distiller` of one; nothing of it is changed.
        kernels: The kernels to learn about.
        samples: What to run through it.
        needs: `"inputs"`, or `"inputs"` and `"gradients"`.

    Returns:
        Statistics by path of the kernel, of each of its matrices in the usual split.

    Raises:
        SpectrumError: Activations or gradients are NaN or infinite; names the kernel.
        ArgumentError: The model cannot be called on the samples.
    """
    wanted = [k for k in kernels if _can_be_heard(k, needs)]
    shapes = {k.path: k.shape_in(_usual_split(k)) for k in wanted}
    wanted = [k for k in wanted if _chooses(k) or shapes[k.path][0] <= LARGEST]
    if "gradients" in needs:
        wanted = [k for k in wanted if shapes[k.path][1] <= LARGEST]
    host = _keras.host_float
    layers = list({id(k.layer): k.layer for k in wanted}.values())
    ears = {id(layer): [k for k in wanted if k.layer is layer] for layer in layers}
    rng = np.random.default_rng(0)
    inputs: dict[str, list[Any]] = {}
    gradients: dict[str, list[Any]] = {}

    def note(found: dict[str, list[Any]], kernel: Kernel, rows: np.ndarray | None) -> None:
        if rows is None:
            return
        try:
            add(found, kernel, [Moments.of(each) for each in _some(rows, rng)])
        except SpectrumError as error:
            raise SpectrumError(f"{kernel.path}: {error}") from error

    def add(found: dict[str, list[Any]], kernel: Kernel, more: list[Any]) -> None:
        known = found.get(kernel.path)
        if known is not None:
            more = [old.merged(new) for old, new in zip(known, more, strict=True)]
        found[kernel.path] = more

    def hear(kernel: Kernel, given: Sequence[Any], gradient: Any) -> None:
        kind, layer, name = kernel.kind, kernel.layer, kernel.name
        x = host(kind.input_of(name, given))
        chosen = kind.input_choices(layer, name, x, given)
        if chosen is not None:
            add(inputs, kernel, [Counts.of(chosen, kernel.shape[0])])
        elif not _chooses(kernel):
            note(inputs, kernel, kind.input_rows(layer, name, x, rng))
        if gradient is not None:
            note(gradients, kernel, kind.output_rows(layer, name, host(gradient), rng))

    for batch in samples.batches(_keras.fixed_batch(model)):
        for layer, given, gradient in _calls(model, layers, batch, needs):
            for kernel in ears[id(layer)]:
                hear(kernel, given, gradient)
    found = {}
    for kernel in wanted:
        x, g = inputs.get(kernel.path), gradients.get(kernel.path)
        if x is None or ("gradients" in needs and g is None):
            continue
        folds = kernel.kind.output_bias(kernel.layer, kernel.name) is not None
        found[kernel.path] = tuple(
            Statistics(each, None if g is None else g[i], folds) for i, each in enumerate(x)
        )
    return found


def _can_be_heard(kernel: Kernel, needs: Sequence[str]) -> bool:
    """True for kernels of a kind that tells so much of its data."""
    if "gradients" in needs and not _overrides(kernel, "output_rows"):
        return False
    return _overrides(kernel, "input_rows") or _chooses(kernel)


def seen_in(kernel: Kernel, split: str, statistics: Sequence[Statistics]) -> tuple[Statistics, ...]:
    """What `collect` found, for the matrices of a kernel in one of its splits."""
    usual = _usual_split(kernel)
    if split == usual:
        return tuple(statistics)
    layout = kernel.view(usual).rows_among_columns(kernel.view(split), kernel.variable_shape)
    return tuple(
        replace(each, inputs=Separated(each.inputs, *layout))
        for each in statistics
        if isinstance(each.inputs, Moments)
    )


def _usual_split(kernel: Kernel) -> str:
    """The split in which kinds tell their data."""
    return kernel.kind.splits_of(kernel.layer, kernel.name)[0]


def _chooses(kernel: Kernel) -> bool:
    """True for tables, whose inputs choose rows."""
    return _overrides(kernel, "input_choices")


def _overrides(kernel: Kernel, method: str) -> bool:
    """True if the kind has a class method of its own, not that of `LowRank`."""
    own, inherited = (getattr(kind, method).__func__ for kind in (kernel.kind, LowRank))
    return own is not inherited


def _calls(
    model: Any, layers: Sequence[Any], batch: tuple[Any, Any, Any], needs: Sequence[str]
) -> list[tuple[Any, Any, Any]]:
    """Layer, arguments and gradient (or `None`) of every call on one batch."""
    try:
        if "gradients" in needs:
            return _keras.output_gradients(model, layers, batch)
        heard: list[tuple[Any, Any, Any]] = []
        with _keras.tapped(
            model, layers, lambda layer, given, _: heard.append((layer, given, None))
        ):
            model(batch[0], training=False)
    except Exception as error:
        raise cannot_be_run(model, error) from error
    return heard


def _some(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """At most a few thousand rows of `(g, rows, k)`, at random."""
    if rows.shape[1] <= _ROWS:
        return rows
    return rows[:, rng.choice(rows.shape[1], _ROWS, replace=False)]
