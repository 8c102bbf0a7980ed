"""From pydantic's errors to sentences that say where, what came, and the way out."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from reducible_train.config.kinds import known_measures, known_schedules, lacking
from reducible_train.config.reading import Place
from reducible_train.config.schedules import NO_MEASURE
from reducible_train.config.sections import Section, SeveralSection, sections_in
from reducible_train.errors import ArgumentError
from reducible_train.settings.checks import is_number, percent_advice
from reducible_train.settings.fields import Number, fields_of, kind_of

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60

_MOVED = {  # keys of `compression` that have another place
    "adaptive": " It is cadence: {start: {...}}.",
    "min_gain": " It belongs to rules: [{match: '*', min_gain: ...}], after all others.",
    "input_shape": " It belongs to the measure: {name: flops, input_shape: ...}.",
}


_COMPILED = (("training", "loss"), ("training", "metrics"))  # names of what may take arguments
_ADDED: Mapping[Place, str] = {  # what to write for a section that is missing
    ("compression",): " Add for example compression: {budget: 0.25}.",
}
_OUT_OF_RANGE = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
_SECTIONS = ("compression", "training")  # whose keys are looked for where they are unknown


def shown(value: Any) -> str:
    """A value as an error quotes it: as in YAML, and short.

    >>> shown(True), shown(None), shown("adam"), shown(0.5)
    ('true', 'nothing', "'adam'", '0.5')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "nothing"
    return _short.repr(value)


def nearest(word: str, known: Iterable[str]) -> str:
    """`" Did you mean 'final'?"` where a known word is close, else nothing.

    >>> nearest("finl", ["initial", "final"])
    " Did you mean 'final'?"
    >>> nearest("lr", ["learning_rate", "loss"])
    " Did you mean 'learning_rate'?"
    >>> nearest("Ramp", ["join", "ramp"])
    " Did you mean 'ramp'?"
    """
    words = list(known)
    alike = {each.lower(): each for each in words}
    found = difflib.get_close_matches(word.lower(), alike, n=1, cutoff=0.6)
    close = [alike[each] for each in found]
    close += [each for each in words if word == "".join(part[:1] for part in each.split("_"))]
    return f" Did you mean {close[0]!r}?" if close else ""


def listed(words: Iterable[str], last: str = "or") -> str:
    """Words in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b or c'
    """
    *head, tail = words
    return f"{', '.join(head)} {last} {tail}" if head else tail


def explain(
    error: ErrorDetails, root: type[BaseModel], words: Mapping[Place, str] | None = None
) -> tuple[Place, str]:
    """The place in the file and the sentence for one of pydantic's errors.

    Args:
        error: The error.
        root: The model of the whole file.
        words: What the file says at places of single values, as it stands there.
    """
    location = error["loc"]
    if error["type"] == "invalid_key":
        location = (*location[:-1], str(location[-1]))
    place = tuple(part for part in location if not _is_tag(part))
    kind, value, limits = error["type"], error["input"], error.get("ctx", {})
    name = str(place[-1]) if place else "the file"
    if isinstance(place[-1] if place else None, int):
        name = "this item"
    if kind == "union_tag_not_found":
        return _not_a_target(place, value)
    if kind == "union_tag_invalid":
        return _not_a_measure(place, value)
    if kind == "missing":
        about = _about(_models_at(root, location[:-1]), name)
        return place, f"{name} is missing. It is needed here: {about}{_ADDED.get(place, '')}"
    if kind in ("extra_forbidden", "invalid_key"):
        if told := _lacking_here(_models_at(root, location[:-1]), place):
            return place, told
        known = sorted({key for model in _models_at(root, location[:-1]) for key in _keys(model)})
        moved = _MOVED.get(name) if location[:-1] == ("compression",) else None
        if len(location) <= 2:
            moved = moved or _belonging(root, name)
        advice = moved or nearest(name, known) or " Remove it or correct it."
        return place, f"unknown key {name!r}.{advice} Known here: {', '.join(known)}."
    if kind == NO_MEASURE:
        return place, (
            f"{name} must name a measure at least. Received: none. Write {listed(known_measures())}"
            " below it, with what it shall be."
        )
    if kind == "literal_error":
        if name == "measure" and (told := lacking("measure", value)):
            return place, told
        wanted = str(limits["expected"])
        advice = nearest(str(value), wanted.replace("'", "").replace(" or ", ", ").split(", "))
        return place, f"{name} must be {wanted}. Received: {shown(value)}.{advice}"
    wanted, advice = _expected(kind, value, limits, place)
    written = None if words is None or value is None else words.get(place)
    if kind == "string_type" and written is not None:
        advice = f" Write {written!r} in quotes."
    if kind in _OUT_OF_RANGE:
        advice = _declared_advice(_models_at(root, location[:-1]), name) or advice
    if not wanted:
        return place, f"{name} cannot be used: {error['msg']}. Received: {shown(value)}."
    return place, f"{name} must be {wanted}. Received: {shown(value)}.{advice}"


def _lacking_here(models: Sequence[type[BaseModel]], place: Place) -> str | None:
    """What a kind lacks whose name would be a key of a section, were it whole."""
    if place[-2:-1] == ("aids",):
        return lacking("aid", place[-1])
    of_several = any(issubclass(model, SeveralSection) for model in models)
    return lacking("measure", place[-1]) if of_several else None


def _expected(kind: str, value: Any, limits: Mapping[str, Any], place: Place) -> tuple[str, str]:
    """What was wanted, and the way out, for the plain kinds of error."""
    if kind in ("int_type", "int_from_float", "float_type"):
        wanted = "a number" if kind == "float_type" else "a whole number"
        return wanted, _number_advice(value)
    if kind == "string_type":
        if value is None:
            return "text", ""
        if isinstance(value, Mapping | list) and place[:2] in _COMPILED:
            return "text", " Write a name alone: what takes arguments is compiled into the model."
        if isinstance(value, Mapping | list):
            return "text", " Write one alone, without brackets, dashes and keys."
        return "text", f" Write {str(value)!r} in quotes."
    return {
        "bool_type": ("true or false", _truth_advice(value)),
        "list_type": ("a list", " Begin every item with '- ', or write [first, second]."),
        "dict_type": ("a mapping of keys to values", " Write 'key: value' lines below it."),
        "model_type": ("a mapping of keys to values", " Write 'key: value' lines below it."),
        "string_too_short": ("text that is not empty", ""),
        "finite_number": ("a finite number", ""),
        "greater_than": (f"greater than {limits.get('gt')}", ""),
        "greater_than_equal": (f"at least {limits.get('ge')}", ""),
        "less_than": (f"less than {limits.get('lt')}", _percent(value, limits.get("lt"))),
        "less_than_equal": (f"at most {limits.get('le')}", _percent(value, limits.get("le"))),
    }.get(kind, ("", ""))


def _declared_advice(models: Iterable[type[Section]], name: str) -> str:
    """What the declaration of an option says to write where its range does not tell."""
    options = (fields_of(model.made).get(name) for model in models if model.made is not None)
    known = (kind_of(option) for option in options if option is not None)
    told = (kind.advice for kind in known if isinstance(kind, Number))
    return next((f" {advice}" for advice in told if advice), "")


def _percent(value: Any, limit: Any) -> str:
    """What to write instead where a fraction came in per cent."""
    return percent_advice(value) if limit == 1 and is_number(value) else ""


def _number_advice(value: Any) -> str:
    if isinstance(value, bool):
        return " true and false are not numbers."
    if isinstance(value, float) and value.is_integer():
        return f" Write {value:.0f}."
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            if re.fullmatch(r"[-+]?\d+(:\d+)+", value):
                return " Times are counted in epochs or steps."
            percent = value.strip().removesuffix("%").strip()
            if value.strip().endswith("%") and percent.replace(".", "", 1).isdigit():
                return f" For {percent} % write {float(percent) / 100:g}."
        else:
            plain = value.replace("_", "")
            return f" Write {plain}, without '_'." if plain != value else " Remove the quotes."
    return ""


def _truth_advice(value: Any) -> str:
    """The words of YAML 1.1 are text in YAML 1.2."""
    word = str(value).lower()
    meant = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
    return f" Write {meant[word]}." if word in meant else ""


def _not_a_target(place: Place, value: Any) -> tuple[Place, str]:
    kinds = listed(known_schedules())
    name = str(place[-1]) if isinstance(place[-1], str) else "this item"
    if not isinstance(value, Mapping):
        return place, (
            f"{name} must be a number or a schedule. Received: {shown(value)}."
            f"{_number_advice(value)} A schedule is a mapping with the key 'schedule': {kinds}."
        )
    if "schedule" not in value:
        misspelt = [key for key in value if isinstance(key, str) and nearest(key, ["schedule"])]
        advice = f" Did you mean 'schedule' by {misspelt[0]!r}?" if misspelt else ""
        return place, (
            f"{name} is a mapping without the key 'schedule', which must be {kinds}."
            f" Received the keys: {', '.join(map(str, value)) or 'none'}.{advice}"
        )
    kind = value["schedule"]
    if told := lacking("schedule", kind):
        return (*place, "schedule"), told
    return (*place, "schedule"), (
        f"schedule must be {kinds}. Received: {shown(kind)}.{nearest(str(kind), known_schedules())}"
    )


def _not_a_measure(place: Place, value: Any) -> tuple[Place, str]:
    kinds = listed(known_measures())
    if not isinstance(value, Mapping):
        return place, (
            f"a measure must be {kinds}, or a mapping with its 'name' and options."
            f" Received: {shown(value)}. Write for example {{name: latency, batch_size: 1}}."
        )
    if "name" not in value:
        return place, (
            f"{place[-1]} is a mapping without the key 'name', which must be {kinds}."
            f" Received the keys: {', '.join(map(str, value)) or 'none'}. Add it."
        )
    kind = value["name"]
    if told := lacking("measure", kind):
        return (*place, "name"), told
    advice = nearest(str(kind), known_measures()) or " Name one of them."
    return (*place, "name"), f"name must be {kinds}. Received: {shown(kind)}.{advice}"


def _has_defaults(section: type[Section]) -> bool:
    """True for a section that may be written without a key."""
    if section.made is None:
        return False
    try:
        return section.made() is not None
    except (ArgumentError, TypeError):
        return False


def nothing_in(root: type[BaseModel], place: Place) -> str | None:
    """What is wrong with a section that has no keys; `None` for a key that takes none."""
    models, name = _models_at(root, place[:-1]), place[-1]
    held = [each.model_fields[name] for each in models if name in each.model_fields]
    sections = [each for item in held for each in sections_in(item.annotation)]
    if not sections:
        return None
    is_one_of = any({"required": [name]} in each.one_of for each in models)
    needs_keys = is_one_of or not all(map(_has_defaults, sections))
    usual = "" if needs_keys else f" Write '{name}: {{}}' for its defaults."
    return (
        f"{name} is empty, which is as if it were not there. Received: nothing. Write what belongs "
        f"to it, or remove it.{usual}"
    )


def _is_tag(part: int | str) -> bool:
    return isinstance(part, str) and part.startswith("<") and part.endswith(">")


def _keys(model: type[BaseModel]) -> Iterable[str]:
    return model.model_fields


def _belonging(root: type[BaseModel], name: str) -> str:
    """Where a key belongs that is unknown where it came; nothing if it is known nowhere."""
    if name in _keys(root):
        return " It belongs to the top of the file, not indented."
    for section in _SECTIONS:
        if any(name in _keys(each) for each in _models_at(root, (section,))):
            return f" It belongs to {section!r}, indented below it."
    return ""


def _about(models: Iterable[type[BaseModel]], name: str) -> str:
    texts = [m.model_fields[name].description for m in models if name in m.model_fields]
    return next((text for text in texts if text), "see the schema.")


def _models_at(root: type[BaseModel], location: Place) -> list[type[Section]]:
    """The sections that pydantic looked into at a location."""
    models: list[type[Section]] = list(sections_in(root))
    for part in location:
        if isinstance(part, int):
            continue
        if _is_tag(part):
            models = [model for model in models if model.tag == part] or models
            continue
        held = [model.model_fields[part] for model in models if part in model.model_fields]
        models = [found for item in held for found in sections_in(item.annotation)]
    return models
