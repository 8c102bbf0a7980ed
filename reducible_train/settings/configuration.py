"""Settings as plain values for JSON or YAML, and back."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from reducible_train.errors import ArgumentError, ArgumentTypeError, ReducibleError, shortened
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
        ArgumentTypeError: A setting has another argument than those, or is of another form.
    """
    made = {name: _made(name, value) for name, value in _options("config", config).items()}
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


def _measure(config: Any) -> Measure | list[Measure]:
    if not isinstance(config, Mapping):
        return [
            _of_kind("measure", "name", measure_kinds(), each) for each in _row("measure", config)
        ]
    made: Measure = _of_kind("measure", "name", measure_kinds(), config)
    return made


def _aids(configs: Any) -> list[Aid]:
    return [_of_kind("aids", "kind", aid_kinds(), config) for config in _row("aids", configs)]


def _of_kind(setting: str, key: str, kinds: Mapping[str, Callable[..., Any]], config: Any) -> Any:
    """An object of the class that a configuration names."""
    options = _options(setting, config)
    kind = options.pop(key, None)
    if not isinstance(kind, str) or kind not in kinds:
        raise ArgumentError(
            f"`{key}` in `{setting}` must be one of {', '.join(map(repr, kinds))}. "
            f"Received: {kind!r}. Name one of them."
        )
    return _record(setting, kinds[kind], options)


def _rules(configs: Any) -> list[LayerRule]:
    rows = [_options("rules", each) for each in _row("rules", configs)]
    return [
        _record("rules", LayerRule, {n: _made(n, v) if n in OWN else v for n, v in each.items()})
        for each in rows
    ]


def _cadence(config: Any) -> Cadence:
    options = _options("cadence", config)
    if options.get("start") is not None:
        options["start"] = _record("start of cadence", Adaptive, options["start"])
    made: Cadence = _record("cadence", Cadence, options)
    return made


def _record(setting: str, make: Callable[..., Any], config: Any) -> Any:
    """What a class makes of the arguments that a configuration gives it.

    Raises:
        ArgumentTypeError: They are none, or not those of the class.
    """
    try:
        return make(**_options(setting, config))
    except ReducibleError:
        raise
    except TypeError as error:  # of the call: an argument that it does not know, or lacks
        raise ArgumentTypeError(
            f"`{setting}` must have the arguments of {make.__name__}. Received: "
            f"{shortened(str(error), 200)}. Take what get_config gave."
        ) from error


def _options(setting: str, config: Any) -> dict[str, Any]:
    if not isinstance(config, Mapping):
        raise ArgumentTypeError(
            f"`{setting}` must be told by a mapping of its arguments. Received: "
            f"{shortened(repr(config))}. Take what get_config gave."
        )
    return dict(config)


def _row(setting: str, configs: Any) -> list[Any]:
    if not isinstance(configs, list | tuple):
        raise ArgumentTypeError(
            f"`{setting}` must be told by a list of mappings. Received: "
            f"{shortened(repr(configs))}. Take what get_config gave."
        )
    return list(configs)


_MAKERS: dict[str, Callable[[Any], Any]] = {
    "measure": _measure,
    "aids": _aids,
    "rules": _rules,
    "cadence": _cadence,
    "guard": lambda config: _record("guard", Guard, config),
    "search": lambda config: _record("search", Search, config),
}
