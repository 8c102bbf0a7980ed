"""Know the fit that is running."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import keras
import numpy as np
from keras.src.callbacks.monitor_callback import MonitorCallback

from reducible_train._keras.batch_parts import parts_of
from reducible_train._keras.functions import has_own_step, has_own_test_step
from reducible_train._keras.nested import arrays_in, map_arrays
from reducible_train._keras.peeking import Batches, batches_of
from reducible_train._keras.values import host_value

EVALUATED = 32  # samples of a batch, where nobody says how many, as Keras has it

__all__ = [
    "MonitorCallback",
    "begin_at",
    "has_validation",
    "other_callbacks",
]  # the first: their base


def other_callbacks(callback: Any) -> list[Any]:
    """All callbacks of the fit that has called a callback, in their order.

    Itself among them; nothing if it was called by something else. Keras tells a callback of
    its model only, so the list is looked up where the call came from.
    """
    for frame in frames(sys._getframe(1)):
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.CallbackList) and any(
            each is callback for each in caller.callbacks
        ):
            return list(caller.callbacks)
    return []


@dataclass(frozen=True)
class Loop:
    """The loop that trains a model, and calls its callbacks.

    Args:
        is_fit: True if it is Keras's own, which announces every step.
        has_unknown_length: True if it learns only from a step that its data has ended. So it is
            with generators and filtered datasets; torch's fetches the data before it announces a
            step. Keras's `params` tell a number of steps that may be the user's, or one too many.
        batches: Its batches, on JAX and torch.
    """

    is_fit: bool = False
    has_unknown_length: bool = False
    batches: Batches | None = None


def loop_of(callback: Any) -> Loop:
    """The loop that calls a callback.

    To be asked once for each training, as it begins: what looks at the variables of a running `fit`
    keeps the iterator of an epoch alive into the next, where it takes up to a second to be let go.
    """
    found = running_fit(callback, "epoch_iterator")
    if found is None:
        return Loop()
    iterator = found["epoch_iterator"]
    unknown = keras.backend.backend() != "torch" and iterator.data_adapter.num_batches is None
    return Loop(is_fit=True, has_unknown_length=unknown, batches=batches_of(iterator))


def has_validation(callback: Any) -> bool | None:
    """Whether the fit that has called a callback has validation data; `None` outside of a fit."""
    found = running_fit(callback, "validation_data")
    return None if found is None else found["validation_data"] is not None


@dataclass(frozen=True)
class Rhythm:
    """After which of its epochs a fit validates; those epochs, counted from 0, are in it.

    Args:
        often: Its `validation_freq`: after each so many epochs, or after those, counted from 1.
        epochs: All its epochs.

    Example:
        >>> 1 in Rhythm(2, range(3)), 2 in Rhythm(2, range(3)), str(Rhythm(2, range(3)))
        (True, False, 'validation_freq=2')
    """

    often: int | list[int]
    epochs: range

    def __contains__(self, epoch: int) -> bool:
        often = self.often
        return (epoch + 1) in often if isinstance(often, list) else (epoch + 1) % often == 0

    def __str__(self) -> str:
        return f"validation_freq={self.often}"

    @property
    def recurs(self) -> bool:
        """True if more epochs are validated of a longer fit."""
        return not isinstance(self.often, list)

    @property
    def is_silent(self) -> bool:
        """True if it comes after none of them."""
        return not any(epoch in self for epoch in self.epochs)


def validation_rhythm(callback: Any) -> Rhythm | None:
    """When the fit that has called a callback validates; `None` if never, or nobody knows."""
    found = running_fit(callback, "validation_data")
    if found is None or found["validation_data"] is None:
        return None
    often, epochs = found.get("validation_freq", 1), found.get("epochs")
    is_usable = isinstance(often, list) or (isinstance(often, int) and often > 0)
    if not is_usable or not isinstance(epochs, int):
        return None  # Keras will refuse it
    return Rhythm(often, range(first_epoch(callback), epochs))


def first_epoch(callback: Any) -> int:
    """The epoch, from 0, that the fit which has called a callback begins with."""
    found = running_fit(callback, "initial_epoch")
    given = 0 if found is None else found["initial_epoch"]
    return getattr(callback.model, "_initial_epoch", None) or given


def validation_samples(callback: Any) -> int | None:
    """How many samples each validation of a running fit reads; `None` if no array tells."""
    found = running_fit(callback, "validation_data")
    data = None if found is None else found["validation_data"]
    if found is None or not isinstance(data, list | tuple):
        return None
    leaves = [each for each in keras.tree.flatten(data[0]) if getattr(each, "shape", None)]
    if not leaves:
        return None
    given, steps = int(leaves[0].shape[0]), found.get("validation_steps")
    return given if steps is None else min(given, steps * evaluated_batch(callback))


def evaluated_batch(callback: Any, seen: Sequence[Any] = ()) -> int:
    """Samples of a batch when the fit that has called a callback evaluates.

    Args:
        callback: The callback.
        seen: Batches of its validation data, where these come in batches.
    """
    found = running_fit(callback, "validation_data") or {}
    data = found.get("validation_data")
    if seen and (isinstance(data, keras.utils.PyDataset) or hasattr(data, "element_spec")):
        return len(arrays_in(seen[0][0])[0])
    return found.get("validation_batch_size") or found.get("batch_size") or EVALUATED


def data_of_fit(callback: Any) -> tuple[Any, Any, Any] | None:
    """Inputs, targets and weights of the fit that has called a callback, as far as it shows.

    Nothing is read of the data: that would change which samples come, and when.

    Returns:
        Structures of what has a `shape`, samples first, and a `dtype`, `None` for what is not
        there; `None` for data that does not tell, or outside of a fit.
    """
    found = running_fit(callback, "epoch_iterator")
    return None if found is None else _spec(found)


def arrays_of_fit(callback: Any) -> list[tuple[str, Any, Any]]:
    """The data of the fit that has called a callback, where they are arrays.

    Not what a step of the model's own takes, which may make other inputs and targets of it.

    Returns:
        For training and for validation: the name in `fit`, inputs and targets, nested as they were
        given, of numpy arrays; `None` in the place of what is none, such as a dataset.
    """
    found = running_fit(callback, "epoch_iterator")
    if found is None:
        return []
    parts, validation = [], found.get("validation_data")
    if not has_own_step(callback.model):
        parts.append(("x and y", (found.get("x"), found.get("y"))))
    if has_own_test_step(callback.model):
        validation = None
    if isinstance(validation, list | tuple) and len(validation) in (2, 3):
        parts.append(("validation_data", (validation[0], validation[1])))
    return [(name, _arrays(x), _arrays(y)) for name, (x, y) in parts]


def training_arrays(callback: Any) -> tuple[Any, Any, Any] | None:
    """Inputs, targets and weights of the fit that has called a callback, if all are arrays.

    Returns:
        Numpy arrays or matrices of SciPy that have rows, nested as they were given, `None` for what
        is not there; `None` for other data, outside of a fit, or where classes have weights.
    """
    found = running_fit(callback, "epoch_iterator")
    if found is None or found.get("class_weight") is not None:
        return None
    parts = [found.get(name) for name in ("x", "y", "sample_weight")]
    arrays = [map_arrays(_can_be_indexed, part) for part in parts]
    told = arrays_in(arrays)
    if not told or any(each is False for each in told) or len({each.shape[0] for each in told}) > 1:
        return None
    x, y, weight = arrays
    return None if x is None else (x, y, weight)


def _can_be_indexed(value: Any) -> Any:
    """An array as it is, a dense tensor as one, SciPy's matrix by rows, `False` for the rest."""
    if isinstance(value, np.ndarray) and value.ndim:
        return value
    if hasattr(value, "tocsr"):
        return value.tocsr() if len(value.shape) == 2 else False
    spread = hasattr(value, "dense_shape") or hasattr(value, "nested_row_splits")
    if spread or not keras.ops.is_tensor(value) or not value.shape:
        return False
    return host_value(value)


def _arrays(value: Any) -> Any:
    """The same structure with numpy arrays only: of tensors those of whole numbers, if dense."""

    def array(each: Any) -> Any:
        if isinstance(each, np.ndarray):
            return each
        if hasattr(each, "to_numpy"):  # a column of a table
            return each.to_numpy()
        spread = hasattr(each, "dense_shape") or hasattr(each, "nested_row_splits")
        if spread or not keras.ops.is_tensor(each):
            return None
        whole = "int" in keras.backend.standardize_dtype(each.dtype)
        return host_value(each) if whole else None

    return map_arrays(array, value)


def swapped_averages(callbacks: Sequence[Any]) -> list[bool]:
    """Of each callback that swaps averages for weights, whether those are in the model now."""
    return [each._ema_weights_in_model for each in swapping_averages(callbacks)]


def set_swapped_averages(callbacks: Sequence[Any], there: Sequence[bool]) -> None:
    """Tell them, in their order, whether what is in the model now are averages."""
    for each, swapped in zip(swapping_averages(callbacks), there, strict=True):
        each._ema_weights_in_model = swapped


def swapping_averages(callbacks: Sequence[Any]) -> list[Any]:
    """Those that have averages stand in for weights, while a model is evaluated at least."""
    return [each for each in callbacks if isinstance(each, keras.callbacks.SwapEMAWeights)]


def running_fit(callback: Any, having: str) -> Any | None:
    """The local variables of the `fit` that has called a callback; `None` if something else did.

    Keras tells callbacks nothing of the data, so they are looked up where the call came from.

    Args:
        callback: The callback.
        having: The variable that is asked for.
    """
    frame = frame_of_fit(callback.model, having)
    return None if frame is None else frame.f_locals


def frame_of_fit(model: Any, having: str = "epoch_iterator") -> FrameType | None:
    """The frame of the `fit` of a model that is running; to be asked for as `loop_of`.

    Args:
        model: The model.
        having: A variable of it.
    """
    for frame in frames(sys._getframe(1)):
        found = frame.f_locals
        if found.get("self") is model and having in found:
            return frame
    return None


def frames(innermost: FrameType | None) -> Iterator[FrameType]:
    """A frame and all that it was called from."""
    while innermost is not None:
        yield innermost
        innermost = innermost.f_back


def _spec(found: Any) -> tuple[Any, Any, Any] | None:
    """What the variables of a running `fit` tell of its data."""
    dataset = getattr(found["epoch_iterator"], "_distributed_dataset", None)
    spec = getattr(dataset, "element_spec", None)  # on TensorFlow, of whatever source
    if spec is None:
        spec = getattr(found.get("x"), "element_spec", None)
    if spec is None:
        spec = tuple(found.get(name) for name in ("x", "y", "sample_weight"))
    x, y, weight = parts_of(spec, own=has_own_step(found["self"]))
    x, y, weight = (map_arrays(lambda each: each, part) for part in (x, y, weight))
    if not all(_has_shape(each) for each in arrays_in(x)):
        return None
    return x, y, weight


def _has_shape(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def in_fit(callback: Any) -> bool:
    """True if it was Keras's own `fit` that has called a callback, no loop of the user's."""
    return running_fit(callback, "epoch_iterator") is not None


def begin_at(model: Any, epoch: int | None) -> None:
    """Let the fit that begins, and those after it, start at an epoch; `None` for their own.

    Keras has an argument for it, which a callback comes too late for.
    """
    model._initial_epoch = epoch
