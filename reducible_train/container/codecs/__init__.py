"""How the bytes of one tensor are stored: one codec per file.

Every module of this folder is imported, so a new codec is one new file with
one subclass of `Codec`; nothing else changes. All codecs are lossless.

```python
>>> import numpy as np
>>> from reducible_train.container.codecs import codec_for, codec_named
>>> weights = np.linspace(-1, 1, 7, dtype=np.float32)
>>> codec = codec_for(weights.dtype)
>>> parts = list(codec.encode(weights))
>>> bool(np.array_equal(codec_named("float").decode(parts, weights.dtype, 7), weights))
True

```
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from reducible_train.container.codecs.base import Codec, codec_for, codec_named, codec_names
from reducible_train.container.codecs.dtypes import DTYPE_NAMES, dtype_name, dtype_named

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "DTYPE_NAMES",
    "Codec",
    "codec_for",
    "codec_named",
    "codec_names",
    "dtype_name",
    "dtype_named",
]
