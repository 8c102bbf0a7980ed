"""The search in TensorBoard's HParams tab: what is searched with its domains, and three metrics.

keras-tuner gives each trial a run of its own below the user's folder and tells its settings there,
but never what may be chosen nor what counts: the tab then shows the first five of all scalars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
from tensorboard.plugins.hparams import api

from reducible_train.settings.search_space import Domain
from reducible_train.tensorboard import events
from reducible_train.tuner.evaluation import Quality, TrialPlan

_RUN = "trial"  # a run below that of the trial, for two writers of one run lose points
_SIZES = {"params_fraction": "parameters kept", "flops_fraction": "FLOPs kept"}


def declare_hparams(callbacks: Sequence[Any], plan: TrialPlan, quality: Quality) -> None:
    """Say once, in the folder that the user gave to `TensorBoard`, what is searched.

    Args:
        callbacks: Those of a trial; without a `TensorBoard` among them nothing is written.
        plan: What all trials have in common.
        quality: What tells how good a model is.
    """
    for board in _boards(callbacks):
        root = _root(board)
        if any(root.glob("events.out.tfevents.*")):
            continue
        searched = [each for each in plan.space.domains if each.is_searched]
        summary = api.hparams_config_pb(
            [api.HParam(each.name, _domain(each)) for each in searched],
            [
                api.Metric(_tag(name), group=_RUN, display_name=shown)
                for name, shown in {quality.monitor: quality.monitor, **_SIZES}.items()
            ],
        )
        writer = events.RunWriter(root)
        writer.write(0, summary.value)
        writer.close()


def write_results(callbacks: Sequence[Any], metrics: Mapping[str, float], quality: Quality) -> None:
    """Write what a trial has come to, where the HParams tab looks for it."""
    names = [name for name in (quality.monitor, *_SIZES) if name in metrics]
    for board in _boards(callbacks):
        writer = events.RunWriter(Path(board.log_dir) / _RUN)
        writer.write(0, [events.scalar(_tag(name), metrics[name]) for name in names])
        writer.close()


def _boards(callbacks: Sequence[Any]) -> list[Any]:
    """The callbacks that keras-tuner gives a folder for each trial; it goes by this very name."""
    return [
        each
        for each in callbacks
        if isinstance(each, keras.callbacks.TensorBoard) and type(each).__name__ == "TensorBoard"
    ]


def _root(board: Any) -> Path:
    """The folder that the user gave: keras-tuner has added the trial and its execution."""
    return Path(board.log_dir).parents[1]


def _tag(name: str) -> str:
    return f"reducible/{name}"


def _domain(domain: Domain) -> Any:
    if not domain.is_range:
        return api.Discrete(list(domain.values))
    low, high = domain.values
    if domain.whole:
        return api.IntInterval(int(low), int(high))
    return api.RealInterval(float(low), float(high))
