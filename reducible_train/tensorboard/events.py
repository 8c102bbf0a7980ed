"""Event files for TensorBoard, written without TensorFlow.

Each value carries its plugin AND its data class: without the second a server drops it
silently. `tf.summary` is not used, because its global switches belong to other callbacks.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from tensorboard import compat
from tensorboard.compat import tensorflow_stub
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import (
    DATA_CLASS_SCALAR,
    DATA_CLASS_TENSOR,
    Summary,
    SummaryMetadata,
)
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_FLOAT
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalar_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.util import tensor_util

from reducible_train.tensorboard.crc import masked

Value: TypeAlias = Summary.Value

_COUNT = itertools.count()  # of the files of this process


def scalar(tag: str, value: float, description: str = "") -> Value:
    """One float32 number; NaN and infinity are kept, they tell something."""
    number = TensorProto(dtype=DT_FLOAT, float_val=[np.float32(value)])
    return Value(tag=tag, metadata=_of_scalar(description), tensor=number)


def text(tag: str, markdown: str, description: str = "") -> Value:
    """One Markdown text."""
    metadata = text_metadata.create_summary_metadata("", description)
    return _value(tag, np.array(markdown.encode(), dtype=object), metadata, DATA_CLASS_TENSOR)


def tensor(tag: str, array: np.ndarray, plugin: str, description: str = "") -> Value:
    """One array for a plugin of our own."""
    metadata = _of_plugin(plugin, description)
    if array.dtype != np.float32:
        return _value(tag, array, metadata, DATA_CLASS_TENSOR)
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in array.shape])
    numbers = TensorProto(dtype=DT_FLOAT, tensor_shape=shape, tensor_content=array.tobytes())
    return Value(tag=tag, metadata=metadata, tensor=numbers)  # a fifth of the time


def json_text(tag: str, words: str, plugin: str, description: str = "") -> Value:
    """One JSON text for a plugin of our own."""
    return tensor(tag, np.array(words.encode(), dtype=object), plugin, description)


def custom_scalars_layout(categories: Mapping[str, Mapping[str, Sequence[str]]]) -> Value:
    """Charts of the Custom Scalars dashboard: category -> chart -> patterns of tags."""
    layout = layout_pb2.Layout(
        category=[
            layout_pb2.Category(
                title=title,
                chart=[
                    layout_pb2.Chart(
                        title=chart, multiline=layout_pb2.MultilineChartContent(tag=list(patterns))
                    )
                    for chart, patterns in charts.items()
                ],
            )
            for title, charts in categories.items()
        ]
    )
    metadata = custom_scalar_metadata.create_summary_metadata()
    metadata.summary_description = "The charts of the Custom Scalars dashboard."
    layout_bytes = np.array(layout.SerializeToString(), dtype=object)
    return _value(
        custom_scalar_metadata.CONFIG_SUMMARY_TAG, layout_bytes, metadata, DATA_CLASS_TENSOR
    )


class RunWriter:
    """One event file in a run's folder; the file is made at once.

    Raises:
        OSError: The folder or its file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     writer = RunWriter(folder)
        ...     writer.write(0, [scalar("reducible/params", 1000.0)])
        ...     writer.close()
    """

    def __init__(self, folder: str | os.PathLike[str]):
        there = compat.tf if "://" in os.fspath(folder) else tensorflow_stub
        files = there.io.gfile  # TensorFlow's knows more places than the stub's
        files.makedirs(os.fspath(folder))
        now, host = time.time(), socket.gethostname()
        name = f"events.out.tfevents.{int(now):010d}.{host}.{os.getpid()}.{next(_COUNT)}"
        self._file = files.GFile(os.path.join(folder, name), "wb")
        self._record(Event(wall_time=now, file_version="brain.Event:2"))

    def write(self, step: int, values: Iterable[Value]) -> None:
        """Write values at one step, so that a reader sees them at once."""
        self._record(Event(wall_time=time.time(), step=step, summary=Summary(value=list(values))))

    def _record(self, event: Event) -> None:
        """Length and data, each with its checksum, in one piece."""
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        sums = [struct.pack("<I", masked(each)) for each in (length, data)]
        self._file.write(length + sums[0] + data + sums[1])
        self._file.flush()

    def close(self) -> None:
        """Close the file; nothing waits to be written."""
        self._file.close()


@lru_cache(maxsize=256)
def _of_plugin(plugin: str, description: str) -> SummaryMetadata:
    data = SummaryMetadata.PluginData(plugin_name=plugin)
    metadata = SummaryMetadata(plugin_data=data, summary_description=description)
    metadata.data_class = DATA_CLASS_TENSOR
    return metadata


@lru_cache(maxsize=256)
def _of_scalar(description: str) -> SummaryMetadata:
    metadata = scalar_metadata.create_summary_metadata("", description)
    metadata.data_class = DATA_CLASS_SCALAR
    return metadata


def _value(tag: str, array: object, metadata: SummaryMetadata, data_class: int) -> Value:
    metadata.data_class = data_class
    return Value(tag=tag, metadata=metadata, tensor=tensor_util.make_tensor_proto(array))
