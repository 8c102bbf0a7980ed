"""Statistics of the data that passes through the kernels of a live model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from reducible_train import _keras
from reducible_train.errors import ArgumentError, SpectrumError
from reducible_train.layers import Kernel, RowReader
from reducible_train.linalg.moments import Counts, Moments, Variances
from reducible_train.linalg.separation import Separated
from reducible_train.selection.criteria import Statistics
from reducible_train.selection.sample_checks import cannot_be_run, no_gradients
from reducible_train.selection.samples import Samples, batches_for, told_apart

LARGEST = 4096  # a matrix of moments of so many numbers takes 128 MiB; of more, variances tell
_OTHERS = 0.1  # of the loss with other samples' targets; up to 1 it hardly differs
_ROWS = 1024  # of one call at least
_ROWS_OF_SAMPLE = 8  # where it is of more than 128 samples; so of 2048 samples 16 thousand


def collect(
    model: Any, kernels: Sequence[Kernel], samples: Samples, needs: Sequence[str]
) -> dict[str, tuple[Statistics, ...]]:
    """Run samples through a model, as for predictions, and listen at the kernels.

    Tables are told by how often each of their rows is chosen, all other kernels by moments, on a
    side of more than `LARGEST` numbers by variances. Kernels of a kind whose data cannot be told,
    and those that no sample reached, are left out; of gradients that are all 0 there are no
    moments. A sample counts as often as its weight says, a position that a mask hides does not
    count.

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
    wanted = [k for k in kernels if can_be_observed(k, needs)]
    layers = list({id(k.layer): k.layer for k in wanted}.values())
    kernels_of = {id(layer): [k for k in wanted if k.layer is layer] for layer in layers}
    observer = _Observer()
    for batch in batches_for(model, samples):
        for observed in _calls(model, layers, batch, needs):
            for kernel in kernels_of[id(observed.layer)]:
                observer.record(kernel, observed)
    inputs, gradients = observer.inputs, observer.gradients
    found = {}
    for kernel in wanted:
        x, g = inputs.get(kernel.path), gradients.get(kernel.path)
        if x is None:
            continue
        found[kernel.path] = tuple(
            Statistics(each, None if g is None else g[i], kernel.takes_mean)
            for i, each in enumerate(x)
        )
    return found


class _Observer:
    """Adds up what passes through kernels, each sample and position as much as it counts."""

    def __init__(self) -> None:
        self.inputs: dict[str, list[Any]] = {}
        self.gradients: dict[str, list[Any]] = {}
        self._rng = np.random.default_rng(0)

    def record(self, kernel: Kernel, observed: _keras.Observation) -> None:
        """One call of a kernel's layer."""
        data, layer, name = kernel.kind.data, kernel.layer, kernel.name
        met = data.argument(name, observed.given)
        if met is None:
            return
        x = _keras.host_float(met)
        chosen = None if data.choices is None else data.choices(layer, name, x, observed.given)
        if chosen is not None:
            shares = _spread(observed.weigh(chosen.shape), chosen.shape)
            _add(self.inputs, kernel, [Counts.of(chosen, kernel.shape[0], shares)])
        elif data.inputs is not None:
            self._note(self.inputs, kernel, data.inputs, x, observed)
        if observed.gradient is not None and data.outputs is not None:
            g = _keras.host_float(observed.gradient)
            self._note(self.gradients, kernel, data.outputs, g, observed)

    def _note(
        self,
        found: dict[str, list[Any]],
        kernel: Kernel,
        reader: RowReader[Any],
        array: np.ndarray,
        observed: _keras.Observation,
    ) -> None:
        """The moments of an array, seen as the rows that matter to a kernel."""
        shares = _spread(observed.weigh(array.shape[:-1]), array.shape)
        again = copy.deepcopy(self._rng)  # the same positions, where rows are a sample of them
        rows = reader.read(kernel.layer, kernel.name, array, self._rng)
        if rows is None:
            return
        _check_rows(kernel, rows, inputs=found is self.inputs)
        weights = None
        if shares is not None:
            weights = reader.weigh(kernel.layer, kernel.name, shares, again)
        most = max(_ROWS, int(_ROWS_OF_SAMPLE * len(array)))
        parts = _some(rows, weights, most, self._rng)
        if any(not len(part) for part, _ in parts):
            return  # nothing of this call counts
        kind = Moments if rows.shape[-1] <= LARGEST else Variances
        try:
            _add(found, kernel, [kind.of(*part) for part in parts])
        except SpectrumError as error:
            what = "inputs" if found is self.inputs else "gradients of the loss by the outputs"
            raise SpectrumError(f"{kernel.path}, {what}: {error}") from error


def _check_rows(kernel: Kernel, rows: np.ndarray, *, inputs: bool) -> None:
    """Refuse rows that the matrices of a kernel do not meet."""
    count, m, n = kernel.view(_usual_split(kernel)).stack_shape(kernel.variable_shape)
    shape, wanted = np.shape(rows), (count, "rows", m if inputs else n)
    if len(shape) != 3 or (shape[0], shape[2]) != (wanted[0], wanted[2]):
        raise ArgumentError(
            f"The rows of the {'inputs' if inputs else 'outputs'} of {kernel.path} must be of "
            f"shape ({count}, rows, {wanted[2]}). Received: shape {shape}, of the `data` of the "
            f"kind of {kernel.kind.dense_class.__name__}. Correct its RowReader."
        )


def _add(found: dict[str, list[Any]], kernel: Kernel, more: list[Any]) -> None:
    known = found.get(kernel.path)
    if known is not None:
        more = [old.merged(new) for old, new in zip(known, more, strict=True)]
    found[kernel.path] = more


def _spread(weights: np.ndarray | None, shape: Sequence[int]) -> np.ndarray | None:
    """Weights of samples, or of positions, for every number of an array."""
    if weights is None:
        return None
    return np.broadcast_to(
        weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape
    )


def can_be_observed(kernel: Kernel, needs: Sequence[str]) -> bool:
    """True for kernels of a kind that tells so much of its data."""
    data = kernel.kind.data
    if "gradients" in needs and data.outputs is None:
        return False
    return _chooses(kernel) or data.inputs is not None


def seen_in(kernel: Kernel, split: str, statistics: Sequence[Statistics]) -> tuple[Statistics, ...]:
    """What `collect` found, for the matrices of a kernel in one of its splits."""
    usual = _usual_split(kernel)
    if split == usual:
        return tuple(statistics)
    layout = kernel.view(usual).rows_among_columns(kernel.view(split), kernel.variable_shape)
    return tuple(
        replace(each, inputs=Separated(each.inputs, *layout))
        for each in statistics
        if isinstance(each.inputs, Moments | Variances)
    )


def _usual_split(kernel: Kernel) -> str:
    """The split in which kinds tell their data."""
    return kernel.kind.splits_of(kernel.layer, kernel.name)[0]


def _chooses(kernel: Kernel) -> bool:
    """True for tables, whose inputs choose rows."""
    return kernel.kind.data.choices is not None


def _calls(
    model: Any, layers: Sequence[Any], batch: tuple[Any, Any, Any], needs: Sequence[str]
) -> list[_keras.Observation]:
    """Every call on one batch."""
    x, y, _ = batch
    weights, within = told_apart(batch)
    try:
        if "gradients" in needs:
            return _keras.output_gradients(model, layers, (x, y, within), weights, others=_OTHERS)
        return _keras.layer_calls(model, layers, x, weights)
    except Exception as error:
        if "gradients" in needs:
            raise no_gradients(model, (x, y, within), error) from error
        raise cannot_be_run(model, error) from error


def _some(
    rows: np.ndarray, weights: np.ndarray | None, most: int, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """At most so many rows of each of `(g, rows, k)`, at random, of those that count."""
    if weights is None:
        if rows.shape[1] > most:
            rows = rows[:, rng.choice(rows.shape[1], most, replace=False)]
        return [(each, None) for each in rows]
    found: list[tuple[np.ndarray, np.ndarray | None]] = []
    for each, shares in zip(rows, weights, strict=True):
        places = np.flatnonzero(shares)
        if len(places) > most:
            places = rng.choice(places, most, replace=False)
        found.append((each[places], shares[places]))
    return found
