"""Laws of the wait for stable ranks to settle."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import zoo

from reducible_train import (
    Adaptive,
    ArgumentError,
    ArgumentTypeError,
    Cadence,
    Guard,
    LayerRule,
    PiecewiseConstant,
    RankScheduler,
    Search,
    load_config,
)
from reducible_train.config import parse_config
from reducible_train.errors import ConfigError, ShortfallWarning
from reducible_train.layers import find_kernels
from reducible_train.linalg.svd import singular_spectrum, stable_rank

pytestmark = pytest.mark.filterwarnings("ignore::reducible_train.errors.ShortfallWarning")

FALLING = (24, 12, 8, 6, 5.9, 5.85, 5.8, 5.8)  # flat from before epoch 4 on


def set_stable_rank(kernel, wanted):
    """Give a dense kernel one large singular value and equal others, of this stable rank."""
    m, n = kernel.shape
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(k, min(m, n))))[0] for k in (m, n))
    values = np.full(min(m, n), np.sqrt((wanted - 1) / (min(m, n) - 1)))
    values[0] = 1.0
    kernel.variables[0].assign(left * values @ right.T)


class Learns(keras.callbacks.Callback):
    """In place of training, gives the kernels other stable ranks before every epoch."""

    def __init__(self, **ranks):
        super().__init__()
        self.ranks = ranks

    def on_epoch_begin(self, epoch, logs=None):
        for kernel in find_kernels(self.model):
            ranks = self.ranks.get(kernel.layer.name, FALLING)
            if kernel.rank is None and kernel.layer.name != "output":
                set_stable_rank(kernel, ranks[min(epoch, len(ranks) - 1)])


class Says(keras.callbacks.Callback):
    """Puts a metric of its own into the logs."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def on_epoch_end(self, epoch, logs=None):
        logs["quality"] = self.values[epoch]


def fit(scheduler, epochs=8, learns=None, more=()):
    model = zoo.compiled(zoo.sequential(), "sgd")
    model.optimizer.learning_rate = 0.0
    x, y = zoo.data(model, 16)
    callbacks = [learns or Learns(), *more, scheduler]
    model.fit(x, y, epochs=epochs, callbacks=callbacks, verbose=0)
    return scheduler.report


def test_the_kernels_of_these_tests_have_the_stable_ranks_they_say():
    kernel = find_kernels(zoo.sequential())[0]
    set_stable_rank(kernel, 5.9)
    assert stable_rank(singular_spectrum(kernel.matrices()[0][0])) == pytest.approx(5.9)


def test_cuts_begin_when_no_kernel_is_steep_and_go_to_the_scaled_stable_rank():
    report = fit(RankScheduler(cadence=Cadence(start=Adaptive(window=1))))
    (cut,) = report.cuts
    assert (cut.epoch, cut.quantity) == (4, "stable_rank")
    assert {k.binding for k in cut.kernels} == {"rank"}
    first = round(5.9 * 24 / 24)  # full rank 24, of a start at 24
    assert report.ranks == {"first/kernel": first, "second/kernel": round(5.9 * 28 / 24)}
    assert "settled before epoch 4 (steepest: " in str(report)
    assert "/kernel, -1.7 % in an epoch)" in str(report)


def test_the_slope_is_smoothed_over_the_window():
    assert (
        fit(RankScheduler(cadence=Cadence(start=Adaptive(window=2, end_epoch=7)))).cuts[0].epoch
        == 5
    )
    (cut,) = fit(RankScheduler(cadence=Cadence(start=Adaptive(window=1, slope=0.4)))).cuts
    assert cut.epoch == 3, "6 after 8 is within 40 %"


def test_all_kernels_must_have_settled():
    learns = Learns(first=(24, 20, 16, 13, 10, 8, 7.9))
    assert (
        fit(RankScheduler(cadence=Cadence(start=Adaptive(window=1, end_epoch=7))), 8, learns)
        .cuts[0]
        .epoch
        == 6
    )


def test_a_rising_stable_rank_is_not_flat_either():
    learns = Learns(first=(4, 5, 7, 9, 12, 12))
    assert (
        fit(RankScheduler(cadence=Cadence(start=Adaptive(window=1, end_epoch=7))), 8, learns)
        .cuts[0]
        .epoch
        == 5
    )


def test_the_last_epoch_for_it_is_half_of_the_training_or_as_given():
    steep = Learns(first=[24 * 0.8**i for i in range(12)], second=(24,))
    report = fit(RankScheduler(cadence=Cadence(start=Adaptive())), 6, steep)
    assert [cut.epoch for cut in report.cuts] == [3]
    assert "began before epoch 3, the last they could (steepest: first/kernel, -" in str(report)
    report = fit(RankScheduler(cadence=Cadence(start=Adaptive(end_epoch=5))), 6, steep)
    assert [cut.epoch for cut in report.cuts] == [5]


def test_nothing_is_cut_before_its_first_epoch():
    flat = Learns(first=(6,), second=(6,))
    scheduler = RankScheduler(budget=0.5, cadence=Cadence(start=Adaptive(window=1, start_epoch=3)))
    assert fit(scheduler, learns=flat).cuts[0].epoch == 3


def test_a_kernel_that_would_not_shrink_stays_dense():
    report = fit(
        RankScheduler(cadence=Cadence(start=Adaptive(window=1))), learns=Learns(first=(20,))
    )
    assert list(report.ranks) == ["second/kernel"]


def test_schedules_count_from_there_those_of_rules_too():
    scheduler = RankScheduler(
        budget=PiecewiseConstant((1.0, 0.7, 0.5), (0, 1, 2)),
        cadence=Cadence(start=Adaptive(window=1)),
        rules=[LayerRule("first", rank=PiecewiseConstant((9, 3), (0, 2)))],
    )
    report = fit(scheduler)
    assert [cut.epoch for cut in report.cuts] == [4, 5, 6]
    assert [c.target for c in report.cuts] == [1.0, 0.7, 0.5]
    assert report.cuts[0].kernels[0].rank == 9
    assert report.ranks["first/kernel"] == 3


def test_a_guard_undoes_a_cut_and_the_next_goes_half_as_far():
    says = Says((1, 1, 1, 1, 0, 1, 1, 1))
    guard = Guard("quality", mode="max", max_drop=0.1, patience=1, tries=2)
    scheduler = RankScheduler(
        rank=PiecewiseConstant((11, 4), (0, 1)),
        cadence=Cadence(start=Adaptive(window=1)),
        guard=guard,
    )
    with pytest.warns(ShortfallWarning, match="undone at epoch 5"):
        report = fit(scheduler, more=[says])
    assert [(u.epoch, u.undone_epoch, u.target) for u in report.undone] == [(4, 5, 11)]
    assert report.cuts[0].epoch == 5
    assert report.cuts[0].target > 11
    assert "settled before epoch 4" in str(report)


def test_usable_twice():
    scheduler = RankScheduler(cadence=Cadence(start=Adaptive(window=1)))
    assert fit(scheduler).cuts[0].epoch == fit(scheduler).cuts[0].epoch == 4


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Adaptive(slope=0), ArgumentError, "`slope` of Adaptive must be.*slope=0"),
        (lambda: Adaptive(window=0), ArgumentError, "`window`.*at least 1"),
        (lambda: Adaptive(start_epoch=-1), ArgumentError, "`start_epoch`.*at least 0"),
        (lambda: Adaptive(start_epoch=5, end_epoch=4), ArgumentError, "must not be before"),
        (
            lambda: RankScheduler(cadence=Cadence(start=True)),
            ArgumentTypeError,
            r"start=Adaptive\(",
        ),
        (
            lambda: RankScheduler(
                cadence=Cadence(start=Adaptive()), search=Search(), guard=Guard(max_drop=1)
            ),
            ArgumentError,
            "search beside.*start=Adaptive",
        ),
        (
            lambda: fit(RankScheduler(cadence=Cadence(start=Adaptive(end_epoch=8)))),
            ArgumentError,
            "7 at the lat",
        ),
        (
            lambda: fit(
                RankScheduler(
                    budget=PiecewiseConstant((1, 0.5), (0, 4)), cadence=Cadence(start=Adaptive())
                )
            ),
            ArgumentError,
            "ends at epoch 8",
        ),
        (
            lambda: fit(
                RankScheduler(
                    rank=PiecewiseConstant((11, 4), (0, 2.5)),
                    cadence=Cadence(
                        steps=3, start=Adaptive(end_epoch=5)
                    ),  # of the 8 that there are
                )
            ),
            ArgumentError,
            "at epoch 6 at the latest.*ends at epoch 7.5",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_training(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_file_says_the_same(tmp_path):
    training = {"epochs": 8}
    adaptive = {"slope": 0.2, "window": 2, "end_epoch": 5}
    config = parse_config({"compression": {"cadence": {"start": adaptive}}, "training": training})
    (scheduler,) = config.callbacks()
    assert scheduler.adaptive == Adaptive(0.2, 2, 0, 5)
    assert scheduler.target == Adaptive().target
    config.check(zoo.compiled(zoo.sequential()))
    path = tmp_path / "both.yaml"
    path.write_text("compression: {budget: 0.5, cadence: {start: {}}}")
    (scheduler,) = load_config(path).callbacks()
    assert (scheduler.adaptive, scheduler.target.quantity) == (Adaptive(), "budget")
    steps = {"schedule": "piecewise_constant", "values": [1, 0.5], "start_epochs": [0, 4]}
    for compression, words in (
        (
            {"cadence": {"start": {"end_epoch": 8}}},
            "start.end_epoch: end_epoch of Adaptive must be 7 at the latest",
        ),
        (
            {"cadence": {"start": {"start_epoch": 4, "end_epoch": 2}}},
            "end_epoch: end_epoch must not be before",
        ),
        (
            {"cadence": {"start": {}}, "search": {}, "guard": {"limit": 1}},
            "cadence.start: A search chooses",
        ),
        (
            {"cadence": {"start": {}}, "budget": steps},
            r"ends at epoch 8, after the last cut",
        ),
        ({"cadence": {"start": {"slope": -1}}}, "slope must be greater than 0"),
    ):
        with pytest.raises(ConfigError, match=words):
            parse_config({"compression": compression, "training": training})
