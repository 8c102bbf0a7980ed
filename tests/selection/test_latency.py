"""Laws of a budget of time, with a clock that counts."""

from __future__ import annotations

import random
import re

import keras
import numpy as np
import pytest
import zoo

from reducible_train import (
    ArgumentError,
    Latency,
    LayerRule,
    RankError,
    RankScheduler,
    _keras,
    factorize,
)
from reducible_train.compressor import Compression
from reducible_train.config import parse_config
from reducible_train.errors import ConfigError
from reducible_train.selection.costs.latency import LatencyCosts, never_falling, stopwatch
from reducible_train.selection.survey import survey
from reducible_train.settings.targets import target

FIXED = 30.0  # of every matrix product


class Timer:
    """Time by the size of the outputs' layers: a fixed part, and a second for each number."""

    def __init__(self, noise=0.0):
        self.rounds = []
        self.called = 0
        self.noise = np.random.default_rng(0), noise

    def __call__(self, calls, rounds):
        self.rounds.append((len(calls), rounds))
        return [self.seconds(call) for call in calls]

    def seconds(self, call):
        self.called += 1
        call()  # must work
        layer = call.layer
        numbers = [v for v in layer.weights if len(v.shape) > 1]
        rng, noise = self.noise
        time = sum(float(np.prod(v.shape)) + FIXED for v in numbers)
        return time * (1 + noise * rng.random())


class Slow(Timer):
    """Factors take longer than any kernel."""

    def seconds(self, call):
        numbers = [v for v in call.layer.weights if len(v.shape) > 1]
        return super().seconds(call) + (1e6 if len(numbers) > 1 else 0)


class Wavering(Timer):
    """Factors take a little longer than any kernel."""

    def seconds(self, call):
        return super().seconds(call) + (2000 if hasattr(call.layer, "rank") else 0)


def law(kernel, rank):
    m, n = kernel.shape
    return m * n + FIXED if rank is None else rank * (m + n) + 2 * FIXED


def tables(model, **options):
    timer = Timer()
    goal = target("budget", 1.0)
    latency = Latency(timer=timer, **options)
    compression = Compression(model, goal, measure=latency)
    return compression.survey.cost_models["latency"].tables, compression, timer


def test_costs_are_those_of_the_layer_itself_interpolated_in_the_rank():
    found, compression, timer = tables(zoo.sequential(), batch_size=3, rounds=2)
    assert {rounds for _, rounds in timer.rounds} == {2}
    for compressible in compression.survey.compressible:
        table = found[compressible.kernel.path, ""]
        assert table.dense == law(compressible.kernel, None)
        limit = compressible.factorization.max_rank
        expected = [law(compressible.kernel, rank) for rank in range(1, limit + 1)]
        np.testing.assert_allclose(table.ranks[1 : limit + 1], expected)
        assert law(compressible.kernel, limit) < table.dense <= law(compressible.kernel, limit + 1)


def test_what_stays_dense_is_timed_once_and_counts():
    found, compression, _ = tables(zoo.sequential())
    output = next(k for k in compression.survey.kernels if k.path == "output/kernel")
    assert found["output/kernel", ""].dense == law(output, None)
    total = compression.survey.dense_total("latency")
    assert total == sum(law(k, None) for k in compression.survey.kernels)


def test_layers_that_are_alike_are_timed_once_and_shared_ones_count_each_call():
    layers = keras.layers
    shared = layers.Dense(24, name="shared")
    inputs = keras.Input((24,))
    x = layers.Dense(24, name="twin")(shared(shared(inputs)))
    model = keras.Model(inputs, layers.Dense(3)(x))
    found, compression, timer = tables(model)
    dense = law(compression.survey.compressible[0].kernel, None)
    assert found["shared/kernel", ""].dense == 2 * dense
    assert found["twin/kernel", ""].dense == dense
    assert len(timer.rounds) == 2, "shared and twin, and the output"


def cells():
    return keras.Sequential([keras.Input((5, 12)), keras.layers.LSTM(12), keras.layers.Dense(2)])


def images():
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 6)),
            layers.Conv2D(16, 3),
            layers.SeparableConv2D(16, 3),
            layers.Conv2DTranspose(16, 3),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )


def words():
    layers = keras.layers
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(40, 16)(inputs)
    x = layers.MultiHeadAttention(2, 8)(x, x)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@pytest.mark.parametrize("make", [cells, images, words])
def test_every_kind_of_layer_can_be_called_by_itself(make):
    model = make()
    before = [np.array(v) for v in model.weights]
    found, compression, _ = tables(model)
    assert all(table.dense > 0 for table in found.values())
    assert all((np.diff(table.ranks) >= 0).all() for table in found.values())
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new)
    if make is cells:
        paths = [k.path for k in compression.survey.kernels if "lstm" in k.path]
        assert [found[path, ""].dense for path in paths] == [5 * (12 * 48 + FIXED)] * 2
    if make is images:
        conv = next(k for k in compression.survey.kernels if len(k.splits) == 2)
        assert len({found[conv.path, split].dense for split in conv.splits}) == 1


def test_a_budget_of_time_is_kept_and_solved_exactly():
    model = zoo.sequential()
    report = factorize(model, budget=0.75, measure=Latency(timer=Timer()), allocation="knapsack")
    dense = sum(
        law(k, None) for k in Compression(zoo.sequential(), target("rank", 1)).survey.kernels
    )
    _, after, _ = tables(model)
    now = after.survey.total("latency")
    assert 0.7 * dense < now <= 0.75 * dense
    assert report.cuts[0].certificate["gap"] == 0.0
    assert f"{1e3 * dense:.3g} ms dense, {1e3 * now:.3g} ms at these ranks" in str(report)
    assert "on batches of 32" in str(report)


def test_noise_does_not_make_a_larger_rank_cheaper():
    timer = Timer(noise=0.5)
    compression = Compression(zoo.sequential(), target("budget", 1.0), measure=Latency(timer=timer))
    for table in compression.survey.cost_models["latency"].tables.values():
        assert (np.diff(table.ranks) >= 0).all()


def test_a_layer_that_gets_no_faster_stays_dense_with_the_reason():
    words = "no rank of a 24 x 32 kernel saves enough seconds of latency, though up to 13 would of"
    for budget in (0.5, {"parameters": 0.5, "latency": 0.9}):
        with pytest.raises(
            RankError, match=f"nothing to compress where latency must fall.*{words}"
        ) as told:
            factorize(zoo.sequential(), budget, measure=Latency(timer=Slow()))
        assert str(told.value).endswith(
            "To have kernels cut, ask for parameters in place of latency."
        )


@pytest.mark.parametrize("budget", [0.5, {"parameters": 0.3, "latency": 0.9}])
def test_a_budget_that_some_layers_meet_no_faster_says_what_keeps_them_dense(budget):
    class Wide(Slow):
        def seconds(self, call):
            return super().seconds(call) if call.layer.units == 32 else Timer.seconds(self, call)

    model = keras.Sequential(
        [keras.Input((24,)), *(keras.layers.Dense(n, name=f"d{n}") for n in (32, 24, 4))]
    )
    with pytest.raises(RankError, match="smallest possible") as told:
        factorize(model, budget, measure=Latency(timer=Wide()))
    words = (
        "ask for parameters in place of latency, of which factors of d32/kernel would save nothing"
    )
    assert words in str(told.value).splitlines()[0]


@pytest.mark.parametrize("budget", [{"latency": 1.0}, {"parameters": 0.9, "latency": 1.0}])
def test_a_budget_of_all_the_time_asks_nothing_of_factors_that_a_clock_finds_slow(budget):
    model = zoo.compiled(zoo.sequential())
    factorize(model, rank=3)
    asked = RankScheduler(budget, measure=Latency(timer=Wavering())).settings
    compression = Compression(model, asked.target, measure=asked.measures, trains=False)
    compression.cut(0.0)
    ranks = [m.kernel.rank for m in compression.survey.compressible]
    assert set(ranks) == {3}
    assert compression.survey.total("latency") > compression.survey.dense_total("latency")
    assert compression.progress.unmet() is None


def test_what_keeps_a_budget_of_time_from_being_met_is_told_truly():
    """No layer stays dense, so none can be factorised; the least calls take is the rest."""
    rules = [LayerRule("*", keep_dense=False)]
    with pytest.raises(RankError, match="in calls of factors at their smallest ranks") as told:
        factorize(zoo.sequential(), 0.05, measure=Latency(timer=Timer()), rules=rules)
    line = str(told.value).splitlines()[0]
    assert "no layer stays dense" in line
    assert line.endswith("Raise it.")


def test_a_time_of_more_than_a_second_is_not_rounded_to_whole_ones():
    class Quick(Timer):
        def seconds(self, call):
            return super().seconds(call) / 300

    with pytest.raises(RankError, match="smallest possible cost in seconds") as told:
        factorize(zoo.sequential(), cost=0.1, measure=Latency(timer=Quick()))
    said = float(re.search(r" is (\S+)", str(told.value)).group(1))
    assert said > 1
    factorize(zoo.sequential(), cost=said, measure=Latency(timer=Quick()))
    with pytest.raises(RankError, match="smallest possible"):
        factorize(zoo.sequential(), cost=said - 0.001, measure=Latency(timer=Quick()))


def test_a_fit_goes_down_to_its_cost_and_draws_the_same_random_numbers():
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    kernels = Compression(model, target("rank", 1)).survey.kernels
    dense = sum(law(k, None) for k in kernels)
    scheduler = RankScheduler(cost=0.75 * dense, measure=Latency(timer=Timer()))
    other = zoo.sequential()
    random.seed(3)
    expected = random.Random(3).random()
    Compression(other, target("budget", 1.0), measure=Latency(timer=Timer()))
    assert random.random() == expected
    model.fit(x, y, epochs=1, callbacks=[scheduler], verbose=0)
    _, after, _ = tables(model)
    assert after.survey.total("latency") <= 0.75 * dense


def test_the_least_possible_time_is_told():
    with pytest.raises(RankError, match=r"smallest possible cost in seconds of latency .* is \d+"):
        factorize(zoo.sequential(), cost=1.0, measure=Latency(timer=Timer()))


def test_the_real_clock_times_real_layers():
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(512, name="wide"), keras.layers.Dense(2)]
    )
    found = survey(model)
    forms = {m.kernel.path: m.forms for m in found.compressible}
    calls = _keras.trace_calls(model, [k.layer for k in found.kernels])
    measure = Latency(batch_size=2, rounds=1)
    table = LatencyCosts.of(measure, model, found.kernels, forms, calls).tables["wide/kernel", ""]
    assert 0 < table.dense < 10
    assert (table.ranks[1:] > 0).all()
    assert stopwatch([lambda: None], 3)[0] > 0


def test_never_falling_is_the_nearest_such_sequence(rng):
    values = rng.normal(size=12)
    found = never_falling(values)
    assert (np.diff(found) >= 0).all()
    assert found.sum() == pytest.approx(values.sum())
    for _ in range(50):
        other = np.sort(found + 0.1 * rng.normal(size=12))
        assert ((found - values) ** 2).sum() <= ((other - values) ** 2).sum() + 1e-12


def test_what_cannot_be_timed_is_refused_before_anything_is_cut():
    for make in (lambda: Latency(batch_size=0), lambda: Latency(rounds=1.5)):
        with pytest.raises(ArgumentError, match="whole number, at least 1"):
            make()
    lengths = keras.Sequential(
        [keras.Input((None, 24)), keras.layers.Dense(32, name="d"), keras.layers.Dense(2)]
    )
    with pytest.raises(ArgumentError, match=r"whole input shapes.*'d'.*input_shape="):
        factorize(lengths, budget=0.5, measure="latency")
    with pytest.raises(ArgumentError, match="cannot be traced without data"):
        LatencyCosts.of(Latency(), lengths, [], {}, None)

    def broken(calls, rounds):
        raise RuntimeError("out of order")

    with pytest.raises(ArgumentError, match=r"'first' \(Dense\) cannot be timed.*out of order"):
        factorize(zoo.sequential(), budget=0.5, measure=Latency(timer=broken))


def test_a_file_says_how_to_measure():
    config = parse_config({"compression": {"budget": 0.5, "measure": "latency"}})
    assert config.callbacks()[0].measure == Latency()
    measure = {"name": "latency", "batch_size": 1, "rounds": 3}
    config = parse_config({"compression": {"budget": 0.5, "measure": measure}})
    assert config.callbacks()[0].measure == Latency(1, 3)
    with pytest.raises(ConfigError, match=r"measure.batch_size: batch_size must be at least 1"):
        parse_config({"compression": {"budget": 0.5, "measure": measure | {"batch_size": 0}}})


def test_other_layers_may_be_kept_out():
    rules = [LayerRule("first", keep_dense=True)]
    report = factorize(zoo.sequential(), budget=0.8, measure=Latency(timer=Timer()), rules=rules)
    assert list(report.ranks) == ["second/kernel"]


@pytest.mark.parametrize("measure", ["latency", {"name": "latency", "rounds": 1}])
def test_a_file_is_checked_without_a_clock(measure, monkeypatch):
    def measured(*_):
        pytest.fail("measured")

    monkeypatch.setattr(LatencyCosts, "of", measured)
    for goal in ({"budget": 0.5}, {"cost": 1e-5}, {"search": {"factor": 0.5}}):
        guard = {"guard": {"max_drop": 0.1}} if "search" in goal else {}
        config = parse_config({"compression": {**goal, **guard, "measure": measure}})
        config.check(zoo.sequential())
    with pytest.raises(ConfigError, match=r"compression.*has nothing to compress"):
        config.check(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))


class Own(keras.layers.Dense):
    """A subclass."""


def test_what_is_not_timed_is_named():
    layers = [keras.layers.Dense(24, name=name) for name in "ab"]
    model = keras.Sequential([keras.Input((24,)), Own(24, name="own"), *layers])
    assert not told_of_time(model, "It is without own/kernel.")
    model.get_layer("a").quantize("int8")
    assert not told_of_time(model, "It is without a/kernel, own/kernel.")


def told_of_time(model, words):
    """The notes on latency that do not say these words."""
    rules = [LayerRule("b", keep_dense=False)]
    report = factorize(model, 1.0, measure=Latency(timer=Timer()), rules=rules)
    return [note for note in report.notes if note.startswith("Latency") and words not in note]
