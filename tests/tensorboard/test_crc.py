"""The checksum of event files is TensorBoard's own, which takes longer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow as theirs

from reducible_train.tensorboard import crc


@given(st.binary(max_size=1500))
def test_of_short_data(data):
    assert crc.crc32c(data) == theirs.crc32c(data)
    assert crc.masked(data) == theirs.masked_crc32c(data)


@pytest.mark.parametrize("size", [255, 256, 257, 511, 512, 4095, 65_536, 65_537])
def test_where_lanes_begin_and_end(size):
    data = np.random.default_rng(size).bytes(size)
    assert crc.crc32c(data) == theirs.crc32c(data)
