"""From what an engine has chosen to the scheduler of one trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

from reducible_train import _keras
from reducible_train.errors import ArgumentError, ArgumentTypeError
from reducible_train.layers import find_kernels
from reducible_train.selection.feasibility import check_choices
from reducible_train.selection.measured import MeasuredLosses
from reducible_train.settings.checks import as_float, checked_all, plain
from reducible_train.settings.compression import AUTO, MEASURED, CompressionSettings
from reducible_train.settings.fields import fields_of
from reducible_train.settings.objectives import SIZES, SearchObjective
from reducible_train.settings.rules import LayerRule, rule_for
from reducible_train.settings.schedules import PiecewiseConstant, Ramp, Schedule
from reducible_train.settings.search_space import SearchSpace
from reducible_train.training.rank_scheduler import RankScheduler


def check_kinds(space: Any, objective: Any, otherwise: str) -> None:
    """Refuse what is no space, or no objective.

    Args:
        space: What is searched.
        objective: What is made best; `None` where that is a metric of the logs.
        otherwise: How such a metric is asked for.

    Raises:
        ArgumentTypeError: It is none.
        ArgumentError: It is one of which no trial could tell the value.
    """
    if not isinstance(space, SearchSpace):
        raise ArgumentTypeError(
            f"`space` must be a SearchSpace. Received: {space!r}. Write "
            "space=SearchSpace(budget=(0.05, 0.5))."
        )
    if objective is not None and not isinstance(objective, SearchObjective):
        raise ArgumentTypeError(
            f"`objective` must be a SizeAtQuality or a QualityAtSize. Received: {objective!r}. "
            f"{otherwise}"
        )
    if objective is not None:
        _check_objective(objective)


def _check_objective(objective: SearchObjective) -> None:
    """Refuse one of one's own of which no trial could tell the value."""
    owner = type(objective).__name__
    for name in ("name", "monitor", "mode"):
        told = getattr(objective, name, None)
        if not isinstance(told, str) or not told:
            raise ArgumentTypeError(
                f"`{name}` of the objective {owner} must be text. Received: {told!r}. Write it in "
                "the class."
            )
    if objective.name == objective.monitor:
        raise ArgumentError(
            f"`name` of the objective {owner} must be that of no other metric. Received: "
            f"name={objective.name!r}, which is its monitor. Choose another."
        )
    try:
        size = objective.size_name
    except (KeyError, AttributeError) as error:
        raise ArgumentError(
            f"`measure` of the objective {owner} must be one of {', '.join(map(repr, SIZES))}. "
            f"Received: measure={getattr(objective, 'measure', None)!r}. If unsure, 'parameters'."
        ) from error
    logs = dict.fromkeys((*SIZES.values(), objective.monitor, size), 0.5)
    try:
        value = objective.value(logs, 1, 0.5 if objective.needs_dense else None)
    except Exception:  # it needs what only a trial tells
        return
    check_value(objective, value)


def check_value(objective: SearchObjective, value: Any) -> None:
    """Refuse what an objective cannot be compared by; NaN is of a trial that went wrong.

    Raises:
        ArgumentTypeError: It is no number.
    """
    if isnan(as_float(value)) and not isinstance(plain(value), float):
        raise ArgumentTypeError(
            f"`value` of the objective {type(objective).__name__} must return a number. "
            f"Received: {value!r}. Return a float."
        )


def direction_of(objective: SearchObjective, sign: int) -> str:
    """Which way an objective goes.

    Raises:
        ArgumentError: It says neither.
    """
    direction = objective.direction(sign)
    if direction not in ("max", "min"):
        raise ArgumentError(
            f"`direction` of the objective {type(objective).__name__} must return 'max' or 'min'. "
            f"Received: {direction!r}. Return one of them."
        )
    return direction


def checked_rules(rules: Sequence[LayerRule]) -> tuple[LayerRule, ...]:
    """Rules for single layers, of which each is one.

    Raises:
        ArgumentTypeError: One is none, or they are no list.
    """
    example = "rules=[LayerRule('hidden_*')]"
    return tuple(checked_all("`rules` must hold LayerRule objects", rules, LayerRule, example))


def check_space(space: SearchSpace) -> None:
    """Refuse what this version cannot do, before the first trial.

    Raises:
        ArgumentError: An unknown allocation or criterion, or multiples that nobody keeps.
    """
    for each in space.domains:
        for value in each.values:
            if each.name in ("allocation", "criterion"):
                names = {"allocation": "auto", "criterion": "auto", each.name: str(value)}
                check_choices(**names)
    if space.multiple is not None and "multiple" not in fields_of(CompressionSettings):
        raise ArgumentError(
            f"`multiple` of a search space is not known here. Received: {space.multiple!r}. Leave "
            "it out."
        )


def check_measured(space: SearchSpace, analysis: Any) -> None:
    """Refuse a space whose trials would lack an analysis.

    Raises:
        ArgumentError: It names the criterion of an analysis, and there is none.
    """
    named = [each for each in space.domains if each.name == "criterion"]
    if analysis is None and any(MEASURED in each.values for each in named):
        raise ArgumentError(
            "`criterion` of a search space may be 'measured' where there is an analysis. Received: "
            f"{space.criterion!r} and no analysis. Give analysis='analysis.json', as "
            "analyze(model, data, file=...) writes it, or leave 'measured' out."
        )


def schedule(
    final: float, start: float, ramp: float, shape: str, epochs: int, begun: int = 0
) -> float | Schedule:
    """What a budget does over the epochs of a trial: dense, then falling, then at its end.

    Cuts are made before epochs, so times are rounded to them; the last epoch at the latest runs
    at the final budget, however short the trial.

    Args:
        final: The budget in the end.
        start: When it begins to fall, as a fraction of the epochs.
        ramp: How long it falls, as a fraction of the epochs.
        shape: How it falls.
        epochs: Where the trial ends.
        begun: The epoch with which it begins.

    Example:
        >>> schedule(0.2, 0.25, 0.5, "cubic", epochs=8)
        Ramp(initial=1.0, final=0.2, start_epoch=2, end_epoch=6, shape='cubic')
        >>> schedule(0.2, 0.25, 0.5, "cubic", epochs=1)
        0.2
    """
    own = epochs - begun
    first = begun + min(round(start * own), own - 1)
    last = begun + min(round((start + ramp) * own), own - 1)
    if last > first:
        return Ramp(1.0, final, start_epoch=first, end_epoch=last, shape=shape)  # type: ignore[arg-type]
    if first == begun:
        return final
    return PiecewiseConstant(values=(1.0, final), start_epochs=(0, first))


def scheduler_of(
    told: Mapping[str, Any],
    epochs: int,
    *,
    begun: int = 0,
    goes_on: bool = False,
    rules: Sequence[LayerRule] = (),
    losses: MeasuredLosses | None = None,
    layers_of: Any = None,
    **others: Any,
) -> RankScheduler:
    """The callback that does in a trial what was chosen.

    Args:
        told: All that a trial is told, as `SearchSpace.completed_choice` gives it.
        epochs: Where the trial ends.
        begun: The epoch with which it begins.
        goes_on: True where its model has the final ranks of another trial.
        rules: The user's rules for single layers, which come before the floors of the space.
        losses: The analysis by which a trial of criterion `"measured"` shares its budget.
        layers_of: A model that may lack layers which rules and floors are for: these are left out.
        **others: More arguments of a `RankScheduler`.
    """
    parts = {name: value for name, value in told.items() if name.split("/")[0] == "budget"}
    falls = {
        name.removeprefix("budget").removeprefix("/"): value
        if goes_on
        else schedule(value, told["start"], told["ramp"], told["shape"], epochs, begun)
        for name, value in parts.items()
    }
    if "multiple" in told:
        others["multiple"] = told["multiple"]
    criterion = told["criterion"]
    if criterion == MEASURED and goes_on:
        criterion = AUTO  # the ranks are there, and the weights are no longer those analysed
    elif criterion == MEASURED and losses is not None:
        others["analysis"] = losses.analysis
    asked = [*rules, *_floors(told)]
    return RankScheduler(
        falls.get("", falls),
        allocation=told["allocation"],
        criterion=criterion,
        rules=asked if layers_of is None else applied(asked, layers_of),
        **others,
    )


def check_floors(space: SearchSpace, rules: Sequence[LayerRule], model: Any) -> None:
    """Refuse floors that would be searched and change nothing, since the first rule applies.

    Raises:
        ArgumentError: A floor matches no layer, or none that a rule before it has left.
    """
    lowest = {each.name: each.values[0] for each in space.domains}
    paths = [(kernel.layer_path, kernel.layer.name) for kernel in find_kernels(model)]
    before = list(rules)
    for floor in _floors(lowest):
        own = [each for each in paths if floor.matches(*each)]
        if not own:
            raise ArgumentError(
                f"`min_rank` of a search space must match layers with a kernel. Received: "
                f"{floor.match!r}, which matches none. There are "
                f"{', '.join(dict.fromkeys(path for path, _ in paths)) or 'none'}."
            )
        if all(rule_for(before, *each) is not None for each in own):
            raise ArgumentError(
                f"`min_rank` of a search space must leave something to choose. Received: "
                f"{floor.match!r}, and each layer that it matches has a rule before it, which "
                "applies in its place. Remove one of them, or write the floor into the rule."
            )
        before.append(floor)


def rules_of(space: SearchSpace, rules: Sequence[LayerRule]) -> list[LayerRule]:
    """All rules that a trial has, with the smallest floors."""
    return [*rules, *_floors({each.name: each.values[0] for each in space.domains})]


def _floors(told: Mapping[str, Any]) -> list[LayerRule]:
    """The rules that stand for the floors of a space, in what a trial is told."""
    return [
        LayerRule(name.removeprefix("min_rank/"), min_rank=value)
        for name, value in told.items()
        if name.startswith("min_rank/")
    ]


def applied(rules: Sequence[LayerRule], model: Any) -> list[LayerRule]:
    """The rules that apply to a kernel of a model; of one without weights nobody knows."""
    part = _keras.trained_model(model)
    if not _keras.has_weights(part):
        return list(rules)
    kernels = [(kernel.layer_path, kernel.layer.name) for kernel in find_kernels(part)]
    first = [rule_for(rules, *each) for each in kernels]
    return [rule for rule in rules if any(rule is each for each in first)]
