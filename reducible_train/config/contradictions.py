"""Mistakes that one key alone does not show, found in the plain values of a file.

They are looked for whatever the types of the other keys are, so that all mistakes can
be shown at once; a value of the wrong type is passed over here and told elsewhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from reducible_train.config.aids import KINDS, aid_faults
from reducible_train.config.models import BOUNDS, SearchSection
from reducible_train.config.problems import listed, shown
from reducible_train.config.reading import Place
from reducible_train.config.schedules import is_time, kind_of, time_defaults, timing_fault
from reducible_train.errors import ReducibleError
from reducible_train.settings.checkpoint_names import name_fault
from reducible_train.settings.checks import is_count, is_number
from reducible_train.settings.guard import percent_fault
from reducible_train.settings.rules import OWN
from reducible_train.settings.schedules import schedule_from_config
from reducible_train.settings.targets import SharedTarget, target_kinds

Found = Iterator[tuple[Place, str]]
TARGETS = target_kinds()
SEARCH_START: int = SearchSection().start_epoch


def contradictions(values: Any) -> Found:
    """Every contradiction in a configuration, as place and sentence."""
    compression = _mapping(_mapping(values).get("compression"))
    place: Place = ("compression",)
    if isinstance(_mapping(values).get("compression"), Mapping):
        yield from _one_quantity(compression, place)
        yield from _idle_options(compression, place)
        yield from _guard(compression, place)
        aids = _mapping(compression.get("aids"))
        for kind, fault in aid_faults(aids):
            where = (*place, "aids", kind)
            yield (*where, *_named(fault, _mapping(aids[kind]))), fault
        yield from _foresight(compression, place)
    yield from _percents(compression.get("guard"), (*place, "guard"), BOUNDS)
    stopping = _mapping(values).get("early_stopping")
    yield from _percents(stopping, ("early_stopping",), ("min_delta", "baseline"))
    if _mapping(values).get("backup") is not None:
        yield from _backup(compression)
    yield from _checkpoint(_mapping(_mapping(values).get("checkpoint")))
    yield from _one_cadence(compression.get("cadence"), (*place, "cadence"))
    yield from _rules(compression.get("rules"), (*place, "rules"))
    epochs = _mapping(_mapping(values).get("training")).get("epochs")
    every = _every(compression.get("cadence"))
    yield from _search_times(compression.get("search"), (*place, "search"), epochs)
    yield from _adaptive(compression, (*place, "cadence", "start"), epochs)
    begin = _begin(_start(compression), epochs)
    yield from _times_of_aids(
        compression, place, epochs if is_count(epochs) else None, every, begin
    )
    for name, target, where in _targets(compression, place):
        beyond = list(_range(name, target, where))
        yield from beyond
        yield from _times(target, where)
        yield from () if beyond else _retreat(name, target, where)
        if is_count(epochs):
            yield from _after_training(target, where, epochs, every, begin)


def _one_quantity(compression: Mapping[str, Any], place: Place) -> Found:
    given = _quantities(compression)
    alone = _start(compression) is not None and not given
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


def _guard(compression: Mapping[str, Any], place: Place) -> Found:
    guard = compression.get("guard")
    if compression.get("search") is not None and guard is None:
        yield (
            (*place, "search"),
            "a search needs a guard that tells what is good enough. Received: none."
            " Add guard: {monitor: val_accuracy, max_drop: 0.005}.",
        )
    if isinstance(guard, Mapping):
        given = [name for name in BOUNDS if guard.get(name) is not None]
        if len(given) != 1:
            came = listed(given, "and") if given else "neither"
            yield (
                (*place, "guard"),
                f"give exactly one of {listed(BOUNDS)}. Received: {came}. Such as max_drop: 0.005.",
            )


def _percents(section: Any, place: Place, names: tuple[str, ...]) -> Found:
    """Bounds in per cent on a metric that is a fraction; a mode of its own means its own scale."""
    monitor = _mapping(section).get("monitor")
    if not isinstance(monitor, str) or _mapping(section).get("mode", "auto") != "auto":
        return
    for name in names:
        fault = percent_fault(name, _mapping(section).get(name), monitor)
        if fault is not None:
            yield (*place, name), f"{name} {fault}"


def _foresight(compression: Mapping[str, Any], place: Place) -> Found:
    """An aid that looks ahead where nobody knows what coming cuts will ask for."""
    given = [name for name in ("guard", "search") if compression.get(name) is not None]
    goals = dict.fromkeys(name for name, _, _ in _targets(compression, place))
    given += [name for name in goals if not TARGETS[name].foreseeable]
    if _start(compression) is not None and not _quantities(compression):
        given.append("cadence.start alone")
    for kind in _aids(compression):
        if KINDS[kind].looks_ahead and given:
            yield (
                (*place, "aids", kind),
                f"{kind} must know what the schedule will ask for, so it takes a budget, a cost or"
                f" a rank, without guard or search. Received: {listed(given, 'and')}."
                f" Remove {kind}, or change the rest.",
            )


def _checkpoint(checkpoint: Mapping[str, Any]) -> Found:
    """A name that does not say what file is meant, or asks for what cannot be filled in."""
    name = checkpoint.get("filepath")
    if isinstance(name, str) and name:
        fault = name_fault(name, checkpoint.get("save_weights_only") is True)
        if fault is not None:
            yield ("checkpoint", "filepath"), f"{fault}. Received: {shown(name)}."


def _backup(compression: Mapping[str, Any]) -> Found:
    """What a training that is taken up again could not go on with."""
    lost = {
        "guard": "the state before the cut on trial",
        "cadence.start": "the stable ranks it has seen",
    }
    given = {"guard": compression.get("guard"), "cadence.start": _start(compression)}
    found = {name: lost[name] for name in lost if given[name] is not None}
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


def _search_times(search: Any, place: Place, epochs: Any) -> Found:
    """A search that would begin after it ends, or end after the training."""
    search = _mapping(search)
    start, end = search.get("start_epoch", SEARCH_START), search.get("end_epoch")
    if is_number(start) and is_number(end) and end < start:
        yield (
            (*place, "end_epoch"),
            f"must not be before start_epoch. Received: {shown(end)} before {shown(start)}."
            " Exchange or change them.",
        )
        return
    name, last = ("end_epoch", end) if is_number(end) else ("start_epoch", start)
    if search and is_count(epochs) and is_number(last) and last > epochs - 1:
        yield (
            (*place, name),
            f"the search must end before the training of {epochs} epochs does (training.epochs;"
            f" they count from 0). Received: {shown(last)}. Write {epochs - 1} or less, or train"
            f" for {math.floor(last) + 1} epochs or more.",
        )


def _adaptive(compression: Mapping[str, Any], place: Place, epochs: Any) -> Found:
    """Times of the wait for stable ranks that cannot be, or a search beside it."""
    if _start(compression) is not None and compression.get("search") is not None:
        yield (
            place,
            "a search chooses its own times. Received: start and search. Remove one of them.",
        )
    adaptive = _mapping(_start(compression))
    start, end = adaptive.get("start_epoch", 0), adaptive.get("end_epoch")
    if not is_number(end):
        return
    if is_number(start) and end < start:
        yield (
            (*place, "end_epoch"),
            f"must not be before start_epoch. Received: {shown(end)} before {shown(start)}."
            " Exchange or change them.",
        )
    elif is_count(epochs) and end > epochs - 1:
        yield (
            (*place, "end_epoch"),
            f"must be {epochs - 1} or less in a training of {epochs} epochs (training.epochs; they"
            f" count from 0). Received: {shown(end)}. Let it end earlier, or train for longer.",
        )


def _start(compression: Mapping[str, Any]) -> Any:
    """What cuts wait for, if it is given."""
    return _mapping(compression.get("cadence")).get("start")


def _begin(adaptive: Any, epochs: Any) -> float:
    """The epoch from which schedules count, at the latest."""
    if not isinstance(adaptive, Mapping) or not is_count(epochs):
        return 0.0
    start, end = adaptive.get("start_epoch", 0), adaptive.get("end_epoch")
    late = end if is_number(end) else max(epochs // 2, start if is_number(start) else 0)
    return float(min(late, epochs - 1))


def _one_cadence(cadence: Any, place: Place) -> Found:
    if not isinstance(cadence, Mapping):
        return
    given = [name for name in ("epochs", "steps") if cadence.get(name) is not None]
    if len(given) > 1 or (not given and cadence.get("start") is None):
        came = listed(given, "and") if given else "neither"
        yield place, f"give exactly one of epochs or steps. Received: {came}. Such as epochs: 1."


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
    given = [key for key, value in rule.items() if key != "match" and value is not None]
    if not given:
        yield here, "says nothing about the layers it matches. Add keep_dense, a rank or a limit."
    if rule.get("keep_dense") is True and len(given) > 1:
        others = [key for key in given if key != "keep_dense"]
        yield (
            (*here, "keep_dense"),
            f"a layer that stays dense has no rank. Received: keep_dense: true and"
            f" {listed(others, 'and')}. Keep one of the two.",
        )
    own = [name for name in OWN if rule.get(name) is not None]
    if len(own) > 1:
        came = listed(own, "and")
        yield here, f"give at most one of {listed(OWN)}. Received: {came}. Remove all but one."
    low, high = rule.get("min_rank"), rule.get("max_rank")
    if is_number(low) and is_number(high) and low > high:
        yield (
            (*here, "min_rank"),
            f"min_rank must not be above max_rank. Received: {shown(low)}"
            f" above {shown(high)}. Exchange or change them.",
        )


def _targets(compression: Mapping[str, Any], place: Place) -> Iterator[tuple[str, Any, Place]]:
    """Every target of the file: quantity, value, place."""
    for name in TARGETS:
        if compression.get(name) is not None:
            yield name, compression[name], (*place, name)
    rules = compression.get("rules")
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        for name in OWN:
            if isinstance(rule, Mapping) and rule.get(name) is not None:
                yield name, rule[name], (*place, "rules", index, name)


def _range(quantity: str, target: Any, place: Place) -> Found:
    """Values outside what the quantity can be."""
    for where, value in _numbers(target, place):
        name = where[-1] if isinstance(where[-1], str) else f"each of the {where[-2]}"
        misfit = TARGETS[quantity].misfit(value)
        if misfit is not None:
            yield (
                where,
                f"{name} must be {misfit.wanted}. Received: {shown(value)}.{misfit.advice}",
            )


def _numbers(target: Any, place: Place) -> Iterator[tuple[Place, float]]:
    """The values (not the times) a target is made of, finite ones only."""
    if is_number(target):
        yield place, target
    elif isinstance(target, Mapping):
        for key, inner in target.items():
            if isinstance(key, str) and not is_time(key):
                yield from _numbers(inner, (*place, key))
    elif isinstance(target, list):
        for index, inner in enumerate(target):
            yield from _numbers(inner, (*place, index))


def _times(target: Any, place: Place) -> Found:
    """Times of a schedule that cannot be, its inner schedules first."""
    if isinstance(target, list):
        for index, inner in enumerate(target):
            yield from _times(inner, (*place, index))
    if not isinstance(target, Mapping):
        return
    for key, inner in target.items():
        if isinstance(inner, list | Mapping):
            yield from _times(inner, (*place, key))
    fault = timing_fault(target)
    if fault is not None:
        yield (*place, *_named(fault, target)), fault


def _retreat(quantity: str, target: Any, place: Place) -> Found:
    """A schedule that asks for ranks to rise again."""
    if kind_of(target) is None:
        return
    try:
        fault = TARGETS[quantity].retreat_fault(schedule_from_config(_as_config(target)))
    except (ReducibleError, TypeError, ValueError, KeyError):  # told elsewhere
        return
    if fault is not None:
        yield place, f"the schedule {fault}"


def _as_config(target: Any) -> Any:
    """A schedule as `Schedule.get_config` writes it."""
    if isinstance(target, list):
        return [_as_config(item) for item in target]
    if not isinstance(target, Mapping):
        return target
    return {
        "kind" if key == "schedule" else key: _as_config(value) for key, value in target.items()
    }


def _named(fault: str, target: Mapping[str, Any]) -> Place:
    """The argument, with its index if it has one, that a schedule's error names first."""
    for name, index in re.findall(r"`(\w+)(?:\[(\d+)\])?`", fault):
        if name in target:
            return (name, int(index)) if index else (name,)
    return ()


def _after_training(
    target: Any, place: Place, epochs: int, every: int | None, begin: float
) -> Found:
    """A schedule whose last value no cut of the training would bring about."""
    times = list(_all_times(target, place, begin))
    if not times:
        return
    where, end = max(times, key=lambda item: item[1])
    fault = _too_late(end, epochs, every)
    if fault is not None:
        yield where, f"the schedule ends {fault}"


def _times_of_aids(
    compression: Mapping[str, Any],
    place: Place,
    epochs: int | None,
    every: int | None,
    begin: float,
) -> Found:
    """An aid that changes ranks, and never would, or still does after the last cut."""
    aids, ends = _mapping(compression.get("aids")), [0.0]
    for _, target, where in _targets(compression, place):
        times = [time for _, time in _all_times(target, where, begin)]
        if isinstance(target, (Mapping, list)) and not times:
            return  # no schedule that anything could be told of
        ends += times
    for kind in _aids(compression):
        if not isinstance(aids[kind], Mapping):
            continue
        try:
            aid = KINDS[kind](**aids[kind])
        except (ReducibleError, TypeError):  # told elsewhere
            continue
        try:
            end = aid.rests_from(max(ends))
        except ReducibleError as error:
            yield (*place, "aids", kind), str(error)
            continue
        fault = None if epochs is None else _too_late(end, epochs, every)
        if fault is not None and end > max(ends):  # else the schedule's own fault
            yield (*place, "aids", kind), f"{kind} ends {fault}"


def _too_late(end: float, epochs: int, every: int | None) -> str | None:
    """The sentence about what ends after the last cut; `None` if it does not."""
    last_cut = epochs if every is None else (epochs - 1) // every * every
    if end < last_cut or (every is not None and end == last_cut):
        return None
    return (
        f"at epoch {end:g}, after the last cut of a training of {epochs} epochs (training.epochs;"
        " they count from 0), so the final value of the schedule would never be reached."
        f" Received: {end:g}. End it"
        + (f" at epoch {last_cut} or before" if every else f" before epoch {last_cut}")
        + f", or train for {math.floor(end) + (every or 1)} epochs or more."
    )


def _every(cadence: Any) -> int | None:
    """Epochs between cuts; `None` if the cadence is in steps."""
    cadence = _mapping(cadence)
    if cadence.get("steps") is not None:
        return None
    epochs = cadence.get("epochs")
    return epochs if is_count(epochs) else 1


def _all_times(target: Any, place: Place, offset: float = 0.0) -> Iterator[tuple[Place, float]]:
    """Every time in a schedule, defaults included, counted from the start of training."""
    kind = kind_of(target)
    if kind is None:
        return
    for name, value in (time_defaults(kind) | target).items():
        if is_time(name):
            where = (*place, name) if name in target else place
            times = value if isinstance(value, list) else [value]
            yield from ((where, offset + time) for time in times if is_number(time))
    boundaries = target.get("boundaries")
    starts = [0, *boundaries] if isinstance(boundaries, list) else [0]
    inner = target.get("schedules")
    for index, schedule in enumerate(inner if isinstance(inner, list) else ()):
        start = starts[index] if index < len(starts) and is_number(starts[index]) else 0
        yield from _all_times(schedule, (*place, "schedules", index), offset + start)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
