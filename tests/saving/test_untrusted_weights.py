"""Laws of Keras's own files from strangers: checked against the model before it is touched."""

from __future__ import annotations

import io
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest

from reducible_train import FormatError, factorize, load_weights_into
from reducible_train.container import write_container
from reducible_train.surgery.plans import plan_of

L = keras.layers
KERNEL = "layers/dense/vars/0"


def model_of(rank=None):
    model = keras.Sequential(
        [keras.Input((40,)), L.Dense(60, name="a"), L.Dense(50, name="b"), L.Dense(3, name="o")],
        name="m",
    )
    model.compile("adam", "mse")
    if rank:
        factorize(model, rank=rank)
    return model


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The bytes of a file of weights of a dense model of the architecture."""
    path = tmp_path_factory.mktemp("weights") / "w.weights.h5"
    model_of().save_weights(path)
    return path.read_bytes()


def linked(kind):
    def change(file):
        shape = file[KERNEL].shape
        del file[KERNEL]
        if kind == "external":
            file[KERNEL] = h5py.ExternalLink("other.h5", "/x")
        elif kind == "soft":
            file[KERNEL] = h5py.SoftLink("/layers/dense_1/vars/0")
        elif kind == "outside":
            file["layers/dense/vars"].create_dataset(
                "0", shape, "float32", external=[("other", 0, 4 * shape[0] * shape[1])]
            )
        else:
            del file["layers/dense"]
            file["layers/dense"] = h5py.ExternalLink("other.h5", "/x")

    return change


def retyped(dtype, value):
    def change(file):
        shape = file[KERNEL].shape
        del file[KERNEL]
        file["layers/dense/vars"].create_dataset("0", data=np.full(shape, value, dtype))

    return change


def huge(file):
    del file[KERNEL]
    file["layers/dense/vars"].create_dataset(
        "0", (10**6, 10**6), "float32", chunks=(1000, 1000), compression="gzip"
    )


def empty(file):
    del file[KERNEL]
    file["layers/dense/vars"]["0"] = h5py.Empty("float32")


def group(file):
    del file[KERNEL]
    file["layers/dense/vars"].create_group("0")


def placed(file):
    file["layers/dense/vars"].attrs["place_among_siblings"] = "x"


CHANGES = {
    "external link": linked("external"),
    "soft link": linked("soft"),
    "data outside": linked("outside"),
    "group elsewhere": linked("group"),
    "complex": retyped("complex64", 1j),
    "text": retyped("S3", b"abc"),
    "records": retyped([("a", "f4"), ("b", "f4")], 0),
    "huge": huge,
    "nothing": empty,
    "a group": group,
    "a place": placed,
}


def damaged_chunk(data):
    """The file with the kernel compressed, and a bit of that turned."""
    stream = io.BytesIO(data)
    with h5py.File(stream, "r+") as file:
        values = file["layers/dense_1/vars/0"][()]
        del file["layers/dense_1/vars/0"]
        made = file["layers/dense_1/vars"].create_dataset(
            "0", data=values, chunks=values.shape, compression="gzip"
        )
        start = made.id.get_chunk_info(0).byte_offset
    changed = bytearray(stream.getvalue())
    changed[start + 40 : start + 60] = bytes(20)
    return bytes(changed)


def refused(model, path, match):
    plan, before = plan_of(model), model.get_weights()
    with pytest.raises(FormatError, match=match):
        load_weights_into(model, path)
    assert plan_of(model) == plan
    for one, two in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", CHANGES)
def test_a_forged_file_of_weights_changes_nothing(name, weights, tmp_path):
    path = tmp_path / "w.weights.h5"
    path.write_bytes(weights)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.zeros((40, 60), "float32")
    with h5py.File(path, "r+") as file:
        CHANGES[name](file)
    refused(model_of(rank=4), path, r"w\.weights\.h5")


def test_what_cannot_be_read_is_known_before_the_model_is_changed(weights, tmp_path):
    path = tmp_path / "w.weights.h5"
    path.write_bytes(damaged_chunk(weights))
    refused(model_of(rank=4), path, "damaged")


def archive(path, members, **kwargs):
    with zipfile.ZipFile(path, "w", **kwargs) as file:
        for name, data in members:
            file.writestr(name, data)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_no_more_is_unpacked_than_the_model_could_have_written(method, tmp_path):
    path = tmp_path / "m.keras"
    archive(path, [("model.weights.h5", bytes(32 << 20))], compression=method)
    assert path.stat().st_size < 70_000
    refused(model_of(), path, r"take 33554432 bytes.*at most")


def test_paths_in_an_archive_lead_nowhere(weights, tmp_path):
    path = tmp_path / "m.keras"
    for name in ("../model.weights.h5", "/model.weights.h5", "model.weights.h5/x"):
        archive(path, [(name, weights)])
        refused(model_of(), path, r"no file of `model\.save`")
    assert [each.name for each in tmp_path.iterdir()] == ["m.keras"]
    archive(path, [("model.weights.h5", weights)])
    load_weights_into(model_of(rank=4), path)


def test_archives_that_cannot_be_unpacked_are_refused(weights, tmp_path):
    path = tmp_path / "m.keras"
    archive(path, [("model.weights.h5", weights)])
    plain = path.read_bytes()
    central = plain.rindex(b"PK\x01\x02")
    for place, value in ((8, 1), (10, 77), (16, 5)):  # encrypted, unknown method, checksum
        changed = bytearray(plain)
        changed[central + place] ^= value
        path.write_bytes(changed)
        refused(model_of(), path, r"m\.keras is no file")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"weight_map": ' + '{"a":' * 50_000 + "1" + "}" * 50_000 + "}",
        '{"weight_map": {"/a/vars": [["a.weights.h5"]]}}',
        '{"weight_map": {"/a/vars": null}}',
        '{"weight_map": {"/a/vars": ".."}}',
        '{"weight_map": {"/a/vars": ""}}',
        '{"weight_map": {"/a/vars": "../w.weights.h5"}}',
        '{"weight_map": []}',
        '{"weight_map": {}}',
        "\xff\xfe",
    ],
    ids=lambda text: text[:30],
)
def test_a_map_of_weights_from_a_stranger(text, tmp_path):
    path = tmp_path / "w.weights.json"
    path.write_bytes(text.encode("latin-1"))
    refused(model_of(), path, r"w\.weights\.json")


def test_a_large_map_is_not_read(tmp_path):
    path = tmp_path / "w.weights.json"
    path.write_text(json.dumps({"weight_map": {}, "more": "x" * (17 << 20)}))
    refused(model_of(), path, "bytes, and may have")


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5"])
def test_a_compact_file_by_the_name_of_another_is_told(name, tmp_path):
    write_container(tmp_path / name, {}, [])
    refused(model_of(), tmp_path / name, r"compact one.*Name it m.*\.reducible")
