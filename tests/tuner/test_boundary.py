"""A search for the smallest model goes by what its trials have shown: sizes, settings, ties."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest
from searches import hypermodel, network, trials_of

from reducible_train import SearchSpace
from reducible_train.settings.objectives import SizeAtQuality
from reducible_train.tuner import propose
from reducible_train.tuner.boundary import Aim, Shown, aim
from reducible_train.tuner.errors import MendedWarning, SearchError
from reducible_train.tuner.project import FILE, Project

ENDS = (0.05, 0.5)
ALLOWED = 0.003


def shown(budget, margin, **settings):
    return Shown(budget, settings, size=budget, margin=margin)


def test_the_first_trials_tell_where_their_settings_would_just_hold():
    assert aim([], ENDS, ALLOWED) is None
    assert aim([Shown(0.2)], ENDS, ALLOWED) is None, "it runs, or has failed"
    exact = shown(0.2, 0.0, rate=1)
    assert exact.enough(ALLOWED) == pytest.approx(0.2)
    held, failed = shown(0.2, 0.002), shown(0.2, -0.003)
    assert held.enough(ALLOWED) < 0.2 < failed.enough(ALLOWED)
    assert aim([failed], ENDS, ALLOWED).budget == pytest.approx(failed.enough(ALLOWED))
    assert aim([held], ENDS, ALLOWED).budget == pytest.approx(held.enough(ALLOWED))
    hopeless = shown(0.2, -1.0)
    assert aim([hopeless], ENDS, ALLOWED).budget == ENDS[1], "no farther than the space"
    assert aim([shown(0.06, 0.01)], ENDS, ALLOWED).budget == ENDS[0]
    equal = [shown(0.3, -0.003, rate=1), shown(0.2, -0.003, rate=2)]
    assert aim(equal, ENDS, ALLOWED).settings == {"rate": 2}


def test_each_miss_halves_the_way_to_the_smallest_that_held():
    trials, gaps = [shown(0.4, 0.0025)], []
    for _ in range(4):
        found = aim(trials, ENDS, ALLOWED)
        assert found.budget < 0.4, "a larger one cannot win"
        gaps.append(np.log(0.985 * 0.4 / found.budget))
        trials.append(shown(found.budget, -0.01))
    assert np.array(gaps[1:]) / gaps[:-1] == pytest.approx(0.5)
    first = aim(trials[:1], ENDS, ALLOWED).budget
    assert aim(trials, ENDS, ALLOWED).budget == first, "every fourth begins anew"
    running = aim([*trials, Shown(0.39)], ENDS, ALLOWED)
    assert running.budget > first, "two at once are not the same"
    better = aim([*trials, shown(0.35, 0.001)], ENDS, ALLOWED)
    assert better.budget < 0.34


def test_where_luck_decides_as_much_as_the_size_small_ones_go_on_being_tried():
    """Twice the size loses hardly less than each trial differs from the next."""
    rng, trials = np.random.default_rng(0), []
    for _ in range(20):
        found = aim(trials, ENDS, ALLOWED)
        budget = 0.16 if found is None else found.budget
        lost = 0.0055 - 0.0004 * np.log2(budget / 0.16) + 0.0006 * rng.normal()
        trials.append(shown(budget, ALLOWED - lost))
    sizes = [each.budget for each in trials[8:]]
    assert not any(each.holds for each in trials)
    assert min(sizes) < 0.3
    assert max(sizes) > 0.35
    assert len({round(each, 3) for each in sizes}) > 1


def test_without_a_dense_start_the_best_trial_stands_in_its_place():
    found = aim([shown(0.4, 0.01), shown(0.1, -0.05)], ENDS, None)
    assert found.budget == pytest.approx(0.1 * (0.06 / 0.01) ** (1 / 2.5)), "0.06 where 0.01 may be"
    assert aim([shown(0.2, -0.1)], ENDS, None).budget == ENDS[1], "nothing has held yet"
    assert aim([shown(0.2, 0.0)], ENDS, 0.0).budget < 0.2, "nothing may be lost at all"


def test_one_setting_after_the_other_is_the_tuners():
    found = Aim(0.2, {"rate": 1, "criterion": "fisher"})
    chosen = {"rate": 2, "criterion": "activation"}
    assert found.exchanged(chosen, 4) == {"rate": 2, "criterion": "fisher"}
    assert found.exchanged(chosen, 5) == {"rate": 1, "criterion": "activation"}
    assert Aim(0.2, {}).exchanged(chosen, 0) == chosen
    assert found.exchanged({}, 0) == {}
    assert found.moved(0.0, ENDS) == 0.2 / 1.02
    assert found.moved(1.0, ENDS) == 0.2 * 1.02
    assert found.moved(0.5, ENDS) == 0.2


def test_at_an_end_it_is_moved_inwards():
    low, high = ENDS
    for share in (0.0, 0.3, 1.0):
        assert Aim(low, {}).moved(share, ENDS) == pytest.approx(low * 1.02**share)
        assert Aim(high, {}).moved(share, ENDS) == pytest.approx(high / 1.02 ** (1 - share))
        assert low <= Aim(low * 1.01, {}).moved(share, ENDS) <= low * 1.01 * 1.0201


def quality(budget, settings):
    """Of a trial that nobody trains: a rate of 1e-3 holds 0.97 down to half of the size."""
    wrong = abs(np.log10(settings.get("learning_rate", 1e-3)) + 3)
    worse = {"fisher": 1.0, "activation": 1.3}[settings.get("criterion", "fisher")]
    return 0.98 - 0.01 * worse * (0.5 / budget) ** 3 * (1 + wrong)


class Told(keras_tuner.src.engine.base_tuner.BaseTuner):
    """Trials that take no time."""

    def run_trial(self, trial, *args, **kwargs):
        values = trial.hyperparameters.values
        goal = self.hypermodel.plan.objective
        if goal.measure == "file":  # a quarter smaller than asked for
            told = {"val_accuracy": quality(values["budget/file"], values)}
            told["file_fraction"] = 0.75 * values["budget/file"]
        else:
            told = {"val_accuracy": quality(values["budget"], values)}
            told["params_fraction"] = values["budget"]
        return told | {goal.name: goal.value(told, 1, dense=0.98)}


SPACE = SearchSpace(
    budget=(0.4, 0.95), learning_rate=(1e-4, 1e-2), criterion=("activation", "fisher")
)
GOAL = SizeAtQuality("val_accuracy", max_drop=0.01)


def told(model, folder, seed=1, proposes=True, trials=20, goal=GOAL, times=1, space=SPACE, **own):
    found = hypermodel(model, space, objective=goal)
    chooses = keras_tuner.oracles.RandomSearchOracle(
        found.objective, max_trials=trials, seed=seed, **own
    )
    tuner = Told(chooses, found, directory=folder, project_name=f"{seed}{proposes}")
    Project(Path(tuner.project_dir), {}).keep("val_accuracy", 0.98)
    for _ in range(times if proposes else 0):
        assert propose(tuner)
    tuner.search(verbose=0)
    return tuner


@pytest.fixture(scope="module")
def model():
    return network()


def best(tuner):
    return tuner.oracle.get_best_trials(1)[0].score


def test_a_search_ends_nearer_to_the_smallest_than_its_tuner_alone(model, tmp_path):
    alone, steered = (
        [best(told(model, tmp_path, seed, proposes)) for seed in (1, 2, 3)]
        for proposes in (False, True)
    )
    assert max(steered) < 0.54, "0.5 is the smallest that holds"
    assert np.mean(steered) < np.mean(alone) - 0.02


def test_the_same_seed_ends_the_same_also_after_a_break(model, tmp_path):
    whole = told(model, tmp_path / "a", trials=6)
    told(model, tmp_path / "b", trials=3)
    two = told(model, tmp_path / "b", trials=6, times=2)
    values = [[each.hyperparameters.values for each in trials_of(one)] for one in (whole, two)]
    assert values[0] == values[1], "nor does it matter how often it is asked for"
    (Path(two.project_dir) / FILE).unlink()  # which says what the dense start is worth
    assert two.oracle.populate_space("6")["values"]["budget"] < best(two)


def test_a_trial_that_lacks_its_metric_is_told(model, tmp_path):
    done = told(model, tmp_path, trials=2)
    file = Path(done.get_trial_dir("0")) / "trial.json"
    trial = json.loads(file.read_text())
    del trial["metrics"]["metrics"]["val_accuracy"]
    file.write_text(json.dumps(trial))
    with pytest.raises(
        SearchError, match=r"reported .val_accuracy.\. Received: trial 0 with .* in its place"
    ):
        told(model, tmp_path, trials=3)
    shutil.rmtree(file.parent)
    with pytest.warns(MendedWarning, match="is not there"):
        assert len(told(model, tmp_path, trials=3).oracle.end_order) == 3


def test_a_limit_is_searched_without_the_dense_start(model, tmp_path):
    limited = told(model, tmp_path, goal=SizeAtQuality("val_accuracy", limit=0.97))
    assert best(limited) < 0.56


def test_no_budget_is_tried_twice_and_none_once_the_least_has_held(model, tmp_path):
    alone, rates = (
        SearchSpace(budget=(0.4, 0.8)),
        SearchSpace((0.4, 0.8), learning_rate=(1e-4, 1e-2)),
    )
    holds, never = (SizeAtQuality("val_accuracy", limit=each) for each in (0.1, 0.99))

    def budgets(name, goal, space, trials=8):
        found = told(model, tmp_path / name, goal=goal, space=space, trials=trials)
        tried = [each.hyperparameters.values["budget"] for each in trials_of(found)]
        assert len(set(tried)) == len(tried)
        return tried

    ended = budgets("a", holds, alone)
    assert ended[-1] == 0.4
    assert len(ended) < 8
    assert budgets("a", holds, alone, trials=9) == ended, "nor does it go on"
    assert max(budgets("b", never, alone)) == 0.8
    assert min(budgets("c", holds, rates)) == 0.4, "other rates may be smaller in whole ranks"


def test_what_the_tuner_was_told_of_its_own_holds(model, tmp_path):
    def tried(name, own, **more):
        found = told(model, tmp_path / name, trials=8, hyperparameters=own, **more)
        return [each.hyperparameters.values for each in trials_of(found)]

    own = keras_tuner.HyperParameters()
    own.Fixed("learning_rate", 5e-4)
    own.Float("budget", 0.6, 0.9)
    own.Choice("criterion", ["fisher"])
    values = tried("a", own, goal=SizeAtQuality("val_accuracy", limit=0.1))
    assert values[0]["budget"] == pytest.approx((0.6 * 0.9) ** 0.5)
    assert min(each["budget"] for each in values) == 0.6
    assert {(each["learning_rate"], each["criterion"]) for each in values} == {(5e-4, "fisher")}

    steps = keras_tuner.HyperParameters()
    steps.Float("budget", 0.5, 0.9, step=0.1)
    never = SizeAtQuality("val_accuracy", limit=0.99)
    values = tried("b", steps, tune_new_entries=False, goal=never)
    tenths = 10 * np.array([each["budget"] for each in values])
    assert tenths == pytest.approx(tenths.round())
    assert len(set(tenths.round())) == len(tenths) == 5, "none twice, though steps are few"
    assert not any("learning_rate" in each for each in values), "its default is"


def test_a_budget_that_the_tuner_has_settled_is_nothing_to_steer(model, tmp_path):
    own = keras_tuner.HyperParameters()
    own.Fixed("budget", 0.7)
    found = hypermodel(model, SPACE, objective=GOAL)
    tuner = keras_tuner.RandomSearch(
        found, found.objective, hyperparameters=own, directory=tmp_path, max_trials=1
    )
    assert not propose(tuner)


def test_files_are_searched_though_they_are_smaller_than_their_budget(tmp_path):
    layers = [keras.layers.Dense(n, name=f"d{n}") for n in (128, 64, 4)]
    large = keras.Sequential([keras.Input((64,)), *layers])
    large.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    space = SearchSpace(budget={"file": (0.4, 0.95)}, learning_rate=(1e-4, 1e-2))
    goal = SizeAtQuality("val_accuracy", max_drop=0.01, measure="file")
    found = told(large, tmp_path, goal=goal, space=space)
    assert best(found) < 0.75 * 0.53, "0.5 is the smallest budget that holds"
