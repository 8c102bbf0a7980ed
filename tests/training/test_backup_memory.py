"""Laws of what a backup remembers of other callbacks: the same values, files that are there."""

from __future__ import annotations

import json
import shutil

import keras
import numpy as np
import pytest
import zoo
from test_companions import FALL, BreakOff, Scores, fit, start

from reducible_train import (
    ArgumentError,
    Cadence,
    FormatError,
    PiecewiseConstant,
    RankBackupAndRestore,
    RankEarlyStopping,
    RankModelCheckpoint,
    RankScheduler,
    _keras,
    load_model,
)
from reducible_train.training.comparisons import Way

pytestmark = pytest.mark.filterwarnings("ignore::reducible_train.errors.ShortfallWarning")

SCORE = {"monitor": "score", "mode": "max"}


def plain_scheduler(**asked):
    """One that cuts in no time."""
    how = {"criterion": "frobenius", "cadence": Cadence(epochs=1, compare=False)}
    return RankScheduler(**(asked or {"rank": 8}), **how)


def same_weights(model, expected):
    for one, two in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(one, two)


# --- of the same values -------------------------------------------------------------------


def comparers(scheduler, folder, **other):
    """One of each kind that compares epochs; two of one of them."""
    checkpoint = folder / "best.reducible"
    options = {
        "stop": {"monitor": "loss", "patience": 9},
        "best": {"monitor": "loss"},
        "plain": {"monitor": "loss", "patience": 9},
        "plateau": {"monitor": "score", "mode": "max", "patience": 9},
        "second": {"monitor": "loss", "patience": 9},
    }
    options |= {name: options[name] | more for name, more in other.items()}
    return [
        RankEarlyStopping(scheduler, **options["stop"]),
        RankModelCheckpoint(scheduler, checkpoint, **options["best"]),
        keras.callbacks.EarlyStopping(**options["plain"]),
        keras.callbacks.ReduceLROnPlateau(**options["plateau"]),
        keras.callbacks.ReduceLROnPlateau(**options["second"]),
    ]


def backed_up(folder, *breaks, model=None, **other):
    scheduler = plain_scheduler()
    given = comparers(scheduler, folder, **other)
    backup = RankBackupAndRestore(scheduler, folder / "backup")
    fit(Scores(1, 2, 3), scheduler, *given, backup, *breaks, model=model, epochs=3)
    return given


@pytest.fixture(scope="module")
def broken_off(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    with pytest.raises(InterruptedError):
        backed_up(folder, BreakOff(2))
    return folder


@pytest.mark.parametrize(
    ("name", "other", "words"),
    [
        ("stop", {"monitor": "score", "mode": "max"}, "went by loss, mode='min'.*by score, mode="),
        ("stop", {"mode": "max"}, "mode='min'. Received: RankEarlyStopping by loss, mode='max'"),
        ("stop", {"restore_best_weights": True}, "by loss, mode='min', restore_best_weights=True"),
        ("best", {"monitor": "score", "mode": "max"}, "RankModelCheckpoint by score"),
        ("plain", {"monitor": "score", "mode": "max"}, "EarlyStopping by score, mode='max'"),
        ("plateau", {"monitor": "loss", "mode": "min"}, "ReduceLROnPlateau by loss, mode='min'"),
        ("second", {"mode": "max"}, "ReduceLROnPlateau by loss, mode='max'"),
    ],
)
def test_a_backup_is_of_another_training_where_callbacks_compare_others(
    broken_off, name, other, words
):
    model = zoo.compiled(zoo.sequential(), "sgd")
    with pytest.raises(FormatError, match=f"of another training: the callbacks that .*{words}"):
        backed_up(broken_off, model=model, **{name: other})
    assert not int(model.optimizer.iterations)


def test_the_same_metric_of_another_loss_is_another(broken_off):
    model = zoo.sequential()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    model.compile("sgd", loss)
    with pytest.raises(FormatError, match=r"training: its loss .*'sum_over.*'reduction': 'sum'"):
        backed_up(broken_off, model=model)


class Weighted(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return y_pred

    def get_config(self):
        return {"of": {"b", "a", "c"}}


def test_what_measures_a_metric_is_known_by_what_it_is_and_by_nothing_else():
    def told(monitor, loss="mse", **given):
        model = zoo.sequential()
        model.compile("sgd", loss, **given)
        return _keras.measured_as(model, monitor)

    assert told("val_loss") == told("loss", keras.losses.MeanSquaredError(), metrics=["mae"])
    assert told("loss") != told("loss", "mae")
    name = "val_sparse_categorical_accuracy"
    more = [keras.metrics.SparseCategoricalAccuracy(), "mae"]
    assert told(name, metrics=[name[4:]]) == told(name, "mae", metrics=more) != ""
    assert told("val_accuracy", metrics=["accuracy", "mae"]) == "metrics=[\"'accuracy'\"]"
    assert "['a', 'b', 'c']" in told("loss", Weighted())
    before = keras.metrics.AUC().name
    told("val_auc", metrics=["AUC"])
    assert int(keras.metrics.AUC().name[4:]) == int(before[4:] or 0) + 1, "it counts no name"


def test_what_is_asked_for_in_other_words_goes_on(broken_off, tmp_path):
    folder = shutil.copytree(broken_off, tmp_path / "copy")
    given = backed_up(folder, stop={"mode": "min", "patience": 7}, plain={"min_delta": 1e-5})
    assert given[0].best < 10
    assert given[3].best == 3


def test_a_backup_of_before_ways_were_kept_is_taken_as_it_is(broken_off, tmp_path):
    folder = shutil.copytree(broken_off, tmp_path / "copy")
    file = folder / "backup" / "state.json"
    state = json.loads(file.read_text())
    for memory in state["state"]["callbacks"]:
        del memory["way"], memory["lasting"]
    for name in ("epoch", "trained", "looked", "loss"):
        del state["scheduler"][name]
    del state["has_stopped"]
    file.write_text(json.dumps(state))
    given = backed_up(folder, plateau={"monitor": "loss", "mode": "min", "min_delta": 99.0})
    assert given[3].best == 2, "of the score"


@pytest.mark.parametrize("mode", [None, "min"])
def test_a_direction_that_nobody_knows_yet_may_be_the_same(mode):
    one = Way("score", "min", False, "loss='mse'")
    assert one.is_like(Way("score", mode, False, "loss='mse'"))
    assert Way("score", mode, False, "loss='mse'").is_like(one)
    assert not one.is_like(Way("score", "max", False, "loss='mse'"))
    assert not one.is_like(Way("score", mode, False, "loss='mae'"))


def test_a_loop_of_ones_own_around_a_model_that_was_never_compiled_has_backups_too(tmp_path):
    for epochs, ends in ((1, False), (2, True)):
        model, scheduler = zoo.sequential(), plain_scheduler()
        backup = RankBackupAndRestore(scheduler, tmp_path / "backup", delete_checkpoint=False)
        callbacks = keras.callbacks.CallbackList([scheduler, backup], model=model, epochs=2)
        callbacks.on_train_begin()
        for epoch in range(backup.resumed_at or 0, epochs):
            callbacks.on_epoch_begin(epoch)
            callbacks.on_train_batch_begin(0)
            callbacks.on_train_batch_end(0, {"loss": 0.1})
            callbacks.on_epoch_end(epoch, {"loss": 0.1})
        if ends:
            callbacks.on_train_end()
    assert backup.resumed_at == 1
    assert scheduler.report.ranks["first/kernel"] == 8


# --- of files that are there --------------------------------------------------------------

VALUES = (0.1, 0.2, 0.9, 0.3, 0.4)  # the best comes before the break


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("best.reducible", "other.reducible"),
        ("best.reducible", "gone"),
        ("best.keras", "other.weights.h5"),
        ("{epoch}.weights.h5", "a{epoch}.weights.h5"),
    ],
)
def test_a_best_that_is_in_no_file_of_this_name_is_chosen_anew(name, again, tmp_path):
    def run(file, *breaks, values=VALUES, **options):
        scheduler = plain_scheduler()
        best = RankModelCheckpoint(scheduler, tmp_path / file, **SCORE)
        backup = RankBackupAndRestore(scheduler, tmp_path / "backup", **options)
        fit(*breaks, Scores(*values), scheduler, best, backup, epochs=len(values))
        return best

    with pytest.raises(InterruptedError):
        run(name, BreakOff(3))
    if again == "gone":
        (tmp_path / name).unlink()
        again = name
    with pytest.warns(UserWarning, match="has written nothing .* is gone or was called other"):
        assert run(again, values=VALUES[:3], delete_checkpoint=False).saved is None
    best = run(again)
    assert (best.best, best.best_epoch) == (0.4, 4)
    assert best.saved == tmp_path / again.format(epoch=5)
    assert best.saved.exists()


class DiesAtTheEnd(keras.callbacks.Callback):
    """Ends a training after its last backup, before other callbacks are told of its end."""

    def __init__(self, dies=True):
        super().__init__()
        self.dies = dies

    def on_train_end(self, logs=None):
        if self.dies:
            raise InterruptedError


@pytest.mark.filterwarnings("error:RankModelCheckpoint has written nothing")
@pytest.mark.parametrize("name", ["best.reducible", "{epoch}.keras"])
def test_a_best_that_is_in_its_file_stays_the_best(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(file, *breaks):
        scheduler = plain_scheduler()
        best = RankModelCheckpoint(scheduler, file, **SCORE)
        backup = RankBackupAndRestore(scheduler, "backup")
        fit(Scores(*VALUES), scheduler, best, backup, *breaks, epochs=5)
        return best

    with pytest.raises(InterruptedError):
        run(name, BreakOff(3))
    written = {path.name for path in tmp_path.iterdir()}
    before = (tmp_path / name.format(epoch=3)).read_bytes()
    best = run(tmp_path / name)  # the same file in other words
    assert (best.best, best.best_epoch) == (0.9, 2)
    assert (tmp_path / name.format(epoch=3)).read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == written - {"backup"}


# --- that had stopped ---------------------------------------------------------------------


def stopping(folder, dies, **options):
    """A training that stops after its fifth epoch of eight, and what it left."""
    scheduler = RankScheduler(budget=FALL, criterion="frobenius")
    scores = Scores(*VALUES, *range(9))
    how = {"patience": 2, "restore_best_weights": True}
    given = [
        DiesAtTheEnd(dies),
        scores,
        scheduler,
        RankModelCheckpoint(scheduler, folder / "best.reducible", **SCORE),
        RankEarlyStopping(scheduler, **SCORE, **how),
        RankBackupAndRestore(scheduler, folder / "backup", **options),
    ]
    history, model = fit(*given, model=start(), epochs=8)
    return history, model, given


def test_a_training_that_had_stopped_ends_as_it_would_have(tmp_path):
    whole, expected, (*_, before, stop, _) = stopping(tmp_path / "whole", dies=False)
    assert whole.epoch == [0, 1, 2, 3, 4]
    with pytest.raises(InterruptedError):
        stopping(tmp_path, dies=True)
    with pytest.warns(UserWarning, match="had been stopped after epoch 4.* ends without another"):
        rest, model, (_, scores, scheduler, best, again, _) = stopping(tmp_path, dies=False)
    assert (rest.epoch, scores.weights) == ([], [])
    same_weights(model, expected.get_weights())
    assert model.optimizer.iterations == expected.optimizer.iterations
    assert (again.best, again.best_epoch, again.stopped_epoch) == (0.9, 2, 4)
    assert (stop.best, stop.best_epoch, stop.stopped_epoch) == (0.9, 2, 4)
    assert (best.best, best.best_epoch) == (before.best, before.best_epoch)
    assert model.stop_training
    assert scheduler.kept_epoch == stop.scheduler.kept_epoch == 2
    assert scheduler.shortfall is None
    told, other = scheduler.report, stop.scheduler.report
    assert told.ranks == other.ranks
    assert told.answers.metrics == pytest.approx(other.answers.metrics, rel=1e-4)
    assert not (tmp_path / "backup").exists()
    assert fit(model=model, epochs=1)[0].epoch == [0], "a later fit begins where it is told"


def test_one_that_stopped_before_its_ranks_had_fallen_says_so_after_a_resume(tmp_path):
    def run(*breaks, folder=tmp_path):
        scheduler = plain_scheduler(budget=PiecewiseConstant((1.0, 0.4), (0, 3)))
        stop = keras.callbacks.EarlyStopping("score", mode="max", patience=1)
        backup = RankBackupAndRestore(scheduler, folder)
        fit(*breaks, Scores(0.2, 0.1), scheduler, stop, backup, epochs=8)
        return scheduler.shortfall

    whole = run(folder=tmp_path / "whole")
    with pytest.raises(InterruptedError):
        run(DiesAtTheEnd())
    with pytest.warns(UserWarning, match="had been stopped after epoch 1"):
        assert str(run()) == str(whole)
    assert "Training ended after 2 of 8 epochs" in str(whole)


def test_a_backup_that_is_kept_beyond_an_early_end_can_be_gone_on_with(tmp_path):
    stopping(tmp_path, dies=False, delete_checkpoint=False)
    rest, *_ = stopping(tmp_path, dies=False)
    assert rest.epoch[0] == 5


# --- of the weights that were measured ----------------------------------------------------


def averaged():
    keras.utils.set_random_seed(3)
    optimizer = keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.9)
    return zoo.compiled(zoo.sequential(), optimizer)


def test_the_best_weights_are_those_that_validation_has_measured(tmp_path):
    scheduler, data = plain_scheduler(), zoo.data(zoo.sequential(), 32)
    best = RankModelCheckpoint(scheduler, tmp_path / "best.reducible", "val_loss")
    stop = RankEarlyStopping(scheduler, "val_loss", patience=9, restore_best_weights=True)
    swap = keras.callbacks.SwapEMAWeights
    for keeps in (best, stop):
        name = type(keeps).__name__
        for callbacks, came in (
            ([swap(), keeps], "swap_on_epoch=False"),
            ([keeps, swap(swap_on_epoch=True)], f"one after {name}"),
        ):
            model = averaged()
            words = f"{name} would keep the weights themselves, whose val_loss is .*: {came}"
            with pytest.raises(ArgumentError, match=words):
                fit(scheduler, *callbacks, model=model, validation_data=data)
            assert not int(model.optimizer.iterations)
    callbacks = [scheduler, swap(swap_on_epoch=True), best, stop]
    _, model = fit(*callbacks, model=averaged(), epochs=5, validation_data=data)
    saved = zoo.compiled(load_model(best.saved))
    for each, value in ((saved, best.best), (model, stop.best)):
        assert each.evaluate(*data, verbose=0) == pytest.approx(value, rel=1e-5)


def test_averages_do_no_harm_where_they_are_not_measured_or_no_weights_are_kept(tmp_path):
    scheduler, data = plain_scheduler(), zoo.data(zoo.sequential(), 32)
    best = RankModelCheckpoint(scheduler, tmp_path / "best.reducible", "loss")
    stop = RankEarlyStopping(scheduler, "val_loss", patience=9)
    swap = keras.callbacks.SwapEMAWeights()
    every = RankModelCheckpoint(scheduler, tmp_path / "all.reducible", save_best_only=False)
    fit(scheduler, best, stop, every, swap, model=averaged(), epochs=1, validation_data=data)
    assert best.saved.exists()
    assert every.saved.exists()
