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
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "fit" and frame.f_locals.get("self") is callback.model:
            adapter = getattr(frame.f_locals.get("epoch_iterator"), "data_adapter", None)
            return adapter is not None and adapter.num_batches is None
        frame = frame.f_back  # type: ignore[assignment]
    return False


def begin_at(model: Any, epoch: int | None) -> None:
    """Let the fit that begins, and those after it, start at an epoch; `None` for their own.

    Keras has an argument for it, which a callback comes too late for.
    """
    model._initial_epoch = epoch
