"""Samples of a model's data: inputs, targets and weights, in batches or joined."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.linalg.weighting import (
    are_counts,
    checked_weights,
    of_samples,
    shared_weights,
    within_loss,
)

ROOM = 2**28  # bytes that samples may take where nobody said how many
FEW = 64  # that are taken whatever their size
HARDLY = 0.1  # of the samples that would be taken if none had weight 0
_TRIED = 32  # samples, to know whether a loss grows with the batch
_BATCH = 128  # what a training step can hold, this can; more would take its memory again
_LARGEST_BATCH = 1024  # of models so small that a call takes longer than what it computes
_NUMBERS = 2**22  # of the outputs of all layers on such a batch: 16 MiB


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs of a model, with targets and weights where they are known.

    Args:
        x: Arrays as the model takes them, nested as the model takes them.
        y: Targets, or `None`.
        weight: Sample weights, nested as the targets are, or `None`.
        more: Samples of other shapes, such as sequences of another length.
    """

    x: Any
    y: Any = None
    weight: Any = None
    more: tuple[Samples, ...] = ()

    def __len__(self) -> int:
        return count_of(self.x) + sum(map(len, self.more))

    def batches(
        self, size: int | None = None, *, most: int = _BATCH
    ) -> Iterator[tuple[Any, Any, Any]]:
        """Inputs, targets and weights of a few samples at a time.

        Those of a batch lie far apart, so that it has some of every class where samples are sorted.

        Args:
            size: The only size that the model takes, if there is one; samples left over are not
                shown then.
            most: How many at a time, where it takes any.
        """
        count = count_of(self.x)
        end = count if size is None else count - count % size
        batches = math.ceil(end / (size or most))
        for first in range(batches):
            yield part_of(slice(first, end, batches), self.x, self.y, self.weight)
        for each in self.more:
            yield from each.batches(size, most=most)

    def in_order(self, size: int) -> Iterator[tuple[Any, Any, Any]]:
        """The same from first to last, so many at a time, as `model.evaluate` takes them."""
        for first in range(0, count_of(self.x), size):
            yield part_of(slice(first, first + size), self.x, self.y, self.weight)
        for each in self.more:
            yield from each.in_order(size)

    def spread(self, count: int) -> Samples:
        """So many of the samples, evenly from first to last; all, if there are no more.

        Where they differ in shape, of each shape its share, one at least.
        """
        if count >= len(self):
            return self
        part, whole = count / len(self), count_of(self.x)
        places = np.linspace(0, whole - 1, max(1, round(part * whole))).round().astype(int)
        rows = part_of(places, self.x, self.y, self.weight)
        more = (each.spread(max(1, round(part * len(each)))) for each in self.more)
        return Samples(*rows, more=tuple(more))

    @property
    def are_counted(self) -> bool:
        """False where weights cannot say how often samples are there, as advantages below 0."""
        parts = (self, *self.more)
        return all(are_counts(_keras.arrays_in(part.weight)) for part in parts)

    def heard(self, model: Any) -> Samples:
        """Those of weight above 0, as a criterion hears them.

        What the loss of the model ignores has weight 0; each sample counts once, where weights
        cannot say how often it is there.
        """
        are_counted = self.are_counted

        def heard(part: Samples) -> Samples:
            given = part.weight if are_counted else None
            weight = _keras.weights_of_counted(model, part.y, given)
            return replace(part, weight=weight, more=tuple(map(heard, part.more)))

        return heard(self).counting

    @property
    def counting(self) -> Samples:
        """Those of weight above 0; all, where weights cannot say how often they are there."""
        if not self.are_counted:
            return self
        found = [counting_samples((each.x, each.y, each.weight)) for each in (self, *self.more)]
        are_all = sum(count_of(x) for x, _, _ in found) == len(self)
        return self if are_all else joined(found)

    @property
    def mean_inputs(self) -> Any:
        """Symbolic inputs of one sample, nested as the inputs are.

        Where lengths differ, of the mean over the samples, rounded: what a kernel costs grows with
        the length, so that is its mean cost.
        """
        parts = [self, *self.more]
        counts = [count_of(part.x) for part in parts]

        def mean(*arrays: Any) -> Any:
            shapes = np.array([array.shape[1:] for array in arrays], dtype=float)
            sizes = np.average(shapes, axis=0, weights=counts)
            return _keras.one_sample([round(float(each)) for each in sizes], arrays[0].dtype)

        return _keras.map_arrays(mean, *(part.x for part in parts))


def batches_for(
    model: Any, samples: Samples, evaluated: int | None = None
) -> Iterator[tuple[Any, Any, Any]]:
    """Batches of samples as a model takes them: larger ones, where it computes little of each.

    Args:
        model: The model.
        samples: The samples.
        evaluated: How many at a time `model.evaluate` takes, where its loss shall be told, which
            may be another on other batches.
    """
    if evaluated is not None and _keras.fixed_batch(model) is None:
        return samples.in_order(evaluated)
    each = _keras.numbers_of_sample(model)
    most = _BATCH if each is None else min(max(_NUMBERS // max(each, 1), _BATCH), _LARGEST_BATCH)
    return samples.batches(_keras.fixed_batch(model), most=most)


def may_sum(model: Any, samples: Samples) -> bool:
    """True if the loss of a model may be another on batches of another size, as some samples tell.

    Args:
        model: The model.
        samples: Samples, of which those of weight above 0 are tried.
    """
    some = samples.counting.spread(_TRIED)
    return _keras.fixed_batch(model) is None and _keras.may_sum_its_loss(model, some.x, some.y)


def told_apart(batch: tuple[Any, Any, Any]) -> tuple[np.ndarray | None, Any]:
    """How much each sample of a batch counts, and what is left of its weights for its loss.

    Returns:
        `(samples,)`, or `(samples, positions...)`; and weights nested as those of the batch.
        `None` and `None` without weights. Of several outputs the mean counts; one that has no
        weights has those of 1.

    Raises:
        ArgumentError: Weights are negative or not finite.
    """
    x, y, weight = batch
    if weight is None:
        return None, None
    count, over_all = count_of(x), keras.tree.map_structure
    targets = y if _keras.are_nested_alike(y, weight) else over_all(lambda _: None, weight)

    def given(each: Any, target: Any) -> Any:
        axes = (1,) * (np.ndim(target) - 1)  # of positions, for the loss of a target with some
        return np.ones((count, *axes)) if each is None else np.asarray(each)

    def left(each: Any, known: np.ndarray) -> np.ndarray:
        return within_loss(known, shared).reshape(each.shape).astype("float32")

    every = over_all(given, weight, targets)
    checked = over_all(lambda each: checked_weights([each])[0], every)
    shared = shared_weights(keras.tree.flatten(checked))
    return shared, over_all(left, every, checked)


def counting_samples(batch: tuple[Any, Any, Any], model: Any = None) -> tuple[Any, Any, Any]:
    """The samples of a batch that count: those of weight 0 are not observed.

    All, where weights cannot say how often they are there.

    Args:
        batch: Inputs, targets and weights.
        model: One whose loss ignores what it ignores of the targets; left out, nothing.
    """
    x, y, weight = batch
    if not are_counts(_keras.arrays_in(weight)):
        return batch
    weights, _ = told_apart((x, y, _keras.weights_of_counted(model, y, weight)))
    if weights is None:
        return batch
    counting = of_samples(weights) > 0
    return batch if counting.all() else part_of(counting, *batch)


def joined(batches: Sequence[tuple[Any, Any, Any]]) -> Samples:
    """All batches as samples, those of one shape together."""
    alike: dict[Any, list[tuple[Any, Any, Any]]] = {}
    for batch in batches:
        if count_of(batch[0]):
            leaves = keras.tree.flatten(batch)
            shapes = tuple(None if each is None else np.shape(each)[1:] for each in leaves)
            alike.setdefault(shapes, []).append(batch)
    parts = [
        Samples(
            *(
                _keras.map_arrays(lambda *arrays: np.concatenate(arrays), *same)
                for same in zip(*some, strict=True)
            )
        )
        for some in alike.values()
    ]
    if not parts:
        return Samples(np.zeros(0))
    return replace(parts[0], more=tuple(parts[1:]))


def count_of(x: Any) -> int:
    """How many samples there are of inputs."""
    return len(_keras.arrays_in(x)[0])


def part_of(which: Any, *parts: Any) -> tuple[Any, Any, Any]:
    """Some of the samples of inputs, targets and weights."""
    x, y, weight = (_keras.map_arrays(lambda array: array[which], each) for each in parts)
    return x, y, weight


def shapes_fit(found: Sequence[tuple[int, ...] | None], known: Sequence[tuple[Any, ...]]) -> bool:
    """True if arrays have the shapes that a model is known to take, `None` for any size.

    Args:
        found: Of arrays; `None` for one that is not there, as of an optional input.
        known: What the model takes.
    """
    return len(found) == len(known) and all(
        f is None
        or (len(f) == len(k) and all(want in (None, got) for got, want in zip(f, k, strict=True)))
        for f, k in zip(found, known, strict=True)
    )
