"""Settings are declared once: constructors, YAML, schema and help say the same. No TensorFlow."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import ValidationError

from reducible_train import (
    ArgumentError,
    ArgumentTypeError,
    ConfigError,
    Guard,
    PiecewiseConstant,
    Ramp,
)
from reducible_train.config import parse_config
from reducible_train.config.faults import placed
from reducible_train.config.problems import explain
from reducible_train.config.schedules import as_config, target_forms
from reducible_train.config.sections import built, section_of
from reducible_train.settings.adaptive import Adaptive
from reducible_train.settings.aids import Regrow, TailShrink, aid_kinds
from reducible_train.settings.base import Settings, together
from reducible_train.settings.cadence import Cadence
from reducible_train.settings.callbacks import (
    BackupSettings,
    CheckpointSettings,
    EarlyStoppingSettings,
    TensorBoardSettings,
)
from reducible_train.settings.checks import PART
from reducible_train.settings.compression import CompressionSettings, compression_settings
from reducible_train.settings.faults import Fault
from reducible_train.settings.fields import Count, Number, Text, fields_of, help_of, option
from reducible_train.settings.measures import Flops, measure_kinds
from reducible_train.settings.objectives import QualityAtSize, SizeAtQuality
from reducible_train.settings.rules import LayerRule
from reducible_train.settings.schedules import Constant, schedule_kinds
from reducible_train.settings.search import Search
from reducible_train.settings.search_space import SearchSpace
from reducible_train.settings.targets import target
from reducible_train.settings.timing import (
    guard_faults,
    timing_faults,
    unannounced_faults,
    unannounced_note,
)

ROOT = Path(__file__).resolve().parents[2]
ENOUGH = {  # what must be given, as plain values
    Guard: {"max_drop": 0.1},
    Search: {},
    Adaptive: {},
    Cadence: {"epochs": 2},
    LayerRule: {"match": "a"},
    EarlyStoppingSettings: {},
    CheckpointSettings: {"filepath": "best.keras"},
    BackupSettings: {"backup_dir": "kept"},
    TensorBoardSettings: {"log_dir": "logs"},
    SearchSpace: {},
    SizeAtQuality: {"max_drop": 0.1},
    QualityAtSize: {"monitor": "val_accuracy", "limit": 0.5},
    **{made: {} for made in measure_kinds().values()},
    **{made: {"steps": 3} if name == "rewarm" else {} for name, made in aid_kinds().items()},
    schedule_kinds()["constant"]: {"value": 0.5},
    schedule_kinds()["ramp"]: {"initial": 1.0, "final": 0.5},
    schedule_kinds()["piecewise_constant"]: {"values": [1.0, 0.5], "start_epochs": [0, 2]},
    schedule_kinds()["join"]: {"schedules": [1.0, 0.5], "boundaries": [2]},
}
TRIED = [
    None,
    True,
    -1,
    0,
    0.5,
    1,
    3,
    2.5,
    1e9,
    10**400,
    float("nan"),
    "auto",
    "x",
    "",
    "5",
    [],
    {},
]
TRIED += [[0, 1], [1.0, 0.5], [[1]], {"kind": "rmap"}, {"kind": "constant", "value": 2}]
OPTIONS = [(made, name) for made in ENOUGH for name in fields_of(made)]


def every(settings=Settings):
    for made in settings.__subclasses__():
        yield made
        yield from every(made)


def faults_in_yaml(made, values) -> set[tuple]:
    """Where a file with these values has faults, told by either of the two who look for them."""
    section = section_of(made)
    forms = target_forms(schedule_kinds().items(), measure_kinds().items())
    section.model_rebuild(_types_namespace={"Target": forms.alone})
    found = {place for place, _ in placed(made.faults_of(values), ())}
    tops = {place[:1] for place in found}
    try:
        section.model_validate(as_yaml(values))
    except ValidationError as error:
        shapeless = {explain(each, section)[0] for each in error.errors()}
        assert {place[:1] for place in shapeless} <= tops, (values, shapeless)
        found |= shapeless
    return found


def as_yaml(values):
    if isinstance(values, list):
        return [as_yaml(each) for each in values]
    if isinstance(values, dict):
        return {"schedule" if k == "kind" else k: as_yaml(v) for k, v in values.items()}
    return values


# --- one declaration -------------------------------------------------------------------


def test_every_settings_class_is_among_those_tried():
    abstract = {"Schedule", "Aid", "Measure", "CountedMeasure", "TabulatedMeasure", "ShapedMeasure"}
    whole = {CompressionSettings}  # whose options are tried below
    ours = {each for each in every() if each.__module__.startswith("reducible_train.")} - whole
    assert {made.__name__ for made in ours - set(ENOUGH)} == abstract


@pytest.mark.parametrize("made", ENOUGH, ids=lambda made: made.__name__)
def test_what_must_be_given_is_enough_and_everything_says_what_it_is(made):
    assert made.faults_of(ENOUGH[made]) == made(**ENOUGH[made]).faults() == []
    assert not faults_in_yaml(made, ENOUGH[made])
    assert made.help.endswith(".")
    for name, item in fields_of(made).items():
        assert item.metadata["help"].endswith("."), name
        assert f"\n    {name}: " in made.__doc__, name


@pytest.mark.parametrize(
    ("made", "name"), OPTIONS, ids=lambda each: getattr(each, "__name__", each)
)
def test_a_file_and_a_constructor_refuse_the_same_at_the_same_place(made, name):
    for value in TRIED:
        values = ENOUGH[made] | {name: value}
        faults = made.faults_of(values)
        assert bool(faults) == bool(faults_in_yaml(made, values)), (value, faults)
        if not faults:
            made(**values)
            continue
        with pytest.raises((ArgumentError, ArgumentTypeError)) as caught:
            made(**values)
        assert str(caught.value) == faults[0].message
        assert isinstance(caught.value, faults[0].error)
        assert caught.value.argument == (written(faults[0].argument) or None)


def written(path) -> str:
    words = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in path)
    return words.removeprefix(".")


def test_a_new_option_is_one_field():
    @dataclass(frozen=True)
    class Patient(Guard):
        """A guard that stays calm."""

        calm: float = option(Number(PART), 0.5, help="How calm it stays, in (0, 1).")

    section = section_of(Patient)
    assert repr(Patient(max_drop=0.1, calm=0.25)).endswith("calm=0.25)")
    with pytest.raises(ArgumentError, match=r"`calm` of a guard must be in \(0, 1\).*25") as caught:
        Patient(max_drop=0.1, calm=25)
    assert caught.value.argument == "calm"
    assert section(max_drop=0.1, calm=0.25).build() == Patient(max_drop=0.1, calm=0.25)
    schema = section.model_json_schema()
    assert schema["properties"]["calm"] == {
        "default": 0.5,
        "description": "How calm it stays, in (0, 1).",
        "exclusiveMaximum": 1,
        "exclusiveMinimum": 0,
        "title": "Calm",
        "type": "number",
    }
    assert schema["oneOf"] == [{"required": ["max_drop"]}, {"required": ["limit"]}]
    assert faults_in_yaml(Patient, {"max_drop": 0.1, "calm": 25}) == {("calm",)}
    assert "calm: How calm it stays, in (0, 1)." in Patient.__doc__


@pytest.mark.parametrize("name", ["calibration", "rules", "cadence", "guard"])
def test_a_file_and_a_call_refuse_the_same_options_of_a_compression(name):
    for value in [each for each in TRIED if each is not None]:
        told = refusal(lambda: compression_settings("f", {"budget": 0.5, name: value}))  # noqa: B023
        found = refusal(lambda: parse_config({"compression": {"budget": 0.5, name: value}}))  # noqa: B023
        python_alone = name == "calibration" and told is None  # data, which no file holds
        assert python_alone or (told is None) == (found is None), (value, told, found)
        if found is not None:
            assert found.problems[0].path.startswith(f"$.compression.{name}"), (value, found)
        if told is not None:
            assert told.argument == name or told.argument.startswith(f"{name}."), (value, told)


def refusal(ask):
    try:
        ask()
    except (ArgumentError, ArgumentTypeError, ConfigError) as error:
        return error
    return None


NEW_OPTION = """
import importlib.util, json, sys
name = "reducible_train.settings.compression"
spec = importlib.util.find_spec(name)
mark = "    @together("
field = '    calm: float = option(Number(PART), 0.5, help="How calm it stays.")'
head, tail = open(spec.origin).read().split(mark, 1)
future = "from __future__ import annotations"
more = "from reducible_train.settings.checks import PART"
more += chr(10) + "from reducible_train.settings.fields import Number"
head = head.replace(future, future + chr(10) + more)
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
exec(compile(head + field + chr(10) * 2 + mark + tail, spec.origin, "exec"), vars(module))

from reducible_train.config import config_schema, parse_config
from reducible_train.errors import ArgumentError, ConfigError
def told(ask):
    try:
        return ask()
    except ConfigError as error:
        return {each.path: each.message for each in error.problems}
    except ArgumentError as error:
        return str(error)
def asked(**given):
    return module.compression_settings("RankScheduler", {"budget": 0.5, **given})
def parsed(**given):
    return parse_config({"compression": {"budget": 0.5, **given}}).compression.calm
print(json.dumps([
    told(lambda: asked(calm=0.25).described("RankScheduler")),
    told(lambda: asked(calm=25)),
    told(lambda: asked(calm=0.25).get_config()["calm"]),
    told(parsed), told(lambda: parsed(calm=0.25)), told(lambda: parsed(calm=25)),
    config_schema()["$defs"]["CompressionSection"]["properties"]["calm"],
    "calm: How calm it stays." in module.CompressionSettings.__doc__,
]))
"""


def test_a_new_option_of_a_compression_is_one_field():
    shown, bad, config, left_out, read, wrong, schema, in_help = json.loads(output_of(NEW_OPTION))
    assert shown == "RankScheduler(budget=0.5, calm=0.25)"
    assert bad == "`calm` must be in (0, 1). Received: calm=25. For 25 % write 0.25."
    assert (config, left_out, read, in_help) == (0.25, 0.5, 0.25, True)
    assert wrong == {
        "$.compression.calm": "calm must be less than 1.0. Received: 25. For 25 % write 0.25."
    }
    assert schema["description"] == "How calm it stays."
    assert schema["exclusiveMaximum"] == 1


NEW_KINDS = """
import json
from dataclasses import dataclass
from typing import ClassVar
from reducible_train.settings.aids import Aid
from reducible_train.settings.base import together
from reducible_train.settings.faults import Fault
from reducible_train.settings.fields import Count, Time, Value, option
from reducible_train.settings.schedules import Schedule
from reducible_train.settings.measures import CountedMeasure
from reducible_train.settings.targets import SharedTarget
from reducible_train.selection.allocation.base import allocator
from reducible_train.selection.criteria import Metric, criterion

from reducible_train.config import config_schema, parse_config
from reducible_train.errors import ConfigError
EARLY

@dataclass(frozen=True)
class Nap(Aid, owner="a nap", help="Sleeps."):
    kind = "nap"
    epochs: int = option(Count(2), 3, help="Epochs that it sleeps.")

@dataclass(frozen=True)
class Drop(Schedule, help="Falls at once."):
    kind: ClassVar[str] = "drop"
    final: float = option(Value(), help="What it falls to.")
    end_epoch: float = option(Time(), 4, help="When.")
    @property
    def values(self):
        return (1.0, self.final)
    def __call__(self, epoch):
        return 1.0 if epoch < self.end_epoch else self.final

@dataclass(frozen=True)
class Share(SharedTarget):
    quantity: ClassVar[str] = "share"
    help: ClassVar[str] = "A share."
    def allowed(self, value, dense):
        return value * dense
    def of_cost(self, cost, dense):
        return cost / dense
    def words(self, unit):
        return f"share of {unit}"

@dataclass(frozen=True)
class Macs(CountedMeasure, help="Multiply-adds."):
    name: ClassVar[str] = "macs"
    unit: ClassVar[str] = "multiply-adds"
    def weight(self, itemsize, uses):
        return uses

@criterion("mine")
def mine(statistics):
    return Metric()

@allocator("first")
def first(*given):
    return {}

def told(values):
    try:
        return repr(parse_config(values).schedules())
    except ConfigError as error:
        return {each.path: each.message for each in error.problems}
drop = {"schedule": "drop", "final": 0.5}
schema = config_schema()["$defs"]
print(json.dumps([
    schema["NapSection"], schema["DropSchedule"]["properties"],
    told({"compression": {"budget": drop, "aids": {"nap": {}}}}),
    told({"compression": {"budget": drop | {"final": 50}, "aids": {"nap": {"epochs": 1}}}}),
    told({"compression": {"budget": drop}, "training": {"epochs": 3}}),
    [schema["CompressionSection"]["properties"]["share"]["description"],
     told({"compression": {"share": 60}}), told({"compression": {"share": 0.6}})],
    [told({"compression": {
        "budget": {"macs": 0.5}, "measure": [{"name": "macs"}], "criterion": "mine",
        "allocation": "first"}}),
     told({"compression": {"budget": 0.5, "measure": "macs"},
           "search_space": {"budget": {"macs": [0.2, 0.5]}, "criterion": "mine"}})],
]))
"""


@pytest.mark.parametrize("early", ["", "parse_config({'compression': {'budget': 0.5}})"])
def test_new_kinds_are_one_class_or_function_each_whenever_they_are_defined(early):
    told = json.loads(output_of(NEW_KINDS.replace("EARLY", early)))
    nap, drop, good, bad, late, share, others = told
    assert others == ["{'budget.macs': Constant(value=0.5)}", "{'budget': Constant(value=0.5)}"]
    assert nap["description"] == "Sleeps."
    assert nap["properties"]["epochs"]["minimum"] == 2
    assert drop["end_epoch"]["description"] == "When."
    assert good == "{'budget': Drop(final=0.5, end_epoch=4)}"
    assert bad == {
        "$.compression.budget.final": "budget.final must be a fraction in (0, 1]. Received: 50."
        " For 50 % write 0.5.",
        "$.compression.aids.nap.epochs": "epochs must be at least 2. Received: 1.",
    }
    words = "share must be a fraction in (0, 1]. Received: 60. For 60 % write 0.6."
    wrong = {"$.compression.share": words}
    assert share == ["A share.", wrong, "{'share': Constant(value=0.6)}"]
    assert list(late) == ["$.compression.budget.end_epoch"]
    assert "after the last cut of a training of 3 epochs" in next(iter(late.values()))


def output_of(code: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_python_without_docstrings_writes_the_same_schema():
    code = "import json; from reducible_train.config import config_schema; "
    published = json.loads((ROOT / "reducible_train" / "config" / "schema.json").read_text("utf-8"))
    found = output_of(code + "print(json.dumps([__doc__, config_schema()]))", "-OO")
    assert json.loads(found)[1] == published


# --- faults ----------------------------------------------------------------------------


def test_all_faults_are_told_at_once_each_with_its_place():
    faults = Guard.faults_of({"monitor": "", "patience": 0, "limit": "0.9", "mode": "up"})
    places = [fault.argument for fault in faults]
    assert places == [("monitor",), ("limit",), ("patience",), ("mode",)]
    assert faults[0].error is ArgumentTypeError
    deep = {"kind": "ramp", "initial": 1, "final": "x", "start_epoch": 4, "end_epoch": 2}
    join = {"schedules": [1, deep, -1], "boundaries": [3, 2]}
    places = [fault.argument for fault in schedule_kinds()["join"].faults_of(join)]
    assert places == [
        ("schedules", 1, "final"),
        ("schedules", 1, "end_epoch"),
        ("schedules", 2),
        ("boundaries", 1),
    ]


def test_a_rule_of_several_options_is_asked_where_each_is_good():
    @dataclass(frozen=True)
    class Pair(Settings):
        low: int = option(Count(), 1, help="The lower.")
        high: int = option(Count(), 2, help="The higher.")
        name: str | None = option(Text("a name", "'a'"), None, help="Its name.")

        @together("low", "high")
        def _in_order(self) -> Fault | None:
            return None if self.low < self.high else Fault(("high",), "Exchange them.")

    assert [fault.argument for fault in Pair.faults_of({"low": 3})] == [("high",)]
    assert [fault.argument for fault in Pair.faults_of({"low": "x"})] == [("low",)]
    places = [fault.argument for fault in Pair.faults_of({"low": 3, "name": 5})]
    assert places == [("name",), ("high",)]
    with pytest.raises(ArgumentError, match="Exchange them") as caught:
        Pair(3)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.argument, str(again)) == ("high", "Exchange them.")


def test_an_error_names_its_argument_with_the_way_into_it():
    for make, argument in (
        (lambda: Guard("val_accuracy", max_drop=5), "max_drop"),
        (lambda: Guard(), None),
        (lambda: schedule_kinds()["piecewise_constant"]([1, -1], [0, 2]), "values[1]"),
        (lambda: LayerRule("a", rank=Ramp(8, 2.5)), "rank.final"),
        (lambda: schedule_kinds()["join"]([1, {"kind": "rmap"}], [2]), "schedules[1].kind"),
        (lambda: Search(start_epoch=3, end_epoch=1), "end_epoch"),
    ):
        with pytest.raises((ArgumentError, ArgumentTypeError)) as caught:
            make()
        assert caught.value.argument == argument


# --- times -----------------------------------------------------------------------------


LATE, EVERY = Adaptive(end_epoch=4), Cadence(epochs=1)


def asked(cadence=EVERY, **given):
    empty = {"target": target("rank", 4), "rules": (), "aids": (), "search": None, "guard": None}
    return SimpleNamespace(**{**empty, **given}, cadence=cadence, adaptive=cadence.start)


TAIL = ("aids", "tail_shrink")
RAMP = {"schedule": "ramp", "initial": 9, "final": 2, "start_epoch": 1, "end_epoch": 6}


@pytest.mark.parametrize(
    ("compression", "settings", "place"),
    [
        ({"rank": RAMP}, {"target": target("rank", Ramp(9, 2, 1, 6))}, ("rank", "end_epoch")),
        (
            {"rank": 4, "rules": [{"match": "a", "rank": 3}, {"match": "b", "rank": RAMP}]},
            {"rules": [LayerRule("a", rank=3), LayerRule("b", rank=Ramp(9, 2, 1, 6))]},
            ("rules", 1, "rank", "end_epoch"),
        ),
        (
            {"rank": RAMP | {"end_epoch": 2}, "cadence": {"start": {"end_epoch": 4}}},
            {"target": target("rank", Ramp(9, 2, 1, 2)), "cadence": Cadence(start=LATE)},
            ("rank", "end_epoch"),
        ),
        (
            {"rank": 4, "cadence": {"start": {"end_epoch": 9}}},
            {"cadence": Cadence(start=Adaptive(end_epoch=9))},
            ("cadence", "start", "end_epoch"),
        ),
        (
            {"rank": 4, "cadence": {"start": {"start_epoch": 9}}},
            {"cadence": Cadence(start=Adaptive(start_epoch=9))},
            ("cadence", "start", "start_epoch"),
        ),
        (
            {"search": {"start_epoch": 7}, "guard": {"limit": 1}},
            {"search": Search(start_epoch=7)},
            ("search", "start_epoch"),
        ),
        (
            {"rank": 4, "aids": {"regrow": {"end_epoch": 6}}},
            {"aids": [Regrow(end_epoch=6)]},
            ("aids", "regrow"),
        ),
        ({"rank": 4, "aids": {"regrow": {}}}, {"aids": [Regrow()]}, ("aids", "regrow")),
        ({"rank": 4, "aids": {"tail_shrink": {}}}, {"aids": [TailShrink()]}, TAIL),
        (
            {"rank": 4, "aids": {"tail_shrink": {}}, "cadence": {"start": {"end_epoch": 4}}},
            {"aids": [TailShrink()], "cadence": Cadence(start=LATE)},
            TAIL,
        ),
    ],
)
def test_a_training_that_is_over_too_early_is_told_alike_in_python_and_in_a_file(
    compression, settings, place
):
    (fault,) = timing_faults(asked(**settings), 6)
    assert fault.argument == place
    with pytest.raises(ConfigError) as caught:
        parse_config({"compression": compression, "training": {"epochs": 6}})
    (problem,) = caught.value.problems
    assert problem.path == "$.compression." + written(place)
    assert problem.message == fault.message.replace("`", "")
    late = {"training": {"epochs": 40}}
    if "do nothing" not in fault.message:
        assert timing_faults(asked(**settings), 40) == []
        parse_config({"compression": compression} | late)


@pytest.mark.parametrize(
    ("search", "cadence", "epochs", "enough", "place"),
    [
        (None, {"epochs": 1}, 1, 2, ("guard",)),
        (None, {"epochs": 3}, 3, 4, ("guard",)),
        (None, {"steps": 2}, 1, 2, ("guard",)),
        ({}, {"epochs": 1}, 1, 2, ("guard",)),
        ({}, {"epochs": 6}, 7, 8, ("guard",)),
        (None, {"epochs": 10**18}, 3, 10**18 + 1, ("guard",)),  # at once
        ({}, {"epochs": 3 * 10**18}, 3, 4 * 10**18, ("guard",)),
        ({"end_epoch": 0}, {"epochs": 1}, 9, None, ("search", "end_epoch")),
    ],
)
def test_a_guard_is_told_that_no_cut_can_be_judged(search, cadence, epochs, enough, place):
    made = None if search is None else Search(**search)
    settings = asked(Cadence(**cadence), guard=Guard(limit=1), search=made)
    (fault,) = guard_faults(settings, epochs)
    assert fault.argument == place
    compression = {"cadence": cadence, "guard": {"limit": 1}}
    compression |= {"rank": 4} if search is None else {"search": search}
    with pytest.raises(ConfigError) as caught:
        parse_config({"compression": compression, "training": {"epochs": epochs}})
    (problem,) = caught.value.problems
    assert problem.path == "$.compression." + written(place)
    assert problem.message == fault.message.replace("`", "")
    assert guard_faults(settings, None) == []
    if enough is not None:
        assert f"epochs={enough} or more" in fault.message
        assert guard_faults(settings, enough) == []
        parse_config({"compression": compression, "training": {"epochs": enough}})


def test_a_guard_needs_an_epoch_before_the_first_cut_wherever_a_training_begins():
    settings = asked(Cadence(epochs=2), guard=Guard(limit=1))
    assert guard_faults(settings, 6, 3) == []
    (fault,) = guard_faults(settings, 6, 4)
    assert "before epoch 6, counted from 0, where initial_epoch=4. Received" in fault.message
    assert guard_faults(settings, 7, 4) == []
    assert "epochs=7 or more" in fault.message


def test_a_tail_is_shrunk_before_whatever_falls_later():
    later = Ramp(9, 2, 0, 2)
    for settings in (
        {"target": target("rank", later)},
        {"rules": [LayerRule("a", rank=later)]},
        {"target": target("rank", later), "cadence": Cadence(start=LATE)},
    ):
        assert timing_faults(asked(aids=[TailShrink()], **settings), None) == []


@pytest.mark.parametrize("ahead", [0.3, 0.5, 1.0, 2.5])
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("epochs", [5, None])
@pytest.mark.parametrize(
    "schedule",
    [
        Ramp(9, 2, 0.5, 0.9),
        Ramp(9, 2, 3.2, 3.4),
        PiecewiseConstant((9, 5, 2), (0, 2.7, 5.4)),
        PiecewiseConstant((9, 5, 2), (0, 2.7, 8)),
        Constant(4),
    ],
    ids=str,
)
def test_a_tail_is_shrunk_where_some_epoch_sees_what_will_fall(schedule, epochs, every, ahead):
    asked_for = target("rank", schedule)
    settings = asked(Cadence(epochs=every), target=asked_for, aids=[TailShrink(ahead=ahead)])
    seen = any(
        schedule(epoch + ahead) != schedule(epoch // every * every)
        for epoch in range(min(99 if epochs is None else epochs, 9))
    )
    told = any(
        "TailShrink would do nothing" in each.message for each in timing_faults(settings, epochs)
    )
    assert told != seen


@pytest.mark.parametrize(("start", "epochs"), [(10**9, 2 * 10**9), (10**9, None), (20_000, None)])
def test_a_tail_is_shrunk_before_what_falls_after_very_many_epochs(start, epochs):  # at once
    for late in (Ramp(9, 2, start, start + 1), PiecewiseConstant((9, 2), (0, start))):
        assert timing_faults(asked(target=target("rank", late), aids=[TailShrink()]), epochs) == []
    late = PiecewiseConstant((9, 2), (0, start + 0.7))
    settings = asked(target=target("rank", late), aids=[TailShrink(ahead=0.5)])
    (fault,) = timing_faults(settings, epochs)
    assert "falls later than it looks ahead" in fault.message


def test_steps_are_judged_once_their_number_is_known():
    late = asked(target=target("rank", Ramp(9, 2, 1, 5.75)), cadence=Cadence(steps=5))
    assert timing_faults(late, 6) == []
    (fault,) = timing_faults(late, 6, steps=10)
    assert "at epoch 5.5 at the latest" in fault.message
    assert timing_faults(late, 6, steps=100) == []
    assert timing_faults(late, 6, steps=10, first_epoch=2) == [fault]


@pytest.mark.parametrize(
    ("settings", "refused", "told"),
    [
        ({"target": target("rank", Ramp(9, 2, 1, 1.5))}, True, True),
        ({"rules": [LayerRule("a", rank=Ramp(9, 2, 0, 1.5))]}, True, True),
        ({"target": target("rank", Ramp(9, 2, 0, 1))}, False, False),  # all of it before
        ({"target": target("rank", Ramp(9, 2, 3, 4))}, True, False),  # after the epoch
        ({"target": target("rank", Ramp(9, 2, 1, 1.5)), "guard": Guard(limit=1)}, True, False),
        ({"target": target("rank", 4), "aids": [Regrow(end_epoch=1.5)]}, True, False),
        ({}, False, False),
    ],
)
def test_what_falls_within_an_epoch_whose_steps_nobody_announces_is_told(settings, refused, told):
    of_steps = asked(cadence=Cadence(steps=3), **settings)
    faults = unannounced_faults(of_steps, 2, 1)
    assert [fault.argument for fault in faults if "steps_per_epoch" not in fault.message] == []
    assert bool(faults) == refused
    assert unannounced_faults(of_steps, 3, 1) == unannounced_faults(of_steps, None, 1) == []
    note = unannounced_note(of_steps, 1)
    assert ("how many steps epoch 1 has" in note) if told else note is None
    assert unannounced_faults(asked(**settings), 2, 1) == []
    assert unannounced_note(asked(**settings), 1) is None


def test_what_falls_once_kernels_have_settled_is_told_from_when_on():
    held = asked(target=target("rank", Ramp(9, 2, 0, 2)), cadence=Cadence(steps=3, start=LATE))
    assert unannounced_note(held, 4) is None
    assert unannounced_note(held, 4, 2.0) is None
    assert "epoch 4" in unannounced_note(held, 4, 3.0)


@pytest.mark.parametrize(
    ("end", "epochs", "enough"), [(3, 3, 4), (2.5, 3, 4), (1, 3, 3), (3, 9, 9)]
)
def test_a_cadence_of_more_steps_than_the_training_is_told_and_what_is_enough(end, epochs, enough):
    late = asked(target=target("rank", Ramp(9, 2, 0, end)), cadence=Cadence(steps=1000))
    (fault,) = timing_faults(late, epochs, steps=2)
    assert f"which looks once, for all the training has {2 * epochs} steps" in fault.message
    assert "as by Cadence(steps=2), once an epoch" in fault.message
    assert (f"train for epochs={enough} or let it end earlier" in fault.message) == (
        enough > epochs
    )
    better = asked(target=target("rank", Ramp(9, 2, 0, end)), cadence=Cadence(steps=2))
    assert timing_faults(better, enough, steps=2) == []


def test_what_ends_with_a_training_of_many_steps_must_end_before_it():
    late = asked(target=target("rank", Ramp(9, 2, 0, 3)), cadence=Cadence(steps=1000))
    (fault,) = timing_faults(late, 3)
    assert "must end before training does: before epoch 3, counted from 0" in fault.message
    assert "at the latest" not in fault.message
    assert "A cut is made every 1,000 steps, and one must follow its end." in fault.message
    assert timing_faults(late, 4) == []


def test_an_aid_that_ends_with_its_schedule_is_no_fault_of_its_own():
    late = asked(target=target("rank", Ramp(9, 2, 1, 6)), aids=[Regrow()])
    assert [fault.argument for fault in timing_faults(late, 6)] == [("rank", "end_epoch")]
    assert timing_faults(late, None) == []
    assert timing_faults(asked(target=target("rank", 4)), 0)[0].argument == ("epochs",)


def test_what_is_wrong_elsewhere_hides_no_time():
    values = {
        "search": {"factor": 30, "start_epoch": 9},
        "rules": [{"match": 3, "rank": RAMP | {"initial": "9"}}],
    }
    with pytest.raises(ConfigError) as caught:
        parse_config({"compression": values, "training": {"epochs": 5}})
    assert {problem.path for problem in caught.value.problems} == {
        "$.compression.search",
        "$.compression.search.factor",
        "$.compression.search.start_epoch",
        "$.compression.rules[0].match",
        "$.compression.rules[0].rank.initial",
        "$.compression.rules[0].rank.end_epoch",
    }


@pytest.mark.parametrize("wrong", [{"initial": None}, {"final": [0.2]}, {"shape": "cubical"}])
def test_an_aid_that_looks_ahead_is_no_further_fault_of_a_schedule_that_has_one(wrong):
    values = {"rank": RAMP | wrong, "aids": {"tail_shrink": {}}}
    with pytest.raises(ConfigError) as caught:
        parse_config({"compression": values, "training": {"epochs": 16}})
    (name,) = wrong
    assert [problem.path for problem in caught.value.problems] == [f"$.compression.rank.{name}"]


def test_what_an_option_means_is_never_nothing():
    @dataclass(frozen=True)
    class Bare(Settings):
        plain_field: float = 0.5

    (item,) = fields_of(Bare).values()
    assert help_of(item) == "Plain field."
    assert Bare(0.25) == section_of(Bare)(plain_field=0.25).build()
    assert as_config({"schedule": "constant"}) == {"kind": "constant"}
    assert Constant.help == Constant.__doc__.split("\n\n")[0]


@pytest.mark.parametrize("given", [{}, {"budget": 0.5, "rank": 8}, {"cost": 9, "search": Search()}])
def test_a_file_and_a_call_say_with_one_sentence_that_one_target_is_given(given):
    in_file = {name: {} if name == "search" else value for name, value in given.items()}
    told = refusal(lambda: compression_settings("f", given, guard=Guard(limit=0.9)))
    values = {"compression": {**in_file, "guard": {"limit": 0.9}}}
    found = refusal(lambda: parse_config(values))
    words = str(told).replace("`", "")
    assert words.startswith("Exactly one of budget, cost, effective_rank, energy, rank, rtol or")
    assert words in [each.message for each in found.problems]


@pytest.mark.parametrize("kind", measure_kinds())
def test_a_measure_is_written_as_a_name_or_as_a_mapping_with_one(kind):
    settings = compression_settings("f", {"budget": 0.5}, measure=kind)
    assert built_measure(kind) == kind
    assert built_measure({"name": kind}) == settings.measure
    assert built_measure(settings.get_config()["measure"]) == settings.measure


def built_measure(measure):
    config = parse_config({"compression": {"budget": 0.5, "measure": measure}})
    return built(config.compression.measure)


def test_settings_are_equal_by_value_and_their_data_by_identity():
    def asked(**others):
        return compression_settings("f", {"budget": Ramp(1.0, 0.5)}, **others)

    data = np.zeros((3, 2)), np.zeros(3)
    shaped = {"measure": Flops(input_shape={"a": (3,)})}
    same = [{}, {"calibration": 5}, {"calibration": data}, shaped, {"guard": Guard(limit=0.9)}]
    for one in same:
        for other in same:
            alike = one is other
            assert (asked(**one) == asked(**other)) is alike, (one, other)
        assert hash(asked(**one)) == hash(asked(**one))
    assert asked(calibration=data) != asked(calibration=(np.zeros((3, 2)), np.zeros(3)))
    assert asked() != "f"
    assert len({asked(**each) for each in (*same, *same)}) == len(same)


def test_a_mapping_in_a_call_stands_for_settings_as_it_does_in_a_file():
    given = {"search": {"factor": 0.5}, "guard": {"limit": 0.9}, "cadence": {"steps": 3}}
    made = {"search": Search(0.5), "guard": Guard(limit=0.9), "cadence": Cadence(steps=3)}
    assert compression_settings("f", given) == compression_settings("f", made)
    with pytest.raises(ArgumentError, match=r"`limt` is unknown\. Known here: monitor,") as caught:
        compression_settings("f", given | {"guard": {"limt": 0.9}})
    assert caught.value.argument == "guard.limt"
    with pytest.raises(ArgumentTypeError, match=r"`search` must be a Search.*search=Search\("):
        compression_settings("f", given | {"search": 5})
