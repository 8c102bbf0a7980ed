"""Laws of a fit's time: turns of a cadence, time within an epoch, seconds counted once."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from reducible_train.settings.cadence import Cadence
from reducible_train.training.clock import Clock, counting, timed


def turns(cadence, *, params=None, epochs=3, steps=4, at_once=1, first=0):
    """The times of all turns of a fit."""
    clock = Clock(cadence, params or {}, SimpleNamespace(steps_per_execution=at_once))
    found = []
    for epoch in range(first, epochs):
        clock.begin_epoch(epoch)
        for batch in range(0, steps, at_once):
            if clock.is_turn(opens=clock.open_epoch()):
                found.append(clock.take_turn(batch))
            clock.end_step(batch + at_once - 1)
        clock.end_epoch()
    return found


@pytest.mark.parametrize(
    ("cadence", "options", "expected"),
    [
        (Cadence(epochs=1), {}, [0, 1, 2]),
        (Cadence(epochs=2), {"epochs": 5}, [0, 2, 4]),
        (Cadence(epochs=2), {"first": 1, "epochs": 5}, [2, 4]),
        (Cadence(steps=2), {"params": {"steps": 4}, "epochs": 2}, [0, 0.5, 1, 1.5]),
        (Cadence(steps=3), {"params": {"steps": 4}}, [0, 0.75, 1.5, 2.25]),
        (Cadence(steps=2), {"epochs": 2}, [0, 0, 1, 1.5]),  # of unknown length: its beginning
        (Cadence(steps=2), {"params": {"steps": 4}, "at_once": 4, "epochs": 2}, [0, 1]),
    ],
    ids=str,
)
def test_turns_come_as_the_cadence_says(cadence, options, expected):
    assert turns(cadence, **options) == expected


@pytest.mark.parametrize(
    ("params", "batches", "untimed"),
    [({}, (0,), False), ({}, (0, 2), True), ({"steps": 4}, (0, 2), False), ({}, (0, 4), False)],
)
def test_a_turn_within_an_epoch_of_unknown_length_is_untimed(params, batches, untimed):
    clock = Clock(Cadence(steps=2), params, SimpleNamespace(steps_per_execution=1))
    clock.begin_epoch(0)
    for step in batches:
        if step == 4:
            clock.end_epoch()
            clock.begin_epoch(1)
        clock.take_turn(step % 4)
        clock.end_step(step % 4 + 1)
    assert clock.untimed == untimed


def test_steps_at_once_that_do_not_divide_an_epoch_count_as_whole_calls():
    cadence, params = Cadence(steps=1), {"steps": 3}
    assert turns(cadence, params=params, at_once=2, epochs=1) == [0, 0.5]


def test_an_epoch_without_a_step_was_not_trained():
    clock = Clock(Cadence(epochs=1), {"epochs": 2}, SimpleNamespace(steps_per_execution=1))
    clock.begin_epoch(0)
    clock.end_step(0)
    clock.end_epoch()
    clock.begin_epoch(1)
    clock.end_epoch()
    assert (clock.trained, clock.step, clock.epoch_length, clock.epochs) == (1, 1, 0, 2)


def test_seconds_within_seconds_count_once():
    class Owner:
        seconds = 1.0

        @timed
        def outer(self):
            self.inner()
            with counting(self):
                time.sleep(0.05)

        @timed
        def inner(self):
            time.sleep(0.05)

        @timed
        def failing(self):
            time.sleep(0.05)
            raise ValueError("late")

    owner = Owner()
    owner.outer()
    assert 0.1 <= owner.seconds - 1.0 < 0.19
    before = owner.seconds
    with pytest.raises(ValueError, match="late"):
        owner.failing()
    assert owner.seconds >= before + 0.05
