r"""The compact file: named arrays and one JSON object, bit for bit, nothing executable.

One flat file, little endian, written in one way only:

```text
bytes  what
8      magic 89 "RDC" 0D 0A 1A 0A
2, 2   format version (1); flags (0)
4, 4   length of the header as stored (at most 4 MiB) and inflated (at most 16 MiB)
...    header: JSON, deflated
...    planes of all tensors, in list order, back to back
32     sha256 of everything before it
```

*Header.* `{"content": {...}, "tensors": [...]}`: what the caller keeps (a JSON object),
and one record per tensor with exactly these keys, in this order: `name` (unique; at most
1,024 printable characters), `dtype`, `codec` (both from closed lists, see `codecs`),
`shape` (at most 8 axes), `planes` (stored length of each), `crc32` (of the values, little
endian, in C order). Plain ASCII without white space, keys in the order given, numbers and
escapes as Python's `json` writes them: nothing is spelled in two ways. The lengths must
add up to the file's size, so holes, overlaps and trailing bytes cannot be said.

*Plane.* One byte of every element, the most significant first, as a tag and a payload:
`0` the bytes as they are, `1` deflated with Huffman codes alone, `2` deflated; the latter
two only where that is smaller. Codec `float` first rotates each word left by one bit, so
that the first plane is the exponent; codec `bytes` does not. Deflate streams (RFC 1951,
raw) are whole, of the promised length, padded with zero bits, and end where they should.
Builds of zlib differ in where they end a block, so two machines may write different
bytes for one model; each reads the other's file, and each always writes the same.

The reader checks lengths before it allocates, and refuses whatever it does not know.

```python
>>> import tempfile, pathlib, numpy as np
>>> from reducible_train.container import read_container, read_header, write_container
>>> path = pathlib.Path(tempfile.mkdtemp()) / "two.reducible"
>>> tensors = [("d1/kernel", np.eye(3, dtype=np.float32)), ("step", np.array(7))]
>>> header = write_container(path, {"made_by": "me"}, tensors)
>>> read_header(path) == header, header.content
(True, {'made_by': 'me'})
>>> with read_container(path) as container:
...     {name: array.shape for name, array in container}
{'d1/kernel': (3, 3), 'step': ()}

```
"""

from __future__ import annotations

from reducible_train.container.header import MAGIC, VERSION
from reducible_train.container.reading import Container, read_container, read_header
from reducible_train.container.records import Header, TensorRecord
from reducible_train.container.writing import write_container

__all__ = [
    "MAGIC",
    "VERSION",
    "Container",
    "Header",
    "TensorRecord",
    "read_container",
    "read_header",
    "write_container",
]
