"""An output layer is cut without a rule where it would be most of what a budget leaves."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from reducible_train import LayerRule, Ramp, RankScheduler, factorize
from reducible_train.errors import RankError

OUTPUT = "output/kernel"
DENSE = {"parameters": 5_120, "bytes": 4 * 5_120, "flops": 2 * 5_120}
WHOLE = 8_192 + 16_384 + 5_120 + 128 + 128 + 40


def network():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(128, "relu", name="first"),
            keras.layers.Dense(128, "relu", name="second"),
            keras.layers.Dense(40, name="output"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    return model


def told(report):
    return [note for note in report.notes if note.startswith(f"{OUTPUT} is cut as well")]


@pytest.mark.parametrize(
    ("asked", "share"),
    [
        ({"budget": 0.3}, 57),
        ({"budget": 0.3, "measure": "bytes"}, 57),
        ({"budget": 0.3, "measure": "flops"}, 57),
        ({"cost": 10_000}, 51),
        ({"budget": {"parameters": 0.9, "flops": 0.3}}, 57),
    ],
    ids=["parameters", "bytes", "flops", "cost", "one of two"],
)
def test_a_budget_of_which_it_would_be_most(asked, share):
    report = factorize(network(), **asked)
    assert report.ranks[OUTPUT]
    (note,) = told(report)
    assert f"{share} % of the" in note


@pytest.mark.parametrize(
    "asked",
    [
        {"budget": 5_120 / WHOLE * 3.01},
        {"budget": 0.3, "rules": [LayerRule("output", keep_dense=True)]},
        {"rank": 8},
        {"budget": 0.4, "measure": "file"},
    ],
    ids=["a larger one", "a rule", "no budget", "no law"],
)
def test_elsewhere_it_stays_dense(asked):
    report = factorize(network(), **asked)
    assert report.ranks
    assert OUTPUT not in report.ranks
    assert not told(report)


def test_a_third_is_not_most():
    assert factorize(network(), budget=5_120 / WHOLE * 2.99).ranks.get(OUTPUT)


def test_a_budget_that_cannot_be_met_beside_it_is_refused_with_the_rule():
    with pytest.raises(RankError, match="keep_dense=False takes it in") as caught:
        factorize(network(), budget=0.15)
    assert f"{OUTPUT}  128 x 40" in str(caught.value)


def test_a_schedule_is_taken_for_where_it_ends_and_a_fit_says_so():
    model = network()
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(96, 64)), rng.integers(0, 40, 96)
    scheduler = RankScheduler(Ramp(0.9, 0.3, 1, 3))
    model.fit(x, y, epochs=4, callbacks=[scheduler], verbose=0)
    assert scheduler.report.ranks[OUTPUT]
    assert len(told(scheduler.report)) == 1
    assert model.count_params() <= 0.3 * WHOLE


def test_two_outputs_are_taken_for_themselves():
    inputs = keras.Input((64,))
    x = keras.layers.Dense(128, "relu", name="hidden")(inputs)
    outputs = [keras.layers.Dense(n, name=name)(x) for name, n in (("large", 60), ("small", 8))]
    report = factorize(keras.Model(inputs, outputs), budget=0.6)
    assert set(report.ranks) == {"hidden/kernel", "large/kernel"}
    assert sum(" is cut as well" in note for note in report.notes) == 1


def test_a_model_that_has_nothing_else_is_refused_as_ever():
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(40, name="output")])
    with pytest.raises(RankError, match="nothing to compress"):
        factorize(model, budget=0.5)
