"""Laws of groups of layers: one rank for all, from one budget."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import zoo

from reducible_train import ArgumentError, ArgumentTypeError, LayerRule, RankError, factorize
from reducible_train.config import parse_config
from reducible_train.layers import find_kernels

EXPERTS = LayerRule("expert_*", group="experts")


def experts():
    """Three layers of one shape and unequal spectra, one of another shape, an output."""
    layers = [keras.layers.Dense(24, name=f"expert_{i}") for i in range(3)]
    model = keras.Sequential(
        [
            keras.Input((24,)),
            *layers,
            keras.layers.Dense(40, name="wide"),
            keras.layers.Dense(3, name="output"),
        ]
    )
    rng = np.random.default_rng(0)
    for i, layer in enumerate(layers):
        spectrum = np.geomspace(1, 10.0 ** -(3 * i), 24)
        left, right = (np.linalg.qr(rng.normal(size=(24, 24)))[0] for _ in "uv")
        layer.kernel.assign(left * spectrum @ right)
    return model


@pytest.mark.parametrize("allocation", ["knapsack", "equal_energy", "uniform"])
def test_a_group_shares_one_rank(allocation):
    report = factorize(experts(), budget=0.5, allocation=allocation, rules=[EXPERTS])
    ranks = {report.ranks.get(f"expert_{i}/kernel") for i in range(3)}
    assert len(ranks) == 1
    assert report.size_fraction <= 0.5
    free = factorize(experts(), budget=0.5).ranks
    assert len({free.get(f"expert_{i}/kernel") for i in range(3)}) > 1


def test_it_goes_on_sharing_at_the_next_cut():
    model = experts()
    first = factorize(model, budget=0.5, rules=[EXPERTS]).ranks
    second = factorize(model, budget=0.2, rules=[EXPERTS]).ranks
    assert len({second[f"expert_{i}/kernel"] for i in range(3)}) == 1
    assert second["expert_0/kernel"] < first["expert_0/kernel"]


def test_limits_of_one_hold_for_all():
    rules = [LayerRule("expert_1", group="experts", min_rank=7), EXPERTS]
    report = factorize(experts(), budget=0.62, rules=rules)
    assert {report.ranks.get(f"expert_{i}/kernel") for i in range(3)} <= {None, *range(7, 12)}
    with pytest.raises(RankError, match="smallest possible"):
        factorize(experts(), budget=0.3, rules=rules)


def test_kernels_of_one_layer_are_grouped_by_their_names():
    model = keras.Sequential(
        [
            keras.Input((5, 20)),
            keras.layers.LSTM(20, return_sequences=True, name="lstm_a"),
            keras.layers.LSTM(20, name="lstm_b"),
            keras.layers.Dense(3),
        ]
    )
    report = factorize(model, budget=0.5, rules=[LayerRule("lstm_*", group="cells")])
    by_name = {}
    for kernel in find_kernels(model)[:-1]:
        by_name.setdefault(kernel.name, set()).add(report.ranks.get(kernel.path))
    assert {name: len(ranks) for name, ranks in by_name.items()} == {
        "kernel": 1,
        "recurrent_kernel": 1,
    }


def test_unequal_shapes_are_refused_before_anything_is_cut():
    model = experts()
    with pytest.raises(ArgumentError, match=r"wide/kernel of shape \(24, 40\)"):
        factorize(model, budget=0.5, rules=[LayerRule("[ew]*", group="all")])
    assert all(kernel.rank is None for kernel in find_kernels(model))


def test_limits_without_a_rank_in_common_are_refused():
    rules = [
        LayerRule("expert_1", group="experts", min_rank=7),
        LayerRule("expert_*", group="experts", max_rank=5),
    ]
    with pytest.raises(ArgumentError, match=r"in \[7, 11\].*Lower `min_rank` to 5"):
        factorize(experts(), budget=0.5, rules=rules)


def test_a_group_needs_a_budget_and_a_name():
    with pytest.raises(ArgumentError, match="Give a budget, or remove the group"):
        factorize(zoo.sequential(), rank=4, rules=[LayerRule("first", group="a")])
    with pytest.raises(ArgumentError, match="no `effective_rank`, `energy`, `rank` or `rtol`"):
        LayerRule("first", group="a", rank=3)
    with pytest.raises(ArgumentError, match="keep_dense=True"):
        LayerRule("first", group="a", keep_dense=True)
    with pytest.raises(ArgumentTypeError, match="`group` of the rule for 'first' must be a name"):
        LayerRule("first", group=3)


def test_a_configuration_names_groups():
    rule = {"match": "expert_*", "group": "experts"}
    (scheduler,) = parse_config({"compression": {"budget": 0.5, "rules": [rule]}}).callbacks()
    assert scheduler.rules == (EXPERTS,)
