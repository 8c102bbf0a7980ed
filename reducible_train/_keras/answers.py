"""What a model answers on data, and what its loss and metrics say of that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from reducible_train._keras.functions import has_own_loss, has_own_test_step
from reducible_train._keras.keeping import as_it_was
from reducible_train._keras.layer_tree import walk
from reducible_train._keras.loops import in_graphs
from reducible_train._keras.masks import fitting, followed
from reducible_train._keras.nested import arrays_in
from reducible_train._keras.values import host_value


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
    eager = bool(getattr(model, "run_eagerly", False))
    loops = [] if eager else [layer for _, layer in walk(model)]
    with as_it_was(model), in_graphs(loops):
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


def can_be_judged(model: Any) -> bool:
    """True for a model whose loss and metrics can be had of its outputs, as Keras has them."""
    is_compiled = bool(getattr(model, "compiled", False))
    return is_compiled and not has_own_test_step(model) and not has_own_loss(model)


def _judge(model: Any, x: Any, y: Any, outputs: Any, weight: Any) -> dict[str, float]:
    """Update the metrics by a batch; their values so far."""
    loss = model.compute_loss(x=x, y=y, y_pred=outputs, sample_weight=weight, training=False)
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
