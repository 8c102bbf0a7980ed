"""Laws of a guard on duty, told to it epoch by epoch: when a cut stays, when it is undone."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field

import numpy as np
import pytest

from reducible_train.report.records import Cut
from reducible_train.settings.guard import Bound, Guard
from reducible_train.settings.schedules import PiecewiseConstant, Ramp
from reducible_train.settings.search import Search
from reducible_train.settings.targets import target
from reducible_train.training.guard_run import GuardRun
from reducible_train.training.lost_weights import NAN_REMEDIES, NAN_REMEDY
from reducible_train.training.target_controllers import ScheduleController, SearchController
from reducible_train.training.unguarded import Unguarded

STEPS = PiecewiseConstant((1.0, 0.5), (0, 2))
NAN = float("nan")
_BEFORE = "put the callback that adds it before the RankScheduler"


@dataclass(eq=False)
class State:
    """What a model was; forgotten once nothing leads back to it."""

    size: float
    forgotten: bool = False

    def forget(self):
        self.forgotten = True


@dataclass
class Model:
    """A model that is nothing but its size, and whether its weights are numbers."""

    size: float = 1.0
    finite: bool = True
    stopped: bool = False
    resets: int = 0
    taken: list[State] = field(default_factory=list)
    restored: list[bool] = field(default_factory=list)  # whether training went on

    def take_snapshot(self):
        self.taken.append(State(self.size))
        return self.taken[-1]

    def restore(self, snapshot, *, training):
        assert not snapshot.forgotten
        self.size, self.finite = snapshot.size, True
        self.restored.append(training)

    def is_finite(self):
        return self.finite

    def reset_metrics(self):
        self.resets += 1

    def stop_training(self):
        self.stopped = True


class Cutter:
    """Brings a model to the size that is asked for; a size in force is no cut."""

    def __init__(self, model, goal):
        self.model, self.goal, self.history = model, goal, ()

    def told(self, value):
        return value

    def due(self, time, target_value):
        return target_value(self.goal, time) != (self.history or [1.0])[-1]

    def cut(self, time, target_value, *, step, epoch_step, training):
        value, before = target_value(self.goal, time), self.model.size
        if value >= before:
            return None
        self.model.size, self.history = value, (*self.history, value)
        sizes = {"parameters_before": int(1000 * before), "parameters": int(1000 * value)}
        return Cut(int(time), step, self.goal.quantity, value, (), **sizes, seconds={})

    def go_on_from(self, history):
        self.history = history


class Training:
    """A guard, and what a fit tells it: one turn before each epoch, a metric after it."""

    def __init__(
        self,
        fall=STEPS,
        *,
        quantity="budget",
        sign=1,
        search=None,
        samples=None,
        foreseen=None,
        epochs=math.inf,
        rhythm=None,
        **options,
    ):
        if not options.keys() & {"limit", "max_drop"}:
            options["max_drop"] = 0.01
        options = {"monitor": "val_quality", "mode": "max"} | options
        goal = target(quantity, fall) if search is None else search.target
        start = 1.0 if quantity == "budget" else 12.0
        self.model = Model(start)
        self.cutter = Cutter(self.model, goal)
        self.controller = ScheduleController(lambda _: start)
        if search is not None:
            span = search.first_epoch(24), search.last_epoch(24)
            memory = search.memory(24)
            self.controller = SearchController(search, 1.0, 0.1, span, memory, foreseen, epochs)
        margin = 0.0 if search is None else search.margin
        bound = Bound(Guard(**options), sign, samples, margin)
        self.guard = GuardRun(bound, self.cutter, self.controller, self.model, rhythm)
        self.sizes, self.cuts, self.monitor = [], [], options["monitor"]

    def run(self, values, epochs, *, losses=(), turns=(0.0,)):
        """So many epochs, the last value of the metric for all after it.

        Args:
            values: A metric for each epoch, or a function of the size; `None` where it is absent.
            epochs: Their number.
            losses: Epochs within which the loss is NaN.
            turns: When cuts may be made, from the begin of each epoch.
        """
        for epoch in range(epochs):
            self.guard.go_back(float(epoch))
            for turn in turns:
                size = self.model.size
                self.guard.act(epoch + turn, step=epoch)
                if self.model.size != size:
                    self.cuts.append((epoch + turn, round(self.model.size, 4)))
            self.sizes.append(self.model.size)
            self.guard.see_loss({"loss": NAN if epoch in losses else 0.1}, epoch)
            value = values[min(epoch, len(values) - 1)] if isinstance(values, tuple) else None
            value = values(self.model.size) if callable(values) else value
            self.guard.see(epoch, {} if value is None else {self.monitor: value})
        self.guard.close(float(epochs))
        return self

    @property
    def undone(self):
        return [(u.epoch, u.undone_epoch, round(u.target, 4)) for u in self.guard.undone]


# --- when a cut stays ------------------------------------------------------------------


def test_a_cut_within_the_bound_stays():
    training = Training().run((0.8, 0.9, 0.89), 5)
    assert training.cuts == [(2, 0.5)]
    assert training.undone == training.guard.notes == []
    assert training.guard.hindrance is None


def test_a_bound_that_no_cut_can_miss_is_told():
    with pytest.warns(UserWarning, match="can undo no cut: val_accuracy of the model .* is 0,"):
        Training(monitor="val_accuracy", mode="auto").run((0.0,), 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Training(monitor="val_r2", mode="auto").run((0.0,), 5)
        Training(monitor="val_accuracy", mode="auto").run((0.9,), 5)
        Training(monitor="val_accuracy", mode="auto", limit=0.0).run((0.0,), 5)


def test_a_cut_that_recovers_within_its_patience_stays():
    training = Training(patience=3).run((0.8, 0.9, 0.5, 0.6, 0.895, 0.3, 0.3, 0.3), 8)
    assert training.cuts == [(2, 0.5)]
    assert training.undone == [], "once accepted, only NaN undoes it"


@pytest.mark.parametrize(
    ("sign", "values", "stays"),
    [
        (1, (0.9, 0.9, 0.895), True),
        (1, (0.9, 0.9, 0.88), False),
        (-1, (0.9, 0.9, 0.905), True),
        (-1, (0.9, 0.9, 0.92), False),
        (-1, (0.9, 0.9, 0.1), True),
        (1, (0.1, 0.1, 0.09), True),  # in floating point, 0.1 - 0.01 is more than 0.09
    ],
)
def test_the_bound_has_a_direction_and_is_inclusive(sign, values, stays):
    training = Training(sign=sign, tries=1, patience=1).run(values, 5)
    assert (training.model.size == 0.5) is stays
    assert (training.undone == []) is stays


def test_the_reference_is_the_best_value_on_accepted_ranks_so_drops_do_not_add_up():
    values = (0.90, 0.92, 0.91, 0.915, 0.905)  # 0.905 is within 0.01 of 0.91, but not of 0.92
    fall = PiecewiseConstant((1.0, 0.7, 0.4), (0, 2, 4))
    training = Training(fall, patience=1, tries=1).run(values, 6)
    assert training.model.size == 0.7
    (record,) = training.guard.undone
    assert (record.reference, record.worst, record.value) == (0.92, pytest.approx(0.91), 0.905)


def test_no_cut_is_made_before_the_metric_was_seen():
    assert Training(0.5).run((0.9,), 3).cuts == [(1, 0.5)]


# --- undoing ---------------------------------------------------------------------------


def test_a_cut_that_does_not_recover_is_undone_and_the_next_goes_half_as_far():
    training = Training(tries=9).run((0.9, 0.9, 0.1, 0.1, 0.9), 8)
    assert training.undone == [(2, 4, 0.5)]
    assert training.cuts == [(2, 0.5), (4, 0.75), (5, 0.625), (6, 0.5625), (7, 0.5312)]
    assert training.sizes[:5] == [1.0, 1.0, 0.5, 0.5, 0.75]
    reason = "val_quality was below 0.89 (last 0.1, best before 0.9) for 2 epochs"
    assert training.guard.undone[0].reason == reason
    assert training.model.restored == [True]


def test_after_so_many_tries_no_more_cuts_are_made():
    training = Training(patience=1, tries=3).run((0.9, 0.9, 0.1), 10)
    assert training.undone == [(2, 3, 0.5), (3, 4, 0.75), (4, 5, 0.875)]
    assert training.model.size == 1.0
    assert training.cutter.history == ()
    assert "No more cuts are made after 3" in training.guard.notes[-1]
    assert training.guard.hindrance.why.startswith("Its guard held it back: The cut of epoch")


def test_the_schedule_waits_for_a_cut_on_trial_and_goes_back_with_it():
    ramp = Ramp(12, 4, start_epoch=0, end_epoch=4, shape="linear")  # 12 10 8 6 4
    values = (0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9)
    training = Training(ramp, quantity="rank", patience=2).run(values, 7)
    assert training.cuts == [(1, 10), (2, 8), (4, 6), (5, 4)], "epoch 3 was waited for"
    training = Training(ramp, quantity="rank", patience=2).run((0.9, 0.9, 0.1, 0.1, 0.9), 7)
    assert training.undone == [(2, 4, 8)]
    assert training.cuts[2] == (4, 9), "to 8 once more, half the way"
    assert training.cuts[3:] == [(5, 7.5), (6, 5.75)]


def test_cuts_of_one_epoch_are_judged_and_undone_together():
    ramp = Ramp(12, 4, start_epoch=1, end_epoch=2.5, shape="linear")
    training = Training(ramp, quantity="rank", patience=1, tries=1)
    training.run((0.9, 0.1, 0.9), 4, turns=(0.0, 0.25, 0.5))
    assert training.cuts == [(1.25, 10.6667), (1.5, 9.3333)]
    (record,) = training.guard.undone
    assert (record.epoch, record.undone_epoch) == (1, 2)
    assert (record.parameters_before, record.target) == (12000, pytest.approx(12 - 8 / 3))
    assert (training.model.size, training.model.restored) == (12.0, [True])


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (0.1, "the training ended while val_quality was below 0.89 (last 0.1, best before 0.9)"),
        (None, "the training ended before val_quality was seen"),
    ],
)
@pytest.mark.filterwarnings("ignore:The guard watches")
def test_a_cut_still_on_trial_when_training_ends_is_undone(last, reason):
    training = Training(PiecewiseConstant((1.0, 0.5), (0, 3)), patience=5)
    training.run((0.9, 0.9, 0.9, last), 4)
    assert training.undone == [(3, 4, 0.5)]
    assert training.guard.undone[0].reason == reason
    assert training.model.restored == [False], "fit has done what it does at its end"


@pytest.mark.parametrize("values", [(0.9,), (0.9, 0.9, 0.1), (0.9, 0.9, NAN, 0.9)], ids=str)
def test_nothing_is_kept_that_nothing_leads_back_to(values):
    fall = PiecewiseConstant((1.0, 0.7, 0.7 - 1e-9, 0.4), (0, 1, 2, 3))
    training = Training(fall, patience=1)
    training.run(values, 6)
    assert len(training.model.taken) >= 2
    assert all(state.forgotten for state in training.model.taken)


# --- not a number ----------------------------------------------------------------------


def test_a_loss_that_is_nan_undoes_the_cut_at_once():
    training = Training(patience=9).run((0.9,), 5, losses=(2,))
    assert training.undone == [(2, 2, 0.5)]
    assert training.guard.undone[0].reason == "the loss was nan"
    assert training.cuts[1] == (3, 0.75)
    assert training.model.resets == 1, "the running mean of the loss starts anew"


def test_nan_undoes_a_cut_that_was_accepted():
    training = Training().run((0.9,), 6, losses=(4,))
    assert training.undone == [(2, 4, 0.5)]
    assert training.cuts[1] == (5, 0.75)


def test_a_metric_that_is_nan_undoes_it_without_patience():
    training = Training(patience=9, tries=1).run((0.9, 0.9, NAN, 0.9), 5)
    assert training.undone == [(2, 3, 0.5)]
    assert training.guard.undone[0].reason == "val_quality was nan"


def test_nan_before_any_cut_is_told_and_ends_nothing_while_weights_are_finite():
    training = Training()
    with pytest.warns(UserWarning, match="The loss is nan in epoch 0, and there is no cut to undo"):
        training.run((0.9,), 4, losses=(0,))
    assert training.cuts == [(2, 0.5)]
    assert not training.model.stopped
    assert training.guard.end is None


def test_weights_that_are_nan_end_the_training():
    training = Training()
    training.model.finite = False
    training.run((NAN,), 1, losses=(0,))
    assert training.model.stopped
    assert training.guard.end == (
        "The loss is nan in epoch 0, and so are weights, with no cut to undo. Training was stopped."
    )
    with pytest.warns(UserWarning, match=f"Training was stopped. {NAN_REMEDY}"):
        training.guard.tell_end("")
    training.guard.tell_end(f"Nothing was cut. {training.guard.end}")  # which says it


def test_nan_that_comes_again_was_not_the_cut_and_the_model_gets_the_weights_before_it():
    training = Training(patience=9)
    guard, model = training.guard, training.model
    for epoch in range(3):
        guard.act(float(epoch), epoch)
        guard.see_loss({"loss": NAN if epoch == 2 else 0.1}, epoch)
        guard.see(epoch, {"val_quality": 0.9})
    assert training.undone == [(2, 2, 0.5)]
    model.size, model.finite = 0.9, False
    guard.see_loss({"loss": NAN}, 3)
    assert "again after the last cut was undone for it" in str(guard.end)
    assert (model.size, model.finite, model.stopped) == (1.0, True, True)
    guard.close(4.0)
    assert all(state.forgotten for state in model.taken)


def test_an_epoch_that_trains_well_shows_that_nan_is_over():
    training = Training(PiecewiseConstant((1.0, 0.5), (0, 2)), patience=9, tries=1)
    training.run((0.9,), 4, losses=(2,))
    assert training.undone == [(2, 2, 0.5)]
    assert training.model.taken[0].forgotten
    training.model.finite = False
    training.guard.see_loss({"loss": NAN}, 4)
    assert "again" not in str(training.guard.end)


# --- a metric that is not there --------------------------------------------------------


def test_an_epoch_without_the_metric_is_told_and_not_followed_by_a_cut():
    training = Training()
    words = r"'val_quality', which is not in the logs of epoch 1: they hold nothing.*RankScheduler"
    with pytest.warns(UserWarning, match=words):
        training.run((0.9, None, 0.9), 5)
    assert training.cuts == [(3, 0.5)]
    assert any("epoch 1;" in note for note in training.guard.notes)


def test_an_epoch_without_the_metric_does_not_count_against_patience():
    training = Training(patience=2)
    with pytest.warns(UserWarning, match="not in the logs"):
        training.run((0.9, 0.9, 0.1, None, 0.9), 5)
    assert training.undone == []
    assert training.cuts == [(2, 0.5)]


class EverySecond:
    """Epochs of a fit that validates after each second one."""

    recurs = True

    def __contains__(self, epoch):
        return epoch % 2 == 1

    def __str__(self):
        return "validation_freq=2"


def test_an_epoch_that_is_not_validated_is_no_surprise():
    training = Training(rhythm=EverySecond())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training.run((None, 0.9, None, 0.9, None, 0.9), 6)
    assert training.cuts == [(2, 0.5)]
    assert str(training.guard.rarity) == "validation_freq=2"
    (note,) = training.guard.notes
    assert note.startswith("With validation_freq=2, val_quality was not in the logs at the end of")
    assert training.guard.hindrance.why == note


def test_an_epoch_that_is_validated_and_lacks_the_metric_is_told_without_that_advice():
    training = Training(rhythm=EverySecond())
    with pytest.warns(UserWarning, match="epoch 1: they hold nothing") as told:
        training.run((None, None, None, 0.9), 5)
    assert "Give fit validation data" not in str(told[0].message)
    assert training.guard.notes[0].startswith("val_quality was not in the logs, or not a finite")


# --- what to do about it ---------------------------------------------------------------

LOOSER = "a larger max_drop than 0.01 or a longer patience than 1 epoch"


@pytest.mark.parametrize(
    ("values", "epochs", "losses", "remedies", "takes_time"),
    [
        ((0.9, 0.9, 0.1), 6, (), [f"give the guard more tries than 1, {LOOSER}"], False),
        ((0.9, 0.9, None), 3, (), [], True),  # it was not seen, and a longer training sees it
        ((0.9, 0.9, 0.9), 5, (3,), ["give the guard more tries than 1", *NAN_REMEDIES], False),
        ((None,), 4, (), ["give fit validation data", _BEFORE], False),
        ((None, None, None, 0.9), 4, (), ["give fit validation data", _BEFORE], True),
        (("good",), 4, (), ["have val_quality be a number, not 'good'"], False),
        ((NAN,), 4, (), ["mend what makes val_quality nan", *NAN_REMEDIES], False),
    ],
    ids=["tired", "unseen", "nan", "absent", "late", "text", "no number"],
)
@pytest.mark.filterwarnings("ignore:.*val_quality:UserWarning")
def test_what_is_advised_helps(values, epochs, losses, remedies, takes_time):
    training = Training(patience=1, tries=1).run(values, epochs, losses=losses)
    hindrance = training.guard.hindrance
    assert list(hindrance.remedies) == remedies
    assert hindrance.takes_time is takes_time


def test_a_cut_undone_at_the_end_needs_time_and_no_more_tries():
    hindrance = Training(patience=2, tries=1).run((0.9, 0.9, 0.1), 3).guard.hindrance
    assert "No more cuts" not in hindrance.why
    assert hindrance.remedies == ["give the guard a larger max_drop than 0.01"]
    assert hindrance.takes_time


def test_a_limit_that_was_not_reached_needs_no_patience():
    hindrance = Training(limit=0.99).run((0.9,), 4).guard.hindrance
    ways = ["train the dense model for longer", "give the guard a lower limit than 0.99"]
    assert (hindrance.remedies, hindrance.takes_time) == (ways, False)


@pytest.mark.parametrize(("end", "after"), [(None, 0.892), (4, 0.9)], ids=["ever", "until its end"])
def test_a_search_that_had_no_room_for_a_cut_says_so(end, after):
    search = Search(start_epoch=2, end_epoch=end)
    training = Training(search=search).run((0.9, *(0.892,) * 3, after), 6)
    assert training.cuts == []
    hindrance = training.guard.hindrance
    assert "left less than 0.25 of the guard's drop" in hindrance.why
    assert hindrance.remedies == ["give the guard a larger max_drop than 0.01"]


def test_what_is_no_number_is_told_as_that():
    with pytest.warns(UserWarning, match="no number in the logs of epoch 0, but 'good'") as told:
        Training().run(("good", 0.9), 3)
    assert "which is not in the logs" not in str(told[0].message)


# --- a limit ---------------------------------------------------------------------------


def test_a_limit_is_waited_for_and_then_kept():
    assert Training(limit=0.8).run((0.5, 0.7, 0.75, 0.99, 0.81), 6).cuts == [(4, 0.5)]


def test_a_limit_the_dense_model_does_not_reach_is_told():
    training = Training(limit=0.99).run((0.9, 0.93, 0.92), 4)
    assert training.cuts == []
    assert training.guard.notes == [training.guard.hindrance.why]
    assert "limit of 0.99; its best value was 0.93, the nearest" in training.guard.notes[0]


# --- the search ------------------------------------------------------------------------


@pytest.mark.parametrize("smallest", [0.35, 0.62, 0.8])
def test_the_search_finds_the_smallest_size_that_is_good(smallest):
    training = Training(search=Search(factor=0.7, start_epoch=2), patience=1, tries=4)
    training.run(lambda size: 0.9 if size >= smallest else 0.5, 24)
    assert smallest <= training.model.size < 1.1 * smallest
    assert training.sizes[:2] == [1.0, 1.0], "dense at first"
    assert set(training.sizes[19:]) == {training.model.size}, "the last quarter is for recovering"
    assert training.guard.notes[0].startswith("The search has accepted a budget of")


def test_the_search_bisects_between_what_was_accepted_and_what_was_undone():
    training = Training(search=Search(factor=0.5, start_epoch=2), patience=1, tries=3)
    training.run(lambda size: 0.9 if size >= 0.63 else 0.5, 16)
    assert [round(u.target, 4) for u in training.guard.undone] == [0.5, 0.5946, 0.6209]
    assert [size for _, size in training.cuts] == [0.5, 0.7071, 0.5946, 0.6484, 0.6209]
    assert training.model.size == pytest.approx(math.sqrt(math.sqrt(0.5) * math.sqrt(0.5**1.5)))


def test_the_search_stays_at_the_lowest_it_may_go_to():
    training = Training(search=Search(factor=0.3, lowest=0.6, start_epoch=2)).run((0.9,), 8)
    assert training.cuts == [(2, 0.6)]


def test_nan_takes_a_search_back_behind_the_cut():
    training = Training(search=Search(start_epoch=2, end_epoch=2)).run((0.9,), 6, losses=(4,))
    assert training.undone == [(2, 4, 0.7)]
    assert training.guard.notes == ["The search has accepted a budget of 1, and not 0.7."]


def test_undone_cuts_do_not_end_a_search_unless_the_guard_says_how_many():
    def is_good(size):
        return 0.9 if size >= 0.93 else 0.5

    training = Training(search=Search(start_epoch=1), patience=1).run(is_good, 24)
    assert len(training.undone) > 3
    assert 0.93 <= training.model.size < 0.95
    assert not any("No more cuts" in note for note in training.guard.notes)
    training = Training(search=Search(start_epoch=1), patience=1, tries=2).run(is_good, 24)
    assert len(training.undone) == 2
    assert "No more cuts are made after 2" in training.guard.notes[-1]


def test_a_search_tries_anew_what_failed_long_ago():
    epochs = iter(range(24))

    def learns(size):  # until then too little is known for a small model
        return 0.9 if size >= (0.8 if next(epochs) < 6 else 0.3) else 0.5

    training = Training(search=Search(start_epoch=2), patience=1).run(learns, 24)
    assert training.undone[0][:2] == (2, 3)
    assert 0.3 <= training.model.size < 0.4, "not the 0.7 that failed at first"


def test_a_search_goes_by_the_loss_that_is_foreseen_not_by_the_budget():
    def loss(size):  # of a network that needs little of what it has
        return math.exp(-40 * size)

    def foreseen(_, budget):
        return loss(budget) - loss(training.model.size)

    training = Training(search=Search(start_epoch=2), foreseen=foreseen, patience=1)
    training.run(lambda size: 0.9 if size >= 0.25 else 0.5, 24)
    sizes = [size for _, size in training.cuts]
    assert loss(sizes[0]) == pytest.approx(1e-3 * loss(0.1), rel=0.3)
    assert loss(sizes[1]) / loss(sizes[0]) == pytest.approx(3, rel=0.3), "twice as much anew"
    assert 0.25 <= training.model.size < 0.265
    least = min(size for size in sizes if size < 0.25)
    assert least > 0.2, "no leap far below what is good"


def test_a_search_without_losses_left_to_foresee_goes_down_by_the_factor():
    def foreseen(_, budget):
        raise AssertionError

    training = Training(
        search=Search(factor=0.5, lowest=0.2, start_epoch=2), foreseen=foreseen
    ).run((0.9,), 24)
    assert [size for _, size in training.cuts] == [0.5, 0.25, 0.2]


def test_a_first_step_is_not_smaller_than_one_of_a_search_that_foresees_nothing():
    training = Training(search=Search(start_epoch=2), foreseen=lambda _, budget: 1 - budget).run(
        (0.9,), 24
    )
    assert training.cuts[0] == (2, 0.7)
    assert training.model.size == 0.1


def test_a_search_waits_until_a_quarter_of_the_drop_is_left():
    values = (0.9, 0.9, 0.892, 0.892, 0.893, 0.9)
    training = Training(search=Search(factor=0.7, start_epoch=2)).run(values, 6)
    assert [epoch for epoch, _ in training.cuts] == [2, 5]
    assert training.undone == []
    ramp = PiecewiseConstant((1.0, 0.7, 0.5), (0, 2, 3))
    assert [epoch for epoch, _ in Training(ramp).run(values, 6).cuts] == [2, 3], (
        "a schedule goes on"
    )


# --- to the end ------------------------------------------------------------------------


def falls_behind(last, **options):
    """A search of eight epochs that accepts 0.5 and then 0.25, which is `last` from epoch 6 on."""
    search = Search(factor=0.5, start_epoch=2, end_epoch=4, lowest=0.25)
    seen = []

    def quality(size):
        seen.append(size)
        return last.get(size, 0.9) if len(seen) > 6 else 0.9

    return Training(search=search, epochs=8, **options).run(quality, 8)


def test_what_a_search_has_accepted_must_be_good_at_the_end_as_well():
    assert falls_behind({}).model.size == 0.25
    assert falls_behind({0.25: 0.891}).model.size == 0.25
    training = falls_behind({0.25: 0.88}, patience=3)
    assert (training.model.size, training.undone) == (0.5, [(3, 8, 0.25)])
    reason = "at the end of the training val_quality was below 0.89 (last 0.88, best before 0.9)"
    assert training.guard.undone[0].reason == reason
    note = "The search has accepted a budget of 0.5, and not 0.25."
    assert training.guard.notes == [note]
    assert training.model.restored == [False], "fit has done what it does at its end"
    assert all(state.forgotten for state in training.model.taken)


def test_a_search_goes_back_while_there_are_epochs_to_recover():
    training = falls_behind({0.25: 0.88}, patience=1)
    assert training.undone == [(3, 7, 0.25)]
    assert (training.sizes[6], training.sizes[7], training.model.size) == (0.25, 0.5, 0.5)
    training = falls_behind({0.25: 0.88, 0.5: 0.88}, patience=1)
    assert training.undone == [(3, 7, 0.25), (2, 8, 0.5)], "behind each cut, one after the other"
    assert training.model.size == 1.0
    assert all(state.forgotten for state in training.model.taken)


def test_a_way_leads_back_behind_what_was_accepted_after_the_next_cut_has_failed():
    search = Search(factor=0.5, start_epoch=2, end_epoch=3, lowest=0.25)
    values = (0.9, 0.9, 0.9, 0.5, 0.9, 0.9, 0.9, 0.5)
    training = Training(search=search, epochs=8, patience=1).run(values, 8)
    assert training.undone == [(3, 4, 0.25), (2, 8, 0.5)]
    assert training.model.size == 1.0
    assert all(state.forgotten for state in training.model.taken)


def test_a_schedule_keeps_what_was_accepted():
    training = Training().run((0.9, 0.9, 0.9, 0.1), 8)
    assert (training.model.size, training.undone) == (0.5, [])


def test_a_cut_of_a_search_may_be_twice_as_far_below_while_the_learning_rate_has_to_fall():
    search = Search(factor=0.5, start_epoch=2, end_epoch=2, lowest=0.5)
    options = {"search": search, "epochs": 14, "patience": 1}  # strict from epoch 8 on
    line = [0.9 - 0.01 * (1 + max(8 - epoch, 0) / 6) for epoch in range(3, 15)]
    assert Training(**options).run((0.9, 0.9, *line), 14).undone == []
    for epoch in (2, 5, 8, 12):
        beyond = [0.9, 0.9, *line]
        beyond[epoch] -= 1e-4
        training = Training(**options).run(tuple(beyond), 14)
        assert training.undone == [(2, epoch + 1, 0.5)]
        worst = training.guard.undone[0].worst
        assert worst == pytest.approx(line[epoch - 2])
    unknown = Training(**options | {"epochs": math.inf}).run((0.9, 0.9, 0.889), 14)
    assert unknown.undone == [(2, 3, 0.5)], "where nobody says how long it lasts it holds at once"


def test_only_epochs_in_a_row_undo_what_was_accepted():
    search = Search(factor=0.5, start_epoch=2, end_epoch=2, lowest=0.5)
    options = {"search": search, "epochs": 14, "patience": 2}
    turns = (*(0.9,) * 10, 0.88, 0.9, 0.88, 0.9)
    assert Training(**options).run(turns, 14).undone == []
    assert Training(**options).run((*(0.9,) * 10, 0.88, 0.88, 0.9), 14).undone == [(2, 12, 0.5)]


def test_at_the_end_a_search_goes_back_until_the_last_value_was_good_enough():
    search = Search(factor=0.5, start_epoch=2, end_epoch=5, lowest=0.25)
    options = {"search": search, "epochs": 8, "patience": 2, "max_drop": 0.02}
    values = (0.9, 0.9, 0.87, 0.88, 0.88, 0.9, 0.9, 0.8)  # 0.88 at the cut to 0.25: good enough
    training = Training(**options).run(values, 8)
    assert training.undone == [(4, 8, 0.25)]
    assert training.model.size == 0.5
    values = (0.9, 0.9, 0.875, 0.9, 0.9, 0.9, 0.9, 0.8)  # 0.875 then: only while there was time
    training = Training(**options).run(values, 8)
    assert training.undone == [(3, 8, 0.25), (2, 8, 0.5)]
    assert training.model.size == 1.0
    assert all(state.forgotten for state in training.model.taken)


def test_what_was_kept_back_is_no_reason_to_go_back_at_the_end():
    search = Search(factor=0.5, start_epoch=2, end_epoch=2, lowest=0.5, margin=1.0)
    options = {"search": search, "epochs": 14, "samples": 10_000}  # 0.003 kept back of 0.01
    values = (*(0.9,) * 13, 0.8905)
    assert Training(**options, patience=2).run(values, 14).undone == []
    assert Training(**options, patience=1).run(values, 14).undone == [(2, 14, 0.5)]
    assert Training(**options, patience=2).run((*values[:-1], 0.889), 14).undone == [(2, 14, 0.5)]


# --- luck ------------------------------------------------------------------------------


def accuracies(true, epochs, seed, samples=200):
    """The accuracy of every epoch on so many samples, drawn anew: all that differs is luck."""
    return tuple(np.random.default_rng(seed).binomial(samples, true, epochs) / samples)


def share_undone(drop, band):
    """How often a cut is undone that takes so much of the true accuracy, after eight epochs."""
    undone = 0
    for seed in range(200):
        values = accuracies(0.9, 8, seed) + accuracies(0.9 - drop, 2, 1000 + seed)
        fall = PiecewiseConstant((1.0, 0.5), (0, 8))
        undone += bool(Training(fall, samples=200, band=band, tries=1).run(values, 10).undone)
    return undone / 200


def test_a_band_keeps_good_cuts_that_are_not_as_lucky_as_the_reference():
    assert share_undone(0.0, band=0.0) > 0.3
    assert share_undone(0.0, band=2.0) < 0.1
    assert share_undone(0.1, band=2.0) > 0.9, "bad ones are undone all the same"


def test_a_band_is_as_wide_as_the_samples_make_it_and_told():
    values = (0.9, 0.9, 0.87, 0.85)
    assert Training(patience=1, band=1.0, samples=100).run(values[:3], 5).undone == []
    assert Training(patience=1, band=1.0, samples=None).run(values, 4).undone[0] == (2, 3, 0.5)
    assert Training(patience=1, band=0.0, samples=100).run(values, 4).undone[0] == (2, 3, 0.5)
    training = Training(patience=1, band=0.5, samples=100).run(values, 4)
    assert training.guard.undone[0].worst == pytest.approx(0.9 - 0.01 - 0.5 * 0.03)
    (note,) = training.guard.notes
    assert "of 100 samples, so its best value of 0.9 is known to 0.03 at best" in note
    assert "0.015 was added to max_drop=0.01 (band=0.5 standard errors)" in note
    limited = Training(limit=0.88, patience=1, band=1.0, samples=100).run(values, 4)
    assert limited.guard.undone[0].worst == 0.88
    assert len(limited.guard.notes) == 0


def test_a_search_keeps_standard_errors_back_and_tells():
    search = Search(factor=0.5, start_epoch=2, end_epoch=2, margin=1.0)
    options = {"search": search, "patience": 1, "max_drop": 0.02, "sign": 1}
    values = (0.9, 0.9, 0.885)
    assert Training(**options, samples=10_000).run(values, 4).undone == []  # 0.9 - 0.02 + 0.003
    assert Training(**options, samples=None).run((0.9, 0.9, 0.881), 4).undone == []
    training = Training(**options, samples=10_000).run((0.9, 0.9, 0.881), 4)
    assert training.guard.undone[0].worst == pytest.approx(0.883)
    assert training.guard.notes[-1] == (
        "val_quality is of 10,000 samples, so its best value of 0.9 is known to 0.003 at best: "
        "0.003 of max_drop=0.02 was kept back (margin=1 standard errors)."
    )
    training = Training(**options, samples=100).run((0.9, 0.9, 0.889), 4)
    assert training.guard.undone[0].worst == pytest.approx(0.89), "at most half of the drop"
    assert (
        "standard errors are more, 0.03; 900 samples would tell so small"
        in training.guard.notes[-1]
    )
    ramp = Training(patience=1, max_drop=0.02, samples=10_000).run((0.9, 0.9, 0.881), 4)
    assert ramp.undone == [], "a schedule keeps nothing back"


ERROR = math.sqrt(0.98 * 0.02 / 5000)  # of an accuracy of 0.98


def true_loss(size):
    """Accuracy that a size costs on samples without end: 0.3 points at a quarter, 0.7 at 0.15."""
    return 0.0006 * (size**-1.35 - 1.0)


def searched(seed, **options):
    """What a search accepts at last where all networks are judged by the same 5,000 samples.

    Every budget has its luck on these, for good, every epoch has some more, which calms down as the
    learning rate falls; and a cut takes epochs to recover.

    Returns:
        What it truly loses, and how lucky it was, in standard errors.
    """
    draw, luck, age = np.random.default_rng(seed), {1.0: 0.0}, {}
    search = Search(start_epoch=12, **options)
    training = Training(
        search=search,
        foreseen=lambda _, budget: true_loss(budget) - true_loss(training.model.size),
        samples=5000,
        epochs=24,
    )

    def quality(size):
        left = 1 - len(training.sizes) / 24
        age[size] = age.get(size, -1) + 1
        luck.setdefault(size, ERROR * draw.standard_normal())
        shock = 0.004 * math.exp(-age[size]) + 0.003 * left if size < 1 else 0.0
        return 0.98 - true_loss(size) - shock + luck[size] + 0.002 * left * draw.standard_normal()

    training.run(quality, 24)
    return true_loss(training.model.size), luck[training.model.size] / ERROR


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_what_a_search_finds_loses_no_more_than_it_may_on_samples_it_never_saw(margin):
    lost, luck = np.array([searched(seed, margin=margin) for seed in range(200)]).T
    assert 0.002 < lost.mean() < 0.01, "of 0.01 that it may"
    assert np.mean(lost > 0.01) < 0.05
    assert luck.mean() < 0.5, "of what it accepts, not the best of many equally good ones"


def test_a_margin_makes_a_search_lose_less():
    lost = [np.mean([searched(seed, margin=m)[0] for seed in range(100)]) for m in (0.0, 2.0)]
    assert lost[1] < 0.6 * lost[0]


def sizes_found(tries, memory):
    """What 200 searches find whose metric is half luck, where 0.3 is the smallest that is good."""

    def found(seed):
        luck = np.random.default_rng(seed)
        training = Training(search=Search(start_epoch=2), tries=tries, epochs=24)
        training.controller._memory = memory
        training.run(lambda size: 0.9 - (size < 0.3) + 0.01 * luck.standard_normal(), 24)
        return training.model.size

    return np.array([found(seed) for seed in range(200)])


def test_bad_luck_does_not_end_a_search():
    ended = sizes_found(3, math.inf)
    goes_on = sizes_found(None, Search(start_epoch=2).memory(24))
    assert np.mean(ended > 0.45) > 1.1 * np.mean(goes_on > 0.45)
    assert goes_on.mean() < ended.mean() - 0.02
    assert goes_on.min() >= 0.3, "and good luck does not let a bad cut pass"


# --- without a guard -------------------------------------------------------------------


def test_without_a_guard_every_cut_stays():
    model = Model()
    cutter = Cutter(model, target("budget", STEPS))
    unguarded = Unguarded(cutter, ScheduleController(lambda _: 1.0))
    for epoch in range(4):
        unguarded.go_back(float(epoch))
        unguarded.act(float(epoch), epoch)
        unguarded.see_loss({"loss": NAN}, epoch)
        unguarded.see(epoch, {"val_quality": -9.0})
    unguarded.close(4.0)
    unguarded.tell_end("")
    assert (model.size, model.taken, model.restored) == (0.5, [], [])
    assert (unguarded.notes, unguarded.undone, unguarded.hindrance) == ([], (), None)
