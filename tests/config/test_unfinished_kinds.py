"""Kinds of one's own that are not finished: no other file hears of them, and theirs is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest

from reducible_train.config import config_schema, parse_config
from reducible_train.errors import ConfigError
from reducible_train.settings.aids import Aid
from reducible_train.settings.aids import base as aids
from reducible_train.settings.fields import Count, option
from reducible_train.settings.measures import CountedMeasure
from reducible_train.settings.measures import base as measures
from reducible_train.settings.schedules import Schedule
from reducible_train.settings.schedules import base as schedules
from reducible_train.settings.targets import SharedTarget, goal
from reducible_train.settings.targets import base as targets

OTHERS = (  # of every section in which a file may name kinds
    {
        "budget": {"schedule": "ramp", "initial": 1, "final": 0.5, "end_epoch": 3},
        "aids": {"product_decay": {}},
    },
    {"budget": {"flops": 0.5, "file": 0.5}, "measure": [{"name": "file"}]},
)
STAIRS = (
    {"budget": {"schedule": "stairs"}},
    {"cost": {"flops": {"schedule": "stairs"}}},
    {"budget": {"schedule": "join", "schedules": [1.0, {"schedule": "stairs"}], "boundaries": [2]}},
    {"rank": 4, "rules": [{"match": "a", "rank": {"schedule": "stairs"}}]},
)
NAPS = ({"rank": 4, "aids": {"nap": {}}},)
STONES = (
    {"budget": 0.5, "measure": "stones"},
    {"budget": 0.5, "measure": {"name": "stones"}},
    {"cost": {"stones": 5, "flops": 3}},
    {"budget": {"flops": 0.5}, "measure": [{"name": "stones"}]},
)
SHARES = ({"share": 0.5}, {"share": {"flops": 0.5}})


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    for each in (schedules, aids, measures, targets):
        monkeypatch.setattr(each, "_KINDS", dict(each._KINDS))


class Stays:
    end_epoch = 0
    values = (0.5,)

    def __call__(self, epoch):
        return 0.5


def undecorated():
    class Stairs(Stays, Schedule):
        kind = "stairs"


def decorated_in_vain():
    with pytest.raises(ValueError, match="mutable default"):

        @dataclass(frozen=True)
        class Stairs(Stays, Schedule):
            kind: ClassVar[str] = "stairs"
            steps: list = []  # noqa: RUF008 (that is what is wrong with it)


def decorated_in_part():
    with pytest.raises(TypeError, match="follows default"):

        @dataclass(frozen=True)
        class Stairs(Stays, Schedule):
            kind: ClassVar[str] = "stairs"
            first: int = 1
            second: int


def of_an_unknown_name():
    @dataclass(frozen=True)
    class Stairs(Stays, Schedule):
        kind: ClassVar[str] = "stairs"
        then: Undefined = None  # noqa: F821 (that is what is wrong with it)


def of_no_plain_value():
    @dataclass(frozen=True)
    class Stairs(Stays, Schedule):
        kind: ClassVar[str] = "stairs"
        steps: np.ndarray = None


def with_an_option_that_none_may_give():
    @dataclass(frozen=True)
    class Stairs(Stays, Schedule):
        kind: ClassVar[str] = "stairs"
        steps: int = field(default=2, init=False)


def without_a_call():
    @dataclass(frozen=True)
    class Stairs(Schedule):
        kind: ClassVar[str] = "stairs"


def without_an_end():
    @dataclass(frozen=True)
    class Stairs(Schedule):
        kind: ClassVar[str] = "stairs"

        def __call__(self, epoch):
            return 0.5


def undecorated_aid():
    class Nap(Aid):
        kind = "nap"


def aid_of_an_unknown_name():
    @dataclass(frozen=True)
    class Nap(Aid):
        kind: ClassVar[str] = "nap"
        then: Undefined = None  # noqa: F821 (that is what is wrong with it)


def without_a_unit():
    @dataclass(frozen=True)
    class Stones(CountedMeasure):
        name: ClassVar[str] = "stones"

        def weight(self, itemsize, uses):
            return 1


def without_a_weight():
    @dataclass(frozen=True)
    class Stones(CountedMeasure):
        name: ClassVar[str] = "stones"
        unit: ClassVar[str] = "stones"


def without_a_law():
    @dataclass(frozen=True)
    class Share(SharedTarget):
        quantity: ClassVar[str] = "share"


def told(compression: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config({"compression": compression})
    return str(caught.value)


@pytest.mark.parametrize(
    ("define", "files", "words"),
    [
        (undecorated, STAIRS, "Stairs, which is no dataclass. Write @dataclass(frozen=True)"),
        (decorated_in_vain, STAIRS, "Stairs, which is no dataclass"),
        (decorated_in_part, STAIRS, "Stairs, of which no form can be made (got an unexpected"),
        (of_an_unknown_name, STAIRS, "no form can be made (name 'Undefined' is not defined)"),
        (of_no_plain_value, STAIRS, "no form can be made (Unable to generate"),
        (with_an_option_that_none_may_give, STAIRS, "Stairs, of which no form can be made"),
        (without_a_call, STAIRS, "Stairs, which has no __call__. Write it"),
        (without_an_end, STAIRS, "Stairs, which has no end_epoch and no values. Give it"),
        (undecorated_aid, NAPS, "An aid must be a frozen dataclass"),
        (aid_of_an_unknown_name, NAPS, "Nap, of which no form can be made"),
        (without_a_unit, STONES, "Stones, which has no unit. Write it"),
        (without_a_weight, STONES, "Stones, which has no weight. Write it"),
        (without_a_law, SHARES, "Share, which has no allowed and no of_cost"),
    ],
)
def test_a_kind_that_is_not_finished_is_refused_where_it_is_named_alone(define, files, words):
    before = [repr(parse_config({"compression": each}).schedules()) for each in OTHERS]
    define()
    assert [repr(parse_config({"compression": each}).schedules()) for each in OTHERS] == before
    assert goal("budget", {"flops": 0.5, "file": 0.5}).measures == ("file", "flops")
    assert "CompressionSection" in config_schema()["$defs"]
    for each in files:
        assert words in told(each)


def test_a_search_space_names_no_measure_that_is_not_finished():
    without_a_weight()
    asked = {"compression": {"budget": 0.5}, "search_space": {"budget": {"stones": [0.2, 0.5]}}}
    with pytest.raises(ConfigError, match=r"search_space\.budget\.stones.*has no weight"):
        parse_config(asked)


def test_a_measure_whose_options_must_be_given_is_not_named_alone():
    @dataclass(frozen=True)
    class Stones(CountedMeasure):
        name: ClassVar[str] = "stones"
        unit: ClassVar[str] = "stones"
        each: int = option(Count(), help="Of a number.")

        def weight(self, itemsize, uses):
            return self.each

    for asked in ({"budget": 0.5, "measure": "stones"}, {"cost": {"stones": 5, "flops": 3}}):
        assert "$.compression.measure: A measure named alone must have" in told(asked)
    named = {"name": "stones", "each": 2}
    for asked in ({"cost": 5, "measure": named}, {"cost": {"stones": 5}, "measure": [named]}):
        assert parse_config({"compression": asked}).schedules()


def test_values_that_no_option_tells_have_their_place_in_a_file():
    dataclass(frozen=True)(type("Stairs", (Stays, Schedule), {"kind": "stairs"}))
    asked = {"rank": 4, "rules": [{"match": "a", "rank": {"schedule": "stairs"}}]}
    assert "rules[0].rank: rank must be at least 1" in told(asked)


def test_what_was_not_finished_may_be_later_under_its_name():
    def cell(finish):
        class Stairs(Stays, Schedule):
            kind = "stairs"

        return finish(Stairs)

    cell(lambda made: made)
    assert "no dataclass" in told(STAIRS[0])
    cell(dataclass(frozen=True))
    for _ in range(2):
        made = cell(dataclass(frozen=True, slots=True))
        assert type(parse_config({"compression": STAIRS[0]}).schedules()["budget"]) is made


def test_what_a_schedule_of_ones_own_fails_with_has_its_place_in_a_file():
    body = {"kind": "stairs", "__call__": lambda self, epoch: 1 / 0}
    dataclass(frozen=True)(type("Stairs", (Stays, Schedule), body))
    assert "$.compression.budget: budget must be a number at each" in told(STAIRS[0])
    body = {"kind": "stairs", "__post_init__": lambda self: "1" + 1}
    with_options = type("Stairs", (Stays, Schedule), body)
    dataclass(frozen=True)(with_options)
    assert "$.compression.budget: A schedule of kind 'stairs' must be made of" in told(STAIRS[0])
