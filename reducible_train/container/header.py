"""The first bytes of the file: magic, version, lengths and the deflated header."""

from __future__ import annotations

import struct

from reducible_train.container.codecs.deflate import deflate, inflate
from reducible_train.container.records import DAMAGED, Header, header_text, parsed_text
from reducible_train.errors import FormatError

MAGIC = b"\x89RDC\r\n\x1a\n"
VERSION = 1
PREFIX = struct.Struct("<8sHHII")  # magic, version, flags, header length stored and inflated
# How other files begin that models are kept in.
_OTHERS = {
    b"PK\x03\x04": (
        ", a zip file. If it is a .keras file, use `keras.saving.load_model`; if it is named so, "
        "`load_weights_into` reads its weights."
    ),
    b"\x89HDF\r\n": (
        ", of HDF5. If Keras wrote it as weights, name it *.weights.h5 for "
        "`load_weights_into`; for an old .h5 model use `keras.saving.load_model`."
    ),
}
STORED_CAP, INFLATED_CAP = 4 << 20, 16 << 20  # bytes of the header


def header_bytes(header: Header) -> bytes:
    """Prefix and stored header, as the file begins.

    Raises:
        FormatError: The content is not JSON, or something is over its cap.
    """
    text = header_text(header)
    parsed_text(text)
    stored = deflate(text, level=9)
    _check_lengths(len(stored), len(text))
    return PREFIX.pack(MAGIC, VERSION, 0, len(stored), len(text)) + stored


def stored_header_length(prefix: bytes) -> tuple[int, int]:
    """Length of the header `(stored, inflated)`, in bytes, from the first bytes of a file.

    Raises:
        FormatError: This is no compact file, or one of another version.
    """
    if prefix[:4] == MAGIC[:4] and prefix[:8] != MAGIC[: len(prefix)]:
        raise FormatError(
            f"A compact file must begin with {MAGIC!r}. Received: {prefix[:8]!r}. Something "
            "converted its line ends: transfer it again in binary mode."
        )
    if not prefix:
        raise FormatError(
            f"A compact file must begin with {MAGIC!r}. Received: an empty file. Fetch or save it "
            "again."
        )
    if prefix[:8] != MAGIC[: len(prefix)]:
        raise FormatError(
            f"A compact file must begin with {MAGIC!r}. Received: {prefix[:8]!r}. This is another "
            f"kind of file{_kind_of(prefix)}"
        )
    if len(prefix) < PREFIX.size:
        raise truncated(PREFIX.size, len(prefix))
    _, version, flags, stored, inflated = PREFIX.unpack(prefix)
    if version != VERSION:
        raise FormatError(
            f"The format version must be {VERSION}. Received: {version}. "
            "Upgrade with `pip install -U reducible-train`."
        )
    if flags:
        raise FormatError(f"The flags must be 0. Received: {flags}. {DAMAGED}")
    _check_lengths(stored, inflated)
    return stored, inflated


def _kind_of(prefix: bytes) -> str:
    """What another file seems to be, and who reads it."""
    known = (kind for magic, kind in _OTHERS.items() if prefix.startswith(magic))
    return next(known, ". Name a file that `save_model` has written.")


def parse_header(stored: bytes, inflated_length: int) -> Header:
    """The header from its stored bytes.

    Raises:
        FormatError: It is anything but what `header_bytes` writes.
    """
    text = inflate(stored, inflated_length)
    header = parsed_text(text)
    if header_text(header) != text:
        raise FormatError(
            "The header must be spelled as its writer spells it. Received: other white space, "
            f"key order, escapes or numbers. {DAMAGED}"
        )
    return header


def truncated(expected: int, received: int) -> FormatError:
    """The error for a file that ends too early."""
    return FormatError(
        f"The file must have {expected} bytes. Received: {received}; it was cut short. "
        "Fetch or save it again."
    )


def _check_lengths(stored: int, inflated: int) -> None:
    if stored > STORED_CAP or inflated > INFLATED_CAP:
        raise FormatError(
            f"The header must have at most {STORED_CAP} bytes stored and {INFLATED_CAP} "
            f"inflated. Received: {stored} and {inflated}. Keep less in the header's content."
        )
    if not stored:
        raise FormatError(f"The header must have at least one byte. Received: none. {DAMAGED}")
