"""Laws of the targets that a model is brought to."""

from __future__ import annotations

import json
import re

import keras
import numpy as np
import pytest
import zoo

from reducible_train import (
    ArgumentError,
    Cadence,
    Constant,
    LayerRule,
    PiecewiseConstant,
    Ramp,
    RankError,
    RankScheduler,
    Search,
    factorize,
    load_model,
    merge,
    save_model,
)
from reducible_train.compressor import Compression
from reducible_train.config import parse_config
from reducible_train.errors import ConfigError
from reducible_train.layers import dense_file_bytes, find_kernels
from reducible_train.settings.measures import FileSize
from reducible_train.settings.targets import one_target, target
from reducible_train.training.target_controllers import ScheduleController


def steep(decay=0.5):
    """The sequential model of the zoo, with spectra `decay**i`."""
    model = zoo.compiled(zoo.sequential())
    rng = np.random.default_rng(0)
    for kernel in find_kernels(model):
        m, n = kernel.shape
        left, right = (np.linalg.qr(rng.normal(size=(k, min(m, n))))[0] for k in (m, n))
        kernel.variables[0].assign(left * decay ** np.arange(min(m, n)) @ right.T)
    return model


# --- a relative error ---------------------------------------------------------------------


def error_of(model, dense, path):
    kernel = next(k for k in find_kernels(model) if k.path == path)
    u, v = (m[0].astype("float64") for m in kernel.matrices())
    return np.linalg.norm(dense[path] - u @ v) / np.linalg.norm(dense[path])


@pytest.mark.parametrize("rtol", [0.02, 0.1, 0.4])
def test_every_kernel_stays_within_its_error_and_could_not_be_smaller(rtol):
    model = steep()
    dense = {k.path: k.matrices()[0][0].astype("float64") for k in find_kernels(model)}
    report = factorize(model, rtol=rtol)
    (cut,) = report.cuts
    assert {k.path for k in cut.kernels} == {"first/kernel", "second/kernel"}
    for record in cut.kernels:
        assert record.binding == "rtol"
        assert error_of(model, dense, record.path) <= rtol + 1e-6
        one_less = np.linalg.norm(record.spectrum[record.rank - 1 :])
        assert one_less > rtol * np.linalg.norm(record.spectrum)


def test_an_error_is_the_energy_it_stands_for():
    by_error, by_energy = (factorize(steep(0.8), **t) for t in ({"rtol": 0.3}, {"energy": 0.91}))
    assert by_error.ranks == by_energy.ranks != {}


def test_errors_add_up_over_the_cuts_of_a_rising_schedule():
    model = steep(0.8)
    dense = {k.path: k.matrices()[0][0].astype("float64") for k in find_kernels(model)}
    x, y = zoo.data(model)
    model.optimizer.learning_rate = 0.0
    scheduler = RankScheduler(rtol=PiecewiseConstant((0.0, 0.2, 0.2, 0.4), (0, 1, 2, 3)))
    model.fit(x, y, epochs=4, callbacks=[scheduler], verbose=0)
    assert [cut.epoch for cut in scheduler.report.cuts] == [1, 3], "nothing is left to lose at 2"
    for path in scheduler.report.ranks:
        assert 0.2 < error_of(model, dense, path) <= 0.4 + 1e-6
        at_once = factorize(steep(0.8), rtol=0.4).ranks[path]
        assert scheduler.report.ranks[path] == at_once


def test_a_kernel_too_flat_for_the_error_stays_dense():
    model = steep(1.0)
    assert factorize(model, rtol=0.1).ranks == {}


def strided(**rule):
    """A convolution whose factors save work only up to rank 11, and numbers up to 15."""
    keras.utils.set_random_seed(1)
    conv = keras.layers.Conv2D(16, 3, strides=2, padding="same", name="conv")
    layers = [keras.Input((16, 16, 8)), conv, keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(3, name="output")])
    return model, [LayerRule("conv", split="spatial", **rule)]


@pytest.mark.parametrize("asked", [{"rtol": 0.4}, {"energy": 0.84}])
def test_where_factors_would_be_slower_the_kernel_stays_dense(asked):
    model, rules = strided()
    report = factorize(model, rules=rules, **asked)
    assert report.ranks == {}
    ((name, _),) = asked.items()
    nearest = float(re.search(rf"is {name}=([0-9.]+) \(conv/kernel\)", report.notes[0])[1])
    (made,) = factorize(model, rules=rules, **{name: nearest}).cuts[0].kernels
    assert (made.rank, made.binding) == (11, name)
    assert getattr(made, {"rtol": "relative_error"}.get(name, name)) == pytest.approx(
        nearest, abs=2e-4
    )


@pytest.mark.parametrize("asked", [{"rtol": 0.01}, {"energy": 0.9999}, {"effective_rank": 9.0}])
def test_the_value_named_is_one_that_cuts_a_kernel_without_a_target_of_its_own(asked):
    ((name, value),) = asked.items()
    own = LayerRule("second", **asked)
    notes = "\n".join(factorize(steep(1.0), rules=[own], **asked).notes)
    nearest = re.search(rf"is {name}=([0-9.]+) \(first/kernel\)", notes)[1]
    named = factorize(steep(1.0), rules=[own], **{name: float(nearest)})
    assert list(named.ranks) == ["first/kernel"]
    alone = factorize(steep(1.0), rules=[LayerRule("*", **asked)], **asked)
    assert any(note.startswith(f"{name}={value:g} has no kernel to ask") for note in alone.notes)


@pytest.mark.parametrize(
    ("multiple", "own", "told"), [(4, 3, 12), (1, 5, 14), (5, 1, 10), (5, 2, 15), (13, 3, 13)]
)
def test_the_largest_rank_named_can_be_asked_for_and_cuts(multiple, own, told):
    rules, model = [LayerRule("*", multiple=own)], zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    for rank in (told + multiple, 40 * multiple):
        asked = {"rank": rank, "multiple": multiple, "rules": rules}
        (note,) = (each for each in factorize(model, **asked).notes if "leaves every" in each)
        assert f"one is cut is rank={told} (" in note
        with pytest.raises(RankError, match=rf"one is cut is {told} \(.*Ask for that"):
            model.fit(x, y, callbacks=[RankScheduler(**asked)], verbose=0)
    assert factorize(model, rank=told, multiple=multiple, rules=rules).ranks


def test_where_no_multiple_cuts_a_kernel_that_is_said():
    asked = {"rank": 40, "multiple": 40, "rules": [LayerRule("*", multiple=5)]}
    model = zoo.compiled(zoo.sequential())
    words = "No multiple of 40 is small enough to cut one: lower `multiple`"
    assert any(words in note for note in factorize(model, **asked).notes)
    with pytest.raises(RankError, match=words):
        model.fit(*zoo.data(model), callbacks=[RankScheduler(**asked)], verbose=0)


@pytest.mark.parametrize("rtol", [0.4, 0.6])
def test_a_rank_that_a_rule_allows_at_most_binds_only_where_factors_gain(rtol):
    model, rules = strided(max_rank=5)
    kernels = [
        each for cut in factorize(model, rtol=rtol, rules=rules).cuts for each in cut.kernels
    ]
    assert [(each.rank, each.binding) for each in kernels] == [(5, "max_rank")] * (rtol > 0.5)


def test_a_layer_may_have_an_error_of_its_own():
    report = factorize(steep(), rank=9, rules=[LayerRule("first", rtol=0.4)])
    assert report.ranks == {"first/kernel": 2, "second/kernel": 9}


def test_an_undone_cut_goes_half_the_way_to_a_larger_error():
    goal = target("rtol", Ramp(0.0, 0.4, 0, 1, "linear"))
    controller = ScheduleController(lambda _: 0.0)
    assert controller.target_value(goal, 1.0) == 0.4
    controller.undo(2.0, controller.mark())
    assert controller.target_value(goal, 2.0) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (10, r"in \[0, 1\)\. Received: 10\. For 10 % write 0.1"),
        (1.0, "Received: 1"),
        (Ramp(0.2, 0.1), "must not fall, for ranks never rise; it falls from 0.2"),
        (-0.1, r"in \[0, 1\)\. Received: -0\.1"),
    ],
)
def test_errors_that_cannot_be_are_refused(value, words):
    with pytest.raises(ArgumentError, match=words):
        RankScheduler(rtol=value)


@pytest.mark.parametrize(
    ("ask", "argument", "words"),
    [
        (lambda: RankScheduler(budget=Ramp(100, 25)), "budget.initial", "Received: 100. For 100 %"),
        (lambda: RankScheduler(budget=Ramp(1.0, 25)), "budget.final", "For 25 % write 0.25"),
        (
            lambda: RankScheduler(energy=PiecewiseConstant([1.0, 95], [0, 2])),
            "energy.values[1]",
            "For 95 % write 0.95",
        ),
        (lambda: RankScheduler(budget=25), "budget", "For 25 % write 0.25"),
        (lambda: LayerRule("a", energy=Ramp(1.0, 95)), "energy.final", "For 95 % write 0.95"),
    ],
)
def test_per_cent_are_refused_with_their_place_and_as_a_fraction(ask, argument, words):
    with pytest.raises(ArgumentError) as caught:
        ask()
    assert f"`{argument}` must be a fraction in (0, 1]. Received: " in str(caught.value)
    assert words in str(caught.value)
    assert caught.value.argument == argument


def test_exactly_one_target_is_given():
    with pytest.raises(ArgumentError, match=r"`rank` or `rtol`.*none of them"):
        one_target(budget=None)
    with pytest.raises(ArgumentError, match="Received: rtol and rank"):
        one_target(rtol=0.1, rank=3)
    with pytest.raises(ArgumentError, match=r"`rank` or `rtol`.*energy and rtol"):
        LayerRule("a", energy=0.5, rtol=0.5)


def test_a_file_asks_for_an_error():
    schedule = {"schedule": "ramp", "initial": 0, "final": 0.1}
    config = parse_config(
        {"compression": {"rtol": schedule, "rules": [{"match": "a", "rtol": 0.2}]}}
    )
    (scheduler,) = config.callbacks()
    assert scheduler.target == one_target(rtol=Ramp(0, 0.1))
    assert scheduler.rules == (LayerRule("a", rtol=0.2),)
    assert config.schedules() == {"rtol": Ramp(0, 0.1), "rtol of a": Constant(0.2)}
    with pytest.raises(ConfigError) as caught:
        parse_config({"compression": {"rtol": 10, "rules": [{"match": "a", "rtol": 1, "rank": 2}]}})
    for words in (
        "$.compression.rtol: rtol must be a fraction in [0, 1). Received: 10. For 10 % write 0.1.",
        "$.compression.rules[0]: A rule may set at most one of effective_rank, energy, rank",
        "$.compression.rules[0].rtol: rtol must be a fraction in [0, 1). Received: 1.",
    ):
        assert words in str(caught.value)


# --- the compact file ---------------------------------------------------------------------


def saved(model, folder, report=None):
    return save_model(model, folder / "model.reducible", report).bytes


def wide(units=96, dtype=None):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(units, activation="relu", name="first", dtype=dtype),
            layers.Dense(units, activation="relu", name="second", dtype=dtype),
            layers.Dense(10, name="output", dtype=dtype),
        ]
    )
    return zoo.compiled(model)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("budget", [0.6, 0.25])
def test_a_budget_of_the_file_is_kept_and_used(dtype, budget, tmp_path):
    model = wide(dtype=dtype)
    dense = saved(model, tmp_path)
    report = factorize(model, budget=budget, measure="file", allocation="knapsack")
    size = saved(model, tmp_path, report)
    assert 0.9 * budget * dense - 600 < size <= budget * dense
    assert report.size_fraction < budget, "headers count as well"


def test_the_file_after_a_fit_is_within_its_budget(tmp_path):
    model = wide()
    x = np.random.default_rng(0).normal(size=(256, 64)).astype("float32")
    y = (x[:, :10] + x[:, 10:20]).argmax(1)
    dense = saved(model, tmp_path)
    model.optimizer.learning_rate = 0.01
    scheduler = RankScheduler(budget=Ramp(1.0, 0.3, 0, 4), measure="file")
    model.fit(x, y, batch_size=128, epochs=7, verbose=0, callbacks=[scheduler])
    assert len(scheduler.report.cuts) >= 4, "whose record is in the file"
    assert saved(model, tmp_path, scheduler.report) <= 0.3 * dense
    assert saved(model, tmp_path, scheduler.report) > 0.25 * dense


def test_the_record_of_the_cuts_is_paid_for_once(tmp_path):
    model = wide()
    half = Compression(
        model, target("budget", PiecewiseConstant((0.5, 0.4, 0.3), (0, 1, 2))), measure="file"
    )
    half.cut(0)
    size = half.survey.total("file")
    assert 0.46 < size / half.survey.dense_total("file") <= 0.5
    assert 0.9 * size < saved(model, tmp_path, half.report) <= size
    bookmark = half.history
    half.cut(1)
    second = half.survey.cost_models["file"].record_cost
    assert second > 0
    half.cut(2)
    assert half.survey.cost_models["file"].record_cost == 2 * second
    again = Compression(model, half.target, measure="file")
    again.set_state(json.loads(json.dumps(half.get_state())))
    assert again.survey.total("file") == half.survey.total("file")
    half.go_on_from(bookmark)
    assert half.survey.cost_models["file"].record_cost == 0


@pytest.mark.parametrize("zeros", [0.0, 0.6])
def test_what_a_dense_file_takes_is_remembered_when_there_are_factors(zeros):
    model = wide()
    kernel = model.get_layer("first").kernel
    lost = np.random.default_rng(1).random(kernel.shape) < zeros
    kernel.assign(np.where(lost, 0.0, np.asarray(kernel)))
    first = Compression(
        model, target("budget", PiecewiseConstant((0.6, 0.4), (0, 1))), measure="file"
    )
    dense = first.survey.dense_total("file")
    first.cut(0)
    assert set(first.report.ranks) == {"first/kernel", "second/kernel"}
    again = Compression(model, target("budget", 0.4), measure="file")
    assert again.survey.dense_total("file") == dense
    assert "reckoned" not in str(again.report)
    first.cut(1)
    assert again.cut(0) is None, "the same budget has been met"
    merge(model)
    assert dense_file_bytes(find_kernels(model)[0]) is None, "it is another kernel now"


def test_what_is_not_known_of_a_dense_file_is_said(tmp_path):
    model = wide()
    factorize(model, budget=0.7)
    report = factorize(model, budget=0.5, measure="file")
    assert "What first/kernel, second/kernel took while dense is reckoned" in str(report)
    assert saved(model, tmp_path, report) <= 0.5 * saved(wide(), tmp_path)
    save_model(model, tmp_path / "other.reducible")
    other = load_model(tmp_path / "other.reducible")
    assert "reckoned" in str(factorize(other, budget=0.4, measure="file"))


def test_a_file_of_so_many_bytes(tmp_path):
    model = wide()
    report = factorize(model, cost=20_000, measure="file", allocation="knapsack")
    assert 18_000 < saved(model, tmp_path, report) <= 20_000
    assert report.cuts[0].target == 20_000
    smallest = wide()
    with pytest.raises(RankError, match=r"smallest possible cost in bytes of the .*file") as caught:
        factorize(smallest, cost=2_000, measure="file")
    least = int(re.search(r"is (\d+) \(", str(caught.value))[1])
    report = factorize(smallest, cost=least, measure="file")
    assert set(report.ranks.values()) == {1}
    assert saved(smallest, tmp_path, report) <= least


def with_words():
    words = [f"a_rather_long_word_{number * 7919 % 10007}" for number in range(400)]
    inputs = keras.Input((), dtype="string")
    found = keras.layers.TextVectorization(output_sequence_length=8, vocabulary=words)(inputs)
    found = keras.layers.Embedding(len(words) + 2, 32)(found)
    found = keras.layers.GlobalAveragePooling1D()(found)
    return keras.Model(inputs, keras.layers.Dense(4)(found))


def with_a_kernel_of_two_layers():
    held = keras.layers.SpectralNormalization(keras.layers.Dense(64))
    others = [keras.layers.Dense(96), keras.layers.Dense(4)]
    return keras.Sequential([keras.Input((48,)), held, *others])


@pytest.mark.parametrize("make", [with_words, with_a_kernel_of_two_layers])
def test_all_that_goes_into_a_file_counts(make, tmp_path):
    model = make()
    dense = saved(model, tmp_path)
    report = factorize(model, budget=0.7, measure="file", criterion="frobenius")
    size = saved(model, tmp_path, report)
    assert report.ranks
    assert 0.6 * dense < size <= 0.7 * dense
    words = str(report).replace(",", "").partition("compact file takes about ")[2]
    told, was = map(int, re.findall(r"\d+", words)[:2])
    assert size <= told <= 1.1 * size
    assert abs(was - dense) < 0.1 * dense


class Keeps(keras.layers.Dense):
    """A layer whose state no compact file takes."""

    def save_own_variables(self, store):
        if self.units == 64:
            raise NotImplementedError("not saved")
        super().save_own_variables(store)
        store["note"] = np.array("words")


@pytest.mark.parametrize("units", [64, 96])
def test_a_file_that_no_layer_gives_its_state_to_has_a_size_all_the_same(units):
    layers = [keras.Input((48,)), Keeps(units), keras.layers.Dense(96), keras.layers.Dense(4)]
    report = factorize(keras.Sequential(layers), budget=0.8, measure="file", criterion="frobenius")
    assert report.ranks


RNG = np.random.default_rng(0)
ARRAYS = {  # layers whose configuration holds numbers
    "normalization": lambda: keras.layers.Normalization(
        mean=RNG.normal(size=64).tolist(), variance=RNG.uniform(1, 2, 64).tolist()
    ),
    "discretization": lambda: keras.layers.Discretization(np.sort(RNG.normal(size=900)).tolist()),
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("cost", [14_500, 18_500])
def test_numbers_in_a_configuration_are_paid_for(name, cost, tmp_path):
    layers = [keras.layers.Dense(64, name=each) for each in ("first", "second")]
    model = keras.Sequential([keras.Input((64,)), ARRAYS[name](), *layers, keras.layers.Dense(4)])
    report = factorize(model, cost=cost, measure="file", criterion="frobenius")
    assert 0.9 * cost - 600 < saved(model, tmp_path, report) <= cost


def test_rows_that_are_zero_are_cheap_in_a_dense_file(tmp_path):
    model, dead = wide(), wide()
    kernel = dead.get_layer("first").kernel
    kernel.assign(np.where(np.arange(64)[:, None] < 40, 0.0, np.asarray(kernel)))
    dense = saved(dead, tmp_path)
    ranks = [factorize(m, budget=0.5, measure="file").ranks["first/kernel"] for m in (model, dead)]
    assert ranks[1] < ranks[0]
    assert saved(dead, tmp_path) <= 0.5 * dense


def test_a_cost_counts_what_the_measure_does():
    model = wide()
    flops = factorize(wide(), budget=1.0).flops
    report = factorize(model, cost=flops // 2, measure="flops", allocation="knapsack")
    assert 0.97 * flops / 2 < report.flops <= flops / 2
    report = factorize(wide(), cost=7_000)
    assert 6_000 < report.parameters <= 7_000
    assert factorize(wide(), cost=10**9).ranks == {}
    for value, words in ((0, "greater than 0. Received: 0"), (-1, "greater than 0. Received: -1")):
        with pytest.raises(ArgumentError, match=words):
            factorize(wide(), cost=value)


def test_configurations_ask_for_files():
    config = parse_config({"compression": {"cost": 200_000, "measure": "file"}})
    (scheduler,) = config.callbacks()
    assert (scheduler.target, scheduler.measure) == (one_target(cost=200_000), FileSize())
    with pytest.raises(ConfigError, match=r"compression.cost: cost must be greater than 0"):
        parse_config({"compression": {"cost": 0, "measure": "file"}})
    with pytest.raises(ConfigError, match=r"compression.cost: `cost` cannot be met.*file"):
        parse_config({"compression": {"cost": 10, "measure": "file"}}).check(wide())


# --- what cannot be, and what is nearest --------------------------------------------------


@pytest.mark.parametrize("asked", [{"rtol": 0.01}, {"energy": 0.999}, {"rank": 20}])
def test_a_target_that_cuts_nothing_names_the_nearest_that_does(asked):
    model = steep(0.97)
    report = factorize(model, **asked)
    assert report.ranks == {}
    ((name, _),) = asked.items()
    note = " ".join(report.notes)
    found = re.search(rf"is {name}=([0-9.]+) \((first|second)/kernel\)", note)
    value = int(found[1]) if name == "rank" else float(found[1])
    assert list(factorize(model, **{name: value}).ranks) == [f"{found[2]}/kernel"]
    step = {"rtol": -0.0002, "energy": 0.0002, "rank": 1}[name]
    assert factorize(steep(0.97), **{name: value + step}).ranks == {}


@pytest.mark.parametrize("asked", [{"rtol": 0.0}, {"energy": 1.0}])
def test_what_asks_for_nothing_names_a_value_that_cuts_however_little_a_cut_loses(asked):
    ((name, value),) = asked.items()
    (note, *_) = factorize(steep(0.1), **asked).notes
    assert f"{name}={value:g} leaves every kernel dense: nothing is cut at it" in note
    found = re.search(rf"is {name}=([0-9.]+) \((first|second)/kernel\)", note)
    assert factorize(steep(0.1), **{name: float(found[1])}).ranks != {}


@pytest.mark.parametrize("name", ["rtol", "energy", "effective_rank"])
def test_kernels_of_zeros_are_not_named_as_what_is_cut_at_another_value(name):
    model = steep(1.0)
    first, second = (kernel.variables[0] for kernel in find_kernels(model)[:2])
    first.assign(np.zeros(first.shape))
    most = {"rtol": 0.01, "energy": 0.9999, "effective_rank": 9.0}[name]
    compression = Compression(model, target(name, most))
    assert compression.cut(0.0) is None
    assert compression.hindrance.endswith("(second/kernel).")
    second.assign(np.zeros(second.shape))
    compression = Compression(model, target(name, most))
    assert compression.cut(0.0) is None
    assert "each holds only zeros" in compression.hindrance
    assert "nearest" not in compression.hindrance


def test_a_schedule_that_has_not_ended_is_not_told_so():
    model = steep(0.97)
    x, y = zoo.data(model, 16)
    model.optimizer.learning_rate = 0.0
    fall = PiecewiseConstant((0.01, 0.9), (0, 1))
    scheduler = RankScheduler(rtol=fall, cadence=Cadence(epochs=1, compare=False))
    model.fit(x, y, epochs=2, callbacks=[scheduler], verbose=0)
    assert scheduler.report.notes == ()
    assert scheduler.report.ranks != {}


@pytest.mark.parametrize("measure", ["parameters", "bytes", "flops", "file"])
def test_the_smallest_budget_is_told_for_every_measure_and_can_be_met(measure):
    rules = [LayerRule("first", min_rank=5), LayerRule("second", max_rank=9)]
    model = steep()
    with pytest.raises(RankError, match="smallest possible fraction of") as caught:
        factorize(model, budget=0.01, measure=measure, rules=rules)
    least = float(re.search(r"is (0\.\d+) under", str(caught.value))[1])
    assert factorize(model, budget=least, measure=measure, rules=rules).ranks == {
        "first/kernel": 5,
        "second/kernel": 1,
    }


def test_a_split_leaves_room_for_the_last_budget():
    """At first channels lose less, but at the least rank they cost more than the end allows."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 20)),
            keras.layers.Conv2D(50, 5, name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(4, name="output"),
        ]
    )
    zoo.compiled(model)
    rng = np.random.default_rng(0)
    kernel = np.einsum("hwir,ro->hwio", rng.normal(size=(5, 5, 20, 30)), rng.normal(size=(30, 50)))
    model.layers[0].kernel.assign(kernel + 0.1 * rng.normal(size=kernel.shape))
    x = rng.normal(size=(32, 8, 8, 20)).astype("float32")
    dense = model.count_params()
    spatial, channel = 6 * (100 + 250), 6 * (500 + 50)
    final = (dense - 25_000 + (spatial + channel) / 2) / dense

    def splits(last):
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        scheduler = RankScheduler(
            budget=PiecewiseConstant(values=(1.0, 0.8, last), start_epochs=(0, 1, 2)),
            rules=[LayerRule("conv", min_rank=6), LayerRule("output", keep_dense=True)],
        )
        y = np.arange(32) % 4
        zoo.compiled(copy).fit(x, y, epochs=3, verbose=0, callbacks=[scheduler])
        return copy.layers[0].split_of("kernel"), copy.count_params() / dense

    assert splits(0.7)[0] == "channel"
    split, left = splits(final)
    assert split == "spatial"
    assert left <= final


def test_what_a_search_is_refused_for_has_the_name_that_it_was_given_by():
    with pytest.raises(
        RankError, match=r"`search\.lowest` cannot be met.*search.lowest of 0\.01\."
    ):
        Compression(zoo.sequential(), Search(lowest=0.01).target)
