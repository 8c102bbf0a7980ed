"""What ends a search before its first trial, with words; what is done about folders."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from functools import partial

import keras
import keras_tuner
import numpy as np
import pytest
from searches import FIT, RNG, SPACE, X, Y, hypermodel, network, random_search, search, trials_of

from reducible_train import (
    LayerRule,
    Ramp,
    RankBackupAndRestore,
    RankEarlyStopping,
    RankModelCheckpoint,
    RankRecords,
    RankScheduler,
    RankTensorBoard,
    SearchSpace,
)
from reducible_train.errors import ArgumentError, ArgumentTypeError, RankError, ShortfallWarning
from reducible_train.settings.objectives import QualityAtSize, SearchObjective, SizeAtQuality
from reducible_train.tuner import evaluate_settings, pareto, propose
from reducible_train.tuner.errors import MendedWarning, SearchError
from reducible_train.tuner.evaluation import TrialPlan
from reducible_train.tuner.foresight import unforeseen
from reducible_train.tuner.project import FILE, Folder, Project
from reducible_train.tuner.trained_on import training_of
from reducible_train.tuner.trial_settings import schedule, scheduler_of


def refused(words, tmp_path, hyper=None, objective="val_accuracy", data=(X, Y), fit=(), **more):
    tuner = random_search(tmp_path, hypermodel() if hyper is None else hyper, objective, **more)
    with pytest.raises(SearchError, match=words):
        tuner.search(*data, **(FIT | dict(fit)))
    assert not trials_of(tuner)


def test_a_bound_on_the_model_that_trials_begin_from(tmp_path):
    words = "max_model_size=206 beside one of 412 .* limit=0.5"
    refused(words, tmp_path, max_model_size=206)
    refused(words, tmp_path, hypermodel(builder(network())), max_model_size=206)
    search(tmp_path, hypermodel(), trials=1, max_model_size=412)


def test_several_objectives_are_no_sum(tmp_path):
    wanted = [keras_tuner.Objective("val_loss", "min"), "val_accuracy"]
    refused("adds several objectives up as they are", tmp_path, objective=wanted)


@pytest.mark.parametrize("analysis", [True, 0, [], b"a.json"])
def test_an_analysis_is_one_or_its_file(analysis):
    with pytest.raises(TypeError, match="`analysis` must be an Analysis, or the path of its file"):
        hypermodel(analysis=analysis)


def test_a_model_must_be_compiled(tmp_path):
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(24, name="hidden"),
                              keras.layers.Dense(4, name="output")])  # fmt: skip
    refused("must be compiled", tmp_path, hypermodel(model))


def test_a_scheduler_among_the_callbacks(tmp_path):
    fit = {"callbacks": [RankScheduler(0.5)]}
    refused("makes a RankScheduler of its own", tmp_path, fit=fit)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (RankEarlyStopping, "Give keras.callbacks.EarlyStopping"),
        (type("Mine", (RankEarlyStopping,), {}), "a Mine. Give keras.callbacks.EarlyStopping"),
        (lambda s: RankModelCheckpoint(s, "b.keras", monitor="val_loss"), "keeps its best epoch"),
        (lambda s: RankBackupAndRestore(s, "backup"), "the same program goes on"),
        (lambda s: RankTensorBoard(s, "logs"), "Give keras.callbacks.TensorBoard"),
        (lambda s: RankRecords(s, on_epoch=print), "pareto"),
    ],
)
def test_what_stands_beside_a_scheduler_is_told_what_a_search_has_instead(kind, words, tmp_path):
    fit = {"callbacks": [kind(RankScheduler(0.5))]}
    refused(f"must do without a RankScheduler.*{words}", tmp_path, fit=fit)


def test_averages_that_validation_measures_and_no_trial_would_keep(tmp_path):
    fit = {"callbacks": [keras.callbacks.SwapEMAWeights()]}
    settings = {"budget": 0.6, "start": 0.0, "ramp": 0.0}
    words = r"would keep the weights themselves.*swap_on_epoch=False\. Give SwapEMAWeights\("
    refused(f"a search {words}", tmp_path, fit=fit)
    with pytest.raises(ArgumentError, match=f"a trial {words}"):
        evaluate_settings(network(), SPACE, settings, X, Y, **FIT, **fit)
    hyper, hp = hypermodel(), keras_tuner.HyperParameters()
    hp.values = settings
    with pytest.raises(ArgumentError, match=f"a trial {words}"):
        hyper.fit(hp, hyper.build(hp), X, Y, **FIT, **fit)


def test_a_metric_that_early_stopping_will_not_know(tmp_path):
    stop = keras.callbacks.EarlyStopping("val_los")
    refused("monitor='val_los'. With this model", tmp_path, fit={"callbacks": [stop]})
    model = network()
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["acc"])
    stops = [keras.callbacks.EarlyStopping(each, patience=9) for each in ("loss", "val_acc", "acc")]
    tuner = search(tmp_path / "b", hypermodel(model), "val_loss", 1, fit={"callbacks": stops})
    assert trials_of(tuner)


def test_a_metric_of_one_of_several_outputs_that_early_stopping_will_not_know(tmp_path):
    inputs = keras.Input((12,))
    hidden = keras.layers.Dense(64, name="h")(keras.layers.Dense(64, name="hidden")(inputs))
    model = keras.Model(inputs, {each: keras.layers.Dense(4, name=each)(hidden) for each in "ab"})
    model.compile("sgd", "mse", metrics={"a": ["mae"], "b": ["mae"]}, run_eagerly=True)
    y = dict.fromkeys("ab", X[:, :4])
    stops = [keras.callbacks.EarlyStopping(each) for each in ("val_loss", "val_a_mae")]
    words = "another name .* for 'val_a_mae'. Say mode='min'"
    fit = {"callbacks": stops}
    refused(words, tmp_path, hypermodel(model), "val_loss", data=(X, y), fit=fit)
    fit = {"callbacks": [stops[0], keras.callbacks.EarlyStopping("val_a_mae", mode="min")]}
    tuner = random_search(tmp_path / "told", hypermodel(model), "val_loss", 1)
    tuner.search(X, y, **(FIT | fit))
    assert trials_of(tuner)


def test_a_plain_hypermodel_with_a_scheduler_is_told_what_will_not_work(tmp_path):
    tuner = random_search(tmp_path, lambda hp: network() if hp.Int("u", 1, 4) else None, trials=1)
    with pytest.warns(UserWarning, match="Give the tuner RankHyperModel"):
        tuner.search(X, Y, **FIT | {"epochs": 1}, callbacks=[RankScheduler(0.5)])
    tuner = random_search(
        tmp_path / "h", lambda hp: network() if hp.Int("u", 1, 4) else None, trials=1
    )
    late = RankScheduler(Ramp(1.0, 0.5, start_epoch=1, end_epoch=2))  # as Hyperband's first are
    with pytest.warns(UserWarning, match="Give the tuner RankHyperModel"):
        tuner.search(X, Y, **FIT | {"epochs": 1}, callbacks=[late])
    assert trials_of(tuner, "FAILED")


def test_an_objective_that_no_trial_reports(tmp_path):
    wanted = keras_tuner.Objective("val_f1", "max")
    refused("val_f1", tmp_path, objective=wanted)
    wanted = keras_tuner.Objective("latency", "min")
    refused("must be what trials report. Received: 'latency'", tmp_path, objective=wanted)


_FROZEN = dataclass(frozen=True)


def of_ones_own(decorate=_FROZEN, **body):
    told = {"name": "own", "monitor": "val_accuracy", "mode": "auto", "measure": "parameters"}
    told["direction"] = lambda self, sign: "max"
    told["value"] = lambda self, logs, sign, dense=None: logs["val_accuracy"]
    return decorate(type("Own", (SearchObjective,), told | body))()


def test_an_objective_of_ones_own_may_name_its_size_and_no_measure():
    @_FROZEN
    class Own(SearchObjective):
        name = "own"
        monitor = "val_accuracy"
        mode = "max"
        size_name = "params_fraction"

        def direction(self, sign):
            return "max"

        def value(self, logs, sign, dense=None):
            return logs["val_accuracy"] - logs["params_fraction"]

    assert hypermodel(objective=Own()).objective.name == "own"
    assert unforeseen(SPACE.domains[:1], Own()).startswith("the best quality")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"measure": "joules"}, "`measure` of the objective Own must be one of 'parameters'"),
        ({"name": None}, "`name` of the objective Own must be text. Received: None"),
        ({"decorate": lambda made: made}, "must be a frozen dataclass.* Received: Own"),
        ({"name": "val_accuracy"}, "`name` of .* Own must be that of no other metric"),
        ({"value": lambda *_: None}, "`value` of the objective Own must return a number.*None"),
        ({"value": lambda *_: "0.5"}, "`value` of the objective Own must .* '0.5'"),
        ({"direction": lambda *_: "up"}, "`direction` of the objective Own must .* 'up'"),
    ],
)
def test_an_objective_of_ones_own_is_looked_at_before_a_trial(body, words):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=words):
        assert hypermodel(objective=of_ones_own(**body)).objective is None


def test_an_objective_of_ones_own_covers_no_other_metric():
    def tried(objective, logs=()):
        return evaluate_settings(network(), SearchSpace(budget=(0.3, 0.6)), {"budget": 0.5}, X, Y,
                                 objective=objective, **FIT, callbacks=list(logs))  # fmt: skip

    assert hypermodel(objective=of_ones_own()).objective.direction == "max"
    later = of_ones_own(value=lambda self, logs, *_: logs["val_loss"] and "a word")
    with pytest.raises(ArgumentTypeError, match="`value` of the objective Own must return a"):
        tried(later)
    never = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: pytest.fail("trained"))
    for name in ("val_loss", "loss", "params"):
        with pytest.raises(SearchError, match=f"no other metric .* Received: name='{name}'"):
            tried(of_ones_own(name=name), [never])


def test_validation_data_that_are_not_there(tmp_path):
    refused("valid", tmp_path, fit={"validation_split": 0.0})
    hyper = hypermodel(objective=SizeAtQuality("val_accuracy", max_drop=0.1))
    refused("valid", tmp_path / "b", hyper, hyper.objective, fit={"validation_split": 0.0})


@pytest.mark.parametrize(
    "wanted",
    [
        keras_tuner.Objective("val_each", "max"),
        QualityAtSize("val_each", limit=0.7, mode="max"),
        SizeAtQuality("val_each", max_drop=0.1, mode="max"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_metric_of_several_numbers_ends_the_search_by_its_first_step(wanted, tmp_path):
    model = network()
    stock = isinstance(wanted, keras_tuner.Objective)
    model.compile("sgd", "categorical_crossentropy", metrics=[keras.metrics.F1Score(name="each")])
    hyper = hypermodel(model, objective=None if stock else wanted)
    own = wanted if stock else hyper.objective
    data = (X, np.eye(4, dtype="float32")[Y])
    words = r"of one number\. Received: monitor='val_each', which is 4\..*average='macro'"
    refused(words, tmp_path, hyper, own, data)
    mean = keras.metrics.F1Score(average="macro", name="each")
    model.compile("sgd", "categorical_crossentropy", metrics=[mean])
    tuner = random_search(tmp_path / "mean", hypermodel(model), "val_loss", trials=1)
    tuner.search(*data, **FIT)
    assert trials_of(tuner)


def test_a_metric_that_is_called_like_one_of_the_trials(tmp_path):
    model = network()
    own = keras.metrics.SparseCategoricalAccuracy(name="file_bytes")
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=[own])
    refused("each trial adds: .* Received: 'file_bytes'", tmp_path, hypermodel(model), "val_loss")


def test_data_that_can_be_read_once(tmp_path):
    once = iter([(X, Y)])
    hyper = hypermodel(objective=SizeAtQuality("val_accuracy", max_drop=0.1))
    fit = {"validation_split": 0.0, "validation_data": once, "validation_steps": 1}
    refused("which can be read only once", tmp_path, hyper, hyper.objective, fit=fit)
    data = (iter([(X, Y)] * 99),)
    fit = {"validation_split": 0.0, "validation_data": (X, Y), "steps_per_epoch": 1}
    fit |= {"batch_size": None}
    hyper = hypermodel(latency=True)
    refused("`latency`.*read only once", tmp_path / "b", hyper, data=data, fit=fit)


@pytest.mark.parametrize(
    ("fit", "words"),
    [
        ({"epochs": 0}, "`epochs` of a trial must be a whole number"),
        ({"epochs": 2.0}, r"Received: epochs=2\.0"),
        ({"initial_epoch": 3}, "must have an epoch to train"),
        ({"validation_freq": 0}, "`validation_freq` must be a whole number"),
        ({"validation_split": 0.99}, r"0\.99 of 64 samples"),
        ({"validation_split": 1.5}, r"`validation_split` must lie in \[0, 1\)"),
        ({"callbacks": keras.callbacks.TerminateOnNaN()}, "`callbacks` must be a list"),
        ({"callbacks": ["EarlyStopping"]}, "Received: 'EarlyStopping' among them"),
        ({"sample_weight": Y[1:]}, "Training data .* 64, 64, 63 samples"),
        ({"validation_data": (X, Y[1:])}, "`validation_data` .* 64, 63 samples"),
        ({"validation_data": (X[:0], Y[:0])}, "at least one. Received: 0, 0 samples"),
    ],
)
def test_what_no_fit_takes_spends_no_trial(fit, words, tmp_path):
    refused(words, tmp_path, fit=fit)
    assert not [*tmp_path.glob("s/trial_*")]  # so the mended program has all of them


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return X[32 * index :][:32], Y[32 * index :][:32]


@pytest.mark.parametrize(
    ("data", "fit", "words"),
    [
        ((Batches(),), {}, "`validation_split` holds out samples of arrays.* a Batches"),
        ((Batches(), Y), {"validation_data": (X, Y)}, "`x` must be arrays where `y` is given"),
        ((X, Y), {"validation_data": (Batches(), Y)}, "`validation_data` must be arrays where"),
    ],
)
@pytest.mark.parametrize("alone", [False, True])
def test_what_goes_with_arrays_only(data, fit, words, alone, tmp_path):
    fit = {"batch_size": None, **fit}
    if not alone:
        refused(words, tmp_path, data=data, fit=fit)
        assert not [*tmp_path.glob("s/trial_*")]
        return
    goal, given = SizeAtQuality("val_accuracy", max_drop=0.9), {"budget": 0.6}
    with pytest.raises(ArgumentError, match=words):
        evaluate_settings(network(), SearchSpace(budget=(0.45, 0.8)), given, *data, objective=goal,
                          **FIT | fit)  # fmt: skip


def test_data_that_the_model_cannot_take_spend_no_trial(tmp_path):
    fit = {"validation_data": (X[:, :5], Y)}
    refused("must be able to judge its data", tmp_path, fit=fit)
    assert not trials_of(random_search(tmp_path, hypermodel()), "FAILED")


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_a_generator_serves_one_trial(tmp_path):
    fit = {"validation_split": 0.0, "validation_data": (X, Y), "batch_size": None, "epochs": 1}
    fit["shuffle"] = False
    once = (((X, Y) for _ in range(3)),)
    refused("`x` must be there for each trial. Received: a generator", tmp_path, data=once,
            fit=fit)  # fmt: skip
    tuner = random_search(tmp_path / "b", hypermodel(space=SearchSpace(budget=(0.45, 0.8))))
    with pytest.warns(UserWarning, match="each trial goes on where the one before"):
        tuner.search(((X, Y) for _ in range(99)), steps_per_epoch=1, verbose=0, **fit)
    tuner = random_search(tmp_path / "c", hypermodel(space=SearchSpace(budget=(0.45, 0.8))),
                          trials=1)  # fmt: skip
    tuner.search(((X, Y) for _ in range(3)), verbose=0, **fit)  # there is no other
    assert trials_of(tuner)


class Folds(keras_tuner.RandomSearch):
    """It makes of what `search` is given what `fit` takes."""

    def run_trial(self, trial, x, y, *, epochs, **kwargs):
        return super().run_trial(trial, np.concatenate(x), np.concatenate(y), epochs=epochs[0],
                                 **kwargs)  # fmt: skip


def test_what_a_tuner_makes_of_the_arguments_of_a_search_is_looked_at_then(tmp_path):
    hyper = hypermodel(space=SearchSpace(budget=(0.45, 0.8)), calibration=np.int64(16))
    tuner = Folds(hyper, "val_accuracy", max_trials=1, directory=tmp_path, project_name="f")
    folds = {"epochs": [1, 2], "validation_data": (X, Y), "verbose": 0}
    tuner.search([X[:40], X[40:]], [Y[:40], Y[40:]], **folds)
    assert trials_of(tuner)
    tuner = Folds(hyper, "val_accuracy", max_trials=1, directory=tmp_path, project_name="g")
    with pytest.raises(SearchError, match="`epochs` of a trial"):
        tuner.search([X], [Y], **(folds | {"epochs": [0]}))


def test_a_metric_that_only_the_tuner_brings_may_tell_the_quality(tmp_path):
    name = "val_sparse_top_k_categorical_accuracy"
    goal = SizeAtQuality(name, max_drop=0.5)
    told = {"max_trials": 1, "directory": tmp_path, "overwrite": True}
    hyper = hypermodel(network(), objective=goal)
    brings = {"optimizer": "sgd", "loss": "sparse_categorical_crossentropy"}
    brings["metrics"] = [name.removeprefix("val_")]
    tuner = keras_tuner.RandomSearch(hyper, hyper.objective, **told, **brings)
    tuner.search(X, Y, **FIT)
    assert len(pareto(tuner).trials) == len(pareto(tuner, name).trials) == 1
    best, chosen = tuner.get_best_models(1)[0], tuner.get_best_hyperparameters()[0]
    assert name in hyper.fit(chosen, best, X, Y, **(FIT | {"initial_epoch": 1, "epochs": 2}))
    hyper = hypermodel(network(), objective=goal)
    with pytest.raises(SearchError, match="With this model there will be loss, accuracy"):
        keras_tuner.RandomSearch(hyper, hyper.objective, **told).search(X, Y, **FIT)
    own = hypermodel(network(), objective=SizeAtQuality("val_of_mine", max_drop=0.1))
    with pytest.raises(ArgumentError, match="metric of your own that only the tuner has"):
        _ = own.objective


def test_a_trial_that_stops_early_says_what_helps_in_a_search():
    """`RankEarlyStopping`, which helps elsewhere, is none of its callbacks."""
    stops = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(stops.model, "stop_training", True)
    )
    given = {"budget": 0.6, "start": 0.3, "ramp": 0.5}
    fit = FIT | {"epochs": 6, "callbacks": [stops]}
    with warnings.catch_warnings():
        warnings.simplefilter("error", ShortfallWarning)
        with pytest.raises(ArgumentError, match="`start` and `ramp` of the space"):
            evaluate_settings(network(), SPACE, given, X, Y, **fit)


def test_hyperband_validates_each_epoch(tmp_path):
    tuner = keras_tuner.Hyperband(
        hypermodel(), "val_accuracy", max_epochs=4, factor=2, directory=tmp_path, project_name="h"
    )
    with pytest.raises(SearchError, match="Hyperband lets trials end after few epochs"):
        tuner.search(X, Y, **(FIT | {"validation_freq": 2}))


def test_calibration_data_are_looked_at_before_the_first_trial(tmp_path):
    refused("`calibration` must be arrays", tmp_path, hypermodel(calibration="data"))


def test_a_start_that_cannot_be_measured(tmp_path):
    hyper = hypermodel(objective=SizeAtQuality("val_accuracy", max_drop=0.1))
    fit = {"validation_data": (X[:, :5], Y)}
    words = r"`max_drop` measures the dense start .* ValueError: [^\n]*\.$"
    refused(words, tmp_path, hyper, hyper.objective, fit=fit)


def test_a_start_of_which_nothing_can_be_lost(tmp_path):
    """As of a regression, no answer of which is a class: each trial would be good enough."""
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(64), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["accuracy"])
    data, goal = (X, X[:, :1] + 0.5), SizeAtQuality("val_accuracy", max_drop=0.1)
    words = "val_accuracy of the model as it is is 0, so nothing of it can be lost"
    hyper = hypermodel(model, objective=goal)
    refused(words, tmp_path, hyper, hyper.objective, data)
    with pytest.raises(ArgumentError, match=words):
        evaluate_settings(model, SPACE, {"budget": 0.6}, *data, objective=goal, **FIT)


def test_a_tuner_that_compiles_is_given_the_metrics_too(tmp_path):
    hyper = hypermodel(objective=SizeAtQuality("val_accuracy", max_drop=0.1))
    refused("Give it all three", tmp_path, hyper, hyper.objective, optimizer="sgd")


def test_what_is_no_tuner_proposes_nothing():
    with pytest.raises(TypeError, match=r"needs a tuner of keras-tuner\. Received: 'random'"):
        propose("random")


def test_a_space_that_cannot_be_done_is_refused_at_once():
    for budget in (0.01, {"bytes": 0.01}, {"flops": (0.01, 0.5)}):
        with pytest.raises(RankError, match="search space goes too low"):
            hypermodel(space=SearchSpace(budget=budget, start=(0.0, 0.1)))
    with pytest.raises(RankError, match="search space goes too low"):
        hypermodel(space=SearchSpace(budget=(0.4, 0.8), min_rank={"hidden": (5, 6)}))
    with pytest.warns(ShortfallWarning, match="do not go together"):
        hypermodel(space=SearchSpace(budget=(0.4, 0.8), min_rank={"hidden": (1, 6)}))
    with pytest.raises(RankError, match="no multiple of 64 saves enough"):
        hypermodel(space=SearchSpace(budget=(0.4, 0.8), multiple=(64, 128, 256)))
    with pytest.warns(ShortfallWarning, match="do not go together"):
        hypermodel(space=SearchSpace(budget=(0.6, 0.8), multiple=(1, 2, 64)))
    with pytest.raises(ArgumentError, match="knapsak"):
        hypermodel(space=SearchSpace(allocation=("knapsack", "knapsak")))
    with pytest.raises(TypeError, match="must be a SearchSpace"):
        hypermodel(space={"budget": 0.5})
    with pytest.raises(TypeError, match="must be a SizeAtQuality"):
        hypermodel(objective="val_accuracy")
    with pytest.raises(ArgumentError, match="`objective` is there if"):
        _ = hypermodel().objective


def test_a_limit_below_all_budgets_is_told():
    for budget, measure in ((0.45, "parameters"), ({"flops": (0.45, 0.8)}, "flops")):
        goal = QualityAtSize("val_accuracy", limit=0.3, measure=measure)
        space = SearchSpace(budget=budget, start=(0.0, 0.1))
        with pytest.warns(ShortfallWarning, match="is asked .* limit is 0.3 of .*budget .* 0.45"):
            hypermodel(space=space, objective=goal)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ShortfallWarning)
        for limit, measure in ((0.45, "parameters"), (0.3, "bytes")):
            hypermodel(objective=QualityAtSize("val_accuracy", limit=limit, measure=measure))


def test_a_learning_rate_beside_a_schedule():
    model = network()
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    with pytest.raises(ArgumentError, match="has a schedule of its own"):
        hypermodel(model, SearchSpace(budget=0.5, learning_rate=(1e-4, 1e-2)))


class OwnOptimizer(keras.Sequential):
    """It trains by an optimizer that it holds beside Keras's."""

    def train_step(self, data):
        raise NotImplementedError

    def compile(self, *args, **kwargs):
        super().compile(*args, **kwargs)
        self.steps = {"mine": keras.optimizers.SGD(0.1)}


def test_a_learning_rate_that_trains_nothing(tmp_path):
    space = SearchSpace(budget=(0.45, 0.8), learning_rate=(1e-4, 1e-2))

    def build():
        model = OwnOptimizer(network().layers)
        model.compile("adam", "sparse_categorical_crossentropy")
        return model

    with pytest.raises(ArgumentError, match="has others beside it: SGD"):
        hypermodel(build, space)
    for schedule_of in (lambda epoch: 0.1, lambda epoch, rate: 0.1 if epoch < 2 else rate):
        fit = {"callbacks": [keras.callbacks.LearningRateScheduler(schedule_of)]}
        refused("the same whatever it is", tmp_path, hypermodel(space=space), fit=fit)
    falls = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.9 * rate)
    fit = {"callbacks": [falls], "epochs": 1}
    tuner = search(tmp_path / "b", hypermodel(space=space), trials=1, fit=fit)
    assert trials_of(tuner)
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    compiles = {"optimizer": keras.optimizers.Adam(rate), "metrics": ["accuracy"]}
    compiles["loss"] = "sparse_categorical_crossentropy"
    refused("has a schedule of its own", tmp_path / "c", hypermodel(space=space), **compiles)


# --- rules -----------------------------------------------------------------------------


def test_the_rules_of_the_user_come_first():
    mine = LayerRule("hidden", max_rank=3)
    space = SearchSpace(min_rank={"hid*": 2, "out*": (2, 3)}, budget=0.5)
    told = space.completed_choice({"min_rank/out*": 3})
    rules = scheduler_of(told, 4, rules=[mine]).settings.rules
    assert [(rule.match, rule.min_rank) for rule in rules] == [
        ("hidden", None), ("hid*", 2), ("out*", 3)]  # fmt: skip


def test_floors_that_change_nothing_are_refused():
    rules = [LayerRule("hidden", max_rank=3)]
    space = SearchSpace(budget=(0.45, 0.8), min_rank={"hid*": (1, 2)})
    with pytest.raises(ArgumentError, match="has a rule before it"):
        hypermodel(space=space, rules=rules)
    with pytest.raises(ArgumentError, match=r"matches none\. There are hidden, output"):
        hypermodel(space=SearchSpace(budget=0.5, min_rank={"encoder*": (1, 2)}))


def of_two_depths(hp):
    model = network()
    if hp.Boolean("deep"):
        layers = [keras.layers.Dense(12, "relu", name="deeper"), *model.layers]
        model = keras.Sequential([keras.Input((12,)), *layers])
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def test_rules_and_floors_may_be_of_layers_that_some_trials_lack():
    space = SearchSpace(budget=(0.45, 0.8), min_rank={"dee*": (2, 3)})
    told, rules = {"budget": 0.7, "min_rank/dee*": 3}, [LayerRule("hidden"), LayerRule("no*")]
    for deep, left in ((True, ["hidden", "dee*"]), (False, ["hidden"])):
        own = keras_tuner.HyperParameters()
        own.values["deep"] = deep
        known = {"rules": rules, "layers_of": of_two_depths(own)}
        scheduler = scheduler_of(space.completed_choice(told), 3, **known)
        assert [rule.match for rule in scheduler.settings.rules] == left
        given = FIT | {"epochs": 1, "rules": rules}
        with pytest.warns(UserWarning, match=r"Received: 'no\*', which apply to none"):
            evaluate_settings(of_two_depths, space, {"deep": deep, **told}, X, Y, **given)


def test_rules_and_floors_that_hold_in_no_model_so_far_are_told(tmp_path):
    space = SearchSpace(budget=(0.45, 0.8), min_rank={"deeper": (2, 3), "typo": (2, 3)})
    hyper = hypermodel(of_two_depths, space, rules=[LayerRule("nowhere", max_rank=9)])
    tuner = random_search(tmp_path, hyper, trials=1)
    deep = keras_tuner.HyperParameters()
    deep.values["deep"] = True
    with pytest.warns(UserWarning, match="Fractions"):
        hyper.build(deep)
    words = "Received: 'nowhere', 'typo', which apply to none .* model has hidden, output"
    with pytest.warns(UserWarning, match=words):
        tuner.search(X, Y, **FIT)
    assert len(trials_of(tuner)) == 1


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 50])
def test_the_last_epoch_is_at_the_final_ranks(epochs):
    for start, ramp in ((0.0, 0.0), (0.0, 0.99), (0.99, 0.0), (0.3, 0.6)):
        falls = schedule(0.2, start, ramp, "cubic", epochs)
        assert (falls if isinstance(falls, float) else falls(epochs - 1)) == 0.2


# --- the folder of another search ------------------------------------------------------


def test_a_folder_of_another_search_is_noticed_wherever_it_is_read(tmp_path):
    model = network()
    goal = QualityAtSize("val_accuracy", limit=0.9)
    first = search(tmp_path, hypermodel(model, objective=goal), goal_of(goal), 1, fit={"epochs": 1})
    (trial,) = trials_of(first)
    retrained = network()
    wide = SearchSpace(budget=(0.4, 0.9), start=(0.0, 0.45), ramp=(0.0, 0.5), criterion="frobenius")
    others = {
        "another space": hypermodel(model, wide, objective=goal),
        "another trained model": hypermodel(retrained, objective=goal),
        "another objective": hypermodel(model, objective=QualityAtSize("val_accuracy", limit=0.8)),
        "other rules": hypermodel(model, objective=goal, rules=[LayerRule("hidden", max_rank=2)]),
    }
    for words, hyper in others.items():
        tuner = random_search(tmp_path, hyper, goal_of(goal), 1)
        with pytest.raises(SearchError, match=f"a search with {words}"):
            tuner.search(X, Y, **FIT)  # it is finished, so keras-tuner would ask nobody
        with pytest.raises(SearchError, match=f"a search with {words}"):
            tuner.get_best_models(1)
        with pytest.raises(SearchError, match=f"a search with {words}"):
            pareto(tuner)
    same = random_search(tmp_path, hypermodel(model, objective=goal), goal_of(goal), 1)
    same.search(X, Y, **FIT | {"epochs": 1})
    assert same.get_best_models(1)
    assert [each.trial_id for each in pareto(same).trials] == [trial.trial_id]
    with pytest.raises(SearchError, match="a search with other rules"):
        search(tmp_path, hyper, goal_of(goal), 2)
    search(tmp_path, hyper, goal_of(goal), 1, fit={"epochs": 1}, overwrite=True)


def test_a_folder_whose_fractions_of_a_file_were_others_is_not_gone_on_in(tmp_path):
    goal = QualityAtSize("val_accuracy", limit=0.9, measure="file")
    folder = Folder(TrialPlan(SPACE, goal), "a model")
    folder.opened(tmp_path)
    folder.check(tmp_path)
    told = json.loads((tmp_path / FILE).read_text())
    del told["objective"]["fraction of"]  # as an older version wrote it
    (tmp_path / FILE).write_text(json.dumps(told))
    with pytest.raises(SearchError, match=r"objective \(fraction of none, now the dense file\)"):
        folder.check(tmp_path)


def test_settings_of_an_engine_that_its_folder_would_overrule_are_compared(tmp_path):
    """keras-tuner reads them from the folder, whatever the tuner was asked for."""
    model, place = network(), {"directory": tmp_path, "project_name": "s"}

    def hyperband(**asked):
        told = {"max_epochs": 2, "factor": 2, **place, **asked}
        return keras_tuner.Hyperband(hypermodel(model), "val_accuracy", **told)

    def goes_on(words, tuner):
        with pytest.raises(SearchError, match=f"other settings of its tuner {words}"):
            tuner.search(X, Y, **FIT)

    hyperband().search(X, Y, **FIT)
    count = len(list(tmp_path.glob("s/trial_*")))
    goes_on(r"\(max_epochs 2, now 4\)", hyperband(max_epochs=4))
    goes_on(r"\(hyperband_iterations 1, now 2\)", hyperband(hyperband_iterations=2))
    told = tmp_path / "s" / "reducible_search.json"
    older = {
        name: value for name, value in json.loads(told.read_text()).items() if name != "oracle"
    }
    told.write_text(json.dumps(older))  # as an older version wrote it
    goes_on(r"\(max_epochs 2, now 4\)", hyperband(max_epochs=4))
    hyperband().search(X, Y, **FIT)
    assert len(list(tmp_path.glob("s/trial_*"))) == count

    def bayesian(trials, **asked):
        told = {"max_trials": trials, "directory": tmp_path, "project_name": "b"}
        return keras_tuner.BayesianOptimization(hypermodel(model), "val_accuracy", **told, **asked)

    bayesian(1).search(X, Y, **FIT)
    goes_on(r"\(num_initial_points none, now 5\)", bayesian(2, num_initial_points=5))
    bayesian(2).search(X, Y, **FIT)
    assert len(list(tmp_path.glob("b/trial_*"))) == 2


def test_a_folder_goes_on_with_the_same_data_and_settings_only(tmp_path):
    model, fit = network(), {"epochs": 1}
    search(tmp_path, hypermodel(model), trials=1, fit=fit)
    kept = {path: path.read_bytes() for path in tmp_path.glob("**/*.json")}

    def goes_on(words, data=(X, Y), compiled=None, kind=keras_tuner.RandomSearch, **more):
        hyper = hypermodel(model)
        given = {"max_trials": 2, "directory": tmp_path, "project_name": "s"} | (compiled or {})
        tuner = kind(hyper, "val_accuracy", **given)
        with pytest.raises(SearchError, match=words):
            tuner.search(*data, **(FIT | fit | more))

    goes_on(r"another tuner \(RandomSearch, now GridSearch\)", kind=keras_tuner.GridSearch)
    assert {path: path.read_bytes() for path in tmp_path.glob("**/*.json")} == kept
    goes_on("a search with other data", data=(X + 1, Y))
    goes_on("a search with other data", data=(X, (Y + 1) % 4))
    goes_on(r"other training settings \(epochs 1, now 2\)", epochs=2)
    goes_on(r"other training settings \(batch_size 32, now 8\)", batch_size=8)
    goes_on(r"\(executions_per_trial none, now 2\)", compiled={"executions_per_trial": 2})
    rate = {"optimizer": keras.optimizers.SGD(0.5), "metrics": ["accuracy"]}
    goes_on(r"\(learning_rate 0.01, now 0.5\)", compiled=rate)
    weights = {0: 2.0, 1: 1.0, 2: 1.0, 3: 1.0}
    goes_on(r"\(class_weight none, now \{'0': '2', ", class_weight=weights)
    goes_on(r"other data \(sample_weight\)", sample_weight=np.ones(len(X)))
    trial = tmp_path / "s" / "trial_0" / "trial.json"
    assert trial.read_bytes() == kept[trial], "what has finished is as it was"
    same = {**fit, "shuffle": True, "batch_size": None}  # what `fit` does by itself
    tuner = random_search(tmp_path, hypermodel(model), trials=2)
    tuner.search(X.astype("float64"), Y.astype("int32"), **(FIT | same))
    assert len(trials_of(tuner)) == 2


def test_each_search_of_one_hypermodel_is_compared_with_its_folder(tmp_path):
    hyper, fit = hypermodel(), {"epochs": np.int64(1), "batch_size": np.int32(32)}
    search(tmp_path, hyper, trials=1, fit=fit)
    for data, more in (((X + 1, Y), {}), ((X, 1 - Y), {"epochs": 2})):
        with pytest.raises(SearchError, match="a search with other data"):
            random_search(tmp_path, hyper, trials=2).search(*data, **(FIT | fit | more))
    tuner = search(tmp_path, hyper, trials=1, fit=fit, overwrite=True)
    assert len(trials_of(tuner)) == 1
    tuner.oracle.max_trials = 2
    with pytest.raises(SearchError, match=r"other training settings \(epochs 1, now 2\)"):
        tuner.search(X, Y, **(FIT | {"epochs": 2}))


@pytest.mark.parametrize("start", [network(), network])
def test_what_a_tuner_compiles_with_is_compared_also_where_all_trials_are_done(start, tmp_path):
    given = {"optimizer": "adam", "loss": "sparse_categorical_crossentropy", "metrics": ["acc"]}
    once = {"objective": "val_loss", "trials": 1, "fit": {"epochs": 1}}
    search(tmp_path, hypermodel(start), **(once | given))
    for words, more in (
        (r"\(epochs 1, now 2\)", {"fit": {"epochs": 2}}),
        (r"\(learning_rate 0.001, now 0.5\)", {"optimizer": keras.optimizers.Adam(0.5)}),
        (r"\(loss sparse_categorical_crossentropy, now mse\)", {"loss": "mse"}),
    ):
        with pytest.raises(SearchError, match=words):
            search(tmp_path, hypermodel(start), **(once | given | more))
    search(tmp_path, hypermodel(start), **(once | given | {"trials": 2}))


def test_numbers_of_numpy_are_settings_like_others(tmp_path):
    def told(kind):
        names = ("epochs", "batch_size", "steps_per_epoch", "validation_steps")
        return training_of("RandomSearch", None, {"x": X, **dict.fromkeys(names, kind(3))})

    Project(tmp_path, told(int)).begin()
    for kind in (np.int64, np.uint8, np.array):
        Project(tmp_path, told(kind)).check()
    with pytest.raises(SearchError, match=r"\(shuffle none, now False\)"):
        Project(tmp_path, training_of("RandomSearch", None, {
            "x": X, "epochs": 3, "batch_size": 3, "steps_per_epoch": 3, "validation_steps": 3,
            "shuffle": np.False_})).check()  # fmt: skip


def test_another_version_may_know_more_and_less(tmp_path):
    model, told = network(), {"x": X, "y": Y}
    kept = training_of("RandomSearch", model, told)
    Project(tmp_path, kept).begin()

    def now(known=(), unknown=()):
        found = json.loads(json.dumps(kept))
        for name in unknown:
            del found["training"][name]
        return found | {"training": found["training"] | dict(known)}

    usual = kept["optional"]["training"]
    assert {"use_ema", "momentum", "learning_rate"} <= set(usual)
    Project(tmp_path, now(unknown=["use_ema", "momentum"])).check()
    later = now({"new": 3})
    later["optional"]["training"].append("new")
    Project(tmp_path, later).check()
    with pytest.raises(SearchError, match=r"\(new none, now 3\)"):
        Project(tmp_path, now({"new": 3})).check()
    with pytest.raises(SearchError, match=r"\(momentum 0, now 0.9\)"):
        Project(tmp_path, now({"momentum": "0.9"})).check()
    with pytest.raises(SearchError, match=r"\(loss sparse_categorical_crossentropy, now none\)"):
        Project(tmp_path, now(unknown=["loss"])).check()
    (tmp_path / "reducible_search.json").write_text('{"objective": "as it was told", "data": "7"}')
    Project(tmp_path, {**kept, "objective": {"kind": "QualityAtSize"}}).begin()
    assert "arrays" in json.loads((tmp_path / "reducible_search.json").read_text())


def test_of_a_dataset_nothing_is_known(tmp_path):
    Project(tmp_path, training_of("RandomSearch", None, {"x": iter([(X, Y)])})).begin()
    arrays = training_of("RandomSearch", None, {"x": X, "y": Y})
    Project(tmp_path, arrays).begin()
    assert json.loads((tmp_path / "reducible_search.json").read_text())["arrays"] == {}


def test_how_a_model_was_compiled_is_compared_in_whole(tmp_path):
    def told(rate=0.1, smoothing=0.1, **more):
        model = network()
        schedule = keras.optimizers.schedules.CosineDecay(rate, 10)
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)
        model.compile(keras.optimizers.Adam(schedule), loss, **more)
        return training_of("RandomSearch", model, {"x": X, "y": Y})

    Project(tmp_path, told()).begin()
    Project(tmp_path, told()).check()
    for words, other in (
        (r"\(learning_rate\)", told(rate=0.2)),
        (r"\(loss.label_smoothing 0.1, now 0.2\)", told(smoothing=0.2)),
        (r"\(loss_weights none, now ", told(loss_weights=[0.5])),
    ):
        with pytest.raises(SearchError, match=words):
            Project(tmp_path, other).check()


def test_trials_that_nobody_tells_of_are_warned_of(tmp_path):
    model = network()
    search(tmp_path, hypermodel(model), trials=1, fit={"epochs": 1})
    (tmp_path / "s" / "reducible_search.json").unlink()
    with pytest.warns(MendedWarning, match="holds 1 trials, and its reducible_search.json"):
        search(tmp_path, hypermodel(model), trials=2, fit={"epochs": 1})


def goal_of(goal):
    return keras_tuner.Objective(goal.name, goal.direction(1))


def test_values_of_another_space_are_refused_when_a_model_is_built():
    hp = keras_tuner.HyperParameters()
    hp.Fixed("budget", 0.1)
    with pytest.raises(SearchError, match="`budget` must be chosen in"):
        hypermodel().build(hp)


def asking(ask):
    """A function that builds the model, and asks keras-tuner for something before it does."""

    def build(hp):
        ask(hp)
        return network()

    return build


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda hp: hp.Float("start", 0.0, 0.1), r"'start' as Float\(.*max_value=0.1, .*=0.4,"),
        (lambda hp: hp.Choice("budget", [0.5, 0.7]), "'budget' as Choice.* Rename it, as 'my_budg"),
        (lambda hp: hp.Int("tuner/epochs", 1, 9), "keras-tuner's own. Rename it, as 'my_epochs'"),
    ],
)
def test_what_a_function_asks_for_has_a_name_of_its_own(ask, words):
    with pytest.raises(ArgumentError, match=words):
        hypermodel(asking(ask))
    settings = {"budget": 0.6, "start": 0.3, "ramp": 0.3}
    with pytest.raises(ArgumentError, match=words):
        evaluate_settings(asking(ask), SPACE, settings, X, Y, **FIT)


def test_what_a_function_asks_for_in_some_trials_has_a_name_of_its_own(tmp_path):
    def ask(hp):
        if hp.Boolean("with dropout"):
            hp.Float("start", 0.0, 0.1)

    hp = keras_tuner.HyperParameters()
    hp.values["with dropout"] = True
    with pytest.raises(SearchError, match="Received: 'start' as Float"):
        hypermodel(asking(ask)).build(hp)
    hp.Float("start", 0.0, 0.1)  # and no longer looked at


def test_a_function_may_ask_for_what_the_space_has():
    def ask(hp):
        found.append(hp.Float("budget", 0.45, 0.8, sampling="log"))

    found, hp = [], keras_tuner.HyperParameters()
    hp.values["budget"] = 0.5
    hypermodel(asking(ask)).build(hp)
    assert found[-1] == 0.5


def test_a_front_needs_a_trial(tmp_path):
    with pytest.raises(ArgumentError, match="once a trial has finished"):
        pareto(random_search(tmp_path, hypermodel(space=SPACE)))


# --- what makes a search another one ------------------------------------------------------


def test_another_objective_of_the_tuner_is_another_search(tmp_path):
    given = network()
    search(tmp_path, hypermodel(given), "val_accuracy", trials=1)
    for other in ("val_loss", keras_tuner.Objective("val_accuracy", "min")):
        with pytest.raises(SearchError, match="another objective of its tuner"):
            random_search(tmp_path, hypermodel(given), other)
    assert trials_of(random_search(tmp_path, hypermodel(given), "val_accuracy"))


def test_other_data_are_told_also_where_all_trials_are_done(tmp_path):
    given = network()
    search(tmp_path, hypermodel(given), trials=1)
    again = random_search(tmp_path, hypermodel(given), trials=1)
    with pytest.raises(SearchError, match="other data"):
        again.search(X[:40], Y[:40], **FIT)
    with pytest.raises(SearchError, match="other training settings"):
        again.search(X, Y, **FIT | {"epochs": 5})
    again.search(X, Y, **FIT)


class SearchesBatches(keras_tuner.RandomSearch):
    def run_trial(self, trial, *args, **kwargs):
        kwargs["batch_size"] = trial.hyperparameters.Choice("batch_size", [8, 16, 64])
        return super().run_trial(trial, *args, **kwargs)


def test_a_batch_size_that_is_searched_is_no_other_search(tmp_path):
    given = network()
    for trials in (2, 3):
        tuner = SearchesBatches(
            hypermodel(given), "val_accuracy", max_trials=trials, seed=1, directory=tmp_path
        )
        tuner.search(X, Y, **FIT)
        assert len(trials_of(tuner)) == trials


def builder(network_, seed=0):
    weights = [RNG.normal(size=each.shape) for each in network_.get_weights()] if seed else None

    def build():
        model = keras.models.clone_model(network_)
        model.set_weights(weights or network_.get_weights())
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    return build


def test_a_function_that_builds_another_start_is_another_search(tmp_path):
    given = network()
    search(tmp_path, hypermodel(builder(given)), trials=1)
    search(tmp_path, hypermodel(builder(given)), trials=2)
    with pytest.raises(SearchError, match="another trained model"):
        search(tmp_path, hypermodel(builder(given, seed=1)), trials=3)


@pytest.mark.parametrize("learns", [True, False])
def test_models_of_a_function_may_share_what_does_not_learn(learns):
    base = keras.Sequential([keras.Input((12,)), keras.layers.Dense(24, "relu", name="hidden")])
    base.trainable = learns

    def build():
        model = keras.Sequential([base, keras.layers.Dense(24), keras.layers.Dense(4, "softmax")])
        model.build((None, 12))
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    if not learns:
        with pytest.warns(ShortfallWarning):
            hypermodel(build)
        return
    with pytest.raises(ArgumentError, match="Build all of it inside the function"):
        hypermodel(build)


def test_a_hypermodel_of_the_user_s_own_gives_its_build():
    class Own(keras_tuner.HyperModel):
        def build(self, hp):
            return network()

    class Fits(Own):
        def fit(self, hp, model, *args, **kwargs):
            return model.fit(*args, **kwargs, batch_size=4)

    with pytest.raises(ArgumentTypeError, match=r"RankHyperModel\(hypermodel\.build, space"):
        hypermodel(Own())
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        hypermodel(Own().build)
    with pytest.warns(UserWarning, match=r"Fits\.fit is not called: .* search of the tuner"):
        hypermodel(Fits().build)
    with pytest.warns(UserWarning, match=r"Fits\.fit is not called"):
        hypermodel(partial(Fits().build))


def test_two_models_in_turn_are_not_new_ones():
    models = [network(), network(), network()]
    turn = iter(models * 4)
    hyper = hypermodel(lambda: next(turn))
    hyper.build(keras_tuner.HyperParameters())
    with pytest.raises(ArgumentError, match="twice"):
        hyper.build(keras_tuner.HyperParameters())


# --- what every trial would fail of -------------------------------------------------------


class FitsItself(keras_tuner.RandomSearch):
    def run_trial(self, trial, *args, **kwargs):
        model = self.hypermodel.build(trial.hyperparameters)
        return self.hypermodel.fit(trial.hyperparameters, model, *args, **kwargs)


def test_a_trial_that_its_tuner_does_not_run(tmp_path):
    tuner = FitsItself(hypermodel(), "val_accuracy", max_trials=2, seed=1, directory=tmp_path)
    with pytest.raises(SearchError, match="A trial must be run by its tuner"):
        tuner.search(X, Y, **FIT)


def test_a_tuner_that_makes_another_thing_best(tmp_path):
    hyper = hypermodel(objective=SizeAtQuality("val_accuracy", max_drop=0.1))
    wrong = [keras_tuner.Objective("size_at_quality", "max"), "val_loss"]
    for place, objective in enumerate(wrong):
        words = "must make best what its hypermodel does"
        refused(words, tmp_path / str(place), hyper, objective)
    search(tmp_path / "same", hyper, "val_accuracy", trials=1)


def test_a_bound_on_what_no_trial_reports_leaves_the_folder_free(tmp_path):
    asked = SizeAtQuality("val_f1", limit=0.5, mode="max")
    hyper = hypermodel(objective=asked)
    refused("They will report", tmp_path, hyper, hyper.objective)
    hyper = hypermodel(objective=SizeAtQuality("val_accuracy", limit=0.1))
    search(tmp_path, hyper, hyper.objective, trials=1)


def test_a_last_epoch_that_is_not_validated(tmp_path):
    refused("last epoch of a trial must be validated", tmp_path, fit={"validation_freq": 2})
    search(tmp_path / "all", hypermodel(), trials=1, fit={"validation_freq": 3})


def test_callbacks_that_keep_weights_of_before_a_cut(tmp_path):
    restores = keras.callbacks.EarlyStopping(patience=1, restore_best_weights=True)
    refused("start_from_epoch=3", tmp_path, fit={"callbacks": [restores]})
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    refused("cannot resume", tmp_path / "b", fit={"callbacks": [backup]})
    once = SearchSpace(budget=(0.45, 0.8), start=0.0, ramp=0.0, criterion="frobenius")
    search(tmp_path / "c", hypermodel(space=once), trials=1, fit={"callbacks": [restores]})
