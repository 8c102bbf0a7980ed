"""Which of several rules never apply."""

from __future__ import annotations

import pytest

from reducible_train.settings.rules import LayerRule, shadowed

LAYERS = [("block/h1", "h1"), ("block/h2", "h2"), ("out", "out")]


@pytest.mark.parametrize(
    ("patterns", "never"),
    [
        (["h*", "h1"], [(1, "h*")]),
        (["*", "out"], [(1, "*")]),
        (["h1", "h1"], [(1, "h1")]),
        (["out", "block/*", "block/h2"], [(2, "block/*")]),
        (["h1", "block/h1"], []),  # in a smaller model: none of these is surely of less than others
        (["*1", "h2", "h?"], []),
        (["h[2]", "*2", "h2*"], []),
        (["h?", "h*"], []),
        (["h1", "h2", "out", "*"], []),
        (["out", "o*"], []),
        (["h1", "h*", "*"], []),
        (["h*", "nothing"], []),
    ],
)
def test_a_rule_never_applies_where_a_wider_one_is_before_it(patterns, never):
    rules = [LayerRule(pattern, rank=rank) for rank, pattern in enumerate(patterns, 1)]
    assert [(place, other.match) for place, other in shadowed(rules, LAYERS)] == never


def test_a_rule_that_says_the_same_may_come_before():
    assert not shadowed([LayerRule("h*", min_rank=2), LayerRule("h1", min_rank=2)], LAYERS)
