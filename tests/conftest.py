"""What every test shares: a quiet TensorFlow, the same random numbers each time."""

from __future__ import annotations

import os
import random
import sys

# Read by TensorFlow, Keras and BLAS when they load, so set before any test imports them.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def same_every_time() -> None:
    """Seed everything and number layer names from the start; load Keras for nobody."""
    random.seed(1)
    np.random.seed(1)
    keras = sys.modules.get("keras")
    if keras is not None:
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(1)


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator that starts at the same place in every test."""
    return np.random.default_rng(1)
