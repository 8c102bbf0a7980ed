"""Weights files that are written on a disk which takes no more: told, and nothing else befalls."""

from __future__ import annotations

import errno
import os
import re
from contextlib import contextmanager

import keras
import numpy as np
import pytest

from reducible_train import _keras

resource = pytest.importorskip("resource")


def network(units=32):
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(units), keras.layers.Dense(4)])


@contextmanager
def files_of_at_most(size):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_weights_come_back(tmp_path):
    model, other = network(), network()
    _keras.save_weights(model, tmp_path / "a.weights.h5")
    other.load_weights(tmp_path / "a.weights.h5")
    for one, same in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, same)


@pytest.mark.parametrize("most", [100, 3_000, 20_000])
def test_hdf5_is_told_of_no_failure(tmp_path, most):
    """A process in which it was refused a write dies of a signal when it exits."""
    told = re.escape(f"[Errno {errno.EFBIG}] {os.strerror(errno.EFBIG)}")
    with files_of_at_most(most), pytest.raises(OSError, match=f"{told}$"):
        _keras.save_weights(network(1_000), tmp_path / "a.weights.h5")
    assert not list(tmp_path.iterdir())


def test_what_a_link_leads_to_does_not_stay_either(tmp_path):
    (tmp_path / "a.weights.h5").symlink_to(tmp_path / "b.weights.h5")
    with files_of_at_most(3_000), pytest.raises(OSError, match="File too large"):
        _keras.save_weights(network(1_000), tmp_path / "a.weights.h5")
    assert not (tmp_path / "b.weights.h5").exists()


def test_a_file_of_another_name_is_as_it_was(tmp_path):
    (tmp_path / "a.keras").write_text("mine")
    with pytest.raises(ValueError, match="must end in"):
        _keras.save_weights(network(), tmp_path / "a.keras")
    assert (tmp_path / "a.keras").read_text() == "mine"


def test_a_model_that_writes_in_its_own_way_is_given_a_path(tmp_path):
    class Own(keras.Sequential):
        def save_weights(self, filepath, **more):
            filepath.write_text("mine")

    _keras.save_weights(Own([keras.Input((8,)), keras.layers.Dense(4)]), tmp_path / "a.weights.h5")
    assert (tmp_path / "a.weights.h5").read_text() == "mine"
