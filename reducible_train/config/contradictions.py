"""Mistakes that only a whole file shows, found in its plain values.

They are looked for whatever the types of the other keys are, so that all mistakes can
be shown at once; a value of the wrong type is passed over here and told elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reducible_train.config.faults import placed, settings_faults, training_faults, whole
from reducible_train.config.kinds import known_aids, known_measures
from reducible_train.config.models import config_model
from reducible_train.config.problems import shown
from reducible_train.config.reading import Place
from reducible_train.config.schedules import as_config
from reducible_train.settings.agreement import (
    ONE_MEASURE,
    analysis_fault,
    disagreements,
    measure_faults,
    multiple_faults,
    penalty_faults,
    resume_faults,
    sharing_faults,
)
from reducible_train.settings.base import Settings
from reducible_train.settings.checks import is_count
from reducible_train.settings.faults import Fault
from reducible_train.settings.fields import fields_of
from reducible_train.settings.guard import Guard
from reducible_train.settings.measures import needed_options
from reducible_train.settings.rules import LayerRule
from reducible_train.settings.targets import (
    SharedTarget,
    StableRank,
    choice_faults,
    goal_faults,
    target,
    target_kinds,
)
from reducible_train.settings.targets.several import is_several

Found = Iterator[tuple[Place, str]]


def contradictions(values: Any) -> Found:
    """Every contradiction in a configuration, as place and sentence."""
    yield from settings_faults(config_model(), values)
    compression = _mapping(values).get("compression")
    if not isinstance(compression, Mapping):
        return
    place: Place = ("compression",)
    yield from training_faults(
        compression, _mapping(_mapping(values).get("training")).get("epochs")
    )
    yield from _one_quantity(compression, place)
    yield from _idle_options(compression, place)
    yield from placed(_of_analysis(compression), place)
    yield from placed(_of_multiples(compression), place)
    yield from placed(_of_several(compression), place)
    yield from _idle_aids(compression, place)
    for where, fault in _disagreements(compression, values.get("backup")):
        yield from placed([fault], where)
    yield from _rules(compression.get("rules"), (*place, "rules"))


def _one_quantity(compression: Mapping[str, Any], place: Place) -> Found:
    given = _quantities(compression)
    if given or _start(compression) is None:
        yield from placed(choice_faults(given, _choices()), place)


def _idle_options(compression: Mapping[str, Any], place: Place) -> Found:
    asked = compression.get("criterion") != "frobenius" or any(
        known_aids()[kind].needs for kind in _aids(compression)
    )
    if compression.get("calibration") is not None and not asked:
        yield (
            (*place, "calibration"),
            "calibration has a meaning only for a criterion or an aid that looks at data. Received:"
            f" {shown(compression['calibration'])}. Remove it, or add criterion: activation, or"
            " regrow to the aids.",
        )
    shared = (name for name, kind in target_kinds().items() if issubclass(kind, SharedTarget))
    if any(compression.get(name) is not None for name in (*shared, "search")):
        return
    for name in ("measure", "allocation"):
        if compression.get(name) is not None:
            yield (
                (*place, name),
                f"{name} has a meaning only for a budget, and none is given."
                f" Received: {shown(compression[name])}. Remove it, or give a budget.",
            )


def _of_analysis(compression: Mapping[str, Any]) -> list[Fault]:
    """What a criterion has against an analysis, or against what is not shared by one."""
    criterion = compression.get("criterion") or "auto"
    fault = analysis_fault(criterion, compression.get("analysis"))
    quantities = _quantities(compression)
    shares = any(
        name == "search" or issubclass(target_kinds()[name], SharedTarget) for name in quantities
    )
    found = sharing_faults(
        criterion,
        " and ".join(quantities) or "none",
        shares=shares or not (quantities or _start(compression)),  # of none, more is said elsewhere
        allocation=compression.get("allocation") or "auto",
    )
    return [*([] if fault is None else [fault]), *found]


def _of_multiples(compression: Mapping[str, Any]) -> list[Fault]:
    """What ranks, of rules too, have against multiples of a number, where both are good."""
    given, rules = compression.get("multiple"), compression.get("rules")
    multiple = 1 if given is None else given
    if not is_count(multiple):
        return []
    asked = as_config(compression.get("rank"))
    mine = target("budget", 1.0)  # in the place of all that asks for no ranks
    if asked is not None and not goal_faults("rank", asked):
        mine = target("rank", asked)
    layers = [
        whole(LayerRule, as_config(rule)) or LayerRule("*")
        for rule in (rules if isinstance(rules, list) else ())
    ]
    return list(multiple_faults(mine, layers, multiple))


def _of_several(compression: Mapping[str, Any]) -> list[Fault]:
    """What a measure has against several budgets, or a list of them against one."""
    given = compression.get("measure")
    rows = given if isinstance(given, list) else [] if given is None else [given]
    several = {
        name: as_config(compression.get(name))
        for name, kind in target_kinds().items()
        if issubclass(kind, SharedTarget) and is_several(as_config(compression.get(name)))
    }
    if several:
        ((name, asked), *_) = several.items()
        if not all(isinstance(key, str) for key in asked):
            return []  # told at their places
        made = [_measure(each) for each in rows]
        return list(measure_faults(name, list(asked), [each for each in made if each is not None]))
    if not isinstance(given, list):
        kind = known_measures().get(given) if isinstance(given, str) else None
        needed = None if kind is None else needed_options(kind)
        return [] if needed is None else [Fault(("measure",), needed)]
    return [Fault(("measure",), ONE_MEASURE.format(f"a list of {len(rows)}"))]


def _measure(given: Any) -> Any:
    """A measure of a file: its name, or with options; `None` if something is wrong with it."""
    if not isinstance(given, Mapping):
        return given
    kind = known_measures().get(str(given.get("name")))
    options = {name: value for name, value in given.items() if name != "name"}
    return None if kind is None else _made(kind, options)


def _made(kind: type[Settings], options: Any) -> Any:
    """The settings of a section; `None` if there is none, or something is wrong with it."""
    known = isinstance(options, Mapping) and options.keys() <= fields_of(kind).keys()
    return kind(**options) if known and not kind.faults_of(options) else None


def _disagreements(compression: Mapping[str, Any], backup: Any) -> Iterator[tuple[Place, Fault]]:
    """What settings have against each other, and what a backup could not bring back."""
    rules = compression.get("rules")
    sections = [compression, *map(_mapping, rules if isinstance(rules, list) else ())]
    targets = [
        kind
        for each in sections
        for name, kind in target_kinds().items()
        if each.get(name) is not None
    ]
    guard, start = compression.get("guard"), _start(compression)
    if start is not None and not _quantities(compression):
        targets.append(StableRank)
    aids = [known_aids()[kind] for kind in _aids(compression)]
    search = compression.get("search")
    for fault in disagreements(targets, aids, guard=guard, search=search, start=start):
        yield ("compression",), fault
    made = [_made(known_aids()[kind], compression["aids"][kind]) for kind in _aids(compression)]
    yield from (
        (("compression",), fault)
        for fault in penalty_faults([each for each in made if each], _made(Guard, guard))
    )
    if backup is not None:
        yield from ((("backup",), f) for f in resume_faults(aids, guard=guard, start=start))


def _idle_aids(compression: Mapping[str, Any], place: Place) -> Found:
    for kind in _aids(compression):
        if compression["aids"][kind] is None:
            words = f"{kind} says nothing. Write '{kind}: {{}}' to take it as it is."
            yield (*place, "aids", kind), words


def _start(compression: Mapping[str, Any]) -> Any:
    """What cuts wait for, if it is given."""
    return _mapping(compression.get("cadence")).get("start")


def _aids(compression: Mapping[str, Any]) -> list[str]:
    """The known kinds of aid that are asked for."""
    return [kind for kind in _mapping(compression.get("aids")) if kind in known_aids()]


def _quantities(compression: Mapping[str, Any]) -> list[str]:
    """What of the model shall fall, a search included: one, if all is well."""
    return [name for name in _choices() if compression.get(name) is not None]


def _choices() -> tuple[str, ...]:
    """What of the model may fall, a search included."""
    return (*target_kinds(), "search")


def _rules(rules: Any, place: Place) -> Found:
    first: dict[str, int] = {}
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        if not isinstance(rule, Mapping):
            continue
        here = (*place, index)
        yield from _rule(rule, here)
        pattern = rule.get("match")
        for earlier in (pattern, "*"):
            if isinstance(pattern, str) and earlier in first:
                yield (
                    (*here, "match"),
                    f"is never reached: {place[-1]}[{first[earlier]}] matches {earlier!r}"
                    f" before it, and the first match applies. Received: {pattern!r}."
                    " Put the narrower rule first, or join the two.",
                )
                break
        if isinstance(pattern, str):
            first.setdefault(pattern, index)


def _rule(rule: Mapping[str, Any], here: Place) -> Found:
    if all(key == "match" or value is None for key, value in rule.items()):
        yield here, "says nothing about the layers it matches. Add keep_dense, a rank or a limit."


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
