"""Fetch batches of a running `fit` before the steps that are trained on them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import keras

from reducible_train._keras.fits import Loop
from reducible_train._keras.functions import is_distributed


class Ahead:
    """Batches of a running `fit`, fetched before their steps, which are trained on them later.

    Nothing of a fit that runs to its end is lost, and nothing comes in another order.

    Args:
        model: The model in training.
        take: Called with each batch that is fetched, until it returns False.

    Attributes:
        is_asked: True until batches were fetched.
        ended: True once there is no more, of the data or of the fit.
    """

    def __init__(self, model: Any, take: Callable[[Any], bool]):
        self.is_asked = True
        self.ended = False
        self._model = model
        self._take = take
        self._steps: deque[list[Any]] = deque()
        self._restore: Callable[[], None] = lambda: None

    def fetch(self, iterator: Any, left: int | None = None) -> None:
        """Take the batches to come; there must be one.

        Args:
            iterator: Over the data.
            left: Training steps that the fit still makes, of which more are not fetched; `None`
                where nobody knows.

        Raises:
            StopIteration: The data has ended.
        """
        step = _step(self._model, iterator)
        self.is_asked = False
        while True:
            self._steps.append(step)
            wanted = [self._take(batch) for batch in step]
            if not all(wanted):
                return
            self.ended = left is not None and len(self._steps) >= left
            if self.ended:
                return
            try:
                step = _step(self._model, iterator)
            except StopIteration:
                self.ended = True
                return

    @property
    def holds(self) -> bool:
        """True if it has the batches of the next step."""
        return bool(self._steps)

    def attach(self) -> None:
        """Have the steps to come trained on what was fetched; again after a new train function."""
        self._restore()
        if not self._steps:
            return
        model, original = self._model, self._model.train_function

        def fetched(iterator: Any) -> Any:
            same = _replayed(iterator, self._steps.popleft())
            if not self._steps:
                restore()
            return original(same)

        def restore() -> None:
            if model.train_function is fetched:
                model.train_function = original

        model.train_function, self._restore = fetched, restore

    def drop(self) -> None:
        """The fit is over; what is left of it is not trained on."""
        self._restore()
        self._steps.clear()


def batches_ahead(model: Any, take: Callable[[Any], bool]) -> Ahead | None:
    """What fetches batches of the running `fit`; `None` where it cannot be done.

    That takes TensorFlow on one device.
    """
    if keras.backend.backend() != "tensorflow" or is_distributed(model):
        return None
    return None if getattr(model, "train_function", None) is None else Ahead(model, take)


def before_step(
    model: Any,
    act: Callable[[], None],
    ahead: Ahead | None = None,
    *,
    loop: Loop,
    left: int | None = None,
) -> None:
    """Call `act` before the step that a running `fit` has announced, if there is one.

    Where TensorFlow's data has an unknown length, Keras announces one step more at an epoch's
    end, and finds no data for it. There the batches are fetched first, and trained on
    afterwards; elsewhere `act` is called at once, if it is not to see batches to come.

    Args:
        model: The model in training.
        act: What to do.
        ahead: What fetches batches first, if something does.
        loop: The loop that has announced it.
        left: Training steps that the fit still makes; `None` where nobody knows.
    """
    queue = ahead
    if queue is None or not queue.is_asked:
        if (queue is not None and queue.holds) or not loop.has_unknown_length:
            act()
            return
        queue = Ahead(model, lambda _: False)
    original = model.train_function

    def waiting(iterator: Any) -> Any:
        model.train_function = original
        queue.fetch(iterator, left)
        act()
        queue.attach()
        return model.train_function(iterator)

    model.train_function = waiting


def _step(model: Any, iterator: Any) -> list[Any]:
    """The batches of a training step.

    Raises:
        StopIteration: The data has ended.
    """
    batches = [next(iterator)]
    while len(batches) < model.steps_per_execution:
        more = next(iterator, None)
        if more is None:
            break
        batches.append(more)
    return batches


def _replayed(iterator: Any, batches: list[Any]) -> Any:
    """An iterator over batches, of the signature of the one that they came from.

    Nothing is traced again for it, but under a distribution strategy.
    """
    import tensorflow as tf  # noqa: PLC0415

    if not isinstance(iterator, tf.data.Iterator):
        return iter(batches)
    replay = tf.data.Dataset.from_tensors(batches[0])
    for batch in batches[1:]:
        replay = replay.concatenate(tf.data.Dataset.from_tensors(batch))
    variant = tf.data.experimental.to_variant(replay)
    same = tf.data.experimental.from_variant(variant, structure=iterator.element_spec)
    return iter(same)
