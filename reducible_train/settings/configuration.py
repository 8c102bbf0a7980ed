"""Settings as plain values for JSON or YAML, and back."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from reducible_train.errors import ArgumentError
from reducible_train.settings.adaptive import Adaptive
from reducible_train.settings.aids import Aid, aid_kinds
from reducible_train.settings.cadence import Cadence
from reducible_train.settings.guard import Guard
from reducible_train.settings.measures import Measure, measure_kinds
from reducible_train.settings.rules import OWN, LayerRule
from reducible_train.settings.schedules import Schedule, schedule_from_config
from reducible_train.settings.search import Search
from reducible_train.settings.targets import target_kinds
from reducible_train.settings.targets.several import is_several


def plain_value(name: str, value: Any) -> Any:
    """A setting in plain values; what a record was not given is left out.

    Args:
        name: Its name, for messages.
        value: A number, a name, a schedule, a frozen dataclass, or a row of these.

    Raises:
        ArgumentError: It holds data, or a function.

    Example:
        >>> plain_value("guard", Guard("val_accuracy", limit=0.9, tries=1))  # doctest: +ELLIPSIS
        {'monitor': 'val_accuracy', 'limit': 0.9, 'patience': 2, 'tries': 1, 'band': 0.0, ...}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Schedule):
        return value.get_config()
    if isinstance(value, Mapping):
        return {key: plain_value(name, each) for key, each in value.items()}
    if isinstance(value, list | tuple) and name != "calibration":
        return [plain_value(name, each) for each in value]
    if is_dataclass(value) and name != "analysis":
        return _named(value) | {
            each.name: plain_value(f"{each.name} of {name}", held)
            for each in fields(value)
            if (held := getattr(value, each.name)) is not None
        }
    raise ArgumentError(
        f"`{name}` must be a plain value to stand in a configuration. Received: a "
        f"{type(value).__name__}. Leave it out, and give it anew to what is made of the "
        "configuration."
    )


def arguments_from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a `RankScheduler` that plain values describe.

    Raises:
        ArgumentError: An unknown kind, or values that cannot be used.
        ArgumentTypeError: A setting has another argument than those.
    """
    made = {name: _made(name, value) for name, value in config.items()}
    return {name: value for name, value in made.items() if value is not None}


def _named(value: Any) -> dict[str, str]:
    """What tells which class a record is of, where several could be."""
    if isinstance(value, Aid):
        return {"kind": value.kind}
    return {"name": value.name} if isinstance(value, Measure) else {}


def _made(name: str, value: Any) -> Any:
    """The setting of a name; what is none, or plain anyway, as it came."""
    if value is None:
        return None
    if name in target_kinds():
        several = is_several(value)  # whose values are made by what they are given to
        return schedule_from_config(value) if isinstance(value, Mapping) and not several else value
    make = _MAKERS.get(name)
    return value if make is None else make(value)


def _measure(config: Mapping[str, Any] | list[Mapping[str, Any]]) -> Measure | list[Measure]:
    if not isinstance(config, Mapping):
        return [_of_kind("measure", "name", measure_kinds(), each) for each in config]
    made: Measure = _of_kind("measure", "name", measure_kinds(), config)
    return made


def _aids(configs: list[Mapping[str, Any]]) -> list[Aid]:
    return [_of_kind("aids", "kind", aid_kinds(), config) for config in configs]


def _of_kind(
    setting: str, key: str, kinds: Mapping[str, Callable[..., Any]], config: Mapping[str, Any]
) -> Any:
    """An object of the class that a configuration names."""
    options = dict(config)
    kind = options.pop(key, None)
    if kind not in kinds:
        raise ArgumentError(
            f"`{key}` in `{setting}` must be one of {', '.join(map(repr, kinds))}. "
            f"Received: {kind!r}. Name one of them."
        )
    return kinds[kind](**options)


def _rules(configs: list[Mapping[str, Any]]) -> list[LayerRule]:
    return [
        LayerRule(
            **{name: _made(name, value) if name in OWN else value for name, value in c.items()}
        )
        for c in configs
    ]


def _cadence(config: Mapping[str, Any]) -> Cadence:
    start = config.get("start")
    return Cadence(**dict(config) | {"start": None if start is None else Adaptive(**start)})


_MAKERS: dict[str, Callable[[Any], Any]] = {
    "measure": _measure,
    "aids": _aids,
    "rules": _rules,
    "cadence": _cadence,
    "guard": lambda config: Guard(**config),
    "search": lambda config: Search(**config),
}
