"""Know the fit that is running."""

from __future__ import annotations

import sys
from typing import Any

import keras
from keras.src.callbacks.monitor_callback import MonitorCallback

__all__ = ["MonitorCallback", "begin_at", "companions", "has_validation"]  # the first: their base


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


def has_validation(callback: Any) -> bool | None:
    """Whether the fit that has called a callback has validation data; `None` outside of a fit.

    Keras tells callbacks nothing of it.
    """
    frame = sys._getframe(1)
    while frame is not None:
        found = frame.f_locals
        if found.get("self") is callback.model and "validation_data" in found:
            return found["validation_data"] is not None
        frame = frame.f_back  # type: ignore[assignment]
    return None


def begin_at(model: Any, epoch: int | None) -> None:
    """Let the fit that begins, and those after it, start at an epoch; `None` for their own.

    Keras has an argument for it, which a callback comes too late for.
    """
    model._initial_epoch = epoch
