"""Laws of rollback: what was remembered comes back bit for bit, and training goes on."""

from __future__ import annotations

import gc

import keras
import numpy as np
import pytest
import zoo
from test_transport import OPTIMIZERS

from reducible_train import FileAccessError, SurgeryError, _keras
from reducible_train.layers import find_kernels
from reducible_train.selection.scoring import decomposition
from reducible_train.surgery import snapshot as snapshots
from reducible_train.surgery.change import change_kernels, cut
from reducible_train.surgery.plans import plan_of
from reducible_train.surgery.snapshot import restore, take_snapshot

CLOCKS = ("iteration", "iterations", "learning_rate")


def to_rank(model, rank):
    kernels = [k for k in find_kernels(model) if k.shape[1] != 5]
    change_kernels(model, [cut(k, rank, decomposition(k)) for k in kernels])


def state(model):
    """Everything of a model and its optimizer that is no clock, in order, with names for people."""
    optimizer = [v for v in model.optimizer.variables if v.path.split("/")[-1] not in CLOCKS]
    return [(v.name, np.array(v)) for v in [*model.weights, *optimizer]]


def assert_same(after, before):
    for (name, a), (_, b) in zip(after, before, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


# What is clipped or scheduled in a gradient's way has the slots of Adam.
SLOTS = [name for name in OPTIMIZERS if "clip" not in name and name != "schedule"]


@pytest.mark.parametrize("name", SLOTS)
def test_every_optimizer_comes_back_from_a_split_and_from_a_truncation(name):
    model = zoo.compiled(zoo.sequential(), OPTIMIZERS[name]())
    x, y = zoo.data(model)
    zoo.step(model, x, y, 3)
    for rank in (10, 4):
        snapshot, before = take_snapshot(model), state(model)
        plan, outputs = plan_of(model), zoo.outputs(model, x)
        to_rank(model, rank)
        zoo.step(model, x, y)
        steps = int(model.optimizer.iterations)
        assert np.abs(zoo.outputs(model, x) - outputs).max() > 1e-4
        restore(model, snapshot)
        assert plan_of(model) == plan
        assert_same(state(model), before)
        np.testing.assert_array_equal(zoo.outputs(model, x), outputs)
        assert int(model.optimizer.iterations) == steps, "time is not undone"
        assert np.isfinite(zoo.step(model, x, y)).all()
        moved = [np.abs(a - b).max() for (_, a), (_, b) in zip(state(model), before, strict=True)]
        assert max(moved) > 0
        restore(model, snapshot)
        assert_same(state(model), before)
        to_rank(model, rank)
    assert plan_of(model) == {"first/kernel": 4, "second/kernel": 4}


@pytest.mark.parametrize("name", zoo.MODELS)
def test_every_model_trains_all_its_variables_after_it(name):
    trains_all_its_variables_after_it(zoo.compiled(zoo.MODELS[name]()))


@pytest.mark.traced
@pytest.mark.parametrize("name", zoo.traced_or_slow())
def test_so_it_does_in_a_graph(name):
    trains_all_its_variables_after_it(zoo.compiled(zoo.MODELS[name]()))


def trains_all_its_variables_after_it(model):
    x, y = zoo.data(model)
    model.fit(x, y, verbose=0)
    snapshot, before = take_snapshot(model), state(model)
    kinds = [type(layer) for layer in model.layers]
    to_rank(model, 3)
    model.fit(x, y, verbose=0)
    restore(model, snapshot)
    assert_same(state(model), before)
    assert [type(layer) for layer in model.layers] == kinds
    values = [np.array(v) for v in model.trainable_variables]
    model.fit(x, y, verbose=0)
    pairs = zip(model.trainable_variables, values, strict=True)
    assert min(np.abs(np.array(v) - b).max() for v, b in pairs) > 0
    np.testing.assert_allclose(zoo.predicted(model, x), zoo.outputs(model, x), atol=2e-5)


def test_the_next_steps_are_those_that_would_have_come():
    """A model that was cut, trained and put back learns as its twin that never was."""
    twins = [zoo.compiled(zoo.sequential(), keras.optimizers.SGD(0.05, 0.9)) for _ in range(2)]
    twins[1].set_weights(twins[0].get_weights())
    x, y = zoo.data(twins[0])
    for model in twins:
        model.fit(x, y, epochs=2, shuffle=False, verbose=0)
    snapshot = take_snapshot(twins[1])
    to_rank(twins[1], 2)
    twins[1].fit(x, y, epochs=2, shuffle=False, verbose=0)
    restore(twins[1], snapshot)
    losses = [m.fit(x, y, epochs=3, shuffle=False, verbose=0).history["loss"] for m in twins]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


@pytest.mark.parametrize("policy", ["float32", "bfloat16"])
def test_a_folder_keeps_the_same_bits(tmp_path, policy):
    model = zoo.of_policy(policy)
    zoo.compiled(model)
    x, y = zoo.data(model)
    model.fit(x, y, verbose=0)
    snapshot, before = take_snapshot(model, tmp_path / "guard"), state(model)
    (file,) = (tmp_path / "guard").iterdir()
    assert file.stat().st_size == snapshot.nbytes
    assert not snapshot.values
    to_rank(model, 4)
    restore(model, snapshot)
    assert_same(state(model), before)
    snapshot.forget()
    assert not list((tmp_path / "guard").iterdir())


def test_a_memory_that_is_dropped_leaves_no_file(tmp_path):
    snapshot = take_snapshot(zoo.compiled(zoo.sequential()), tmp_path)
    assert list(tmp_path.iterdir())
    del snapshot
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_refused_before_anything_changes(tmp_path):
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    model.fit(x, y, verbose=0)
    snapshot = take_snapshot(model, tmp_path)
    to_rank(model, 4)
    after = state(model)
    snapshot.file.write_bytes(snapshot.file.read_bytes()[:-1])
    with pytest.raises(FileAccessError, match="bytes that were written"):
        restore(model, snapshot)
    snapshot.forget()
    with pytest.raises(FileAccessError, match="cannot be read"):
        restore(model, snapshot)
    assert_same(state(model), after)


def test_a_folder_that_cannot_be_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileAccessError, match="another folder"):
        take_snapshot(zoo.compiled(zoo.sequential()), tmp_path / "file" / "deeper")


def test_another_optimizer_is_refused_by_name_and_the_model_stays_as_it_was():
    model = zoo.compiled(zoo.sequential(), "sgd")
    snapshot = take_snapshot(model)
    zoo.compiled(model, "adam")
    to_rank(model, 4)
    model.fit(*zoo.data(model), verbose=0)
    plan, before = plan_of(model), state(model)
    with pytest.raises(SurgeryError, match=r"^Model 'stack' has other variables.*_momentums"):
        restore(model, snapshot)
    assert plan_of(model) == plan
    assert_same(state(model), before)
    model.fit(*zoo.data(model), verbose=0)


def interrupted_once(act, number, *, after):
    """What is interrupted at one of its calls: before it begins, or when it is done."""
    calls = []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) != number:
            return act(*args, **kwargs)
        if after:
            act(*args, **kwargs)
        raise KeyboardInterrupt

    return interrupted


PLACES = {
    "plan": (snapshots, "apply_plan", 1),
    "functions": (_keras, "rebuild_functions", 1),
    "dead variables": (_keras, "release", 1),
    "first value": (keras.Variable, "assign", 1),
    "a late value": (keras.Variable, "assign", 24),
}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_an_interruption_leaves_a_whole_model_of_before_or_after_it(monkeypatch, place, after):
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    zoo.step(model, x, y)
    snapshot, whole = take_snapshot(model), {0: state(model)}
    to_rank(model, 4)
    model.fit(x, y, verbose=0)
    whole[2], stale = state(model), model.train_function
    where, name, number = PLACES[place]
    with monkeypatch.context() as patch:
        patch.setattr(where, name, interrupted_once(getattr(where, name), number, after=after))
        with pytest.raises(KeyboardInterrupt):
            restore(model, snapshot, training=True)
    now = whole[len(plan_of(model))]
    assert_same(state(model), now)
    is_untouched = place == "plan" and not after
    assert (model.train_function is stale) == is_untouched
    model.fit(x, y, verbose=0)
    assert not np.array_equal(model.get_weights()[0], now[0][1]), "it trains what is there"
    restore(model, snapshot)
    assert_same(state(model), whole[0])


def test_an_optimizer_not_built_yet_is_remembered_too():
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    snapshot = take_snapshot(model)
    before = state(model)
    model.fit(x, y, verbose=0)
    restore(model, snapshot)
    assert_same(state(model), before)
