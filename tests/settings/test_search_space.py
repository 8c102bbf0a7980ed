"""What a search may choose from, and what it makes best: frozen values, no Keras."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from reducible_train.errors import ArgumentError, ArgumentTypeError
from reducible_train.settings.objectives import QualityAtSize, SizeAtQuality
from reducible_train.settings.search_space import SearchSpace


def searched(space):
    return {each.name: each for each in space.domains if each.is_searched}


def test_two_numbers_are_a_range_and_three_are_choices():
    found = searched(SearchSpace(budget=[0.1, 0.5], start=(0.0, 0.1, 0.2), ramp=0.5))
    assert list(found) == ["budget", "start"]
    assert (found["budget"].is_range, found["budget"].log) == (True, True)
    assert (found["start"].is_range, found["start"].values) == (False, (0.0, 0.1, 0.2))


def test_whole_numbers_by_pattern_and_budgets_by_measure():
    space = SearchSpace(budget={"flops": (0.2, 0.5), "bytes": 0.5}, min_rank={"h*": (2, 8)})
    assert list(searched(space)) == ["budget/flops", "min_rank/h*"]
    assert searched(space)["min_rank/h*"].whole


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"budget": (0.5, 0.1)}, "Exchange its ends"),
        ({"budget": (0.2, 0.2)}, "which is empty"),
        ({"budget": ()}, "leave something to choose"),
        ({"budget": (0.1, 0.2, 0.2)}, "twice"),
        ({"budget": (0.1, 20)}, r"budget\[1\].*For 20 % write 0.2"),
        ({"budget": {}}, "leave something to choose"),
        ({"budget": {"weights": 0.1}}, "'parameters'"),
        ({"budget": 0.5}, "leave something to choose"),
        ({"start": (0.2, 0.6), "ramp": (0.1, 0.4)}, "time at the final ranks"),
        ({"shape": ("linear", "square")}, r"shape\[1\]"),
        ({"allocation": ()}, "each once"),
        ({"min_rank": {"": 4}}, "pattern on layer names"),
        ({"min_rank": {"h": (4, 2)}}, "min_rank.h"),
        ({"multiple": (0, 8)}, r"multiple\[0\]"),
    ],
)
def test_what_cannot_be_searched_is_refused(options, words):
    with pytest.raises(ArgumentError, match=words):
        SearchSpace(**options)


@pytest.mark.parametrize("options", [{"min_rank": 4}, {"budget": "all"}, {"allocation": 3}])
def test_what_is_of_no_use_is_refused_as_a_type(options):
    with pytest.raises((ArgumentTypeError, TypeError)):
        SearchSpace(**options)


def test_a_choice_is_completed_by_what_is_settled():
    space = SearchSpace(budget=(0.1, 0.5), min_rank={"h": (2, 8)}, criterion="fisher")
    told = space.completed_choice({"budget": 0.1, "min_rank/h": 4.0, "tuner/epochs": 3})
    assert (told["budget"], told["criterion"], told["ramp"]) == (0.1, "fisher", 0.0)
    assert isinstance(told["min_rank/h"], int)
    assert list(told) == [each.name for each in space.domains]
    for wrong in ({}, {"budget": 0.05}, {"budget": True}, {"budget": "0.2"}):
        with pytest.raises(ArgumentError, match="`budget` must be chosen in"):
            space.completed_choice({"min_rank/h": 4, **wrong})


HEEDED = {"budget": 0.1, "min_rank/h": 4, "ramp": 0.0, "criterion": "fisher", "learning_rate": None}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"ramp": 0.2}, r"`ramp` must be 0\.0, as the space has settled it.*ramp=0\.2\. Leave"),
        ({"criterion": "auto"}, "`criterion` must be 'fisher'.*criterion='auto'"),
        ({"ramp": None}, "`ramp` must be.*ramp=None"),
        ({"learning_rate": 0.1}, "'learning_rate' must be.*choose: budget, min_rank/h.*=0.1"),
        ({"min_rank/out": 2}, "'min_rank/out' must be something"),
        ({"criteron": "auto"}, "'criteron' must be something"),
        ({3: 1}, "3 must be something"),
    ],
)
def test_a_choice_of_which_something_would_be_unheeded_is_refused(more, words):
    space = SearchSpace(budget=(0.1, 0.5), min_rank={"h": (2, 8)}, criterion="fisher")
    space.check_heeded(HEEDED | {"tuner/epochs": 3, "tuner/bracket": 1})
    space.check_heeded(HEEDED | more, read=list(more))
    with pytest.raises(ArgumentError, match=words):
        space.check_heeded(HEEDED | more)
    if more.keys() <= {"criteron", 3}:  # something else may read it
        space.check_heeded(HEEDED | more, others=True)
    else:
        with pytest.raises(ArgumentError, match=words):
            space.check_heeded(HEEDED | more, others=True)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.array, Fraction, float])
def test_numbers_of_any_kind_are_chosen_as_pythons_own(kind):
    space = SearchSpace(budget=(0.3, 0.6), start=(0.1, 0.2, 0.4), multiple=(2, 8))
    for budget, start, multiple in ((0.3, 0.1, 2), (0.4, 0.2, 5), (0.6, 0.4, 8)):
        chosen = {"budget": kind(budget), "start": kind(start), "multiple": np.int64(multiple)}
        told = space.completed_choice(chosen)
        assert told["budget"] == pytest.approx(budget, rel=1e-7)
        assert 0.3 <= told["budget"] <= 0.6
        assert (told["start"], told["multiple"]) == (start, multiple)
        assert {type(told[each]) for each in ("budget", "start")} == {float}
        assert type(told["multiple"]) is int
    for wrong in (np.True_, np.float32(0.61), np.nan, np.array([0.4, 0.5])):
        with pytest.raises(ArgumentError, match="`budget` must be chosen in"):
            space.completed_choice({"start": 0.1, "multiple": 2, "budget": wrong})


# --- objectives ------------------------------------------------------------------------

LOGS = ("val_accuracy", "params_fraction")


def logs(quality, size):
    return dict(zip(LOGS, (quality, size), strict=True))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_smallest_that_is_good_enough_wins(sign):
    """Good and small, good and large, nearly good, far from good: in that order."""
    goal = SizeAtQuality("val_accuracy", limit=sign * 0.9)
    rows = [(0.95, 0.1), (0.9, 1.0), (0.89, 0.05), (0.5, 0.01)]
    values = [goal.value(logs(sign * quality, size), sign) for quality, size in rows]
    assert values == sorted(values)
    assert len(set(values)) == 4
    assert goal.direction(sign) == "min"


@pytest.mark.parametrize("sign", [1, -1])
def test_the_best_that_is_small_enough_wins(sign):
    goal = QualityAtSize("val_accuracy", limit=0.25)
    rows = [(0.9, 0.25), (0.8, 0.1), (0.95, 0.26), (0.99, 0.9)]
    rows = [(quality if sign > 0 else 1 - quality, size) for quality, size in rows]
    values = [sign * goal.value(logs(*row), sign) for row in rows]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 4
    assert goal.direction(sign) == ("max" if sign > 0 else "min")


@pytest.mark.parametrize("worst", [None, -3.0, 2000.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_no_quality_is_too_bad_to_be_told_from_another(sign, worst):
    """Losses of a regression, coefficients below 0, one that is infinite: all before too large."""
    goal = QualityAtSize("val_accuracy", limit=0.5, worst=worst)
    qualities = [50, 3, 0.2, 0, -1e-3, -5, -1285, -1285.1, -1447, -1e6, -1e12, -1.001e12, -math.inf]
    rows = [(sign * each, 0.5) for each in qualities] + [(sign * 9, 0.5001), (sign * 9, 1.0)]
    values = [sign * goal.value(logs(*row), sign) for row in rows]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(rows)
    assert all(map(math.isfinite, values))


def test_a_quality_that_is_not_beyond_the_worst_counts_as_it_is():
    goal = QualityAtSize("val_accuracy", limit=0.5)
    assert [goal.value(logs(each, 0.4), -1) for each in (-4.5, 0.37, 10.0)] == [-4.5, 0.37, 10.0]
    assert [goal.value(logs(each, 0.4), 1) for each in (0.0, 0.37, 40.0)] == [0.0, 0.37, 40.0]


def test_a_drop_is_counted_from_the_dense_model():
    goal = SizeAtQuality("val_accuracy", max_drop=0.01)
    assert goal.needs_dense
    assert goal.value(logs(0.89, 0.3), 1, dense=0.9) == 0.3
    assert goal.value(logs(0.88, 0.3), 1, dense=0.9) == pytest.approx(1.01)
    with pytest.raises(ArgumentError, match="dense=None"):
        goal.value(logs(0.9, 0.3), 1)


def test_no_number_is_no_value():
    for goal in (SizeAtQuality(limit=0.9), QualityAtSize("val_accuracy", limit=0.5)):
        assert math.isnan(goal.value(logs(math.nan, 0.3), 1))


@pytest.mark.parametrize("options", [{}, {"limit": 0.9, "max_drop": 0.1}, {"max_drop": 3}])
def test_a_limit_that_says_nothing_is_refused(options):
    with pytest.raises(ArgumentError):
        SizeAtQuality("val_accuracy", **options)
