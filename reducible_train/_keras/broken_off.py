"""Notice that a `fit` was broken off, by an error or Ctrl-C: Keras tells its callbacks nothing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from reducible_train._keras.fits import frame_of_fit, frames
from reducible_train._keras.layer_tree import models_in

_ASKED = ("make_train_function", "make_test_function")


def when_broken_off(model: Any, act: Callable[[], None]) -> Callable[[], None]:
    """Call `act` before a model, or one in it, is used once more, if its fit is over by then.

    Each training and evaluation begins by asking its model for the function it is made of.

    Args:
        model: The model of a running `fit`; of a loop of one's own nobody knows the end.
        act: What to do, once at most.

    Returns:
        Ends the watch.
    """
    frame = frame_of_fit(model)
    if frame is None:
        return lambda: None
    running = _Running(threading.get_ident(), id(frame), frame.f_code)
    hooks: list[_Hook] = []

    def end() -> None:
        while hooks:
            hooks.pop().remove()

    def look(caller: FrameType) -> None:
        if hooks and not running.is_above(caller):
            end()
            act()

    hooks += [_Hook(each, name, look) for each in models_in(model) for name in _ASKED]
    return end


@dataclass(frozen=True)
class _Running:
    """The call of `fit` that is watched, known by its frame: to hold that would keep its data.

    Args:
        thread: The thread it runs in.
        frame: What `id` tells of its frame.
        code: The code of the frame.
    """

    thread: int
    frame: int
    code: CodeType

    def is_above(self, caller: FrameType) -> bool:
        """True while it runs. A `caller` itself is another, which may have its frame's place."""
        innermost = sys._current_frames().get(self.thread)
        found = (each for each in frames(innermost) if each is not caller)
        return any(id(each) == self.frame and each.f_code is self.code for each in found)


class _Hook:
    """In the place of a method of one model, until it is removed.

    Args:
        model: The model.
        name: The name of the method.
        look: Called before the method, with what calls it.
    """

    def __init__(self, model: Any, name: str, look: Callable[[FrameType], None]):
        self._own, self._name, self._look = vars(model), name, look
        self._method, self._before = getattr(model, name), vars(model).get(name)
        self._own[name] = self  # where Keras looks first

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._look(sys._getframe(1))
        return self._method(*args, **kwargs)

    def remove(self) -> None:
        """Put the method back, if nothing else has taken its place."""
        if self._own.get(self._name) is not self:
            return
        del self._own[self._name]
        if self._before is not None:
            self._own[self._name] = self._before
