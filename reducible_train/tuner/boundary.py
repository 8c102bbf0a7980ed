"""What the next trial of a search for the smallest model shall be, by what trials have shown.

A loss falls steeply with the size, so each trial tells at which size its settings would just hold
the quality, whether it held it or not. The settings of which that is the smallest are tried again,
one of them exchanged, at that size; each trial that does not hold halves the way from there to the
smallest model that held, so that the search ends close below it however wrong the first guess was.
Every fourth begins anew from there: where a loss hardly falls with the size, luck decides, and
small sizes are as likely to have it as large ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log
from typing import Any

_POWER = 2.5  # a loss falls with this power of the size
_RATIOS = (0.5, 16.0)  # of a loss to what is allowed, within which that is believed
_AGAIN = 4  # misses, after which the way begins anew
_SMALLER = 0.985  # times the smallest that held, so that it is smaller in whole ranks as well
_SPREAD = 1.02  # by how much the tuner moves a size up or down, so that no trial is done twice
_ROUNDING = 1e-9  # of a budget that went through a file


@dataclass(frozen=True)
class Shown:
    """What a trial has shown, or one that has not ended will not have.

    Args:
        budget: The fraction that it was allowed.
        settings: What else was chosen for it.
        size: The fraction that it reached.
        margin: By how much its quality is better than it must be; below 0 it does not hold.
    """

    budget: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    size: float = 1.0
    margin: float | None = None

    @property
    def holds(self) -> bool:
        """True if its quality is good enough."""
        return self.margin is not None and self.margin >= 0

    def enough(self, allowed: float) -> float:
        """The budget at which its settings would just hold.

        Args:
            allowed: By how much a quality may be worse than that of the dense start.
        """
        if self.margin is None:
            return float("inf")
        if allowed <= 0:
            return self.budget if self.holds else float("inf")
        low, high = _RATIOS
        ratio = min(max(1.0 - self.margin / allowed, low), high)
        return float(self.budget * ratio ** (1 / _POWER))


@dataclass(frozen=True)
class Aim:
    """What the next trial shall be.

    Args:
        budget: The fraction that it is allowed.
        settings: The best settings so far; empty where nothing is known.
    """

    budget: float
    settings: Mapping[str, Any]

    def exchanged(self, chosen: Mapping[str, Any], number: int) -> dict[str, Any]:
        """The settings with one of them as a tuner has chosen it, each in its turn.

        Args:
            chosen: What the tuner has chosen for all of them.
            number: Of the trial.
        """
        found = {name: self.settings.get(name, value) for name, value in chosen.items()}
        if found:
            name = list(found)[number % len(found)]
            found[name] = chosen[name]
        return found

    def moved(self, share: float, ends: tuple[float, float]) -> float:
        """The budget, a little smaller or larger, by where in its range a tuner has chosen it.

        At an end of the range it is moved inwards alone.

        Args:
            share: In [0, 1], of all budgets.
            ends: The least and the largest budget of the search.
        """
        low, high = (log(each / self.budget, _SPREAD) for each in ends)
        low, high = max(low, -1.0), min(high, 1.0)
        moved = float(self.budget * _SPREAD ** (low + (high - low) * share))
        return min(max(moved, ends[0]), ends[1])


def nothing_smaller(trials: Sequence[Shown], ends: tuple[float, float]) -> bool:
    """True if the least budget has held, so that none that is smaller can be tried.

    Args:
        trials: What trials have shown.
        ends: The least and the largest budget of the search.
    """
    return any(each.holds and each.budget <= ends[0] * (1 + _ROUNDING) for each in trials)


def aim(trials: Sequence[Shown], ends: tuple[float, float], allowed: float | None) -> Aim | None:
    """Where the next trial can win; `None` where no trial has shown anything.

    Args:
        trials: What trials have shown, in the order in which they began.
        ends: The least and the largest budget of the search.
        allowed: By how much a quality may be worse than that of the dense start; `None` where
            that is not known, and the best of the trials stands in its place.

    Example:
        >>> trials = [Shown(0.4, {"rate": 1e-3}, size=0.4, margin=0.002),
        ...           Shown(0.2, {"rate": 2e-3}, size=0.2, margin=-0.001)]
        >>> found = aim(trials, (0.05, 0.5), allowed=0.003)
        >>> round(found.budget, 3), found.settings
        (0.224, {'rate': 0.002})
    """
    if allowed is None:
        allowed = max((each.margin or 0.0 for each in trials), default=0.0)
    known = [each for each in trials if each.margin is not None]
    if not known:
        return None
    best = min(known, key=lambda each: each.enough(allowed))
    held = [each for each in known if each.holds]
    smallest = min(held, key=lambda each: each.size, default=None)
    low, high = ends
    top = high if smallest is None else smallest.size * _SMALLER
    wanted = min(best.enough(allowed), top)
    last = max(i for i, each in enumerate(trials) if each is best or each is smallest)
    misses = len(trials) - 1 - last
    budget = top * (wanted / top) ** (0.5 ** (misses % _AGAIN))
    return Aim(min(max(budget, low), high), best.settings)
