"""Every backend of Keras that is installed runs the matrix, in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import backend_matrix
import numpy as np
import pytest

SCRIPT = Path(backend_matrix.__file__)
BACKENDS = ["tensorflow", "jax", "torch"]
QUICK = "--xla_backend_optimization_level=0"  # JAX compiles much, and runs little of it twice


@pytest.fixture(scope="module")
def expected():
    """The numbers of the backend this process runs on."""
    return backend_matrix.numbers()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_matrix(backend, expected, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed; `make backends` brings an environment with it")
    file = tmp_path / "numbers.npz"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(file)],
        env=os.environ | {"KERAS_BACKEND": backend, "XLA_FLAGS": QUICK},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    assert f"on {backend}" in done.stdout
    with np.load(file) as found:
        assert {name.replace("|", "/") for name in found} == set(expected)
        for name in found:
            wanted = expected[name.replace("|", "/")]
            size = np.abs(wanted).max()
            np.testing.assert_allclose(found[name], wanted, atol=2e-5 * size, err_msg=name)
