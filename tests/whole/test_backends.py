"""Every backend of Keras that is installed runs the matrix, each but ours in its own process."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import backend_matrix
import keras
import numpy as np
import pytest

SCRIPT = Path(backend_matrix.__file__)
PAIR = SCRIPT.parent / "two_processes.py"
OTHERS = [name for name in ("tensorflow", "jax", "torch") if name != keras.backend.backend()]
QUICK = "--xla_backend_optimization_level=0"  # JAX compiles much, and runs little of it twice
DEVICES = "--xla_force_host_platform_device_count"


FITS = [
    pytest.param(name, marks=[pytest.mark.slow] * name.startswith("subclassed"))
    for name in backend_matrix.FITS
]


@pytest.mark.parametrize("name", FITS)
def test_the_fits_of_the_matrix_here(name):
    backend_matrix.check_fit(*backend_matrix.FITS[name])


@pytest.mark.slow
def test_the_holders_of_the_matrix_here():
    backend_matrix.check_holders()


def test_the_random_layers_of_the_matrix_here():
    backend_matrix.check_random_layers()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
def test_the_streams_of_the_matrix_here():
    backend_matrix.check_streams()


def test_the_stock_layers_of_the_matrix_here():
    backend_matrix.check_stock()


@pytest.mark.parametrize("backend", OTHERS)
def test_the_matrix(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed; `make backends` brings an environment with it")
    expected = backend_matrix.numbers()
    file = tmp_path / "numbers.npz"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(file)],
        env=os.environ | {"KERAS_BACKEND": backend, "XLA_FLAGS": f"{QUICK} {DEVICES}=4"},
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


def test_two_processes_of_jax_decide_alike():
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed; `make backends` brings an environment with it")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    pair = [
        subprocess.Popen(
            [sys.executable, str(PAIR), port, str(process)],
            env=os.environ | {"KERAS_BACKEND": "jax", "XLA_FLAGS": f"{QUICK} {DEVICES}=1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(2)
    ]
    (first, errors), (second, more) = (each.communicate(timeout=900) for each in pair)
    assert [each.returncode for each in pair] == [0, 0], errors[-2000:] + more[-2000:]
    told = [re.findall(r"^[a-z]+: .*", each, re.MULTILINE) for each in (first, second)]
    assert told[0] == told[1]
    assert sum("undone" in line for line in told[0]) == 6
    assert "0 undone" in next(line for line in told[1] if line.startswith("guard"))
    assert "is split among processes" in told[0][-1]
