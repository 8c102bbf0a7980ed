"""Laws of the default: the best judge that model and data allow, and the report says why not."""

from __future__ import annotations

import re
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
import zoo

from reducible_train import ArgumentError, LayerRule, Ramp, RankScheduler, factorize
from reducible_train.selection import judge, scoring, statistics
from reducible_train.selection.calibration import drawn


def data(samples=120, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, 24)).astype("float32")
    return x, rng.integers(4, size=samples)


def mlp(*, compiled=True):
    model = keras.Sequential(
        [
            keras.Input((24,)),
            keras.layers.Dense(32, activation="relu", name="first"),
            keras.layers.Dense(28, activation="relu", name="second"),
            keras.layers.Dense(4, name="output"),
        ]
    )
    return zoo.compiled(model) if compiled else model


def judges(report):
    """The criteria by which kernels were cut."""
    return {kernel.criterion for cut in report.cuts for kernel in cut.kernels}


X, Y = data()
REASONS = {
    "data with targets": ({"calibration": (X, Y)}, True, "fisher", None),
    "inputs alone": ({"calibration": X}, True, "activation", r"not by 'fisher'.*\(x, y\)"),
    "no loss": ({"calibration": (X, Y)}, False, "activation", r"not by 'fisher'.*not compiled"),
    "no data": ({}, True, "frobenius", r"no data.*calibration=\(x, y\)"),
}


@pytest.mark.parametrize("case", REASONS)
def test_the_best_judge_is_taken_that_the_data_allow(case):
    given, compiled, criterion, note = REASONS[case]
    report = factorize(mlp(compiled=compiled), 0.5, **given)
    assert judges(report) == {criterion}
    told = " ".join(report.notes)
    assert re.search(note, told) if note else not told


ADVANTAGES = np.random.default_rng(1).normal(size=len(X)).astype("float32")


@pytest.mark.parametrize("source", ["arrays", "dataset", "calibration"])
def test_weights_below_0_are_taken_by_default_and_told(source):
    """As advantages are, of a gradient of a policy."""
    model, weighted = mlp(), (X, Y, ADVANTAGES)
    if source == "calibration":
        report = factorize(model, 0.5, calibration=weighted)
    else:
        scheduler = RankScheduler(0.5)
        x, y, weight = weighted
        if source == "dataset":
            x, y, weight = tf.data.Dataset.from_tensor_slices(weighted).batch(24), None, None
        model.fit(x, y, sample_weight=weight, shuffle=False, verbose=0, callbacks=[scheduler])
        report = scheduler.report
    told = [note for note in report.notes if "finite and at least 0" in note]
    assert judges(report) == {"fisher"}
    assert len(told) == 1
    assert "count once each" in told[0]


def test_weights_below_0_are_refused_by_a_criterion_that_is_asked_for():
    scheduler = RankScheduler(0.5, criterion="activation")
    with pytest.raises(ArgumentError, match="finite and at least 0"):
        mlp().fit(X, Y, sample_weight=ADVANTAGES, verbose=0, callbacks=[scheduler])


def test_the_loss_of_the_report_is_that_of_evaluate_where_weights_are_below_0():
    model, scheduler = mlp(), RankScheduler(0.5)
    dataset = tf.data.Dataset.from_tensor_slices((X, Y, ADVANTAGES)).batch(24)
    model.fit(dataset, validation_data=dataset, shuffle=False, verbose=0, callbacks=[scheduler])
    told = model.evaluate(dataset, verbose=0, return_dict=True)["loss"]
    assert scheduler.report.answers.metrics["loss"] == pytest.approx(told, abs=1e-5)


@pytest.mark.parametrize("in_fit", [False, True])
def test_samples_of_the_user_that_the_model_cannot_be_called_on_are_refused(in_fit):
    model, words = mlp(), np.array([["a"] * 24] * 9)
    weights = model.get_weights()
    scheduler = RankScheduler(0.5, calibration=words)
    fit = partial(model.fit, X, Y, verbose=0, callbacks=[scheduler])
    cuts = fit if in_fit else partial(factorize, model, 0.5, calibration=words)
    with pytest.raises(ArgumentError, match=r"cannot be run on the calibration samples.*Cast"):
        cuts()
    for after, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(after, before)


def test_targets_of_another_loss_are_named_as_what_does_not_fit():
    """Not the model, which can be run, and is judged by its inputs then."""
    one_hot, model = np.eye(4, dtype="float32")[Y], mlp()
    before = model.get_weights()
    told = r"loss of model .* with the targets.*\(None, 4\) for outputs of shape \(None, 4\)"
    with pytest.raises(ArgumentError, match=told):
        factorize(model, 0.5, calibration=(X, one_hot), criterion="fisher")
    for one, after in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, after)
    report = factorize(model, 0.5, calibration=(X, one_hot))
    notes = " ".join(report.notes)
    assert judges(report) == {"activation"}
    assert re.search(f"not by 'fisher': The {told}", notes)
    assert "Loss and metrics were not measured" in notes
    assert "cannot be run" not in notes
    assert report.cuts[0].output_error is not None


def test_by_data_a_budget_is_shared_by_the_knapsack_and_without_by_energy():
    """Each is what its criterion gives where the allocation is named."""
    for given, named in (
        ({"calibration": (X, Y)}, {"criterion": "fisher", "allocation": "knapsack"}),
        ({}, {"criterion": "frobenius", "allocation": "equal_energy"}),
    ):
        model, other = mlp(), mlp()
        other.set_weights(model.get_weights())
        assert factorize(model, 0.4, **given).ranks == factorize(other, 0.4, **given, **named).ranks


@pytest.mark.parametrize("target", [{"energy": 0.8}, {"rtol": 0.4}])
def test_an_energy_means_the_same_for_any_data(target):
    model, other = mlp(), mlp()
    other.set_weights(model.get_weights())
    report = factorize(model, **target, calibration=(X, Y))
    assert judges(report) == {"frobenius"}
    assert not report.notes
    assert report.ranks == factorize(other, **target).ranks


def test_calibration_of_another_model_is_refused_not_done_without():
    model = mlp()
    before = model.get_weights()
    with pytest.raises(ArgumentError, match=r"\(None, 24\). Received: \(9, 7\)"):
        factorize(model, 0.5, calibration=(np.ones((9, 7)), np.zeros(9)))
    for one, after in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, after)


def told_of(monkeypatch, telling):
    """Have layers tell of their data if `telling` of path and needs."""
    heard = statistics.can_be_observed
    for each in (statistics, scoring, judge):
        monkeypatch.setattr(
            each, "can_be_observed", lambda k, needs: telling(k.path, needs) and heard(k, needs)
        )


def test_a_kernel_that_a_judge_cannot_tell_of_gives_way_to_one_that_can(monkeypatch):
    """Energies of two kinds are not added up."""
    told_of(monkeypatch, lambda path, needs: "gradients" not in needs or "second" in path)
    report = factorize(mlp(), 0.5, calibration=(X, Y))
    assert judges(report) == {"activation"}
    assert any("not by 'fisher', which cannot tell" in note for note in report.notes)


@pytest.mark.parametrize("silent", ["first", "second"])
def test_a_kernel_that_nobody_can_tell_of_leaves_the_others_their_judge(silent, monkeypatch):
    """Whatever part it is: by one energy for all, what is heard would be cut by another unit."""
    made, kind = [], judge.Judge
    monkeypatch.setattr(judge, "Judge", lambda *given: made.append(kind(*given)) or made[-1])
    told_of(monkeypatch, lambda path, needs: silent not in path)
    report = factorize(mlp(), 0.5, calibration=(X, Y))
    by = {k.path.split("/")[0]: k.criterion for cut in report.cuts for k in cut.kernels}
    assert by.pop(silent) == "frobenius"
    assert set(by.values()) == {"fisher"}
    assert (made[-1].allocation, made[-1].least) == ("knapsack", judge.FEW)


def test_kernels_that_tell_nothing_at_all_are_shared_by_equal_energy(monkeypatch):
    told_of(monkeypatch, lambda path, needs: False)
    model, other = mlp(), mlp()
    other.set_weights(model.get_weights())
    assert factorize(model, 0.5, calibration=(X, Y)).ranks == factorize(other, 0.5).ranks


@pytest.mark.parametrize("source", ["arrays", "batches"])
def test_a_fit_has_data_of_its_own(source):
    x, y = data(300)
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
    given = {"arrays": {"x": x, "y": y}, "batches": {"x": batches}}[source]
    scheduler = RankScheduler(0.5)
    mlp().fit(**given, epochs=1, shuffle=False, verbose=0, callbacks=[scheduler])
    assert judges(scheduler.report) == {"fisher"}
    assert scheduler.report.cuts[0].step == 0


def test_a_fit_of_a_model_nobody_can_listen_to_goes_on_by_energy():
    """One that trains its parts has no call."""

    class Parts(keras.Model):
        def __init__(self):
            super().__init__()
            self.part = mlp(compiled=False)
            self.loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

        def train_step(self, given):
            x, y = given
            with tf.GradientTape() as tape:
                loss = self.loss_of(y, self.part(x, training=True))
            variables = self.part.trainable_variables
            self.optimizer.apply_gradients(
                zip(tape.gradient(loss, variables), variables, strict=True)
            )
            return {"loss": loss}

    model = Parts()
    model.compile("adam")
    scheduler = RankScheduler(0.5)
    model.fit(X, Y, epochs=1, verbose=0, callbacks=[scheduler])
    assert judges(scheduler.report) == {"frobenius"}
    assert any("cannot be called" in note for note in scheduler.report.notes)


def test_a_judge_that_was_asked_for_is_not_replaced():
    with pytest.raises(ArgumentError, match=r"needs data to judge by"):
        factorize(mlp(), 0.5, criterion="activation")
    with pytest.raises(ArgumentError, match=r"`criterion` must be one of 'auto', 'activation'"):
        RankScheduler(0.5, criterion="best")
    with pytest.raises(ArgumentError, match=r"`allocation` must be one of 'auto', 'equal_energy'"):
        RankScheduler(0.5, allocation="fair")


def test_weights_of_zero_are_not_drawn_and_large_samples_are_fewer():
    x, y = data(400)
    weight = np.zeros(400)
    weight[::4] = 1.0
    assert len(drawn(x, y, weight)) == 100
    wide = np.broadcast_to(np.float32(1.0), (3000, 2**20))  # 4 MiB each, and no memory
    assert len(drawn(wide[:200, :], y[:200], None, count=3)) == 3
    assert len(drawn(wide[:, : 2**16], np.zeros(3000), None)) == 1023  # targets count as well


def uneven(*rates):
    """Hidden kernels of which the data uses some directions only, by how fast these fade."""
    sizes = [keras.layers.Dense(64, name=f"hidden_{i}") for i in range(len(rates))]
    model = keras.Sequential([keras.Input((64,)), *sizes, keras.layers.Dense(4, name="output")])
    rng = np.random.default_rng(0)
    for layer, rate in zip(sizes, rates, strict=True):
        left, right = (np.linalg.qr(rng.normal(size=(64, 64)))[0] for _ in range(2))
        layer.kernel.assign(left * rate ** np.arange(64) @ right)
    return zoo.compiled(model)


STEEP = (0.05, 0.95, 0.95)  # the first hidden kernel loses next to nothing at rank 1


def ranks(budget, *, rates=STEEP, **settings):
    x = np.random.default_rng(0).normal(size=(400, 64)).astype("float32")
    given = {"criterion": "activation", "calibration": x} | settings
    return list(factorize(uneven(*rates), budget, **given).ranks.values())


def test_by_default_every_kernel_keeps_a_few_ranks_while_there_is_room():
    assert min(ranks(0.2, allocation="knapsack")) < 4
    assert min(ranks(0.2)) == 4
    for budget, few in ((0.15, 3), (0.12, 2), (0.08, 1)):
        found = ranks(budget)
        assert min(found) == few, "fewer where the budget has no room for more"


def test_what_a_rule_says_of_ranks_is_exact_for_its_layers():
    rules = [LayerRule("hidden_0", min_rank=1)]
    assert ranks(0.2, rules=rules)[0] < 4 <= min(ranks(0.2, rules=rules)[1:])
    assert ranks(0.2, rules=[LayerRule("hidden_0", max_rank=2)])[0] == 2
    assert ranks(0.3, rules=[LayerRule("hidden_0", min_rank=9)])[0] == 9
    assert set(ranks(0.3, multiple=8)) <= {8, 16, 24}


def test_a_group_keeps_as_many_as_each_of_its_kernels_can():
    x = np.random.default_rng(0).normal(size=(400, 64)).astype("float32")
    given = {"criterion": "activation", "calibration": x}
    model, group = uneven(0.95, 0.95, 0.95), [LayerRule("hidden_[01]", group="pair")]
    first = [LayerRule("hidden_0", rank=3), LayerRule("hidden_1", rank=6)]
    factorize(model, 0.9, rules=first, **given)
    report = factorize(model, 0.12, rules=group, **given)
    assert report.ranks["hidden_0/kernel"] == report.ranks["hidden_1/kernel"] <= 3
    told = [LayerRule("hidden_0", group="pair"), LayerRule("hidden_1", group="pair", min_rank=1)]
    report = factorize(uneven(0.05, 0.05, 0.95), 0.2, rules=told, **given)
    assert report.ranks["hidden_0/kernel"] == report.ranks["hidden_1/kernel"] < 4
    assert min(ranks(0.2, rates=(0.05, 0.05, 0.95), rules=group)) == 4


def test_a_ramp_keeps_them_to_its_end():
    x = np.random.default_rng(0).normal(size=(400, 64)).astype("float32")

    def least(allocation):
        falls = Ramp(1.0, 0.2, 0, 2)
        scheduler = RankScheduler(falls, criterion="activation", allocation=allocation)
        model = uneven(*STEEP)
        model.optimizer.learning_rate = 1e-6
        model.fit(x, np.zeros((400, 1)), epochs=3, verbose=0, callbacks=[scheduler])
        return min(scheduler.report.ranks.values())

    assert least("knapsack") < least("auto") == 4
