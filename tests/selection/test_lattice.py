"""Ranks in multiples, a least share of full rank, and multiples of the effective rank."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from reducible_train import (
    Adaptive,
    Cadence,
    LayerRule,
    PiecewiseConstant,
    Ramp,
    RankScheduler,
    Regrow,
    factorize,
)
from reducible_train.config import parse_config
from reducible_train.errors import ArgumentError, ConfigError, RankError

UNITS = {"a": 48, "b": 40, "narrow": 9, "output": 5}


def network():
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(units, name=name) for name, units in UNITS.items()]
    model = keras.Sequential([keras.Input((56,)), *layers])
    model.compile("adam", "mse")
    return model


def samples():
    rng = np.random.default_rng(0)
    return rng.normal(size=(64, 56)).astype("float32"), rng.normal(size=(64, 5)).astype("float32")


def effective(kernel):
    """The definition, written out."""
    shares = np.linalg.svd(kernel, compute_uv=False).astype(float)
    shares = shares / shares.sum()
    return math.exp(-sum(p * math.log(p) for p in shares))


@pytest.mark.parametrize(
    "asked",
    [
        {"budget": 0.6},
        {"budget": 0.5, "allocation": "knapsack", "calibration": samples()},
        {"budget": 0.5, "allocation": "uniform"},
        {"budget": {"parameters": 0.6, "flops": 0.55}},
        {"budget": 0.7, "measure": "file"},
        {"energy": 0.7},
        {"rtol": 0.5},
        {"effective_rank": 0.4},
        {"rank": 16},
    ],
)
def test_every_target_is_met_by_multiples_that_save(asked):
    model = network()
    report = factorize(model, **asked, multiple=8)
    assert report.ranks
    assert "narrow/kernel" not in report.ranks
    for record in report.kernels:
        if record.rank is not None:
            assert record.rank % 8 == 0
            assert record.parameters < record.dense_parameters
    told = {record.path: record.reason for record in report.kernels}
    most = 4 if asked.get("measure") == "file" else 7
    assert told["narrow/kernel"] == (
        "too small: no multiple of 8 saves enough, as ranks of a 40 x 9 kernel do only up to "
        f"{most}"
    )
    free = factorize(network(), **asked).ranks
    if "budget" in asked and asked.get("measure") is None:
        budget = asked["budget"]
        fraction = budget["parameters"] if isinstance(budget, dict) else budget
        assert report.parameters <= fraction * report.dense_parameters
    if "energy" in asked or "rtol" in asked or "effective_rank" in asked:  # what must stay, stays
        for path, rank in report.ranks.items():
            assert rank == -(-free[path] // 8) * 8


def test_a_rule_has_a_multiple_and_limits_of_its_own():
    rules = [LayerRule("a", multiple=5), LayerRule("b", min_rank=9, max_rank=17)]
    ranks = factorize(network(), budget=0.55, multiple=8, rules=rules).ranks
    assert ranks["a/kernel"] % 5 == 0
    assert ranks["b/kernel"] == 16
    grouped = [LayerRule("[ab]", multiple=6, group="g")]
    model = keras.Sequential(
        [keras.Input((30,)), *(keras.layers.Dense(30, name=n) for n in "ab"), keras.layers.Dense(3)]
    )
    ranks = factorize(model, budget=0.6, multiple=4, rules=grouped).ranks
    assert len(set(ranks.values())) == 1
    assert ranks["a/kernel"] % 6 == 0


def test_factors_of_another_rank_stay_until_a_multiple_is_smaller():
    model = network()
    factorize(model, rank=13)
    assert factorize(model, rank=16, multiple=8).ranks["a/kernel"] == 13
    assert factorize(model, energy=0.2, multiple=8).ranks["a/kernel"] == 8


def test_a_training_goes_from_multiple_to_multiple():
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(dict(scheduler.report.ranks))

    scheduler = RankScheduler(
        budget=Ramp(1.0, 0.35, 0, 3), multiple=4, aids=[Regrow(0.2)], cadence=Cadence(epochs=1)
    )
    x, y = samples()
    network_ = network()
    network_.fit(x, y, epochs=5, verbose=0, callbacks=[scheduler, Watch()])
    assert all(rank % 4 == 0 for ranks in seen for rank in ranks.values())
    assert len({tuple(each.items()) for each in seen}) > 2
    assert scheduler.shortfall is None


def test_a_least_share_of_full_rank_holds_and_yields_to_rules():
    free = factorize(network(), budget=0.4).ranks
    ranks = factorize(network(), budget=0.5, min_share=0.25).ranks
    assert all(rank >= 10 for path, rank in ranks.items() if path in ("a/kernel", "b/kernel"))
    assert min(free.values()) < 10
    rules = [LayerRule("a", max_rank=3), LayerRule("b", min_share=0.4, multiple=8)]
    ranks = factorize(network(), budget=0.6, min_share=0.25, rules=rules).ranks
    assert ranks == {"a/kernel": 3, "b/kernel": 16} | {
        path: rank for path, rank in ranks.items() if path == "narrow/kernel"
    }
    report = factorize(network(), budget=0.9, min_share=0.6, rules=[LayerRule("a", min_rank=2)])
    reasons = {record.path: record.reason for record in report.kernels}
    assert reasons["b/kernel"] == "min_share (rank 24) is above its break-even rank 21"


def test_kernels_keep_a_multiple_of_their_effective_rank():
    model = network()
    dense = {name: effective(np.asarray(model.get_layer(name).kernel)) for name in ("a", "b")}
    data = samples()  # directions are judged by them, the ranks are the kernels' own
    report = factorize(model, effective_rank=0.4, calibration=data)
    for name, own in dense.items():
        assert report.ranks[f"{name}/kernel"] == math.ceil(0.4 * own)
        (record,) = [k for k in report.cuts[0].kernels if k.path == f"{name}/kernel"]
        assert record.effective_rank == pytest.approx(own, rel=1e-5)
    rules = [LayerRule("a", effective_rank=0.3)]
    assert factorize(network(), rank=9, rules=rules).ranks == {
        "a/kernel": math.ceil(0.3 * dense["a"]),
        "b/kernel": 9,
    }


def test_a_falling_multiple_is_of_what_the_kernel_had_before_its_first_cut():
    model = network()
    model.optimizer.learning_rate = 0.0
    own = effective(np.asarray(model.get_layer("a").kernel))
    scheduler = RankScheduler(effective_rank=PiecewiseConstant((0.5, 0.25), (0, 1)))
    x, y = samples()
    model.fit(x, y, epochs=3, verbose=0, callbacks=[scheduler])
    assert scheduler.report.ranks["a/kernel"] == math.ceil(0.25 * own)
    assert scheduler.shortfall is None


def test_a_multiple_waits_for_the_stable_ranks_where_that_is_asked():
    wait = Cadence(start=Adaptive(end_epoch=1))
    scheduler = RankScheduler(effective_rank=Ramp(1.0, 0.3, 0, 1), cadence=wait)
    x, y = samples()
    network().fit(x, y, epochs=4, verbose=0, callbacks=[scheduler])
    assert scheduler.report.ranks
    assert scheduler.report.cuts[0].epoch >= 1
    assert scheduler.shortfall is None


def test_where_the_effective_rank_is_too_large_the_nearest_factor_is_told():
    report = factorize(network(), effective_rank=1.0)
    assert report.ranks == {}
    (words,) = [note for note in report.notes if "effective_rank" in note]
    factor = float(words.rsplit("effective_rank=", 1)[1].split(" ")[0])
    assert factorize(network(), effective_rank=factor).ranks
    assert not factorize(network(), effective_rank=factor + 0.001).ranks


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"multiple": 0}, "`multiple` must be a whole number, at least 1. Received: multiple=0"),
        ({"multiple": 7.5}, "Received: multiple=7.5"),
        ({"multiple": True}, "Received: multiple=True"),
        ({"multiple": "8"}, "Received: multiple='8'"),
        ({"min_share": 1.5}, r"`min_share` must be in \[0, 1\)"),
        ({"min_share": -0.1}, r"`min_share` must be in \[0, 1\)"),
        ({"min_share": True}, "min_share=True"),
        ({"budget": None, "rank": 12, "multiple": 8}, "rank=12 with multiple=8. Write 8 or 16"),
        ({"budget": None, "rank": 4, "multiple": 8}, "rank=4 with multiple=8. Write 8."),
        ({"budget": None, "effective_rank": 0}, "`effective_rank` must be greater than 0"),
        (
            {"multiple": 8, "rules": [LayerRule("a", max_rank=4)]},
            "max_rank=4 in the rule for 'a', in multiples of 8. Raise it to 8",
        ),
        (
            {"rules": [LayerRule("a", multiple=8, min_rank=9, max_rank=15)]},
            "min_rank=9, max_rank=15 in the rule for 'a', in multiples of 8. Raise it to 16",
        ),
        ({"multiple": 8, "rules": [LayerRule("a", rank=12)]}, "rank=12 .* in the rule for 'a'"),
    ],
)
def test_what_cannot_be_is_named_by_the_constructor(asked, words):
    with pytest.raises(ArgumentError, match=words):
        RankScheduler(**{"budget": 0.5, **asked})


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"multiple": 1000}, "no multiple of 1000 saves enough"),
        ({"budget": 0.05, "multiple": 8}, "lower `multiple`, or let more"),
        ({"budget": 0.1, "min_share": 0.3}, "lower `min_share`, or let more"),
    ],
)
def test_what_a_model_cannot_be_brought_to_is_refused_with_what_to_loosen(asked, words):
    with pytest.raises(RankError, match=words):
        factorize(network(), **{"budget": 0.5, **asked})


def test_a_share_above_the_largest_rank_of_its_rule_is_refused():
    with pytest.raises(ArgumentError, match=r"min_share=0.5 of full rank 48, which is rank 24"):
        factorize(network(), budget=0.5, rules=[LayerRule("a", min_share=0.5, max_rank=4)])


def test_a_file_asks_for_them():
    rule = {"match": "a", "effective_rank": 0.5, "multiple": 4, "min_share": 0.1}
    told = {"budget": 0.5, "multiple": 8, "min_share": 0.05, "rules": [rule]}
    (scheduler,) = parse_config({"compression": told}).callbacks()
    assert (scheduler.multiple, scheduler.min_share) == (8, 0.05)
    assert scheduler.rules == (LayerRule(**rule),)
    assert RankScheduler.from_config(scheduler.get_config()).settings == scheduler.settings
    (falling,) = parse_config({"compression": {"effective_rank": 0.5}}).callbacks()
    assert falling.target.rank(0.5, 9.0) == 5
    with pytest.raises(ConfigError) as caught:
        parse_config({"compression": {"rank": 12, "multiple": 8, "min_share": 2}})
    assert "$.compression.min_share" in str(caught.value)


@pytest.mark.parametrize("gain", [None, 0.6])
def test_a_kernel_is_told_by_what_it_would_not_be_too_small(gain):
    """Of 4 x 4 numbers one rank saves 8, and its records take more in a file."""
    model = keras.Sequential([keras.Input((4,)), *[keras.layers.Dense(4) for _ in range(2)]])
    rule = LayerRule("*", keep_dense=False, min_gain=gain)
    with pytest.raises(RankError) as told:
        factorize(model, 0.9, measure="file", rules=[rule])
    beside = "saves enough bytes of the compact file, though up to 1 would of parameters"
    assert (beside in str(told.value)) == (gain is None)
