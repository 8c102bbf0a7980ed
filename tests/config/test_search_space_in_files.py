"""The section `search_space` of a file: the same space as in Python, each mistake at its place."""

from __future__ import annotations

import pytest

from reducible_train import ConfigError
from reducible_train.config import config_schema, load_config, parse_config
from reducible_train.settings.search_space import SearchSpace

TEXT = """
compression: {budget: 0.5}
search_space:
  budget: [0.05, 0.5]
  start: 0.25
  ramp: [0.0, 0.25, 0.5]
  shape: [linear, cubic]
  allocation: [knapsack, equal_energy]
  criterion: auto
  learning_rate: [1e-4, 1e-2]
  min_rank:
    hidden_*: [4, 32]
    output: 8
"""
SPACE = SearchSpace(
    budget=(0.05, 0.5),
    start=0.25,
    ramp=(0.0, 0.25, 0.5),
    shape=("linear", "cubic"),
    allocation=("knapsack", "equal_energy"),
    learning_rate=(1e-4, 1e-2),
    min_rank={"hidden_*": (4, 32), "output": 8},
)


def space_of(**keys):
    return parse_config({"compression": {"budget": 0.5}, "search_space": keys}).search_space


def test_a_file_says_the_same_as_python(tmp_path):
    path = tmp_path / "tune.yaml"
    path.write_text(TEXT)
    assert load_config(path).search_space == SPACE


def test_budgets_by_measure():
    space = space_of(budget={"parameters": [0.1, 0.5], "flops": 0.6})
    other = SearchSpace(budget={"flops": 0.6, "parameters": (0.1, 0.5)})
    assert space.domains == other.domains  # in one order, by which trials are drawn
    assert space.budget == {"parameters": (0.1, 0.5), "flops": 0.6}


def test_without_the_section_there_is_none_and_an_empty_one_is_the_default():
    assert parse_config({"compression": {"budget": 0.5}}).search_space is None
    assert space_of() == SearchSpace()


@pytest.mark.parametrize(
    ("keys", "place", "words"),
    [
        ({"budget": [0.5, 0.05]}, "budget", "0.5, 0.05"),
        ({"budget": []}, "budget", "leave something to choose"),
        ({"budget": [0.05, 50]}, "budget[1]", "For 50 % write 0.5"),
        ({"budget": [0.1, 0.2, "a lot"]}, "budget[2]", "'a lot'"),
        ({"budget": {"params": 0.5}}, "budget.params", "parameters"),
        ({"budget": {"flops": [0.1, 2]}}, "budget.flops[1]", "Received: 2"),
        ({"budget": {}}, "budget", "leave something to choose"),
        ({"ramp": 1.0}, "ramp", "less than 1"),
        ({"start": [0.0, 0.6], "ramp": 0.5}, "ramp", "time at the final ranks"),
        ({"shape": "cubik"}, "shape", "Did you mean 'cubic'"),
        ({"shape": ["linear", "linear"]}, "shape", "each once"),
        ({"allocation": ["knapsack", "knapsak"]}, "allocation[1]", "knapsack"),
        ({"criterion": "fischer"}, "criterion", "fisher"),
        ({"learning_rate": [0, 0.1]}, "learning_rate[0]", "greater than 0"),
        ({"multiple": [4, 4.5]}, "multiple[1]", "whole number"),
        ({"min_rank": 4}, "min_rank", "mapping"),
        ({"min_rank": {"hidden": [4, 0]}}, "min_rank.hidden[1]", "at least 1"),
        ({"min_rank": {"hidden": [8, 4]}}, "min_rank.hidden", "8, 4"),
        ({"budgets": 0.5}, "budgets", "Did you mean 'budget'"),
        ({"budget": 0.5}, "", "leave something to choose"),
    ],
)
def test_each_mistake_has_its_place(keys, place, words):
    with pytest.raises(ConfigError) as caught:
        space_of(**keys)
    (problem,) = caught.value.problems
    assert problem.path == ("$.search_space" + (place and f".{place}"))
    assert words in problem.message


def test_several_mistakes_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        space_of(budget=[2, 0.1], shape="no", min_rank={"a": [0, 1]})
    assert len(caught.value.problems) == 3


def test_editors_know_its_words_and_ranges():
    defs = config_schema()["$defs"]
    keys = defs["SearchSpaceSection"]["properties"]
    one, several = keys["allocation"]["oneOf"]
    assert "knapsack" in one["enum"]
    assert (several["items"], several["minItems"]) == (one, 1)
    assert "flops" in defs["EachMeasureSection"]["properties"]
    assert "minimum" in str(keys["min_rank"])
