"""The compact file: what goes in comes out, and only what was written is let in."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reducible_train.container import MAGIC, read_container, read_header, write_container
from reducible_train.container import header as header_module
from reducible_train.container import records as records_module
from reducible_train.container import writing as writing_module
from reducible_train.container.codecs.deflate import deflate, inflate
from reducible_train.errors import FileAccessError, FormatError

PREFIX = header_module.PREFIX
TENSORS = [
    ("d1/kernel", np.linspace(-1, 1, 600, dtype=np.float32).reshape(20, 30)),
    ("d1/mask", np.arange(50) % 7 == 0),
    ("step", np.array(7, np.int64)),
    ("half", np.linspace(0, 1, 40).astype(ml_dtypes.bfloat16)),
]
CONTENT = {"keras": "3.15.1", "config": {"units": [3, 4], "rate": 0.5, "bias": None}}

# Version 1, written by zlib 1.2.13.
GOLDEN = bytes.fromhex(
    "895244430d0a1a0a"  # magic
    "0100"  # version
    "0000"  # flags
    "87000000"  # header as stored
    "db000000"  # header inflated
    "4d8dd10ac3200c45ff25cf7951676bfd95d207671d1b745a6a6014f1df1707db242fb987e4dc023e"
    "450a91c01670604545e098d391c1ce05a27b06b0f0028495cebdedb72d395292894f6bf05fc239df"
    "5dbb9825ca0561df5c0ccda2f1338cfce1f9d18e931ab4b96859f1d710bb8647243174feeb492cea"
    "fcbd5da1fa9b8d515a4c4a8e75a96f"
    "007f807eff0000000000000000000000000100000001ff0002ff"  # planes
    "c7828395c8e8e88172dd87793acf1967b7901f830d007e303a5484192a553548"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.reducible"


@pytest.fixture
def good(path: Path) -> bytes:
    write_container(path, CONTENT, TENSORS)
    return path.read_bytes()


def read(path: Path) -> tuple[Any, list[tuple[str, np.ndarray]]]:
    with read_container(path) as container:
        return container.header, list(container)


def assert_same(found: list, expected: list) -> None:
    assert [name for name, _ in found] == [name for name, _ in expected]
    for (_, a), (_, b) in zip(found, expected, strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


# --- taking a file apart and putting it together again, as an attacker would ------------


def parts(file: bytes) -> tuple[dict, bytes]:
    """The header as JSON values, and the planes."""
    _, _, _, stored, inflated = PREFIX.unpack(file[: PREFIX.size])
    start = PREFIX.size + stored
    return json.loads(inflate(file[PREFIX.size : start], inflated)), file[start:-32]


def sealed(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()


def forged(text: bytes, planes: bytes, *, version: int = 1, flags: int = 0) -> bytes:
    stored = deflate(text, level=9)
    return sealed(PREFIX.pack(MAGIC, version, flags, len(stored), len(text)) + stored + planes)


def spelled(plain: Any) -> bytes:
    return json.dumps(plain, separators=(",", ":")).encode()


# --- what goes in comes out --------------------------------------------------------------


def test_round_trip(path: Path):
    written = write_container(path, CONTENT, TENSORS)
    header, found = read(path)
    assert_same(found, TENSORS)
    assert header == written == read_header(path)
    assert header.content == CONTENT
    assert [record.nbytes for record in header.tensors] == [a.nbytes for _, a in TENSORS]


@given(
    hnp.arrays(
        st.sampled_from(["<f4", ">f4", "<f2", "<f8", ">i8", "u1", "?"]),
        hnp.array_shapes(min_dims=0, max_dims=8, min_side=0, max_side=3),
    )
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_array_comes_back(tmp_path: Path, array: np.ndarray):
    for given_array in (array, array.T, array[..., ::-1] if array.ndim else array):
        write_container(tmp_path / "a", {}, [("x", given_array)])
        _, [(_, found)] = read(tmp_path / "a")
        assert (found.shape, found.dtype.name) == (given_array.shape, given_array.dtype.name)
        little = given_array.astype(given_array.dtype.newbyteorder("<"))
        assert found.tobytes() == little.tobytes()


def test_the_same_model_gives_the_same_bytes(path: Path, good: bytes):
    header, found = read(path)
    write_container(path, header.content, found)
    assert path.read_bytes() == good


def test_a_container_can_be_read_twice(path: Path, good: bytes):
    with read_container(path) as container:
        assert_same(list(container), list(container))
        first, second = iter(container), iter(container)
        assert_same([next(first), next(first)], [next(second), next(second)])


def test_no_tensors(path: Path):
    write_container(path, {}, [])
    assert read(path)[1] == []


def test_golden_bytes(path: Path):
    """Files of version 1 are read for ever; what zlib does not decide is written for ever."""
    path.write_bytes(GOLDEN)
    header, found = read(path)
    assert header.content == {"a": 1}
    tensors = [
        ("w", np.array([[1.0, -2.0], [0.5, np.inf]], np.float32)),
        ("n", np.array([258, -1], np.int16)),
    ]
    assert_same(found, tensors)
    write_container(path, {"a": 1}, tensors)
    assert parts(path.read_bytes()) == parts(GOLDEN)
    assert path.read_bytes()[:12] == GOLDEN[:12]


def test_size_goal_and_overhead(path: Path, rng: np.random.Generator):
    """784-512-512-10 with its hidden kernels at rank 40: 98,954 parameters, 8 tensors."""
    shapes = [(784, 40), (40, 512), (512,), (512, 40), (40, 512), (512,), (512, 10), (10,)]
    tensors = [
        (f"hidden_{i}/kernel_u", (0.05 * rng.normal(size=shape)).astype(np.float32))
        for i, shape in enumerate(shapes)
    ]
    parameters = sum(array.size for _, array in tensors)
    assert parameters == 98_954
    header = write_container(path, {}, tensors)
    size = path.stat().st_size
    assert size <= 0.84 * 4 * parameters + 1500
    assert size - header.stored_bytes <= 1000


def test_overhead_of_ten_tensors(path: Path):
    names = [f"encoder/block_{i}/hidden/kernel_u" for i in range(10)]
    header = write_container(path, {}, [(name, np.ones((7, 11), np.float32)) for name in names])
    assert path.stat().st_size - header.stored_bytes <= 1000


# --- whole or not at all -----------------------------------------------------------------


def files_in(folder: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in folder.iterdir()}


def interrupted() -> Iterator[tuple[str, np.ndarray]]:
    yield TENSORS[0]
    raise KeyboardInterrupt


def failing() -> Iterator[tuple[str, np.ndarray]]:
    yield TENSORS[0]
    raise ConnectionResetError("the caller's own trouble")


@pytest.mark.parametrize(
    ("content", "tensors", "error", "message"),
    [
        ({}, [("x", np.ones(3, np.complex64))], FormatError, r"dtype must.*complex64.*Cast"),
        ({}, [("x", np.ones((1,) * 9))], FormatError, r"at most 8 axes.*'x' with 9"),
        ({}, [("", np.ones(1))], FormatError, r"name must.*Received: ''"),
        ({}, [("a\nb", np.ones(1))], FormatError, "printable"),
        ({}, [("\ud800", np.ones(1))], FormatError, "printable"),
        ({}, [("n" * 2000, np.ones(1))], FormatError, "1024"),
        ({}, [(3, np.ones(1))], FormatError, "Received: 3"),
        ({}, [("x", np.ones(1)), ("x", np.ones(1))], FormatError, "'x' twice"),
        ({"a": np.float32(1)}, [], FormatError, r"plain JSON.*float32"),
        ({"a": float("nan")}, [], FormatError, r"plain JSON"),
        ({"a": {1: 0, "1": 0}}, [], FormatError, "'1' twice"),
        ([], [], FormatError, "content must be an object"),
        ({}, interrupted(), KeyboardInterrupt, None),
        ({}, failing(), ConnectionResetError, "the caller's own trouble"),
    ],
)
def test_a_failed_write_changes_nothing(
    path: Path, good: bytes, content: Any, tensors: Any, error: type, message: str | None
):
    with pytest.raises(error, match=message):
        write_container(path, content, tensors)
    assert files_in(path.parent) == {path.name: good}


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_disk_changes_nothing(
    path: Path, good: bytes, call: str, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(FileAccessError, match=r"model\.reducible.*No space.*free space"):
        write_container(path, {"new": 1}, TENSORS)
    assert files_in(path.parent) == {path.name: good}


def test_a_full_disk_changes_nothing(path: Path, good: bytes):
    """A real refusal of the system, in another process: files may not grow past 100 kB."""
    code = (
        "import resource, signal, sys, numpy as np\n"
        "from reducible_train.container import write_container\n"
        "from reducible_train.errors import FileAccessError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    write_container(sys.argv[1], {}, [('x', np.random.rand(100_000))])\n"
        "except FileAccessError as error:\n"
        "    sys.exit(f'refused: {error}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.stderr.startswith("refused: Expected a file to write.")
    assert files_in(path.parent) == {path.name: good}


def test_a_disk_that_forgets_is_noticed(path: Path, good: bytes, monkeypatch: pytest.MonkeyPatch):
    honest = writing_module.write_all

    def forgetful(stream: Any, data: bytes) -> int:
        changed = data[:-1] + bytes([data[-1] ^ 1]) if len(data) == 32 else data
        return honest(stream, changed)

    monkeypatch.setattr(writing_module, "write_all", forgetful)
    with pytest.raises(FileAccessError, match=r"read back.*sha256.*Check the disk"):
        write_container(path, {"new": 1}, [])
    assert files_in(path.parent) == {path.name: good}


def test_the_order_on_disk(path: Path, monkeypatch: pytest.MonkeyPatch):
    """Flushed before it is named, and the name flushed too: a power cut leaves old or new."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b))[1])
    write_container(path, {}, TENSORS)
    assert calls == ["fsync", "replace", "fsync"]


def test_links_are_followed_and_permissions_kept(tmp_path: Path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to(real)
    write_container(link, {}, TENSORS)
    assert link.is_symlink()
    assert read(real)[1]
    assert real.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("action", [read_header, lambda p: write_container(p, {}, []), read])
@pytest.mark.parametrize(
    ("name", "message"), [("no/such/file", "Check the path"), ("folder", r"[Nn]ame a file")]
)
def test_places_without_a_file(tmp_path: Path, action: Callable, name: str, message: str):
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileAccessError, match=rf"Received: .*{name}.*{message}"):
        action(tmp_path / name)
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_an_error_of_the_reader_s_block_is_its_own(path: Path, good: bytes):
    with pytest.raises(ConnectionResetError), read_container(path):
        raise ConnectionResetError


# --- hostile files -----------------------------------------------------------------------


def record(**changes: Any) -> Callable[[dict], None]:
    return lambda plain: plain["tensors"][0].update(changes)


HOSTILE_HEADERS = {
    "unknown key": (lambda p: p.update(extra=1), "unknown 'extra'"),
    "missing key": (lambda p: p.pop("content"), "no 'content'"),
    "content is a list": (lambda p: p.update(content=[]), r"content must be an object"),
    "tensors is an object": (lambda p: p.update(tensors={}), "tensors must be a list"),
    "record is a list": (lambda p: p.update(tensors=[[]]), "record must be an object"),
    "unknown record key": (record(note=1), "unknown 'note'"),
    "missing record key": (lambda p: p["tensors"][0].pop("crc32"), "no 'crc32'"),
    "repeated name": (record(name="step"), "'step' twice"),
    "name is a number": (record(name=1), "name must be text"),
    "name is empty": (record(name=""), "name must be text"),
    "name is endless": (record(name="n" * 5000), "name must be text"),
    "name hides": (record(name="a\u202eb"), "name must be text"),
    "dtype unknown": (record(dtype="object"), "dtype must be one of"),
    "dtype is a list": (record(dtype=[]), "dtype of 'd1/kernel' must be text"),
    "codec unknown": (record(codec="pickle"), "codec must be one of"),
    "codec of others": (record(codec="bytes"), "codec 'bytes' must hold"),
    "shape negative": (record(shape=[-20, -30]), "shape of 'd1/kernel' must be"),
    "shape of floats": (record(shape=[20.0, 30]), "shape of 'd1/kernel' must be"),
    "shape of truths": (record(shape=[True, 600]), "shape of 'd1/kernel' must be"),
    "shape is a number": (record(shape=600), "shape of 'd1/kernel' must be"),
    "shape of 9 axes": (record(shape=[20, 30, *[1] * 7]), "at most 8 axes"),
    "shape endless": (record(shape=[1 << 60]), "shape of"),
    "shape overflows": (record(shape=[1 << 40, 1 << 40]), "at most .* bytes"),
    "shape empty yet endless": (record(shape=[0, 1 << 40, 1 << 40]), "at most .* bytes"),
    "shape larger than its data": (record(shape=[1 << 30]), "bytes"),
    "shape smaller than its data": (record(shape=[599]), "d1/kernel"),
    "another shape": (record(shape=[0]), "d1/kernel"),
    "a plane too few": (record(planes=[1, 1, 1]), "stored in 4 parts"),
    "a plane too many": (record(planes=[1] * 5), "stored in 4 parts"),
    "an empty plane": (record(planes=[0, 1, 1, 1]), "stored in 4 parts"),
    "a negative plane": (record(planes=[-1, 1, 1, 1]), "planes of"),
    "an endless plane": (record(planes=[1 << 47, 1, 1, 1]), "cut short"),
    "planes with a gap": (record(planes=[1, 1, 1, 1]), "follow its end"),
    "crc32 of others": (record(crc32=1), "crc32 of 'd1/kernel' must be 1"),
    "crc32 negative": (record(crc32=-1), "crc32 of 'd1/kernel' must be an integer"),
    "crc32 as text": (record(crc32="1"), "crc32 of 'd1/kernel' must be an integer"),
}


@pytest.mark.parametrize("name", HOSTILE_HEADERS)
def test_hostile_headers(path: Path, good: bytes, name: str):
    change, message = HOSTILE_HEADERS[name]
    plain, planes = parts(good)
    change(plain)
    path.write_bytes(forged(spelled(plain), planes))
    with pytest.raises(FormatError, match=message):
        read(path)


HOSTILE_TEXTS = {
    "repeated key": (lambda t: t.replace(b'{"keras"', b'{"keras":1,"keras"'), "'keras' twice"),
    "repeated record key": (lambda t: t.replace(b'"codec"', b'"name":"x","codec"'), "twice"),
    "white space": (lambda t: t.replace(b":", b": "), "spelled"),
    "another key order": (
        lambda t: t.replace(
            b'"dtype":"float32","codec":"float"', b'"codec":"float","dtype":"float32"'
        ),
        "spelled",
    ),
    "needless escape": (lambda t: t.replace(b"keras", b"\\u006beras"), "spelled"),
    "raw UTF-8": (lambda t: t.replace(b"keras", "kéras".encode()), "must be JSON"),
    "another float": (lambda t: t.replace(b"0.5", b"5e-1"), "spelled"),
    "endless float": (lambda t: t.replace(b"0.5", b"1e999"), "plain JSON"),
    "NaN": (lambda t: t.replace(b"0.5", b"NaN"), "finite"),
    "endless integer": (lambda t: t.replace(b"0.5", b"9" * 5000), "must be JSON"),
    "long integer": (lambda t: t.replace(b"0.5", b"9" * 500), "a number of 500 digits"),
    "trailing text": (lambda t: t + b"{}", "must be JSON"),
    "trailing zero": (lambda t: t + b"\0", "must be JSON"),
    "byte order mark": (lambda t: b"\xef\xbb\xbf" + t, "must be JSON"),
    "no JSON": (lambda t: b"import os", "must be JSON"),
    "nothing": (lambda t: b"", "must be JSON"),
    "a number": (lambda t: b"1", "header must be an object"),
    "deep": (lambda t: b"[" * 500_000, "must be JSON"),
    "deep and closed": (lambda t: b"[" * 400_000 + b"]" * 400_000, "must be JSON"),
    "crowded": (lambda t: b"[" + b"0," * (1 << 20) + b"0]", "at most 1048576 values"),
    "many keys": (
        lambda t: t.replace(b"0.5", b"{" + b",".join(b'"%x":0' % i for i in range(300_000)) + b"}"),
        "at most 262144 keys",
    ),
}


@pytest.mark.parametrize("name", HOSTILE_TEXTS)
def test_hostile_texts(path: Path, good: bytes, name: str):
    change, message = HOSTILE_TEXTS[name]
    plain, planes = parts(good)
    text = change(spelled(plain))
    assert text != spelled(plain)
    path.write_bytes(forged(text, planes))
    with pytest.raises(FormatError, match=message):
        read_header(path)


def with_prefix(file: bytes, *values: Any) -> bytes:
    return sealed(PREFIX.pack(*values) + file[PREFIX.size : -32])


HOSTILE_FILES = {
    "nothing": (lambda f: b"", "must begin with"),
    "another file": (lambda f: b"PK\3\4" + f[4:], "another kind of file"),
    "a piece of the magic": (lambda f: f[:5], "cut short"),
    "line ends converted": (lambda f: f.replace(b"\r\n", b"\n", 1), "binary mode"),
    "newer version": (lambda f: f[:8] + b"\2\0" + f[10:], r"version must be 1.*2.*Upgrade"),
    "flags": (lambda f: f[:10] + b"\1\0" + f[12:], "flags must be 0"),
    "endless header": (lambda f: f[:12] + b"\xff" * 8 + f[20:], "at most 4194304 bytes stored"),
    "endless inflated header": (lambda f: f[:16] + b"\xff" * 4 + f[20:], "16777216 inflated"),
    "empty header": (lambda f: f[:12] + bytes(4) + f[16:], "at least one byte"),
    "header of other length": (lambda f: f[:16] + b"\xff\0\0\0" + f[20:], "deflate stream of 255"),
    "cut in the prefix": (lambda f: f[:15], "cut short"),
    "cut in the header": (lambda f: f[:40], "cut short"),
    "cut in the planes": (lambda f: f[:-500], "cut short"),
    "cut by one": (lambda f: f[:-1], "cut short"),
    "trailing byte": (lambda f: f + b"\0", "1 bytes follow its end"),
    "twice": (lambda f: f + f, "bytes follow its end"),
    "altered plane": (lambda f: f[:-100] + b"?" + f[-99:], "sha256 must be"),
    "altered digest": (lambda f: f[:-1] + bytes([f[-1] ^ 1]), "sha256 must be"),
    "altered plane, sealed": (lambda f: sealed(f[:-34] + b"?" + f[-33:-32]), "half"),
    "padding": (lambda f: padded_header(f), "padding that is not zero"),
}


def padded_header(file: bytes) -> bytes:
    """The same file, with a bit set behind the end of the header's stream."""
    for length in range(1000):  # until there is room for the bit
        plain, planes = parts(file)
        plain["content"]["x"] = "x" * length
        text = spelled(plain)
        stored = bytearray(deflate(text, level=9))
        stored[-1] |= 0x80
        prefix = PREFIX.pack(MAGIC, 1, 0, len(stored), len(text))
        if bytes(stored) != deflate(text, level=9) and zlib_reads(bytes(stored), text):
            return sealed(prefix + bytes(stored) + planes)
    raise AssertionError("no room in any header")


def zlib_reads(stored: bytes, text: bytes) -> bool:
    return zlib.decompress(stored, -15) == text


@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_hostile_files(path: Path, good: bytes, name: str):
    change, message = HOSTILE_FILES[name]
    path.write_bytes(change(good))
    with pytest.raises(FormatError, match=message):
        read(path)


def test_every_error_of_a_cut_is_a_format_error(path: Path, good: bytes):
    for length in range(len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(FormatError):
            read_header(path)


def mutant(good: bytes, rng: np.random.Generator) -> bytes:
    """A few changes anywhere in the file or in its inflated header, then a fresh sha256."""
    inside = rng.random() < 0.5
    if inside:
        plain, planes = parts(good)
        body = bytearray(spelled(plain))
    else:
        body = bytearray(good[:-32])
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(body)))
        match int(rng.integers(6)):
            case 0:
                body[at] ^= 1 << int(rng.integers(8))
            case 1:
                body[at] = int(rng.integers(256))
            case 2:
                body[at:at] = body[at : at + int(rng.integers(1, 9))]
            case 3:
                del body[at : at + int(rng.integers(1, 9))]
            case 4:
                body[at : at + 1] = rng.choice([b"0", b"9", b"-", b"[", b"{}", b"null", b'"'])
            case 5:
                other = int(rng.integers(len(body)))
                body[at], body[other] = body[other], body[at]
    return forged(bytes(body), planes) if inside else sealed(bytes(body))


def test_mutants(path: Path, good: bytes):
    """Nothing but FormatError escapes, and what is let in is what the writer writes.

    The one freedom is zlib's own: two streams may spell the same header.
    """
    rng = np.random.default_rng(20)
    refused = accepted = 0
    again = path.with_name("again")
    for _ in range(3000):
        file = mutant(good, rng)
        path.write_bytes(file)
        try:
            header, found = read(path)
        except FormatError:
            refused += 1
            continue
        accepted += 1
        assert write_container(again, header.content, found) == header
        assert parts(again.read_bytes()) == parts(file)
        length = int.from_bytes(file[16:20], "little")
        stored = int.from_bytes(file[12:16], "little")
        text = inflate(file[20 : 20 + stored], length)
        assert again.read_bytes() == forged(text, parts(file)[1])
    assert refused > 2500
    assert accepted > 25


# --- memory ------------------------------------------------------------------------------


def test_memory_is_flat(path: Path):
    """Writing and reading ten tensors takes no more than twice one of them."""
    size = 1 << 20

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        for i in range(10):
            yield str(i), np.random.default_rng(i).normal(size=size).astype(np.float32)

    ground = np.random.default_rng(0).normal(size=size).nbytes * 1.5  # made by the test itself
    tracemalloc.start()
    try:
        write_container(path, {}, tensors())
        writing = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        with read_container(path) as container:
            for _ in container:
                pass
        reading = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert writing <= ground + 2 * 4 * size
    assert reading <= 4 * size + 2 * 4 * size


@pytest.mark.parametrize(
    "text",
    [b'{"content":{"x":[' + b"[]," * 340_000 + b'[]]},"tensors":[]}', b" " * (16 << 20)],
    ids=["crowded", "long"],
)
def test_a_hostile_header_costs_bounded_memory(path: Path, text: bytes):
    path.write_bytes(forged(text, b""))
    tracemalloc.start()
    try:
        with suppress(FormatError):
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 100 * records_module.VALUES_CAP + (64 << 20)
    finally:
        tracemalloc.stop()


def test_a_tensor_is_not_allocated_before_its_data_can_fill_it(path: Path, good: bytes):
    plain, planes = parts(good)
    plain["tensors"][0]["shape"] = [1 << 33]
    path.write_bytes(forged(spelled(plain), planes))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FormatError):
        read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
