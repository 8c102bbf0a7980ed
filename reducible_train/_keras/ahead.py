"""Fetch batches of a running `fit` before the steps that are trained on them."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from types import GeneratorType
from typing import Any

import keras

from reducible_train._keras.fits import Loop, frame_of_fit
from reducible_train._keras.functions import is_distributed
from reducible_train._keras.stand_ins import StandIn


class Ahead:
    """A look at batches of a running `fit` before their steps, which are trained on them later.

    Nothing of a fit that runs to its end is lost, and nothing comes in another order.

    Args:
        take: Called with each batch that is seen, until it returns False.

    Attributes:
        is_asked: True until batches were seen.
        ended: True once there is no more, of the data or of the fit.
    """

    def __init__(self, take: Callable[[Any], bool]):
        self.is_asked = True
        self.ended = False
        self._take = take

    def look(self, steps: Iterator[list[Any]], left: int | None = None) -> bool:
        """See the batches of steps to come.

        Args:
            steps: The batches of each.
            left: Training steps that the fit still makes, of which more are not looked at; `None`
                where nobody knows.

        Returns:
            False if there is not even one: the data has ended.
        """
        for count, step in enumerate(steps, start=1):
            self.is_asked = False
            wanted = [self._take(batch) for batch in step]
            if not all(wanted):
                return True
            self.ended = left is not None and count >= left
            if self.ended:
                return True
        self.ended = not self.is_asked
        return self.ended

    @property
    def holds(self) -> bool:
        """True if it has the batches of the next step."""
        return False

    def attach(self) -> None:
        """Have the steps to come trained on what was seen; again after a new train function."""

    def drop(self) -> None:
        """The fit is over; what is left of it is not trained on."""


class Fetched(Ahead):
    """The same on TensorFlow, where what is seen is gone from the iterator of the fit.

    Args:
        model: The model in training.
        take: As `Ahead` takes it.
    """

    def __init__(self, model: Any, take: Callable[[Any], bool]):
        super().__init__(take)
        self._model = model
        self._steps: deque[list[Any]] = deque()
        self._iterator: Any = None  # what they are from
        self._stand_in: StandIn | None = None

    def fetch(self, iterator: Any, left: int | None = None) -> None:
        """Take the batches to come from an iterator over the data; there must be one.

        Raises:
            StopIteration: The data has ended.
        """
        self._iterator = iterator
        if not self.look(self._fetched(iterator), left):
            raise StopIteration

    def _fetched(self, iterator: Any) -> Iterator[list[Any]]:
        while step := list(itertools.islice(iterator, self._model.steps_per_execution)):
            self._steps.append(step)
            yield step

    @property
    def holds(self) -> bool:
        """True if it has the batches of the next step."""
        return bool(self._steps)

    def attach(self) -> None:
        """Have the steps to come trained on what was fetched; again after a new train function."""
        self._put_back()
        if self._steps:
            self._stand_in = StandIn(self._model, self._train)

    def _train(self, original: Callable[[Any], Any], iterator: Any) -> Any:
        if iterator is not self._iterator or not self._steps:  # of `train_on_batch`, in a callback
            return original(iterator)
        same = _replayed(iterator, self._steps.popleft())
        if not self._steps:
            self._put_back()
            self._iterator = None
        return original(same)

    def _put_back(self) -> None:
        if self._stand_in is not None:
            self._stand_in.put_back()

    def drop(self) -> None:
        """The fit is over; what is left of it is not trained on."""
        self._put_back()
        self._steps.clear()
        self._iterator = None


def batches_ahead(model: Any, take: Callable[[Any], bool]) -> Ahead | None:
    """What sees batches of the running `fit` before their steps; `None` where it cannot be done.

    That takes one device, and a `fit`: in a loop of one's own nobody knows where batches are from.
    """
    if frame_of_fit(model) is None or is_distributed(model):
        return None
    if keras.backend.backend() == "tensorflow":
        return Fetched(model, take)
    return None if keras.distribution.distribution() is not None else Ahead(take)


def before_step(
    model: Any,
    act: Callable[[], None],
    ahead: Ahead | None = None,
    *,
    loop: Loop,
    left: int | None = None,
) -> None:
    """Call `act` before the step that a running `fit` has announced, if there is one.

    Where data has an unknown length, Keras announces one step more at an epoch's end, and finds no
    data for it. So the batches are seen first; on TensorFlow they are fetched for it, and trained
    on afterwards. Elsewhere `act` is called at once, if it is not to see batches to come.

    Args:
        model: The model in training.
        act: What to do.
        ahead: What sees batches first, if something does.
        loop: The loop that has announced it.
        left: Training steps that the fit still makes; `None` where nobody knows.
    """
    is_asked = ahead is not None and ahead.is_asked
    is_there = not loop.has_unknown_length or (ahead is not None and ahead.holds)
    if is_there and not is_asked:
        act()
        return
    if loop.batches is not None:
        seen = ahead if ahead is not None and is_asked else Ahead(lambda _: False)
        if seen.look(loop.batches.coming(model.steps_per_execution), left):
            act()
        return
    queue = ahead if isinstance(ahead, Fetched) and is_asked else Fetched(model, lambda _: False)

    def wait(original: Callable[[Any], Any], iterator: Any) -> Any:
        if isinstance(iterator, GeneratorType):  # of `train_on_batch`, in a callback
            return original(iterator)
        model.train_function = original
        queue.fetch(iterator, left)
        act()
        queue.attach()
        return model.train_function(iterator)

    StandIn(model, wait)


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
