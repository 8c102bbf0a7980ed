"""Samples to learn a kernel's data from: given by the user, or taken from a running `fit`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.errors import ArgumentError, SpectrumError, first_sentence
from reducible_train.linalg.weighting import (
    checked_weights,
    of_samples,
    shared_weights,
    within_loss,
)
from reducible_train.selection.sources import batches_of
from reducible_train.settings.checks import plain

ENOUGH = 2048  # samples taken from a fit
_BATCH = 256


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
        return _count(self.x) + sum(map(len, self.more))

    def batches(self, size: int | None = None) -> Iterator[tuple[Any, Any, Any]]:
        """Inputs, targets and weights of a few hundred samples at a time.

        Args:
            size: The only size that the model takes, if there is one; samples left over are not
                shown then.
        """
        count = _count(self.x)
        end, step = (count, _BATCH) if size is None else (count - count % size, size)
        for start in range(0, end, step):
            yield _part(slice(start, start + step), self.x, self.y, self.weight)
        for each in self.more:
            yield from each.batches(size)

    @property
    def mean_inputs(self) -> Any:
        """Symbolic inputs of one sample, nested as the inputs are.

        Where lengths differ, of the mean over the samples, rounded: what a kernel costs grows with
        the length, so that is its mean cost.
        """
        parts = [self, *self.more]
        counts = [_count(part.x) for part in parts]

        def mean(*arrays: Any) -> Any:
            shapes = np.array([array.shape[1:] for array in arrays], dtype=float)
            sizes = np.average(shapes, axis=0, weights=counts)
            return _keras.one_sample([round(float(each)) for each in sizes], arrays[0].dtype)

        return keras.tree.map_structure(mean, *(part.x for part in parts))


def told_apart(batch: tuple[Any, Any, Any]) -> tuple[np.ndarray | None, Any]:
    """How much each sample of a batch counts, and what is left of its weights for its loss.

    Returns:
        `(samples,)`, or `(samples, positions...)`; and weights nested as those of the batch.
        `None` and `None` without weights. Of several outputs the mean counts; one that has no
        weights has those of 1.

    Raises:
        ArgumentError: Weights are negative or not finite.
    """
    x, _, weight = batch
    if weight is None:
        return None, None
    ones = np.ones(_count(x))
    checked = keras.tree.map_structure(
        lambda each: checked_weights([ones if each is None else each])[0], weight
    )
    shared = shared_weights(keras.tree.flatten(checked))
    left = keras.tree.map_structure(lambda each: within_loss(each, shared), checked)
    return shared, keras.tree.map_structure(lambda each: each.astype("float32"), left)


def samples_of(calibration: Any) -> Samples:
    """The samples of a calibration set.

    Args:
        calibration: As `model.fit` takes it: inputs (an array, or a list or dictionary of arrays),
            a tuple `(x, y)` or `(x, y, sample_weight)`, or a source of batches of these: a
            `tf.data.Dataset`, a `keras.utils.PyDataset`, a torch `DataLoader`, a generator.

    Returns:
        Those of weight above 0. Of a source that does not say how long it is, the first 2048.

    Raises:
        ArgumentError: No samples, or inputs and targets of different number; what is no array.
        SpectrumError: NaN or infinite inputs.
    """
    batches = batches_of(calibration, ENOUGH)
    samples = _joined([_heard(_arrays(each)) for each in (batches or [calibration])])
    if not len(samples):
        raise ArgumentError(
            "`calibration` must hold samples, at least one, of a weight above 0. Received: none. "
            "Give it as you give model.fit its data."
        )
    for part in (samples, *samples.more):
        for array in keras.tree.flatten(part.x):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise SpectrumError(
                    "`calibration` must be finite. Received: "
                    f"{array.size - int(np.isfinite(array).sum())} of {array.size} numbers NaN or "
                    "infinite. Clean the data, or leave these samples out."
                )
    return samples


def _arrays(given: Any) -> tuple[Any, Any, Any]:
    """Inputs, targets and weights as arrays, checked to be of equally many samples."""
    x, y, weight = _unpacked(given)
    x, y, weight = (_map(_array, part) for part in (x, y, weight))
    arrays = [a for a in keras.tree.flatten([x, y, weight]) if a is not None]
    counts = {len(a) if a.ndim else 0 for a in arrays}
    if len(counts) != 1 or 0 in counts:
        raise ArgumentError(
            "`calibration` must be arrays of equally many samples, at least one: x, [x1, x2] of a "
            "model of two inputs, (x, y) or (x, y, sample_weight). "
            f"Received: {', '.join(str(a.shape) for a in arrays)}. Give it as you give model.fit "
            "its data; a dataset in batches: dataset.batch(32)."
        )
    return x, y, weight


def _unpacked(given: Any) -> tuple[Any, Any, Any]:
    """Inputs, targets and weights: a tuple is these, a list or a dictionary is inputs."""
    parts = given if isinstance(given, tuple) else (given,)
    if not 1 <= len(parts) <= 3:
        raise ArgumentError(
            "`calibration` must be (x,), (x, y) or (x, y, sample_weight), where it is a tuple. "
            f"Received: a tuple of {len(parts)}. Several inputs are a list: [x1, x2]."
        )
    x, y, weight = (*parts, None, None)[:3]
    return x, y, weight


def _array(given: Any) -> Any:
    if given is None:
        return None
    dense = given.toarray() if hasattr(given, "toarray") else given  # scipy's sparse matrices
    try:
        is_tensor = keras.ops.is_tensor(dense)
        array = np.asarray(keras.ops.convert_to_numpy(dense) if is_tensor else dense)
    except Exception as error:
        raise _no_array(type(given).__name__) from error
    if array.ndim == 0:
        number = isinstance(plain(given), int | float)
        raise _no_array(repr(given)[:200], _COUNTED if number else _LOADED)
    words = array.dtype == object and all(isinstance(e, str | bytes) for e in array.flat)
    if array.dtype == object and not words:
        raise _no_array(f"{type(given).__name__} of {array.dtype}")
    return array


_COUNTED = "A number counts the samples of a fit, which only a RankScheduler sees; give x[:2048]."
_LOADED = "Load a file first, such as np.load(path)['x']."
_ALIKE = "Make arrays of it, sequences padded to one length in a batch."


def _no_array(received: str, remedy: str = _ALIKE) -> ArgumentError:
    return ArgumentError(
        "`calibration` must be arrays, or batches of arrays, of samples of one shape. "
        f"Received: {received}. {remedy}"
    )


def _heard(batch: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """The samples of a batch that count: those of weight 0 are not observed."""
    weights, _ = told_apart(batch)
    if weights is None:
        return batch
    counting = of_samples(weights) > 0
    return batch if counting.all() else _part(counting, *batch)


def check_samples(samples: Samples, model: Any, who: str | None, *, run: bool) -> None:
    """Refuse samples that a model, or what asks for them, cannot use.

    Args:
        samples: The samples.
        model: The model in training.
        who: What asks for gradients of the loss, for messages; `None` if nothing does.
        run: True if anything listens to the data at all.

    Raises:
        ArgumentError: Inputs of the wrong shape; where gradients are asked for, no targets, or
            a loss that cannot be computed of the samples.
    """
    if who is not None and samples.y is None and _keras.compares_with_targets(model):
        raise ArgumentError(
            f"{who} asks for gradients of the loss, so `calibration` must be (x, y). Received: "
            "inputs only. Give the targets, or do without."
        )
    for part in (samples, *samples.more):
        _check_shapes(part, model)
    size = _keras.fixed_batch(model)
    if size is not None and len(samples) < size:
        raise ArgumentError(
            f"Model '{model.name}' takes batches of {size}, so `calibration` must be so many "
            f"samples at least. Received: {len(samples)}. Give more."
        )
    if run:
        try_out(samples, model, who)


def try_out(samples: Samples, model: Any, who: str | None) -> None:
    """Run one sample through a model, as it will be listened to; one says what is wrong.

    Args:
        samples: The samples.
        model: The model in training; it stays as it is.
        who: What asks for gradients of the loss; `None` if nothing does.

    Raises:
        ArgumentError: The model cannot be run on them.
    """
    for batch in islice(samples.batches(_keras.fixed_batch(model) or 1), 1):
        if who is not None:
            loss_gradients(model, [], batch)
            return
        try:
            _keras.layer_calls(model, [], batch[0], None)
        except Exception as error:
            raise cannot_be_run(model, error) from error


def check_asking(model: Any, asking: Mapping[str, Sequence[str]], data: Any) -> str | None:
    """Refuse what cannot be learned of a fit, before it begins.

    Args:
        model: The model in training.
        asking: What must be known of the data, some of `"inputs"` and `"gradients"`, by who asks.
        data: Inputs, targets and weights of the fit, as `_keras.data_of_fit` tells them, where its
            samples are those to learn from; `None` for others, or if it does not tell.

    Returns:
        Who asks for gradients; `None` if nobody does.

    Raises:
        ArgumentError: It cannot be had with this model, backend or data.
    """
    asker = next((name for name, needs in asking.items() if needs), None)
    if asker is not None and not _keras.has_call(_keras.trained_model(model)):
        raise ArgumentError(
            f"{asker} listens to the data as it passes through the model, and model "
            f"'{model.name}' cannot be called: it has no `call`. Received: {asker}. Give it one, "
            "or use criterion='frobenius'."
        )
    who = next((name for name, needs in asking.items() if "gradients" in needs), None)
    if who is None:
        return None
    check_gradients(model, who)
    if data is not None and data[1] is None and _keras.compares_with_targets(model):
        raise ArgumentError(
            f"{who} asks for gradients of the loss, which compares with targets. Received: a fit "
            "whose data has none. Give it samples that have, calibration=(x, y), or do without."
        )
    return who


def _check_shapes(samples: Samples, model: Any) -> None:
    known = _keras.known_inputs(model)
    found = [array.shape for array in _keras.in_order(samples.x, model)]
    if known is None or shapes_fit(found, known):
        return
    advice = "Give it as you give model.fit its inputs."
    if [len(shape) + 1 for shape in found] == [len(shape) for shape in known]:
        advice = "Give a dataset in batches, dataset.batch(32), and one sample as x[None]."
    elif isinstance(samples.x, list):
        advice = "A list is inputs; inputs and targets are a tuple: calibration=(x, y)."
    raise ArgumentError(
        f"`calibration` must be inputs of model '{model.name}': "
        f"{', '.join(map(str, known))}. Received: {', '.join(map(str, found))}. {advice}"
    )


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
        f"Received: {first_sentence(error)} Give them as you give model.fit its data."
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
    if _keras.has_own_loss(model):
        raise ArgumentError(
            f"{who} asks for gradients of the loss, and only its own train_step knows that of "
            f"model '{model.name}'. Received: a model with a `train_step`, no compiled loss and no "
            "`compute_loss` of its own. Move the loss into compute_loss(x, y, y_pred, ...), or use "
            "criterion='activation'."
        )


class SampleCollector:
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
        """GuardRun again, after the training step was made anew; what was seen is kept."""
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
        self._batches.append(_heard((x, y, weight)))
        self.count += _count(self._batches[-1][0])
        return not self.done


def _joined(batches: Sequence[tuple[Any, Any, Any]]) -> Samples:
    """All batches as samples, those of one shape together."""
    alike: dict[Any, list[tuple[Any, Any, Any]]] = {}
    for batch in batches:
        if _count(batch[0]):
            shapes = [np.shape(each)[1:] for each in keras.tree.flatten(batch)]
            alike.setdefault(tuple(shapes), []).append(batch)
    joined = [
        Samples(
            *(
                _map(lambda *arrays: np.concatenate(arrays), *parts)
                for parts in zip(*some, strict=True)
            )
        )
        for some in alike.values()
    ]
    if not joined:
        return Samples(np.zeros(0))
    return replace(joined[0], more=tuple(joined[1:]))


def _count(x: Any) -> int:
    return len(keras.tree.flatten(x)[0])


def _part(which: Any, *parts: Any) -> tuple[Any, Any, Any]:
    """Some of the samples of inputs, targets and weights."""
    x, y, weight = (_map(lambda array: array[which], each) for each in parts)
    return x, y, weight


def _map(function: Callable[..., Any], *parts: Any) -> Any:
    """Apply a function to the arrays of a structure; a part that is not there stays so."""
    if parts[0] is None:
        return None
    return keras.tree.map_structure(
        lambda *arrays: None if arrays[0] is None else function(*arrays), *parts
    )


def shapes_fit(found: Sequence[tuple[int, ...]], known: Sequence[tuple[Any, ...]]) -> bool:
    """True if arrays have the shapes that a model is known to take, `None` for any size."""
    return len(found) == len(known) and all(
        len(f) == len(k) and all(want in (None, got) for got, want in zip(f, k, strict=True))
        for f, k in zip(found, known, strict=True)
    )
