"""The ranks in what Keras keeps of each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from reducible_train.tensorboard.tags import layer_of

_FEW = 12  # kernels that a progress bar has room for


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
    told = {f"rank/{layer_of(path)}": rank for path, rank in ranks.items()}
    if len(told) <= _FEW:
        if logs is not None:
            logs |= told
    elif isinstance(history, keras.callbacks.History):
        for name, rank in told.items():
            history.history.setdefault(name, []).append(rank)
