"""Metrics that a setting waits for: will they ever be in the logs?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reducible_train.errors import ArgumentError


def check_monitor(
    owner: str, monitor: str, mode: str, known: Mapping[str, str | None], validated: bool
) -> None:
    """Refuse a metric that no epoch will bring.

    Args:
        owner: What watches it, such as `"early stopping"`.
        monitor: Its name.
        mode: `"auto"`, or `"max"` or `"min"`: the word of who knows the metric himself, which may
            then come from a callback.
        known: The metrics that a model will log; empty where they cannot be known.
        validated: True if there are validation data.

    Raises:
        ArgumentError: There is no such metric, or none on validation data without such data.
    """
    name = monitor.removeprefix("val_")
    if monitor.startswith("val_") and not validated and (mode == "auto" or name in known):
        raise ArgumentError(
            f"`monitor` of {owner} must be a metric of the logs. Received: monitor={monitor!r}, and"
            " no validation data. Add x_val and y_val, set training.validation_split: 0.1, or watch"
            f" {name!r}."
        )
    if known and mode == "auto" and name not in known:
        names = ", ".join([*known, *(f"val_{each}" for each in known if validated)])
        raise ArgumentError(
            f"`monitor` of {owner} must be a metric of the logs. Received: monitor={monitor!r}."
            f" With this model there will be {names}. Name one of them, or add it to the metrics."
        )


def check_filled(
    owner: str, fields: Iterable[str], known: Mapping[str, str | None], validated: bool
) -> None:
    """Refuse a name of a file with a metric in braces that no epoch will bring.

    Args:
        owner: What is named so, such as `"checkpoint.filepath"`.
        fields: What stands in its braces.
        known: As for `check_monitor`; no other callback may add to the logs.
        validated: As for `check_monitor`.

    Raises:
        ArgumentError: There is no such metric.
    """
    logged = [*known, *(f"val_{each}" for each in known if validated)]
    logged = ["epoch", *logged, "params", "params_fraction"]
    wrong = [field for field in fields if field not in logged]
    if known and wrong:
        raise ArgumentError(
            f"{owner} must be a name that the logs can fill. Received: {{{wrong[0]}}}. With this"
            f" model there will be {', '.join(logged)}. Name one of them in braces."
        )
