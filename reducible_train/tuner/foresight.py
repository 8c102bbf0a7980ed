"""Where a search begins, before its first trial; with an analysis, also what cannot win.

The losses of single kernels, added up over the ranks that share a budget best, tell what is lost
right after a cut. Training wins most of that back: so a budget that is foreseen to hold the quality
without any holds it, and no larger one can be the answer. How much of it training wins back, trials
have to find out; of what the networks of `benchmarks/finetune.py` had lost, two thirds was left in
the worst case, a tenth or so as a rule, and nothing of 25 times what was allowed in the best.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from reducible_train import _keras
from reducible_train.compressor import Compression, asked_of
from reducible_train.errors import ArgumentError
from reducible_train.layers import find_kernels
from reducible_train.selection.measured import MeasuredLosses, check_kernels, check_weights
from reducible_train.settings.compression import AUTO, MEASURED
from reducible_train.settings.objectives import SearchObjective, SizeAtQuality
from reducible_train.settings.rules import LayerRule
from reducible_train.settings.search_space import Domain, SearchSpace
from reducible_train.tuner.trial_settings import scheduler_of

_HALVINGS = 12  # of the range of budgets, to find the smallest that loses so much
_FIRST = 10.0  # of the loss that is allowed: what the first trial loses before training
_MOST = 60.0  # the same: more than twice what was ever won back there
_APART = 1.1  # times, the ends of what is left, so that there is something to choose
COUNTED = ("parameters", "bytes", "flops")  # what is known of ranks without a trial
_RATE = "learning_rate"
_LOWEST = ("start", "ramp")  # one cut, unless the space forbids it


@dataclass(frozen=True)
class Foresight:
    """Where a search begins.

    Args:
        space: The space, without budgets that cannot win.
        goal: What it searches; `None` where that is not the smallest model by one range of
            budgets, and the tuner alone chooses.
        first: Settings of the first trial.
        budget: Name of the budget that is searched.
        holds: The smallest budget that an analysis foresees to hold the quality without training;
            `None` where none does, or there is no analysis.
        searched: The budgets of the space as it was asked for, where an analysis narrows it.
        why: Why nothing is foreseen; empty where something is, or where trials tell it alone.
        analysed: True if there is an analysis.
    """

    space: SearchSpace
    goal: SizeAtQuality | None = None
    first: Mapping[str, Any] = field(default_factory=dict)
    budget: str = ""
    holds: float | None = None
    searched: tuple[float, ...] = ()
    why: str = ""
    analysed: bool = False

    def __str__(self) -> str:
        """What an analysis says of the search; without one, where proposals begin."""
        if not self.analysed:
            return self._begins
        if self.why:
            measured = MEASURED in (self.space.criterion, *self.space.criterion)
            more = ", but trials of criterion 'measured' go by it" if measured else ""
            begins = "" if self.goal is None else f"; {self._begins}"
            return f"the analysis foresees nothing of {self.why}{more}{begins}"
        (low, high), (least, largest) = self.searched, self.ends
        told = f"{self.budget} from {least:.1%} to {largest:.1%} can win by the analysis"
        if (low, high) == (least, largest):
            return f"{told}: all that was asked for"
        return f"{told}, of {low:.1%} to {high:.1%}: no other one is tried"

    def begins_within(self, ends: tuple[float, float]) -> float:
        """The budget of the first trial of a tuner.

        Args:
            ends: The least and the largest budget that the tuner may choose.
        """
        low, high = ends
        if self.searched == () and ends != self.ends:
            return float((low * high) ** 0.5)
        return min(max(float(self.first[self.budget]), low), high)

    @property
    def _begins(self) -> str:
        if self.goal is None:
            return f"nothing is foreseen of {self.why}: the tuner alone chooses what is tried"
        first, (low, high) = self.first[self.budget], self.ends
        return f"proposals begin with {self.budget} {first:.1%}, of {low:.1%} to {high:.1%}"

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the largest budget."""
        domain = next(each for each in self.space.domains if each.name == self.budget)
        low, high = (float(each) for each in domain.values)
        return low, high


def begin(space: SearchSpace, objective: SearchObjective | None, model: Any) -> Foresight:
    """Where a search begins of which no analysis says anything: in the middle of its budgets.

    Args:
        space: What is searched.
        objective: What is made best.
        model: The dense start.
    """
    budgets = _budgets(space)
    why = unsteered(budgets, objective)
    if why or not isinstance(objective, SizeAtQuality):
        return Foresight(space, why=why)
    (domain,) = budgets
    low, high = (float(each) for each in domain.values)
    first = _usual_settings(space, model) | {domain.name: (low * high) ** 0.5}
    return Foresight(space, objective, first, domain.name)


def foresee(
    losses: MeasuredLosses,
    space: SearchSpace,
    objective: SearchObjective | None,
    rules: Sequence[LayerRule],
    model: Any,
) -> Foresight:
    """What an analysis says of a search for the smallest model that is good enough.

    Of any other objective it foresees nothing, nor where several budgets are searched at once, or
    one that counts something else than the objective.

    Args:
        losses: The analysis.
        space: What is searched.
        objective: What is made best.
        rules: The user's rules for single layers.
        model: The dense start.

    Raises:
        ArgumentError: An analysis of another model or other weights, or of another metric than the
            objective's.
    """
    part = _keras.trained_model(model)
    check_kernels(losses, part, {each.path: each for each in find_kernels(part)})
    check_weights(losses, part)
    budgets = _budgets(space)
    why = unforeseen(budgets, objective)
    if why or not isinstance(objective, SizeAtQuality):
        return replace(begin(space, objective, model), why=why, analysed=True)
    _check_metric(losses, objective)
    (domain,) = budgets
    low, high = (float(each) for each in domain.values)
    lost, allowed = _lost(losses, space, rules, part, domain.name), _allowed(losses, objective)
    holds = _smallest(lost, allowed, low, high)
    chance = max(allowed, losses.analysis.error or 0.0)

    def losing(times: float) -> float:
        return _smallest(lost, times * chance, low, high) or high

    largest = min(max(holds or high, low * _APART), high)
    least = max(min(losing(_MOST), largest / _APART), low)
    narrowed = _between(space, domain, (least, largest))
    budget = min(max(losing(_FIRST), least), largest)
    first = _usual_settings(narrowed, model) | {domain.name: budget}
    return Foresight(narrowed, objective, first, domain.name, holds, (low, high), analysed=True)


def _budgets(space: SearchSpace) -> list[Domain]:
    return [each for each in space.domains if each.name.partition("/")[0] == "budget"]


def unsteered(budgets: Sequence[Domain], objective: SearchObjective | None) -> str:
    """Of what trials tell nothing: all but one range of budgets, as the objective counts."""
    if not isinstance(objective, SizeAtQuality):
        return "the best quality within a size, only of the smallest size at a quality"
    counted = [each.name.partition("/")[2] or "parameters" for each in budgets]
    if len(budgets) > 1:
        return f"several budgets at once ({', '.join(counted)}), only of one"
    if not budgets[0].is_range:
        return "budgets to choose from, only of a range, two numbers"
    if counted[0] != objective.measure:
        return (
            f"a budget of {counted[0]} where the objective counts {objective.measure}, only where "
            "both count the same"
        )
    return ""


def unforeseen(budgets: Sequence[Domain], objective: SearchObjective | None) -> str:
    """Of what an analysis says nothing: of the same, and of sizes that no rank tells."""
    why = unsteered(budgets, objective)
    if why or objective is None or objective.measure in COUNTED:
        return why
    return f"{objective.measure}, which is known after a trial, only of {', '.join(COUNTED)}"


def _check_metric(losses: MeasuredLosses, objective: SizeAtQuality) -> None:
    wanted, came = objective.monitor.removeprefix("val_"), losses.analysis.metric
    if came != wanted:
        raise ArgumentError(
            f"`analysis` must be of the metric that the search holds: {wanted!r}. Received: "
            f"{losses.source}, of {came!r}. Analyse again: analyze(model, data, metric={wanted!r}, "
            f"file=...), or reducible-train analyze with --metric {wanted}."
        )


def _allowed(losses: MeasuredLosses, objective: SizeAtQuality) -> float:
    """By how much the metric may be worse than the analysis has found it."""
    if objective.max_drop is not None:
        return objective.max_drop
    behind = losses.analysis.baseline - float(objective.limit or 0.0)
    return max(-behind if losses.analysis.less_is_better else behind, 0.0)


def _lost(
    losses: MeasuredLosses, space: SearchSpace, rules: Sequence[LayerRule], part: Any, name: str
) -> Callable[[float], float]:
    """What a budget is foreseen to lose right after its cut, shared by the analysis."""
    told = {each.name: each.values[0] for each in space.domains}
    told |= {"criterion": AUTO, "allocation": AUTO}
    asked = scheduler_of(told, epochs=1, rules=rules, layers_of=part).settings
    measured = asked_of(asked, criterion=MEASURED, analysis=losses)
    compression = Compression(part, **measured)
    return lambda budget: losses.unit * compression.foreseen_loss(0.0, budget)


def _smallest(
    lost: Callable[[float], float], allowed: float, low: float, high: float
) -> float | None:
    """The smallest budget that loses no more than is allowed; equal steps are equal ratios."""
    if lost(high) > allowed:
        return None
    if lost(low) <= allowed:
        return low
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if lost(middle) <= allowed else (middle, high)
    return high


def _between(space: SearchSpace, domain: Domain, ends: tuple[float, float]) -> SearchSpace:
    """The space with other ends of its budget."""
    measure = domain.name.partition("/")[2]
    return replace(space, budget={measure: ends} if measure else ends)


def _usual_settings(space: SearchSpace, model: Any) -> dict[str, Any]:
    """What is tried first; the learning rate is that of the compiled model, if it may be."""
    searched = {each.name: each for each in space.domains if each.is_searched}
    found = {name: _usual(each) for name, each in searched.items()}
    rate = getattr(getattr(model, "optimizer", None), "learning_rate", None)
    if rate is not None and searched.get(_RATE) is not None and searched[_RATE].is_range:
        low, high = (float(each) for each in searched[_RATE].values)
        found[_RATE] = min(max(float(_keras.host_float(rate)), low), high)
    return found


def _usual(domain: Domain) -> Any:
    """What is tried first of something: the middle; of words, what this package knows best."""
    values = domain.values
    if isinstance(values[0], str):
        return next((each for each in (MEASURED, AUTO) if each in values), values[0])
    if domain.name in _LOWEST or domain.name.startswith("min_rank/"):
        return values[0]
    if not domain.is_range:
        return values[len(values) // 2]
    low, high = (float(each) for each in values)
    middle = (low * high) ** 0.5 if domain.log else (low + high) / 2
    return round(middle) if domain.whole else middle
