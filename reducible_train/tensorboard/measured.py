"""What is measured of a model at the end of a fit: its file, its latency."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.container import Header
from reducible_train.container.codecs import DTYPE_NAMES, codec_for
from reducible_train.container.header import header_bytes
from reducible_train.errors import ArgumentError, shortened
from reducible_train.report.records import Report

_SAMPLES = 32  # of a prediction that is timed
_ROUNDS = 20
_SAMPLED = 1 << 20  # numbers of a variable that are encoded, the rest is taken to be alike
_RECORD = 12  # bytes of one variable in the header
_HEADER = 150  # of the rest of it, beside the configuration and the report


def file_bytes(callback: Any, report: Report | None = None) -> int:
    """About how many bytes the compact file will have: all that it holds, encoded.

    Of a `Distiller` it is that of the student.
    Of a large variable a million numbers are encoded, so it takes a second for fifty of these.

    Args:
        callback: One of the fit whose model is measured.
        report: What the file will tell of the cuts.
    """
    model = _keras.trained_model(callback.model)
    told = None if report is None else report.to_dict()
    header = header_bytes(Header({"keras_config": _keras.file_config(model), "report": told}, ()))
    return len(header) + _HEADER + sum(_RECORD + _encoded(v) for _, v in _keras.states_in(model))


def _encoded(value: Any) -> int:
    values = np.ascontiguousarray(_keras.host_value(value)).reshape(-1)
    if not values.size or values.dtype.name not in DTYPE_NAMES:
        return int(values.nbytes)
    part = np.ascontiguousarray(values[:_SAMPLED])
    size = sum(map(len, codec_for(part.dtype).encode(part)))
    return round(size * values.size / part.size)


def latency(callback: Any) -> float:
    """Seconds of a prediction for 32 samples, the fastest of several rounds.

    Samples are those of the fit, or else zeros, nested as the fit or the model has its inputs. Of
    a model that takes batches of one size only, it is the share of 32 samples in their seconds.
    What a prediction changes, such as the states of a recurrent layer, is put back.

    Args:
        callback: One of the fit whose model is measured; of a `Distiller`, the student.

    Raises:
        ArgumentError: No inputs are known, or a model that can predict for any of them.
    """
    if not isinstance(callback.model, keras.Model):
        raise ArgumentError("there is no keras.Model in this loop that could predict.")
    model = _keras.trained_model(callback.model)
    size = _keras.fixed_batch(model) or _SAMPLES
    why = (
        f"the inputs of model '{model.name}' are not known in all their lengths, and the fit has "
        "no samples that can be read again. Give it arrays as `validation_data`."
    )
    for inputs in (_of_the_fit, _as_in_the_fit, _as_the_model_tells):
        try:
            batch = inputs(callback, model, size)
            if batch is not None:
                with _keras.as_it_was(model):
                    seconds = _fastest(functools.partial(model.predict_on_batch, batch))
                return seconds * _SAMPLES / size
        except Exception as error:  # any user code may run; the next inputs may do
            _keras.let_variables_count(model)
            why = f"model '{model.name}' cannot predict for {size} samples. Received: {told(error)}"
    raise ArgumentError(why)


def told(error: Exception) -> str:
    """An error of whatever code in a line."""
    return f"{type(error).__name__}: {shortened(' '.join(str(error).split()), 300)}"


def _of_the_fit(callback: Any, _: Any, size: int) -> Any:
    """Samples of the fit, those that there are again and again."""
    found = _keras.some_of_fit(callback, size)
    if found is None:
        return None
    inputs = found[1][0][0]
    return _keras.map_arrays(lambda each: each[np.arange(size) % len(each)], inputs)


def _as_in_the_fit(callback: Any, _: Any, size: int) -> Any:
    specs = _keras.shapes_to_try(_keras.data_of_fit(callback))
    return None if specs is None else _zeros(specs[0], size)


def _as_the_model_tells(_: Any, model: Any, size: int) -> Any:
    return _zeros(_keras.input_specs(model), size)


def _zeros(specs: Any, size: int) -> Any:
    """Zeros, or texts of nothing, for symbolic inputs; `None` where lengths are open."""
    if specs is None or any(None in each.shape[1:] for each in _keras.arrays_in(specs)):
        return None

    def zeros(spec: Any) -> Any:
        shape = (size, *spec.shape[1:])
        return np.full(shape, "", object) if spec.dtype == "string" else np.zeros(shape, spec.dtype)

    return _keras.map_arrays(zeros, specs)


def _fastest(call: Any) -> float:
    call()  # compiles it
    seconds: Sequence[float] = [_timed(call) for _ in range(_ROUNDS)]
    return min(seconds)


def _timed(call: Any) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
