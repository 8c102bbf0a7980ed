"""Numbers in settings: every kind of number is taken by all of them, per cent by none."""

from __future__ import annotations

import json
from dataclasses import fields
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from reducible_train import (
    Adaptive,
    ArgumentError,
    ArgumentTypeError,
    Cadence,
    Constant,
    Guard,
    Join,
    Latency,
    LayerRule,
    LowRankDense,
    PiecewiseConstant,
    ProductDecay,
    Ramp,
    RankEarlyStopping,
    RankScheduler,
    Regrow,
    Rewarm,
    Search,
    TailShrink,
)
from reducible_train.config import parse_config
from reducible_train.errors import ConfigError

COUNTS = {
    "Cadence.epochs": lambda n: Cadence(epochs=n),
    "Cadence.steps": lambda n: Cadence(steps=n),
    "LayerRule.min_rank": lambda n: LayerRule("*", min_rank=n),
    "LayerRule.max_rank": lambda n: LayerRule("*", max_rank=n),
    "Guard.patience": lambda n: Guard(max_drop=0.1, patience=n),
    "Guard.tries": lambda n: Guard(max_drop=0.1, tries=n),
    "Search.start_epoch": lambda n: Search(start_epoch=n),
    "Search.end_epoch": lambda n: Search(start_epoch=0, end_epoch=n),
    "Adaptive.window": lambda n: Adaptive(window=n),
    "Adaptive.end_epoch": lambda n: Adaptive(end_epoch=n),
    "Latency.batch_size": lambda n: Latency(batch_size=n),
    "Latency.rounds": lambda n: Latency(rounds=n),
    "Rewarm.steps": lambda n: Rewarm(steps=n),
    "RankScheduler.calibration": lambda n: RankScheduler(
        rank=2, criterion="activation", calibration=n
    ),
    "LowRankDense.rank": lambda n: LowRankDense(4, rank=n),
}
NUMBERS = {
    "Constant.value": Constant,
    "Ramp.final": lambda f: Ramp(1.0, f, start_epoch=0, end_epoch=2),
    "Ramp.end_epoch": lambda f: Ramp(1.0, 0.5, start_epoch=0, end_epoch=f),
    "Steps.values": lambda f: PiecewiseConstant([1.0, f], [0, 1]),
    "Join.schedules": lambda f: Join([1.0, f], [2]),
    "Guard.max_drop": lambda f: Guard(max_drop=f),
    "Guard.limit": lambda f: Guard(limit=f),
    "Search.factor": lambda f: Search(factor=f),
    "Search.lowest": lambda f: Search(lowest=f),
    "Adaptive.slope": lambda f: Adaptive(slope=f),
    "ProductDecay.weight": ProductDecay,
    "TailShrink.fraction": TailShrink,
    "TailShrink.ahead": lambda f: TailShrink(ahead=f),
    "Regrow.fraction": Regrow,
    "Rewarm.epochs": lambda f: Rewarm(epochs=f),
    "Rewarm.initial": lambda f: Rewarm(steps=2, initial=f),
    "LayerRule.energy": lambda f: LayerRule("*", energy=f),
    "RankScheduler.budget": lambda f: RankScheduler(budget=f),
    "RankScheduler.min_gain": lambda f: RankScheduler(rank=2, rules=[LayerRule("*", min_gain=f)]),
}
WHOLE = [np.int64(3), np.uint8(3), np.array(3), np.array(3, "int16")]
REAL = [np.float32(0.5), np.float64(0.5), np.array(0.5), np.float16(0.5), Fraction(1, 2)]
REAL += [Decimal("0.5")]


def content(made):
    """All that a setting holds, as plain values."""
    names = [f.name for f in fields(made)] if hasattr(made, "__dataclass_fields__") else ()
    if isinstance(made, RankScheduler):
        gains = [rule.min_gain for rule in made.rules]
        values = [*gains, made.calibration, *made.target.schedule.values]
    elif isinstance(made, LowRankDense):
        values = [made.get_config()["ranks"]]
    else:
        values = [getattr(made, name) for name in names if name != "timer"]
    return [v for v in values if not hasattr(v, "__dataclass_fields__")]


@pytest.mark.parametrize("value", WHOLE, ids=repr)
@pytest.mark.parametrize("name", COUNTS)
def test_every_count_takes_every_whole_number_and_keeps_a_plain_one(name, value):
    made, expected = COUNTS[name](value), COUNTS[name](3)
    assert content(made) == content(expected)
    assert [type(v) for v in content(made)] == [type(v) for v in content(expected)]
    json.dumps(content(made))


@pytest.mark.parametrize("value", REAL, ids=repr)
@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_is_taken_and_kept_plain(name, value):
    made, expected = NUMBERS[name](value), NUMBERS[name](0.5)
    if not isinstance(made, RankScheduler):
        assert (made, repr(made)) == (expected, repr(expected))
    assert [type(v) for v in content(made)] == [type(v) for v in content(expected)]


@pytest.mark.parametrize("value", [True, np.bool_(True), "0.5", [0.5], np.array([0.5]), 1j])
@pytest.mark.parametrize("name", [*COUNTS, *NUMBERS])
def test_what_is_no_number_is_refused_by_all(name, value):
    if name == "RankScheduler.calibration" and not isinstance(value, bool | np.bool_):
        return  # data, judged when a model is there
    with pytest.raises((ArgumentError, ArgumentTypeError), match="Received"):
        (COUNTS | NUMBERS)[name](value)


PER_CENT = {
    "RankScheduler(budget)": (lambda: RankScheduler(budget=25), "0.25"),
    "RankScheduler(energy)": (lambda: RankScheduler(energy=95), "0.95"),
    "RankScheduler(rtol)": (lambda: RankScheduler(rtol=Ramp(0.0, 5)), "0.05"),
    "RankScheduler(min_gain)": (
        lambda: RankScheduler(rank=2, rules=[LayerRule("*", min_gain=20)]),
        "0.2",
    ),
    "LayerRule(energy)": (lambda: LayerRule("*", energy=90), "0.9"),
    "LayerRule(rtol)": (lambda: LayerRule("*", rtol=10), "0.1"),
    "Guard(val_accuracy)": (lambda: Guard("val_accuracy", max_drop=5), "0.05"),
    "Guard(a point)": (lambda: Guard("val_accuracy", max_drop=1), "0.01"),
    "Guard(head_auc_1)": (lambda: Guard("val_head_auc_1", max_drop=np.int64(2)), "0.02"),
    "Guard(precision)": (lambda: Guard("precision", max_drop=3), "0.03"),
    "Search(factor)": (lambda: Search(factor=70), "0.7"),
    "Search(lowest)": (lambda: Search(lowest=10), "0.1"),
    "TailShrink": (lambda: TailShrink(30), "0.3"),
    "Regrow": (lambda: Regrow(10), "0.1"),
    "Rewarm(initial)": (lambda: Rewarm(steps=3, initial=10), "0.1"),
    "RankEarlyStopping": (
        lambda: RankEarlyStopping(RankScheduler(rank=2), "val_accuracy", min_delta=1),
        "0.01",
    ),
    "RankEarlyStopping(baseline)": (
        lambda: RankEarlyStopping(RankScheduler(rank=2), "val_auc", baseline=90),
        "0.9",
    ),
    "text": (lambda: Ramp(1.0, "25 %"), "0.25"),
}


@pytest.mark.parametrize("name", PER_CENT)
def test_per_cent_is_refused_in_python_with_the_fraction_to_write(name):
    make, fraction = PER_CENT[name]
    with pytest.raises((ArgumentError, ArgumentTypeError), match=f"write {fraction}"):
        make()


def test_a_loss_may_fall_by_more_than_one_and_a_scale_of_its_own_is_trusted():
    assert Guard("val_loss", max_drop=5).max_drop == 5
    assert Guard("val_dice_loss", max_drop=5).max_drop == 5
    assert Guard("val_accuracy", max_drop=5, mode="max").max_drop == 5


PER_CENT_YAML = {
    "budget": ({"budget": 25}, "0.25"),
    "min_gain": ({"rank": 2, "rules": [{"match": "*", "min_gain": 20}]}, "0.2"),
    "max_drop": ({"rank": 2, "guard": {"monitor": "val_accuracy", "max_drop": 5}}, "0.05"),
    "limit": ({"rank": 2, "guard": {"monitor": "val_accuracy", "limit": 97}}, "0.97"),
    "factor": ({"search": {"factor": 70}, "guard": {"max_drop": 0.1}}, "0.7"),
    "lowest": ({"search": {"lowest": 10}, "guard": {"max_drop": 0.1}}, "0.1"),
    "energy": ({"rank": 2, "rules": [{"match": "*", "energy": 95}]}, "0.95"),
    "fraction": ({"rank": 2, "aids": {"tail_shrink": {"fraction": 30}}}, "0.3"),
    "initial": ({"rank": 2, "aids": {"rewarm": {"steps": 3, "initial": 10}}}, "0.1"),
    "text": ({"budget": "25%"}, "0.25"),
    "text of an option": ({"rank": 2, "rules": [{"match": "*", "min_gain": "20 %"}]}, "0.2"),
}


@pytest.mark.parametrize("name", PER_CENT_YAML)
def test_per_cent_is_refused_in_a_configuration(name):
    compression, fraction = PER_CENT_YAML[name]
    with pytest.raises(ConfigError, match=f"write {fraction}"):
        parse_config({"compression": compression})


@pytest.mark.parametrize(
    "more",
    [
        {"training": {"validation_split": 20}},
        {"early_stopping": {"monitor": "val_accuracy", "baseline": 20}},
        {"early_stopping": {"monitor": "val_accuracy", "min_delta": 20}},
    ],
)
def test_per_cent_is_refused_in_the_other_sections(more):
    with pytest.raises(ConfigError, match=r"write 0\.2"):
        parse_config({"compression": {"rank": 2}} | more)


def test_a_configuration_takes_numbers_of_numpy():
    values = {"compression": {"budget": np.float32(0.5)}}
    values["compression"]["rules"] = [{"match": "*", "min_gain": np.array(0.25)}]
    values["training"] = {"epochs": np.int64(4), "learning_rate": np.float32(0.5)}
    config = parse_config(values)
    assert (config.training.epochs, config.compression.rules[0].min_gain) == (4, 0.25)
    assert type(config.training.epochs) is int
    assert type(config.compression.budget) is float
