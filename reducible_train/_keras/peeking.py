"""Look at the batches of a running `fit` on JAX or torch before they are trained on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any
from weakref import WeakMethod

import keras


class Batches:
    """The batches of a running `fit`: what was looked at comes later, in its order.

    Args:
        epoch_iterator: What gives Keras's loop the batches of an epoch, before the first.
    """

    def __init__(self, epoch_iterator: Any):
        # Held by it alone, so that its data goes with it.
        self._renew: Any = WeakMethod(epoch_iterator._get_iterator)
        self._batches: Iterator[Any] = iter(())
        self._ahead: deque[Any] = deque()
        at_once = epoch_iterator.steps_per_execution if _fetches_before_it_announces() else 0
        self._given: deque[Any] = deque(maxlen=at_once)  # of the step that is announced
        epoch_iterator._get_iterator = self._begin

    def _begin(self) -> Batches:
        self._batches = iter(self._renew()())
        self._ahead.clear()
        self._given.clear()
        return self

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Any:
        batch = self._ahead.popleft() if self._ahead else next(self._batches)
        self._given.append(batch)
        return batch

    def coming(self, at_once: int) -> Iterator[list[Any]]:
        """The batches of the step that is announced, and of each after it in this epoch.

        Args:
            at_once: Batches of a step.
        """
        if self._given:
            yield list(self._given)
        place = 0
        while self._has(place):
            step = [self._ahead[i] for i in range(place, place + at_once) if self._has(i)]
            yield step
            place += len(step)

    def _has(self, place: int) -> bool:
        while len(self._ahead) <= place:
            try:
                self._ahead.append(next(self._batches))
            except StopIteration:
                return False
        return True


def batches_of(epoch_iterator: Any) -> Batches | None:
    """Those of a running `fit`, that began no epoch yet or was asked for them before.

    `None` on TensorFlow.
    """
    if keras.backend.backend() == "tensorflow":
        return None
    known = getattr(epoch_iterator._get_iterator, "__self__", None)
    return known if isinstance(known, Batches) else Batches(epoch_iterator)


def _fetches_before_it_announces() -> bool:
    """True for the loop of torch; that of JAX fetches within the step, as TensorFlow's does."""
    return bool(keras.backend.backend() == "torch")
