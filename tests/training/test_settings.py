"""Laws of what a compression is asked for: one value, that can be shown, written and copied."""

from __future__ import annotations

import copy
import json
import pickle
import re
from dataclasses import dataclass
from typing import ClassVar, get_type_hints

import keras
import numpy as np
import pytest
import zoo

import reducible_train
from reducible_train import (
    Adaptive,
    ArgumentError,
    ArgumentTypeError,
    Cadence,
    Flops,
    Guard,
    Join,
    Latency,
    LayerRule,
    PiecewiseConstant,
    ProductDecay,
    Ramp,
    RankScheduler,
    Regrow,
    Rewarm,
    Search,
    factorize,
)
from reducible_train.errors import RankError, ShortfallWarning
from reducible_train.settings.checks import SHARE, Range
from reducible_train.settings.compression import CompressionKeywords
from reducible_train.settings.fields import Count, option
from reducible_train.settings.measures import (
    CountedMeasure,
    Parameters,
    TabulatedMeasure,
    measure_kinds,
)
from reducible_train.settings.measures import base as measures
from reducible_train.settings.schedules import Schedule
from reducible_train.settings.schedules import base as schedules
from reducible_train.settings.targets import LossTarget, RankTarget, SharedTarget, target_kinds
from reducible_train.settings.targets import base as targets

GUARD = Guard("val_accuracy", max_drop=0.01, folder="kept")
ASKED = {
    "nothing but a budget": {"budget": 0.25},
    "a schedule of schedules": {"budget": Join((Ramp(1.0, 0.5, 0, 2), 0.25), (3,))},
    "a cost of work": {"cost": 5000, "measure": Flops(input_shape={"words": [7]})},
    "a budget of time": {"budget": 0.5, "measure": Latency(1, 3, (4,)), "allocation": "knapsack"},
    "stable ranks": {"cadence": Cadence(start=Adaptive(window=1)), "guard": GUARD},
    "a search": {"search": Search(0.5, lowest=0.1), "guard": GUARD, "cadence": Cadence(epochs=2)},
    "single layers": {
        "rtol": 0.1,
        "rules": [
            LayerRule("a", rank=PiecewiseConstant((4, 2), (0, 1))),
            LayerRule("*", min_gain=0.1),
        ],
    },
    "help by data": {
        "rank": 4,
        "criterion": "fisher",
        "calibration": 64,
        "aids": [ProductDecay(), Regrow(end_epoch=3), Rewarm(steps=2)],
        "cadence": Cadence(steps=5),
    },
}


@pytest.mark.parametrize("name", ASKED)
def test_what_was_asked_comes_back_from_plain_values_and_from_its_repr(name):
    scheduler = RankScheduler(**ASKED[name])
    config = json.loads(json.dumps(scheduler.get_config()))
    assert RankScheduler.from_config(config).settings == scheduler.settings
    names = {public: getattr(reducible_train, public) for public in reducible_train.__all__}
    assert eval(repr(scheduler), names).settings == scheduler.settings


def test_a_repr_shows_what_differs_from_the_defaults_and_no_data():
    assert repr(RankScheduler(0.25)) == "RankScheduler(budget=0.25)"
    asked = RankScheduler(
        rank=8, measure="flops", calibration=np.ones((3, 2)), cadence=Cadence(steps=5)
    )
    assert repr(asked) == (
        "RankScheduler(rank=8, measure='flops', calibration=..., cadence=Cadence(steps=5))"
    )


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"calibration": np.ones((3, 2))}, "`calibration` must be a plain value.*ndarray"),
        ({"calibration": ([1.0], [0])}, "`calibration` must be a plain value.*tuple"),
        ({"measure": Latency(timer=print)}, "`timer of measure` must be a plain value"),
    ],
)
def test_data_and_functions_stand_in_no_configuration(asked, words):
    with pytest.raises(ArgumentError, match=words):
        RankScheduler(budget=0.5, **asked).get_config()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"rank": 4, "measure": {"name": "size"}}, "`name` in `measure`.*'size'"),
        ({"rank": 4, "aids": [{}]}, "`kind` in `aids`.*None"),
        ({"rank": {"kind": "steep"}}, "`kind` of a schedule.*'steep'"),
        ({"rank": 4, "min_gain": 0.1}, "takes no `min_gain`"),
        ({}, "Exactly one of"),
        ([], "`config` must be told by a mapping"),
        ({"rank": 4, "measure": 1.5}, "`measure` must be told by a list"),
        ({"rank": 4, "measure": {"name": []}}, r"`name` in `measure`.*\[\]"),
        ({"rank": 4, "aids": True}, "`aids` must be told by a list.*True"),
        ({"rank": 4, "aids": [[None]]}, "`aids` must be told by a mapping"),
        ({"rank": 4, "aids": [{"kind": "product_decay", "x": 1}]}, "ProductDecay.*'x'"),
        ({"rank": 4, "rules": [-1]}, "`rules` must be told by a mapping.*-1"),
        ({"rank": 4, "rules": [{}]}, "arguments of LayerRule.*'match'"),
        ({"rank": 4, "cadence": 3}, "`cadence` must be told by a mapping.*3"),
        ({"rank": 4, "cadence": {"start": "x"}}, "`start of cadence` must be told by a mapping"),
        ({"rank": 4, "guard": "A" * 500}, r"`guard` must be told by a mapping.*A\.\.\."),
        ({"rank": 4, "search": {"x": 1}}, "arguments of Search.*'x'"),
    ],
)
def test_plain_values_that_ask_for_nothing_known_are_refused(config, words):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=words):
        RankScheduler.from_config(config)


NO_NAMES = [
    ["fisher", "activation"],
    {"dense": "fisher"},
    {"fisher"},
    np.array(["auto", "auto"]),
]


@pytest.mark.parametrize(
    "made", [RankScheduler, lambda *asked, **how: factorize(None, *asked, **how)]
)
@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("criterion", NO_NAMES, "`criterion` must be one name. Received: criterion="),
        ("allocation", NO_NAMES, "`allocation` must be one name. Received: allocation="),
        ("rules", [np.array(0.5), "a", {LayerRule("a"), LayerRule("*")}], "`rules` must hold"),
        ("analysis", [True, 0, [], b"a", np.array(0.5)], "`analysis` must be an Analysis, or the"),
    ],
)
def test_what_is_of_no_use_at_all_is_told_in_words(made, name, values, words):
    for value in values:
        with pytest.raises(ArgumentTypeError, match=words):
            made(0.5, **{name: value})


@pytest.mark.parametrize("name", ["criterion", "allocation"])
@pytest.mark.parametrize("value", [None, 3, b"auto", np.array("x"), print])
def test_what_is_no_name_is_told_the_names_there_are(name, value):
    with pytest.raises(ArgumentError, match=f"`{name}` must be one of 'auto', .*If unsure, leave"):
        RankScheduler(0.5, **{name: value})


def test_aids_are_no_array_and_need_no_order():
    with pytest.raises(ArgumentTypeError, match="`aids` must be a list of aids"):
        RankScheduler(0.5, aids=np.array(0.5))
    kept = RankScheduler(
        0.5, aids={ProductDecay(), Rewarm(steps=2)}, rules={LayerRule("a", rank=2)}
    )
    assert len(kept.settings.aids) == 2


def test_a_copy_after_a_fit_keeps_what_was_asked_and_what_became_of_it():
    model = zoo.compiled(zoo.sequential())
    scheduler = RankScheduler(
        budget=PiecewiseConstant((1.0, 0.6), (0, 1)), guard=Guard("loss", limit=1e-9)
    )
    with pytest.warns(ShortfallWarning):
        model.fit(*zoo.data(model), epochs=2, verbose=0, callbacks=[scheduler])
    assert scheduler.shortfall is not None
    for other in (pickle.loads(pickle.dumps(scheduler)), copy.deepcopy(scheduler)):
        assert other.settings == scheduler.settings
        assert str(other.report) == str(scheduler.report)
        assert other.shortfall == scheduler.shortfall
        assert repr(other) == repr(scheduler)


# --- what a new file brings ---------------------------------------------------------------


def test_a_measure_is_found_and_counts_by_its_own_law():
    @dataclass(frozen=True)
    class Halves(CountedMeasure):
        name: ClassVar[str] = "halves"
        unit: ClassVar[str] = "half numbers"

        def weight(self, itemsize, uses):
            return 2

    try:
        assert "halves" in measure_kinds()
        found = factorize(zoo.sequential(), 0.6, measure="halves")
        assert found.ranks == factorize(zoo.sequential(), 0.6).ranks != {}
        with pytest.raises(Exception, match="smallest possible cost in half numbers"):
            factorize(zoo.sequential(), cost=3, measure=Halves())
    finally:
        del measures._KINDS["halves"]


def test_the_options_of_a_measure_of_ones_own_weigh(monkeypatch):
    monkeypatch.setattr(measures, "_KINDS", dict(measures._KINDS))

    @dataclass(frozen=True)
    class Joules(CountedMeasure, help="Energy."):
        name: ClassVar[str] = "joules"
        unit: ClassVar[str] = "pJ"
        weighs_uses: ClassVar[bool] = True
        per_byte: int = option(Count(), help="Of a byte.")
        per_use: int = option(Count(0), 0, help="Of a use.")

        def weight(self, itemsize, uses):
            return self.per_byte * itemsize + self.per_use * uses

    least = {}
    for measure in (Joules(1), Joules(100), Joules(1, per_use=100)):
        with pytest.raises(RankError, match="smallest possible cost in pJ") as caught:
            factorize(zoo.sequential(), cost=3, measure=measure)
        least[measure] = int(re.search(r"is (\d+) ", str(caught.value))[1])
    assert list(least.values()) == [least[Joules(1)] * times for times in (1, 100, 26)]
    assert factorize(zoo.sequential(), 0.6, measure=Joules(1)).ranks
    asked = RankScheduler(budget={"joules": 0.6, "flops": 0.6}, measure=[Joules(7)])
    assert asked.settings.measures == (Flops(), Joules(7))
    assert RankScheduler.from_config(asked.get_config()).settings == asked.settings
    for budget in (0.6, {"joules": 0.6}):
        measure = {} if isinstance(budget, dict) else {"measure": "joules"}
        with pytest.raises(ArgumentTypeError, match=r"`per_byte` must be given\..*Joules\("):
            factorize(zoo.sequential(), budget, **measure)


def test_a_measure_with_a_weight_of_its_own_has_a_name_of_its_own():
    class Doubled(Parameters, help="The same."):
        def words(self):
            return "twice"

    assert Doubled.name == "parameters"
    with pytest.raises(ArgumentTypeError, match=r"Received: Twice, with that of Parameters"):

        class Twice(Parameters, help="Other numbers."):
            def weight(self, itemsize, uses):
                return 2


def test_a_measure_of_ones_own_that_tells_no_cost_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(measures, "_KINDS", dict(measures._KINDS))

    @dataclass(frozen=True)
    class Carats(TabulatedMeasure, help="Worth."):
        name: ClassVar[str] = "carats"
        unit: ClassVar[str] = "carats"

        def words(self, dense, now):
            return f"{dense} -> {now}"

    with pytest.raises(ArgumentError, match=r"measure='carats', which has none.* carats\.py"):
        factorize(zoo.sequential(), 0.5, measure="carats")
    for weight in (None, "4", -1, float("nan")):
        body = {"name": "none", "unit": "u", "weight": lambda *_, weight=weight: weight}
        told = dataclass(frozen=True)(type("Weightless", (CountedMeasure,), body))
        with pytest.raises(ArgumentTypeError, match="`weight` of Weightless must return a finite"):
            RankScheduler(0.5, measure=told())


@pytest.mark.parametrize(
    "asked", [{"budget": 0.5}, {"cost": 10}, {"budget": {"parameters": 0.5, "nothing": 0.5}}]
)
def test_a_measure_by_which_nothing_weighs_anything_is_refused(monkeypatch, asked):
    monkeypatch.setattr(measures, "_KINDS", dict(measures._KINDS))
    body = {"name": "nothing", "unit": "u", "weight": lambda *_: 0}
    nothing = dataclass(frozen=True)(type("Nothing", (CountedMeasure,), body))()
    named = {} if isinstance(asked.get("budget"), dict) else {"measure": nothing}
    with pytest.raises(RankError, match=r"measure='nothing', by which every number .* weighs 0"):
        factorize(zoo.sequential(), **asked, **named)


@pytest.mark.parametrize("weight", [True, np.bool_(True), keras.ops.ones(())])
def test_a_weight_may_be_any_number(monkeypatch, weight):
    monkeypatch.setattr(measures, "_KINDS", dict(measures._KINDS))
    body = {"name": "ones", "unit": "u", "weight": lambda *_: weight}
    ones = dataclass(frozen=True)(type("Ones", (CountedMeasure,), body))()
    assert factorize(zoo.sequential(), 0.6, measure=ones).ranks == (
        factorize(zoo.sequential(), 0.6).ranks
    )


def test_a_schedule_of_ones_own_may_tell_tensors(monkeypatch):
    monkeypatch.setattr(schedules, "_KINDS", dict(schedules._KINDS))
    one, half, end = map(keras.ops.convert_to_tensor, (1.0, 0.5, 2.0))
    body = {"kind": "own", "values": (one, half), "end_epoch": end}
    body["__call__"] = lambda self, epoch: 1.0 if epoch < 2 else 0.5
    own = dataclass(frozen=True)(type("Own", (Schedule,), body))()
    assert RankScheduler(own).target(2) == 0.5


def test_a_target_is_found_and_can_be_asked_for():
    @dataclass(frozen=True)
    class Share(SharedTarget):
        quantity: ClassVar[str] = "share"

        def allowed(self, value, dense):
            return value * dense

        def of_cost(self, cost, dense):
            return cost / dense

        def words(self, unit):
            return f"share of {unit}"

    try:
        found = factorize(zoo.sequential(), share=0.6)
        assert found.ranks == factorize(zoo.sequential(), 0.6).ranks != {}
        assert found.cuts[0].quantity == "share"
        with pytest.raises(ArgumentError, match="`share` must be a fraction in"):
            RankScheduler(share=60)
        assert repr(RankScheduler(share=0.6)) == "RankScheduler(share=0.6)"
    finally:
        del targets._KINDS["share"]


@pytest.fixture
def own_targets(monkeypatch):
    monkeypatch.setattr(targets, "_KINDS", dict(targets._KINDS))


@pytest.mark.usefixtures("own_targets")
def test_a_rank_target_is_met_at_the_ranks_that_it_means():
    @dataclass(frozen=True)
    class Part(RankTarget):
        quantity: ClassVar[str] = "part"

        def rank(self, value, own):
            return 24 * value

        def present(self, model):
            return model.largest_rank / 24

    scheduler = RankScheduler(part=0.25)
    model = zoo.sequential()
    model.compile("sgd", "mse", run_eagerly=True)
    data = np.ones((8, 24)), np.ones((8, 5))
    model.fit(*data, verbose=0, callbacks=[scheduler])
    assert set(scheduler.report.ranks.values()) == {6}
    assert scheduler.shortfall is None
    told = r"`part` would leave .* part=0.99. The largest rank at which one is cut is 14"
    model = zoo.sequential()
    model.compile("sgd", "mse", run_eagerly=True)
    with pytest.raises(RankError, match=told):
        model.fit(*data, verbose=0, callbacks=[RankScheduler(part=0.99)])
    assert "at which one is cut is rank=14" in str(factorize(model, part=0.99))


@pytest.mark.usefixtures("own_targets")
@pytest.mark.parametrize(
    ("base", "name", "told"),
    [(RankTarget, "rank", "6"), (RankTarget, "rank", None), (LossTarget, "limit", 0.1)],
)
def test_what_a_target_of_ones_own_returns_is_looked_at(base, name, told):
    body = {"quantity": "part", "present": lambda self, model: 1.0, "nearest": lambda *_: "1"}
    dataclass(frozen=True)(type("Part", (base,), body | {name: lambda *_: told}))
    words = rf"`{name}` of Part must return .* Received: {told!r} for part=0.25"
    with pytest.raises(ArgumentTypeError, match=words):
        factorize(zoo.sequential(), part=0.25)


@pytest.mark.usefixtures("own_targets")
@pytest.mark.parametrize("goal", [0.4, {"parameters": 0.4, "flops": 0.2}])
def test_a_shared_target_may_rise(goal):
    @dataclass(frozen=True)
    class Saved(SharedTarget):
        quantity: ClassVar[str] = "saved"
        rises: ClassVar[bool] = True
        idle: ClassVar[float] = 0.0
        within: ClassVar[Range] = SHARE

        def allowed(self, value, dense):
            return (1 - value) * dense

        def of_cost(self, cost, dense):
            return 1 - cost / dense

        def words(self, unit):
            return f"share of {unit} saved"

    several = isinstance(goal, dict)
    budget = {name: 1 - value for name, value in goal.items()} if several else 1 - goal
    scheduler = RankScheduler(saved=goal)
    model = zoo.sequential()
    model.compile("sgd", "mse", run_eagerly=True)
    data = np.ones((8, 24)), np.ones((8, 5))
    model.fit(*data, verbose=0, callbacks=[scheduler])
    assert scheduler.shortfall is None
    assert scheduler.report.size_fraction <= 0.6
    assert (
        factorize(zoo.sequential(), saved=goal).ranks == factorize(zoo.sequential(), budget).ranks
    )
    told = r"the largest possible share of parameters saved .* is 0\.\d+ .* Lower it, or"
    with pytest.raises(RankError, match=told):
        factorize(zoo.sequential(), saved={**goal, "parameters": 0.99} if several else 0.99)


def test_editors_complete_every_target():
    assert {"budget", *get_type_hints(CompressionKeywords)} >= {*target_kinds(), "search"}


# --- a gain that single layers must bring ---------------------------------------------------


def test_the_first_rule_that_matches_says_what_a_layer_must_save():
    strict = LayerRule("*", min_gain=0.95)
    report = factorize(zoo.sequential(), rank=4, rules=[LayerRule("first", min_gain=0.1), strict])
    assert list(report.ranks) == ["first/kernel"]
    reasons = {kernel.path: kernel.reason for kernel in report.kernels}
    assert "saves enough" in reasons["second/kernel"]
    report = factorize(zoo.sequential(), rank=4, rules=[LayerRule("first", min_rank=1), strict])
    assert list(report.ranks) == ["first/kernel"], "a rule that says nothing of it asks for none"
