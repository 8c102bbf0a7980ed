"""One model on its way to a target: values are passed in, what was done is a value."""

from __future__ import annotations

import dataclasses
import json

import keras
import numpy as np
import pytest
import zoo

from reducible_train import LayerRule, PiecewiseConstant
from reducible_train.compressor import Compression, History
from reducible_train.selection.decomposition_cache import DecompositionCache
from reducible_train.settings.targets import target

FALL = target("budget", PiecewiseConstant((0.8, 0.6, 0.4), (0, 1, 2)))


def test_a_cut_goes_as_far_as_it_is_told_whatever_the_schedule_says():
    told = Compression(zoo.sequential(), FALL)
    scheduled = Compression(keras.models.clone_model(told.model), FALL)
    scheduled.model.set_weights(told.model.get_weights())

    def later(goal, time):
        return goal(time + 2)

    assert told.due(0.0, later)
    record = told.cut(0.0, later)
    assert record.target == 0.4
    assert not told.due(0.0, later)
    assert told.due(0.0), "by its schedule"
    assert scheduled.cut(2.0).kernels == record.kernels


def test_each_target_is_asked_for_its_value_once():
    rules = [LayerRule("[fs]*", rank=PiecewiseConstant((9, 5), (0, 1)))]  # first, and second
    compression = Compression(zoo.sequential(), target("rank", 7), rules=rules)
    asked = []

    def value(goal, time):
        asked.append((goal(0), time))
        return {7: 6.0, 9: 3.0}[goal(0)]

    compression.cut(0.5, value)
    assert compression.report.ranks == {"first/kernel": 3, "second/kernel": 3}
    assert asked == [(7, 0.5), (9, 0.5)]


def test_a_history_kept_is_a_bookmark():
    compression = Compression(zoo.sequential(), FALL)
    compression.cut(0.0)
    kept, told = compression.history, compression.report
    energies = dict(kept.kept)
    second = compression.cut(1.0)
    assert compression.history.cuts == (*kept.cuts, second)
    assert all(compression.history.kept[path] < energy for path, energy in energies.items())
    assert (len(kept.cuts), dict(kept.kept)) == (1, energies), "a value, not changed by later cuts"
    compression.go_on_from(kept)
    assert compression.history is kept
    assert compression.report.cuts == told.cuts
    assert compression.due(1.0)
    assert not compression.due(0.0)


def test_a_history_comes_back_from_its_state():
    compression = Compression(zoo.sequential(), FALL)
    for time in (0.0, 1.0):
        compression.cut(time)
    history = compression.history.looked([0.6], {"first/kernel": "it is met without it"})
    again = History.from_state(json.loads(json.dumps(history.get_state())))
    for field in dataclasses.fields(History):
        assert getattr(again, field.name) == getattr(history, field.name), field.name
    for mine, other in zip(history.cuts, again.cuts, strict=True):
        for one, two in zip(mine.kernels, other.kernels, strict=True):
            assert one.spectrum.tolist() == two.spectrum.tolist()


def test_growth_lasts_until_the_next_look():
    history = History().looked([0.5], {}).grown(3.0, 4)
    assert (history.is_grown, history.reached, history.growths) == (True, None, ((3.0, 4),))
    after = history.looked([0.5], {})
    assert (after.is_grown, after.reached, after.growths) == (False, (0.5,), ((3.0, 4),))


def test_a_sentence_is_told_once_however_often_it_is_found():
    compression = Compression(zoo.sequential(), target("energy", 0.9999))
    assert compression.hindrance is None
    compression.cut(0.0)
    (note,) = compression.notes
    assert "leaves every kernel dense" in note
    assert compression.hindrance == note
    for value in (1.0, 0.9999):  # nothing is asked, so nothing hinders; then it does again
        compression.cut(0.0, lambda goal, time, value=value: value)
        assert compression.hindrance == (None if value == 1.0 else note)
        assert compression.notes == (note,)


def test_a_budget_that_no_kernel_shares_says_so():
    rules = [LayerRule("*", energy=0.9999)]
    compression = Compression(zoo.sequential(), target("budget", 0.6), rules=rules)
    assert compression.cut(0.0) is None
    *_, note = compression.notes
    assert note.startswith("budget=0.6 has no kernel to ask: rules give each a target")


def test_what_stays_dense_says_why_of_what_is_and_not_of_what_will_be():
    def remarks():
        return {k.path: k.remark for k in compression.report.kernels if k.remark}

    compression = Compression(zoo.sequential(), FALL)
    for look in (lambda: None, lambda: compression.cut(0.0, lambda goal, time: 0.999)):
        look()
        before = remarks()
        assert before
        compression.pull(2.0, 0.25, lambda goal, time: 0.99)
        assert remarks() == before


@pytest.mark.parametrize("measure", ["parameters", "file"])
def test_a_cut_leaves_the_survey_of_before_as_it_was(measure):
    fall = target("budget", PiecewiseConstant((0.9, 0.7, 0.5), (0, 1, 2)))
    compression = Compression(zoo.sequential(), fall, measure=measure)
    before = compression.survey
    records = {name: each.record_cost for name, each in before.cost_models.items()}
    compression.cut(0.0)
    compression.cut(1.0)
    compression.cut(2.0)
    assert {name: each.record_cost for name, each in before.cost_models.items()} == records
    if measure == "file":
        assert compression.survey.cost_models["file"].record_cost > 0


def test_what_is_foreseen_of_a_budget_is_what_its_cut_then_loses():
    compression = Compression(zoo.sequential(), FALL)
    weights = compression.model.get_weights()
    losses = [compression.foreseen_loss(0.0, value) for value in (1.0, 0.8, 0.6, 0.4)]
    assert losses[0] == 0.0
    assert losses == sorted(losses)
    np.testing.assert_equal(compression.model.get_weights(), weights)
    assert compression.history.cuts == ()
    record = compression.cut(2.0)
    assert record.target == 0.4
    assert record.certificate["objective"] == pytest.approx(losses[3])


def test_a_look_ahead_serves_the_cut_that_follows_and_no_other(monkeypatch):
    looks = []
    get = DecompositionCache.get

    def counted(cache, key, *rest):
        looks.append(key[0])
        return get(cache, key, *rest)

    monkeypatch.setattr(DecompositionCache, "get", counted)
    compression = Compression(zoo.sequential(), FALL)
    for value in (0.7, 0.6, 0.5):
        compression.foreseen_loss(0.0, value)
    compression.cut(0.0)
    assert sorted(looks) == sorted(set(looks)), "each kernel is decomposed once"
    once = len(looks)
    compression.cut(1.0)
    assert len(looks) == 2 * once, "the model is another now"
