"""Some samples of the fit that is running, read so that nobody notices."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras.src.trainers.data_adapters.data_adapter_utils import class_weight_to_sample_weights

from reducible_train._keras.batch_parts import holds_numbers, parts_of
from reducible_train._keras.fits import EVALUATED, evaluated_batch, running_fit
from reducible_train._keras.functions import has_own_step, has_own_test_step
from reducible_train._keras.nested import arrays_in, map_arrays
from reducible_train._keras.values import host_value

_BYTES = 2**27  # of the samples that are kept
_SOME = 100  # labels that tell at once, of most data, that some sample counts

Batch = tuple[Any, Any, Any]  # inputs, targets and weights


def some_of_fit(callback: Any, most: int) -> tuple[str, list[Batch]] | None:
    """Samples of the fit that has called a callback: of its validation data, else of its arrays.

    Read are only data that can be read again and again with nothing changed by it: arrays, data
    sets of TensorFlow that shuffle nothing, `PyDataset`s for validation.

    Args:
        callback: The callback.
        most: How many, spread evenly over arrays, the first of others.

    Returns:
        Where they come from, in words, and batches of numpy arrays; `None` where there are none.
    """
    found = running_fit(callback, "validation_data")
    if found is None:
        return None
    own = has_own_test_step(callback.model)
    validation = _batches(found["validation_data"], most, own)
    if validation:
        return "the validation data", validation
    arrays = tuple(found.get(name) for name in ("x", "y", "sample_weight"))
    return _trained_on(_of_arrays(arrays, most), found)


def some_of_training(callback: Any, most: int) -> tuple[str, list[Batch]] | None:
    """The same, of a data set of TensorFlow that is trained on and shuffles nothing: its first."""
    found = running_fit(callback, "epoch_iterator") or {}
    data = found.get("x")
    if not hasattr(data, "element_spec"):
        return None
    try:
        batches = _batches(data, most, has_own_step(callback.model))
    except Exception:  # whatever its functions do when another reader is at work
        return None
    return _trained_on(batches, found)


def _trained_on(batches: list[Batch], fit: Mapping[str, Any]) -> tuple[str, list[Batch]] | None:
    """Batches of what a fit trains on, counted as it counts them."""
    training = [_by_class(each, fit.get("class_weight")) for each in batches]
    return ("the training data", training) if training else None


def weighs_nothing(callback: Any) -> bool:
    """True where the fit that has called a callback is of arrays whose weights are all 0.

    By their own, or by those of their classes; not of a step of the model's own, which may take
    them for something else.
    """
    found = running_fit(callback, "epoch_iterator")
    if found is None or has_own_step(callback.model):
        return False
    weight, by_class = found.get("sample_weight"), found.get("class_weight")
    if weight is None and by_class is not None and _has_rows(found.get("y")):
        labels = _host(found["y"])
        some = class_weight_to_sample_weights(labels[:_SOME], by_class)
        return not (some.any() or class_weight_to_sample_weights(labels, by_class).any())
    leaves = [] if weight is None else keras.tree.flatten(weight)
    return bool(leaves) and all(_has_rows(each) and not _host(each).any() for each in leaves)


def _by_class(batch: Batch, class_weight: Any) -> Batch:
    """A batch that counts by the weights of its classes, where `fit` was given some."""
    x, y, weight = batch
    if class_weight is None or weight is not None:
        return batch
    return x, y, class_weight_to_sample_weights(y, class_weight)


def data_to_try(callback: Any) -> list[tuple[str, Batch, int | None]]:
    """The data of the fit that has called a callback, where it is numbers that can be tried out.

    Returns:
        For training and for validation: the name in `fit`, inputs, targets and weights, nested as
        they were given, and how many samples of them a batch has. Arrays are whole; of other
        validation data that can be read again there is the first batch, and no size.
    """
    found = running_fit(callback, "epoch_iterator")
    if found is None:
        return []
    size = found.get("batch_size") or EVALUATED
    parts: list[tuple[str, Batch, int | None]] = []
    parts.append(("x and y", tuple(found.get(name) for name in ("x", "y", "sample_weight")), size))
    data, own = found.get("validation_data"), has_own_test_step(callback.model)
    if isinstance(data, keras.utils.PyDataset) or hasattr(data, "element_spec"):
        parts += [("validation_data", each, None) for each in _batches(data, 1, own)]
    elif data is not None:
        validation = parts_of(data, own=own)
        parts.append(("validation_data", validation, evaluated_batch(callback)))
    return [part for part in parts if part[1][0] is not None and _is_numbers(part[1])]


def shapes_to_try(spec: Batch | None) -> Batch | None:
    """Tensors without values, of the shapes that batches of a stream have; `None` if not told."""
    if spec is None:
        return None
    leaves = arrays_in(spec)
    if not leaves or not all(type(each).__name__ == "TensorSpec" for each in leaves):
        return None
    if any(each.shape.rank is None or None in each.shape[1:] for each in leaves):
        return None

    def without_value(each: Any) -> Any:
        return keras.KerasTensor(tuple(each.shape), each.dtype.name)

    return _mapped(without_value, spec)


def len_of(parts: Any) -> int:
    """How many samples there are, by the first of nested arrays."""
    return int(arrays_in(parts)[0].shape[0])


def first_rows(parts: Batch, count: int | None) -> Batch:
    """The first samples of nested arrays; all of them where no count is given."""

    def first(each: Any) -> Any:
        rows = _by_rows(each)[:count]
        return rows if keras.ops.is_tensor(rows) else _host(rows)

    return _mapped(first, parts)


def _is_numbers(parts: Any) -> bool:
    return all(_has_rows(each) and holds_numbers(each.dtype) for each in arrays_in(parts))


def batches_in_order(source: keras.utils.PyDataset) -> Iterator[Any]:
    """The batches of a source that knows them by number, for ever if it does not end."""
    count = source.num_batches
    return (source[number] for number in (itertools.count() if count is None else range(count)))


def _batches(data: Any, most: int, own: bool) -> list[Batch]:
    if isinstance(data, keras.utils.PyDataset):
        return _first(batches_in_order(data), most, own)
    if hasattr(data, "element_spec"):
        is_still = hasattr(data, "as_numpy_iterator") and not _shuffles(data)
        return _first(data, most, own) if is_still else []
    if isinstance(data, list | tuple) and 1 <= len(data) <= 3:
        return _of_arrays(parts_of(tuple(data), own=own), most)
    return []


def _shuffles(dataset: Any) -> bool:
    """True for a data set that another look at may leave in another order, or without an end."""
    todo, seen = [dataset], 0
    while todo:
        each = todo.pop()
        seen += 1
        name = type(each).__name__
        if any(word in name for word in ("Shuffle", "Random", "Generator", "Distributed")):
            return True
        if "FlatMap" in name or not hasattr(each, "_inputs"):  # what `from_generator` is made of
            return True
        todo += each._inputs()
    return seen == 0


def _first(batches: Iterable[Any], most: int, own: bool) -> list[Batch]:
    found: list[Batch] = []
    count = size = 0
    for each in batches:
        batch = _mapped(_host, parts_of(each, own=own))
        arrays = arrays_in(batch[0])
        found.append(batch)
        count += len(arrays[0])
        size += sum(array.nbytes for array in arrays)
        if count >= most or size >= _BYTES:
            break
    return found


def _of_arrays(parts: tuple[Any, ...], most: int) -> list[Batch]:
    """Rows of arrays, as one batch; none of what is no array."""
    leaves = arrays_in(parts)
    if not leaves or parts[0] is None or not all(map(_has_rows, leaves)):
        return []
    count = int(leaves[0].shape[0])
    row = sum(_row_bytes(each) for each in leaves)
    most = min(count, most, max(_BYTES // max(row, 1), 1))
    if most == 0 or any(int(each.shape[0]) != count for each in leaves):
        return []
    places = np.linspace(0, count - 1, most).round().astype("int32")
    return [_mapped(lambda each: _rows(each, places), parts)]


def _has_rows(value: Any) -> bool:
    dense = not (hasattr(value, "dense_shape") or hasattr(value, "nested_row_splits"))
    return dense and hasattr(value, "dtype") and bool(getattr(value, "shape", ()))


def _row_bytes(value: Any) -> int:
    return int(np.prod(value.shape[1:], dtype=np.int64)) * 8


def _rows(value: Any, places: np.ndarray) -> np.ndarray:
    if keras.ops.is_tensor(value):
        return host_value(keras.ops.take(value, places, axis=0))
    if hasattr(value, "toarray"):
        return _host(_by_rows(value)[places])
    rows: np.ndarray = np.asarray(value)[places]
    return rows


def _by_rows(value: Any) -> Any:
    """A sparse matrix of SciPy as one that has rows; anything else as it is."""
    return value.tocsr() if hasattr(value, "tocsr") else value


def _host(value: Any) -> np.ndarray:
    if hasattr(value, "toarray"):  # SciPy's
        return np.asarray(value.toarray())
    return host_value(value) if keras.ops.is_tensor(value) else np.asarray(value)


def _mapped(function: Any, parts: Any) -> Batch:
    x, y, weight = (map_arrays(function, part) for part in parts)
    return x, y, weight
