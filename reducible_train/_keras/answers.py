"""What a model answers on data, and what its loss and metrics say of that."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from reducible_train._keras.batch_loss import as_tensors, loss_of
from reducible_train._keras.functions import has_own_loss, has_own_losses, has_own_test_step
from reducible_train._keras.keeping import as_it_was
from reducible_train._keras.layer_tree import walk
from reducible_train._keras.loops import in_graphs
from reducible_train._keras.masks import fitting, followed
from reducible_train._keras.nested import arrays_in, map_arrays
from reducible_train._keras.values import host_value

_ROUNDING = 1e-3  # of a loss, by which two of the same samples may differ


@dataclass(frozen=True, eq=False)
class Output:
    """One output of a model on one batch.

    Args:
        name: Its name, or the way to it in what the model returns; empty where it is the only one.
        values: `(samples, ...)`.
        mask: Which samples, or positions of them, count: `(samples,)` or `(samples, positions)`;
            `None` if all do.
    """

    name: str
    values: np.ndarray
    mask: np.ndarray | None


def answers(
    model: Any, batches: Iterable[tuple[Any, Any, Any]], *, judged: bool = False
) -> tuple[list[list[Output]], dict[str, float]]:
    """Run a model on batches, as for predictions; it stays as it was.

    Args:
        model: A built model.
        batches: Inputs, targets and weights.
        judged: True to have its loss and compiled metrics, as `evaluate` would tell them.

    Returns:
        All outputs that are numbers, by batch, and the metrics by name.
    """
    found: list[list[Output]] = []
    results: dict[str, float] = {}
    with as_it_was(model), _loops_in_graphs(model):
        if judged:
            model.reset_metrics()
        for x, y, weight in batches:
            with followed(model) as masks:
                outputs = model(x, training=False)
                found.append(
                    [
                        Output(name, values, fitting(masks.present(model, [each])[0], values.shape))
                        for name, each in _named(model, outputs)
                        if (values := host_value(each)).ndim and values.dtype.kind in "biufcV"
                    ]
                )
            if judged:
                results = _judge(model, x, y, outputs, weight)
    return found, results


def _loops_in_graphs(model: Any) -> AbstractContextManager[None]:
    """`in_graphs`, unless a model shall run eagerly."""
    eager = bool(getattr(model, "run_eagerly", False))
    return in_graphs([] if eager else [layer for _, layer in walk(model)])


def can_be_judged(model: Any) -> bool:
    """True for a model whose loss and metrics can be had of its outputs, as Keras has them."""
    is_compiled = bool(getattr(model, "compiled", False))
    return is_compiled and not has_own_test_step(model) and not has_own_loss(model)


def may_sum_its_loss(model: Any, x: Any = None, y: Any = None) -> bool:
    """True for a compiled model whose loss is another on batches of another size, as a sum is.

    It is tried whether the loss of a batch is the mean of those of its halves. Where that cannot
    be, losses of Keras's are taken for means, unless `reduction="sum"` was asked for, and others
    not. The model stays as it was.

    Args:
        model: The model.
        x: Some inputs; with one of them, nothing can be tried.
        y: Their targets.
    """
    if not getattr(model, "compiled", False):
        return False
    try:
        apart, whole = _apart(model, x, y) if can_be_judged(model) else (math.nan, math.nan)
    except Exception:  # whatever a model does with these samples
        apart, whole = math.nan, math.nan
    if not math.isfinite(apart) or not whole:  # a sum of nothing does not grow yet
        return has_own_losses(model)
    return apart > _ROUNDING * abs(whole)


def _apart(model: Any, x: Any, y: Any) -> tuple[float, float]:
    """How far the loss of a batch is from the mean of those of its halves, and that loss.

    NaN where nothing but means of Keras's counts, which need no try: divided by the positions that
    a mask leaves, those of halves would differ for that alone.
    """
    layers = [model, *(layer for _, layer in walk(model))]
    rows = np.arange(len(arrays_in(x)[0]))
    first, second = np.split(rows[: len(rows) // 2 * 2], 2)
    with as_it_was(model), _loops_in_graphs(model):
        one = _loss_of(model, x, y, first)
        if not has_own_losses(model) and not any(each._losses for each in layers):
            return math.nan, one
        other = _loss_of(model, x, y, second)
        whole = _loss_of(model, x, y, np.concatenate([first, second]))
    return abs(whole - (one + other) / 2), whole


def _loss_of(model: Any, x: Any, y: Any, rows: np.ndarray) -> float:
    """The loss of some of the samples, all of which count alike."""
    x, y = (map_arrays(lambda array: array[rows], each) for each in (x, y))
    outputs = model(x, training=False)
    return float(host_value(loss_of(model, (x, y, None), outputs)))


def _judge(model: Any, x: Any, y: Any, outputs: Any, weight: Any) -> dict[str, float]:
    """Update the metrics by a batch; their values so far."""
    x, y, weight = map(as_tensors, (x, y, weight))
    loss = loss_of(model, (x, y, weight), outputs)
    model._loss_tracker.update_state(loss, sample_weight=len(arrays_in(x)[0]))
    told = model.compute_metrics(x, y, outputs, sample_weight=weight)
    numbers = {name: host_value(value) for name, value in _flat(told)}
    return {name: float(value) for name, value in numbers.items() if value.ndim == 0}


def _flat(told: dict[str, Any]) -> list[tuple[str, Any]]:
    """Results by name, those of a metric that tells several by their own."""
    return [
        pair
        for name, value in told.items()
        for pair in (value.items() if isinstance(value, dict) else [(name, value)])
    ]


def _named(model: Any, outputs: Any) -> list[tuple[str, Any]]:
    """The tensors of what a model returns, by name."""
    pairs = keras.tree.flatten_with_path(outputs)
    tensors = [(path, each) for path, each in pairs if keras.ops.is_tensor(each)]
    if len(tensors) == 1:
        return [("", tensors[0][1])]
    names = getattr(model, "output_names", None) or []
    if len(names) != len(tensors) or isinstance(outputs, dict):
        names = ["/".join(map(str, path)) for path, _ in tensors]
    return [(name, each) for name, (_, each) in zip(names, tensors, strict=True)]
