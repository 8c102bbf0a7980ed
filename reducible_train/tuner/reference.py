"""The quality of the dense start on the data by which trials are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from reducible_train import _keras
from reducible_train.errors import ArgumentError
from reducible_train.settings.monitors import check_one_number


def dense_quality(model: Any, arguments: Mapping[str, Any], monitor: str) -> float:
    """A metric of a model as it is.

    Args:
        model: The dense start, compiled.
        arguments: Those of `model.fit`, by name.
        monitor: The metric; of the validation data where its name begins with `val_`.

    Raises:
        ArgumentError: There are no such data, or they can be read only once; or there is no such
            metric, or it is several numbers.
    """
    validates = monitor.startswith("val_")
    data = _validation(arguments) if validates else _training(arguments)
    if hasattr(data[0], "__next__"):
        raise ArgumentError(
            "`max_drop` measures the dense start on the data by which trials are compared. "
            f"Received: a {type(data[0]).__name__}, which can be read only once. Give arrays or a "
            "Dataset, or `limit` in place of `max_drop`."
        )
    own = arguments.get("validation_batch_size") if validates else None
    batch_size = own or arguments.get("batch_size")
    more = {} if comes_in_batches(data[0]) else {"batch_size": batch_size}
    steps = arguments.get("validation_steps" if validates else "steps_per_epoch")
    names = ("x", "y", "sample_weight")
    given = {name: each for name, each in zip(names, data, strict=False) if each is not None}
    logs = model.evaluate(**given, **more, steps=steps, verbose=0, return_dict=True)
    found = logs.get(monitor.removeprefix("val_"))
    if found is None:
        raise ArgumentError(
            f"`monitor` must be a metric of the logs. Received: {monitor!r}. With this model there "
            f"are {', '.join(logs)}."
        )
    check_one_number(monitor, _keras.numbers_in(found), "a search")
    return float(found)


def _training(arguments: Mapping[str, Any]) -> tuple[Any, ...]:
    return (arguments.get("x"), arguments.get("y"), arguments.get("sample_weight"))


def _validation(arguments: Mapping[str, Any]) -> tuple[Any, ...]:
    """The validation data, also those that `fit` will hold out itself."""
    data = arguments.get("validation_data")
    if data is not None:
        return tuple(data) if isinstance(data, tuple | list) else (data,)  # a list, as fit does
    share = arguments.get("validation_split") or 0.0
    if not share:
        raise ArgumentError(
            "`max_drop` measures the dense start on validation data. Received: none. Give "
            "validation_data=... or validation_split=... to search."
        )

    def last(array: Any) -> Any:
        return array[math.floor(len(array) * (1.0 - share)) :]

    return tuple(_keras.map_arrays(last, each) for each in _training(arguments))


def comes_in_batches(x: Any) -> bool:
    """True for a dataset or generator, False for arrays."""
    kinds = ("shape", "__array__")
    return not all(any(hasattr(each, kind) for kind in kinds) for each in _keras.arrays_in(x))
