"""What a function of the user's is told: each cut, each that was undone, each epoch, once."""

from __future__ import annotations

import copy
import json
import math
from functools import cache

import keras
import numpy as np
import pytest

from reducible_train import (
    ArgumentError,
    ArgumentTypeError,
    Cadence,
    Guard,
    PiecewiseConstant,
    RankRecords,
    RankScheduler,
)

STAIRS = PiecewiseConstant([1.0, 0.6, 0.3], [0, 1, 2])


@cache
def data():
    rng = np.random.default_rng(1)
    return rng.normal(size=(32, 16)).astype("float32"), rng.integers(0, 3, 32)


def network():
    model = keras.Sequential(
        [
            keras.Input((16,)),
            keras.layers.Dense(24, name="hidden"),
            keras.layers.Dense(3, activation="softmax", name="output"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def fitted(scheduler, *before, epochs=4, **sinks):
    """A fit of two steps an epoch, told to lists."""
    cuts, seen = [], []
    sinks = sinks or {"on_cut": cuts.append, "on_epoch": seen.append}
    records = RankRecords(scheduler, **sinks)
    x, y = data()
    network().fit(
        x,
        y,
        batch_size=16,
        epochs=epochs,
        validation_data=(x, y),
        callbacks=[*before, scheduler, records],
        verbose=0,
    )
    return cuts, seen


def test_each_cut_and_each_epoch_is_told_once_in_numbers():
    scheduler = RankScheduler(STAIRS, criterion="frobenius", allocation="uniform")
    cuts, seen = fitted(scheduler)
    report = scheduler.report
    assert [cut["epoch"] for cut in cuts] == [1, 2] == [cut.epoch for cut in report.cuts]
    assert [cut["step"] for cut in cuts] == [2, 4]
    assert {cut["undone"] for cut in cuts} == {0}
    assert [cut["rank/hidden"] for cut in cuts] == [cut.kernels[0].rank for cut in report.cuts]
    assert cuts[1]["params_before"] == cuts[0]["params"] == report.cuts[0].parameters
    assert cuts[0]["loss_before_cut"] == report.cuts[0].metrics_before["loss"]
    assert cuts[1]["energy/hidden"] == report.cuts[1].kernels[0].energy
    assert [each["epoch"] for each in seen] == [0, 1, 2, 3]
    assert [each["rank/hidden"] for each in seen] == [
        16,
        *(c["rank/hidden"] for c in cuts),
        cuts[1]["rank/hidden"],
    ]
    assert seen[3]["params_fraction"] == report.size_fraction
    assert {"loss", "val_accuracy", "flops_fraction"} <= seen[0].keys()
    for each in (*cuts, *seen):
        assert {type(value) for value in each.values()} <= {int, float}
        json.dumps(each)


def test_a_cut_is_told_before_the_step_that_follows():
    """Several in one epoch come one by one, each with the model as it is then."""
    scheduler = RankScheduler(
        PiecewiseConstant([1.0, 0.6, 0.3], [0, 1, 1.5]),
        cadence=Cadence(steps=1),
        criterion="frobenius",
    )
    told = []
    fitted(scheduler, on_cut=lambda cut: told.append((cut["params"], scheduler.report.parameters)))
    assert len(told) == 2
    assert all(params == now for params, now in told)


class Worse(keras.callbacks.Callback):
    """Lets the metric fall in one epoch, or the loss become NaN."""

    def __init__(self, epoch, lost=False):
        super().__init__()
        self.epoch, self.lost, self.now = epoch, lost, -1

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.lost and self.now == self.epoch:
            logs["loss"] = math.nan

    def on_epoch_end(self, epoch, logs=None):
        logs["quality"] = 0.0 if epoch == self.epoch and not self.lost else 1.0


@pytest.mark.filterwarnings("ignore::reducible_train.errors.ShortfallWarning")
@pytest.mark.filterwarnings("ignore:.*NaN.*")
@pytest.mark.parametrize(("lost", "epochs"), [(False, 3), (True, 3), (False, 2)])
def test_an_undone_cut_is_told_as_made_and_as_undone(lost, epochs):
    """Undone at the next epoch, within its own by a NaN, and when the training ends."""
    guard = Guard("quality", max_drop=0.1, patience=1, tries=1, mode="max")
    stairs = PiecewiseConstant([1.0, 0.3], [0, 1])
    scheduler = RankScheduler(stairs, guard=guard, criterion="frobenius")
    cuts, _ = fitted(scheduler, Worse(1, lost), epochs=epochs)
    (undone,) = scheduler.report.undone
    assert [(cut["epoch"], cut["undone"]) for cut in cuts] == [(1, 0), (undone.undone_epoch, 1)]
    assert cuts[1]["cut_epoch"] == 1
    assert cuts[1]["params_before"] == cuts[0]["params"] == undone.parameters
    assert cuts[1]["params"] == cuts[0]["params_before"] == scheduler.report.dense_parameters
    assert cuts[1]["rank/hidden"] == 16
    assert ("value" in cuts[1]) is not lost


def test_a_copy_calls_the_same_function():
    told = []
    scheduler = RankScheduler(0.5)
    first = RankRecords(scheduler, on_cut=told.append)
    again, copied = copy.deepcopy((scheduler, first))
    assert copied.on_cut.__self__ is told
    assert copied.scheduler is again


def test_what_cannot_be_told_is_refused():
    scheduler = RankScheduler(0.5)
    with pytest.raises(ArgumentTypeError, match=r"must be a function of one dictionary"):
        RankRecords(scheduler, on_cut="wandb")
    with pytest.raises(ArgumentTypeError, match=r"Write RankRecords\(scheduler"):
        RankRecords(print, on_cut=print)
    with pytest.raises(ArgumentError, match="neither"):
        RankRecords(scheduler)
    records = RankRecords(scheduler, on_cut=print)
    x, y = data()
    with pytest.raises(ArgumentError, match="must stand after its RankScheduler"):
        network().fit(x, y, callbacks=[records, scheduler], verbose=0)
