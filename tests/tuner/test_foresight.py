"""A search with an analysis: where it begins, what it leaves out, which analysis it refuses."""

from __future__ import annotations

import re
from dataclasses import replace

import keras
import keras_tuner
import numpy as np
import pytest
from searches import FIT, X, Y, answers, hypermodel, network, ranks, trials_of

from reducible_train import SearchSpace, analyze, factorize, load_model
from reducible_train.errors import ArgumentError
from reducible_train.selection.measured import losses_of
from reducible_train.settings.objectives import QualityAtSize, SizeAtQuality
from reducible_train.tuner import evaluate_settings, propose
from reducible_train.tuner.foresight import begin, foresee
from reducible_train.tuner.trial_settings import scheduler_of

BUDGETS = (0.45, 0.9)
SPACE = SearchSpace(budget=BUDGETS, criterion=("frobenius", "measured"))
GOAL = SizeAtQuality("val_loss", max_drop=0.001)
RANK = 3  # of the hidden kernel, 12 x 24; the output layer stays dense


@pytest.fixture(scope="module")
def start():
    """A network that has rank 3 to the last digit, and no less."""
    keras.utils.set_random_seed(0)
    model, rng = network(), np.random.default_rng(0)
    factors = rng.normal(size=(12, RANK)), rng.normal(size=(RANK, 24))
    model.get_layer("hidden").kernel.assign(factors[0] @ factors[1])
    return model


def held(start):
    """Labels that it gives itself, so that any loss of rank does harm."""
    return X, answers(start).argmax(1)


@pytest.fixture(scope="module")
def table(start):
    """What it is worth."""
    return analyze(start, held(start), metric="loss")


def searched(start, table, space=SPACE, objective=GOAL, **more):
    return hypermodel(start, space, objective=objective, analysis=table, **more)


def test_the_smallest_budget_that_loses_nothing_is_the_largest_that_is_tried(start, table):
    found = searched(start, table)
    size = (RANK * (12 + 24) + 24 + 24 * 4 + 4) / start.count_params()
    assert found.foresight.holds == pytest.approx(size, abs=0.001)
    assert found.foresight.holds >= size
    low, high = found.space.budget
    assert high == found.foresight.holds
    assert BUDGETS[0] <= low < high
    assert str(found.foresight) == (
        f"budget from {low:.1%} to {high:.1%} can win by the analysis, of 45.0% to 90.0%: no other "
        "one is tried"
    )
    copy = found.start.new_model()
    factorize(copy, high, criterion="measured", analysis=table)
    assert ranks(copy)["hidden"] == RANK
    assert copy.evaluate(*held(start), verbose=0)[0] == pytest.approx(table.baseline, abs=1e-3)


def test_a_budget_that_no_training_wins_back_is_not_tried(start, table):
    strict = replace(GOAL, max_drop=1e-6)
    precise = replace(table, kernels=tuple(replace(each, errors=()) for each in table.kernels))
    low, high = searched(start, precise, objective=strict).space.budget
    assert high / low == pytest.approx(1.1), "all below rank 3 lose far more than 60 times as much"
    least = searched(start, table, objective=replace(GOAL, max_drop=9.0)).space
    assert least.budget == (BUDGETS[0], pytest.approx(1.1 * BUDGETS[0])), "the least budget holds"


def test_by_measure_as_well_and_not_where_it_foresees_nothing(start, table):
    plain = searched(start, table).space.budget
    named = searched(start, table, SearchSpace(budget={"parameters": BUDGETS}))
    assert named.space.budget == {"parameters": plain}
    assert plain[0] <= named.foresight.first["budget/parameters"] <= plain[1]
    several = SearchSpace(budget={"parameters": BUDGETS, "flops": (0.5, 0.9)})
    chosen = SearchSpace(budget=(0.45, 0.6, 0.9))
    words = (
        (several, GOAL, r"several budgets at once \(flops, parameters\)"),
        (chosen, GOAL, "budgets to choose from"),
        (SPACE, replace(GOAL, measure="flops"), "of parameters where the objective counts flops"),
        (SPACE, QualityAtSize("val_loss", limit=0.6), "of the best quality within a size"),
        (SPACE, None, "of the best quality.* trials of criterion 'measured' go by it"),
    )
    for space, objective, why in words:
        found = searched(start, table, space, objective)
        assert found.space == space
        assert found.foresight.goal is None
        assert re.search(f"^the analysis foresees nothing .*{why}", str(found.foresight))


def test_an_analysis_may_share_each_budget(start, table):
    both = searched(start, table)
    for criterion in ("measured", ("measured", "frobenius")):
        space = replace(SPACE, criterion=criterion)
        assert searched(start, table, space).foresight.holds == both.foresight.holds


def test_of_files_trials_tell_what_no_analysis_foresees(start, table):
    space = SearchSpace(budget={"file": BUDGETS})
    goal = replace(GOAL, measure="file")
    words = "proposals begin with budget/file 63.6%, of 45.0% to 90.0%"
    assert str(begin(space, goal, start)) == words
    found = foresee(losses_of(table), space, goal, (), start)
    assert (found.space, found.goal) == (space, goal), "what is proposed without one is with it"
    told = "of file, which is known after a trial, only of parameters, bytes, flops"
    assert str(found) == f"the analysis foresees nothing {told}; {words}"


def test_without_an_analysis_it_says_where_proposals_begin_or_that_none_do(start):
    space = SearchSpace(budget=(0.45, 0.8))
    begins = hypermodel(start, space, objective=GOAL).foresight
    assert str(begins) == "proposals begin with budget 60.0%, of 45.0% to 80.0%"
    for objective in (None, QualityAtSize("val_loss", limit=0.6)):
        found = hypermodel(start, space, objective=objective).foresight
        assert re.search("^nothing is foreseen of the best quality.*tuner alone", str(found))


@pytest.mark.parametrize("kind", [keras_tuner.RandomSearch, keras_tuner.BayesianOptimization])
def test_a_tuner_begins_with_what_is_foreseen_also_when_it_goes_on(start, table, kind, tmp_path):
    lost = table.predicted({"hidden/kernel": RANK - 1}) - table.baseline
    goal = replace(GOAL, max_drop=lost / 8)  # of 10 times as much it is the answer
    for trials in (1, 2):  # the second goes on with the first
        found = searched(start, table, objective=goal)
        tuner = kind(found, found.objective, max_trials=trials, seed=1, directory=tmp_path)
        assert propose(tuner)
        tuner.search(X, Y, **(FIT | {"epochs": 1}))
    done = [each.hyperparameters.values for each in trials_of(tuner)]
    assert done[0] == found.foresight.first
    assert done[0]["criterion"] == "measured"
    assert done[1]["budget"] != done[0]["budget"]
    kept = load_model(f"{tuner.get_trial_dir(trials_of(tuner)[0].trial_id)}/model.reducible")
    assert ranks(kept)["hidden"] <= RANK


def test_what_begins_nowhere_else_is_refused(start, table, tmp_path):
    grid = keras_tuner.GridSearch(
        searched(start, table), objective="val_loss", max_trials=2, directory=tmp_path / "g"
    )
    with pytest.raises(ArgumentError, match="a GridSearch, which goes"):
        propose(grid)
    plain = keras_tuner.RandomSearch(
        hypermodel(start, SearchSpace(budget=BUDGETS)), "val_loss", directory=tmp_path / "r"
    )
    with pytest.raises(ArgumentError, match=r"that searches the smallest model.*objective None"):
        propose(plain)
    wrong = keras_tuner.RandomSearch(searched(start, table), "val_loss", directory=tmp_path / "w")
    with pytest.raises(ArgumentError, match="a RandomSearch of 'val_loss' over"):
        propose(wrong)
    other = keras_tuner.RandomSearch(
        searched(start, table, objective=QualityAtSize("val_loss", limit=0.6)),
        keras_tuner.Objective("quality_at_size", "min"),
        directory=tmp_path / "o",
    )
    assert not propose(other), "its analysis serves criterion 'measured' alone"


def test_a_trial_shares_its_budget_by_the_analysis(start, table):
    settings = {"budget": 0.6, "criterion": "measured"}
    fit = FIT | {"epochs": 1}
    found = evaluate_settings(start, SPACE, settings, X, Y, analysis=table, **fit)
    assert found["params_fraction"] <= 0.6
    told = SPACE.completed_choice(settings)
    assert scheduler_of(told, 1, goes_on=True).settings.criterion == "auto"
    for call in (
        lambda: evaluate_settings(start, SPACE, settings, X, Y, **fit),
        lambda: hypermodel(start, SPACE),
    ):
        with pytest.raises(ArgumentError, match="'measured' where there is an analysis"):
            call()


def test_another_analysis_is_refused(start, table, tmp_path):
    with pytest.raises(ArgumentError, match="of the weights that model"):
        searched(network(), table)
    with pytest.raises(ArgumentError, match=r"must be of the metric.*'loss'.*--metric accuracy"):
        searched(start, table, objective=SizeAtQuality("val_accuracy", max_drop=0.1))
    with pytest.raises(ArgumentError, match="must be whole"):
        searched(start, replace(table, kernels=()))
    other = replace(table.kernels[0], shape=(5, 7))
    with pytest.raises(ArgumentError, match="must be of this model"):
        searched(start, replace(table, kernels=(other,)))
    with pytest.raises(OSError, match="analysis"):
        searched(start, tmp_path / "nowhere.json")
