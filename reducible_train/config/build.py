"""From a checked configuration to callbacks, and the mistakes only a model shows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import keras

from reducible_train import _keras
from reducible_train.compressor import Compression, asked_of
from reducible_train.config.config import Config
from reducible_train.config.problems import nearest, shown
from reducible_train.config.reading import Place
from reducible_train.config.training import training_problems
from reducible_train.errors import ArgumentError, FileAccessError, FormatError, RankError
from reducible_train.layers import find_kernels
from reducible_train.selection.call_counts import count_calls
from reducible_train.selection.input_shapes import InputShapes, shapes_told
from reducible_train.selection.measured import MeasuredLosses, check_weights, losses_of
from reducible_train.settings.compression import AUTO, MEASURED
from reducible_train.settings.measures import CountedMeasure, Measure, Parameters
from reducible_train.settings.rules import LayerRule, shadowed, unmatched
from reducible_train.settings.targets import SharedTargets, Target, target
from reducible_train.surgery.merge import check_model
from reducible_train.tensorboard.callback import RankTensorBoard
from reducible_train.training.backup import RankBackupAndRestore
from reducible_train.training.checkpoint import RankModelCheckpoint
from reducible_train.training.early_stopping import RankEarlyStopping
from reducible_train.training.rank_scheduler import RankScheduler


def callbacks(config: Config) -> list[Any]:
    """The callbacks of `Config.callbacks`, in the order in which they must stand."""
    scheduler = RankScheduler(**config.settings().arguments())
    found: list[Any] = [scheduler]
    if config.tensorboard is not None:
        logs = keras.callbacks.TensorBoard(config.tensorboard.log_dir)
        found += [logs, RankTensorBoard(scheduler, logs)]
    if config.model.early_stopping is not None:
        found.append(RankEarlyStopping(scheduler, **dict(config.model.early_stopping)))
    if config.model.checkpoint is not None:
        found.append(RankModelCheckpoint(scheduler, **dict(config.model.checkpoint)))
    if config.model.backup is not None:
        found.append(RankBackupAndRestore(scheduler, **dict(config.model.backup)))
    return found


def layer_rules(config: Config) -> tuple[LayerRule, ...]:
    """The rules, in the order of the file."""
    return tuple(rule.build() for rule in config.compression.rules)


def model_problems(config: Config, model: Any) -> Iterator[tuple[Place, str]]:
    """Everything in a configuration that does not fit a model."""
    check_model(model)
    yield from training_problems(config.training, model)
    if not _keras.has_weights(model):
        yield (
            (),
            f"the model {model.name!r} has no weights yet. Build it, or call it once on data,"
            " before its ranks can be planned.",
        )
        return
    rules = layer_rules(config)
    layers = [(path, layer.name) for path, layer in _keras.walk(model)]
    idle = unmatched(rules, layers)
    for index, rule in enumerate(rules):
        if rule in idle:
            paths = [path for path, _ in layers]
            advice = nearest(rule.match, paths) or " Correct the pattern, or remove the rule."
            yield (
                ("compression", "rules", index, "match"),
                f"matches no layer of model {model.name!r}. Received: {shown(rule.match)}."
                f"{advice} Its layers: {_some(paths)}.",
            )
    left = [rule for rule in rules if rule not in idle]
    holders = [(kernel.layer_path, kernel.layer.name) for kernel in find_kernels(model)]
    hidden = shadowed(rules, holders)
    for index, other in hidden:
        yield (
            ("compression", "rules", index, "match"),
            f"applies to no layer of model {model.name!r}, since the first rule that matches does."
            f" Received: {shown(rules[index].match)} after {shown(other.match)}. Put it before "
            "that, or remove one of them.",
        )
        left.remove(rules[index])
    yield from _idle_floors(config, model)
    yield from _plan_problems(config, model, tuple(left))


def _idle_floors(config: Config, model: Any) -> Iterator[tuple[Place, str]]:
    """Floors of the search space that match no layer with a kernel."""
    space = config.search_space
    floors = {} if space is None else space.min_rank or {}
    layers = [(kernel.layer_path, kernel.layer.name) for kernel in find_kernels(model)]
    for pattern in floors:
        if unmatched([LayerRule(pattern)], layers):
            paths = list(dict.fromkeys(path for path, _ in layers))
            yield (
                ("search_space", "min_rank", pattern),
                f"matches no layer with a kernel of model {model.name!r}. Received: "
                f"{shown(pattern)}.{nearest(pattern, paths) or ' Correct or remove it.'}"
                f" There are: {_some(paths) or 'none'}.",
            )


def _measurable(measure: Measure, model: Any, shapes: Sequence[InputShapes]) -> bool:
    """False for what is measured when the fit begins, or counted by the lengths of its data."""
    if not measure.needs_shapes:
        return True
    known = isinstance(measure, CountedMeasure)
    return known and count_calls(model, find_kernels(model), shapes)[1] is not None


def _plan_problems(
    config: Config, model: Any, rules: tuple[LayerRule, ...]
) -> Iterator[tuple[Place, str]]:
    """Nothing to compress, or a budget that no ranks can meet."""
    try:
        asked = config.settings()
        goal, measures = asked.target, list(asked.measures)
        part, told = _keras.trained_model(model), asked.input_shape
        shapes = [] if told is None else [shapes_told(told, part)]
        known = [each for each in measures if _measurable(each, part, shapes)]
        if len(known) < len(measures):
            # Only when the fit begins is known which other budget can be met.
            goal, measures = _part_of(goal, known)
        wanted = asked_of(
            asked,
            target=goal,
            measure=measures,
            criterion=MEASURED if asked.analysis is not None else AUTO,
            analysis=_analysis_of(asked.analysis, part),
            rules=rules,
        )
        Compression(model, **wanted, shapes=shapes)
    except (ArgumentError, FileAccessError, FormatError, RankError) as error:
        sentence = str(error).splitlines()[0]
        words = r"`(budget|cost|search|allocation|measure|input_shape|analysis)(\.\w+)?`"
        named = [each for found in re.findall(words, sentence)[:1] for each in found if each]
        named = [each.removeprefix(".") for each in named]
        if named == ["input_shape"]:
            named = ["measure", "input_shape"]
        if isinstance(error, FileAccessError | FormatError):
            named = ["analysis"]
        yield ("compression", *named), sentence


def _analysis_of(given: Any, model: Any) -> MeasuredLosses | None:
    """What an analysis says of a model, of whose weights it must be."""
    losses = losses_of(given)
    if losses is not None:
        check_weights(losses, model)
    return losses


def _part_of(
    goal: Target | SharedTargets, known: list[Measure]
) -> tuple[Target | SharedTargets, list[Measure]]:
    """Of several budgets those of measures that are known already; else one that is met."""
    names = [each.name for each in known]
    if not isinstance(goal, SharedTargets) or not known:
        return target("budget", 1.0), [Parameters()]
    return replace(goal, parts=tuple(p for p in goal.parts if p.measure in names)), known


def _some(paths: list[str], limit: int = 12) -> str:
    more = f" and {len(paths) - limit} more" if len(paths) > limit else ""
    return ", ".join(paths[:limit]) + more
