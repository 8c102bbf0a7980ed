"""The faults of settings, each at its place in a file, whatever else is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from reducible_train.config.kinds import known_aids
from reducible_train.config.reading import Place
from reducible_train.config.schedules import as_config
from reducible_train.config.sections import Section, sections_in
from reducible_train.settings.adaptive import Adaptive
from reducible_train.settings.aids import Aid
from reducible_train.settings.base import Settings
from reducible_train.settings.cadence import Cadence
from reducible_train.settings.checks import is_count
from reducible_train.settings.faults import Fault
from reducible_train.settings.fields import fields_of
from reducible_train.settings.rules import OWN
from reducible_train.settings.schedules import Schedule
from reducible_train.settings.schedules.base import schedule_draft
from reducible_train.settings.search import Search
from reducible_train.settings.targets import goal_faults, target_kinds
from reducible_train.settings.targets.several import is_several
from reducible_train.settings.timing import guard_faults, timing_faults

S = TypeVar("S", bound=Settings)
Found = Iterator[tuple[Place, str]]


def settings_faults(root: type[Section], values: Any, place: Place = ()) -> Found:
    """What the settings of a file have against their values, section by section.

    Args:
        root: The section that the values are of.
        values: Plain values.
        place: Where they are.
    """
    options = root.options
    for name, item in root.model_fields.items() if isinstance(values, Mapping) else ():
        given, here = values.get(name), (*place, name)
        if name in target_kinds() and given is not None:
            yield from placed(goal_faults(name, as_config(given)), here)
            continue
        sections = list(sections_in(item.annotation))
        if name in options and given is not None and not sections:
            found = list[Fault]()
            options[name].read((name,), given, "", found)
            yield from placed(found, place)
        for section in sections:
            several = isinstance(given, list)
            for index, each in enumerate(given if several else [given]):
                yield from _section_faults(section, each, (*here, index) if several else here)


def _section_faults(section: type[Section], given: Any, here: Place) -> Found:
    if section.made is None:
        yield from settings_faults(section, given, here)
    elif isinstance(given, Mapping):
        yield from placed(section.made.faults_of(as_config(given)), here)


def placed(faults: Sequence[Fault], place: Place) -> Found:
    """Faults as a file tells them: keys are plain words there, and `kind` is `schedule`."""
    for fault in faults:
        way = tuple("schedule" if each == "kind" else each for each in fault.argument)
        yield (*place, *way), fault.message.replace("`", "")


def training_faults(compression: Mapping[str, Any], epochs: Any) -> Found:
    """What the training of a file is over too early for."""
    asked = _asked(compression)
    if asked is not None:
        known = epochs if is_count(epochs) else None
        faults = timing_faults(asked, known) or guard_faults(asked, known)
        yield from placed(faults, ("compression",))


@dataclass(frozen=True)
class _Falls:
    """What falls, and when."""

    name: str
    schedule: Schedule

    @property
    def parts(self) -> Sequence[_Falls]:
        """Itself."""
        return (self,)


@dataclass(frozen=True)
class _FallTogether:
    """What falls by each of some measures."""

    parts: Sequence[_Falls]


@dataclass(frozen=True)
class _Rule:
    """When a rule for single layers changes them."""

    match: str
    target: _Falls | None


@dataclass(frozen=True)
class _Asked:
    """What a file asks for, as far as time goes."""

    target: _Falls | _FallTogether | None
    rules: Sequence[_Rule]
    cadence: Cadence
    aids: Sequence[Aid]
    adaptive: Adaptive | None
    search: Search | None
    guard: object | None


def _asked(compression: Mapping[str, Any]) -> _Asked | None:
    """What can be known of it; `None` where nobody can say when cuts are made."""
    given = compression.get("cadence", {"epochs": 1})
    cadence = _draft(Cadence, given)
    own = [each for each in Cadence.faults_of(_mapping(given)) if each.argument[:1] != ("start",)]
    if cadence is None or own:
        return None
    rules = compression.get("rules")
    layers = [_mapping(rule) for rule in rules] if isinstance(rules, list) else []
    mine = _falls(compression, list(target_kinds()))
    falls = [_falls_of_layers(rule) for rule in layers]
    aids = [
        whole(kind, _mapping(compression.get("aids")).get(name))
        for name, kind in known_aids().items()
    ]
    return _Asked(
        mine or None,
        [
            _Rule(str(rule.get("match")), own or None)
            for rule, own in zip(layers, falls, strict=True)
        ],
        cadence,
        () if False in (mine, *falls) else [aid for aid in aids if aid is not None],
        cadence.start,
        _draft(Search, compression.get("search")),
        compression.get("guard"),
    )


def _falls(section: Mapping[str, Any], quantities: Sequence[str]) -> Any:
    """What a section lets fall; `None` for nothing, `False` where nobody can say when."""
    name = next((each for each in quantities if section.get(each) is not None), None)
    if name is None:
        return None
    given = as_config(section[name])
    if not is_several(given):
        schedule = schedule_draft(given)
        return False if schedule is None else _Falls(name, schedule)
    drafts = {f"{name}.{measure}": schedule_draft(each) for measure, each in given.items()}
    parts = [_Falls(called, draft) for called, draft in drafts.items() if draft is not None]
    return _FallTogether(parts) if len(parts) == len(drafts) else False


def _falls_of_layers(rule: Mapping[str, Any]) -> Any:
    """The same of a rule, which has no measures to let fall each for itself."""
    found = _falls(rule, OWN)
    return False if isinstance(found, _FallTogether) else found


def whole(made: type[S], given: Any) -> S | None:
    """Settings of a mapping, if there is nothing wrong with them."""
    known = {name: given[name] for name in fields_of(made) if name in _mapping(given)}
    good = isinstance(given, Mapping) and not made.faults_of(known)
    return made(**known) if good else None


def _draft(made: type[S], given: Any) -> S | None:
    """The same, if there is nothing wrong with their times."""
    return made.draft_of(given) if isinstance(given, Mapping) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
