"""The metric that a callback or a guard goes by."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

from reducible_train.errors import ArgumentError
from reducible_train.settings.checks import is_number, percent_advice
from reducible_train.settings.faults import Fault
from reducible_train.settings.fields import Text
from reducible_train.settings.metric_names import FRACTIONS, direction_by_name

MODES = ("auto", "max", "min")
MODE_HELP = (
    "Whether the metric should be large or small. 'auto': Keras knows its own, those that the "
    "model is compiled with; say 'max' or 'min' for one that another callback adds."
)
METRIC = Text("the name of a metric", "'val_accuracy'")
ONE_NUMBER = (
    "Compile with one that sums them up: F1Score(average='macro') is one number, F1Score() one for "
    "each class."
)

# As `is_fraction_by_name`, but surely: a refusal goes by it.
_FRACTION = re.compile(rf"(^|_)({FRACTIONS})(_|$)")


class SeveralNumbersError(ArgumentError):
    """A metric that something goes by is several numbers."""


def is_validation_accuracy(monitor: str) -> bool:
    """True for a metric that is the fraction of right answers on validation data, by its name.

    >>> is_validation_accuracy("val_accuracy"), is_validation_accuracy("val_auc")
    (True, False)
    """
    name = monitor.lower()
    return name.startswith("val_") and bool({"acc", "accuracy"} & set(name.split("_")))


def is_surely_fraction(monitor: str) -> bool:
    """True for a metric that lies between 0 and 1, large where it is good.

    >>> is_surely_fraction("val_accuracy"), is_surely_fraction("val_r2_score")
    (True, False)
    """
    return direction_by_name(monitor) > 0 and bool(_FRACTION.search(monitor.lower()))


def drop_fault(monitor: str, mode: str, quality: float) -> str | None:
    """Why no drop of a metric can be too large, or `None`.

    Args:
        monitor: The metric.
        mode: Where it is given, the metric has a scale of its own, of which nothing is known.
        quality: That of the model as it is.

    >>> drop_fault("val_accuracy", "auto", 0.0)
    'val_accuracy of the model as it is is 0, so nothing of it can be lost. Let `monitor` be \
a metric that tells its quality, such as val_loss.'
    >>> drop_fault("val_accuracy", "auto", 0.9)
    """
    if mode != "auto" or not quality <= 0 or not is_surely_fraction(monitor):
        return None
    loss = "val_loss" if monitor.startswith("val_") else "loss"
    return (
        f"{monitor} of the model as it is is {quality:.4g}, so nothing of it can be lost. Let "
        f"`monitor` be a metric that tells its quality, such as {loss}."
    )


def percent_fault(name: str, value: object, monitor: str) -> str | None:
    """What is wrong with a bound on a metric that lies between 0 and 1, or `None`.

    Args:
        name: `"max_drop"`, `"min_delta"` (distances, below 1) or another (a value, at most 1).
        value: What came.
        monitor: The metric.

    >>> percent_fault("max_drop", 5, "val_accuracy")
    "must be below 1 where the metric is a fraction. Received: max_drop=5 for 'val_accuracy'. \
For 5 % write 0.05."
    >>> percent_fault("max_drop", 5, "val_loss")
    """
    if not is_number(value) or not is_surely_fraction(monitor):
        return None
    distance = name in ("max_drop", "min_delta")
    if value < 1 or (value == 1 and not distance):
        return None
    wanted = "below 1" if distance else "at most 1"
    return (
        f"must be {wanted} where the metric is a fraction. Received: {name}={value!r} for "
        f"{monitor!r}.{percent_advice(value)}"
    )


def percent_fault_of(settings: Any, name: str) -> Fault | None:
    """A bound on a metric in per cent; a `mode` of its own means a scale of its own.

    Args:
        settings: What goes by a metric, with its `monitor` and `mode`.
        name: Its option with the bound.
    """
    fault = percent_fault(name, getattr(settings, name), settings.monitor)
    if fault is None or settings.mode != "auto":
        return None
    return Fault((name,), f"`{name}` of {settings.owner} {fault}")


def direction(
    monitor: str,
    mode: str,
    known: Mapping[str, str | None],
    whose: str,
    *,
    remedy: str = "If a callback of your own adds it to the logs, say mode='max' or mode='min'",
    undirected: str = "Say mode='max' or mode='min'",
) -> int:
    """1 if a metric should be large, -1 if small.

    Args:
        monitor: Its name in the logs.
        mode: One of `MODES`.
        known: The metrics that will be in the logs of training, each with `"up"`, `"down"`
            or `None`; empty where they cannot be known.
        whose: What goes by it, for messages.
        remedy: What to do about a metric that is not among them, in words.
        undirected: What to do where nothing is known of its direction.

    Raises:
        ArgumentError: No such metric or mode, or nothing is known of its direction.

    Example:
        >>> direction("val_accuracy", "auto", {"loss": "down", "accuracy": "up"}, "a guard")
        1
    """
    if mode not in MODES:
        raise ArgumentError(
            f"`mode` of {whose} must be one of {', '.join(map(repr, MODES))}. Received: "
            f"mode={mode!r}. Say mode='max' or mode='min', or leave it out where Keras knows."
        )
    if mode != "auto":
        return 1 if mode == "max" else -1
    name = monitor.removeprefix("val_")
    if known and name not in known:
        names = ", ".join([*known, *(f"val_{each}" for each in known)])
        raise ArgumentError(
            f"`monitor` of {whose} must be a metric of the logs. Received: "
            f"monitor={monitor!r}. With this model there will be {names} (those with val_ "
            f"if fit is given validation data). {remedy}."
        )
    found = known.get(name) or ("down" if name == "loss" else None)
    if found is None:
        raise ArgumentError(
            f"`mode` must be given where Keras does not know whether {monitor!r} should be "
            f"large or small. Received: mode='auto'. {undirected}."
        )
    return 1 if found == "up" else -1


def check_one_number(monitor: str, count: int, whose: str) -> None:
    """Refuse a metric that is several numbers, of which none can be better than another.

    Args:
        monitor: The name in the logs.
        count: How many numbers it is.
        whose: What goes by it, for messages.

    Raises:
        SeveralNumbersError: More than one.

    >>> check_one_number("val_f1", 1, "a guard")
    """
    if count > 1:
        raise SeveralNumbersError(
            f"`monitor` of {whose} must be a metric of one number. Received: monitor={monitor!r}, "
            f"which is {count}. {ONE_NUMBER}"
        )


def check_validated(
    monitor: str,
    mode: str,
    known: Mapping[str, str | None],
    validates: bool | None,
    whose: str,
    *,
    remedy: str | None = None,
    never: str | None = None,
) -> None:
    """Refuse a metric of validation data in a fit without any, or that never looks at them.

    Args:
        monitor: The name in the logs.
        mode: As for `direction`; other than `"auto"`, a callback may log the metric: a warning.
        known: As for `direction`.
        validates: Whether the fit has validation data; `None` if nobody knows.
        whose: What goes by it, for messages.
        remedy: How validation data are given where no callback of one's own can log a metric, so
            that no `mode` helps; left out, as `fit` is given them.
        never: What keeps a fit that has them from validating after any of its epochs, in words.

    Raises:
        ArgumentError: It would never be in the logs.
    """
    name = monitor.removeprefix("val_")
    lacks = validates is False or never is not None
    if not lacks or name == monitor or name not in {"loss", *known}:
        return
    way, what = "Give validation_data=... or validation_split=... to fit", "without validation data"
    if never is not None:
        way, what = "Leave out validation_freq, and each epoch is validated", f"with {never}"
    told = (
        f"`monitor` of {whose} must be a metric of the logs. Received: monitor={monitor!r} in "
        f"a fit {what}, which will not have it. {remedy or way}, or watch {name!r}."
    )
    if remedy is not None:
        raise ArgumentError(told)
    if mode == "auto":
        raise ArgumentError(
            f"{told} If a callback of your own adds it to the logs, say mode='max' or mode='min'."
        )
    warnings.warn(f"{told} Unless a callback of your own adds it, it is not there.", stacklevel=4)
