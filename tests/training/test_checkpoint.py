"""Laws of the best epoch: it is chosen among those at the final ranks, whoever compares."""

from __future__ import annotations

import copy
import warnings

import keras
import numpy as np
import pytest
import zoo
from test_companions import FALL, Scores, fit

from reducible_train import (
    ArgumentError,
    ArgumentTypeError,
    FileAccessError,
    FormatError,
    Guard,
    PiecewiseConstant,
    RankModelCheckpoint,
    RankScheduler,
    _keras,
    factorize,
    load_model,
    load_weights_into,
)
from reducible_train.errors import ShortfallWarning
from reducible_train.surgery.plans import plan_of
from reducible_train.training.comparisons import first_marks, marks_of
from reducible_train.training.other_callbacks import check_other_callbacks

pytestmark = pytest.mark.filterwarnings("ignore::reducible_train.errors.ShortfallWarning")

BEST = {"monitor": "score", "mode": "max"}


def same_weights(model, expected):
    for one, two in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(one, two)


# --- the callback -------------------------------------------------------------------------


def test_the_best_file_is_of_the_best_epoch_at_the_final_ranks(tmp_path):
    scores = Scores(0.9, 0.9, 0.5, 0.6, 0.4)
    scheduler = RankScheduler(budget=FALL)
    names = "best.reducible", "best.keras", "runs/{epoch:02d}-{score:.1f}.weights.h5"
    best = [RankModelCheckpoint(scheduler, tmp_path / name, **BEST) for name in names]
    every = RankModelCheckpoint(
        scheduler, tmp_path / "every/{epoch}.weights.h5", save_best_only=False, **BEST
    )
    fit(scores, scheduler, *best, every, epochs=5)
    assert [(each.best, each.best_epoch) for each in best] == [(0.6, 3)] * 3
    loaded = [
        load_model(tmp_path / "best.reducible"),
        keras.saving.load_model(tmp_path / "best.keras"),
        load_weights_into(zoo.sequential(), tmp_path / "runs/04-0.6.weights.h5"),
    ]
    for model in loaded:
        assert plan_of(model) == dict(scheduler.report.ranks)
        same_weights(model, scores.weights[3])
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert found == [
        "best.keras",
        "best.reducible",
        *(f"every/{epoch}.weights.h5" for epoch in (3, 4, 5)),
        "runs/03-0.5.weights.h5",
        "runs/04-0.6.weights.h5",
    ]


def test_another_fit_goes_on_with_the_best_of_the_same_model_at_the_same_ranks(tmp_path):
    scores = Scores(0.5, 0.9, 0.1, 0.2, 0.3, 0.4)
    scheduler = RankScheduler(budget=0.4)
    best = RankModelCheckpoint(scheduler, tmp_path / "best.weights.h5", **BEST)
    _, model = fit(scores, scheduler, best, epochs=2)
    with pytest.warns(UserWarning, match="no value of 'score' was better than 0.9"):
        fit(scores, scheduler, best, model=model, epochs=3, initial_epoch=2)
    assert (best.best, best.best_epoch) == (0.9, 1)
    loaded = load_weights_into(zoo.sequential(), tmp_path / "best.weights.h5")
    same_weights(loaded, scores.weights[1])
    copied = copy.deepcopy(best)
    copied.scheduler = scheduler
    fit(scores, scheduler, copied, model=model, epochs=3, initial_epoch=2)
    assert copied.best == 0.1
    factorize(model, rank=1)
    fit(scores, scheduler, best, model=model, epochs=4, initial_epoch=3)
    assert (best.best, best.best_epoch) == (0.2, 3), "other ranks"
    best.saved.unlink()
    fit(scores, scheduler, best, model=model, epochs=3, initial_epoch=2)
    assert best.best == 0.1, "its file is gone"
    best.best = 0.9
    fit(scores, scheduler, best, epochs=1)
    assert best.best == 0.5, "another model"


NAN = float("nan")


def fitted_once(folder, scores, **options):
    """A checkpoint of a fit whose two epochs had the first two scores, and the model."""
    scheduler = RankScheduler(budget=0.4)
    best = RankModelCheckpoint(scheduler, folder / "best.weights.h5", **(BEST | options))
    _, model = fit(scores, scheduler, best, epochs=2)
    return best, model


@pytest.mark.parametrize("value", [NAN, 0.2])
def test_other_ranks_replace_the_file_of_an_earlier_fit_by_what_counts_alone(value, tmp_path):
    scores = Scores(0.8, 0.9, value)
    best, model = fitted_once(tmp_path, scores, initial_value_threshold=0.5)
    before = best.saved.read_bytes()
    best.scheduler = RankScheduler(rank=1)
    with pytest.warns(UserWarning, match="has written nothing.*A file that was there before is as"):
        fit(scores, best.scheduler, best, model=model, epochs=3, initial_epoch=2)
    assert best.saved.read_bytes() == before


@pytest.mark.parametrize(
    ("value", "why"),
    [(NAN, "was NaN"), (None, "was not in the logs"), (0.2, "was better than 0.9")],
)
def test_a_fit_that_wrote_nothing_tells_of_the_file_of_an_earlier_one(value, why, tmp_path):
    scores = Scores(0.8, 0.9, value)
    best, model = fitted_once(tmp_path, scores)
    others = [] if value is None else [scores]
    with pytest.warns(UserWarning, match=f"{why}.*still of an earlier fit .score=0.9."):
        fit(*others, best.scheduler, best, model=model, epochs=3, initial_epoch=2)
    assert (best.best, best.best_epoch) == (0.9, 1)


def halved(y, p):
    return keras.losses.sparse_categorical_crossentropy(y, p, from_logits=True) / 2


class Weighted(keras.losses.SparseCategoricalCrossentropy):
    """One that does not tell how it was made."""

    def __init__(self, factor):
        super().__init__(from_logits=True)
        self.factor = factor

    def call(self, y, p):
        return self.factor * super().call(y, p)


def crossentropy(**how):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, **how)


@pytest.mark.filterwarnings("ignore:RankModelCheckpoint has written nothing")
def test_a_loss_compiled_anew_is_compared_only_with_the_same(tmp_path):
    options = {"monitor": "loss", "mode": "auto"}
    best, model = fitted_once(tmp_path, Scores(0.8, 0.9), **options)
    for loss, goes_on in (
        (crossentropy(), True),
        (crossentropy(reduction="sum"), False),
        (halved, False),
        (halved, True),
        (Weighted(1.0), False),
        (Weighted(2.0), False),
    ):
        best.best = -1.0
        model.compile(keras.optimizers.SGD(1e-3), loss, run_eagerly=True)
        fit(best.scheduler, best, model=model, epochs=1)
        assert (best.best == -1.0) is goes_on


class Inside(keras.Sequential):
    """Keeps its loss where nobody looks for it, as a `Distiller` does."""

    def compile(self, optimizer, own_loss):
        self.own_loss = own_loss
        super().compile(optimizer)


def test_a_compilation_of_ones_own_is_alike_only_while_it_is_the_same():
    model = Inside([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    first = _keras.measured_with(model)
    assert first == _keras.measured_with(model)
    model.compile("sgd", "mae")
    assert first != _keras.measured_with(model)


@pytest.mark.filterwarnings("ignore:RankModelCheckpoint has written nothing")
def test_another_metric_mode_or_file_begins_anew(tmp_path):
    scores = Scores(0.8, 0.9, 0.5)
    best, model = fitted_once(tmp_path, scores)
    for name, value in (
        ("mode", "min"),
        ("monitor", "loss"),
        ("filepath", str(tmp_path / "other.weights.h5")),
    ):
        best.best = -1.0 if best.mode == "min" else 10.0
        setattr(best, name, value)
        fit(scores, best.scheduler, best, model=model, epochs=3, initial_epoch=2)
        assert best.best_epoch == 2
        assert 0 < best.best < 10.0
    assert best.saved.name == "other.weights.h5"


def test_a_cut_undone_at_the_end_is_not_in_the_file(tmp_path):
    scores = Scores(0.9, 0.1)
    scheduler = RankScheduler(
        budget=PiecewiseConstant((1.0, 0.4), (0, 1)), guard=Guard("score", max_drop=0.1, mode="max")
    )
    best = RankModelCheckpoint(scheduler, tmp_path / "a.reducible", **BEST)
    with (
        pytest.warns(ShortfallWarning, match="Its guard held it back"),
        pytest.warns(UserWarning, match="Ranks changed after the epoch"),
    ):
        _, model = fit(scores, scheduler, best, epochs=2)
    saved = load_model(tmp_path / "a.reducible")
    assert plan_of(saved) == plan_of(model) == {}
    same_weights(saved, model.get_weights())


def test_a_checkpoint_tells_of_its_own_file_and_follows_a_link(tmp_path):
    def model():
        layers = [keras.Input((24,)), keras.layers.Dense(24), keras.layers.Lambda(lambda x: x)]
        return zoo.compiled(keras.Sequential([*layers, keras.layers.Dense(5)]))

    for name in ("a.reducible", "a.weights.h5"):
        (tmp_path / f"real.{name}").write_bytes(b"older")
        (tmp_path / name).symlink_to(tmp_path / f"real.{name}")
        scheduler = RankScheduler(budget=0.5)
        best = RankModelCheckpoint(scheduler, tmp_path / name, "loss")
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            fit(scheduler, best, model=model(), epochs=1)
        words = [str(each.message).partition(" will be written") for each in told]
        files = [file for file, written, _ in words if written]
        assert files == ([str(tmp_path / name)] if name == "a.reducible" else [])
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / f"real.{name}").read_bytes() != b"older"
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
def test_a_model_that_only_its_parts_build_is_tried_out_and_saved(ending, tmp_path):
    students = [zoo.sequential() for _ in range(2)]
    model = keras.distillation.Distiller(
        zoo.sequential(), students[0], keras.distillation.LogitsDistillation()
    )
    model.compile("adam", zoo.compiled(students[1]).loss)
    scheduler = RankScheduler(budget=0.5)
    best = RankModelCheckpoint(scheduler, tmp_path / f"best{ending}", "loss")
    fit(scheduler, best, model=model, epochs=1)
    assert best.saved == tmp_path / f"best{ending}"
    assert [path.name for path in tmp_path.iterdir()] == [f"best{ending}"]


def test_an_older_file_stays_where_no_epoch_counts(tmp_path):
    (tmp_path / "a.reducible").write_bytes(b"older")
    scheduler = RankScheduler(budget=FALL)
    for options, why in (
        ({"monitor": "other", "mode": "min"}, "'other' was not in the logs"),
        (BEST | {"initial_value_threshold": 2.0}, "better than initial_value_threshold=2.0"),
    ):
        best = RankModelCheckpoint(scheduler, tmp_path / "a.reducible", **options)
        with pytest.warns(UserWarning, match=f"has written nothing to .*{why}"):
            fit(Scores(1, 1, 1), scheduler, best, epochs=3)
    early = RankModelCheckpoint(scheduler, tmp_path / "a.reducible", "loss")
    with (
        pytest.warns(ShortfallWarning, match="Training ended after 1 of"),
        pytest.warns(UserWarning, match="ended before the first epoch at the final ranks"),
    ):
        fit(scheduler, early, Stop())
    assert [path.name for path in tmp_path.iterdir()] == ["a.reducible"]
    assert (tmp_path / "a.reducible").read_bytes() == b"older"


class Stop(keras.callbacks.Callback):
    """Ends a training after its first epoch."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


def test_what_cannot_be_written_is_refused_before_training(tmp_path):
    scheduler = RankScheduler(budget=FALL)
    for name, words in (
        ("a.h5", r"must end in \.reducible, \.keras or \.weights\.h5"),
        ("a{}.keras", "must say what stands in its braces"),
        ("a{epoch.keras", "must be a name in which"),
    ):
        with pytest.raises(ArgumentError, match=words):
            RankModelCheckpoint(scheduler, name)
    with pytest.raises(ArgumentError, match="save_weights_only"):
        RankModelCheckpoint(scheduler, "a.keras", save_weights_only=True)
    with pytest.raises(ArgumentTypeError, match="must be the RankScheduler"):
        RankModelCheckpoint("a.keras", scheduler)
    (tmp_path / "file").touch()
    (tmp_path / "a.keras").mkdir()
    (tmp_path / "lost.keras").symlink_to(tmp_path / "none" / "a.keras")
    model = zoo.compiled(zoo.sequential())
    for path, options, kind, words in (
        ("file/a.reducible", {}, FileAccessError, "file"),
        ("a.keras", {}, ArgumentError, "which is a folder"),
        ("lost.keras", {}, FileAccessError, "none/a.keras.*its folder exists"),
        ("a.reducible", {"monitor": "val_loss"}, ArgumentError, "without validation data"),
        ("a.reducible", {"monitor": "acc"}, ArgumentError, "must be a metric of the logs"),
    ):
        best = RankModelCheckpoint(scheduler, tmp_path / path, **{"monitor": "loss"} | options)
        with pytest.raises(kind, match=words):
            fit(scheduler, best, model=model)
    assert not int(model.optimizer.iterations)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "a.keras", "lost.keras"}


def test_a_metric_that_only_a_callback_can_log_is_told_before_training(tmp_path):
    scheduler = RankScheduler(budget=FALL)
    best = RankModelCheckpoint(scheduler, tmp_path / "a.keras", "val_loss", mode="min")
    early = pytest.warns(UserWarning, match="Unless a callback of your own adds it")
    late = pytest.warns(UserWarning, match="'val_loss' was not in the logs")
    with early, late:
        fit(scheduler, best, epochs=3)


class Assets(keras.layers.Layer):
    """A layer with files of its own, which a compact file cannot hold."""

    def call(self, x):
        return x

    def save_assets(self, folder):
        pass


def test_a_model_that_the_file_cannot_hold_is_refused_before_training(tmp_path):
    layers = [keras.Input((24,)), keras.layers.Dense(24), Assets(), keras.layers.Dense(5)]
    model = zoo.compiled(keras.Sequential(layers))
    scheduler = RankScheduler(budget=FALL)
    with pytest.raises(FormatError, match="files of its own"):
        fit(
            scheduler, RankModelCheckpoint(scheduler, tmp_path / "a.reducible", "loss"), model=model
        )
    assert not int(model.optimizer.iterations)
    assert not list(tmp_path.iterdir())


def test_a_name_that_the_logs_cannot_fill_is_told_after_the_first_epoch(tmp_path):
    scheduler = RankScheduler(budget=FALL)
    best = RankModelCheckpoint(scheduler, tmp_path / "{epoch}-{val_los}.keras", "loss")
    seen = Scores(*range(8))
    with pytest.raises(ArgumentError, match=r"that the logs can fill.*val_los.*epoch, loss"):
        fit(seen, scheduler, best)
    assert len(seen.weights) == 1


# --- those of others ----------------------------------------------------------------------


class Uploading(keras.callbacks.ModelCheckpoint):
    """As people derive theirs."""


class Patient(keras.callbacks.EarlyStopping):
    """The same."""


class Remote(keras.callbacks.BackupAndRestore):
    """The same."""


@pytest.mark.parametrize("kind", [keras.callbacks.ModelCheckpoint, Uploading])
def test_a_checkpoint_of_the_best_epoch_is_refused_unless_no_ranks_fall(kind):
    best = kind("a.keras", "val_accuracy", save_best_only=True, mode="max")
    remedy = r"RankModelCheckpoint\(scheduler, 'a.keras', monitor='val_accuracy', mode='max'\)"
    with pytest.raises(ArgumentError, match=remedy):
        fit(RankScheduler(budget=FALL), best)
    check_other_callbacks([best], 0)
    check_other_callbacks([kind("{epoch}.keras")], 5)


def test_derived_classes_are_refused_like_those_of_keras(tmp_path):
    stop = Patient("loss", restore_best_weights=True)
    with pytest.raises(ArgumentError, match=r"Patient, derived from EarlyStopping.*RankEarly"):
        check_other_callbacks([stop], 3)
    with pytest.raises(ArgumentError, match=r"Remote, derived from Backup.*RankBackup"):
        check_other_callbacks([Remote(tmp_path)], 3)
    own = keras.callbacks.LambdaCallback()
    own.monitor, own.save_best_only = "loss", True
    with pytest.raises(ArgumentError, match=r"RankModelCheckpoint\(scheduler, 'best.reducible'"):
        check_other_callbacks([own], 3)
    check_other_callbacks(
        [Patient("loss"), Patient(restore_best_weights=True, start_from_epoch=3)], 3
    )


class Objective:
    """As keras-tuner's: a metric and its direction."""

    direction = "max"

    def has_value(self, logs):
        return "score" in logs

    def get_value(self, logs):
        return logs["score"]

    def better_than(self, one, two):
        return one > two


class SaveBestEpoch(keras.callbacks.Callback):
    """As keras-tuner saves the best epoch of a trial."""

    def __init__(self, filepath):
        super().__init__()
        self.objective, self.filepath, self.best_value = Objective(), filepath, -np.inf

    def on_epoch_end(self, epoch, logs=None):
        value = self.objective.get_value(logs) if self.objective.has_value(logs) else None
        if value is None or self.objective.better_than(value, self.best_value):
            self.best_value = self.best_value if value is None else value
            self.model.save_weights(self.filepath)


@pytest.mark.parametrize("place", [1, 2])
def test_what_compares_epochs_begins_anew_at_each_cut(place, tmp_path):
    scores = Scores(0.9, 0.5, 0.4, 0.3, 0.35, 0.1)
    scheduler = RankScheduler(budget=FALL)
    saver = SaveBestEpoch(tmp_path / "t.weights.h5")
    plateau = keras.callbacks.ReduceLROnPlateau("score", mode="max", patience=2, factor=0.5)
    stop = keras.callbacks.EarlyStopping("score", mode="max", patience=3)
    callbacks = [scores, saver, plateau, stop]
    callbacks.insert(place if place == 1 else len(callbacks), scheduler)
    history, _ = fit(*callbacks, epochs=6)
    assert saver.best_value == 0.4
    rates = [round(rate / history.history["learning_rate"][0], 3) for rate in _rates(history)]
    assert rates == [1, 1, 1, 1, 0.5, 0.5], "after a plateau of two epochs, since the last cut"
    assert len(history.epoch) == 6
    assert (stop.best, stop.best_epoch, stop.wait) == (0.4, 2, 3)
    saved = load_weights_into(zoo.sequential(), saver.filepath)
    assert plan_of(saved) == dict(scheduler.report.ranks)
    same_weights(saved, scores.weights[2])


def _rates(history):
    return [*history.history["learning_rate"][1:], history.model.optimizer.learning_rate.numpy()]


def test_a_saver_has_no_cut_that_was_undone_at_the_end(tmp_path):
    scheduler = RankScheduler(
        budget=PiecewiseConstant((1.0, 0.4), (0, 1)), guard=Guard("score", max_drop=0.1, mode="max")
    )
    saver = SaveBestEpoch(tmp_path / "t.weights.h5")
    with pytest.warns(ShortfallWarning, match="Its guard held it back"):
        _, model = fit(Scores(0.9, 0.1), scheduler, saver, epochs=2)
    saved = load_weights_into(zoo.sequential(), saver.filepath)
    assert plan_of(saved) == {}
    same_weights(saved, model.get_weights())


def test_keras_tuner_saves_with_what_is_recognized():
    utils = pytest.importorskip("keras_tuner.src.engine.tuner_utils")
    objective = pytest.importorskip("keras_tuner").Objective
    for direction, worst in (("max", -np.inf), ("min", np.inf)):
        saver = utils.SaveBestEpoch(objective("val_score", direction), "t.weights.h5")
        assert first_marks(saver) == marks_of(saver) == {"best_value": worst}


def test_marks_before_the_first_epoch_are_those_of_a_new_callback():
    scheduler = RankScheduler(budget=FALL)
    stop, plateau = keras.callbacks.EarlyStopping(), keras.callbacks.ReduceLROnPlateau()
    checkpoint = RankModelCheckpoint(scheduler, "a.keras")
    stop.on_train_begin()
    for each in (stop, plateau, checkpoint, keras.callbacks.ModelCheckpoint("a.keras")):
        assert first_marks(each) == marks_of(each) != {}
    assert not first_marks(keras.callbacks.CSVLogger("a.csv"))
