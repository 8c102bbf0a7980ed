"""Laws of several budgets at once: all are met, in one cut and on schedules."""

from __future__ import annotations

import json
import re

import keras
import numpy as np
import pytest

from reducible_train import (
    Adaptive,
    ArgumentError,
    Cadence,
    Flops,
    Guard,
    Latency,
    LayerRule,
    PiecewiseConstant,
    Ramp,
    RankError,
    RankScheduler,
    Search,
    factorize,
)
from reducible_train.compressor import Compression
from reducible_train.config import parse_config
from reducible_train.errors import ArgumentTypeError, ConfigError, ShortfallWarning
from reducible_train.report.records import Report, UndoneCut, cut_from_dict, cut_to_dict
from reducible_train.selection.feasibility import smallest_fraction
from reducible_train.settings.targets import SharedTargets, goal, one_target

BOTH = {"parameters": 0.4, "flops": 0.5}
ALLOCATIONS = ("equal_energy", "uniform", "knapsack")
layers = keras.layers


def convolutional():
    """Its parameters are in the dense layer, its work in the convolutions."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(16, 3, padding="same", activation="relu", name="conv_1"),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="conv_2"),
            layers.MaxPooling2D(4),
            layers.Flatten(),
            layers.Dense(64, activation="relu", name="hidden"),
            layers.Dense(10, name="output"),
        ]
    )


def fit(scheduler, epochs=4, **options):
    model = convolutional()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    rng = np.random.default_rng(0)
    x, y = rng.random((32, 16, 16, 3), dtype="float32"), rng.integers(0, 10, 32)
    model.fit(x, y, epochs=epochs, callbacks=[scheduler], verbose=0, **options)
    return model


class Clock:
    """A timer that counts FLOPs, dense and by rank, in place of a clock."""

    def __call__(self, calls, rounds):
        return [1e-6 * sum(int(np.prod(v.shape)) for v in call.layer.weights) for call in calls]


# --- in one cut -----------------------------------------------------------------------------


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_one_cut_meets_all(allocation):
    """By each alone this network keeps too much of the other."""
    report = factorize(convolutional(), BOTH, allocation=allocation)
    assert report.size_fraction <= 0.4
    assert report.flops_fraction <= 0.5
    (cut,) = report.cuts
    assert cut.budgets == BOTH
    assert (cut.quantity, cut.target) == ("budget", 0.5)
    assert 0 < cut.certificate["bound"] <= cut.certificate["objective"]


def test_the_knapsack_of_one_budget_leaves_the_other_unmet():
    by_size = factorize(convolutional(), {"parameters": 0.4}, allocation="knapsack")
    by_work = factorize(convolutional(), {"flops": 0.5}, allocation="knapsack")
    both = factorize(convolutional(), BOTH, allocation="knapsack")
    assert by_size.flops_fraction > 0.9
    assert by_work.size_fraction > 0.9
    lost = [each.cuts[0].certificate["objective"] for each in (by_size, by_work, both)]
    assert max(lost[:2]) < lost[2] <= lost[0] + lost[1]
    assert both.cuts[0].certificate["gap"] <= 1e-9


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_one_entry_is_the_one_budget(allocation):
    alone = factorize(convolutional(), 0.5, measure="flops", allocation=allocation)
    named = factorize(convolutional(), {"flops": 0.5}, allocation=allocation)
    assert named.ranks == alone.ranks
    assert named.cuts[0].certificate == alone.cuts[0].certificate


def test_measures_with_tables_count_too():
    latency = Latency(batch_size=1, timer=Clock())
    asked = {"parameters": 0.5, "file": 0.4, "latency": 0.45, "bytes": 0.48, "flops": 0.6}
    model = convolutional()
    compression = Compression(
        model,
        goal("budget", asked),
        measure=RankScheduler(asked, measure=latency).settings.measures,
        trains=False,
    )
    assert compression.cut(0.0) is not None
    found = compression.survey
    for measure, most in asked.items():
        assert found.total(measure) <= most * found.dense_total(measure), measure
    assert compression.progress.unmet() is None
    notes = " ".join(compression.report.notes)
    assert "Latency, measured here on single samples" in notes
    assert "The compact file takes about" in notes


def test_several_costs_are_the_same_not_as_fractions():
    dense = factorize(convolutional(), {"flops": 1.0})
    limits = {"parameters": 15_000, "flops": 0.5 * dense.dense_flops}
    report = factorize(convolutional(), cost=limits)
    assert report.parameters <= 15_000
    assert report.flops <= limits["flops"]


def test_no_kernel_grows_by_any_of_the_measures():
    """An embedding is looked up: its factors are fewer numbers, and cost a product."""
    model = keras.Sequential(
        [
            keras.Input((12,), dtype="int32"),
            layers.Embedding(400, 64, name="words"),
            layers.Dense(64, name="hidden"),
            layers.Dense(10, name="output"),
        ]
    )
    copy = keras.models.clone_model(model)
    assert "words/embeddings" in factorize(copy, {"parameters": 0.5}).ranks
    report = factorize(model, {"parameters": 0.98, "flops": 0.9})
    assert set(report.ranks) == {"hidden/kernel"}


# --- what cannot be -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "name"),
    [
        ({"parameters": 0.01, "flops": 0.5}, "parameters"),
        ({"parameters": 0.5, "flops": 0.01}, "flops"),
    ],
)
def test_a_budget_that_alone_is_impossible_is_named(budget, name):
    model = convolutional()
    before = model.get_weights()
    with pytest.raises(RankError, match=rf"`budget\.{name}` cannot be met: the smallest possible"):
        factorize(model, budget)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_model_with_factors_that_no_budget_fits_is_told_what_does():
    """They cost more work than the dense kernel: a budget is at most 1, and cannot be raised."""
    model = keras.Sequential(
        [
            keras.Input((12,), dtype="int32"),
            layers.Embedding(300, 64, name="words"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(512, name="output"),
        ]
    )
    factorize(model, rank=30)
    for budget in (1.0, {"parameters": 0.9, "flops": 1.0}):
        rules = [LayerRule("words", min_rank=30)]
        measure = {} if isinstance(budget, dict) else {"measure": "flops"}
        with pytest.raises(RankError, match="smallest possible fraction of FLOPs") as told:
            factorize(model, budget, rules=rules, **measure)
        line = str(told.value).splitlines()[0]
        least = re.search(r"sequential\S* is (\S+) ", line).group(1)
        assert float(least) > 1
        assert not float(least).is_integer()
        assert "Raise it" not in line
        cost = int(re.search(r"ask for a cost of (\d+)", line).group(1))
        factorize(model, cost={"flops": cost}, rules=rules)


def test_budgets_that_only_together_are_impossible_are_named():
    """One split has fewer numbers, the other takes less work, for the stride is along one axis."""
    model = keras.Sequential(
        [
            keras.Input((32, 32, 64)),
            layers.Conv2D(64, (7, 3), strides=(1, 4), padding="same", name="wide"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, name="output"),
        ]
    )
    compression = Compression(model, one_target(budget=1.0), trains=False)
    survey = compression.survey
    (kernel,) = survey.compressible
    sizes, works = (
        [kernel.smallest_cost(measure, form) for form in kernel.options]
        for measure in ("parameters", "flops")
    )
    assert np.argmin(sizes) != np.argmin(works)  # else this test tells nothing
    both = Compression(model, goal("budget", {"parameters": 1.0, "flops": 1.0}), trains=False)
    least = {name: smallest_fraction(both.survey, name) for name in ("parameters", "flops")}
    asked = {name: 1.0001 * value for name, value in least.items()}
    for name, value in asked.items():
        factorize(keras.models.clone_model(model), {name: value})
    with pytest.raises(RankError, match="cannot be met by all measures at once, though by each"):
        factorize(model, asked)


def test_a_split_of_now_leaves_room_for_a_budget_of_later():
    """The usual split would not, and a kernel that is split once stays so."""
    model = keras.Sequential(
        [
            keras.Input((32, 32, 64)),
            layers.Conv2D(64, (7, 3), strides=(1, 4), padding="same", name="wide"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, name="output"),
        ]
    )
    both = Compression(model, goal("budget", {"parameters": 1.0, "flops": 1.0}), trains=False)
    (kernel,) = both.survey.compressible
    names = ("parameters", "flops")
    least = {name: smallest_fraction(both.survey, name) for name in names}
    for name, other in (names, names[::-1]):
        copy = keras.models.clone_model(model)
        fall = PiecewiseConstant((1.0, 1.0001 * least[other]), (0, 1))
        loose = max(form.cost(1, name) for form in kernel.options) / both.survey.dense_total(name)
        asked = {name: loose + 0.1, other: fall}
        settings = RankScheduler(asked).settings
        compression = Compression(copy, settings.target, measure=settings.measures)
        compression.cut(0.0)
        assert compression.survey.compressible[0].kernel.rank is not None
        compression.cut(1.0)
        assert compression.progress.unmet() is None, (name, compression.report)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"budget": {"parameters": 25, "flops": 0.5}},
            r"`budget\.parameters` must be a fraction in \(0, 1\].*25 % write 0.25",
        ),
        ({"budget": {"flops": "50%"}}, r"`budget\.flops` must be a number.*For 50 % write 0.5"),
        ({"budget": {"flop": 0.5}}, r"`budget\.flop` must be of one of the measures.*mean 'flops'"),
        ({"budget": {}}, "`budget` must name a measure at least"),
        ({"budget": {Flops(): 0.5}}, r"Write budget={'flops': \.\.\.} and measure=Flops"),
        ({"budget": {"flops": Ramp(0.5, 1.0)}}, r"`budget\.flops` must not rise"),
        (
            {"budget": {"flops": Ramp(1.0, 0.0)}},
            r"`budget\.flops\.final` must be a fraction in \(0, 1\]",
        ),
        ({"budget": BOTH, "cost": {"file": 1000}}, "Exactly one of"),
        ({"budget": BOTH, "measure": "flops"}, "`measure` is said by the keys of `budget`"),
        ({"budget": BOTH, "measure": Latency()}, "`measure` must be of one of the keys"),
        ({"budget": BOTH, "measure": [Flops(), Flops()]}, "must say one thing of flops"),
        ({"budget": 0.5, "measure": [Flops()]}, "must be one measure, where one budget"),
        ({"rank": {"flops": 3}}, "`kind` of a schedule must be one of"),
        (
            {"budget": BOTH, "search": Search(), "guard": Guard(max_drop=0.1)},
            "Exactly one of .*budget and search",
        ),
        (
            {
                "budget": {"latency": 0.5, "flops": 0.5},
                "measure": [Flops(input_shape=(8, 8, 3)), Latency(input_shape=(9, 9, 3))],
            },
            "must tell one input_shape",
        ),
    ],
)
def test_arguments_that_say_nothing_or_too_much_are_refused(arguments, words):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=f"(?s){words}"):
        RankScheduler(**arguments)


def test_one_cut_follows_no_schedule():
    with pytest.raises(ArgumentTypeError, match=r"`budget\.flops` of factorize must be a number"):
        factorize(convolutional(), {"parameters": 0.5, "flops": Ramp(1.0, 0.5)})


# --- as arguments ---------------------------------------------------------------------------


def test_a_configuration_brings_them_back():
    scheduler = RankScheduler(
        {"parameters": 0.25, "latency": Ramp(1.0, 0.5), "flops": 0.5},
        measure=[Latency(batch_size=1), Flops(input_shape=(16, 16, 3))],
    )
    config = json.loads(json.dumps(scheduler.get_config()))
    again = RankScheduler.from_config(config)
    assert again.settings == scheduler.settings
    assert again.get_config() == scheduler.get_config()
    assert eval(repr(scheduler)).settings == scheduler.settings
    assert isinstance(again.target, SharedTargets)
    assert [each.name for each in again.settings.measures] == ["flops", "latency", "parameters"]
    assert again.settings.measures[1] == Latency(batch_size=1)
    assert again.settings.input_shape == (16, 16, 3)
    plain = RankScheduler(BOTH)
    assert "measure" not in plain.get_config()
    assert repr(plain) == "RankScheduler(budget={'flops': 0.5, 'parameters': 0.4})"
    assert plain.settings == RankScheduler({"flops": 0.5, "parameters": 0.4}).settings
    assert RankScheduler.from_config(plain.get_config()).settings == plain.settings


# --- in a fit -------------------------------------------------------------------------------


def test_each_falls_by_its_own_schedule():
    scheduler = RankScheduler(
        {
            "parameters": PiecewiseConstant((1.0, 0.6), (0, 2)),
            "flops": Ramp(1.0, 0.4, 0, 3, "linear"),
        }
    )
    fit(scheduler, epochs=5)
    assert scheduler.shortfall is None
    assert scheduler.report.size_fraction <= 0.6
    assert scheduler.report.flops_fraction <= 0.4
    assert [cut.budgets["parameters"] for cut in scheduler.report.cuts] == [1.0, 0.6, 0.6]
    assert [round(cut.budgets["flops"], 6) for cut in scheduler.report.cuts] == [0.8, 0.6, 0.4]
    assert scheduler.final_epoch == 3


def test_a_schedule_that_ends_too_late_is_named():
    scheduler = RankScheduler({"parameters": 0.5, "flops": Ramp(1.0, 0.5, 0, 9)})
    with pytest.raises(ArgumentError, match=r"The schedule of `budget\.flops` must end before"):
        fit(scheduler)


@pytest.mark.filterwarnings("ignore::reducible_train.errors.ShortfallWarning")
def test_what_was_not_reached_is_the_budget_that_was_not():
    """The guard never sees its metric good enough, and no cut is made."""
    scheduler = RankScheduler(
        {"parameters": 1.0, "flops": 0.4}, guard=Guard("accuracy", limit=1.0, mode="max")
    )
    fit(scheduler)
    assert scheduler.shortfall.asked == "budget.flops=0.4"
    assert scheduler.shortfall.reached == 1.0
    assert scheduler.shortfall.held_back


@pytest.mark.filterwarnings("ignore::reducible_train.errors.ShortfallWarning")
def test_a_guard_undoes_them_together_and_goes_half_as_far():
    scheduler = RankScheduler(
        BOTH, guard=Guard("worse", max_drop=0.1, mode="max", patience=1, tries=2)
    )

    class Worse(keras.callbacks.Callback):
        """A metric that no cut leaves as it was."""

        def on_epoch_end(self, epoch, logs=None):
            logs["worse"] = 1.0 if epoch == 0 else 0.0

    model = convolutional()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    x, y = rng.random((32, 16, 16, 3), dtype="float32"), rng.integers(0, 10, 32)
    model.fit(x, y, epochs=6, callbacks=[Worse(), scheduler], verbose=0)
    first, second = scheduler.report.undone
    assert first.budgets == BOTH
    assert "to budget.flops 0.5 and budget.parameters 0.4 (" in str(first)
    assert second.budgets == pytest.approx({"parameters": 0.7, "flops": 0.75})
    assert scheduler.report.size_fraction == 1.0


def test_they_wait_for_the_stable_ranks():
    cadence = Cadence(start=Adaptive(end_epoch=1))
    scheduler = RankScheduler(BOTH, cadence=cadence)
    fit(scheduler)
    assert [cut.epoch for cut in scheduler.report.cuts] == [1]
    assert scheduler.shortfall is None


def test_frozen_layers_leave_it_to_the_others_by_the_measure_they_hold_up():
    model = convolutional()
    model.get_layer("hidden").trainable = False
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    scheduler = RankScheduler({"parameters": 0.4, "flops": 0.5})
    x, y = np.zeros((32, 16, 16, 3), "float32"), np.zeros(32)
    with pytest.warns(ShortfallWarning) as told:
        model.fit(x, y, epochs=2, callbacks=[scheduler], verbose=0)
    assert "`budget.parameters` will not be met while" in str(told[0].message)
    assert scheduler.report.flops_fraction <= 0.5
    assert scheduler.shortfall.asked == "budget.parameters=0.4"


def test_rules_go_before():
    rules = [LayerRule("hidden", rank=4), LayerRule("conv_1", keep_dense=True)]
    report = factorize(convolutional(), BOTH, rules=rules, allocation="knapsack")
    assert report.ranks["hidden/kernel"] == 4
    assert "conv_1/kernel" not in report.ranks
    assert report.flops_fraction <= 0.5


# --- in a file ------------------------------------------------------------------------------

RAMP = {"schedule": "ramp", "initial": 1.0, "final": 0.5, "start_epoch": 1, "end_epoch": 3}


def asked(compression):
    return parse_config({"compression": compression, "training": {"epochs": 6}})


def dense_model():
    return keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(64, name="hidden"),
            layers.Dense(10, name="output"),
        ]
    )


def test_a_file_says_what_python_says():
    config = asked(
        {
            "budget": {"parameters": 0.25, "flops": RAMP},
            "measure": [{"name": "flops", "input_shape": [64]}],
            "rules": [],
        }
    )
    (scheduler,) = config.callbacks()
    ramp = Ramp(1.0, 0.5, 1, 3)
    wanted = RankScheduler({"parameters": 0.25, "flops": ramp}, measure=Flops(input_shape=(64,)))
    assert scheduler.settings == wanted.settings
    assert config.schedules() == {
        "budget.flops": ramp,
        "budget.parameters": wanted.target.parts[1].schedule,
    }
    config.check(dense_model())


@pytest.mark.parametrize("measure", [{"name": "latency", "batch_size": 1}, [{"name": "latency"}]])
def test_options_of_a_measure_stand_beside_the_budgets(measure):
    (scheduler,) = asked({"budget": {"latency": 0.5, "file": 0.5}, "measure": measure}).callbacks()
    size = 32 if isinstance(measure, list) else 1
    assert scheduler.settings.measures[1] == Latency(batch_size=size)


def test_costs_too():
    (scheduler,) = asked({"cost": {"parameters": 3000, "file": 20_000}}).callbacks()
    assert str(scheduler.target).startswith("cost.file = ")


@pytest.mark.parametrize(
    ("budget", "place"),
    [
        ({"parameters": 0.001, "flops": 0.5}, "$.compression.budget.parameters"),
        ({"parameters": 0.5, "flops": 0.001}, "$.compression.budget.flops"),
        ({"latency": 0.5, "flops": 0.001}, "$.compression.budget.flops"),  # the other is not timed
    ],
)
def test_what_no_ranks_meet_is_told_beside_the_model(budget, place):
    with pytest.raises(ConfigError) as raised:
        asked({"budget": budget}).check(dense_model())
    (problem,) = raised.value.problems
    assert problem.path == place
    asked({"budget": {"latency": 0.001}}).check(dense_model())


# --- in records -----------------------------------------------------------------------------


def test_records_keep_them_and_old_ones_have_none():
    report = factorize(convolutional(), BOTH)
    assert Report.from_dict(json.loads(json.dumps(report.to_dict()))) == report
    (cut,) = report.cuts
    assert cut_from_dict(cut_to_dict(cut)).budgets == BOTH
    (one,) = factorize(convolutional(), 0.5).cuts
    assert one.budgets is None
    assert "budgets" not in cut_to_dict(one)
    undone = UndoneCut(1, 2, "budget", 0.4, 9, 4, "loss", 1.0, 1.1, 1.2, "why", BOTH)
    told = Report(9, 9, 36, 36, None, None, (), undone=(undone,))
    assert Report.from_dict(told.to_dict()) == told


def test_another_fit_goes_on_where_one_stood():
    asked = {"flops": PiecewiseConstant((1.0, 0.5), (0, 1)), "file": 0.6}
    settings = RankScheduler(asked).settings

    def met(model, state=None):
        return Compression(model, settings.target, measure=settings.measures, state=state)

    first = met(convolutional())
    first.cut(0.0)
    state = json.loads(json.dumps(first.get_state()))
    again = met(first.model, state)
    again.set_state(state)
    assert again.history.reached == (0.6, 1.0)
    assert not again.due(0.5)
    assert again.due(1.0)
    again.cut(1.0)
    assert again.progress.unmet() is None
    assert again.survey.total("flops") <= 0.5 * again.survey.dense_total("flops")
