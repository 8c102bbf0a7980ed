"""Laws of a budget beside rules whose layers fall by schedules of their own."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import zoo

from reducible_train import LayerRule, PiecewiseConstant, Ramp, RankScheduler
from reducible_train.compressor import Compression
from reducible_train.layers import find_kernels
from reducible_train.settings.search import Search
from reducible_train.settings.targets import goal, target
from reducible_train.training.target_controllers import ScheduleController, SearchController

END = 4
STAIRS = (0, 2, END)
RULES = {
    "rank": {"rank": PiecewiseConstant((24, 9, 3), STAIRS)},
    "rank that is dense at first": {"rank": Ramp(24, 3, 0, END, "linear")},
    "energy": {"energy": Ramp(1.0, 0.6, 0, END, "linear")},
    "rtol": {"rtol": PiecewiseConstant((0.0, 0.2, 0.6), STAIRS)},
    "effective_rank": {"effective_rank": Ramp(2.0, 0.3, 0, END, "linear")},
}
BUDGETS = {
    "number": ("budget", 0.45),
    "ramp": ("budget", Ramp(1.0, 0.45, 0, END)),
    "cost": ("cost", 1000),
    "several": ("budget", {"parameters": 0.45, "flops": PiecewiseConstant((0.6, 0.4), (0, 1))}),
    "file": ("budget", {"parameters": 0.45, "file": Ramp(1.0, 0.8, 0, END)}),
}


def network():
    """Three kernels that may change, with spectra `0.8**i`."""
    model = keras.Sequential(
        [
            keras.Input((24,)),
            *(keras.layers.Dense(24, activation="relu", name=name) for name in "abc"),
            keras.layers.Dense(4, name="output"),
        ]
    )
    rng = np.random.default_rng(0)
    for kernel in find_kernels(model)[:3]:
        left, right = (np.linalg.qr(rng.normal(size=(24, 24)))[0] for _ in range(2))
        kernel.variables[0].assign(left * 0.8 ** np.arange(24) @ right.T)
    return model


def final(schedules):
    """The same, from the first look on as it is in the end."""
    if isinstance(schedules, dict):
        return {name: final(value) for name, value in schedules.items()}
    return schedules if isinstance(schedules, int | float) else schedules(math.inf)


def compression_of(budget, rule, *, ended=False):
    quantity, value = budget
    if ended:
        value, rule = final(value), final(rule)
    measures = sorted(value) if isinstance(value, dict) else "parameters"
    rules = [LayerRule("b", **rule)]
    return Compression(network(), goal(quantity, value), measure=measures, rules=rules)


def left(compression, measure):
    """What the kernels cost that share the budget."""
    return sum(each.cost(measure) for each in compression.survey.compressible if each.rule is None)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("budget", BUDGETS)
def test_no_layer_pays_for_what_a_rule_has_still_to_save(budget, rule):
    """None is cut below what the end of all schedules leaves to it, and that end is met."""
    told = compression_of(BUDGETS[budget], RULES[rule])
    wanted = compression_of(BUDGETS[budget], RULES[rule], ended=True)
    wanted.cut(0.0)
    parts = {part.measure or "parameters": part for part in told.target.parts}
    for time in range(END + 1):
        told.cut(float(time))
        for measure in parts:
            one = told.survey.compressible[0].forms[0].cost(1, measure)
            records = told.survey.cost_models[measure].record_cost if measure == "file" else 0
            assert left(told, measure) >= left(wanted, measure) - one - records
    assert told.survey.compressible[1].kernel.rank == wanted.survey.compressible[1].kernel.rank
    for measure, part in parts.items():
        asked = part.allowed(part(math.inf), told.survey.dense_total(measure))
        assert told.survey.total(measure) <= asked
    assert told.progress.unmet() is None
    assert told.hindrance is None


def test_while_a_rule_has_still_to_save_that_is_said_and_not_once_it_has():
    model = zoo.compiled(network(), "sgd")
    model.optimizer.learning_rate = 0.0
    rules = [LayerRule("b", rank=PiecewiseConstant((24, 9, 3), (0, 1, 2)))]
    scheduler = RankScheduler(0.7, rules=rules)
    sizes = []
    see = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: sizes.append(model.count_params() / 1900)
    )
    x, y = zoo.data(model, 16)
    model.fit(x, y % 4, epochs=4, callbacks=[scheduler, see], verbose=0)
    assert sizes[1] > 0.7 >= scheduler.report.size_fraction
    assert scheduler.shortfall is None
    (note,) = (each for each in scheduler.report.notes if "exceeded" in each)
    assert note == (
        "`budget` was exceeded on the way by layers that rules let fall later; the others were cut "
        "no further than the end asks."
    )


def test_what_is_met_without_a_layer_only_once_a_rule_has_saved_says_so():
    compression = compression_of(("budget", 0.8), {"rank": PiecewiseConstant((24, 3), (0, 1))})
    remarks = []
    for time in (0.0, 1.0):
        compression.cut(time)
        remarks.append(compression.report.kernels[0].remark)
    met = "budget 0.8 is met without it"
    assert remarks == [f"{met} once the rules for single layers are at their ends", met]


def test_rules_whose_ends_leave_too_little_are_told():
    flat = {"energy": Ramp(1.0, 0.99, 0, 2, "linear")}
    compression = compression_of(("budget", 0.3), flat)
    compression.cut(0.0)
    assert "rules for single layers left, even at their ends, less" in compression.hindrance


def test_zeros_are_taken_for_what_will_be_as_small_as_may_be():
    compression = compression_of(("budget", 0.45), RULES["energy"])
    compression.survey.compressible[1].kernel.variables[0].assign(np.zeros((24, 24)))
    compression.cut(1.0)
    assert min(compression.report.ranks.values()) > 3


# --- who says how far a cut goes --------------------------------------------------------------


def test_a_search_asks_for_budgets_that_hold_when_rules_are_at_their_ends():
    asked = Search(0.5, lowest=0.25)
    told, wanted = (
        compression_of(("budget", 0.25), RULES["rank"], ended=ended) for ended in (False, True)
    )
    for compression in (told, wanted):
        search = SearchController(asked, 1.0, 0.25, (0.0, 9.0))
        compression.cut(0.0, search.target_value)
    assert left(told, "parameters") == left(wanted, "parameters")


def test_a_cut_that_was_undone_is_made_less_deep_though_its_end_bound_it():
    goal, rule = target("budget", 0.45), RULES["rank"]
    controller = ScheduleController(lambda _: 1.0)
    first, second = (compression_of(("budget", 0.45), rule) for _ in range(2))
    mark = controller.mark()
    first.cut(0.0, controller.target_value)
    controller.undo(1.0, mark)
    assert controller.target_value(goal, math.inf) == pytest.approx(0.725)
    second.cut(1.0, controller.target_value)
    assert left(second, "parameters") > left(first, "parameters")
