"""Everything a compression is asked for, as one frozen value that knows what goes together."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypedDict

from reducible_train.errors import ArgumentError, ArgumentTypeError
from reducible_train.settings.adaptive import Adaptive
from reducible_train.settings.agreement import disagreements
from reducible_train.settings.aids import Aid, checked_aids
from reducible_train.settings.cadence import Cadence
from reducible_train.settings.checks import checked, checked_all, is_count, plain, settle
from reducible_train.settings.configuration import plain_value
from reducible_train.settings.faults import raise_first
from reducible_train.settings.guard import Guard
from reducible_train.settings.measures import InputShape, Measure, Parameters, checked_measure
from reducible_train.settings.rules import LayerRule
from reducible_train.settings.schedules import Schedule
from reducible_train.settings.search import Search
from reducible_train.settings.targets import Target, one_target, target_kinds

_MOVED = {
    "adaptive": "`cadence`: write cadence=Cadence(start=Adaptive(...))",
    "min_gain": "the rules: write rules=[LayerRule('*', min_gain=...)], after all other rules",
    "input_shape": "the measure: write measure=Flops(input_shape=...), or a Latency of it",
}


class TargetKeywords(TypedDict, total=False):
    """The targets beside `budget`, for editors; exactly one of all is given."""

    cost: float | Schedule
    energy: float | Schedule
    rtol: float | Schedule
    rank: float | Schedule
    search: Search


@dataclass(frozen=True)
class CompressionSettings:
    """What shall fall, by which measure and criterion, when, and what watches and helps.

    Args:
        target: What the model is brought to; of a search, the budget that must be possible for it.
        search: What chooses the budget in place of a schedule, if something does.
        measure: What a budget counts.
        criterion: Name of what a lost direction costs.
        allocation: Name of how a budget is shared.
        calibration: Data to judge by, a number of samples of the fit, or `None`.
        rules: Rules for single layers.
        cadence: When cuts may be made.
        guard: What has cuts undone, if something does.
        aids: What helps the training.

    Raises:
        ArgumentTypeError: One of them is of the wrong type.
        ArgumentError: Two do not go together.
    """

    target: Target
    search: Search | None = None
    measure: Measure = Parameters()  # noqa: RUF009 (frozen)
    criterion: str = "frobenius"
    allocation: str = "equal_energy"
    calibration: Any = None
    rules: tuple[LayerRule, ...] = ()
    cadence: Cadence = Cadence(epochs=1)  # noqa: RUF009 (frozen)
    guard: Guard | None = None
    aids: tuple[Aid, ...] = ()

    def __post_init__(self) -> None:
        wanted = "`rules` must hold LayerRule objects"
        example = "rules=[LayerRule('encoder/*', min_rank=8)]"
        settle(
            self,
            measure=checked_measure(self.measure),
            calibration=_checked_calibration(self.calibration),
            rules=checked_all(wanted, self.rules, LayerRule, example),
            aids=checked_aids(self.aids),
        )
        example = "cadence=Cadence(epochs=2), or Cadence(steps=500)"
        checked("cadence", self.cadence, Cadence, example)
        checked("guard", self.guard, Guard, "guard=Guard('val_accuracy', max_drop=0.005)")
        raise_first(
            disagreements(
                [type(each) for each in self.targets],
                [type(aid) for aid in self.aids],
                guard=self.guard,
                search=self.search,
                start=self.adaptive,
            )
        )

    @property
    def adaptive(self) -> Adaptive | None:
        """What lets cuts begin, if they wait for the stable ranks."""
        return self.cadence.start

    @property
    def input_shape(self) -> InputShape | None:
        """The shape of one sample, where the measure was told."""
        return self.measure.input_shape

    @property
    def targets(self) -> tuple[Target, ...]:
        """All that falls: the target of the model, and those of rules for single layers."""
        return (self.target, *(rule.target for rule in self.rules if rule.target is not None))

    def arguments(self) -> dict[str, Any]:
        """The arguments of a `RankScheduler` that ask for this."""
        goal: dict[str, Any] = {}
        if self.search is not None:
            goal["search"] = self.search
        elif self.target.public:
            goal[self.target.quantity] = self.target.number_or_schedule
        others = (each.name for each in fields(self) if each.name not in ("target", "search"))
        return goal | {name: getattr(self, name) for name in others}

    def get_config(self) -> dict[str, Any]:
        """The same in plain values for JSON or YAML, for `arguments_from_config`.

        Raises:
            ArgumentError: There are calibration data, or a function, which no such value can hold.

        Example:
            >>> config = compression_settings("", {"rank": 8}, guard=Guard(limit=0.9)).get_config()
            >>> config["rank"], config["guard"]["limit"], config["cadence"]
            (8, 0.9, {'epochs': 1, 'compare': True})
        """
        return {name: plain_value(name, value) for name, value in self.arguments().items()}

    def described(self, caller: str) -> str:
        """The call that asks for this: what differs from the defaults, data left out."""
        defaults = {each.name: each.default for each in fields(self)}
        given = {
            name: value
            for name, value in self.arguments().items()
            if _differs(value, defaults.get(name, MISSING))
        }
        if not _of_the_fit(self.calibration):
            given["calibration"] = _Elided()
        if "measure" in given and self.measure.is_default:
            given["measure"] = self.measure.name
        return f"{caller}({', '.join(f'{name}={value!r}' for name, value in given.items())})"


def compression_settings(
    caller: str,
    targets: Mapping[str, Any],
    *,
    known: Iterable[str] | None = None,
    **others: Any,
) -> CompressionSettings:
    """The settings that the arguments of a call ask for.

    Args:
        caller: Its name, for messages.
        targets: What was given for a target, by name: one, or none beside an `Adaptive`.
        known: The targets that can be given; all, and `search`, if not given.
        **others: The other arguments: fields of the settings, a cadence of `None` for every epoch.

    Raises:
        ArgumentTypeError: A keyword that nobody knows, or a value of the wrong type.
        ArgumentError: Unusable arguments, or some that do not go together.

    Example:
        >>> compression_settings("RankScheduler", {"budget": 0.25}).described("RankScheduler")
        'RankScheduler(budget=0.25)'
    """
    known = tuple((*target_kinds(), "search") if known is None else known)
    _refuse_unknown(caller, targets, known, others)
    given = {name: value for name, value in targets.items() if value is not None}
    cadence = others.pop("cadence", None)
    others["cadence"] = Cadence(epochs=1) if cadence is None else cadence
    search = checked(
        "search", given.get("search"), Search, "search=Search(factor=0.7, start_epoch=2)"
    )
    if search is not None:
        _refuse_beside_search(given)
        return CompressionSettings(search.target, search, **others)
    if not given and isinstance(cadence, Cadence) and cadence.start is not None:
        return CompressionSettings(cadence.start.target, **others)
    return CompressionSettings(one_target(**given), **others)


def _refuse_unknown(
    caller: str, given: Mapping[str, Any], known: tuple[str, ...], others: Iterable[str]
) -> None:
    """Refuse keywords as Python does, with the name or the place that was meant."""
    for name, value in given.items():
        if name in known:
            continue
        if name in _MOVED:
            raise ArgumentTypeError(
                f"{caller}() takes no `{name}`. Received: {name}={value!r}. It belongs to "
                f"{_MOVED[name]}."
            )
        names = [*known, *others]
        close = difflib.get_close_matches(name, names, n=1)
        meant = f"Did you mean {close[0]!r}?" if close else f"It takes {', '.join(names)}."
        raise ArgumentTypeError(
            f"{caller}() got an unexpected keyword argument {name!r}. "
            f"Received: {name}={value!r}. {meant}"
        )


def _refuse_beside_search(given: Mapping[str, Any]) -> None:
    """A search stands alone among the targets."""
    others = [f"{name}={value!r}" for name, value in given.items() if name != "search"]
    if others:
        kinds = ", ".join(f"`{name}`" for name in target_kinds())
        raise ArgumentError(
            f"Exactly one of {kinds} and `search` must be given. Received: search and "
            f"{', '.join(others)}. A search chooses the budget itself; remove the other."
        )


def _of_the_fit(calibration: Any) -> bool:
    """True where the samples are those of the fit itself."""
    return calibration is None or isinstance(calibration, int)


def _differs(value: Any, default: Any) -> bool:
    """True for what is not the default; data are never compared."""
    if type(value) is not type(default):
        return True
    return bool(value != default)


class _Elided:
    """Stands for data in a `repr`."""

    def __repr__(self) -> str:
        return "..."


def _checked_calibration(calibration: Any) -> Any:
    """A calibration set as it is, or a number of samples that can be."""
    number = plain(calibration)
    if not isinstance(number, int | float):
        return calibration
    if not is_count(number):
        raise ArgumentError(
            "`calibration` must be data, or a whole number of samples, at least 1. "
            f"Received: calibration={calibration!r}. Leave it out for 2048 samples of the fit."
        )
    return number
