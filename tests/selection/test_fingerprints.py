"""Data are known again by their values, whatever holds them, and large ones are read in part."""

from __future__ import annotations

import h5py
import keras
import numpy as np
import pytest

from reducible_train.selection import fingerprints
from reducible_train.selection.fingerprints import of_values

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 7))


def test_equal_values_are_equal_in_every_type(tmp_path):
    labels = np.arange(50) % 5
    same = [labels.astype(each) for each in ("int8", "uint8", "int32", "int64", "float32")]
    assert len({of_values(each) for each in [*same, keras.ops.convert_to_tensor(labels)]}) == 1
    assert of_values(X) == of_values(X.astype("float32")) == of_values(np.asfortranarray(X))
    words = np.array(["a", "bc"])
    assert of_values(words) == of_values(words.astype("U9")) == of_values(words.astype("S"))
    assert of_values(np.array([-0.0])) == of_values(np.array([0]))
    np.save(tmp_path / "x.npy", X)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        kept = file.create_dataset("x", data=X)
        assert of_values(kept) == of_values(np.load(tmp_path / "x.npy", mmap_mode="r"))
        assert of_values(kept) == of_values(X)


@pytest.mark.parametrize(
    "other",
    [X[:49], X.T, X + 1e-4, X[::-1], np.zeros((0, 7)), X[0, 0]],
    ids=["fewer", "shape", "values", "order", "none", "a number"],
)
def test_other_values_are_others(other):
    assert of_values(np.asarray(other)) != of_values(X)


def test_integers_are_told_apart_beyond_single_precision():
    large = np.array([2**24, 2**40])
    assert of_values(large) != of_values(large + 1)
    assert of_values(large) == of_values(large.astype("uint64"))


class OnDisk:
    """An array that says how much of it is read at once, and in all."""

    def __init__(self, array):
        self.array, self.read = array, []

    @property
    def shape(self):
        return self.array.shape

    def __array__(self, *_, **__):
        raise AssertionError("read as a whole")

    def __getitem__(self, index):
        self.read.append(self.array[index].size)
        return self.array[index]


def test_large_data_are_read_in_blocks_and_in_part(monkeypatch):
    monkeypatch.setattr(fingerprints, "_BLOCK", 70)
    monkeypatch.setattr(fingerprints, "_MOST", 210)
    held = OnDisk(RNG.normal(size=(200, 7)))
    first = of_values(held)
    assert held.read == [70] * 3
    changed = {}
    for row in (0, 100, 199):  # the first, the middle, the last block
        held.array[row] += 1
        changed[row] = of_values(held)
    assert len({first, *changed.values()}) == 4


@pytest.mark.parametrize("shape", [(3, 500), (9, 4, 5, 30), (2, 2, 2, 300), (500, 3, 3), (1, 999)])
def test_of_large_samples_no_more_is_read(shape, monkeypatch):
    monkeypatch.setattr(fingerprints, "_BLOCK", 70)
    monkeypatch.setattr(fingerprints, "_MOST", 210)
    held = OnDisk(RNG.normal(size=shape))
    first = of_values(held)
    assert max(held.read) <= 70
    assert 100 < sum(held.read) <= 210
    for place in (0, -1):
        held.array.flat[place] += 1
        assert first != (first := of_values(held))
