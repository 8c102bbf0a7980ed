"""Samples to learn a kernel's data from: given by the user, or taken from a running `fit`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.errors import ArgumentError, SpectrumError

ENOUGH = 2048  # samples taken from a fit
_BATCH = 256


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs of a model, with targets and weights where they are known.

    Args:
        x: Arrays as the model takes them, nested as the model takes them.
        y: Targets, or `None`.
        weight: Sample weights, or `None`.
    """

    x: Any
    y: Any = None
    weight: Any = None

    def __len__(self) -> int:
        return len(keras.tree.flatten(self.x)[0])

    def batches(self, size: int | None = None) -> Iterator[tuple[Any, Any, Any]]:
        """Inputs, targets and weights of a few hundred samples at a time.

        Args:
            size: The only size that the model takes, if there is one; samples left over are not
                shown then.
        """
        end, step = (len(self), _BATCH) if size is None else (len(self) - len(self) % size, size)
        for start in range(0, end, step):
            part = slice(start, start + step)
            x, y, weight = (
                _map(lambda array, part=part: array[part], each)
                for each in (self.x, self.y, self.weight)
            )
            yield x, y, weight


def samples_of(calibration: Any) -> Samples:
    """The samples of a calibration set.

    Args:
        calibration: As `model.fit` takes it: inputs, a tuple `(x, y)` or
            `(x, y, sample_weight)` of arrays, or a batched `tf.data.Dataset` of these.

    Raises:
        ArgumentError: No samples, or inputs and targets of different number.
        SpectrumError: NaN or infinite inputs.
    """
    if hasattr(calibration, "as_numpy_iterator"):
        batches = calibration.as_numpy_iterator()
        samples = _joined([keras.utils.unpack_x_y_sample_weight(batch) for batch in batches])
    else:
        parts = keras.utils.unpack_x_y_sample_weight(calibration)
        samples = Samples(*(_map(np.asarray, part) for part in parts))
    arrays = [a for a in keras.tree.flatten([samples.x, samples.y]) if a is not None]
    counts = {len(a) if a.ndim else 0 for a in arrays}
    if len(counts) != 1 or 0 in counts:
        raise ArgumentError(
            "`calibration` must be arrays of equally many samples, at least one: x or (x, y). "
            f"Received: {', '.join(str(a.shape) for a in arrays)}. "
            "Give it as you give model.fit its data."
        )
    for array in keras.tree.flatten(samples.x):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise SpectrumError(
                "`calibration` must be finite. Received: "
                f"{array.size - int(np.isfinite(array).sum())} of {array.size} numbers NaN or "
                "infinite. Clean the data, or leave these samples out."
            )
    return samples


def check_samples(samples: Samples, model: Any, who: str | None) -> None:
    """Refuse samples that a model, or what asks for them, cannot use.

    Args:
        samples: The samples.
        model: The model in training.
        who: What asks for gradients of the loss, for messages; `None` if nothing does.

    Raises:
        ArgumentError: Inputs of the wrong shape; where gradients are asked for, no targets, or
            a loss that cannot be computed of the samples.
    """
    if who is not None and samples.y is None and _keras.compares_with_targets(model):
        raise ArgumentError(
            f"{who} asks for gradients of the loss, so `calibration` must be (x, y). Received: "
            "inputs only. Give the targets, or do without."
        )
    known = _keras.known_inputs(model)
    found = [array.shape for array in keras.tree.flatten(samples.x)]
    if known is not None and not _fit(found, known):
        raise ArgumentError(
            f"`calibration` must be inputs of model '{model.name}': "
            f"{', '.join(map(str, known))}. Received: {', '.join(map(str, found))}. "
            "Give it as you give model.fit its inputs."
        )
    size = _keras.fixed_batch(model)
    if size is not None and len(samples) < size:
        raise ArgumentError(
            f"Model '{model.name}' takes batches of {size}, so `calibration` must be so many "
            f"samples at least. Received: {len(samples)}. Give more."
        )
    if who is not None:
        for batch in islice(samples.batches(size or 1), 1):  # one says what is wrong
            loss_gradients(model, [], batch)


def loss_gradients(model: Any, variables: Sequence[Any], batch: Any) -> list[np.ndarray | None]:
    """The gradient of the loss of one batch by variables, summed over the samples.

    Raises:
        ArgumentError: The model cannot be run on the samples.
    """
    try:
        return _keras.loss_gradients(model, variables, batch)
    except Exception as error:
        raise cannot_be_run(model, error) from error


def cannot_be_run(model: Any, error: Exception) -> ArgumentError:
    """The error to raise where a model fails on samples."""
    return ArgumentError(
        f"Model '{model.name}' cannot be run on the calibration samples; nothing was changed. "
        f"Received: {type(error).__name__}: {error} Give them as you give model.fit its data."
    )


def check_gradients(model: Any, who: str) -> None:
    """Refuse to take gradients where that cannot be done.

    Args:
        model: The model in training.
        who: What asks for them, for messages.

    Raises:
        ArgumentError: The model is not compiled, or not on TensorFlow and one device.
    """
    if keras.backend.backend() != "tensorflow":
        raise ArgumentError(
            f"{who} takes gradients by TensorFlow. Received: backend "
            f"{keras.backend.backend()!r}. Do without, or use criterion='activation'."
        )
    if _keras.is_distributed(model):
        raise ArgumentError(
            f"{who} takes gradients on one device. Received: a model under a distribution "
            "strategy. Do without, or use criterion='activation' with calibration=x."
        )
    if not getattr(model, "compiled", False):
        raise ArgumentError(
            f"{who} asks for gradients of the loss, and model '{model.name}' has none. Received: "
            "a model that is not compiled. Call model.compile first, or do without."
        )


class Gathering:
    """The first samples of a running `fit`, seen over the shoulder of its training step.

    Args:
        model: The model in training.
        enough: Samples to take.

    Raises:
        ArgumentError: It cannot be done with this backend or distribution strategy.
    """

    def __init__(self, model: Any, enough: int):
        self.enough = enough
        self.count = 0
        self._batches: list[tuple[Any, Any, Any]] = []
        self.stop: Callable[[], None] = lambda: None
        self.go_on(model)

    def go_on(self, model: Any) -> None:
        """Watch again, after the training step was made anew; what was seen is kept."""
        self.stop()
        stop = _keras.sample_batches(model, self._take)
        if stop is None:
            raise ArgumentError(
                "The batches of this fit cannot be watched: that takes TensorFlow on one device. "
                "Received: a criterion or an aid that needs data, and no calibration set. Give it "
                "samples: calibration=x_train[:2048], or (x, y)."
            )
        self.stop = stop

    @property
    def done(self) -> bool:
        """True once there are enough."""
        return self.count >= self.enough

    def samples(self) -> Samples:
        """What was seen so far."""
        return _joined(self._batches)

    def _take(self, batch: Any) -> bool:
        x, y, weight = (
            _map(_keras.host_value, part) for part in keras.utils.unpack_x_y_sample_weight(batch)
        )
        self._batches.append((x, y, weight))
        self.count += len(keras.tree.flatten(self._batches[-1][0])[0])
        return not self.done


def _joined(batches: Sequence[tuple[Any, Any, Any]]) -> Samples:
    if not batches:
        return Samples(np.zeros(0))
    return Samples(
        *(
            _map(lambda *arrays: np.concatenate(arrays), *parts)
            for parts in zip(*batches, strict=True)
        )
    )


def _map(function: Callable[..., Any], *parts: Any) -> Any:
    """Apply a function to the arrays of a structure; a part that is not there stays so."""
    if parts[0] is None:
        return None
    return keras.tree.map_structure(function, *parts)


def _fit(found: Sequence[tuple[int, ...]], known: Sequence[tuple[Any, ...]]) -> bool:
    return len(found) == len(known) and all(
        len(f) == len(k) and all(want in (None, got) for got, want in zip(f, k, strict=True))
        for f, k in zip(found, known, strict=True)
    )
