"""The ranks in what Keras keeps of each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from reducible_train import _keras
from reducible_train.errors import ArgumentError
from reducible_train.layers import find_kernels
from reducible_train.tensorboard.tags import layer_of

_FEW = 12  # kernels that a progress bar has room for
SIZES = ("params", "params_fraction")  # of the model, in the logs of each epoch


def check_names(model: Any) -> None:
    """Refuse metrics that would be lost among what is added to the logs.

    Args:
        model: The model in training.

    Raises:
        ArgumentError: One of them is called like a size, or like a rank.
    """
    paths = [kernel.path for kernel in find_kernels(_keras.trained_model(model))]
    added = {*SIZES, *map(_name_of, paths)}
    taken = [name for name in _keras.metric_names(model) if name in added]
    if taken:
        raise ArgumentError(
            "Metrics of a model must not be called like what a RankScheduler adds to its logs: "
            f"{', '.join(SIZES)}, and rank/<layer>. Received: {taken[0]!r}. Compile the model with "
            f"another name for it, such as 'my_{taken[0]}'."
        )


def _name_of(path: str) -> str:
    """What the rank of a kernel is called in the logs."""
    return f"rank/{layer_of(path)}"


def tell_ranks(ranks: Mapping[str, int], logs: dict[str, Any] | None, history: Any) -> None:
    """Add the ranks of an epoch to its logs, and so to the history; of many, to the history alone.

    Args:
        ranks: Rank by path of the kernel.
        logs: Metrics of the epoch.
        history: The `History` of the fit, if there is one.

    Example:
        >>> logs = {"loss": 0.5}
        >>> tell_ranks({"hidden/kernel": 8}, logs, None)
        >>> logs
        {'loss': 0.5, 'rank/hidden': 8}
    """
    told = {_name_of(path): rank for path, rank in ranks.items()}
    if len(told) <= _FEW:
        if logs is not None:
            logs |= told
    elif isinstance(history, keras.callbacks.History):
        for name, rank in told.items():
            history.history.setdefault(name, []).append(rank)
