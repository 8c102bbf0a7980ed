"""The metrics and losses of a compiled model, by the names that Keras gives them in logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import keras

from reducible_train._keras.traceless import untouched_process


def compiled_names(model: Any) -> dict[str, str | None] | None:
    """The metrics of `compile`, and the losses of its outputs, with their directions.

    Keras names them in the first step, by what the model returns. Until then its own code names
    copies of them here: of outputs that a graph tells, or that the model must have by what it is
    compiled with.

    Args:
        model: A compiled model.

    Returns:
        By name: `"up"`, `"down"` or `None`; `None` for them all where nobody can know.
    """
    parts = _built_parts(model)
    if parts is None:
        return None
    metrics, losses = parts
    named = {} if metrics is None else dict(_named(metrics))
    return named | {each.name: "down" for each in ([] if losses is None else losses.metrics)}


def own_names(model: Any) -> dict[str, str | None] | None:
    """The metrics of `compile` by the names that they have themselves, whatever logs call them.

    Args:
        model: A compiled model.

    Returns:
        By name: `"up"`, `"down"` or `None`; `None` for them all where nobody can know.
    """
    parts = _built_parts(model)
    if parts is None:
        return None
    metrics, _ = parts
    found = [] if metrics is None else metrics.metrics
    return {each.name: getattr(each, "_direction", None) for each in found}


def _built_parts(model: Any) -> tuple[Any, Any] | None:
    """The metrics and losses of `compile`, as a first step builds them; `None` if nobody can."""
    metrics, losses = model._compile_metrics, model._compile_loss
    if all(each is None or each.built for each in (metrics, losses)):
        return metrics, losses
    outputs = _outputs(model)
    if outputs is None:
        return None
    try:
        with untouched_process():
            return _built(metrics, outputs), _built(losses, outputs)
    except Exception:  # what Keras says to it comes in the first step
        return None


def _built(part: Any, outputs: Any) -> Any:
    """The metrics or losses of `compile`, built for outputs of that kind; they stay as they are."""
    if part is None or part.built:
        return part
    is_metrics = isinstance(part, keras.metrics.Metric)
    names = ("_user_metrics", "_user_weighted_metrics") if is_metrics else ("_user_loss",)
    copy = type(part)(*(getattr(part, name) for name in names), output_names=part.output_names)
    copy.build(outputs, outputs)
    return copy


def _named(metrics: Any) -> Iterator[tuple[str, str | None]]:
    """The names and directions of built metrics; Keras itself tells the names with values alone."""
    seen = Counter[str]()
    for lists, is_weighted in (
        (metrics._flat_metrics, False),
        (metrics._flat_weighted_metrics, True),
    ):
        for each in filter(None, lists):
            start = f"{each.output_name}_" if each.output_name else ""
            for metric in each.metrics:
                name = f"{start}{metric.name}"
                if is_weighted and seen[name]:
                    name = f"{start}weighted_{metric.name}"
                again = f"_{seen[name]}" if seen[name] else ""
                seen[name] += 1
                yield f"{name}{again}", getattr(metric, "_direction", None)


def _outputs(model: Any) -> Any:
    """Symbols of what a model returns, nested as that is; `None` where nobody can know."""
    if getattr(model, "output_names", None):
        return model.output
    known = getattr(model, "outputs", None)
    if known:  # of a Sequential
        return known[0]
    compiled = model._compile_metrics
    metrics = [] if compiled is None else [compiled._user_metrics, compiled._user_weighted_metrics]
    metrics = [each for each in metrics if each]
    loss = None if model._compile_loss is None else model._compile_loss._user_loss
    one = keras.KerasTensor((None, 1))
    keys = dict.fromkeys(chain(*(each for each in (loss, *metrics) if isinstance(each, dict))))
    parts = loss.values() if isinstance(loss, dict) else [loss]
    if _has_nested(parts) or _has_nested(chain(*(each for each in metrics if not keys))):
        return None
    if len(keys) > 1:
        return dict.fromkeys(keys, one)
    if metrics:  # Keras takes a list of one for one output alone
        return one if not keys and any(len(each) == 1 for each in metrics) else None
    return one if loss is None or keys else None  # one loss may be that of each of several


def _has_nested(parts: Iterable[Any]) -> bool:
    return any(keras.tree.is_nested(each) for each in parts)
