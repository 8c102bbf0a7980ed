"""Rules for single layers, chosen by a pattern on their path or name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from reducible_train.errors import ArgumentError, ArgumentTypeError
from reducible_train.settings.checks import (
    SHARE,
    is_number,
    plain,
    settle,
    settle_counts,
    settle_numbers,
)
from reducible_train.settings.schedules import Schedule
from reducible_train.settings.targets import Target, target, target_kinds

SPLITS = ("channel", "spatial")
OWN = tuple(name for name, kind in target_kinds().items() if kind.for_layers)


@dataclass(frozen=True)
class LayerRule:
    """What holds for the layers that a pattern matches; the first rule that matches applies.

    Args:
        match: Glob on the layer's path or name: `"hidden_*"`, `"encoder/*"`.
        keep_dense: True leaves the layer as it is; False takes in a layer that would be
            left alone because it is an output layer.
        min_rank: Smallest rank it may get.
        max_rank: Largest rank it may get once it is factorised.
        rank: Its own rank, a number or a schedule, whatever the other layers do.
        energy: Its own energy, a number or a schedule.
        rtol: Its own relative error, a number or a schedule.
        split: How its kernel is split, where there is a choice: `"channel"` or `"spatial"`
            for Conv2D. Without it, the split that costs less at equal error is taken.
        group: A name; under a budget, layers of one group get equal ranks, or all stay dense.
            Their kernels must have one shape.
        min_gain: Fraction of its cost that it must save to be factorised, in [0, 1). As the last
            rule, `LayerRule("*", min_gain=0.2)` holds for all that no rule before it matches.

    Raises:
        ArgumentError: Contradictory or unusable values.

    Example:
        >>> LayerRule("encoder/*", min_rank=8).matches("encoder/d1", "d1")
        True
    """

    match: str
    keep_dense: bool | None = None
    min_rank: int | None = None
    max_rank: int | None = None
    rank: float | Schedule | None = None
    energy: float | Schedule | None = None
    rtol: float | Schedule | None = None
    split: str | None = None
    group: str | None = None
    min_gain: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.match, str) or not self.match:
            raise ArgumentTypeError(
                "`match` of a LayerRule must be a pattern on layer names. "
                f"Received: match={self.match!r}. Write for example match='hidden_*'."
            )
        settle(self, keep_dense=plain(self.keep_dense))
        if self.keep_dense is not None and not isinstance(self.keep_dense, bool):
            raise ArgumentTypeError(
                f"`keep_dense` must be True or False. Received: keep_dense={self.keep_dense!r} in "
                f"the rule for {self.match!r}. Write it without quotes."
            )
        settle_counts(self, f"the rule for {self.match!r}", "min_rank", "max_rank")
        settle(self, **{n: plain(v) for n in OWN if is_number(v := getattr(self, n))})
        if self.min_rank and self.max_rank and self.min_rank > self.max_rank:
            raise ArgumentError(
                f"`min_rank` must not be above `max_rank`. Received: min_rank={self.min_rank}, "
                f"max_rank={self.max_rank} in the rule for {self.match!r}."
            )
        settle_numbers(self, f"the rule for {self.match!r}", min_gain=SHARE)
        others = ("min_rank", "max_rank", *OWN, "split", "group", "min_gain")
        if self.keep_dense and any(getattr(self, name) is not None for name in others):
            raise ArgumentError(
                "A rule with keep_dense=True can say nothing about ranks. Received: "
                f"{self!r}. Remove `keep_dense`, or all the others."
            )
        own = [name for name in OWN if getattr(self, name) is not None]
        if len(own) > 1:
            raise ArgumentError(
                "A rule may set one of `rank`, `energy` and `rtol`. Received: "
                f"{' and '.join(own)} in the rule for {self.match!r}. Remove all but one."
            )
        self._check_group()
        if self.split not in (None, *SPLITS):
            raise ArgumentError(
                f"`split` must be one of {', '.join(map(repr, SPLITS))}. Received: "
                f"split={self.split!r} in the rule for {self.match!r}."
            )
        _ = self.target

    def _check_group(self) -> None:
        if self.group is None:
            return
        if not isinstance(self.group, str) or not self.group:
            raise ArgumentTypeError(
                f"`group` must be a name. Received: group={self.group!r} in the rule for "
                f"{self.match!r}. Write for example group='experts'."
            )
        own = [name for name in OWN if getattr(self, name) is not None]
        if own:
            raise ArgumentError(
                "A group shares what a budget gives it, so its rule can set no `rank`, `energy` or "
                f"`rtol`. Received: group and {own[0]} in the rule for {self.match!r}. Remove one "
                "of them."
            )

    @property
    def target(self) -> Target | None:
        """Its own target, if it has one."""
        own = {name: value for name in OWN if (value := getattr(self, name)) is not None}
        return target(*own.popitem()) if own else None

    def matches(self, path: str, name: str) -> bool:
        """True for a layer of this path or name."""
        return fnmatchcase(path, self.match) or fnmatchcase(name, self.match)


def rule_for(rules: Iterable[LayerRule], path: str, name: str) -> LayerRule | None:
    """The first rule that matches a layer."""
    return next((rule for rule in rules if rule.matches(path, name)), None)


def unmatched(rules: Sequence[LayerRule], layers: Sequence[tuple[str, str]]) -> list[LayerRule]:
    """The rules that match none of the layers, given as (path, name)."""
    return [rule for rule in rules if not any(rule.matches(*layer) for layer in layers)]
