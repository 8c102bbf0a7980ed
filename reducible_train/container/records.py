"""What the header says, strictly: records from JSON text, and the one text of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

from reducible_train.container.codecs import codec_named, dtype_named
from reducible_train.errors import FormatError, shortened

VALUES_CAP = 1 << 20  # values in the header: one costs up to a hundred times its text
KEYS_CAP = 1 << 18  # keys of objects, which cost more time than other values
NAME_CAP = 1024  # characters
AXES_CAP = 8
DIGITS_CAP = 400  # of a whole number: reading costs the square of them
TENSOR_CAP = 1 << 36  # bytes of one tensor, empty axes counted as one
NUMBER_CAP = 1 << 48  # any length or axis

DAMAGED = "The file is damaged or was not written by reducible-train."
_RECORD_KEYS = ("name", "dtype", "codec", "shape", "planes", "crc32")
_HEADER_KEYS = ("content", "tensors")


@dataclass(frozen=True)
class TensorRecord:
    """What the header says of one tensor.

    Args:
        name: The variable's path.
        dtype: Name of the dtype.
        codec: Name of the codec.
        shape: At most 8 axes.
        planes: Bytes of each stored plane.
        crc32: Checksum of the values, little endian, in C order.
    """

    name: str
    dtype: str
    codec: str
    shape: tuple[int, ...]
    planes: tuple[int, ...]
    crc32: int

    @property
    def count(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the values in memory."""
        return self.count * dtype_named(self.dtype).itemsize

    @property
    def stored_bytes(self) -> int:
        """Bytes of the values in the file."""
        return sum(self.planes)


@dataclass(frozen=True)
class Header:
    """What a file says before any tensor.

    Args:
        content: The caller's own JSON object.
        tensors: A record per tensor, in the order of the file.
    """

    content: Mapping[str, Any]
    tensors: tuple[TensorRecord, ...]

    @property
    def stored_bytes(self) -> int:
        """Bytes of all tensors in the file."""
        return sum(record.stored_bytes for record in self.tensors)


def header_text(header: Header) -> bytes:
    """The JSON text of `header`, in ASCII; as in Python's `json`, tuples become lists.

    Raises:
        FormatError: The content is not JSON.
    """
    plain = {
        "content": header.content,
        "tensors": [{key: getattr(t, key) for key in _RECORD_KEYS} for t in header.tensors],
    }
    try:
        return json.dumps(plain, allow_nan=False, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError(
            f"The header's content must be plain JSON. Received: {error}. "
            "Convert arrays with `.tolist()`, numpy numbers with `.item()`, and drop the rest."
        ) from error


def parsed_text(text: bytes) -> Header:
    """The header that `text` spells.

    Raises:
        FormatError: It is not JSON, or not of the one schema.
    """
    values = sum(map(text.count, (b",", b"[", b"{")))
    if values > VALUES_CAP:
        raise FormatError(
            f"The header must hold at most {VALUES_CAP} values. Received: about {values}. "
            "Keep less in the header's content."
        )
    keys = text.count(b'":')
    if keys > KEYS_CAP:
        raise FormatError(
            f"The header must hold at most {KEYS_CAP} keys. Received: about {keys}. "
            "Keep less in the header's content."
        )
    try:
        plain = json.loads(
            text.decode("ascii"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_short_integer,
        )
    except FormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise FormatError(f"The header must be JSON. Received: {error}. {DAMAGED}") from error
    _check_keys("The header", plain, _HEADER_KEYS)
    if not isinstance(plain["content"], dict):
        raise _type_error("The header's content", "an object", plain["content"])
    if not isinstance(plain["tensors"], list):
        raise _type_error("The header's tensors", "a list", plain["tensors"])
    records = tuple(map(_record, plain["tensors"]))
    check_unique(record.name for record in records)
    return Header(plain["content"], records)


def _record(plain: Any) -> TensorRecord:
    _check_keys("A tensor's record", plain, _RECORD_KEYS)
    name = check_name(plain["name"])
    for key in ("dtype", "codec"):
        if not isinstance(plain[key], str):
            raise _type_error(f"The {key} of {name!r}", "text", plain[key])
    for key in ("shape", "planes"):
        numbers = plain[key]
        if not isinstance(numbers, list) or not all(_in_range(n, NUMBER_CAP) for n in numbers):
            raise _type_error(f"The {key} of {name!r}", "a list of lengths", numbers)
    if not _in_range(plain["crc32"], 1 << 32):
        raise _type_error(f"The crc32 of {name!r}", "an integer of 32 bits", plain["crc32"])
    shape, planes = tuple(plain["shape"]), tuple(plain["planes"])
    codec, dtype = codec_named(plain["codec"]), dtype_named(plain["dtype"])
    if plain["dtype"] not in codec.dtypes:
        raise FormatError(
            f"The codec {codec.name!r} must hold one of {', '.join(codec.dtypes)}. "
            f"Received: {name!r} of dtype {plain['dtype']!r}. {DAMAGED}"
        )
    check_shape(name, shape, dtype.itemsize)
    if len(planes) != codec.plane_count(dtype) or 0 in planes:
        raise FormatError(
            f"{name!r} must be stored in {codec.plane_count(dtype)} parts of at least one byte. "
            f"Received: {list(planes)[:16]}. {DAMAGED}"
        )
    return TensorRecord(name, plain["dtype"], codec.name, shape, planes, plain["crc32"])


def _check_keys(what: str, plain: Any, keys: tuple[str, ...]) -> None:
    if not isinstance(plain, dict):
        raise _type_error(what, "an object", plain)
    unknown, missing = plain.keys() - set(keys), set(keys) - plain.keys()
    if unknown:
        raise FormatError(
            f"{what} must have the keys {', '.join(keys)}. Received: the unknown "
            f"{_shown(min(unknown))}. It needs a newer version of reducible-train, or is damaged."
        )
    if missing:
        raise FormatError(
            f"{what} must have the keys {', '.join(keys)}. Received: no {min(missing)!r}. {DAMAGED}"
        )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = _repeated(key for key, _ in pairs)
        raise FormatError(f"An object's keys must be unique. Received: {twice} twice. {DAMAGED}")
    return found


def _no_constant(text: str) -> NoReturn:
    raise FormatError(f"A number must be finite. Received: {text}. {DAMAGED}")


def _short_integer(text: str) -> int:
    if len(text) > DIGITS_CAP:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _in_range(number: object, end: int) -> bool:
    return type(number) is int and 0 <= number < end


def _repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return _shown(name)
        seen.add(name)
    return None


def _shown(value: object) -> str:
    return shortened(repr(value))


def _type_error(what: str, expected: str, received: object) -> FormatError:
    return FormatError(f"{what} must be {expected}. Received: {_shown(received)}. {DAMAGED}")


def check_shape(name: str, shape: tuple[int, ...], itemsize: int) -> None:
    """Refuse shapes over the caps.

    Raises:
        FormatError: Too many axes, or too many bytes.
    """
    if len(shape) > AXES_CAP:
        raise FormatError(
            f"A tensor must have at most {AXES_CAP} axes. Received: {name!r} with {len(shape)}. "
            "Reshape it."
        )
    if itemsize * prod(max(axis, 1) for axis in shape) > TENSOR_CAP:
        raise FormatError(
            f"A tensor must have at most {TENSOR_CAP} bytes. Received: {name!r} of shape "
            f"{shape}. Split it."
        )


def check_name(name: object) -> str:
    """Refuse names that could not be shown or told apart.

    Raises:
        FormatError: The name is not 1 to 1,024 printable characters.
    """
    if not isinstance(name, str) or not 0 < len(name) <= NAME_CAP or not name.isprintable():
        raise FormatError(
            f"A tensor's name must be text of 1 to {NAME_CAP} printable characters. "
            f"Received: {_shown(name)}. Give it the variable's path."
        )
    return name


def check_unique(names: Iterable[str]) -> None:
    """Refuse a name that comes twice.

    Raises:
        FormatError: It does.
    """
    twice = _repeated(names)
    if twice is not None:
        raise FormatError(
            f"Every tensor must have a name of its own. Received: {twice} twice. "
            "Name tensors by their variable's path."
        )
