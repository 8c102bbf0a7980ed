"""Laws of the guard and of the search on models in training.

When a cut stays and when it is undone is told to a `GuardRun` alone in `test_guard_run.py`.
"""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import zoo
from typer.testing import CliRunner

from reducible_train import (
    ArgumentError,
    ArgumentTypeError,
    Cadence,
    ConfigError,
    Guard,
    LayerRule,
    PiecewiseConstant,
    Ramp,
    RankEarlyStopping,
    RankError,
    RankModelCheckpoint,
    RankScheduler,
    RankTensorBoard,
    Search,
    load_config,
)
from reducible_train.cli import app
from reducible_train.config import parse_config
from reducible_train.errors import ShortfallWarning
from reducible_train.report.records import Report
from reducible_train.surgery.plans import plan_of

# Guards hold back, and most fits here end so; what they say then is tested in test_end.py.
pytestmark = pytest.mark.filterwarnings("ignore::reducible_train.errors.ShortfallWarning")

ROOT = Path(__file__).resolve().parents[2]

STEPS = PiecewiseConstant((1.0, 0.5), (0, 2))
HARD = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
BOTH = {"max_drop": 0.01, "mode": "max"}


class Says(keras.callbacks.Callback):
    """Puts values of a metric into the logs, epoch by epoch, and watches sizes."""

    def __init__(self, *values, name="val_quality"):
        super().__init__()
        self.values, self.name = values, name
        self.sizes = []

    def on_epoch_end(self, epoch, logs=None):
        self.sizes.append(self.model.count_params())
        value = self.values[min(epoch, len(self.values) - 1)]
        if value is not None:
            logs[self.name] = value


class SaysBySize(Says):
    """A metric that depends on the size alone: good down to a fraction of the dense model."""

    def __init__(self, smallest, good=0.9, bad=0.5):
        super().__init__()
        self.smallest, self.good, self.bad = smallest, good, bad
        self.fractions = []

    def on_train_begin(self, logs=None):
        self.dense = self.model.count_params()

    def on_epoch_end(self, epoch, logs=None):
        fraction = self.model.count_params() / self.dense
        self.fractions.append(fraction)
        logs["val_quality"] = self.good if fraction >= self.smallest else self.bad


class Spoil(keras.callbacks.Callback):
    """Makes a weight NaN before a step of training."""

    def __init__(self, step, times=1):
        super().__init__()
        self.step, self.times, self.seen = step, times, 0

    def on_train_batch_begin(self, batch, logs=None):
        self.seen += 1
        if self.step <= self.seen < self.step + self.times:
            bias = self.model.get_layer("output").bias
            bias.assign(np.full(bias.shape, np.nan))


def guard(**options):
    return Guard("val_quality", **BOTH | options)


VALIDATED = (
    "val_accuracy",
    "val_acc5",
    "val_loss",
    "val_one_accuracy",
    "val_sparse_categorical_crossentropy",
)  # what the model itself would log


def fit(scheduler, says, epochs, model=None, others=(), **options):
    model = model or zoo.compiled(zoo.sequential(), "sgd")
    x, y = zoo.data(model)
    options = {"batch_size": 64} | options  # one step
    if says.name in VALIDATED:
        options |= {"validation_data": (x, y)}
    history = model.fit(
        x, y, epochs=epochs, callbacks=[says, scheduler, *others], verbose=0, **options
    )
    return model, history.history


def made(scheduler):
    return [(cut.epoch, round(cut.target, 4)) for cut in scheduler.report.cuts]


def undone(scheduler):
    return [(u.epoch, u.undone_epoch, round(u.target, 4)) for u in scheduler.report.undone]


# --- when a cut stays ------------------------------------------------------------------


def test_a_cut_within_the_bound_stays():
    scheduler = RankScheduler(budget=STEPS, guard=guard())
    model, _ = fit(scheduler, Says(0.8, 0.9, 0.89), 5)
    assert made(scheduler) == [(2, 0.5)]
    assert undone(scheduler) == []
    assert scheduler.report.notes == ()
    assert model.count_params() <= 0.5 * scheduler.report.dense_parameters


@pytest.mark.parametrize("what", [{"budget": 0.5}, {"search": Search()}])
def test_a_fit_without_an_epoch_to_judge_a_cut_by_is_refused(what):
    says = Says(0.9)
    with pytest.raises(ArgumentError, match="epochs=2 or more"):
        fit(RankScheduler(**what, guard=guard()), says, 1)
    assert not says.sizes
    scheduler = RankScheduler(**what, guard=guard())
    model, _ = fit(scheduler, says, 2)
    assert [cut.epoch for cut in scheduler.report.cuts] == [1]
    fit(scheduler, says, 1, model)  # goes on, with its cuts behind it


def test_a_fit_that_goes_on_where_no_cut_can_be_judged_says_so():
    scheduler = RankScheduler(budget=0.5, guard=guard())
    fit(scheduler, Says(0.9), 3, initial_epoch=2)
    short = scheduler.shortfall
    assert "looked at before an epoch had shown val_quality, and not after" in short.reason
    assert short.held_back
    assert scheduler.report.cuts == ()


# --- undoing ---------------------------------------------------------------------------


def test_a_cut_that_does_not_recover_is_undone_and_the_next_goes_half_as_far():
    scheduler, says = RankScheduler(budget=STEPS, guard=guard(tries=9)), Says(0.9, 0.9, 0.1, 0.1)
    says.values += (0.9,) * 9
    _, history = fit(scheduler, says, 8)
    dense = scheduler.report.dense_parameters
    assert undone(scheduler) == [(2, 4, 0.5)]
    assert made(scheduler) == [(4, 0.75), (5, 0.625), (6, 0.5625), (7, 0.5312)]
    assert says.sizes[:2] == [dense, dense]
    assert all(size <= 0.5 * dense for size in says.sizes[2:4])
    assert history["params"] == says.sizes
    assert says.sizes[4:] == [cut.parameters for cut in scheduler.report.cuts]


def test_after_so_many_tries_no_more_cuts_are_made():
    scheduler, says = RankScheduler(budget=STEPS, guard=guard(patience=1, tries=3)), Says(0.9, 0.9)
    says.values += (0.1,) * 9
    model, _ = fit(scheduler, says, 10)
    assert undone(scheduler) == [(2, 3, 0.5), (3, 4, 0.75), (4, 5, 0.875)]
    assert made(scheduler) == []
    assert plan_of(model) == {}
    assert model.count_params() == scheduler.report.dense_parameters
    assert "No more cuts are made after 3" in scheduler.report.notes[-1]
    kernels = scheduler.report.kernels
    assert all(k.energy is None for k in kernels), "the energy kept is put back"
    remarks = [k.remark for k in kernels if k.reason is None]
    assert remarks == ["budget 1 is met without it"] * 2, "as before the cuts that were undone"


@pytest.mark.traced
def test_everything_is_as_it_was_before_the_cut(tmp_path):
    class Peek(keras.callbacks.Callback):
        """The state before the first steps of epochs, before and after the guard has acted."""

        def __init__(self):
            super().__init__()
            self.states = {}
            self.epoch = 0

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_begin(self, batch, logs=None):
            if batch:
                return
            optimizer = [v for v in self.model.optimizer.variables if "iteration" not in v.path]
            self.states[self.epoch] = [np.array(v) for v in [*self.model.weights, *optimizer]]

    before, after = Peek(), Peek()
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    says = Says(0.9, 0.9, 0.1)
    scheduler = RankScheduler(
        budget=STEPS, guard=guard(patience=1, tries=1, folder=tmp_path / "states")
    )
    model.fit(x, y, epochs=4, callbacks=[says, before, scheduler, after], verbose=0)
    for a, b in zip(after.states[3], before.states[2], strict=True):
        np.testing.assert_array_equal(a, b)
    assert int(model.optimizer.iterations) == 4 * 2, "time goes on"
    assert not list((tmp_path / "states").iterdir()), "nothing is left in the folder"


def test_a_severe_cut_ruins_a_network_and_is_undone():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 20)).astype("float32")
    y = (x @ rng.normal(size=(20, 10))).argmax(-1)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((20,)), keras.layers.Dense(48, activation="relu", name="hidden")]
    )
    model.add(keras.layers.Dense(10, name="output"))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.03), loss, metrics=["accuracy"])
    scheduler = RankScheduler(
        rank=PiecewiseConstant((1,), (0,)),
        criterion="frobenius",
        guard=Guard("val_accuracy", max_drop=0.02, patience=1, tries=5),
    )
    history = model.fit(x, y, 100, 12, 0, callbacks=[scheduler], validation_data=(x, y)).history[
        "val_accuracy"
    ]
    report = scheduler.report
    assert report.undone[0].target == 1
    assert report.undone[0].value < report.undone[0].worst
    assert [u.target for u in report.undone] == sorted(u.target for u in report.undone)
    final = model.evaluate(x, y, verbose=0)[1]
    assert final >= max(history[:1]) - 0.02
    assert final > 0.8
    assert model.count_params() == report.parameters
    np.testing.assert_allclose(zoo.predicted(model, x), zoo.outputs(model, x), atol=1e-4)


def test_a_cut_still_on_trial_when_training_ends_is_undone():
    for values, words in (((0.9, 0.9, 0.9, 0.1), "ended while"), ((0.9, 0.9, 0.9, None), "seen")):
        scheduler = RankScheduler(
            budget=PiecewiseConstant((1.0, 0.5), (0, 3)), guard=guard(patience=5)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, _ = fit(scheduler, Says(*values), 4)
        assert model.count_params() == scheduler.report.dense_parameters
        assert undone(scheduler) == [(3, 4, 0.5)]
        assert words in scheduler.report.undone[0].reason
        x, y = zoo.data(model)
        np.testing.assert_allclose(zoo.predicted(model, x), zoo.outputs(model, x), atol=1e-5)
        model.fit(x, y, verbose=0)


def test_the_average_of_the_weights_is_taken_after_the_end_as_fit_does():
    """Undoing at the end comes after Keras has put averages in the place of weights."""
    model = zoo.compiled(zoo.sequential(), keras.optimizers.Adam(use_ema=True, ema_momentum=0.5))
    scheduler = RankScheduler(budget=PiecewiseConstant((1.0, 0.5), (0, 3)), guard=guard(patience=5))
    fit(scheduler, Says(0.9, 0.9, 0.9, 0.1), 4, model)
    averages = model.optimizer._model_variables_moving_average
    for weight, average in zip(model.trainable_variables, averages, strict=True):
        np.testing.assert_array_equal(weight, average)


def test_cuts_of_one_epoch_are_judged_and_undone_together():
    scheduler = RankScheduler(
        rank=Ramp(12, 4, start_epoch=1, end_epoch=2.5, shape="linear"),
        cadence=Cadence(steps=4),
        guard=guard(patience=1, tries=1),
    )
    model, _ = fit(scheduler, Says(0.9, 0.1, 0.9), 4, batch_size=8)
    (record,) = scheduler.report.undone
    assert (record.epoch, record.undone_epoch) == (1, 2)
    assert record.parameters_before == scheduler.report.dense_parameters
    assert record.target == pytest.approx(12 - 8 / 3)
    assert plan_of(model) == {}


@pytest.mark.parametrize("options", [{}, {"steps_per_execution": 2}], ids=str)
@pytest.mark.traced
def test_every_way_to_run_a_step(options):
    model = zoo.compiled(zoo.sequential(), **options)
    scheduler = RankScheduler(budget=STEPS, guard=guard(patience=1))
    _, history = fit(scheduler, Says(0.9, 0.9, 0.1, 0.9), 6, model, batch_size=16)
    assert undone(scheduler) == [(2, 3, 0.5)]
    assert np.isfinite(history["loss"]).all()


def test_rules_for_single_layers_go_the_same_way():
    scheduler = RankScheduler(
        rank=PiecewiseConstant((12, 4), (0, 2)),
        rules=[LayerRule("first", rank=PiecewiseConstant((10, 6), (0, 2)))],
        guard=guard(patience=1),
    )
    model, _ = fit(scheduler, Says(0.9, 0.9, 0.1, 0.9), 4)
    assert undone(scheduler) == [(2, 3, 4)]
    assert plan_of(model) == {"first/kernel": 8, "second/kernel": 8}


@pytest.mark.parametrize(
    ("budget", "aim"), [(1.0, "by rules for single layers"), (STEPS, "to budget 0.5")], ids=str
)
def test_a_cut_that_only_rules_asked_for_names_no_budget_as_its_aim(budget, aim):
    rules = [LayerRule("first", rank=PiecewiseConstant((32, 5), (0, 2)))]
    scheduler = RankScheduler(budget, rules=rules, guard=guard(patience=1))
    fit(scheduler, Says(0.9, 0.9, 0.1, 0.9), 4)
    (record,) = scheduler.report.undone
    assert str(record).startswith(f"The cut of epoch 2 {aim} (")
    assert Report.from_dict(scheduler.report.to_dict()).undone == (record,)


# --- not a number ----------------------------------------------------------------------


def test_a_loss_that_is_nan_undoes_the_cut_at_once():
    model = zoo.compiled(zoo.sequential())
    spoil = Spoil(step=4 * 2 + 2)  # in the third epoch of 4 steps
    scheduler = RankScheduler(budget=STEPS, guard=guard(patience=9))
    _, history = fit(scheduler, Says(0.9), 5, model, [spoil], batch_size=16)
    assert undone(scheduler) == [(2, 2, 0.5)]
    assert scheduler.report.undone[0].reason == "the loss was nan"
    assert made(scheduler)[0] == (3, 0.75)
    assert np.isfinite(history["loss"]).all(), "the running mean of the loss starts anew"
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_nan_before_any_cut_is_told():
    scheduler = RankScheduler(budget=STEPS, guard=guard())
    with pytest.warns(UserWarning, match="no cut to undo.*learning rate"):
        fit(scheduler, Says(0.9, float("nan")), 3, others=[Spoil(step=2)])
    assert undone(scheduler) == []


def test_beside_terminate_on_nan_the_model_that_is_left_is_good():
    scheduler = RankScheduler(budget=STEPS, guard=guard())
    others = [Spoil(step=4 * 2 + 2), keras.callbacks.TerminateOnNaN()]
    model, history = fit(scheduler, Says(0.9), 6, others=others, batch_size=16)
    assert len(history["loss"]) == 3, "it ends the training all the same"
    assert undone(scheduler) == [(2, 2, 0.5)]
    assert all(np.isfinite(w).all() for w in model.get_weights())


# --- a metric that is not there --------------------------------------------------------


def test_an_epoch_without_the_metric_is_told_and_not_followed_by_a_cut():
    scheduler = RankScheduler(budget=STEPS, guard=guard())
    with pytest.warns(UserWarning, match=r"'val_quality'.*epoch 1.*loss.*RankScheduler"):
        fit(scheduler, Says(0.9, None, 0.9, 0.9), 5)
    assert made(scheduler) == [(3, 0.5)]
    assert any("epoch 1;" in note for note in scheduler.report.notes)


@pytest.mark.parametrize("monitor", ["val_accuracy", "val_loss"])
def test_a_metric_of_validation_without_validation_data_is_refused(monitor):
    model = zoo.compiled(zoo.sequential(), metrics=["accuracy"])
    before = model.get_weights()
    scheduler = RankScheduler(budget=0.5, guard=Guard(monitor, max_drop=0.01))
    with pytest.raises(ArgumentError, match=r"a guard .* without validation data"):
        fit(scheduler, Says(0.5), 3, model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def guarded(monitor, **options):
    scheduler = RankScheduler(rank=8, guard=Guard(monitor, max_drop=0.05, **options))
    return [scheduler]


def stopping(monitor, **options):
    scheduler = RankScheduler(rank=8)
    return [scheduler, RankEarlyStopping(scheduler, monitor, patience=9, **options)]


def kept(monitor, **options):
    scheduler = RankScheduler(rank=8)
    return [scheduler, RankModelCheckpoint(scheduler, "best.weights.h5", monitor, **options)]


WATCHES = pytest.mark.parametrize("watch", [guarded, stopping, kept])


@WATCHES
@pytest.mark.filterwarnings("ignore:Early stopping conditioned on metric")
@pytest.mark.parametrize("often", [4, [4, 9]], ids=str)
def test_a_metric_of_validation_that_no_epoch_comes_to_is_refused(
    watch, often, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    data = {"validation_data": (x, y), "validation_freq": often, "verbose": 0}
    with pytest.raises(ArgumentError, match=r"validation_freq=.* and epochs=3.*Leave out"):
        model.fit(x, y, epochs=3, callbacks=watch("val_loss"), **data)
    assert not int(model.optimizer.iterations)
    late = data | {"validation_freq": 4}
    with pytest.raises(ArgumentError, match=r"validation_freq=4 and epochs=7"):
        model.fit(x, y, epochs=7, initial_epoch=4, callbacks=watch("val_loss"), **late)
    model.fit(x, y, epochs=4, callbacks=watch("val_loss"), **data)
    model.fit(x, y, epochs=3, callbacks=watch("loss"), **data)


@pytest.mark.traced
def test_a_guard_that_sees_its_metric_too_rarely_says_what_has_it_so():
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    scheduler = RankScheduler(rank=8, guard=Guard("val_loss", max_drop=9))
    data = {"validation_data": (x, y), "validation_freq": 3, "verbose": 0}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(x, y, epochs=5, callbacks=[scheduler], **data)
    (words,) = (str(each.message) for each in told if issubclass(each.category, UserWarning))
    assert "Leave out validation_freq=3, and each epoch is validated; or" in words
    assert len(scheduler.report.undone) == 1


@pytest.mark.parametrize("epochs", [4, 5])
def test_that_validation_is_too_rare_for_any_cut_is_told_before_the_fit(epochs, monkeypatch):
    model, begun = zoo.compiled(zoo.sequential()), []
    x, y = zoo.data(model)
    scheduler = RankScheduler(rank=8, guard=Guard("val_loss", max_drop=9))
    begin = scheduler.on_epoch_begin
    monkeypatch.setattr(
        scheduler, "on_epoch_begin", lambda *how: begun.append(scheduler.report) or begin(*how)
    )
    told = []
    monkeypatch.setattr(warnings, "warn", lambda words, *_, **__: told.append((words, *begun)))
    data = {"validation_data": (x, y), "validation_freq": 3, "verbose": 0}
    model.fit(x, y, epochs=epochs, callbacks=[scheduler], **data)
    ((words,),) = told
    assert "it is there after epoch 2 alone" in words
    assert "Leave out validation_freq=3" in words


def rarely(scheduler, often, epochs, *others):
    """The shortfalls that a fit which does not validate each epoch tells of, before it and after.

    Every cut is good.
    """
    model, told, begun = zoo.compiled(zoo.sequential()), ([], []), []
    x, y = zoo.data(model)
    begin = keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: begun.append(1))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda w, kind, *_: (
            told[bool(begun)].append(str(w)) if kind is ShortfallWarning else None
        )
        data = {"validation_data": (x, y), "validation_freq": often, "verbose": 0}
        callbacks = [*others, scheduler, begin]
        model.fit(x, y, batch_size=80, epochs=epochs, callbacks=callbacks, **data)
    return told


EASY = Guard("val_loss", max_drop=9)


@pytest.mark.parametrize(
    ("asked", "often", "epochs", "words", "remedy"),
    [
        (
            {"search": Search(factor=0.7, start_epoch=1)},
            [1],
            4,
            "validation_freq=[1], Search(factor=0.7, start_epoch=1",
            "Leave out validation_freq=[1], and each epoch is validated.",
        ),
        (
            {"search": Search(factor=0.7, start_epoch=1, end_epoch=2)},
            4,
            8,
            "so that no cut will stay.",
            "Leave out validation_freq=4, and each epoch is validated.",
        ),
        (
            {"budget": Ramp(1.0, 0.4, 1, 3)},
            [1, 3],
            5,
            "after epochs 0 and 2 last, counted from 0, so that no cut will stay.",
            "Leave out validation_freq=[1, 3], and each epoch is validated; or let the schedule "
            "end by epoch 1.",
        ),
        (
            {"budget": Ramp(1.0, 0.4, 2, 6)},
            4,
            8,
            "so that the last cut that can stay is the one before epoch 4, to budget 0.475 instead "
            "of 0.4.",
            "Leave out validation_freq=4, and each epoch is validated; or train for longer, or let "
            "the schedule end by epoch 4.",
        ),
        (
            {"budget": 0.9, "rules": [LayerRule("first", rank=PiecewiseConstant((6, 4), (0, 4)))]},
            3,
            6,
            "the last cut that can stay is the one before epoch 3, to rank 6 instead of 4.",
            "end by epoch 3.",
        ),
    ],
    ids=["search", "search that ends", "nothing by then", "not the last", "of a rule"],
)
def test_what_no_epoch_will_judge_is_told_before_the_fit_and_once(
    asked, often, epochs, words, remedy
):
    scheduler = RankScheduler(**asked, guard=EASY)
    (told,), after = rarely(scheduler, often, epochs)
    assert words in told
    assert told.endswith(remedy)
    assert after == []
    assert scheduler.shortfall.remedy in told


@pytest.mark.parametrize(
    ("asked", "often", "epochs"),
    [
        ({"budget": Ramp(1.0, 0.4, 1, 3)}, 3, 8),
        ({"search": Search(factor=0.7, start_epoch=1)}, 2, 6),
        ({"budget": Ramp(1.0, 0.4, 1, 3), "guard": Guard("loss", max_drop=9)}, [1], 5),
    ],
    ids=["ends in time", "search", "of training"],
)
def test_nothing_is_foretold_where_the_last_cut_can_be_judged(asked, often, epochs):
    assert rarely(RankScheduler(**{"guard": EASY} | asked), often, epochs)[0] == []


def test_what_else_kept_the_ranks_up_than_what_was_foretold_is_told_at_the_end():
    scheduler = RankScheduler(Ramp(1.0, 0.4, 2, 6), guard=Guard("val_loss", max_drop=0, patience=1))
    worse = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(val_loss=epoch) if "val_loss" in logs else None
    )
    (_,), (after,) = rarely(scheduler, 4, 8, worse)
    assert after == str(scheduler.shortfall)
    assert "val_loss was above" in after
    assert "Leave out validation_freq=4, and each epoch is validated; or train for longer" in after


def test_that_a_training_was_stopped_is_told_whatever_was_foretold():
    scheduler = RankScheduler(Ramp(1.0, 0.4, 2, 6), guard=EASY)
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, _: setattr(scheduler.model, "stop_training", epoch == 1)
    )
    (_,), (after,) = rarely(scheduler, 4, 8, stop)
    assert after == str(scheduler.shortfall)
    assert "Training ended after 2 of 8 epochs" in after


class OwnStep(keras.Model):
    """Trains as it likes, and logs what it likes."""

    def __init__(self, **others):
        super().__init__()
        self.inner = zoo.sequential()
        self.others = others

    def call(self, x):
        return self.inner(x)

    def train_step(self, data):
        return super().train_step(data) | self.others


@WATCHES
def test_a_step_of_ones_own_leaves_directions_known_where_keras_knows(watch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = zoo.data(zoo.sequential())
    model = OwnStep(mse=0.5, oddity=0.5)
    model.compile("sgd", HARD, metrics=["accuracy"])
    data = {"epochs": 3, "validation_data": (x, y), "batch_size": 64, "verbose": 0}
    for monitor in ("val_accuracy", "accuracy", "mse", "val_loss"):
        scheduler, *_ = callbacks = watch(monitor)
        model.fit(x, y, callbacks=callbacks, **data)
        assert scheduler.report is not None
    for monitor in ("oddity", "val_accurcy"):
        with pytest.raises(ArgumentError, match="Say mode='max' or mode='min'"):
            model.fit(x, y, callbacks=watch(monitor), **data)
    with pytest.raises(ArgumentError, match="without validation data"):
        model.fit(x, y, callbacks=watch("val_accuracy"), **data | {"validation_data": None})


@pytest.mark.parametrize(("monitor", "better"), [("accuracy", 1), ("mse", -1)])
def test_early_stopping_goes_the_way_that_is_known(monitor, better):
    x, y = zoo.data(zoo.sequential())
    model = OwnStep(mse=0.5)
    model.compile("sgd", HARD, metrics=["accuracy"])
    scheduler, stop = stopping(monitor, min_delta=0.01)
    model.fit(x, y, callbacks=[scheduler, stop], verbose=0)
    assert bool(stop._is_improvement(1.0 + better, 1.0))
    assert not stop._is_improvement(1.0 + 0.005 * better, 1.0)
    assert not stop._is_improvement(1.0 - better, 1.0)


class Each(keras.metrics.Metric):
    """One number for each class."""

    def __init__(self, name="each"):
        super().__init__(name=name)
        self._direction = "up"
        self.sums = self.add_weight(shape=(5,), initializer="zeros", name="sums")

    def update_state(self, y, predicted, sample_weight=None):
        self.sums.assign_add(keras.ops.sum(predicted, axis=0))

    def result(self):
        return self.sums + 0.0


@WATCHES
def test_a_metric_of_several_numbers_is_refused_by_the_first_step(watch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = zoo.compiled(zoo.sequential(), metrics=[Each()])
    x, y = zoo.data(model)
    data = {"epochs": 2, "validation_data": (x, y), "verbose": 0}
    words = r"of one number. Received: monitor='val_each', which is 5\..*average='macro'"
    with pytest.raises(ArgumentError, match=words):
        model.fit(x, y, batch_size=16, callbacks=watch("val_each"), **data)
    assert int(model.optimizer.iterations) == 1
    with pytest.raises(ArgumentError, match="which is 5"):  # known before it now
        model.fit(x, y, batch_size=16, callbacks=watch("each"), **data)
    assert int(model.optimizer.iterations) == 1
    scheduler = RankScheduler(rank=4)
    model.fit(x, y, callbacks=[scheduler], **data)
    assert any(note.startswith("each is 5 numbers") for note in scheduler.report.notes)


@WATCHES
def test_several_numbers_that_a_callback_logs_are_refused_after_the_first_epoch(
    watch, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    scheduler, *others = watch("val_quality", mode="max")
    with pytest.raises(ArgumentError, match=r"'val_quality', which is 3\."):
        fit(scheduler, Says(np.zeros(3)), 2, others=others)
    scheduler, *others = watch("val_quality", mode="max")
    fit(scheduler, Says(np.float32(0.5)), 2, others=others)


@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "trained"])
def test_a_metric_the_model_does_not_have_is_refused_before_training(trained):
    model = zoo.compiled(zoo.sequential(), metrics=["accuracy", keras.metrics.MeanSquaredError()])
    x, y = zoo.data(model)
    if trained:
        model.compile(model.optimizer, model.loss, metrics=["accuracy"])
        model.fit(x, y, verbose=0)
    before = model.get_weights()
    scheduler = RankScheduler(budget=0.5, guard=Guard("val_acuracy", max_drop=0.01))
    with pytest.raises(ArgumentError, match=r"'val_acuracy'.*val_accuracy.*mode='max'"):
        model.fit(x, y, callbacks=[scheduler], verbose=0)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("metrics", "monitor", "values"),
    [
        (["accuracy"], "val_accuracy", (0.9, 0.9, 0.1)),
        (["sparse_categorical_crossentropy"], "val_sparse_categorical_crossentropy", (1, 1, 2)),
        ([keras.metrics.SparseCategoricalAccuracy(name="acc5")], "val_acc5", (0.9, 0.9, 0.1)),
        ([], "val_loss", (0.1, 0.1, 0.9)),
        ([], "loss", (0.1, 0.1, 0.9)),
    ],
    ids=str,
)
def test_the_direction_is_keras_s_own(metrics, monitor, values):
    model = zoo.compiled(zoo.sequential(), metrics=metrics)
    scheduler = RankScheduler(budget=STEPS, guard=Guard(monitor, max_drop=0.05, patience=1))
    fit(scheduler, Says(*values, name=monitor), 4, model, validation_split=0.1)
    assert undone(scheduler)[0] == (2, 3, 0.5)


def test_where_nobody_knows_the_direction_it_must_be_given():
    def odd(y, p):
        return keras.ops.mean(p)

    model = zoo.compiled(zoo.sequential(), metrics=[odd])
    scheduler = RankScheduler(budget=0.5, guard=Guard("val_odd", max_drop=0.01))
    with pytest.raises(ArgumentError, match="Say mode='max' or mode='min'"):
        fit(scheduler, Says(0.9), 1, model)


def test_metrics_of_several_outputs_are_known():
    model = zoo.compiled(zoo.branches(), metrics=[["accuracy"], ["accuracy"]])
    scheduler = RankScheduler(budget=STEPS, guard=Guard("val_one_accuracy", max_drop=0.01))
    says = Says(0.9, 0.9, 0.1, name="val_one_accuracy")
    x, y = zoo.data(model)
    fit(scheduler, says, 4, model, validation_data=(x, y))
    assert undone(scheduler) == [(2, 4, 0.5)]


def test_metrics_of_outputs_with_keys_are_known_by_these(tmp_path):
    base, path = zoo.branches(), tmp_path / "best.reducible"
    ends = dict(zip(("left", "right"), base.outputs, strict=True))
    x, y = zoo.data(base)
    y = dict(zip(ends, y, strict=True))
    model = keras.Model(base.inputs, ends)
    model.compile("sgd", dict.fromkeys(ends, HARD), metrics={"right": ["accuracy"]})

    def train(*callbacks):
        model.fit(x, y, validation_data=(x, y), verbose=0, epochs=2, callbacks=[*callbacks])

    def watching(monitor):
        yield [RankScheduler(budget=0.5, guard=Guard(monitor, max_drop=0.9))]
        yield [scheduler := RankScheduler(budget=0.5), RankEarlyStopping(scheduler, monitor)]
        scheduler = RankScheduler(budget=0.5)
        yield [scheduler, RankModelCheckpoint(scheduler, path, monitor)]

    for callbacks in watching("val_two_done_accuracy"):
        with pytest.raises(ArgumentError, match="there will be loss, right_accuracy, left_loss, r"):
            train(*callbacks)
    for callbacks in watching("val_right_accuracy"):
        train(*callbacks)
        assert callbacks[0].metric_directions["right_accuracy"] == "up"
    assert path.exists()


# --- a limit ---------------------------------------------------------------------------


def test_a_limit_in_percent_is_refused_at_once_but_on_a_scale_of_its_own():
    model = zoo.compiled(zoo.sequential(), metrics=["accuracy"])
    with pytest.raises(ArgumentError, match=r"at most 1 .* limit=97 for 'val_accuracy'.* 0\.97"):
        Guard("val_accuracy", limit=97)
    own = Guard("val_accuracy", limit=97, mode="max")  # of a callback's own scale
    says = Says(98, 98, 98, name="val_accuracy")
    fit(RankScheduler(budget=STEPS, guard=own), says, 3, model, validation_split=0.1)


def test_a_limit_the_dense_model_does_not_reach_ends_clearly():
    scheduler = RankScheduler(budget=STEPS, guard=Guard("val_quality", limit=0.99, mode="max"))
    with pytest.warns(UserWarning, match=r"limit of 0\.99; its best value was 0\.93, the nearest"):
        model, _ = fit(scheduler, Says(0.9, 0.93, 0.92), 4)
    assert model.count_params() == scheduler.report.dense_parameters
    assert "No cut was made" in scheduler.report.notes[0]


@pytest.mark.parametrize(
    ("given", "count"),
    [
        (lambda x, y: {"validation_data": (x[:50], y[:50])}, "50"),
        (lambda x, y: {"validation_split": 0.25}, "20"),
        (lambda x, y: {"validation_data": (x, y), "validation_steps": 2}, "64"),
        (lambda x, y: {"validation_data": (x, y), "validation_steps": 9, "batch_size": 8}, "72"),
        (lambda x, y: {"validation_data": (x, y), "validation_steps": 9}, "80"),
        (
            lambda x, y: {
                "validation_data": (x, y),
                "validation_steps": 2,
                "validation_batch_size": 5,
                "batch_size": 8,
            },
            "10",
        ),
        (lambda x, y: {"validation_data": _batches(x, y)}, None),
    ],
)
def test_the_band_is_of_the_samples_that_the_fit_validates_with(given, count):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 6)).astype("float32"), rng.integers(0, 2, 80)
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(16, name="hidden"), keras.layers.Dense(2)]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    watch = Guard("val_accuracy", max_drop=0.01, band=1e-9, patience=1, tries=1)
    scheduler = RankScheduler(rank=2, guard=watch)
    worsens = Says(0.5, 0.1, name="val_accuracy")
    model.fit(x, y, epochs=4, callbacks=[worsens, scheduler], verbose=0, **given(x, y))
    assert len(scheduler.report.undone) == 1
    told = [note for note in scheduler.report.notes if "samples, so its best value" in note]
    assert len(told) == (count is not None)
    assert all(f"val_accuracy is of {count} samples" in note for note in told)


def _batches(x, y):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)


def test_a_search_foresees_what_its_cuts_lose():
    scheduler = RankScheduler(search=Search(start_epoch=2, end_epoch=6), guard=guard())
    fit(scheduler, Says(0.9), 9)
    losses = [cut.certificate["objective"] for cut in scheduler.report.cuts]
    assert len(losses) > 1
    most = np.maximum.accumulate(losses)
    assert all(after <= 4.01 * before for before, after in zip(most, losses[1:], strict=False))


# --- the search ------------------------------------------------------------------------


def test_the_search_finds_the_smallest_size_that_is_good():
    smallest = 0.62
    scheduler = RankScheduler(
        search=Search(factor=0.7, start_epoch=2), guard=guard(patience=1, tries=4)
    )
    says = SaysBySize(smallest)
    model, _ = fit(scheduler, says, 24)
    fraction = model.count_params() / says.dense
    assert smallest <= fraction < 1.1 * smallest
    assert says.fractions[:2] == [1.0, 1.0], "dense at first"
    assert set(says.fractions[19:]) == {fraction}, "the last quarter is for recovering"
    assert all(size >= smallest for size in says.fractions[19:])
    note = scheduler.report.notes[0]
    assert note.startswith("The search has accepted a budget of")


def test_the_search_stays_at_the_lowest_it_may_go_to():
    scheduler = RankScheduler(search=Search(factor=0.3, start_epoch=2), guard=guard())
    model, _ = fit(scheduler, Says(0.9), 8)
    assert set(plan_of(model).values()) == {1}, "without one, down to rank 1"


def test_the_search_holds_as_long_as_the_cadence_says():
    scheduler = RankScheduler(
        search=Search(factor=0.8, start_epoch=2, end_epoch=6),
        guard=guard(),
        cadence=Cadence(epochs=2),
    )
    fit(scheduler, Says(0.9), 9)
    assert made(scheduler) == [(2, 0.8), (4, 0.64), (6, 0.512)]


def test_a_search_of_flops():
    scheduler = RankScheduler(
        search=Search(factor=0.7, start_epoch=2),
        guard=guard(patience=1),
        measure="flops",
        allocation="knapsack",
    )
    fit(scheduler, Says(0.9), 6)
    report = scheduler.report
    assert report.flops <= 0.7**3 * report.dense_flops


# --- the record ------------------------------------------------------------------------


def test_the_report_tells_the_story(tmp_path):
    scheduler = RankScheduler(budget=STEPS, guard=guard(patience=1, tries=1))
    board = RankTensorBoard(scheduler, tmp_path)
    fit(scheduler, Says(0.9, 0.9, 0.5), 4, others=[board])
    text = str(scheduler.report)
    assert "The cut of epoch 2 to budget 0.5 (" in text
    assert (
        "was undone at epoch 3: val_quality was below 0.89 (last 0.5, best before 0.9) for 1 epoch"
        in text
    )
    plain = json.loads(json.dumps(scheduler.report.to_dict()))
    assert plain["undone"][0]["monitor"] == "val_quality"
    assert plain["undone"][0]["undone_epoch"] == 3


def test_usable_twice_and_copied():
    scheduler = RankScheduler(budget=STEPS, guard=guard(patience=1, tries=1))
    fit(scheduler, Says(0.9, 0.9, 0.1), 4)
    assert len(scheduler.report.undone) == 1
    fit(scheduler, Says(0.9), 4)
    assert undone(scheduler) == []
    assert made(scheduler) == [(2, 0.5)]
    again = copy.deepcopy(RankScheduler(search=Search(), guard=guard()))
    fit(again, Says(0.9), 4)
    assert again.report.cuts


def test_a_model_that_builds_itself():
    model = zoo.compiled(zoo.Subclassed())
    x, y = zoo.data(zoo.sequential())
    scheduler = RankScheduler(rank=PiecewiseConstant((9, 4), (0, 2)), guard=guard(patience=1))
    model.fit(x, y, epochs=4, callbacks=[Says(0.9, 0.9, 0.1, 0.9), scheduler], verbose=0)
    assert undone(scheduler) == [(2, 3, 4)]
    assert plan_of(model)["blocks/0/kernel"] == 6


# --- bad input -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Guard("val_loss"), ArgumentError, "max_drop=0.005"),
        (lambda: Guard("val_loss", max_drop=0.1, limit=1), ArgumentError, "either"),
        (lambda: Guard("val_loss", max_drop=-0.1), ArgumentError, "at least 0"),
        (lambda: Guard("val_loss", max_drop=float("nan")), ArgumentError, "finite"),
        (lambda: Guard("val_loss", limit=10**400), ArgumentError, "finite"),
        (lambda: Guard("val_loss", limit="0.9"), ArgumentError, "must be a number"),
        (lambda: Guard("", max_drop=0.1), ArgumentTypeError, "val_accuracy"),
        (lambda: guard(patience=0), ArgumentError, "`patience`"),
        (lambda: guard(tries=True), ArgumentError, "`tries`"),
        (lambda: guard(mode="up"), ArgumentError, "'auto', 'max', 'min'"),
        (lambda: guard(folder=3), ArgumentTypeError, "path"),
        (lambda: guard(folder=__file__), ArgumentError, "a file"),
        (lambda: Search(factor=1), ArgumentError, r"in \(0, 1\)"),
        (lambda: Search(factor=30), ArgumentError, "write 0.7"),
        (lambda: Search(start_epoch=-1), ArgumentError, "start_epoch=-1"),
        (lambda: Search(start_epoch=5, end_epoch=4), ArgumentError, "not be before"),
        (lambda: Search(lowest=10), ArgumentError, "write 0.1"),
        (lambda: RankScheduler(budget=0.5, guard=0.1), ArgumentTypeError, "guard=Guard"),
        (lambda: RankScheduler(search=0.1, guard=guard()), ArgumentTypeError, "search=Search"),
        (lambda: RankScheduler(search=Search()), ArgumentError, "needs a guard"),
        (
            lambda: RankScheduler(search=Search(), budget=0.5, guard=guard()),
            ArgumentError,
            "Received: budget and search",
        ),
    ],
)
def test_unusable_arguments_are_refused_at_once(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize(
    ("search", "error", "words"),
    [
        (Search(start_epoch=6), ArgumentError, "epochs=7 or more"),
        (Search(end_epoch=9), ArgumentError, "epochs=10 or more"),
        (Search(lowest=0.01), RankError, "smallest possible fraction"),
    ],
)
def test_a_search_that_cannot_be_is_refused_before_training(search, error, words):
    with pytest.raises(error, match=words):
        fit(RankScheduler(search=search, guard=guard()), Says(0.9), 6)


# --- in a file -------------------------------------------------------------------------


def test_a_file_gives_the_same_guard_and_search():
    guarded = load_config(ROOT / "configs" / "guard.yaml").callbacks()[0]
    assert guarded.guard == Guard("val_accuracy", max_drop=0.005, patience=2, tries=3)
    assert guarded.search is None
    text = {"monitor": "val_loss", "limit": 1, "mode": "min", "folder": "states"}
    values = {"compression": {"search": {"factor": 0.5, "lowest": 0.3}, "guard": text}}
    config = parse_config(values)
    (searching,) = config.callbacks()
    assert searching.search == Search(factor=0.5, lowest=0.3)
    assert searching.guard == Guard("val_loss", limit=1, mode="min", folder="states")
    config.check(zoo.sequential())
    with pytest.raises(ConfigError, match=r"search\.lowest: .*smallest possible"):
        parse_config({"compression": {"search": {"lowest": 0.01}, "guard": {"limit": 1}}}).check(
            zoo.sequential()
        )


def test_the_mistakes_of_a_file_are_told_together():
    with pytest.raises(ConfigError) as caught:
        parse_config(
            {
                "compression": {
                    "budget": 0.5,
                    "search": {"factor": 30, "start_epoch": 9, "stop": 3},
                    "guard": {"monitor": "val_accuracy", "patience": 0},
                },
                "training": {"epochs": 8},
            }
        )
    found = {problem.path: problem.message for problem in caught.value.problems}
    assert "budget and search" in found["$.compression"]
    assert "less than 1" in found["$.compression.search.factor"]
    assert "epochs=10 or more" in found["$.compression.search.start_epoch"]
    assert "unknown key 'stop'" in found["$.compression.search.stop"]
    assert "exactly one of max_drop or limit" in found["$.compression.guard"]
    assert "at least 1" in found["$.compression.guard.patience"]
    with pytest.raises(ConfigError, match=r"compression\.search: A search needs a guard"):
        parse_config({"compression": {"search": {}}})
    values = {"search": {"start_epoch": 5, "end_epoch": 4}, "guard": {"limit": 1}}
    with pytest.raises(
        ConfigError, match=r"search\.end_epoch: end_epoch must not be before start_epoch"
    ):
        parse_config({"compression": values})


def test_a_preview_of_a_search_says_what_it_will_do(tmp_path):
    file = tmp_path / "search.yaml"
    file.write_text("compression: {search: {factor: 0.6}, guard: {max_drop: 0.1}}")
    answer = CliRunner().invoke(app, ["preview", str(file)], env={"COLUMNS": "300"})
    assert answer.exit_code == 0, answer.output
    assert "multiplied by 0.6" in answer.output
