"""What gives batches, as `fit` takes it: datasets, loaders and generators."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras

from reducible_train import _keras
from reducible_train.errors import ArgumentError


def batches_of(source: Any, most: int) -> list[Any] | None:
    """The batches of a source, each a structure of arrays.

    Args:
        source: A `tf.data.Dataset`, a `keras.utils.PyDataset`, a torch `DataLoader`, a generator
            or another iterator.
        most: Samples after which one that does not say how long it is is left, with a warning.

    Returns:
        The batches; `None` for what is no source of batches.

    Raises:
        ArgumentError: It gives none.
    """
    for is_one, batches in _SOURCES:
        if is_one(source):
            found = _first(*batches(source), most, type(source).__name__)
            if not found:
                raise ArgumentError(
                    "`calibration` must give batches of samples. Received: "
                    f"{type(source).__name__}, which gave none. A generator can be read once only: "
                    "give a new one."
                )
            return found
    return None


Batches = tuple[Iterator[Any], bool]  # and whether they are known to end


def _of_dataset(source: Any) -> Batches:
    return iter(source), int(source.cardinality()) >= 0


def _of_py_dataset(source: Any) -> Batches:
    return _keras.batches_in_order(source), source.num_batches is not None


_SOURCES: tuple[tuple[Callable[[Any], bool], Callable[[Any], Batches]], ...] = (
    (lambda source: hasattr(source, "as_numpy_iterator"), _of_dataset),
    (lambda source: isinstance(source, keras.utils.PyDataset), _of_py_dataset),
    (
        lambda source: type(source).__module__.startswith("torch.utils.data"),
        lambda source: (iter(source), hasattr(source.dataset, "__len__")),
    ),
    (lambda source: hasattr(source, "__next__"), lambda source: (source, False)),
)


def _first(batches: Iterator[Any], ends: bool, most: int, name: str) -> list[Any]:
    """All batches of a source that is known to end, else so many samples."""
    found: list[Any] = []
    count = 0
    for batch in batches:
        if not ends and count >= most:
            warnings.warn(
                f"`calibration` is a {name} that does not say how long it is: its first {count} "
                "samples are taken. To choose how many, give a source that ends, such as "
                "dataset.take(8).",
                stacklevel=2,
            )
            break
        found.append(tuple(batch) if isinstance(batch, list) else batch)  # as Keras takes them
        first: Any = next(iter(_keras.arrays_in(batch)), None)
        count += int(first.shape[0]) if getattr(first, "shape", ()) else 1
    return found
