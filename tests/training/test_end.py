"""Laws of a fit's course: cuts before steps that are trained, and no end in silence."""

from __future__ import annotations

import copy
import json
import math
import pickle
import threading
import time
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from reducible_train import (
    Adaptive,
    ArgumentError,
    Cadence,
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
    Regrow,
    Rewarm,
    Search,
    _keras,
    analyze,
    factorize,
    load_weights_into,
    save_model,
)
from reducible_train.errors import OutputErrorWarning, ShortfallWarning, SpectrumError
from reducible_train.layers import find_kernels

STAIRS = PiecewiseConstant((1.0, 0.8, 0.6), (0, 1, 2))
SAMPLES, BATCH = 48, 16
X = np.random.default_rng(0).normal(size=(SAMPLES, 24)).astype("float32")
Y = X[:, :5].argmax(-1)


def small(**options):
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((24,)),
            layers.Dense(24, activation="relu", name="first"),
            layers.Dense(24, activation="relu", name="second"),
            layers.Dense(5, name="output"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(**{"optimizer": "sgd", "loss": loss, "run_eagerly": True} | options)
    return model


def fit(model, scheduler, *others, x=X, y=Y, epochs=4, **options):
    if y is not None:
        options |= {"batch_size": BATCH, "shuffle": False}
    callbacks = [scheduler, *others]
    return model.fit(x, y, epochs=epochs, callbacks=callbacks, verbose=0, **options).history


class StopAt(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == self.epoch


# --- no end in silence --------------------------------------------------------------------

SHORT = {
    "stopped": ({"budget": STAIRS}, [StopAt(0)], {}, "after 1 of 4 epochs", False),
    "samples": (
        {"budget": 0.6, "criterion": "activation"},
        [],
        {"epochs": 1, "sample_weight": np.zeros(len(X))},
        "2048 samples of the fit, of a weight above 0, and 0 came",
        False,
    ),
    "no gain": ({"energy": 0.999999}, [], {"epochs": 1}, "leaves every kernel dense", False),
    "no step": ({"budget": 0.6}, [], {"initial_epoch": 4}, "No step was trained", False),
    "turn": (
        {"energy": 0.6, "cadence": Cadence(epochs=3)},
        [],
        {"epochs": 6, "initial_epoch": 4},
        "looked at never",
        False,
    ),
    "limit": (
        {"budget": 0.6, "guard": Guard("loss", limit=1e-9)},
        [],
        {},
        "has not reached the guard's limit",
        True,
    ),
    "undone": ({"budget": 0.6, "guard": Guard("loss", max_drop=0.0)}, [], {}, "undone", True),
    "search": (
        {"search": Search(start_epoch=1, end_epoch=2), "guard": Guard("loss", limit=1e-9)},
        [],
        {},
        "has not reached the guard's limit",
        True,
    ),
    "adaptive": (
        {"budget": 0.6, "cadence": Cadence(start=Adaptive(slope=1e-9, end_epoch=3))},
        [StopAt(1)],
        {},
        "after 2 of 4 epochs",
        False,
    ),
}


class Worse(keras.callbacks.Callback):
    """A loss that cuts make worse, in place of the real one."""

    def on_epoch_end(self, epoch, logs=None):
        logs["loss"] = float(epoch + 1)


@pytest.mark.filterwarnings("ignore:Every sample of this fit has weight 0")  # told before as well
@pytest.mark.parametrize("case", SHORT)
def test_what_was_not_reached_is_said_at_the_end_and_in_the_report(case):
    options, others, how, reason, held_back = SHORT[case]
    scheduler, model = RankScheduler(**options), small()
    callbacks = [Worse(), scheduler, *others] if case == "undone" else [scheduler, *others]
    with pytest.warns(ShortfallWarning) as caught:
        model.fit(X, Y, batch_size=BATCH, callbacks=callbacks, verbose=0, **{"epochs": 4} | how)
    (words,) = [str(w.message) for w in caught if w.category is ShortfallWarning]
    short = scheduler.shortfall
    assert reason in short.reason
    assert short.held_back is held_back
    assert short.remedy
    if case in ("no gain", "rank"):
        assert short.reached is None
        assert "(nothing was cut)" in words
    assert words == str(short)
    assert words in str(scheduler.report)
    assert str(scheduler.report).count(short.reason) == 1


class Lags(keras.callbacks.Callback):
    """A loss that is too high in the epoch of the first cut, and good in the next."""

    def on_epoch_end(self, epoch, logs=None):
        logs["loss"] = 2.0 if epoch == 1 else 1.0


@pytest.mark.parametrize(
    ("budget", "source", "epochs", "words"),
    [
        (
            0.6,
            Worse,
            4,
            r"best before 1\)\. Train for longer, or give the guard a larger max_drop than 0",
        ),
        (Ramp(1.0, 0.6, 1, 3), Worse, 4, "Train for longer, let the schedule end earlier, or give"),
        (
            Ramp(1.0, 0.6, 0, 2),
            Lags,
            3,
            "Each cut waited until the one before it had been judged, which took the time. Train "
            "for longer, let the schedule end earlier, or give the guard a larger max_drop than 0",
        ),
    ],
    ids=["number", "schedule", "delay"],
)
def test_a_guard_that_took_the_time_asks_for_time_and_only_schedules_can_end_earlier(
    budget, source, epochs, words
):
    scheduler = RankScheduler(budget, guard=Guard("loss", max_drop=0.0))
    with pytest.warns(ShortfallWarning, match=words):
        small().fit(X, Y, epochs=epochs, callbacks=[source(), scheduler], verbose=0)


NONE, SOME = dict.fromkeys(range(5), 0.0), dict.fromkeys(range(4), 0.0)


@pytest.mark.parametrize(
    ("weights", "options", "told"),
    [
        ({"sample_weight": np.zeros(SAMPLES)}, {}, True),
        ({"class_weight": NONE}, {}, True),
        ({"class_weight": NONE}, {"calibration": (X, Y)}, False),
        ({"class_weight": NONE}, {"criterion": "frobenius"}, False),
        ({"class_weight": SOME}, {}, False),  # one that it does not name counts
        ({"sample_weight": Y == 4}, {}, False),
    ],
    ids=["samples", "classes", "calibration", "no data", "one class", "some samples"],
)
def test_that_no_sample_of_a_fit_counts_is_told_before_it(weights, options, told):
    model, scheduler = small(), RankScheduler(0.6, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ShortfallWarning)
        warnings.filterwarnings("error", "Every sample of this fit has weight 0")
        if not told:
            fit(model, scheduler, epochs=1, **weights)
            assert scheduler.shortfall is None
            return
        with pytest.raises(UserWarning, match=r"calibration=\(x, y\)"):
            fit(model, scheduler, epochs=1, **weights)
    assert model.optimizer.iterations == 0


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("where", ["training", "validation"])
def test_answers_on_samples_that_weigh_nothing_are_said_to_lack_weights_not_data(where):
    weight = np.zeros(SAMPLES)
    of_training, of_validation = {"sample_weight": weight}, {"validation_data": (X, Y, weight)}
    scheduler = RankScheduler(0.6, criterion="frobenius")
    fit(small(), scheduler, epochs=1, **of_training if where == "training" else of_validation)
    (note,) = (note for note in scheduler.report.notes if "not measured" in note)
    assert f"the samples of the {where} data that were looked at all have weight 0" in note


def test_a_search_that_is_over_before_the_fit_begins_is_refused_or_told():
    ended = {"search": Search(start_epoch=1, end_epoch=2), "guard": Guard("loss", max_drop=9.0)}
    model = small()
    words = r"initial_epoch=5\. Received: Search.*end_epoch=2.*Let it end at epoch 6 or later"
    with pytest.raises(ArgumentError, match=words):
        fit(model, RankScheduler(**ended), epochs=8, initial_epoch=5)
    with pytest.raises(ArgumentError, match=r"Train for epochs=[0-9]+ or more"):
        fit(model, RankScheduler(search=Search(), guard=ended["guard"]), epochs=8, initial_epoch=7)
    assert int(model.optimizer.iterations) == 0
    factorize(model, rank=9)  # its cuts may lie behind it
    with pytest.warns(ShortfallWarning, match="not looked at while the search could try a cut"):
        fit(model, RankScheduler(**ended), epochs=8, initial_epoch=5)


def test_a_fit_that_is_over_before_ranks_are_looked_at_is_told_so_before_it_trains_and_once():
    model, rare = small(), Cadence(epochs=3)
    words = r"before epoch 6 first.*initial_epoch=4\. Received: epochs=6.*for epochs=7 or more"
    for asked in ({"budget": 0.6}, {"rank": 9}, {"budget": 1.0, "rules": [LayerRule("*", rank=9)]}):
        scheduler = RankScheduler(**asked, cadence=rare)
        with pytest.warns(ShortfallWarning, match=words) as caught:
            fit(model, scheduler, epochs=6, initial_epoch=4)
        assert len([each for each in caught if each.category is ShortfallWarning]) == 1
        assert "looked at never" in scheduler.shortfall.reason
        assert "for epochs=7 or more" in scheduler.shortfall.remedy
    steps = int(model.optimizer.iterations)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ShortfallWarning)
        with pytest.raises(ShortfallWarning, match=words):
            fit(model, scheduler, epochs=6, initial_epoch=4)
    assert int(model.optimizer.iterations) == steps
    fit(model, RankScheduler(budget=1.0, cadence=rare), epochs=6, initial_epoch=4)
    scheduler = RankScheduler(budget=0.6, cadence=rare)
    fit(model, scheduler, epochs=7, initial_epoch=4)
    assert [cut.epoch for cut in scheduler.report.cuts] == [6]
    fit(model, scheduler, epochs=6, initial_epoch=4)  # goes on, with its cuts behind it


def test_a_fit_for_each_epoch_that_begins_between_two_looks_cuts_at_the_next():
    model, scheduler = small(), RankScheduler(budget=0.6, cadence=Cadence(epochs=2))
    with pytest.warns(ShortfallWarning, match=r"Received: epochs=2, so that nothing will be cut"):
        fit(model, scheduler, epochs=2, initial_epoch=1)
    fit(model, scheduler, epochs=3, initial_epoch=2)
    assert [cut.epoch for cut in scheduler.report.cuts] == [2]


def test_a_model_that_gets_its_weights_in_the_only_step_is_told_so():
    scheduler = RankScheduler(budget=0.6)
    model = keras.Sequential([keras.layers.Dense(24), keras.layers.Dense(5)])
    model.compile("sgd", "mse")
    with pytest.warns(ShortfallWarning, match="in the first step of the fit, and no step came"):
        fit(model, scheduler, x=X[:BATCH], y=X[:BATCH, :5], epochs=1)


def test_what_is_reached_is_reached_in_silence_also_by_a_model_that_was_there():
    model, scheduler = small(), RankScheduler(budget=STAIRS)
    fit(model, scheduler)
    assert scheduler.shortfall is None
    fit(model, scheduler, epochs=3)
    assert scheduler.report.cuts == ()
    ranks = RankScheduler(rank=PiecewiseConstant((9, 5), (0, 1)))
    with pytest.warns(ShortfallWarning):
        fit(small(), ranks, StopAt(0))
    fit(small(), ranks, epochs=2)
    assert ranks.shortfall is None, "of the last fit only"


def test_a_rule_that_did_not_come_to_its_end_is_named():
    rule = LayerRule("second", rank=PiecewiseConstant((9, 5), (0, 3)))
    scheduler = RankScheduler(budget=0.9, rules=[rule])
    with pytest.warns(ShortfallWarning, match="rank=5"):
        fit(small(), scheduler, StopAt(1))


@pytest.mark.parametrize("first", [9, 24], ids=["cut", "dense"])
def test_the_rank_told_is_of_the_layers_that_were_asked_for_another(first):
    falls = LayerRule("first", rank=PiecewiseConstant((first, 5), (0, 3)))
    scheduler = RankScheduler(budget=1.0, rules=[falls, LayerRule("second", rank=10)])
    told = rf"rank=5 of the rule for 'first' \(it is {first} at the end\)"
    with pytest.warns(ShortfallWarning, match=told):
        fit(small(), scheduler, StopAt(1))


def test_a_resumed_fit_that_has_all_its_cuts_is_silent(tmp_path):
    def run(*others):
        scheduler = RankScheduler(budget=STAIRS)
        backup = RankBackupAndRestore(scheduler, tmp_path, delete_checkpoint=False)
        fit(small(), scheduler, backup, *others)
        return scheduler

    assert run().shortfall is None
    again = run()
    assert again.shortfall is None
    assert [cut.epoch for cut in again.report.cuts] == [1, 2]


# --- models that are never called ----------------------------------------------------------


def parts(lazy):
    layers = keras.layers
    first = [layers.Dense(24, activation="relu"), layers.Dense(12)]
    last = [layers.Dense(24, activation="relu"), layers.Dense(24)]
    if not lazy:
        first, last = [keras.Input((24,)), *first], [keras.Input((12,)), *last]
    return keras.Sequential(first, name="encoder"), keras.Sequential(last, name="decoder")


class Coder(keras.Model):
    """Trains its parts and has no call; one part may get its weights in the first batch."""

    def __init__(self, lazy):
        super().__init__()
        self.encoder, self.decoder = parts(lazy)[0], parts(lazy=lazy)[1]

    def train_step(self, data):
        import tensorflow as tf

        x = data[0] if isinstance(data, tuple) else data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self.decoder(self.encoder(x)) - x) ** 2)
        weights = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


class Half(Coder):
    """One part is built, the other not."""

    def __init__(self, lazy):
        keras.Model.__init__(self)
        self.encoder, self.decoder = parts(lazy=False)[0], parts(lazy=True)[1]


class Nested(Coder):
    """The parts are held by a model that is never called either."""

    def __init__(self, lazy):
        keras.Model.__init__(self)
        self.inner = Coder(lazy)
        self.encoder, self.decoder = self.inner.encoder, self.inner.decoder


@pytest.mark.filterwarnings("ignore:.* is written. load_model cannot build")
@pytest.mark.parametrize(("kind", "lazy"), [(Coder, False), (Coder, True), (Half, 0), (Nested, 0)])
def test_a_model_has_weights_when_its_parts_have(kind, lazy, tmp_path):
    keras.utils.set_random_seed(0)
    model = kind(lazy)
    model.compile("adam", run_eagerly=True)
    half = {"budget": Ramp(1.0, 0.5, 0, 2), "rules": [LayerRule("*", keep_dense=False)]}
    scheduler = RankScheduler(**half)
    others = []
    if kind is Coder and not lazy:
        others = [RankBackupAndRestore(scheduler, tmp_path / "backup", delete_checkpoint=False)]
    history = fit(model, scheduler, *others, y=None, epochs=3, batch_size=BATCH)
    assert not model.built
    now = sum(math.prod(v.shape) for v in model.weights)
    dense = sum(math.prod(v.shape) for part in parts(lazy=False) for v in part.weights)
    assert scheduler.report.dense_parameters == dense
    assert 0.4 * dense < now <= 0.5 * dense
    assert history["params"][-1] == now
    assert scheduler.shortfall is None
    with pytest.warns(UserWarning, match="load_weights_into"):
        save_model(model, tmp_path / "model.reducible", scheduler.report)
    other = Coder(lazy=False) if kind is not Nested else Nested(lazy=False)
    load_weights_into(other, tmp_path / "model.reducible")
    for a, b in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    if others:
        again = RankScheduler(**half)
        resumed = Coder(lazy=False)
        resumed.compile("adam", run_eagerly=True)
        fit(resumed, again, RankBackupAndRestore(again, tmp_path / "backup"), y=None, epochs=3)
        assert again.report.ranks == scheduler.report.ranks
    assert factorize(other, rank=1).parameters <= now


def test_the_best_of_a_model_whose_parts_have_weights_is_written(tmp_path):
    model = Coder(lazy=False)
    model.compile("adam", run_eagerly=True)
    scheduler = RankScheduler(budget=PiecewiseConstant((1.0, 0.6), (0, 1)))
    whole = RankModelCheckpoint(scheduler, tmp_path / "best.keras", "loss", mode="min")
    with pytest.raises(FormatError, match=r"A .keras file cannot hold model 'coder.*get_config"):
        fit(model, scheduler, whole, y=None, epochs=2, batch_size=BATCH)
    names = [tmp_path / f"best{ending}" for ending in (".reducible", ".weights.h5")]
    best = [RankModelCheckpoint(scheduler, name, "loss", mode="min") for name in names]
    with pytest.warns(UserWarning, match="best.reducible will be written. load_model cannot"):
        fit(model, scheduler, *best, y=None, epochs=2, batch_size=BATCH)
    for name in names:
        other = load_weights_into(Coder(lazy=False), name)
        for one, two in zip(other.weights, model.weights, strict=True):
            np.testing.assert_array_equal(one, two)


def test_an_epoch_without_a_step_harms_no_callback(tmp_path):
    model = Coder(lazy=True)
    model.compile("adam", run_eagerly=True)
    scheduler = RankScheduler(budget=0.6)
    board = RankTensorBoard(scheduler, tmp_path / "logs")
    every = RankModelCheckpoint(scheduler, tmp_path / "a.reducible", "loss", save_best_only=False)
    callbacks = keras.callbacks.CallbackList([scheduler, board, every], model=model, epochs=1)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    callbacks.on_epoch_end(0, {})
    with pytest.warns(UserWarning, match="No step was trained|written nothing") as told:
        callbacks.on_train_end()
    assert "No step was trained" in str(told[0].message)
    assert "the model had no weights" in str(told[1].message)
    assert not list(tmp_path.rglob("*.*"))


# --- a step after every cut ----------------------------------------------------------------


def stream(known):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH)
    return data if known else data.filter(lambda x, y: True)


@pytest.mark.parametrize(
    ("cadence", "compiled"),
    [
        (Cadence(steps=1), {"run_eagerly": False}),
        (Cadence(steps=1), {"steps_per_execution": 2}),
        (Cadence(steps=3), {}),
        (Cadence(epochs=1), {}),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Your input ran out of data", "ignore:.*shuffle=True.*")
def test_data_of_unknown_length_is_cut_as_data_of_known_length(cadence, compiled):
    seen = []
    for known in (True, False):
        model = small(**compiled)
        scheduler = RankScheduler(budget=Ramp(1.0, 0.5, 1, 2), cadence=cadence)
        history = fit(model, scheduler, x=stream(known), y=None, epochs=3)
        cuts = [(cut.epoch, cut.step, cut.parameters) for cut in scheduler.report.cuts]
        assert max(step for _, step, _ in cuts) < int(model.optimizer.iterations)
        seen.append((cuts, history["loss"]))
    (cuts, loss), (same, also) = seen
    assert cuts == same
    np.testing.assert_allclose(also, loss, rtol=2e-3)  # Keras counts the step it had no data for


@pytest.mark.filterwarnings("ignore:Your input ran out of data", "ignore:.*shuffle=True.*")
@pytest.mark.parametrize("cadence", [Cadence(steps=1), Cadence(epochs=1)], ids=str)
def test_every_cut_has_a_step_after_it_where_data_runs_out(cadence):
    def batches():
        for start in range(0, SAMPLES, BATCH):
            yield X[start : start + BATCH], Y[start : start + BATCH]

    stairs = PiecewiseConstant((1.0, 0.8, 0.7, 0.6), (0, 1, 2, 3))
    model, scheduler, steps = small(), RankScheduler(budget=stairs, cadence=cadence), []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: steps.append(batch)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ShortfallWarning)
        fit(model, scheduler, count, x=batches(), y=None, epochs=4, steps_per_epoch=2)
    assert scheduler.report.cuts
    assert all(cut.step < len(steps) for cut in scheduler.report.cuts)


@pytest.mark.parametrize("fitted", [False, True])
def test_a_loop_of_ones_own_that_announces_no_steps_is_followed_too(fitted):
    model, scheduler = small(), RankScheduler(budget=STAIRS)
    if fitted:  # so that there is a train function
        model.fit(X, Y, verbose=0)
    callbacks = keras.callbacks.CallbackList([scheduler], model=model, epochs=4)
    callbacks.on_train_begin()
    for epoch in range(4):
        callbacks.on_epoch_begin(epoch)
        model.train_on_batch(X, Y)
        callbacks.on_epoch_end(epoch, {})
    callbacks.on_train_end()
    assert [cut.epoch for cut in scheduler.report.cuts] == [1, 2]


# --- raw weights ---------------------------------------------------------------------------


class Lookahead(keras.callbacks.Callback):
    """Has doubled weights stand in for those in training, from an epoch's end to the next."""

    def _scale(self, factor):
        for variable in self.model.trainable_variables:
            variable.assign(variable * factor)

    def on_epoch_end(self, epoch, logs=None):
        self._scale(2.0)

    def on_epoch_begin(self, epoch, logs=None):
        if epoch:
            self._scale(0.5)


@pytest.mark.parametrize("guarded", [False, True])
def test_what_stands_in_for_weights_between_epochs_is_not_cut(guarded):
    losses = []
    for order in ("alone", "before", "after"):
        guard = Guard("loss", max_drop=0.0, patience=1, tries=1) if guarded else None
        scheduler, swap = RankScheduler(budget=STAIRS, guard=guard), Lookahead()
        callbacks = {"alone": [], "before": [swap, scheduler], "after": [scheduler, swap]}[order]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ShortfallWarning)
            history = (
                small()
                .fit(
                    X,
                    Y,
                    batch_size=SAMPLES,
                    epochs=4,
                    shuffle=False,
                    verbose=0,
                    callbacks=callbacks or [scheduler],
                )
                .history
            )
        losses.append(history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)
    np.testing.assert_allclose(losses[2], losses[0], rtol=1e-6)


# --- NaN -----------------------------------------------------------------------------------


class Spoiled(keras.utils.PyDataset):
    """One number of one batch is NaN from an epoch on, counted from 1."""

    def __init__(self, since):
        super().__init__()
        self.epoch, self.since = 0, since

    def __len__(self):
        return 3

    def __getitem__(self, index):
        part = slice(BATCH * index, BATCH * (index + 1))
        x = X[part].copy()
        if self.epoch >= self.since and index == 1:
            x[0, 0] = np.nan
        return x, Y[part]

    def on_epoch_end(self):
        self.epoch += 1


@pytest.mark.parametrize(("since", "trained"), [(0, 1), (3, 4)])
def test_data_with_nan_ends_a_guarded_training_on_the_last_good_weights(since, trained, tmp_path):
    model = small()
    guard = Guard("val_loss", max_drop=9.0, tries=1, folder=tmp_path)
    scheduler = RankScheduler(budget=PiecewiseConstant((1.0, 0.6), (0, 2)), guard=guard)
    with pytest.warns(UserWarning, match="Training was stopped") as told:
        history = fit(model, scheduler, x=Spoiled(since), y=None, epochs=8, validation_data=(X, Y))
    assert len([each for each in told if "stopped" in str(each.message)]) == 1
    assert len(history["loss"]) == trained
    if since:
        assert all(np.isfinite(weight).all() for weight in model.get_weights())
        assert len(scheduler.report.undone) == 1
    assert "nan" in scheduler.shortfall.reason
    assert not scheduler.shortfall.held_back
    assert not list(tmp_path.iterdir())


class Huge(keras.callbacks.Callback):
    """Weights that are finite, and give answers that are not."""

    def on_epoch_end(self, epoch, logs=None):
        for weight in self.model.trainable_weights:
            weight.assign(keras.ops.full_like(weight, 1e38))


DIVERGED = {
    "weights": (keras.optimizers.SGD, {"learning_rate": 1e30}, [], {}, "numbers of .*first"),
    "compared with nothing": (
        keras.optimizers.SGD,
        {"learning_rate": 1e30},
        [],
        {"cadence": Cadence(compare=False)},
        "numbers of .*first",
    ),
    "answers": (keras.optimizers.SGD, {"learning_rate": 0.0}, [Huge()], {}, "240 of 240 .*outputs"),
}


@pytest.mark.parametrize("case", DIVERGED)
def test_a_training_that_ends_in_nan_says_so(case):
    made, options, others, more, words = DIVERGED[case]
    model, scheduler = small(optimizer=made(**options)), RankScheduler(budget=0.6, **more)
    with pytest.warns(OutputErrorWarning, match=f"has diverged: at its end, .*{words}") as caught:
        fit(model, scheduler, *others, epochs=2)
    (told,) = [w for w in caught if issubclass(w.category, UserWarning)]
    assert "lower the learning rate" in str(told.message)
    assert scheduler.shortfall is None
    assert scheduler.diverged in str(told.message)
    assert scheduler.diverged in scheduler.report.notes[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("error", OutputErrorWarning)
        fit(small(), scheduler, epochs=1)
    assert scheduler.diverged is None, "of the last fit only"


def test_a_cut_that_meets_nan_says_when():
    scheduler = RankScheduler(budget=PiecewiseConstant((1.0, 0.6), (0, 2)))
    with pytest.raises(SpectrumError, match=r"The cut in epoch 2 \(loss nan .* was not made"):
        fit(small(), scheduler, x=Spoiled(1), y=None)


def test_a_report_of_what_is_no_number_is_strict_json():
    class Score(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["score"] = np.float32("nan") if epoch == 2 else np.float32(1)

    scheduler = RankScheduler(rank=4, guard=Guard("score", max_drop=0.1, mode="max"))
    with pytest.warns(ShortfallWarning):
        small().fit(X, Y, epochs=4, verbose=0, callbacks=[Score(), scheduler])
    (undone,) = scheduler.report.undone
    assert math.isnan(undone.value)
    plain = json.loads(json.dumps(scheduler.report.to_dict(), allow_nan=False))
    assert plain["undone"][0]["value"] is None
    assert "nan" in plain["undone"][0]["reason"]


# --- time, and copies ----------------------------------------------------------------------


def test_all_the_time_in_the_callback_is_counted():
    def slow(calls, rounds):
        time.sleep(0.1)
        return [1e-2 / (i + 1) for i, _ in enumerate(calls)]

    scheduler = RankScheduler(budget=1.0, measure=Latency(timer=slow))
    started = time.perf_counter()
    fit(small(), scheduler, epochs=1)
    assert 0.2 < scheduler.seconds < time.perf_counter() - started


@pytest.mark.parametrize(
    "options",
    [
        {"budget": 0.6, "criterion": "activation"},
        {"budget": 0.6, "guard": Guard("loss", max_drop=9.0)},
        {"budget": 0.6, "cadence": Cadence(start=Adaptive(end_epoch=1))},
    ],
    ids=str,
)
def test_callbacks_can_be_copied_after_a_fit(options, tmp_path):
    scheduler = RankScheduler(**options)
    stop = RankEarlyStopping(scheduler, "loss", patience=9, restore_best_weights=True)
    best = RankModelCheckpoint(scheduler, tmp_path / "best.reducible", "loss")
    model, used = small(), [scheduler, stop, best]
    fit(model, *used, epochs=2)
    for copied in (copy.deepcopy(used), pickle.loads(pickle.dumps(used))):
        assert str(copied[0].report) == str(scheduler.report)
        assert all(each.scheduler is copied[0] for each in copied[1:])
        assert all(each.model is None for each in copied)
    fit(small(), *copied, epochs=2)
    assert copied[0].report.ranks == scheduler.report.ranks
    assert len(find_kernels(model)) == 3


def test_a_fit_that_was_broken_off_leaves_nothing_to_the_next():
    class Breaks(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    scheduler = RankScheduler(
        rank=PiecewiseConstant((9, 4), (0, 2)),
        aids=[ProductDecay(0.1)],
        criterion="activation",
        calibration=(X, Y),
    )
    broken = small()
    with pytest.raises(KeyboardInterrupt):
        fit(broken, scheduler, Breaks())
    assert len(broken.losses) == 2, "a penalty on each factorised kernel"
    assert set(scheduler.report.ranks.values()) == {9}
    assert copy.deepcopy(scheduler).report == scheduler.report
    model = small()
    fit(model, scheduler)
    assert set(scheduler.report.ranks.values()) == {4}
    assert [cut.epoch for cut in scheduler.report.cuts] == [0, 2]
    assert broken.losses == model.losses == []


class Breaks(keras.callbacks.Callback):
    """Breaks off a fit: before the first step, or after the second."""

    def __init__(self, when):
        super().__init__()
        self.when = when

    def on_train_batch_begin(self, batch, logs=None):
        if self.when == "before":
            raise KeyboardInterrupt

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            raise KeyboardInterrupt


def broken_off(model, scheduler, when, x=X, y=Y, **options):
    """What holds the frames of the fit, as a notebook does after an error."""
    with pytest.raises(KeyboardInterrupt) as held:
        fit(model, scheduler, Breaks(when), x=x, y=y, **options)
    return held


def of_class(number):
    y = np.full(SAMPLES, number)
    return tf.data.Dataset.from_tensor_slices((X, y)).batch(BATCH)


def mean_target(y, outputs):
    return keras.ops.cast(y, "float32")


NEXT = {
    "fit": lambda model: model.fit(of_class(1), verbose=0, shuffle=False).history["mean_target"],
    "scheduler": lambda model: fit(
        model, RankScheduler(0.5), x=of_class(1), y=None, shuffle=False, epochs=2
    )["mean_target"],
    "one batch": lambda model: [model.train_on_batch(X, np.ones(SAMPLES))[1]],
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("then", NEXT)
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_is_trained_after_a_fit_that_was_broken_off_is_its_own_data(when, steps, then):
    model = small(metrics=[mean_target], steps_per_execution=steps)
    scheduler = RankScheduler(PiecewiseConstant((1.0, 0.5), (0, 9)) if when == "after" else 0.5)
    held = broken_off(model, scheduler, when, of_class(0), None, shuffle=False, epochs=10)
    assert model.count_params() == small().count_params()
    np.testing.assert_array_equal(NEXT[then](model), 1.0)
    assert (model.count_params() < small().count_params()) == (then == "scheduler")
    del held


STEPS_MADE_ANEW = {
    "by an aid": {"budget": Ramp(1.0, 0.5, 0, 5), "aids": [Regrow(0.5)]},
    "by a guard": {
        "budget": 0.5,
        "guard": Guard("mean_target", max_drop=0.1, mode="min", patience=1, tries=1),
    },
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("by", STEPS_MADE_ANEW)
def test_batches_fetched_for_epochs_to_come_are_trained_on_in_their_order(by):
    parts = [of_class(number).take(1) for number in range(4)]
    endless = parts[0].concatenate(parts[1]).concatenate(parts[2]).concatenate(parts[3]).repeat()
    model, scheduler = small(metrics=[mean_target]), RankScheduler(**STEPS_MADE_ANEW[by])
    one = {"x": endless, "y": None, "steps_per_epoch": 1, "shuffle": False}
    assert fit(model, scheduler, epochs=7, **one)["mean_target"] == [0, 1, 2, 3, 0, 1, 2]
    assert scheduler.report.cuts or scheduler.report.undone


def test_a_step_of_a_callbacks_own_takes_no_batch_of_the_fit():
    class Own(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append(self.model.train_on_batch(X, np.ones(SAMPLES))[1])
            self.model.reset_metrics()

    seen = []
    model = small(metrics=[mean_target])
    logs = fit(model, RankScheduler(0.5), Own(), x=of_class(0), y=None, shuffle=False, epochs=1)
    assert seen == [1.0] * 3
    assert logs["mean_target"] == [0.0]
    assert model.optimizer.iterations == 6


@pytest.mark.traced
@pytest.mark.parametrize("then", ["evaluate", "fit", "train_on_batch", "test_on_batch"])
def test_aids_of_a_fit_that_was_broken_off_end_before_the_model_is_used_again(then):
    model, twin = small(run_eagerly=False), small(run_eagerly=False)
    aids = [ProductDecay(1.0), Rewarm(steps=500)]
    held = broken_off(model, RankScheduler(rank=4, aids=aids), "after", epochs=2)
    assert len(model.losses) == 2, "a penalty on each factorised kernel"
    factorize(twin, rank=4)
    twin.set_weights(model.get_weights())
    more = {} if "batch" in then else {"verbose": 0}
    ours, theirs = (getattr(each, then)(X, Y, **more) for each in (model, twin))
    if then == "fit":
        ours, theirs = ours.history["loss"], theirs.history["loss"]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    for one, other in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert model.losses == []
    assert model.optimizer._get_current_learning_rate() == model.optimizer.learning_rate
    assert not {"make_train_function", "make_test_function"} & vars(model).keys()
    del held


def test_an_aid_of_a_fit_that_was_broken_off_ends_before_a_model_within_is_used():
    inner = small()
    given = keras.Input((24,))
    model = keras.Model(given, inner(given))
    model.compile("sgd", inner.loss, run_eagerly=True)
    held = broken_off(model, RankScheduler(rank=4, aids=[ProductDecay(9.0)]), "after")
    assert len(inner.losses) == 2
    told = inner.evaluate(X, Y, verbose=0)
    assert inner.losses == []
    assert told == pytest.approx(float(inner.loss(Y, inner.predict(X, verbose=0))), rel=1e-5)
    for each in (model, inner):
        assert not {"make_train_function", "make_test_function"} & vars(each).keys()
    del held


def test_aids_of_a_fit_that_runs_stay_whatever_a_callback_has_evaluated():
    class Evaluates(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            thread = threading.Thread(target=self.model.evaluate, args=(X, Y))
            thread.start()
            thread.join()
            self.model.test_on_batch(X, Y)

        def on_epoch_end(self, epoch, logs=None):
            losses.append(len(self.model.losses))

    losses = []
    model = small()
    scheduler = RankScheduler(0.5, aids=[ProductDecay(0.1)])
    fit(model, scheduler, Evaluates(), validation_data=(X, Y), epochs=3)
    assert losses == [2, 2, 2]
    assert model.losses == []
    assert not {"make_train_function", "make_test_function"} & vars(model).keys()


def test_a_fit_that_is_refused_leaves_nothing():
    model = small()
    fit(model, RankScheduler(rank=9), epochs=1)
    scheduler = RankScheduler(rank=4, aids=[ProductDecay(0.1), Regrow(0.5, end_epoch=1)])
    batches = tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_keras, "batches_ahead", lambda *_: None)  # as on several devices
        with pytest.raises(ArgumentError, match="batches of this fit cannot be watched"):
            fit(model, scheduler, x=batches, y=None, shuffle=False, epochs=3)
    assert model.losses == []
    with pytest.raises(ArgumentError, match="once `fit` has begun"):
        scheduler.report  # noqa: B018


def fit_of_batches_that_nobody_watches(scheduler):
    batches = tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_keras, "batches_ahead", lambda *_: None)  # as on several devices
        fit(small(), scheduler, x=batches, y=None, shuffle=False, epochs=1)


def test_a_judge_without_the_batches_of_the_fit_is_told_before_it_and_in_the_report():
    scheduler = RankScheduler(0.5)
    reason = "because the batches of this fit cannot be watched"
    with pytest.warns(UserWarning, match=rf"{reason}.*calibration=\(x, y\)"):
        fit_of_batches_that_nobody_watches(scheduler)
    notes = " ".join(scheduler.report.notes)
    assert reason in notes
    assert "there is no data" not in notes
    assert {k.criterion for cut in scheduler.report.cuts for k in cut.kernels} == {"frobenius"}


def test_a_number_of_samples_that_cannot_be_had_is_refused_before_the_fit():
    with pytest.raises(ArgumentError, match="batches of this fit cannot be watched"):
        fit_of_batches_that_nobody_watches(RankScheduler(0.5, calibration=20))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit_of_batches_that_nobody_watches(
            RankScheduler(0.5, criterion="frobenius", calibration=(X, Y))
        )
        table = analyze(small(), (X, Y), ratios=(0.2, 0.5))
        fit_of_batches_that_nobody_watches(RankScheduler(0.5, criterion="measured", analysis=table))


def test_a_step_outside_of_a_fit_is_refused():
    scheduler = RankScheduler(rank=4)
    with pytest.raises(ArgumentError, match="Call it first"):
        scheduler.on_epoch_begin(0)
    model = small()
    fit(model, scheduler, epochs=1)
    with pytest.raises(ArgumentError, match="No fit is running"):
        scheduler.on_train_batch_end(0)


def test_an_end_that_is_told_twice_is_one_end(recwarn):
    model, scheduler = small(), RankScheduler(rank=4)
    fit(model, scheduler, epochs=1)
    report, shortfall, warned = scheduler.report, scheduler.shortfall, len(recwarn)
    scheduler.on_train_end()
    assert (scheduler.report, scheduler.shortfall, len(recwarn)) == (report, shortfall, warned)
    with pytest.raises(ArgumentError, match="No fit is running"):
        RankScheduler(rank=4).on_train_end()  # no fit has begun
    fit(model, scheduler, epochs=1)  # and another fit can follow
