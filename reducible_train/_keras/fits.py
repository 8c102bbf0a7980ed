"""Know the fit that is running."""

from __future__ import annotations

import sys
from typing import Any

import keras


def companions(callback: Any) -> list[Any]:
    """All callbacks of the fit that has called a callback, in their order.

    Itself among them; nothing if it was called by something else. Keras tells a callback of
    its model only, so the list is looked up where the call came from.
    """
    frame = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.CallbackList) and any(
            each is callback for each in caller.callbacks
        ):
            return list(caller.callbacks)
        frame = frame.f_back  # type: ignore[assignment]
    return []


def has_unknown_length(callback: Any) -> bool:
    """True if the fit that calls a callback learns only from a step that its data has ended.

    So it is on TensorFlow with generators and filtered datasets; other backends fetch the
    data before they announce a step. Keras's `params` tell a number of steps that may be the
    user's, or one too many.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    data = _data_of_fit(callback)
    return data is not None and data.data_adapter.num_batches is None


def is_in_fit(callback: Any) -> bool:
    """True if Keras's own loop calls a callback, which announces every step to it."""
    return _data_of_fit(callback) is not None


def _data_of_fit(callback: Any) -> Any | None:
    """What `fit` takes its batches from; `None` if something else calls."""
    frame = sys._getframe(1)
    while frame is not None:
        data = frame.f_locals.get("epoch_iterator")
        if data is not None and frame.f_locals.get("self") is callback.model:
            return data
        frame = frame.f_back  # type: ignore[assignment]
    return None


def begin_at(model: Any, epoch: int | None) -> None:
    """Let the fit that begins, and those after it, start at an epoch; `None` for their own.

    Keras has an argument for it, which a callback comes too late for.
    """
    model._initial_epoch = epoch
