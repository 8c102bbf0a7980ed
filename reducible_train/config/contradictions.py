"""Mistakes that only a whole file shows, found in its plain values.

They are looked for whatever the types of the other keys are, so that all mistakes can
be shown at once; a value of the wrong type is passed over here and told elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reducible_train.config.aids import KINDS
from reducible_train.config.faults import settings_faults, training_faults
from reducible_train.config.models import ConfigModel
from reducible_train.config.problems import listed, shown
from reducible_train.config.reading import Place
from reducible_train.settings.targets import SharedTarget, target_kinds

Found = Iterator[tuple[Place, str]]
TARGETS = target_kinds()


def contradictions(values: Any) -> Found:
    """Every contradiction in a configuration, as place and sentence."""
    yield from settings_faults(ConfigModel, values)
    compression = _mapping(values).get("compression")
    if not isinstance(compression, Mapping):
        return
    place: Place = ("compression",)
    yield from training_faults(
        compression, _mapping(_mapping(values).get("training")).get("epochs")
    )
    yield from _one_quantity(compression, place)
    yield from _idle_options(compression, place)
    yield from _search(compression, place)
    yield from _foresight(compression, place)
    yield from _rules(compression.get("rules"), (*place, "rules"))
    if _mapping(values).get("backup") is not None:
        yield from _backup(compression)


def _one_quantity(compression: Mapping[str, Any], place: Place) -> Found:
    given = _quantities(compression)
    alone = compression.get("adaptive") is not None and not given
    if len(given) == 1 or alone:
        return
    came = listed(given, "and") if given else "none of them"
    advice = "Keep one and remove the rest." if given else "Add one, such as budget: 0.5."
    yield (
        place,
        f"give exactly one of {listed((*TARGETS, 'search'))}. Received: {came}. {advice}",
    )


def _idle_options(compression: Mapping[str, Any], place: Place) -> Found:
    asked = compression.get("criterion") not in (None, "frobenius") or any(
        KINDS[kind].needs for kind in _aids(compression)
    )
    if compression.get("calibration") is not None and not asked:
        yield (
            (*place, "calibration"),
            "calibration has a meaning only for a criterion or an aid that looks at data. Received:"
            f" {shown(compression['calibration'])}. Remove it, or add criterion: activation, or"
            " regrow to the aids.",
        )
    shared = (name for name, kind in TARGETS.items() if issubclass(kind, SharedTarget))
    if any(compression.get(name) is not None for name in (*shared, "search")):
        return
    for name in ("measure", "allocation"):
        if compression.get(name) is not None:
            yield (
                (*place, name),
                f"{name} has a meaning only for a budget, and none is given."
                f" Received: {shown(compression[name])}. Remove it, or give a budget.",
            )


def _search(compression: Mapping[str, Any], place: Place) -> Found:
    if compression.get("search") is None:
        return
    if compression.get("guard") is None:
        yield (
            (*place, "search"),
            "a search needs a guard that tells what is good enough. Received: none."
            " Add guard: {monitor: val_accuracy, max_drop: 0.005}.",
        )
    if compression.get("adaptive") is not None:
        yield (
            (*place, "adaptive"),
            "a search chooses its own times. Received: adaptive and search. Remove one of them.",
        )


def _foresight(compression: Mapping[str, Any], place: Place) -> Found:
    """An aid that looks ahead where nobody knows what coming cuts will ask for."""
    given = [name for name in ("guard", "search") if compression.get(name) is not None]
    rules = compression.get("rules")
    sections = [compression, *map(_mapping, rules if isinstance(rules, list) else ())]
    goals = dict.fromkeys(n for each in sections for n in TARGETS if each.get(n) is not None)
    given += [name for name in goals if not TARGETS[name].foreseeable]
    if compression.get("adaptive") is not None and not _quantities(compression):
        given.append("adaptive alone")
    for kind in _aids(compression):
        if _mapping(compression["aids"])[kind] is None:
            words = f"{kind} says nothing. Write '{kind}: {{}}' to take it as it is."
            yield (*place, "aids", kind), words
        if KINDS[kind].looks_ahead and given:
            yield (
                (*place, "aids", kind),
                f"{kind} must know what the schedule will ask for, so it takes a budget, a cost or"
                f" a rank, without guard or search. Received: {listed(given, 'and')}."
                f" Remove {kind}, or change the rest.",
            )


def _backup(compression: Mapping[str, Any]) -> Found:
    """What a training that is taken up again could not go on with."""
    lost = {
        "guard": "the state before the cut on trial",
        "adaptive": "the stable ranks it has seen",
    }
    found = {name: lost[name] for name in lost if compression.get(name) is not None}
    found |= {kind: "the state it is in" for kind in _aids(compression) if not KINDS[kind].resumes}
    for name, what in found.items():
        yield (
            ("backup",),
            f"a training with {name} cannot be backed up: {what} would be lost. Received: both."
            f" Remove the backup, or {name}.",
        )


def _aids(compression: Mapping[str, Any]) -> list[str]:
    """The known kinds of aid that are asked for."""
    return [kind for kind in _mapping(compression.get("aids")) if kind in KINDS]


def _quantities(compression: Mapping[str, Any]) -> list[str]:
    """What of the model shall fall, a search included: one, if all is well."""
    return [name for name in (*TARGETS, "search") if compression.get(name) is not None]


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
                    f"is never reached: {place_of(place, first[earlier])} matches {earlier!r}"
                    f" before it, and the first match applies. Received: {pattern!r}."
                    " Put the narrower rule first, or join the two.",
                )
                break
        if isinstance(pattern, str):
            first.setdefault(pattern, index)


def place_of(place: Place, index: int) -> str:
    """How a sentence names another item of the same list."""
    return f"{place[-1]}[{index}]"


def _rule(rule: Mapping[str, Any], here: Place) -> Found:
    if all(key == "match" or value is None for key, value in rule.items()):
        yield here, "says nothing about the layers it matches. Add keep_dense, a rank or a limit."


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
