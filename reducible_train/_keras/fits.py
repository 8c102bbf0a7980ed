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


def begin_at(model: Any, epoch: int | None) -> None:
    """Let the fit that begins, and those after it, start at an epoch; `None` for their own.

    Keras has an argument for it, which a callback comes too late for.
    """
    model._initial_epoch = epoch
