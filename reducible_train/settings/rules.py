"""Rules for single layers, chosen by a pattern on their path or name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from reducible_train.settings.base import Settings, together
from reducible_train.settings.checks import SHARE
from reducible_train.settings.faults import Fault
from reducible_train.settings.fields import Choice, Count, Number, Text, Truth, option
from reducible_train.settings.goals import Goal
from reducible_train.settings.schedules import Schedule
from reducible_train.settings.targets import Target, target, target_kinds

SPLITS = ("channel", "spatial")
OWN = tuple(name for name, kind in target_kinds().items() if kind.for_layers)
_OF_RANKS = (
    *("min_rank", "max_rank", "min_share", "multiple"),
    *OWN,
    *("split", "group", "min_gain"),
)
_LISTED = ", ".join(f"`{name}`" for name in OWN[:-1]) + f" or `{OWN[-1]}`"


@dataclass(frozen=True)
class LayerRule(
    Settings,
    help="What holds for the layers whose path or name matches; the first matching rule applies.",
):
    """What holds for the layers that a pattern matches; the first rule that matches applies.

    Raises:
        ArgumentError: Contradictory or unusable values.

    Example:
        >>> LayerRule("encoder/*", min_rank=8).matches("encoder/d1", "d1")
        True
    """

    match: str = option(
        Text("a pattern on layer names", "match='hidden_*'"),
        help="Glob on the layer's path or name, such as 'encoder/*' or 'hidden_?'.",
    )
    keep_dense: bool | None = option(
        Truth(),
        None,
        help="True leaves the layer as it is; False takes in one that would be left alone because "
        "it is an output layer. Left out, a tight budget of which it would be much may take it in.",
    )
    min_rank: int | None = option(Count(), None, help="Smallest rank it may get.")
    max_rank: int | None = option(
        Count(), None, help="Largest rank it may get once it is factorised."
    )
    min_share: float | None = option(
        Number(SHARE),
        None,
        help="The least that it keeps once it is factorised, as a share of its full rank, in "
        "[0, 1). Beside min_rank the larger of the two holds.",
    )
    multiple: int | None = option(
        Count(), None, help="What its rank is a multiple of, such as 8; 1 for any rank."
    )
    rank: float | Schedule | None = option(
        Goal("rank"),
        None,
        help="Its own rank, a number or a schedule, whatever the other layers do.",
    )
    energy: float | Schedule | None = option(
        Goal("energy"), None, help="Its own energy to keep, in (0, 1]: a number or a schedule."
    )
    rtol: float | Schedule | None = option(
        Goal("rtol"),
        None,
        help="Its own relative error, in [0, 1): a number, or a schedule that rises.",
    )
    effective_rank: float | Schedule | None = option(
        Goal("effective_rank"),
        None,
        help="Its own multiple of its effective rank to keep: a number or a schedule.",
    )
    split: str | None = option(
        Choice(SPLITS),
        None,
        help="How its kernel is split, where there is a choice: 'channel' or 'spatial' for Conv2D. "
        "Left out: the split that costs less at equal error.",
    )
    group: str | None = option(
        Text("a name", "group='experts'"),
        None,
        help="A name; under a budget, layers of one group get equal ranks, or all stay dense. "
        "Their kernels must have one shape.",
    )

    min_gain: float | None = option(
        Number(SHARE),
        None,
        help="Fraction of its cost that it must save to be factorised, in [0, 1). As the last "
        "rule, LayerRule('*', min_gain=0.2) holds for all that no rule before it matches.",
    )

    @classmethod
    def whose(cls, values: Mapping[str, Any]) -> str:
        return f"the rule for {values.get('match')!r}"

    @together("min_rank", "max_rank")
    def _limits_in_order(self) -> Fault | None:
        if not (self.min_rank and self.max_rank and self.min_rank > self.max_rank):
            return None
        return Fault(
            ("min_rank",),
            f"`min_rank` must not be above `max_rank`. Received: min_rank={self.min_rank}, "
            f"max_rank={self.max_rank} in {self.whose(vars(self))}. Exchange or change them.",
        )

    @together("match", "keep_dense", *_OF_RANKS)
    def _dense_or_ranks(self) -> Fault | None:
        others = self._given(*_OF_RANKS)
        if not (self.keep_dense and others):
            return None
        return Fault(
            ("keep_dense",),
            "A layer that stays dense has no rank: a rule with keep_dense=True can say nothing "
            f"about ranks. Received: {self!r}. Remove `keep_dense`, or {' and '.join(others)}.",
        )

    @together()
    def _one_of_its_own(self) -> Fault | None:
        own = self._given(*OWN)
        if len(own) < 2:
            return None
        return Fault(
            (),
            f"A rule may set at most one of {_LISTED}. Received: {' and '.join(own)} in "
            f"{self.whose(vars(self))}. Remove all but one.",
        )

    @together("group")
    def _group_or_its_own(self) -> Fault | None:
        own = self._given(*OWN)
        if self.group is None or not own:
            return None
        return Fault(
            ("group",),
            f"A group shares what a budget gives it, so its rule can set no {_LISTED}. "
            f"Received: group and {own[0]} in {self.whose(vars(self))}. Remove one "
            "of them.",
        )

    def multiple_fault(self, multiple: int) -> str | None:
        """What is wrong with its ranks, if they are multiples of a number; `None` if nothing is."""
        whose, least = self.whose(vars(self)), -(-(self.min_rank or 1) // multiple) * multiple
        if self.max_rank and least > self.max_rank:
            limits = f"max_rank={self.max_rank}"
            limits = f"min_rank={self.min_rank}, {limits}" if self.min_rank else limits
            return (
                f"`max_rank` must leave a multiple of `multiple`. Received: {limits} in {whose}, "
                f"in multiples of {multiple}. Raise it to {least}, or give "
                "the rule multiple=1."
            )
        return None if self.target is None else self.target.multiple_fault(multiple, f" in {whose}")

    def _given(self, *names: str) -> list[str]:
        """Which of some options are not left out."""
        return [name for name in names if getattr(self, name) is not None]

    @property
    def target(self) -> Target | None:
        """Its own target, if it has one."""
        own = {name: value for name in OWN if (value := getattr(self, name)) is not None}
        return target(*own.popitem()) if own else None

    @property
    def has_floor(self) -> bool:
        """True for one that says how small a rank may be."""
        return self.min_rank is not None or self.min_share is not None

    def matches(self, path: str, name: str) -> bool:
        """True for a layer of this path or name."""
        return fnmatchcase(path, self.match) or fnmatchcase(name, self.match)


def rule_for(rules: Iterable[LayerRule], path: str, name: str) -> LayerRule | None:
    """The first rule that matches a layer."""
    return next((rule for rule in rules if rule.matches(path, name)), None)


def shadowed(
    rules: Sequence[LayerRule], layers: Sequence[tuple[str, str]]
) -> list[tuple[int, LayerRule]]:
    """The rules that never apply, whatever the model, since a wider one is before them.

    One that says the same as that is none, nor is one for whatever others have left, though they
    leave nothing of these layers.

    Args:
        rules: The rules.
        layers: The layers whose kernels rules are for, as (path, name).

    Returns:
        The place of each, and the first wider rule before it.

    Example:
        >>> shadowed([LayerRule("h*", min_rank=2), LayerRule("h1", rank=5)], [("h1", "h1")])[0][0]
        1
        >>> shadowed([LayerRule("h1", rank=5), LayerRule("*", min_rank=2)], [("h1", "h1")])
        []
    """
    matches = [{layer for layer in layers if rule.matches(*layer)} for rule in rules]
    found = []
    for index, (rule, own) in enumerate(zip(rules, matches, strict=True)):
        wider = [
            other
            for other, theirs in zip(rules[:index], matches, strict=False)
            if own <= theirs
            and _is_wider(other.match, rule.match)
            and replace(other, match=rule.match) != rule
        ]
        if own and wider:
            found.append((index, wider[0]))
    return found


def _is_wider(pattern: str, other: str) -> bool:
    """True for a pattern that surely matches all that another one does, whatever the model."""
    if pattern == other:
        return True
    return fnmatchcase(other, pattern) and not fnmatchcase(pattern, other)


def unmatched(rules: Sequence[LayerRule], layers: Sequence[tuple[str, str]]) -> list[LayerRule]:
    """The rules that match none of the layers, given as (path, name)."""
    return [rule for rule in rules if not any(rule.matches(*layer) for layer in layers)]
