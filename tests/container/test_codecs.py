"""Codecs: every bit comes back, the size promised is reached, nothing odd is let in."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
import zlib

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reducible_train.container.codecs import (
    DTYPE_NAMES,
    Codec,
    base,
    codec_for,
    codec_named,
    codec_names,
    dtype_name,
    dtype_named,
)
from reducible_train.container.codecs.deflate import HUFFMAN_ONLY, deflate, inflate
from reducible_train.container.codecs.planes import pack, unpack
from reducible_train.errors import FormatError

FLOATS = [np.dtype(name) for name in ("float16", "float32", "float64")]
FLOATS.append(np.dtype(ml_dtypes.bfloat16))


def there_and_back(values: np.ndarray) -> np.ndarray:
    codec = codec_for(values.dtype)
    return codec.decode(list(codec.encode(values)), values.dtype, values.size)


def stored_bytes(values: np.ndarray) -> int:
    return sum(map(len, codec_for(values.dtype).encode(values)))


def entropy_bytes(values: np.ndarray) -> float:
    """Zeroth-order bound of a float32 tensor: exponents coded, sign and mantissa as they are."""
    exponents = np.bincount((values.view(np.uint32) >> 23) & 0xFF)
    shares = exponents[exponents > 0] / values.size
    return values.size * (24 - np.sum(shares * np.log2(shares))) / 8


# --- every bit -------------------------------------------------------------------------


@pytest.mark.parametrize("name", DTYPE_NAMES)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_any_bits_come_back(name: str, data: st.DataObject):
    dtype = dtype_named(name)
    words = data.draw(hnp.arrays(f"<u{dtype.itemsize}", st.integers(0, 300)))
    values = (words % 2).astype(bool) if name == "bool" else words.view(dtype)
    found = there_and_back(values)
    assert found.dtype == values.dtype
    assert found.tobytes() == values.tobytes()


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.name)
def test_special_values_come_back(dtype: np.dtype):
    word = np.dtype(f"<u{dtype.itemsize}")
    infinity = np.array([np.inf]).astype(dtype).view(word)[0]
    payloads = infinity + np.arange(1, 40, dtype=word)  # signalling NaNs, each its own
    numbers = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0]).astype(dtype).view(word)
    subnormals = np.arange(1, 40, dtype=word)
    values = np.concatenate([numbers, payloads, subnormals]).astype(word).view(dtype)
    assert there_and_back(values).tobytes() == values.tobytes()


@pytest.mark.parametrize("size", [0, 1, 16_383, 16_384, 16_385, 65_535, 65_537, 200_001])
@pytest.mark.parametrize("name", ["float32", "float64", "int32"])
def test_sizes_around_the_blocks_come_back(name: str, size: int, rng: np.random.Generator):
    values = rng.normal(scale=100, size=size).astype(name)
    assert there_and_back(values).tobytes() == values.tobytes()


# --- size ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(784, 40), (512, 512), (1500, 1000)])
def test_float32_is_near_the_entropy_bound(shape: tuple[int, int], rng: np.random.Generator):
    values = (rng.normal(size=shape) * rng.lognormal(-3, 0.3, shape[1])).astype(np.float32)
    stored = stored_bytes(values.ravel())
    assert stored <= 0.84 * values.nbytes
    assert stored <= 1.005 * entropy_bytes(values.ravel())


@pytest.mark.parametrize(("dtype", "goal"), [(ml_dtypes.bfloat16, 0.68), (np.float16, 0.86)])
def test_16_bit_floats_reach_their_goal(dtype: type, goal: float, rng: np.random.Generator):
    values = rng.normal(scale=0.05, size=200_000).astype(dtype)
    assert stored_bytes(values) <= goal * values.nbytes


@pytest.mark.parametrize("size", [1_000, 1_000_000])
def test_sparse_and_constant_tensors_are_small(size: int, rng: np.random.Generator):
    sparse = np.zeros(size, np.float32)
    chosen = rng.choice(size, size // 20, replace=False)
    sparse[chosen] = rng.normal(size=chosen.size)
    assert stored_bytes(sparse) < 0.12 * sparse.nbytes + 150
    assert stored_bytes(np.full(size, 0.1, np.float32)) < 0.02 * sparse.nbytes + 40


@given(hnp.arrays(np.uint32, st.integers(0, 300)))
@settings(max_examples=20, deadline=None)
def test_never_larger_than_raw_and_a_tag_per_plane(words: np.ndarray):
    assert stored_bytes(words.view(np.float32)) <= words.nbytes + 4


def test_memory_stays_below_twice_the_tensor(rng: np.random.Generator):
    values = rng.normal(size=2_000_000).astype(np.float32)
    codec = codec_for(values.dtype)
    tracemalloc.start()
    try:
        assert sum(map(len, codec.encode(values))) < values.nbytes  # one part at a time
        encoding = tracemalloc.get_traced_memory()[1]
        parts = list(codec.encode(values))
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        codec.decode(parts, values.dtype, values.size)
        decoding = tracemalloc.get_traced_memory()[1] - held
    finally:
        tracemalloc.stop()
    assert encoding <= 2 * values.nbytes
    assert decoding <= 2 * values.nbytes


# --- planes and streams ----------------------------------------------------------------


def test_a_plane_is_stored_its_smallest_way(rng: np.random.Generator):
    noise = rng.integers(0, 256, 100_000).astype(np.uint8)
    skewed = rng.geometric(0.5, 100_000).astype(np.uint8)
    assert [pack(p)[0] for p in (noise, skewed, np.zeros_like(noise))] == [0, 1, 2]


def test_bits_after_the_end_are_refused():
    """zlib ignores them, so each would be a second file with the same tensors."""
    refused = 0
    for length in range(1, 200):
        data = bytes(i * i % 7 for i in range(length))
        for strategy in (0, HUFFMAN_ONLY):
            stream = deflate(data, strategy=strategy)
            assert inflate(stream, length) == data
            for bit in range(8):
                mutant = stream[:-1] + bytes([stream[-1] ^ (1 << bit)])
                if mutant[-1] > stream[-1] and zlib_accepts(mutant, data):
                    refused += 1
                    with pytest.raises(FormatError, match="padding that is not zero"):
                        inflate(mutant, length)
    assert refused > 500


def zlib_accepts(stream: bytes, data: bytes) -> bool:
    try:
        return zlib.decompress(stream, -15) == data
    except zlib.error:
        return False


STREAM = deflate(b"abc" * 100)


@pytest.mark.parametrize(
    ("stream", "size", "message"),
    [
        (STREAM, 299, "more than that"),
        (STREAM, 0, "more than that"),
        (STREAM, 301, "300 bytes"),
        (STREAM + b"\0", 300, "bytes after its end"),
        (STREAM + STREAM, 300, "bytes after its end"),
        (STREAM[:-1], 300, "breaks off"),
        (b"", 300, "breaks off"),
        (b"\x07" + STREAM, 300, "valid deflate stream"),
        (deflate(bytes(10**7)), 300, "more than that"),
    ],
)
def test_odd_streams_are_refused(stream: bytes, size: int, message: str):
    with pytest.raises(FormatError, match=message):
        inflate(stream, size)


def test_a_bomb_costs_no_memory():
    bomb = deflate(bytes(10**8))
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            inflate(bomb, 1000)
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("stored", "count", "message"),
    [
        (b"", 4, "no bytes at all"),
        (b"\x00abc", 4, "Received: 3"),
        (b"\x00abcde", 4, "Received: 5"),
        (b"\x03abcd", 4, "storage tag"),
        (b"\x01" + deflate(b"ab", strategy=HUFFMAN_ONLY), 2, "no gain"),
        (b"\x02" + deflate(b""), 0, "no gain"),
        (b"\x02", 1, "enough bytes"),
        (b"\x02" + STREAM, 10**12, "enough bytes"),
    ],
)
def test_odd_planes_are_refused(stored: bytes, count: int, message: str):
    with pytest.raises(FormatError, match=message):
        unpack(stored, count)


def test_a_bool_is_0_or_1():
    with pytest.raises(FormatError, match="0 or 1"):
        codec_named("bytes").decode([b"\x00\x00\x02"], np.dtype(bool), 2)


# --- the closed lists ------------------------------------------------------------------


def test_the_lists_are_closed():
    """These names are in people's files: none may vanish or change its meaning."""
    assert set(codec_names()) >= {"bytes", "float"}
    assert set(DTYPE_NAMES) == {
        *("bfloat16", "float16", "float32", "float64", "bool"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    }
    assert all(dtype_name(dtype_named(name)) == name for name in DTYPE_NAMES)
    assert all(name in codec_for(dtype_named(name)).dtypes for name in DTYPE_NAMES)


@pytest.mark.parametrize("dtype", ["complex64", "longdouble", "datetime64[s]", "U3", "O", "i4,f4"])
def test_other_dtypes_are_refused(dtype: str):
    with pytest.raises(FormatError, match=r"must be one of .*Received.*Cast"):
        codec_for(np.dtype(dtype))


def test_unknown_names_are_refused():
    with pytest.raises(FormatError, match=r"codec must be one of .*Received: 'zip'.*newer"):
        codec_named("zip")
    with pytest.raises(FormatError, match=r"dtype must be one of .*Received: 'object'.*newer"):
        dtype_named("object")


def test_two_codecs_cannot_share_a_name_or_a_default():
    for name, dtypes in [("float", ()), ("float2", ("float32",))]:
        with pytest.raises(TypeError, match="of its own"):
            type("Rival", (Codec,), {}, name=name, dtypes=dtypes)


def test_a_codec_defined_again_takes_the_place_of_its_predecessor(monkeypatch):
    monkeypatch.setattr(base, "_CODECS", dict(base._CODECS))

    def cell():
        class Mine(type(codec_named("bytes")), name="mine", dtypes=("uint4",)):
            pass

        return Mine

    for _ in range(2):
        made = cell()
        assert type(codec_named("mine")) is made
    with pytest.raises(TypeError, match="of its own"):
        type("Mine", (Codec,), {}, name="mine", dtypes=())


def test_ml_dtypes_is_loaded_only_for_bfloat16():
    code = (
        "import sys, numpy as np\n"
        "from reducible_train.container.codecs import codec_for, dtype_named\n"
        "codec_for(np.dtype('float32')); dtype_named('float16')\n"
        "assert 'ml_dtypes' not in sys.modules\n"
        "dtype_named('bfloat16')\n"
        "assert 'ml_dtypes' in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
