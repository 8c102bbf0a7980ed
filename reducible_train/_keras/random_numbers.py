"""Where random numbers come from that Keras's own seeds do not decide."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np


def backend_numbers() -> dict[str, np.ndarray]:
    """The states of the generators that a backend has of its own, by device.

    On torch, where Keras's `Dropout` without a seed draws from them, those of the CPU and of CUDA's
    devices; elsewhere none: JAX has none, and TensorFlow's cannot be asked.
    """
    return {name: each.get_state().numpy() for name, each in _generators().items()}


def set_backend_numbers(states: Mapping[str, np.ndarray]) -> None:
    """Put back what `backend_numbers` gave, for those devices that are there."""
    for name, generator in _generators().items():
        if name in states:
            import torch  # noqa: PLC0415

            generator.set_state(torch.from_numpy(np.array(states[name])))


def _generators() -> dict[str, Any]:
    if keras.backend.backend() != "torch":
        return {}
    import torch  # noqa: PLC0415

    return {
        str(each.device): each for each in (torch.default_generator, *torch.cuda.default_generators)
    }


@contextmanager
def random_numbers_kept() -> Iterator[None]:
    """Within it, numbers may be drawn: Python's, numpy's and the backend's go on as if not."""
    python, arrays, backend = random.getstate(), np.random.get_state(), backend_numbers()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
        set_backend_numbers(backend)
