"""Laws of schedules."""

from __future__ import annotations

import dataclasses
import json
from functools import partial

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reducible_train.errors import ArgumentError, ArgumentTypeError
from reducible_train.settings.rules import LayerRule
from reducible_train.settings.schedules import (
    Constant,
    Join,
    PiecewiseConstant,
    Ramp,
    Schedule,
    base,
    schedule_from_config,
    schedule_kinds,
)
from reducible_train.settings.targets import target

VALUE = st.floats(1e-3, 500) | st.integers(1, 500)
TIME = st.floats(0, 50) | st.integers(0, 50)
SHAPE = st.sampled_from(["linear", "cubic", "cosine"])


@st.composite
def ramps(draw):
    start = draw(TIME)
    return Ramp(draw(VALUE), draw(VALUE), start, start + draw(st.floats(0.1, 20)), draw(SHAPE))


@st.composite
def steps(draw):
    later = draw(st.lists(st.floats(0.1, 50), unique=True, max_size=5).map(sorted))
    values = draw(st.lists(VALUE, min_size=len(later) + 1, max_size=len(later) + 1))
    return PiecewiseConstant(values, [0, *later])


SIMPLE = VALUE.map(Constant) | ramps() | steps()


@st.composite
def joins(draw):
    boundaries = draw(st.lists(st.integers(1, 60), unique=True, min_size=1, max_size=3).map(sorted))
    count = len(boundaries) + 1
    return Join(draw(st.lists(SIMPLE, min_size=count, max_size=count)), boundaries)


SCHEDULE = SIMPLE | joins()


@settings(max_examples=150, deadline=None)
@given(SCHEDULE)
def test_a_schedule_survives_its_config_json_and_yaml(schedule):
    config = schedule.get_config()
    assert config["kind"] == schedule.kind
    for plain in (config, json.loads(json.dumps(config)), yaml.safe_load(yaml.safe_dump(config))):
        again = schedule_from_config(plain)
        assert again == schedule
        assert hash(again) == hash(schedule)
        assert type(schedule).from_config(plain) == schedule
    assert eval(repr(schedule)) == schedule


@settings(max_examples=150, deadline=None)
@given(SCHEDULE, st.floats(0, 200))
def test_a_schedule_stays_in_the_range_of_its_values(schedule, epoch):
    assert min(schedule.values) <= schedule(epoch) <= max(schedule.values)
    assert type(schedule(epoch)) is float


@settings(max_examples=100, deadline=None)
@given(SCHEDULE, st.floats(1e-6, 1e4))
def test_a_schedule_is_constant_from_its_end_on(schedule, later):
    end = schedule.end_epoch * (1 + 1e-12)  # a joined part counts from its boundary: round-off
    assert schedule(end + later) == schedule(end) == schedule(1e9)


@settings(max_examples=100, deadline=None)
@given(ramps(), st.floats(0, 100), st.floats(0, 100))
def test_a_ramp_goes_one_way_and_ends_exactly(ramp, one, other):
    early, late = sorted([one, other])
    slack = 1e-12 * max(ramp.values)
    assert (ramp(late) - ramp(early)) * (ramp.final - ramp.initial) >= -slack * max(ramp.values)
    assert ramp(ramp.start_epoch) == ramp.initial
    assert ramp(ramp.end_epoch) == ramp.final


def test_round_off_does_not_take_a_ramp_out_of_its_range():
    rising = Ramp(0.1, 100, start_epoch=0, end_epoch=1, shape="cosine")
    assert rising(1e-9) >= rising.initial


@pytest.mark.parametrize(
    ("shape", "quarter", "half"),
    [("linear", 0.75, 0.5), ("cubic", 0.75**3, 0.5**3), ("cosine", (1 + 0.5**0.5) / 2, 0.5)],
)
def test_the_shapes_of_a_ramp(shape, quarter, half):
    ramp = Ramp(1.0, 0.2, start_epoch=2, end_epoch=6, shape=shape)
    assert ramp(3) == pytest.approx(0.2 + 0.8 * quarter)
    assert ramp(4) == pytest.approx(0.2 + 0.8 * half)
    assert ramp(3) != ramp(3.5)


def test_the_default_ramp_warms_up_for_two_epochs_and_falls_cubically_over_four():
    assert Ramp(1.0, 0.2) == Ramp(1.0, 0.2, start_epoch=2, end_epoch=6, shape="cubic")


@settings(max_examples=60, deadline=None)
@given(joins(), st.integers(0, 100))
def test_a_join_asks_each_part_from_its_boundary(join, epoch):
    begun = [b for b in join.boundaries if b <= epoch]
    part = join.schedules[len(begun)]
    assert join(epoch) == part(epoch - (begun[-1] if begun else 0))


def test_joining_a_constant_before_a_ramp_is_a_later_ramp():
    join = Join([1.0, Ramp(1.0, 0.2, start_epoch=0, end_epoch=4)], boundaries=[2])
    assert join.preview(9, per_epoch=4) == Ramp(1.0, 0.2, 2, 6).preview(9, per_epoch=4)
    assert join.end_epoch == 6
    assert join.values == (1.0, 1.0, 0.2)
    assert join.schedules[0] == Constant(1.0)


def test_steps_hold_from_their_epoch_on():
    staircase = PiecewiseConstant([40, 20, 10], [0, 1.5, 3])
    assert staircase.preview(4, per_epoch=2) == [
        (0.0, 40), (0.5, 40), (1.0, 40), (1.5, 20), (2.0, 20), (2.5, 20), (3.0, 10), (3.5, 10),
    ]  # fmt: skip
    assert staircase.end_epoch == 3
    assert PiecewiseConstant([4], [0]).end_epoch == 0


@pytest.mark.parametrize("name", ["values", "start_epochs"])
def test_a_set_is_no_order_of_steps(name):
    given = {"values": [1.0, 0.5, 0.25], "start_epochs": [0, 2, 4]}
    for many in (set, frozenset):
        with pytest.raises(ArgumentTypeError, match=f"`{name}` must be a list.*has no order"):
            PiecewiseConstant(**given | {name: many(given[name])})
    with pytest.raises(ArgumentTypeError, match=r"`schedules` must be a list.*has no order"):
        Join(schedules={1.0, 0.5}, boundaries=[2])
    assert PiecewiseConstant(values={0.5}, start_epochs={0}) == PiecewiseConstant([0.5], [0])


def test_a_schedule_is_a_value():
    ramp = Ramp(1.0, 0.2, 2, 6)
    assert repr(ramp) == ("Ramp(initial=1.0, final=0.2, start_epoch=2, end_epoch=6, shape='cubic')")
    with pytest.raises(dataclasses.FrozenInstanceError):
        ramp.final = 0.1
    values = [1.0, 0.5]
    staircase = PiecewiseConstant(values, [0, 1])
    values[1] = 0.1
    assert staircase.values == (1.0, 0.5)


def test_numbers_of_numpy_become_plain_ones():
    ramp = Ramp(np.float64(1), np.float32(0.25), np.int64(1), np.array([3])[0])
    assert {type(value) for value in ramp.get_config().values()} == {str, int, float}
    assert PiecewiseConstant(np.array([1.0, 0.5]), np.arange(2)) == PiecewiseConstant(
        [1.0, 0.5], [0, 1]
    )


def test_all_files_of_the_package_are_found():
    kinds = (Constant, Join, Ramp, PiecewiseConstant)
    assert schedule_kinds() == {cls.kind: cls for cls in kinds}
    assert set(schedule_kinds()) == {"constant", "join", "ramp", "piecewise_constant"}


def test_a_new_kind_is_one_class_and_its_name_is_its_own(monkeypatch):
    monkeypatch.setattr(base, "_KINDS", dict(base._KINDS))

    @dataclasses.dataclass(frozen=True)
    class Halving(Schedule):
        kind = "halving"
        value: float
        end_epoch: float
        values = (1.0,)

        def __call__(self, epoch):
            return self.value / 2 ** min(epoch, self.end_epoch)

    assert schedule_from_config({"kind": "halving", "value": 1, "end_epoch": 2})(2) == 0.25
    with pytest.raises(ArgumentError, match=r"'ramp' in Other, taken by Ramp"):

        class Other(Schedule):
            kind = "ramp"


def test_a_class_defined_again_takes_the_place_of_its_predecessor(monkeypatch):
    monkeypatch.setattr(base, "_KINDS", dict(base._KINDS))

    def cell(slots):
        @dataclasses.dataclass(frozen=True, slots=slots)
        class Still(Schedule):
            kind = "still"
            end_epoch = 0
            values = (0.5,)

            def __call__(self, epoch):
                return 0.5

        return Still

    for slots in (False, False, True, True):
        made = cell(slots)
        assert schedule_kinds()["still"] is made
        assert type(schedule_from_config({"kind": "still"})) is made
    with pytest.raises(ArgumentError, match="'still' in Still, taken by Still"):
        type("Still", (Schedule,), {"kind": "still"})


def test_a_kind_that_says_too_little_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(base, "_KINDS", dict(base._KINDS))
    with pytest.raises(
        ArgumentTypeError, match=r"`kind` must be the name.*Nameless, which has none"
    ):

        class Nameless(Schedule):
            pass

    class Bare(Schedule):
        kind = "bare"

        def __call__(self, epoch):
            return 0.5

    def refused(words):
        for use in (
            partial(target, "budget"),
            lambda schedule: Join([1.0, schedule], [2]),
            lambda schedule: LayerRule("a", rank=schedule),
        ):
            with pytest.raises(ArgumentTypeError, match=words):
                use(Bare())

    refused("Received: Bare, which is no dataclass")
    dataclasses.dataclass(frozen=True)(Bare)
    refused("Bare, which has no `end_epoch` and no `values`")
    Bare.values = (0.5,)
    refused("Bare, which has no `end_epoch`. Give")
    Bare.end_epoch = 0
    assert target("budget", Bare())(3) == 0.5


def of_ones_own(call, end_epoch=2.0, values=(1.0, 0.3), **options):
    body = {"kind": "own", "end_epoch": end_epoch, "values": values, **options}
    body["__call__"] = lambda self, epoch: call(epoch)
    return dataclasses.dataclass(frozen=True)(type("Own", (Schedule,), body))()


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"call": lambda epoch: float("nan") if epoch == 1 else 0.5}, "at each epoch, .* is NaN"),
        ({"call": lambda epoch: "0.5"}, "`budget` must be a number at each epoch.* is '0.5'"),
        ({"call": lambda epoch: None}, "at each epoch, and it is None at one. Received: Own"),
        ({"call": lambda epoch: np.array([0.5])}, r"at each epoch, and it is array\(\[0.5\]\)"),
        ({"call": lambda epoch: 1.0 - 0.8 * min(epoch, 2)}, r"in \(0, 1\] at each epoch"),
        ({"call": lambda epoch: 3.0 - min(epoch, 2)}, "at each epoch, and it is 3 at one"),
        ({"end_epoch": float("inf")}, "`end_epoch` of Own must be a finite number.*inf"),
        ({"end_epoch": "2"}, "`end_epoch` of Own must be .* Received: '2'"),
        ({"values": (1.0, "0.3")}, "`values` of Own must be finite numbers.*Received: '0.3'"),
        ({"values": lambda self: (1.0,)}, "`values` of Own must be .*method"),
        ({"values": 0.5}, "`values` of Own must be finite numbers, in a tuple. Received: 0.5"),
        ({"values": (10**400,)}, "`values` of Own must be finite numbers"),
        ({"call": lambda epoch: 1 + 1e-12}, None),
        ({"call": lambda epoch: np.float32(0.5), "values": ()}, None),
        ({"values": (True, 0.3), "end_epoch": True}, None),
    ],
)
def test_what_a_schedule_of_ones_own_says_is_looked_at_before_training(monkeypatch, told, words):
    monkeypatch.setattr(base, "_KINDS", dict(base._KINDS))
    schedule = of_ones_own(**{"call": lambda epoch: 0.5, **told})
    if words is None:
        assert target("budget", schedule)(1) == pytest.approx(schedule(1))
        return
    with pytest.raises((ArgumentError, ArgumentTypeError), match=words):
        target("budget", schedule)


def test_a_schedule_of_ones_own_may_pass_between_ranks(monkeypatch):
    monkeypatch.setattr(base, "_KINDS", dict(base._KINDS))
    schedule = of_ones_own(lambda epoch: 9.5 - 0.75 * min(epoch, 2), values=(8,))
    assert target("rank", schedule)(0) == 9.5


def test_plain_numbers_and_schedules_are_schedules():
    assert schedule_from_config(0.5) == Constant(0.5)
    assert schedule_from_config(Constant(3)) == Constant(3)
    nested = {
        "kind": "join",
        "schedules": [1, {"kind": "constant", "value": 0.5}],
        "boundaries": [2],
    }
    assert schedule_from_config(nested) == Join([Constant(1), Constant(0.5)], [2])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Constant(-1.0), r"`value` must not be negative.* value=-1\.0"),
        (lambda: Constant(float("nan")), r"`value` .* finite.*value=nan"),
        (lambda: Ramp(1, -2, 2, 6), r"`final` .* final=-2"),
        (lambda: Ramp(1, 0.2, 4, 4), r"`end_epoch` .* start_epoch=4, end_epoch=4"),
        (lambda: Ramp(1, 0.2, 4, 2), r"start_epoch=4, end_epoch=2"),
        (lambda: Ramp(1, 0.2, -1, 2), r"`start_epoch` .* start_epoch=-1"),
        (lambda: Ramp(1, 0.2, 0, float("inf")), r"end_epoch=inf"),
        (lambda: Ramp(1, 0.2, 2, 6, "quadratic"), r"'linear', 'cubic', 'cosine'.*'quadratic'"),
        (lambda: PiecewiseConstant([1, 2], [0]), "2 values and 1 start epochs"),
        (lambda: PiecewiseConstant([], []), "`values` must have at least one"),
        (lambda: PiecewiseConstant([1, 2], [1, 2]), r"start_epochs\[0\]=1"),
        (lambda: PiecewiseConstant([1, 2, 3], [0, 2, 2]), r"start_epochs\[2\]=2 after 2"),
        (lambda: PiecewiseConstant([1, -2], [0, 2]), r"values\[1\]=-2"),
        (lambda: Join([1, 2], []), "`boundaries`"),
        (lambda: Join([1, 2], [1, 2]), "2 schedules and 2 boundaries"),
        (lambda: Join([1, 2], [0]), r"boundaries\[0\]=0"),
        (lambda: Join([1, 2, 3], [4, 3]), r"=3 after 4"),
        (lambda: Join([1, -3], [4]), "value=-3"),
        (lambda: schedule_from_config({"kind": "rmap"}), r"'constant'.*'ramp'.*'rmap'"),
        (lambda: schedule_from_config({"kind": ["ramp"]}), r"\['ramp'\]"),
        (lambda: schedule_from_config({"final": 0.2}), "nothing"),
        (lambda: schedule_from_config({"kind": "constant", "valeu": 1}), "Remove 'valeu'. Add 'va"),
        (lambda: schedule_from_config({"kind": "ramp", "initial": 1}), "Add 'final'"),
        (lambda: Constant(1).preview(0), "epochs=0"),
        (lambda: Constant(1).preview(3, per_epoch=0.5), r"per_epoch=0\.5"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_value(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Constant("0.5"), "value='0.5', a str"),
        (lambda: Constant(True), "value=True, a bool"),
        (lambda: Ramp(1, None, 2, 6), "final=None"),
        (lambda: PiecewiseConstant(0.5, [0]), r"values=0\.5"),
        (lambda: PiecewiseConstant([0.5], "0"), "start_epochs='0'"),
        (lambda: Join([1, "ramp"], [2]), r"schedules\[1\].*'ramp'"),
        (lambda: schedule_from_config("ramp"), "'ramp'"),
        (lambda: schedule_from_config(None), "None"),
    ],
)
def test_what_has_the_wrong_type_is_named_with_its_value(make, match):
    with pytest.raises(ArgumentTypeError, match=match):
        make()


@pytest.mark.parametrize(
    ("value", "remedy"),
    [("8", "Write 8, without quotes"), ("half", "a schedule of reducible_train"), ([8], "Ramp")],
)
def test_what_is_no_number_gets_the_remedy_for_it(value, remedy):
    with pytest.raises(ArgumentTypeError, match=rf"must be a number.*{remedy}"):
        Constant(value)


def test_a_preview_of_no_number_of_epochs_is_refused():
    with pytest.raises(ArgumentError, match=r"whole number, at least 1\. Received: epochs='x'"):
        Constant(0.5).preview("x")
