"""Decompositions kept for the same numbers, so that a second budget does not take them again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from reducible_train.errors import ArgumentError
from reducible_train.linalg.metric import Metric
from reducible_train.linalg.weighted_svd import Matrices, WeightedStack
from reducible_train.settings.checks import is_count

Key = tuple[str, str]  # path of a kernel, and a split of it


class DecompositionCache:
    """Keeps the decompositions of kernels for as long as their numbers stay the same.

    Give one to `factorize` for several budgets of the same trained weights: the second takes a
    fraction of the time. A kernel is known again by its path, its numbers and how its errors are
    measured, so a model that was loaded anew is, and one that was trained on is not: it is
    decomposed, and takes the place of the other. It holds no model, and of each way that a kernel
    is split at most about half of its bytes.

    Args:
        max_bytes: The most bytes it holds, those used longest ago being forgotten first. One that
            is too small for a model finds nothing of it again.

    Raises:
        ArgumentError: `max_bytes` is not a whole number, at least 0.

    Attributes:
        hits: How often a decomposition was found.
        misses: How often one had to be made.
        nbytes: Bytes of what it holds.

    Example:
        >>> import keras
        >>> from reducible_train import DecompositionCache, factorize
        >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, name="hidden"),
        ...                           keras.layers.Dense(10, name="output")])
        >>> copy = keras.models.clone_model(model)
        >>> copy.set_weights(model.get_weights())
        >>> cache = DecompositionCache()
        >>> factorize(model, rank=8, cache=cache).ranks
        {'hidden/kernel': 8}
        >>> factorize(copy, rank=4, cache=cache).ranks
        {'hidden/kernel': 4}
        >>> cache.hits, cache.misses
        (1, 1)
    """

    def __init__(self, max_bytes: int = 2**30) -> None:
        if not is_count(max_bytes, 0):
            raise ArgumentError(
                "`max_bytes` must be a whole number, at least 0. Received: "
                f"max_bytes={max_bytes!r}. Write 2**30 for 1 GiB."
            )
        self.max_bytes = max_bytes
        self.hits = 0
        self.misses = 0
        self.nbytes = 0
        self._kept: dict[Key, tuple[bytes, WeightedStack]] = {}  # used longest ago first

    def get(
        self,
        key: Key,
        read: Callable[[], Matrices],
        metrics: Sequence[Metric] | None,
        most: int | None,
        make: Callable[[], WeightedStack],
    ) -> WeightedStack:
        """The decomposition of a kernel, made if there is none of the same numbers.

        Args:
            key: Path of the kernel, and how it is split.
            read: Gives its matrices.
            metrics: How errors of each are measured; `None` for the Frobenius norm.
            most: The largest rank that will be asked for; `None` for any.
            make: Makes the decomposition.
        """
        now = _fingerprint(read(), metrics)
        known = self._forget(key)
        if known is not None and known[0] == now and known[1].keeps(most):
            self.hits += 1
            self._keep(key, *known)
            return known[1].reading(read, metrics)
        self.misses += 1
        found = make()
        self._keep(key, now, found.reading(_gone))
        return found

    def clear(self) -> None:
        """Forget all decompositions."""
        self._kept.clear()
        self.nbytes = 0

    def _keep(self, key: Key, fingerprint: bytes, stack: WeightedStack) -> None:
        """Keep a decomposition in place of those used longest ago, if it has room at all."""
        if stack.nbytes > self.max_bytes:
            return
        while self.nbytes + stack.nbytes > self.max_bytes:
            self._forget(next(iter(self._kept)))
        self._kept[key] = fingerprint, stack
        self.nbytes += stack.nbytes

    def _forget(self, key: Key) -> tuple[bytes, WeightedStack] | None:
        known = self._kept.pop(key, None)
        if known is not None:
            self.nbytes -= known[1].nbytes
        return known


def _gone() -> Matrices:
    raise AssertionError("what is kept reads no kernel")  # `reading` comes first


def _fingerprint(matrices: Matrices, metrics: Sequence[Metric] | None) -> bytes:
    """Equal for equal numbers, in all likelihood for no others."""
    told = hashlib.sha256()  # most processors have instructions for it: 2 GB/s
    weights = [each.arrays for each in metrics or ()]
    told.update(b"plain" if metrics is None else b"weighed")
    for array in (*matrices, *(weight for each in weights for weight in each)):
        if array is None:
            told.update(b"none")
            continue
        told.update(f"{array.dtype}{array.shape}".encode())
        told.update(np.ascontiguousarray(array).view(np.uint8).data)
    return told.digest()
