"""Laws of the callbacks beside the scheduler: early stopping, backups, and what is refused."""

from __future__ import annotations

import functools
import json
import operator
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import zoo

from reducible_train import (
    Adaptive,
    ArgumentError,
    ArgumentTypeError,
    Cadence,
    FileAccessError,
    FormatError,
    Guard,
    Latency,
    LayerRule,
    PiecewiseConstant,
    ProductDecay,
    Ramp,
    RankBackupAndRestore,
    RankEarlyStopping,
    RankModelCheckpoint,
    RankScheduler,
    RankTensorBoard,
    Rewarm,
    Search,
    _keras,
)
from reducible_train.compressor import Compression
from reducible_train.compressor.answers import NO_START
from reducible_train.errors import OutputErrorWarning, ShortfallWarning
from reducible_train.surgery.plans import plan_of
from reducible_train.training.other_callbacks import check_other_callbacks

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
pytestmark = pytest.mark.filterwarnings("ignore::reducible_train.errors.ShortfallWarning")

FALL = PiecewiseConstant(values=(1.0, 0.6, 0.4), start_epochs=(0, 1, 2))


class Scores(keras.callbacks.Callback):
    """Puts a score for each epoch into the logs; remembers the weights it was for."""

    def __init__(self, *scores):
        super().__init__()
        self.scores = scores
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = self.scores[epoch]
        self.weights.append(self.model.get_weights())


def fit(*callbacks, model=None, epochs=8, **how):
    model = zoo.compiled(zoo.sequential(), "sgd") if model is None else model
    x, y = zoo.data(model)
    how = {"batch_size": 32, "shuffle": False, "verbose": 0} | how
    return model.fit(x, y, epochs=epochs, callbacks=list(callbacks), **how), model


# --- what is refused ----------------------------------------------------------------------


def test_callbacks_of_keras_that_would_fail_later_are_refused_before_training(tmp_path):
    model = zoo.compiled(zoo.sequential())
    before = model.get_weights()
    stop = keras.callbacks.EarlyStopping("loss", restore_best_weights=True, start_from_epoch=1)
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    for other, remedy in (
        (stop, r"RankEarlyStopping\(scheduler, 'loss'"),
        (backup, r"RankBackupAndRestore\(scheduler"),
        (RankScheduler(rank=4), r"one RankScheduler.*LayerRule"),
    ):
        for order in (1, -1):
            with pytest.raises(ArgumentError, match=remedy):
                fit(*[RankScheduler(budget=FALL), other][::order], model=model)
    for one, two in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)


def test_those_that_do_no_harm_are_let_through(tmp_path):
    stop = keras.callbacks.EarlyStopping
    check_other_callbacks([stop(), keras.callbacks.ModelCheckpoint(tmp_path / "a.keras")], 2)
    late = stop(restore_best_weights=True, start_from_epoch=2)
    check_other_callbacks([late], 2)
    with pytest.raises(ArgumentError, match="start_from_epoch=2"):
        check_other_callbacks([late], 3)


@pytest.mark.parametrize("kind", [RankEarlyStopping, RankBackupAndRestore])
def test_their_place_is_behind_the_scheduler(kind, tmp_path):
    scheduler = RankScheduler(budget=FALL)
    other = kind(scheduler, str(tmp_path))
    for callbacks in ([other, scheduler], [other]):
        with pytest.raises(ArgumentError, match="must stand after its RankScheduler"):
            fit(*callbacks)
    with pytest.raises(ArgumentTypeError, match="must be the RankScheduler"):
        kind("loss", str(tmp_path))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"budget": 0.5}, 0),
        ({"budget": Ramp(1.0, 0.5, start_epoch=1, end_epoch=4.5)}, 5),
        ({"budget": FALL, "cadence": Cadence(epochs=3)}, 3),
        ({"budget": FALL, "cadence": Cadence(steps=3)}, 2),
        (
            {"budget": FALL, "rules": [LayerRule("first", rank=PiecewiseConstant((8, 4), (0, 7)))]},
            7,
        ),
        ({"search": Search(end_epoch=6), "guard": Guard("loss", max_drop=1.0)}, 6),
        ({"cadence": Cadence(start=Adaptive(end_epoch=4))}, 4),
        ({"budget": FALL, "cadence": Cadence(start=Adaptive(end_epoch=4))}, 6),
        ({"budget": FALL, "cadence": Cadence(epochs=3, start=Adaptive(end_epoch=3))}, 6),
        ({"budget": FALL, "cadence": Cadence(start=Adaptive())}, float("inf")),
    ],
)
def test_the_final_epoch_is_that_of_the_last_fall(options, expected):
    assert RankScheduler(**options).final_epoch == expected


# --- early stopping -----------------------------------------------------------------------


def test_early_stopping_waits_for_the_final_ranks_and_restores_the_best_of_them():
    scores = Scores(0.9, 0.9, 0.5, 0.6, 0.5, 0.4, 0.9, 0.9)
    scheduler = RankScheduler(budget=FALL)
    stop = RankEarlyStopping(scheduler, "score", mode="max", patience=2, restore_best_weights=True)
    history, model = fit(scores, scheduler, stop)
    assert len(history.epoch) == 6
    assert stop.best_epoch == 3
    assert plan_of(model) == dict(scheduler.report.ranks)
    assert scheduler.report.size_fraction <= 0.4
    for one, two in zip(model.get_weights(), scores.weights[3], strict=True):
        np.testing.assert_array_equal(one, two)


def test_early_stopping_does_not_count_while_stable_ranks_settle():
    scores = Scores(0.9, 0.8, 0.8, 0.8, 0.7, 0.6, 0.5, 0.5)
    scheduler = RankScheduler(
        budget=PiecewiseConstant((1.0, 0.4), (0, 1)),
        cadence=Cadence(start=Adaptive(start_epoch=3, end_epoch=3)),
    )
    stop = RankEarlyStopping(scheduler, "score", mode="max", patience=2)
    history, _ = fit(scores, scheduler, stop)
    assert scheduler.report.cuts[-1].epoch == scheduler.final_epoch == 4
    assert len(history.epoch) == 7, "two epochs after the first at the final ranks"


def test_the_final_epoch_is_known_once_the_stable_ranks_have_settled():
    scheduler = RankScheduler(
        rank=4, cadence=Cadence(start=Adaptive(slope=1e6, window=1, end_epoch=6))
    )
    fit(scheduler, epochs=7)
    assert scheduler.report.cuts[-1].epoch == scheduler.final_epoch == 1


def test_early_stopping_of_keras_is_refused_while_stable_ranks_settle():
    stop = keras.callbacks.EarlyStopping("loss", restore_best_weights=True, start_from_epoch=3)
    with pytest.raises(ArgumentError, match=r"RankEarlyStopping\(scheduler, 'loss'"):
        fit(RankScheduler(cadence=Cadence(start=Adaptive(end_epoch=4))), stop)


def test_a_cut_that_is_undone_at_the_end_takes_its_best_weights_with_it():
    scores = Scores(0.9, 0.1)
    scheduler = RankScheduler(
        budget=PiecewiseConstant((1.0, 0.4), (0, 1)), guard=Guard("score", max_drop=0.1, mode="max")
    )
    stop = RankEarlyStopping(scheduler, "score", mode="max", restore_best_weights=True)
    with pytest.warns(ShortfallWarning, match="Its guard held it back"):
        _, model = fit(scores, scheduler, stop, epochs=2)
    assert len(scheduler.report.undone) == 1
    assert plan_of(model) == {}
    for one, two in zip(model.get_weights(), scores.weights[0], strict=True):
        np.testing.assert_array_equal(one, two)


class LosesNumbers(keras.callbacks.Callback):
    """Leaves NaN in the weights of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            self.model.layers[-1].bias.assign(np.full(5, np.nan))


@pytest.mark.parametrize("case", ["ours", "ours, with a guard", "before", "after"])
def test_the_report_is_of_the_weights_that_early_stopping_restores(case, recwarn):
    scores, seen = Scores(0.9, 0.5, 0.8, 0.7, 0.6), []
    guard = Guard("score", max_drop=0.9, mode="max") if "guard" in case else None
    scheduler = RankScheduler(budget=PiecewiseConstant((1.0, 0.4), (0, 1)), guard=guard)
    how = {"mode": "max", "patience": 9, "restore_best_weights": True}
    stop = (
        RankEarlyStopping(scheduler, "score", **how)
        if "ours" in case
        else keras.callbacks.EarlyStopping("score", start_from_epoch=1, **how)
    )
    look = keras.callbacks.LambdaCallback(
        on_train_end=lambda _: seen.append(scheduler.report.answers)
    )
    callbacks = [stop, scheduler, look] if case == "before" else [scheduler, look, stop]
    _, model = fit(scores, *callbacks, LosesNumbers(4), epochs=5)
    for one, two in zip(model.get_weights(), scores.weights[2], strict=True):
        np.testing.assert_array_equal(one, two)
    told = scheduler.report.answers
    judged = model.evaluate(*zoo.data(model), verbose=0, return_dict=True)
    assert told.metrics["loss"] == pytest.approx(judged["loss"], rel=1e-4)
    assert told.output_error > 0
    assert seen == [told], "whoever asks between the scheduler and early stopping"
    assert scheduler.diverged is None
    assert not any(issubclass(each.category, OutputErrorWarning) for each in recwarn)


# --- backup -------------------------------------------------------------------------------


class BreakOff(keras.callbacks.Callback):
    """Ends a training as a power cut would, within an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.epoch:
            raise InterruptedError


def start():
    keras.utils.set_random_seed(3)
    return zoo.compiled(zoo.sequential(), run_eagerly=True)


OPTIONS = {
    "budget": {"budget": Ramp(1.0, 0.3, start_epoch=1, end_epoch=4)},
    "energy": {"energy": PiecewiseConstant((1.0, 0.9, 0.7, 0.5), (0, 1, 2, 4))},
    "steps": {"budget": Ramp(1.0, 0.3, start_epoch=0, end_epoch=4), "cadence": Cadence(steps=3)},
    "file": {"budget": Ramp(1.0, 0.5, start_epoch=1, end_epoch=4), "measure": "file"},
    "latency": {
        "budget": Ramp(1.0, 0.5, start_epoch=1, end_epoch=4),
        "measure": Latency(timer=lambda calls, _: [c.layer.count_params() for c in calls]),
    },
}


def clock_of_another_day(calls, rounds):
    return [call.layer.count_params() ** 1.2 for call in calls]


LATER = {"latency": {"measure": Latency(timer=clock_of_another_day)}}  # when it goes on


@pytest.mark.parametrize("case", OPTIONS)
def test_a_resumed_training_is_the_one_that_would_have_been(case, tmp_path):
    # Without answers: what they are compared with, the outputs of the start, is not kept.
    cadence = OPTIONS[case].get("cadence", Cadence(epochs=1))
    options = OPTIONS[case] | {"cadence": replace(cadence, compare=False)}
    whole = RankScheduler(**options)
    history, expected = fit(whole, model=start(), epochs=5)
    first = RankScheduler(**options)
    with pytest.raises(InterruptedError):
        fit(
            first,
            RankBackupAndRestore(first, tmp_path / "b"),
            BreakOff(3),
            model=start(),
            epochs=5,
        )
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [
        "epoch_3.weights.h5",
        "state.json",
    ]
    second = RankScheduler(**options | LATER.get(case, {}))
    callbacks = [
        second,
        RankTensorBoard(second, tmp_path / "logs"),
        RankBackupAndRestore(second, tmp_path / "b"),
    ]
    resumed, model = fit(*callbacks, model=zoo.compiled(zoo.sequential()), epochs=5)
    assert resumed.epoch == [3, 4]
    assert resumed.history["loss"] == history.history["loss"][3:]
    assert plan_of(model) == plan_of(expected)
    for one, two in zip(
        [*model.weights, *model.optimizer.variables],
        [*expected.weights, *expected.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(zoo.as_array(one), zoo.as_array(two))
    assert str(second.report) == str(whole.report)
    assert [_facts(each) for each in second.report.cuts] == [
        _facts(each) for each in whole.report.cuts
    ]
    assert not (tmp_path / "b").exists()
    again, _ = fit(model=model, epochs=1)
    assert again.epoch == [0], "a later fit starts at its own epoch"


def recurrent(eagerly):
    """Random layers of every kind and a recurrent one that keeps its state."""
    return zoo.compiled(
        keras.Sequential(
            [
                keras.Input((4, 6), batch_size=16),
                keras.layers.GaussianNoise(0.1),
                keras.layers.LSTM(16, stateful=True, dropout=0.2, name="rnn"),
                keras.layers.BatchNormalization(),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(24, name="wide"),
                Unseeded(),
                keras.layers.Dense(5, name="output"),
            ],
            name="recurrent",
        ),
        keras.optimizers.Adam(use_ema=True),
        run_eagerly=eagerly,
    )


class Unseeded(keras.layers.Layer):
    """Adds noise from generators in a list, and from that of Keras itself."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generators = [keras.random.SeedGenerator(7)]

    def call(self, x):
        shape = keras.ops.shape(x)
        noise = keras.random.normal(shape, seed=self.generators[0]) + keras.random.normal(shape)
        return x + 0.1 * noise


def pictures(eagerly):
    """Augmentation layers before a convolution."""
    return zoo.compiled(
        keras.Sequential(
            [
                keras.Input((6, 4, 1)),
                keras.layers.RandomFlip("horizontal"),
                keras.layers.RandomContrast(0.3),
                keras.layers.Conv2D(12, 3, padding="same", name="conv"),
                keras.layers.SpatialDropout2D(0.3),
                keras.layers.Flatten(),
                keras.layers.Dense(24, name="wide"),
                keras.layers.Dense(5, name="output"),
            ],
            name="pictures",
        ),
        run_eagerly=eagerly,
    )


@pytest.mark.parametrize(
    ("make", "broken", "eagerly"),
    [(recurrent, 1, True), (recurrent, 1, False), (pictures, 2, True)],
)
def test_a_resumed_training_draws_the_same_random_numbers(make, broken, eagerly, tmp_path):
    def scheduler():  # with a graph one cut, as each has it traced anew
        falls = PiecewiseConstant((1.0, 0.7, 0.5), (0, 1, 2))
        alone = Cadence(epochs=1, compare=False)
        return RankScheduler(budget=falls if eagerly else 0.5, cadence=alone)

    keras.utils.set_random_seed(5)
    model = make(eagerly)
    rng = np.random.default_rng(0)
    data = rng.normal(size=(32, *model.input_shape[1:])), rng.integers(5, size=32)
    epochs = 3 if eagerly else 2
    how = {"epochs": epochs, "batch_size": 16, "shuffle": False, "verbose": 0}
    whole = model.fit(*data, callbacks=[scheduler()], **how)
    keras.utils.set_random_seed(5)
    first = scheduler()
    with pytest.raises(InterruptedError):
        make(eagerly).fit(
            *data,
            callbacks=[first, RankBackupAndRestore(first, tmp_path), BreakOff(broken)],
            **how,
        )
    keras.utils.set_random_seed(11)
    second, resumed = scheduler(), make(eagerly)
    history = resumed.fit(*data, callbacks=[second, RankBackupAndRestore(second, tmp_path)], **how)
    assert history.epoch == list(range(broken, epochs))
    assert history.history["loss"] == whole.history["loss"][broken:]
    for one, two in zip(
        [*resumed.weights, *resumed.optimizer.variables],
        [*model.weights, *model.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(zoo.as_array(one), zoo.as_array(two))


@pytest.mark.parametrize("last", [3, 1])
def test_the_report_of_a_resumed_training_tells_what_can_be_told_of_its_answers(tmp_path, last):
    """Outputs before the first cut are gone with the fit that was broken off, after two epochs."""
    options = {"budget": Ramp(1.0, 0.4, 0, last), "criterion": "frobenius"}
    first, second = RankScheduler(**options), RankScheduler(**options)
    with pytest.raises(InterruptedError):
        fit(
            first,
            RankBackupAndRestore(first, tmp_path),
            BreakOff(2),
            model=zoo.compiled(zoo.sequential()),
            epochs=5,
        )
    backup = RankBackupAndRestore(second, tmp_path)
    fit(second, backup, model=zoo.compiled(zoo.sequential()), epochs=5)
    told, cut = str(second.report), second.report.cuts[-1]
    assert f"loss {second.report.cuts[0].metrics_before['loss']:.4g} before the " in told
    if cut.epoch >= 2:
        assert cut.output_error_since_start is None
        assert f"output error {cut.output_error:.3g} by the last cut alone" in told
        assert "before the first cut is not told" in told
    else:
        assert f"output error {cut.output_error_since_start:.3g} right after the" in told


def test_a_resumed_training_knows_averages_that_stand_in_for_weights(tmp_path):
    def make():
        keras.utils.set_random_seed(3)
        return zoo.compiled(zoo.sequential(), keras.optimizers.Adam(0.02, use_ema=True))

    def callbacks(folder):
        scheduler = RankScheduler(budget=FALL)
        swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
        return scheduler, swap, RankBackupAndRestore(scheduler, folder)

    _, expected = fit(*callbacks(tmp_path / "whole"), model=make(), epochs=4)
    with pytest.raises(InterruptedError):
        fit(*callbacks(tmp_path / "b"), BreakOff(3), model=make(), epochs=4)
    given = callbacks(tmp_path / "b")
    with pytest.raises(FormatError, match="another number of SwapEMAWeights"):
        fit(given[0], given[2], model=make(), epochs=4)
    resumed, model = fit(*given, model=make(), epochs=4)
    assert resumed.epoch == [3]
    for one, two in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_backup_that_could_not_be_taken_up_is_refused_before_the_first_training(tmp_path):
    scheduler = RankScheduler(budget=FALL)
    model = start()
    model.beside = {"head": keras.optimizers.SGD(momentum=0.9, name="beside")}
    with pytest.raises(ArgumentError, match=r"optimizers of its own.*Received: beside"):
        fit(scheduler, RankBackupAndRestore(scheduler, tmp_path / "b"), model=model)
    model.beside["head"].build(model.trainable_variables)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileAccessError, match="`backup_dir` must be one that can be written"):
        fit(scheduler, RankBackupAndRestore(scheduler, tmp_path / "file"), model=model)
    backup = RankBackupAndRestore(scheduler, tmp_path / "b", delete_checkpoint=False)
    _, model = fit(scheduler, backup, model=model, epochs=3)
    other = start()
    other.beside = {"head": keras.optimizers.SGD(momentum=0.9, name="beside")}
    other.beside["head"].build(other.trainable_variables)
    scheduler = RankScheduler(budget=FALL)
    resumed, _ = fit(
        scheduler, RankBackupAndRestore(scheduler, tmp_path / "b"), model=other, epochs=4
    )
    assert resumed.epoch == [3]
    assert plan_of(other) == plan_of(model) != {}


class Halves(keras.Model):
    """Two parts, each with an optimizer of its own, one of them in a dictionary."""

    def __init__(self):
        super().__init__()
        keras.utils.set_random_seed(5)
        dense = keras.layers.Dense
        self.first = keras.Sequential([keras.Input((24,)), dense(24, "relu"), dense(24)])
        self.second = keras.Sequential([keras.Input((24,)), dense(24, "relu"), dense(5)])

    def call(self, x):
        return self.second(self.first(x))

    def compile(self, first, second):
        super().compile(run_eagerly=True)
        self.one, self.others = first, {"second": second}

    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape(persistent=True) as tape:
            loss = tf.reduce_mean((self(x) - tf.one_hot(y, 5)) ** 2)
        for part, optimizer in ((self.first, self.one), (self.second, self.others["second"])):
            weights = part.trainable_weights
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


def halves(built=True):
    model = Halves()
    model(np.zeros((1, 24), "float32"))
    model.compile(keras.optimizers.Adam(0.01), keras.optimizers.SGD(0.01, momentum=0.9))
    if built:
        model.one.build(model.first.trainable_variables)
        model.others["second"].build(model.second.trainable_variables)
    return model


def test_every_optimizer_of_a_model_comes_back_in_a_resumed_training(tmp_path):
    def run(epochs, *callbacks, model=None):
        model = halves() if model is None else model
        scheduler = RankScheduler(budget=PiecewiseConstant((1.0, 0.5), (0, 1)))
        rng = np.random.default_rng(2)
        x, y = rng.normal(size=(48, 24)).astype("float32"), rng.integers(0, 5, 48)
        callbacks = [scheduler, *(make(scheduler) for make in callbacks)]
        options = {"batch_size": 16, "shuffle": False, "verbose": 0, "callbacks": callbacks}
        return model.fit(x, y, epochs=epochs, **options).history["loss"], model

    def backup(scheduler):
        return RankBackupAndRestore(scheduler, tmp_path / "backup")

    losses, expected = run(4)
    with pytest.raises(ArgumentError, match=r"not built. Call build.variables. of each"):
        run(4, backup, model=halves(built=False))
    with pytest.raises(InterruptedError):
        run(4, backup, lambda _: BreakOff(2))
    resumed, model = run(4, backup)
    assert resumed == losses[2:]
    for name in ("one", "others"):
        for one, two in zip(states(model, name), states(expected, name), strict=True):
            np.testing.assert_array_equal(zoo.as_array(one), zoo.as_array(two))
    assert not model.optimizer.built, "the one that compile made, and nobody uses"


def states(model, name):
    found = getattr(model, name)
    return (found if name == "one" else found["second"]).variables


def test_a_resumed_training_remembers_the_best_epoch(tmp_path):
    values = (0.9, 0.9, 0.8, 0.5, 0.6, 0.5, 0.4)

    def callbacks():
        scheduler = RankScheduler(budget=FALL)
        how = {"monitor": "score", "mode": "max"}
        best = RankModelCheckpoint(scheduler, tmp_path / "best.reducible", **how)
        stop = RankEarlyStopping(scheduler, patience=3, restore_best_weights=True, **how)
        return scheduler, best, stop, RankBackupAndRestore(scheduler, tmp_path / "b")

    scores = Scores(*values)
    with pytest.raises(InterruptedError):
        fit(scores, *callbacks(), BreakOff(4), model=start())
    saved = (tmp_path / "best.reducible").read_bytes()
    given = callbacks()
    history, model = fit(Scores(*values), *given, model=start(), epochs=7)
    assert history.epoch == [4, 5], "three epochs after the best, one of them before the break"
    assert (given[1].best, given[1].best_epoch) == (0.8, 2)
    assert (tmp_path / "best.reducible").read_bytes() == saved
    for one, two in zip(model.get_weights(), scores.weights[2], strict=True):
        np.testing.assert_array_equal(one, two)
    late = [*given[:2], given[3], given[2]]
    with pytest.raises(ArgumentError, match="RankEarlyStopping after it"):
        fit(Scores(*values), *late)


def test_a_resumed_training_tells_metrics_at_its_end_and_why_no_more(tmp_path):
    whole = RankScheduler(budget=FALL)
    fit(whole, model=start(), epochs=5)
    first, second = RankScheduler(budget=FALL), RankScheduler(budget=FALL)
    with pytest.raises(InterruptedError):
        fit(first, RankBackupAndRestore(first, tmp_path), BreakOff(4), model=start(), epochs=5)
    assert first.report.answers.metrics == {}
    fit(second, RankBackupAndRestore(second, tmp_path), model=start(), epochs=5)
    told, expected = second.report.answers, whole.report.answers
    assert told.measured_on == expected.measured_on
    assert told.metrics == pytest.approx(expected.metrics, rel=1e-4)
    assert told.output_error is None
    assert NO_START in second.report.notes
    assert NO_START not in whole.report.notes
    assert "at the end" in str(second.report)


def golden_model():
    layers = [keras.layers.Dense(16, "relu", name=name) for name in ("first", "second")]
    model = keras.Sequential([keras.Input((12,)), *layers, keras.layers.Dense(3, name="last")])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, run_eagerly=True)
    return model


def golden_fit(*callbacks):
    numbers = np.random.default_rng(5)
    x, y = numbers.normal(size=(64, 12)).astype("float32"), numbers.integers(0, 3, 64)
    how = {"epochs": 4, "batch_size": 16, "shuffle": False, "verbose": 0}
    return golden_model().fit(x, y, callbacks=list(callbacks), **how)


@pytest.mark.parametrize("broken_off", [False, True])
def test_an_old_backup_goes_on_as_it_would_have_when_it_was_written(broken_off, tmp_path):
    # After two epochs, in the days when the file of the state was called `story.json`.
    folder = shutil.copytree(GOLDEN / "backup", tmp_path / "backup")
    expected = json.loads((GOLDEN / "backup.json").read_text(encoding="utf-8"))
    losses = []
    for last in [3, None] if broken_off else [None]:
        scheduler = RankScheduler(
            budget=Ramp(1.0, 0.5, start_epoch=0, end_epoch=3), criterion="frobenius"
        )
        backup = RankBackupAndRestore(scheduler, folder)
        seen = keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: losses.append(logs))
        if last is None:
            golden_fit(scheduler, backup, seen)
            break
        with pytest.raises(InterruptedError):
            golden_fit(scheduler, backup, seen, BreakOff(last))
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["epoch_3.weights.h5", "state.json"]
    np.testing.assert_allclose([each["loss"] for each in losses], expected["loss"], rtol=1e-4)
    assert scheduler.report.ranks == expected["ranks"]
    assert not folder.exists()


def test_a_backup_of_other_callbacks_or_another_random_layer_is_refused(tmp_path):
    scheduler = RankScheduler(budget=FALL)
    backup = RankBackupAndRestore(scheduler, tmp_path, delete_checkpoint=False)
    fit(scheduler, backup, epochs=3)
    plateau = keras.callbacks.ReduceLROnPlateau("loss")
    with pytest.raises(FormatError, match=r"were none. Received: ReduceLROnPlateau"):
        fit(scheduler, plateau, backup)
    first, *others = zoo.sequential().layers
    layers = [keras.Input((24,)), first, *others[:-1], keras.layers.Dropout(0.5), others[-1]]
    with pytest.raises(FormatError, match=r"states of shapes \[\]"):
        fit(scheduler, backup, model=zoo.compiled(keras.Sequential(layers)))


def _facts(cut):
    kernels = [(k.path, k.rank_before, k.rank, k.energy, k.spectrum.tolist()) for k in cut.kernels]
    return cut.epoch, cut.step, cut.epoch_step, cut.target, cut.parameters, kernels


def test_a_backup_of_something_else_is_refused_and_the_model_left(tmp_path):
    scheduler = RankScheduler(budget=FALL)
    backup = RankBackupAndRestore(scheduler, tmp_path, delete_checkpoint=False)
    fit(scheduler, backup, epochs=3)
    assert (tmp_path / "state.json").exists()
    other = zoo.compiled(zoo.nested())
    with pytest.raises(FormatError, match=r"epoch_3\.weights\.h5 does not fit"):
        fit(scheduler, backup, model=other)
    assert plan_of(other) == {}
    state = json.loads((tmp_path / "state.json").read_text())
    texts = (json.dumps(state | {"version": 99}), json.dumps(state | {"scheduler": 1}), "{", "[]")
    for raw in (*(text.encode() for text in texts), b"", b"\xff\xfe\x00\x80" * 9, b"[" * 10**6):
        (tmp_path / "state.json").write_bytes(raw)
        with pytest.raises(FormatError, match=r"state\.json is no backup.*Remove the folder"):
            fit(scheduler, backup)


def _knowing(value):
    """An optimizer of torch's, and what it would know of one variable."""
    return [{"of": "Adam", "groups": [{"lr": 0.1}], "known": value, "arrays": 1}]


def _way(**other):
    """What an early stopping on the loss goes by, with something else in it."""
    way = {"monitor": "loss", "mode": "min", "restores": False, "measured": "loss='mse'"}
    return way | other


_ARRAYS = ((1, {"dtype": "int32"}), (-1, {"dtype": "int32"}), (0, {}))
ALTERED = {
    "epochs": (-1, True, "no"),
    "has_stopped": (3, None),
    "averages": (3, [1], None),
    "scheduler.step": (..., "no", None, [1]),
    "scheduler.epoch": (-1, "no", None),
    "scheduler.trained": (-1, "no", None),
    "scheduler.looked": ("no", [1]),
    "scheduler.loss": ("no", [1]),
    "scheduler.last_turn": (..., "no", [1]),
    "scheduler.input_shape": (3, "no", [1]),
    "scheduler.compression": (..., 3, None, {}, [1]),
    "scheduler.compression.notes": (..., 3),
    "scheduler.compression.cuts": (..., 3, [1]),
    "scheduler.compression.done": (..., 3),
    "scheduler.compression.cost_models": (3, {"file": 3}),
    "scheduler.compression.taken_in": (3,),
    "scheduler.compression.remarks": (3, {"first/kernel": 3}),
    "state.callbacks": (..., 3, "no", None, [1], [{"of": "RankEarlyStopping"}]),
    "state.callbacks.0.marks": (..., 3, {"best": "no"}, {"best": {}}),
    "state.callbacks.0.lasting": (3, {"stopped_epoch": [1]}),
    "state.callbacks.0.way": (3, {}, _way(monitor=3), _way(mode=3), _way(restores=1), _way(no=1)),
    "state.torch": (
        *(3, [1], [{"of": "Adam"}], _knowing(3), _knowing({"no": 1})),
        *(_knowing({"0": each}) for each in ({}, {"tuple": 3}, {"entries": {"step": [{}]}})),
        *(_knowing({"0": {"array": i, "device": None} | more}) for i, more in _ARRAYS),
    ),
    "state.python": (..., 3, [3, [1], None], [1]),
    "state.numpy": (..., 3, ["no", [1], 0, 0, 0.0], ["MT19937", "no", 0, 0, 0.0]),
}


def test_a_backup_with_a_value_of_another_form_is_refused_and_the_model_left(tmp_path):
    scheduler = RankScheduler(rank=4)
    stop = RankEarlyStopping(scheduler, "loss", patience=9)
    backup = RankBackupAndRestore(scheduler, tmp_path, delete_checkpoint=False)
    fit(scheduler, stop, backup, epochs=1)
    file, model = tmp_path / "state.json", zoo.compiled(zoo.sequential(), "sgd")
    whole = file.read_text()
    state = json.loads(whole)
    state["state"]["torch"] = _knowing({"0": {"entries": {}}})
    file.write_text(json.dumps(state))
    with pytest.raises(FormatError, match=r"that stepped it were Adam \(1 group\)\. .*: none\."):
        fit(scheduler, stop, backup, model=model)
    for path, value in ((path, value) for path, values in ALTERED.items() for value in values):
        state = json.loads(whole)
        *way, last = (int(each) if each == "0" else each for each in path.split("."))
        inner = functools.reduce(operator.getitem, way, state)
        inner.pop(last) if value is ... else inner.update({last: value})
        file.write_text(json.dumps(state))
        with pytest.raises(
            FormatError, match=r"state\.json is no .*Remove the folder to begin anew"
        ):
            fit(scheduler, stop, backup, model=model)
        assert plan_of(model) == {}, path
    file.write_text(whole)
    fit(scheduler, stop, backup, model=model, epochs=2)
    assert plan_of(model)


DAMAGES = {
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "turned": lambda path: path.write_bytes(bytes(255 - each for each in path.read_bytes())),
    "of one array": lambda path: path.write_bytes(b"\x93NUMPY" + b"\0" * 99),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *(("state.npz", how) for how in DAMAGES),
        *(("weights.h5", how) for how in DAMAGES if how != "gone"),
    ],
)
def test_a_damaged_backup_is_refused_with_what_helps_and_the_model_left(tmp_path, name, how):
    scheduler = RankScheduler(rank=4)
    stop = RankEarlyStopping(scheduler, "loss", patience=9, restore_best_weights=True)
    backup = RankBackupAndRestore(scheduler, tmp_path, delete_checkpoint=False)
    fit(scheduler, stop, backup, epochs=1)
    DAMAGES[how](tmp_path / f"epoch_1.{name}")
    model = zoo.compiled(zoo.sequential(), "sgd")
    with pytest.raises(FormatError, match=r"Remove the folder to begin anew\.$"):
        fit(scheduler, stop, backup, model=model)
    assert plan_of(model) == {}


@pytest.mark.parametrize(("size", "is_taken"), [(5, True), (6, False), (None, True)])
def test_random_numbers_of_a_backend_are_put_back_or_refused(tmp_path, monkeypatch, size, is_taken):
    """Older backups have none."""
    scheduler, back = RankScheduler(rank=4), {}
    backup = RankBackupAndRestore(scheduler, tmp_path, delete_checkpoint=False)
    states = {} if size is None else {"cpu": np.arange(size, dtype="uint8")}
    monkeypatch.setattr(_keras, "backend_numbers", lambda: states)
    fit(scheduler, backup, epochs=1)
    monkeypatch.setattr(_keras, "backend_numbers", lambda: {"cpu": np.zeros(5, "uint8")})
    monkeypatch.setattr(_keras, "set_backend_numbers", back.update)
    if is_taken:
        fit(scheduler, backup, epochs=1)
        assert back.keys() == states.keys()
        assert all(np.array_equal(back[name], states[name]) for name in states)
        return
    model = zoo.compiled(zoo.sequential(), "sgd")
    with pytest.raises(FormatError, match=r"of its cpu had.*\(6,\).*\(5,\).*remove"):
        fit(scheduler, backup, model=model)
    assert plan_of(model) == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"guard": Guard("loss", max_drop=1.0)}, "with guard cannot.*or guard"),
        ({"cadence": Cadence(start=Adaptive())}, r"with cadence\.start cannot.*or cadence\.start"),
        ({"aids": [ProductDecay(), Rewarm(steps=3)]}, "with Rewarm cannot.*or Rewarm"),
    ],
)
def test_what_no_story_tells_cannot_be_backed_up(options, words, tmp_path):
    scheduler = RankScheduler(budget=FALL, **options)
    with pytest.raises(ArgumentError, match=words):
        RankBackupAndRestore(scheduler, tmp_path)
    with pytest.raises(ArgumentError, match=words):
        scheduler.get_state()
    RankBackupAndRestore(RankScheduler(budget=FALL, aids=[ProductDecay()]), tmp_path)


@pytest.mark.parametrize("count", [32, 500])
def test_a_resumed_training_gathers_its_samples_anew_and_goes_on_to_cut(
    count, tmp_path, monkeypatch
):
    learnt = []
    learn = Compression.learn_from
    monkeypatch.setattr(
        Compression, "learn_from", lambda self, s: (learnt.append(len(s)), learn(self, s))
    )

    def scheduler():
        ranks = PiecewiseConstant((24, 12, 8, 4), (0, 1, 2, 4))
        return RankScheduler(rank=ranks, criterion="activation", calibration=count)

    first = scheduler()
    with pytest.raises(InterruptedError):
        fit(first, RankBackupAndRestore(first, tmp_path), BreakOff(3), model=start())
    assert [cut.epoch for cut in first.report.cuts] == [1, 2]
    second = scheduler()
    _, model = fit(second, RankBackupAndRestore(second, tmp_path), model=start(), epochs=6)
    assert [cut.epoch for cut in second.report.cuts] == [1, 2, 4]
    assert set(plan_of(model).values()) == {4}
    assert set(learnt) == {min(count, 64)}, "of the whole epoch, where it holds fewer"


class Refuses(keras.callbacks.Callback):
    """Ends a fit before its first epoch, as a mistake of another callback does."""

    def on_train_begin(self, logs=None):
        raise InterruptedError


@pytest.mark.parametrize("breaks", [BreakOff(2), Refuses()], ids=["in training", "before it"])
def test_a_resumed_fit_that_is_broken_off_lets_the_next_fit_begin_where_it_is_told(
    breaks, tmp_path
):
    first = RankScheduler(budget=FALL)
    with pytest.raises(InterruptedError):
        fit(first, RankBackupAndRestore(first, tmp_path), BreakOff(1), epochs=4)
    again, model = RankScheduler(budget=FALL), zoo.compiled(zoo.sequential(), "sgd")
    backup = RankBackupAndRestore(again, tmp_path)
    with pytest.raises(InterruptedError) as held:  # frames, as a notebook keeps them
        fit(again, backup, breaks, model=model, epochs=4)
    assert backup.resumed_at == 1
    assert fit(model=model, epochs=3)[0].epoch == [0, 1, 2]
    assert not {"make_train_function", "make_test_function"} & vars(model).keys()
    del held
    third = RankScheduler(budget=FALL)
    history, _ = fit(third, RankBackupAndRestore(third, tmp_path), epochs=4)
    assert history.epoch[-1] == 3
    assert history.epoch[0] > 0
