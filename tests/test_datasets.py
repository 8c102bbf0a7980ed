"""The data sets: parts that share nothing, folders read, everything else refused."""

from __future__ import annotations

import gzip
import subprocess
import sys

import numpy as np
import pytest

from reducible_train import datasets
from reducible_train.errors import ArgumentError, FileAccessError, FormatError

IDX = {
    "x_train": "train-images-idx3-ubyte.gz",
    "y_train": "train-labels-idx1-ubyte.gz",
    "x_test": "t10k-images-idx3-ubyte.gz",
    "y_test": "t10k-labels-idx1-ubyte.gz",
}


@pytest.fixture
def arrays(rng):
    return {
        "x_train": rng.integers(0, 256, (60, 4, 5), dtype=np.uint8),
        "y_train": rng.integers(0, 10, 60, dtype=np.uint8),
        "x_test": rng.integers(0, 256, (20, 4, 5), dtype=np.uint8),
        "y_test": rng.integers(0, 10, 20, dtype=np.uint8),
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("REDUCIBLE_DATA", str(tmp_path))
    return tmp_path


def write_idx(folder, arrays):
    folder.mkdir(exist_ok=True)
    for key, name in IDX.items():
        array = arrays[key]
        head = bytes([0, 0, 8, array.ndim])
        head += b"".join(size.to_bytes(4, "big") for size in array.shape)
        (folder / name).write_bytes(gzip.compress(head + array.tobytes()))


def test_digits_are_scaled_and_their_parts_share_no_sample():
    data = datasets.load("digits")
    parts = [data.x_train, data.x_val, data.x_test]
    assert sum(map(len, parts)) == 1797
    assert (data.features, data.classes) == (64, 10)
    assert all(part.dtype == np.float32 and part.min() >= 0 for part in parts)
    assert max(part.max() for part in parts) == 1
    rows = [{row.tobytes() for row in part} for part in parts]
    assert not rows[0] & rows[1]
    assert not rows[0] & rows[2]
    assert not rows[1] & rows[2]


def test_digits_are_the_same_each_time():
    np.testing.assert_array_equal(datasets.load().x_test, datasets.load("digits").x_test)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_npz_and_idx_files_give_the_same_data(folder, arrays, name):
    np.savez(folder / f"{name}.npz", **arrays)
    from_npz = datasets.load(name)
    (folder / f"{name}.npz").unlink()
    write_idx(folder / name, arrays)
    from_idx = datasets.load(name)
    for part in ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"):
        np.testing.assert_array_equal(getattr(from_npz, part), getattr(from_idx, part))
    assert from_npz.source.endswith(f"{name}.npz")
    assert len(from_npz.x_train) + len(from_npz.x_val) == 60
    np.testing.assert_allclose(from_npz.x_test[0], arrays["x_test"][0].ravel() / 255, rtol=1e-6)


def test_idx_files_may_lie_in_the_folder_itself(folder, arrays):
    write_idx(folder, arrays)
    assert datasets.load("mnist").x_test.shape == (20, 20)


def test_the_validation_part_is_the_end_of_the_training_data(folder, arrays):
    np.savez(folder / "mnist.npz", **arrays)
    np.testing.assert_array_equal(datasets.load("mnist").y_val, arrays["y_train"][-6:])


def test_a_folder_without_the_data_names_what_was_looked_for(folder):
    with pytest.raises(FileAccessError, match=r"fashion_mnist\.npz.*unset"):
        datasets.load("fashion_mnist")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ArgumentError, match="digits, mnist, fashion_mnist"):
        datasets.load("cifar")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_test": None}, "y_test missing"),
        ({"x_train": np.zeros((60, 4, 5))}, "uint8"),
        ({"y_train": np.zeros(59, np.uint8)}, "class for each"),
        ({"x_test": np.zeros((20, 5, 5), np.uint8)}, "one size"),
        ({"y_train": np.array([{}] * 60, dtype=object)}, "plain arrays"),
    ],
)
def test_an_archive_with_something_else_is_refused(folder, arrays, change, message):
    changed = {key: value for key, value in (arrays | change).items() if value is not None}
    np.savez(folder / "mnist.npz", **changed)
    with pytest.raises(FormatError, match=message):
        datasets.load("mnist")


def test_a_file_that_is_no_archive_is_refused(folder):
    (folder / "mnist.npz").write_bytes(b"nothing of the kind")
    with pytest.raises(FormatError, match="plain arrays"):
        datasets.load("mnist")


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x0d\1\0\0\0\1a", b"\0\0\x08\1\0\0\0\2a", b"\0\0\x08\3\0"]
)
def test_a_damaged_idx_file_is_refused(folder, arrays, content):
    write_idx(folder, arrays)
    (folder / IDX["y_test"]).write_bytes(gzip.compress(content))
    with pytest.raises(FormatError, match="must hold"):
        datasets.load("mnist")


def test_a_missing_scikit_learn_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(FileAccessError, match=r"reducible-train\[demo\]"):
        datasets.load("digits")


def test_a_failed_download_says_what_else_can_be_done(monkeypatch):
    import keras

    def fail():
        raise OSError("no route to host")

    monkeypatch.delenv("REDUCIBLE_DATA", raising=False)
    monkeypatch.setattr(keras.datasets.mnist, "load_data", fail)
    with pytest.raises(FileAccessError, match=r"no route to host.*REDUCIBLE_DATA"):
        datasets.load("mnist")


def test_digits_need_no_keras():
    code = "import sys, reducible_train.datasets as d; d.load(); sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
